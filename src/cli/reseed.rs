//! `tandem reseed`: a node that was away too long, or a new one, takes over the rows of another.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::change::OriginId;
use crate::observe::{RoleStatus, spoken_count};
use crate::runtime::Stop;
use crate::wiring::{self, SeedKind, Seeding, Situation};

use super::node_api::NodeApi;
use super::{Common, DIFFERENCE, INTERRUPTED, Outcome, output};

/// Take over the rows of another node: after too long an absence, or as a new node.
///
/// What this node has written is published first. Then its rows become those of the other node, while both may be written to. A row
/// that may hold what nobody else has is kept as a conflict, never replaced unseen. Repeat the command to see how far it is.
#[derive(Args)]
pub struct ReseedArgs {
    #[command(flatten)]
    common: Common,
    /// The node whose rows are taken over; it has to run.
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Show what is missing and what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it although nothing is missing, or begin anew while it is under way.
    #[arg(long)]
    again: bool,
    /// Do not wait for the end: the node goes on by itself.
    #[arg(long)]
    no_wait: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn run(args: ReseedArgs) -> Outcome {
    let config = args.common.load()?;
    let own = config.own_node(args.common.node.as_deref())?;
    let api = NodeApi::new(&args.common)?;
    let running = api.status().await.ok().filter(|status| status.node == own.name().as_str());
    let reads = running.as_ref().is_some_and(|status| status.tailer.connected);
    let situation = wiring::situation(&config, &own, reads).await?;
    let open = situation.seeding.clone().filter(|seeding| seeding.is_open() && !args.again);
    if args.dry_run {
        return shown(&situation, own.name(), args.json);
    }
    let begun = match open {
        Some(seeding) => {
            if situation.history_lost.is_some() {
                // It was ended between the two steps.
                wiring::begin_anew(&own, &seeding).await?;
            }
            seeding
        }
        None => {
            if !situation.is_needed() && !situation.is_new && !args.again {
                output::line("Nothing is missing: this node goes on by itself. To do it all the same: tandem reseed --again");
                return Ok(ExitCode::SUCCESS);
            }
            let from = seeder(&situation, args.from.as_deref())?;
            ready(&situation, running.is_some())?;
            if running.is_some() {
                let _: Vec<RoleStatus> = api.post_slowly("/api/roles/applier/pause", &json!({})).await?;
            }
            let begun = wiring::begin_seeding(&config, &own, &from, &situation).await;
            if running.is_some() {
                let _: Vec<RoleStatus> = api.post_slowly("/api/roles/applier/resume", &json!({})).await?;
            }
            begun?
        }
    };
    if running.is_none() {
        output::line(format_args!(
            "It is prepared. Start tandem on {}: it takes over the rows of {} by itself.",
            own.name(),
            begun.seeder
        ));
        return Ok(ExitCode::SUCCESS);
    }
    if args.no_wait {
        output::line(format_args!("{} takes over the rows of {}. See how far it is: tandem reseed", own.name(), begun.seeder));
        return Ok(ExitCode::SUCCESS);
    }
    let ended = tokio::select! {
        ended = watch(begun, async || wiring::seeding(&config, &own).await, args.json) => ended?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("The node goes on with it. See how far it is: tandem reseed");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    if args.json {
        output::json(&ended)?;
    } else {
        verdict(own.name(), &ended);
    }
    Ok(if ended.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE) })
}

/// The node whose rows are taken: the one that was named, or the only one that there is.
fn seeder(situation: &Situation, named: Option<&str>) -> Result<OriginId, Stop> {
    let others: Vec<&OriginId> =
        situation.topics.iter().filter(|topic| !topic.removed && topic.end.0 > 0).map(|topic| &topic.origin).collect();
    let names = || others.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    match (named, &*others) {
        (Some(named), others) => {
            others.iter().find(|name| name.as_str() == named).map(|name| (*name).clone()).ok_or_else(|| {
                Stop::halt(
                    format!("no node \"{named}\" takes part and has published anything"),
                    format!("use one of {}", names()),
                )
            })
        }
        (None, [only]) => Ok((*only).clone()),
        (None, []) => Err(Stop::halt("no other node has published anything", "start the others first")),
        (None, _) => Err(Stop::halt(
            "it is not said whose rows are taken",
            format!("name one that is up to date and runs, with --from: {}", names()),
        )),
    }
}

