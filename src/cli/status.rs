//! `tandem status`: one line per link, and what needs somebody.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::observe::{Level, Status, spoken_count, spoken_duration};
use crate::runtime::Stop;

use super::node_api::NodeApi;
use super::{Common, DIFFERENCE, INTERRUPTED, Outcome, output};

/// Show how the running node and its links are.
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    common: Common,
    /// Show it again every second.
    #[arg(long, short, conflicts_with = "check")]
    watch: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Exit with 1 unless everything is up to date.
    #[arg(long)]
    check: bool,
}

const WATCH_EVERY: Duration = Duration::from_secs(1);

pub async fn run(args: StatusArgs) -> Outcome {
    let api = NodeApi::new(&args.common)?;
    if args.watch {
        return watch(&api, args.json).await;
    }
    let status = api.status().await?;
    print(&status, args.json)?;
    let differs = args.check && status.level != Level::Good;
    Ok(if differs { ExitCode::from(DIFFERENCE) } else { ExitCode::SUCCESS })
}

/// Until interrupted. A node that ends meanwhile may come back, so its absence is shown and asked about again.
async fn watch(api: &NodeApi, json: bool) -> Outcome {
    let clear = std::io::stdout().is_terminal();
    // One for all the time: what comes while something is printed would be nobody's.
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let asked = tokio::select! {
            // First, so that it is listened to before anything is printed.
            biased;
            _ = &mut interrupted => return Ok(ExitCode::from(INTERRUPTED)),
            asked = api.status() => asked,
        };
        if clear {
            print!("\x1b[H\x1b[2J");
        }
        match asked {
            Ok(status) => print(&status, json)?,
            Err(stop) => output::line(format_args!("{stop}")),
        }
        if !clear && !json {
            output::line("");
        }
        // A reader that has gone is the end of the watch, not a fault.
        if std::io::stdout().flush().is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            _ = &mut interrupted => return Ok(ExitCode::from(INTERRUPTED)),
        }
    }
}

fn print(status: &Status, json: bool) -> Result<(), Stop> {
    if json {
        return output::json(status);
    }
    output::print(&links(status));
    for line in remarks(status) {
        output::line(format_args!("{line}"));
    }
    Ok(())
}

fn links(status: &Status) -> comfy_table::Table {
    let heads = ["LINK", "STATE", "PENDING", "LAG", "APPLIED TODAY", "CONFLICTS", "FAILED"];
    let mut links = output::table(heads, &[2, 3, 4, 5, 6]);
    for link in &status.links {
        let count = |value: Option<u64>| value.map_or_else(|| "-".into(), spoken_count);
        links.add_row([
            format!("{} > {}", link.source, link.target),
            link.state.words().to_owned(),
            count(link.pending),
            link.lag_seconds.map_or_else(|| "-".into(), spoken_duration),
            count(link.applied_today),
            count(link.conflicts),
            count(link.failed),
        ]);
    }
    for cloud in &status.clouds {
        links.add_row([
            format!("{} > {} (cloud)", status.node, cloud.name),
            cloud.state.label().to_owned(),
            cloud.pending.map_or_else(|| "-".into(), spoken_count),
            "-".into(),
            "-".into(),
            "-".into(),
            spoken_count(cloud.set_aside),
        ]);
    }
    links
}

/// The verdict, then why, then what to do: only where there is something.
fn remarks(status: &Status) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{}: {}", status.node, output::plain(&status.verdict))];
    for role in &status.roles {
        let Some(reason) = &role.reason else { continue };
        // The verdict has said the worst one's reason already.
        let said = status.verdict.contains(reason.as_str());
        let line = match (said, &role.hint) {
            (true, None) => continue,
            (true, Some(hint)) => format!("{}: {hint}", role.name),
            (false, None) => format!("{} is {}: {reason}", role.name, role.state),
            (false, Some(hint)) => format!("{} is {}: {reason} — {hint}", role.name, role.state),
        };
        lines.push(output::plain(&line));
    }
    for link in &status.links {
        if let Some(reason) = link.reason.as_ref().filter(|reason| !status.verdict.contains(reason.as_str())) {
            lines.push(output::plain(&format!("{} > {}: {reason}", link.source, link.target)));
        }
    }
    for cloud in &status.clouds {
        if let Some(reason) = cloud.reason.as_ref().filter(|reason| !status.verdict.contains(reason.as_str())) {
            lines.push(output::plain(&format!("cloud {} is {}: {reason}", cloud.name, cloud.state.label())));
        }
        if let Some(next) = cloud.next_run_seconds.filter(|next| *next > status.at_seconds) {
            lines.push(format!("cloud {}: next run in {}", cloud.name, spoken_duration(next - status.at_seconds)));
        }
    }
    if let Some(seeding) = &status.seeding {
        lines.push(output::plain(&format!(
            "seeding from {}: {} rows so far, {} of {} tables left:   tandem reseed",
            seeding.seeder,
            spoken_count(seeding.rows),
            seeding.tables_left,
            seeding.tables
        )));
    }
    if status.schema_open > 0 {
        lines.push("See the schema changes that wait for you:   tandem ddl list".into());
    }
    if status.conflicts_open.is_some_and(|open| open > 0) {
        lines.push("See the conflicts that wait for you:   tandem conflicts list".into());
    }
    if status.failed_open.is_some_and(|failed| failed > 0) {
        lines.push("See what could not be applied and why:   tandem failed list".into());
    }
    lines
}
