//! `tandem where`: one row followed through topics, conflicts and the database.

use std::process::ExitCode;

use clap::Args;

use crate::observe::{WhereView, WhereWish, spoken_time};

use super::node_api::NodeApi;
use super::{Common, DIFFERENCE, Outcome, output};

/// Follow one row: its last versions, where each came from, and where it is now.
#[derive(Args)]
pub struct WhereArgs {
    /// The table, `database.table` or `table`.
    table: String,
    /// The values of its key, in the order of the key's columns; or `column=value` each.
    #[arg(required = true, value_name = "KEY")]
    key: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Ends with 1 where nothing is known of such a row.
pub async fn run(args: WhereArgs) -> Outcome {
    let api = NodeApi::new(&args.common)?;
    let node = api.status().await?.node;
    let wish = WhereWish { table: args.table, key: args.key };
    let view: WhereView = api.post_slowly("/api/where", &wish).await?;
    let is_known = view.present.is_some() || !view.versions.is_empty();
    let code = if is_known { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE) };
    if args.json {
        output::json(&view)?;
        return Ok(code);
    }
    let (table, key) = (output::plain(&view.table), output::key(&view.key));
    match &view.present {
        Some(row) => output::line(format_args!("{table}, row with {key}, is on {node}: {}", output::key(row))),
        None => output::line(format_args!("{table}, row with {key}, is not on {node}.")),
    }
    if !view.versions.is_empty() {
        output::line("");
        let mut versions = output::table(["WRITTEN", "ON", "OFFSET", "CHANGE", "HERE", "KNOWN BY", "ROW"], &[2]);
        for version in &view.versions {
            versions.add_row([
                spoken_time(version.written_seconds),
                version.origin.clone(),
                version.offset.to_string(),
                version.op.clone(),
                version.here.clone(),
                version.known_by.join(", "),
                version.row.as_ref().map_or_else(|| "(deleted)".into(), output::key),
            ]);
        }
        output::print(&versions);
    }
    for (what, ids) in [("conflicts show", &view.conflicts), ("failed show", &view.failed)] {
        for id in ids {
            output::line(output::plain(&format!("See also:   tandem {what} {id}")));
        }
    }
    for searched in view.searched.iter().filter(|searched| searched.from > 0) {
        let why = if searched.from > searched.first { "was looked through from" } else { "is kept from" };
        output::line(format_args!("The topic of {} {why} offset {} on.", searched.origin, searched.from));
    }
    Ok(code)
}