fn ready(situation: &Situation, running: bool) -> Result<(), Stop> {
    if situation.schema_open > 0 {
        let message = format!("{} schema changes of other nodes wait here for a decision", situation.schema_open);
        return Err(Stop::halt(message, "decide about them first: tandem ddl list"));
    }
    if situation.tables.is_empty() {
        return Err(Stop::halt("there is no table here that could be seeded", "make the tables like on the other node first"));
    }
    match &situation.history_lost {
        Some(reason) if running => Err(Stop::halt(
            format!("the binlog is not the one that was read before: {reason}"),
            "stop tandem on this node, give this command again, then start it",
        )),
        _ => Ok(()),
    }
}

fn shown(situation: &Situation, own: &OriginId, json: bool) -> Outcome {
    let kind = serde_json::to_value(situation.kind()).unwrap_or_default();
    if json {
        let topic = |topic: &wiring::TopicGap| json!({"node": topic.origin.as_str(), "next": topic.next, "first": topic.first, "end": topic.end, "gone": topic.gone()});
        output::json(&json!({
            "node": own.as_str(), "kind": kind, "needed": situation.is_needed(), "history_lost": situation.history_lost,
            "topics": situation.topics.iter().map(topic).collect::<Vec<Value>>(),
            "tables": situation.tables.iter().map(|(table, rows)| json!({"name": table.to_string(), "rows": rows})).collect::<Vec<_>>(),
            "refused": situation.refused.iter().map(|(table, why)| json!([table.to_string(), why])).collect::<Vec<_>>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = output::table(["TOPIC", "NEXT HERE", "OLDEST KEPT", "END", "GONE UNSEEN"], &[1, 2, 3, 4]);
    for topic in &situation.topics {
        rows.add_row([
            topic.origin.to_string(),
            topic.next.map_or_else(|| "-".into(), |next| next.to_string()),
            topic.first.to_string(),
            topic.end.to_string(),
            spoken_count(topic.gone()),
        ]);
    }
    output::print(&rows);
    let here: u64 = situation.tables.iter().map(|(_, rows)| rows).sum();
    output::line(format_args!(
        "\n{} tables with about {} rows here would be compared.",
        situation.tables.len(),
        spoken_count(here)
    ));
    for (table, why) in &situation.refused {
        output::line(format_args!("{}: {}", output::plain(&table.to_string()), output::plain(why)));
    }
    output::line(match situation.kind() {
        SeedKind::New => {
            "This node is new: it gets the rows of the other one, rows that it alone has are published, and of two that differ one is kept as a conflict."
        }
        SeedKind::Away => {
            "All that it wrote is published or will be: rows that differ become those of the other node; rows that it alone has were deleted there, and go (kept as conflicts)."
        }
        SeedKind::HistoryLost => {
            "Its binlog is not the one that was read before, so it may have written what is published nowhere: each row that differs, or that it alone has, is kept as an open conflict."
        }
    });
    if !situation.is_needed() && !situation.is_new {
        output::line("Nothing is missing: it goes on by itself.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Until it has ended, with a bar where a person looks.
async fn watch(
    begun: Seeding,
    mut look: impl AsyncFnMut() -> Result<Option<Seeding>, Stop>,
    quiet: bool,
) -> Result<Seeding, Stop> {
    let bar = match std::io::stderr().is_terminal() && !quiet {
        true => ProgressBar::new(begun.tables.len() as u64),
        false => ProgressBar::hidden(),
    };
    let form = "{bar:30} {pos} of {len} tables  {msg}";
    bar.set_style(ProgressStyle::with_template(form).expect("the form is a constant"));
    let (tables, mut now) = (begun.tables.len(), begun);
    loop {
        bar.set_position((tables - now.tables.len().min(tables)) as u64);
        let at = now.tables.first().map(|table| output::plain(&table.name().to_string())).unwrap_or_default();
        bar.set_message(format!("{} rows  {at}", spoken_count(now.rows)));
        if !now.is_open() {
            bar.finish_and_clear();
            return Ok(now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let seen = look().await?.filter(|seen| seen.number == now.number);
        now = seen.ok_or_else(|| Stop::halt("another seeding was begun meanwhile", "see it with: tandem reseed"))?;
    }
}

fn verdict(own: &OriginId, seeding: &Seeding) {
    for (table, why) in &seeding.failed {
        output::line(format_args!("{}: not seeded: {}", output::plain(table), output::plain(why)));
    }
    output::line(format_args!(
        "{own} has the {} rows of {}; {} rows that only {own} had are kept as conflicts: tandem conflicts list",
        spoken_count(seeding.rows),
        seeding.seeder,
        spoken_count(seeding.removed)
    ));
}
