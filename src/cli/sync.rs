//! `tandem sync`: everything now, and what came of it.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::observe::{CloudReport, CloudState, spoken_count};
use crate::runtime::Stop;

use super::exchange;
use super::node_api::NodeApi;
use super::{Common, DIFFERENCE, INTERRUPTED, Outcome, output};

/// Exchange everything now: with the other nodes, and with the clouds.
///
/// Nodes exchange changes all the time, so this ends waits before a next attempt, and with --wait shows when nothing waits any
/// more. Clouds are fed at once instead of at their next time. A node that is offline is told and not waited for. Exits with 1
/// where something is not up to date at the end.
#[derive(Args)]
pub struct SyncArgs {
    /// Only these tables, `database.table` or `table`, to the clouds; all if none is named.
    #[arg(value_name = "TABLE")]
    tables: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// What to sync; both where it is not said.
    #[arg(long, value_name = "WHAT")]
    only: Option<Only>,
    /// Wait until nothing waits between the nodes that are reached. Clouds are always waited for.
    #[arg(long)]
    wait: bool,
    /// Only this cloud of the configuration.
    #[arg(long, value_name = "NAME")]
    cloud: Option<String>,
    /// Send the clouds everything that the topics hold, not only what is new: what a cloud has already changes nothing there.
    #[arg(long)]
    force: bool,
    /// Send the clouds nothing; say what would be sent. Asks nothing of the nodes.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// The clouds, as their report says.
    Cloud,
    /// The other nodes.
    Nodes,
}

/// How often the progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
struct Ordered {
    run: u64,
}

pub async fn run(args: SyncArgs) -> Outcome {
    // What is said about clouds alone means them alone.
    let clouds_alone = args.only == Some(Only::Cloud)
        || args.only.is_none() && (args.cloud.is_some() || args.force || args.dry_run || !args.tables.is_empty());
    let api = NodeApi::new(&args.common)?;
    let status = api.status().await?;
    let clouds: Vec<String> = match &args.cloud {
        _ if args.only == Some(Only::Nodes) => Vec::new(),
        Some(name) => vec![name.clone()],
        None => status.clouds.iter().map(|cloud| cloud.name.clone()).collect(),
    };
    if clouds.is_empty() && clouds_alone {
        return Err(Stop::halt(
            format!("{} feeds no cloud", status.node),
            "add [cloud.main] to the configuration, or run the role: tandem run cloud",
        )
        .into());
    }
    let mut links = None;
    if !clouds_alone {
        tokio::select! {
            seen = exchange::exchange(&api, args.wait, args.json) => links = Some(seen?),
            _ = tokio::signal::ctrl_c() => {
                eprintln!("The node goes on by itself; see it with `tandem status`.");
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
    let mut reports = Vec::new();
    for cloud in &clouds {
        let order =
            json!({ "cloud": cloud, "force": args.force, "dry_run": args.dry_run, "tables": args.tables, "no_wait": true });
        let ordered: Ordered = api.post("/api/cloud-sync/sync-now", &order).await?;
        tokio::select! {
            report = finished(&api, cloud, ordered.run, args.json) => reports.push(report?),
            _ = tokio::signal::ctrl_c() => {
                eprintln!("The run goes on in the node; see it with `tandem status`.");
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
    // Without --wait nobody has looked whether the nodes have come together.
    let together = !args.wait || links.iter().flatten().all(exchange::is_done);
    let success = reports.iter().all(|report| report.success) && together;
    match (reports.as_slice(), &links) {
        ([report], None) if args.json => output::json(report)?,
        (reports, None) if args.json => output::json(&json!({ "success": success, "reports": reports }))?,
        (reports, Some(links)) if args.json => {
            output::json(&json!({ "success": success, "links": links, "reports": reports }))?;
        }
        (reports, links) => {
            links.iter().flatten().for_each(|link| output::line(output::plain(&exchange::line(link))));
            reports.iter().for_each(print);
        }
    }
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE) })
}

/// Waits for the run, showing how far it is.
async fn finished(api: &NodeApi, cloud: &str, run: u64, quiet: bool) -> Result<CloudReport, Stop> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is right"));
    let path = format!("/api/cloud-sync/run?cloud={cloud}&run={run}");
    let asked = async {
        loop {
            // It answers when the run has ended, or after some time that it has not.
            let answer: Value = api.get_slowly(&path).await?;
            if let Ok(report) = serde_json::from_value::<CloudReport>(answer) {
                return Ok(report);
            }
        }
    };
    let watched = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(status) = api.status().await else { continue };
            let Some(now) = status.clouds.iter().find(|other| other.name == cloud) else { continue };
            let stopped = status.roles.iter().find(|role| role.name == format!("cloud {cloud}") && stands(&role.state));
            if let Some(role) = stopped {
                let reason = role.reason.clone().unwrap_or_else(|| format!("the feeding of {cloud} is {}", role.state));
                let hint = format!("`tandem resume cloud {cloud}`, or `tandem restart cloud {cloud}` where it has stopped");
                return Stop::halt(reason, role.hint.clone().unwrap_or(hint));
            }
            if now.state == CloudState::Paused {
                let reason = now.reason.clone().unwrap_or_else(|| "the cloud accepts nothing".into());
                return Stop::halt(reason, "the run goes on by itself when that is mended");
            }
            let why = now.reason.as_ref().map(|reason| format!(" — {reason}")).unwrap_or_default();
            let waiting = spoken_count(now.pending.unwrap_or(0));
            bar.set_message(output::plain(&format!(
                "{cloud}: {} rows sent, {waiting} records wait{why}",
                spoken_count(now.sending)
            )));
            bar.tick();
        }
    };
    let outcome = tokio::select! {
        report = asked => report,
        stop = watched => Err(stop),
    };
    bar.finish_and_clear();
    outcome
}

/// Of a role that does nothing until a person acts.
fn stands(state: &str) -> bool {
    matches!(state, "stopped" | "paused")
}

fn print(report: &CloudReport) {
    let mut table = output::table(["RESOURCE", "WRITTEN", "DELETED", "ALREADY", "LEFT OUT", "FAILED"], &[1, 2, 3, 4, 5]);
    for (resource, counts) in &report.summary.tables {
        let number = |count: u64| spoken_count(count);
        table.add_row([
            output::plain(resource),
            number(counts.written),
            number(counts.deleted),
            number(counts.already),
            number(counts.left_out),
            number(counts.failed),
        ]);
    }
    if report.summary.tables.is_empty() {
        output::line(format_args!("{}: nothing to send, the cloud is up to date", report.cloud));
    } else {
        output::print(&table);
        let would = if report.dry_run { "would be " } else { "" };
        output::line(format_args!(
            "\n{}: {} {would}synced, {} failed",
            report.cloud,
            spoken_count(report.summary.synced),
            spoken_count(report.summary.failed)
        ));
    }
    for problem in &report.errors {
        let place = [&problem.resource, &problem.id].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        output::line(output::plain(&format!("{place}: {}", problem.error)));
    }
}
