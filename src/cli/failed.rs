//! `tandem failed`: changes that could not be applied here and were set aside.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::observe::FailedView;

use super::node_api::NodeApi;
use super::{Common, Outcome, output};

/// See changes that could not be applied.
#[derive(Args)]
pub struct FailedArgs {
    #[command(subcommand)]
    command: FailedCommand,
}

#[derive(Subcommand)]
enum FailedCommand {
    /// List the newest, with the reason of each.
    List {
        #[command(flatten)]
        common: Common,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(args: FailedArgs) -> Outcome {
    let FailedCommand::List { common, limit, json } = args.command;
    let api = NodeApi::new(&common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    let status = api.status().await?;
    let failed: Vec<FailedView> = api.get(&format!("/api/failed?limit={limit}")).await?;
    if json {
        output::json(&failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if failed.is_empty() {
        output::line(format_args!("No change is set aside on {}.", status.node));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = output::table(["TABLE", "ROW", "CHANGE", "FROM", "ATTEMPTS", "REASON"], &[4]);
    for letter in &failed {
        rows.add_row([
            output::plain(&letter.table),
            output::key(&letter.key),
            letter.op.clone(),
            format!("{} at {}", letter.origin, letter.offset),
            letter.attempts.to_string(),
            output::plain(&letter.reason),
        ]);
    }
    output::print(&rows);
    Ok(ExitCode::SUCCESS)
}
