//! `tandem reseed`: a node that was away too long, or a new one, takes over the rows of another.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::change::{OriginId, TableName};
use crate::config::{Config, OwnNode};
use crate::observe::{AskWish, AskedView, RoleStatus, spoken_count};
use crate::runtime::Stop;
use crate::wiring::{self, Beside, Heard, SeedKind, Seeding, Situation};

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
    /// Show what is missing, how many rows differ and what would be done, and do nothing.
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
    // One that is open does not come to its end where something is missing once more.
    let goes_on = !args.again && !situation.is_needed();
    let open = situation.seeding.clone().filter(|seeding| seeding.is_open() && goes_on);
    // Others are asked by way of the tailer.
    let asks = reads.then_some(&api);
    if args.dry_run {
        let counted = count(&config, &own, asks, &situation, &args).await?;
        return shown(&situation, own.name(), &counted, args.json);
    }
    let begun = match open {
        Some(seeding) => seeding,
        None => {
            if !situation.is_needed() && !situation.is_new && !args.again {
                output::line("Nothing is missing: this node goes on by itself. To do it all the same: tandem reseed --again");
                return Ok(ExitCode::SUCCESS);
            }
            let from = seeder(&situation, args.from.as_deref())?;
            ready(&situation, running.is_some())?;
            let situation = with_tables(&config, &own, asks, &from, situation, args.json).await?;
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
    match &situation.history_lost {
        Some(reason) if running => Err(Stop::halt(
            format!("the binlog is not the one that was read before: {reason}"),
            "stop tandem on this node, give this command again, then start it",
        )),
        _ => Ok(()),
    }
}

/// Makes the tables that the other node has and this one lacks. What they then are.
async fn with_tables(
    config: &Config,
    own: &OwnNode,
    asks: Option<&NodeApi>,
    from: &OriginId,
    situation: Situation,
    quiet: bool,
) -> Result<Situation, Stop> {
    let Some(api) = asks else {
        return match situation.tables.is_empty() {
            false => Ok(situation),
            true => Err(Stop::halt(
                "there is no table here that could be seeded",
                format!("start tandem on this node, then give this command again: {from} is asked how its tables are made"),
            )),
        };
    };
    let mut heard = Heard::from_end(own, from).await?;
    let wish = AskWish { of: from.to_string(), tables: Vec::new(), definitions: true };
    let asked: AskedView = api.post("/api/ask", &wish).await?;
    let Some(made) = heard.make_tables(config, own, asked.number).await? else {
        let message = format!("{from} does not answer");
        if situation.tables.is_empty() {
            return Err(Stop::halt(
                message,
                "there is no table here, and it has to tell how its tables are made: see that it runs, in this version or a later one",
            ));
        }
        eprintln!("{message}, so no table is made here: those that are missing will be named in the end.");
        return Ok(situation);
    };
    for (table, unsaid) in made.made.iter().filter(|_| !quiet) {
        let unsaid = unsaid.as_ref().map(|unsaid| format!("; {unsaid}")).unwrap_or_default();
        output::line(format_args!("{}: made as on {from}{}", output::plain(&table.to_string()), output::plain(&unsaid)));
    }
    let mut situation = wiring::situation(config, own, true).await?;
    if situation.tables.is_empty() {
        return Err(Stop::halt(format!("neither this node nor {from} has a table that could be seeded"), "look at [tables]"));
    }
    situation.refused.extend(made.refused);
    Ok(situation)
}

/// The tables beside those of the other node, or why they were not compared.
enum Counted {
    Beside(OriginId, Vec<Beside>),
    Not(String),
}

async fn count(
    config: &Config,
    own: &OwnNode,
    asks: Option<&NodeApi>,
    situation: &Situation,
    args: &ReseedArgs,
) -> Result<Counted, Stop> {
    let Some(api) = asks else {
        return Ok(Counted::Not(
            "Start tandem on this node to see how many rows differ: its tailer asks the other one.".into(),
        ));
    };
    let from = match seeder(situation, args.from.as_deref()) {
        Ok(from) => from,
        Err(stop) if args.from.is_none() => return Ok(Counted::Not(format!("It is not known how many rows differ: {stop}"))),
        Err(stop) => return Err(stop),
    };
    let tables: Vec<TableName> = situation.tables.iter().map(|(table, _)| table.clone()).collect();
    if tables.is_empty() {
        return Ok(Counted::Not(format!("There is no table here: those of {from} would be made.")));
    }
    let mut heard = Heard::from_end(own, &from).await?;
    let wish = AskWish { of: from.to_string(), tables: tables.iter().map(TableName::to_string).collect(), definitions: false };
    let asked: AskedView = api.post("/api/ask", &wish).await?;
    let bar = match std::io::stderr().is_terminal() && !args.json {
        true => ProgressBar::new(situation.tables.iter().map(|(_, rows)| rows).sum()),
        false => ProgressBar::hidden(),
    };
    let form = "{bar:30} {percent:>3}%  {human_pos} of about {human_len} rows  {per_sec}  {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(form).expect("the form is a constant"));
    bar.set_message(format!("waits for {from}"));
    let look = |all: &[Beside]| {
        bar.set_position(all.iter().map(|beside| beside.rows).sum());
        let at = all.iter().find(|beside| !beside.has_ended()).map(|beside| beside.table.to_string());
        bar.set_message(output::plain(&at.unwrap_or_default()));
    };
    let beside = heard.compare(config, own, asked.number, &tables, look).await;
    bar.finish_and_clear();
    Ok(match beside? {
        Some(beside) => Counted::Beside(from, beside),
        None => Counted::Not(format!("It is not known how many rows differ: {from} does not answer.")),
    })
}

fn shown(situation: &Situation, own: &OriginId, counted: &Counted, json: bool) -> Outcome {
    let kind = serde_json::to_value(situation.kind()).unwrap_or_default();
    if json {
        let beside = |beside: &Beside| {
            json!({
                "name": beside.table.to_string(), "rows": beside.rows, "differ": beside.differ, "only_there": beside.only_there,
                "only_here": beside.only_here, "reason": beside.reason,
            })
        };
        let (from, differences) = match counted {
            Counted::Beside(from, tables) => (Some(from.as_str()), Some(tables.iter().map(beside).collect::<Vec<Value>>())),
            Counted::Not(_) => (None, None),
        };
        let topic = |topic: &wiring::TopicGap| json!({"node": topic.origin.as_str(), "next": topic.next, "first": topic.first, "end": topic.end, "gone": topic.gone()});
        output::json(&json!({
            "node": own.as_str(), "kind": kind, "needed": situation.is_needed(), "history_lost": situation.history_lost,
            "topics": situation.topics.iter().map(topic).collect::<Vec<Value>>(),
            "tables": situation.tables.iter().map(|(table, rows)| json!({"name": table.to_string(), "rows": rows})).collect::<Vec<_>>(),
            "refused": situation.refused.iter().map(|(table, why)| json!([table.to_string(), why])).collect::<Vec<_>>(),
            "beside": from, "differences": differences,
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
    match counted {
        Counted::Beside(from, tables) => print_beside(from, tables),
        Counted::Not(why) => output::line(why),
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

fn print_beside(from: &OriginId, tables: &[Beside]) {
    output::line("");
    let there = format!("ONLY ON {}", from.as_str().to_uppercase());
    let mut rows = output::table(["TABLE", "ROWS", "DIFFER", &there, "ONLY HERE", ""], &[1, 2, 3, 4]);
    for beside in tables {
        let counts = [beside.rows, beside.differ, beside.only_there, beside.only_here].map(spoken_count);
        let [all, differ, only_there, only_here] = counts;
        let reason = beside.reason.as_deref().map(output::plain).unwrap_or_default();
        rows.add_row([output::plain(&beside.table.to_string()), all, differ, only_there, only_here, reason]);
    }
    output::print(&rows);
    output::line("");
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
