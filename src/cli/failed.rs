//! `tandem failed`: changes that could not be applied here and were set aside.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::observe::{FailedView, FailedWish, RetriedView, spoken_time};

use super::node_api::{NodeApi, path_part};
use super::{Common, DIFFERENCE, Outcome, output};

/// See changes that could not be applied, and try them again or discard them.
#[derive(Args)]
pub struct FailedArgs {
    #[command(subcommand)]
    command: FailedCommand,
}

#[derive(Subcommand)]
enum FailedCommand {
    /// List the newest by their causes, with the remedy of each.
    List {
        #[command(flatten)]
        common: Common,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
        /// Leave out so many of the newest: for the next page.
        #[arg(long, default_value_t = 0, value_name = "N")]
        skip: u32,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show one of them, with the row before and after it.
    Show {
        #[command(flatten)]
        common: Common,
        /// Its id: node and offset.
        id: String,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Apply them once more, where no newer write of their rows stands.
    Retry(Which),
    /// Forget them. Their rows stay as they are here.
    Discard(Which),
}

#[derive(Args)]
struct Which {
    #[command(flatten)]
    common: Common,
    /// Their ids: node and offset.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
    ids: Vec<String>,
    /// All that are set aside.
    #[arg(long)]
    all: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: FailedArgs) -> Outcome {
    match args.command {
        FailedCommand::List { common, limit, skip, json } => list(&common, (skip, limit), json).await,
        FailedCommand::Show { common, id, json } => show(&common, &id, json).await,
        FailedCommand::Retry(which) => retry(&which).await,
        FailedCommand::Discard(which) => discard(&which).await,
    }
}

async fn list(common: &Common, (skip, limit): (u32, u16), json: bool) -> Outcome {
    let api = NodeApi::new(common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    let status = api.status().await?;
    let failed: Vec<FailedView> = api.get(&format!("/api/failed?skip={skip}&limit={limit}")).await?;
    if json {
        output::json(&failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if failed.is_empty() {
        let further = if skip > 0 { "further " } else { "" };
        output::line(format_args!("No {further}change is set aside on {}.", status.node));
        return Ok(ExitCode::SUCCESS);
    }
    let mut causes: BTreeMap<&str, Vec<&FailedView>> = BTreeMap::new();
    for letter in &failed {
        causes.entry(&letter.remedy).or_default().push(letter);
    }
    for (number, (remedy, letters)) in causes.iter().enumerate() {
        if number > 0 {
            output::line("");
        }
        output::line(output::plain(remedy));
        let mut rows = output::table(["ID", "TABLE", "ROW", "CHANGE", "ATTEMPTS", "REASON"], &[4]);
        for letter in letters {
            rows.add_row([
                output::plain(&letter.id),
                output::plain(&letter.table),
                output::key(&letter.key),
                letter.op.clone(),
                letter.attempts.to_string(),
                output::plain(&letter.reason),
            ]);
        }
        output::print(&rows);
    }
    output::line("");
    output::line(output::plain(&format!("When it is mended:   tandem failed retry {}", failed[0].id)));
    Ok(ExitCode::SUCCESS)
}

async fn show(common: &Common, id: &str, json: bool) -> Outcome {
    let api = NodeApi::new(common)?;
    api.status().await?;
    let letter: FailedView = api.get(&format!("/api/failed/{}", path_part(id))).await?;
    if json {
        output::json(&letter)?;
        return Ok(ExitCode::SUCCESS);
    }
    let key = output::key(&letter.key);
    output::line(output::plain(&format!(
        "{}: {} of {}, row with {key}, made on {} at {}.",
        letter.id,
        letter.op,
        letter.table,
        letter.origin,
        spoken_time(letter.written_seconds)
    )));
    output::line(output::plain(&format!("Tried {} times: {}.", letter.attempts, letter.reason)));
    output::line(output::plain(&letter.remedy));
    output::line("");
    let mut rows = output::table(["COLUMN", "BEFORE", "AFTER"], &[]);
    let columns = letter.before.iter().chain(&letter.after).flat_map(Map::keys).collect::<std::collections::BTreeSet<_>>();
    for column in columns {
        rows.add_row([output::plain(column), value(&letter.before, column), value(&letter.after, column)]);
    }
    output::print(&rows);
    Ok(ExitCode::SUCCESS)
}

fn value(row: &Option<Map<String, Value>>, column: &str) -> String {
    match row.as_ref().map(|row| row.get(column)) {
        None => "(no row)".to_owned(),
        Some(None) => "(not known)".to_owned(),
        Some(Some(value)) => output::value(value),
    }
}

#[derive(Deserialize)]
struct Retried {
    results: Vec<RetriedView>,
}

/// Ends with 1 where one of them is still set aside.
async fn retry(which: &Which) -> Outcome {
    let api = NodeApi::new(&which.common)?;
    api.status().await?;
    let Retried { results } = api.post_slowly("/api/failed/retry", &which.wish()).await?;
    let is_left = |result: &RetriedView| matches!(result.outcome.as_str(), "failed" | "refused");
    if which.json {
        output::json(&results)?;
    } else if results.is_empty() {
        output::line("No change is set aside.");
    } else {
        results.iter().for_each(|result| output::line(output::plain(&said(result))));
    }
    Ok(if results.iter().any(is_left) { ExitCode::from(DIFFERENCE) } else { ExitCode::SUCCESS })
}

fn said(result: &RetriedView) -> String {
    let reason = result.reason.as_deref().unwrap_or("no reason given");
    let what = match result.outcome.as_str() {
        "applied" => "applied.".to_owned(),
        "newer_stands" => "not needed any more: a newer write of the row stands.".to_owned(),
        "failed" => format!("failed again: {reason}."),
        "refused" => format!("not tried: {reason}. Discard it, then run tandem verify --repair."),
        other => other.to_owned(),
    };
    format!("{}: {what}", result.id)
}

#[derive(Deserialize)]
struct Discarded {
    discarded: Vec<String>,
}

async fn discard(which: &Which) -> Outcome {
    let api = NodeApi::new(&which.common)?;
    api.status().await?;
    let Discarded { discarded } = api.post_slowly("/api/failed/discard", &which.wish()).await?;
    if which.json {
        output::json(&discarded)?;
        return Ok(ExitCode::SUCCESS);
    }
    match discarded.as_slice() {
        [] => output::line("No change is set aside."),
        ids => {
            ids.iter().for_each(|id| output::line(output::plain(&format!("{id}: discarded."))));
            output::line("Their rows may differ from those of other nodes: tandem verify finds and settles that.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Which {
    fn wish(&self) -> FailedWish {
        FailedWish { ids: self.ids.clone(), all: self.all }
    }
}
