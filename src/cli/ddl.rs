//! `tandem ddl`: other nodes' statements that define tables, and what is decided about those that wait.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::observe::{SchemaView, spoken_time};
use crate::runtime::Stop;

use super::node_api::NodeApi;
use super::{Common, Outcome, output};

/// See schema changes of other nodes, and let those run that wait.
#[derive(Args)]
pub struct DdlArgs {
    #[command(subcommand)]
    command: DdlCommand,
}

#[derive(Subcommand)]
enum DdlCommand {
    /// List the newest schema changes.
    List {
        #[command(flatten)]
        common: Common,
        /// Only those that wait.
        #[arg(long)]
        open: bool,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Run statements that wait on this node, then apply the changes behind them.
    Approve {
        #[command(flatten)]
        common: Common,
        /// Their numbers.
        #[arg(required = true, value_name = "N")]
        numbers: Vec<u64>,
    },
    /// Go on without statements that wait: the changes behind them are applied to the tables as they are.
    Skip {
        #[command(flatten)]
        common: Common,
        /// Their numbers.
        #[arg(required = true, value_name = "N")]
        numbers: Vec<u64>,
    },
}

pub async fn run(args: DdlArgs) -> Outcome {
    match args.command {
        DdlCommand::List { common, open, json } => list(&common, open, json).await,
        DdlCommand::Approve { common, numbers } => decide(&common, &numbers, "approve").await,
        DdlCommand::Skip { common, numbers } => decide(&common, &numbers, "skip").await,
    }
}

async fn list(common: &Common, open: bool, json: bool) -> Outcome {
    let api = NodeApi::new(common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    let status = api.status().await?;
    let changes: Vec<SchemaView> = api.get(&format!("/api/schema-changes?open={open}")).await?;
    if json {
        output::json(&changes)?;
        return Ok(ExitCode::SUCCESS);
    }
    if changes.is_empty() {
        let which = if open { " that waits" } else { "" };
        output::line(format_args!("There is no schema change of another node{which} on {}.", status.node));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = output::table(["N", "FROM", "RAN", "ABOUT", "STATE", "BEHIND IT", "STATEMENT"], &[5]);
    for change in &changes {
        rows.add_row([
            change.number.to_string(),
            output::plain(&change.origin),
            spoken_time(change.committed_seconds),
            output::plain(&change.object),
            change.state.replace('_', " "),
            change.parked.to_string(),
            shortened(&change.statement),
        ]);
    }
    output::print(&rows);
    for change in changes.iter().filter(|change| change.open) {
        output::line(format_args!("{}: {}", change.number, why(change)));
    }
    if let Some(first) = changes.iter().rev().find(|change| change.open) {
        let number = first.number;
        output::line(format_args!(
            "\nRun it here:   tandem ddl approve {number}      Go on without it:   tandem ddl skip {number}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Why it waits, in one sentence.
fn why(change: &SchemaView) -> String {
    match (&change.remark, &change.danger, change.state.as_str()) {
        (Some(remark), _, "failed") => format!("it could not be run: {}.", output::plain(remark)),
        (_, _, "approved" | "draining") => "it is being run.".into(),
        (_, _, "skipping" | "draining_skipped") => "it is being left out.".into(),
        (_, Some(danger), _) => format!("it waits because it {}.", output::plain(danger)),
        _ => "it waits for another one, or because the configuration asks before each.".into(),
    }
}

/// On one line, and short enough for a table.
fn shortened(statement: &str) -> String {
    const MOST: usize = 60;
    let line = output::plain(&statement.split_whitespace().collect::<Vec<_>>().join(" "));
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

async fn decide(common: &Common, numbers: &[u64], word: &str) -> Outcome {
    let api = NodeApi::new(common)?;
    api.status().await?;
    for number in numbers {
        let decided: Result<SchemaView, Stop> = api.post(&format!("/api/schema-changes/{number}/{word}"), &json!({})).await;
        let view = decided?;
        let done = if word == "approve" { "runs now" } else { "is left out" };
        output::line(format_args!(
            "{number}: the statement about {} {done}; {} changes behind it follow.",
            output::plain(&view.object),
            view.parked
        ));
    }
    Ok(ExitCode::SUCCESS)
}
