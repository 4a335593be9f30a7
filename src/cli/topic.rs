//! `tandem topic`: what the topics hold, whoever keeps them. Only looks.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::change::{Body, Offset, OriginId, Record, wire};
use crate::config::Config;
use crate::runtime::{Backoff, Disposition, Stop};
use crate::wiring::TopicView;

use super::{Common, Failure, INTERRUPTED, Outcome, output};

/// See what the topics hold.
#[derive(Args)]
pub struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Subcommand)]
enum TopicCommand {
    /// List the nodes' topics, and how far each goes.
    List {
        #[command(flatten)]
        common: Common,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show records of a node's topic: the last ones, or those from an offset on.
    Read {
        #[command(flatten)]
        common: Common,
        /// The node whose topic it is.
        #[arg(value_name = "NODE")]
        origin: String,
        /// Begin here, instead of near the end.
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
        /// At most so many.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
        /// Print a line of JSON for each record, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show records of a node's topic as they come.
    Tail {
        #[command(flatten)]
        common: Common,
        /// The node whose topic it is.
        #[arg(value_name = "NODE")]
        origin: String,
        /// Print a line of JSON for each record, for programs.
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(args: TopicArgs) -> Outcome {
    match args.command {
        TopicCommand::List { common, json } => list(&common, json).await,
        TopicCommand::Read { common, origin, from, limit, json } => {
            let (view, origin) = open(&common, &origin)?;
            read(&view, &origin, from.map(Offset), limit.into(), Print { json }).await
        }
        TopicCommand::Tail { common, origin, json } => {
            let (view, origin) = open(&common, &origin)?;
            tokio::select! {
                ended = tail(&view, &origin, Print { json }) => Err(ended.into()),
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
            }
        }
    }
}

/// The topics, and the node that is meant.
fn open(common: &Common, origin: &str) -> Result<(TopicView, OriginId), Failure> {
    let config = common.load()?;
    let name = OriginId::new(origin);
    if !config.nodes.contains_key(&name) {
        return Err(Stop::halt(format!("there is no node \"{origin}\""), format!("use one of {}", names(&config))).into());
    }
    Ok((TopicView::open(config.topic_access(common.node.as_deref())?)?, name))
}

fn names(config: &Config) -> String {
    config.nodes.keys().map(OriginId::as_str).collect::<Vec<_>>().join(", ")
}

async fn list(common: &Common, json: bool) -> Outcome {
    let config = common.load()?;
    let view = TopicView::open(config.topic_access(common.node.as_deref())?)?;
    let mut held = Vec::new();
    for name in config.nodes.keys() {
        held.push((name, view.held(name).await?));
    }
    if json {
        let entry = |(name, held): &(&OriginId, crate::wiring::TopicHeld)| {
            let committed = held.last.as_ref().map(|last| last.commit_second);
            json!({"node": name.as_str(), "first": held.first, "end": held.end, "last_commit_seconds": committed})
        };
        output::json(&held.iter().map(entry).collect::<Vec<Value>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = output::table(["NODE", "FIRST", "END", "RECORDS", "LAST COMMIT", "LAST RECORD"], &[1, 2, 3]);
    for (name, held) in &held {
        let last = held.last.as_ref();
        rows.add_row([
            name.to_string(),
            held.first.to_string(),
            held.end.to_string(),
            (held.end.0 - held.first.0).to_string(),
            last.map_or("-".into(), |last| time(last.commit_second)),
            last.map_or("-".into(), what),
        ]);
    }
    output::print(&rows);
    Ok(ExitCode::SUCCESS)
}

async fn read(view: &TopicView, origin: &OriginId, from: Option<Offset>, limit: u64, print: Print) -> Outcome {
    let held = view.held(origin).await?;
    let mut next = from.unwrap_or(Offset(held.end.0.saturating_sub(limit).max(held.first.0)));
    let mut left = limit;
    // Only what was there when we began: a topic that grows would never end.
    while left > 0 && (next < held.end || from.is_some_and(|from| from == next && next != held.end)) {
        let records = view.read(origin, next, Duration::ZERO).await?;
        let Some((last, _)) = records.last() else { break };
        next = last.next();
        for (offset, record) in records.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            print.record(*offset, record)?;
            left -= 1;
        }
    }
    if left == limit && !print.json {
        output::line(format_args!("The topic of {origin} holds nothing there: it is {}..{}.", held.first, held.end));
    }
    Ok(ExitCode::SUCCESS)
}

/// How long one question waits for records; then it is asked again.
const WAIT: Duration = Duration::from_secs(20);

/// Until something that does not mend itself.
async fn tail(view: &TopicView, origin: &OriginId, print: Print) -> Stop {
    let mut backoff = Backoff::connection();
    let mut next = None;
    loop {
        match more(view, origin, &mut next, print).await {
            Ok(()) => backoff.reset(),
            Err(stop) if stop.disposition == Disposition::Retry => {
                eprintln!("note: {stop}");
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(stop) => return stop,
        }
    }
}

async fn more(view: &TopicView, origin: &OriginId, next: &mut Option<Offset>, print: Print) -> Result<(), Stop> {
    let from = match *next {
        Some(from) => from,
        None => *next.insert(view.held(origin).await?.end),
    };
    for (offset, record) in view.read(origin, from, WAIT).await? {
        print.record(offset, &record)?;
        *next = Some(offset.next());
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Print {
    json: bool,
}

impl Print {
    fn record(self, offset: Offset, record: &Record) -> Result<(), Stop> {
        if !self.json {
            let (committed, what) = (time(record.commit_second), what(record));
            output::line(format_args!("{offset:>10}  {committed}  {:<12}  {what}", record.gtid.to_string()));
            return Ok(());
        }
        let envelope = match &record.body {
            Body::Change(change) => {
                let mut text = Vec::new();
                wire::change_json(&mut text, record, change);
                serde_json::from_slice(&text)
                    .map_err(|error| Stop::halt(format!("a record is no JSON: {error}"), "report this"))?
            }
            Body::Schema(change) => json!({"ddl": change.statement, "db": change.database}),
            Body::Heartbeat | Body::Note(_) => Value::Null,
        };
        let seen = serde_json::to_value(&*record.seen).unwrap_or_default();
        let (gtid, last) = (record.gtid.to_string(), record.last);
        output::line(
            json!({"offset": offset, "gtid": gtid, "hlc": record.hlc, "last": last, "seen": seen, "change": envelope}),
        );
        Ok(())
    }
}

/// `update campus.riders id 7`.
fn what(record: &Record) -> String {
    let change = match &record.body {
        Body::Change(change) => change,
        Body::Schema(change) => return format!("ddl      {}", output::plain(&change.statement)),
        Body::Heartbeat => return "heartbeat".into(),
        Body::Note(_) => return "note".into(),
    };
    let key = change.key().and_then(|key| serde_json::from_str(&wire::key_json(&key)).ok());
    let key: String = key.map(|key| output::key(&key)).unwrap_or_default();
    let table = output::plain(&change.table().to_string());
    format!("{:<8} {table}  {key}", change.op.word()).trim_end().to_owned()
}

/// In this machine's time zone.
fn time(second: u64) -> String {
    let second = i64::try_from(second).unwrap_or(i64::MAX);
    let Ok(moment) = jiff::Timestamp::from_second(second) else { return "-".into() };
    moment.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
