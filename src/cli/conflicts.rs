//! `tandem conflicts`: what was written on two nodes at once, and which side was kept.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::observe::{ConflictView, SideView, spoken_time};
use crate::runtime::Stop;

use super::node_api::{NodeApi, path_part};
use super::{Common, Outcome, output};

/// See conflicts and both of their sides.
#[derive(Args)]
pub struct ConflictsArgs {
    #[command(subcommand)]
    command: ConflictsCommand,
}

#[derive(Subcommand)]
enum ConflictsCommand {
    /// List the newest conflicts.
    List {
        #[command(flatten)]
        common: Common,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
        /// Leave out so many of the newest: for the next page.
        #[arg(long, default_value_t = 0, value_name = "N")]
        skip: u32,
        /// Only those that wait for a decision.
        #[arg(long)]
        open: bool,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Decide about conflicts, on all nodes: keep the row that stands, or put the other one back.
    Settle {
        #[command(flatten)]
        common: Common,
        /// Their ids, or the beginnings of them.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Which row is to stand.
        #[arg(long, value_enum)]
        keep: Keep,
        /// With `--keep loser`: put back only this column of the row that lost, and leave the others as they are now. May be given
        /// several times.
        #[arg(long = "column", value_name = "COLUMN")]
        columns: Vec<String>,
    },
    /// Show both sides of one conflict.
    Show {
        #[command(flatten)]
        common: Common,
        /// Its id, or the beginning of it.
        id: String,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keep {
    /// The row that stands stays.
    Winner,
    /// The row that lost is written again, as a new write of this node.
    Loser,
}

pub async fn run(args: ConflictsArgs) -> Outcome {
    match args.command {
        ConflictsCommand::List { common, limit, skip, open, json } => list(&common, (skip, limit), open, json).await,
        ConflictsCommand::Show { common, id, json } => show(&common, &id, json).await,
        ConflictsCommand::Settle { common, ids, keep, columns } => settle(&common, &ids, keep, &columns).await,
    }
}

async fn list(common: &Common, (skip, limit): (u32, u16), open: bool, json: bool) -> Outcome {
    let api = NodeApi::new(common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    let status = api.status().await?;
    let conflicts: Vec<ConflictView> = api.get(&format!("/api/conflicts?skip={skip}&limit={limit}&open={open}")).await?;
    if json {
        output::json(&conflicts)?;
        return Ok(ExitCode::SUCCESS);
    }
    if conflicts.is_empty() {
        let further = if skip > 0 { "further " } else { "" };
        output::line(format_args!("There is no {further}{}conflict on {}.", if open { "open " } else { "" }, status.node));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = output::table(["ID", "TABLE", "ROW", "KIND", "KEPT", "LOST", "STATE"], &[]);
    for conflict in &conflicts {
        let side = |side: &SideView| format!("{} {}", side.origin, spoken_time(side.written_seconds));
        rows.add_row([
            conflict.id.clone(),
            output::plain(&conflict.table),
            output::key(&conflict.key),
            conflict.kind.replace('_', " "),
            side(&conflict.winner),
            side(&conflict.loser),
            state(conflict).to_owned(),
        ]);
    }
    output::print(&rows);
    output::line(format_args!("\nSee both sides of one:   tandem conflicts show {}", conflicts[0].id));
    if conflicts.len() == usize::from(limit) {
        let (next, only) = (u64::from(skip) + u64::from(limit), if open { " --open" } else { "" });
        output::line(format_args!("See older ones:          tandem conflicts list{only} --limit {limit} --skip {next}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(common: &Common, id: &str, json: bool) -> Outcome {
    let api = NodeApi::new(common)?;
    api.status().await?;
    let conflict: ConflictView = api.get(&format!("/api/conflicts/{}", path_part(id))).await?;
    if json {
        output::json(&conflict)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!(
        "{}: {}, row with {}: {}, {}.\n",
        conflict.id,
        output::plain(&conflict.table),
        output::key(&conflict.key),
        conflict.kind.replace('_', " "),
        state(&conflict)
    ));
    let head = |word: &str, side: &SideView| format!("{word}: {} {}", side.origin, spoken_time(side.written_seconds));
    let (kept, lost) = (head("KEPT", &conflict.winner), head("LOST", &conflict.loser));
    let mut rows = output::table(["", "COLUMN", &kept, &lost], &[]);
    for line in compare(&conflict.winner, &conflict.loser) {
        rows.add_row(line);
    }
    output::print(&rows);
    Ok(ExitCode::SUCCESS)
}

/// One after the other; what is settled before one that cannot be stays settled.
async fn settle(common: &Common, ids: &[String], keep: Keep, columns: &[String]) -> Outcome {
    if keep == Keep::Winner && !columns.is_empty() {
        let fix = "write --keep loser, or leave --column out";
        return Err(Stop::halt("the row that stands keeps all its columns, and --column names some of the other", fix).into());
    }
    let api = NodeApi::new(common)?;
    api.status().await?;
    let (word, said) = match keep {
        Keep::Winner => ("winner", "its row stays as it is".to_owned()),
        Keep::Loser if columns.is_empty() => ("loser", "the row that lost is written again".to_owned()),
        Keep::Loser => ("loser", format!("{} of the row that lost is written again", output::plain(&columns.join(", ")))),
    };
    for id in ids {
        let path = format!("/api/conflicts/{}/settle", path_part(id));
        let settled: ConflictView = api.post(&path, &serde_json::json!({ "keep": word, "columns": columns })).await?;
        let (table, key) = (output::plain(&settled.table), output::key(&settled.key));
        output::line(format_args!("{}: {table}, row with {key}: {said}.", settled.id));
    }
    Ok(ExitCode::SUCCESS)
}

fn state(conflict: &ConflictView) -> &'static str {
    if conflict.open { "waits for a decision" } else { "settled" }
}

/// A line per column: a mark where both differ, the name, and both values.
fn compare(winner: &SideView, loser: &SideView) -> Vec<[String; 4]> {
    let columns: BTreeSet<&String> = [&winner.row, &loser.row].into_iter().flatten().flat_map(|row| row.keys()).collect();
    let shown = |side: &SideView, column: &str| match side.row.as_ref().map(|row| row.get(column)) {
        None => "(no row)".to_owned(),
        Some(None) => "(not known)".to_owned(),
        Some(Some(value)) => output::value(value),
    };
    let of = |side: &SideView, column: &str| side.row.as_ref().map(|row| row.get(column).cloned());
    columns
        .into_iter()
        .map(|column| {
            let mark = if of(winner, column) == of(loser, column) { "" } else { "*" };
            [mark.to_owned(), output::plain(column), shown(winner, column), shown(loser, column)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differing_columns_are_marked_and_what_is_unknown_is_not_null() {
        let side = |row: serde_json::Value| SideView { origin: "a".into(), written_seconds: 0, row: row.as_object().cloned() };
        let lines = compare(&side(json!({"id": 1, "name": null, "seats": 2})), &side(json!({"id": 1, "name": "x"})));
        let expected = [["", "id", "1", "1"], ["*", "name", "null", "x"], ["*", "seats", "2", "(not known)"]];
        assert_eq!(lines, expected.map(|line| line.map(str::to_owned)));
        let deleted = compare(&side(json!({"id": 1})), &side(json!(null)));
        assert_eq!(deleted, [["*", "id", "1", "(no row)"].map(str::to_owned)]);
    }
}
