//! `tandem position`: how far this node is in every history that matters to it.

use std::process::ExitCode;

use clap::Args;

use crate::observe::{PositionView, spoken_time};

use super::node_api::NodeApi;
use super::{Common, Outcome, output};

/// Show how far the database, the topics and their application here are.
#[derive(Args)]
pub struct PositionArgs {
    #[command(flatten)]
    common: Common,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: PositionArgs) -> Outcome {
    let api = NodeApi::new(&args.common)?;
    api.status().await?;
    let view: PositionView = api.get("/api/position").await?;
    if args.json {
        output::json(&view)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!("{}: its binlog ends at {}.\n", view.node, view.database.as_deref().unwrap_or("(not reached)")));
    let mut topics = output::table(["TOPIC", "FIRST", "END", "NEXT HERE", "LAST RECORD", "POSITION"], &[1, 2, 3]);
    for topic in &view.topics {
        topics.add_row([
            topic.origin.clone(),
            topic.first.to_string(),
            topic.end.to_string(),
            topic.next.map_or_else(|| "-".into(), |next| next.to_string()),
            topic.clock_seconds.map_or_else(|| "-".into(), spoken_time),
            topic.position.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    output::print(&topics);
    Ok(ExitCode::SUCCESS)
}
