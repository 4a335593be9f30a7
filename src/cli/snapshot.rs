//! `tandem snapshot`: rows that were there before, published by the running node.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::observe::{SnapshotView, SnapshotWish, spoken_count};
use crate::runtime::Stop;

use super::node_api::NodeApi;
use super::{Common, DIFFERENCE, INTERRUPTED, Outcome, output};

/// Publish rows that were there before, so that the other nodes get them.
///
/// The application goes on meanwhile. A row fills what is missing elsewhere, and never replaces one that was written since. Where
/// two nodes have different rows of one key, one is kept by the rules of [conflicts] and the other shown by `tandem conflicts`.
#[derive(Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    common: Common,
    /// Tables as campus.riders, riders, or with `*`; all that are synced where none is named.
    tables: Vec<String>,
    /// Only rows for which this SQL is true, for example "id > 1000".
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
    /// Show what would be read, and read nothing.
    #[arg(long, conflicts_with_all = ["no_wait", "cancel", "list"])]
    dry_run: bool,
    /// Do not wait for the end: the node goes on by itself.
    #[arg(long)]
    no_wait: bool,
    /// Show the snapshots that are under way, and the last that ended.
    #[arg(long, conflicts_with_all = ["tables", "condition", "cancel"])]
    list: bool,
    /// End a snapshot that is under way; what is published stays.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["tables", "condition", "no_wait"])]
    cancel: Option<u64>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

const LOOK_EVERY: Duration = Duration::from_millis(250);

pub async fn run(args: SnapshotArgs) -> Outcome {
    let api = NodeApi::new(&args.common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    let node = api.status().await?.node;
    if args.list {
        return list(&api, args.json).await;
    }
    if let Some(id) = args.cancel {
        let _: serde_json::Value = api.post(&format!("/api/snapshots/{id}/cancel"), &serde_json::json!({})).await?;
        output::line(format_args!("Snapshot {id} of {node} is ended; what was published stays."));
        return Ok(ExitCode::SUCCESS);
    }
    let wish = SnapshotWish { tables: args.tables, condition: args.condition, dry_run: args.dry_run };
    let asked: SnapshotView = api.post("/api/snapshots", &wish).await?;
    if args.dry_run || args.no_wait {
        if args.json {
            output::json(&asked)?;
        } else {
            print(&asked);
            let (_, rows) = asked.rows();
            let said = if args.dry_run { "would publish" } else { "publishes" };
            output::line(format_args!("\n{node} {said} about {} rows.", spoken_count(rows)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ended = tokio::select! {
        ended = watch(&api, asked, args.json) => ended?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("The node goes on with it. See it with: tandem snapshot --list");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if args.json {
        output::json(&ended)?;
    } else {
        verdict(&node, &ended);
    }
    let whole = ended.tables.iter().all(|table| table.state == "done");
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE) })
}

/// Until it has ended, with a bar where a person looks.
async fn watch(api: &NodeApi, mut view: SnapshotView, quiet: bool) -> Result<SnapshotView, Stop> {
    let bar = match std::io::stderr().is_terminal() && !quiet {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    let form = "{bar:30} {percent:>3}%  {human_pos} of about {human_len} rows  {per_sec}  {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(form).expect("the form is a constant"));
    loop {
        let (done, expected) = view.rows();
        bar.set_length(expected);
        bar.set_position(done);
        bar.set_message(match (&view.waits_for, view.tables.iter().find(|table| table.state == "running")) {
            (Some(reason), _) => output::plain(reason),
            (None, Some(table)) => output::plain(&table.name),
            (None, None) => String::new(),
        });
        if !view.is_open() {
            bar.finish_and_clear();
            return Ok(view);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let all: Vec<SnapshotView> = api.get("/api/snapshots").await?;
        let lost = || Stop::halt("the node no longer knows of this snapshot", "ask for it again");
        view = all.into_iter().find(|other| other.id == view.id).ok_or_else(lost)?;
    }
}

async fn list(api: &NodeApi, json: bool) -> Outcome {
    let all: Vec<SnapshotView> = api.get("/api/snapshots").await?;
    if json {
        output::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        output::line("No snapshot was asked for.");
    }
    for view in &all {
        let waits = view.waits_for.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let state = if view.is_open() { format!("under way{waits}") } else { "ended".into() };
        output::line(format_args!("Snapshot {}, {}", view.id, output::plain(&state)));
        print(view);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(view: &SnapshotView) {
    let mut rows = output::table(["TABLE", "STATE", "ROWS", "ABOUT", ""], &[2, 3]);
    for table in &view.tables {
        rows.add_row([
            output::plain(&table.name),
            table.state.clone(),
            spoken_count(table.rows),
            spoken_count(table.rows_expected),
            table.reason.as_deref().map(output::plain).unwrap_or_default(),
        ]);
    }
    output::print(&rows);
}

fn verdict(node: &str, view: &SnapshotView) {
    for table in view.failed() {
        let reason = table.reason.as_deref().unwrap_or("no reason given");
        output::line(format_args!("{}: {}", output::plain(&table.name), output::plain(reason)));
    }
    let (rows, _) = view.rows();
    let tables = view.tables.iter().filter(|table| table.state == "done").count();
    let cancelled = if view.tables.iter().any(|table| table.state == "cancelled") { " It was ended early." } else { "" };
    output::line(format_args!(
        "{node} published {} rows of {tables} of {} tables.{cancelled}",
        spoken_count(rows),
        view.tables.len()
    ));
}
