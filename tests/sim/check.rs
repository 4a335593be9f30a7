//! What must hold at the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use tandem::change::{Change, Gtid, Hlc, Image, OriginId, Record, Value};

use crate::world::{World, count_conflicts};

type Outcome = Result<(), String>;
/// The larger wins: clock, then place of the node.
type Version = (Hlc, usize);

pub fn all(world: &World) -> Outcome {
    count_conflicts(world);
    let history = History::of(world);
    nothing_set_aside(world)?;
    every_write_is_published_once(world, &history)?;
    nothing_is_published_but_writes_of_the_node(world, &history)?;
    order_and_clock(world)?;
    converged(world, &history)?;
    later_writes_have_larger_versions(world, &history)?;
    losers_are_kept(world, &history)
}

/// One row written by one record.
struct RowWrite {
    version: Version,
    /// Place of the node, and of the record in its topic.
    origin: usize,
    offset: usize,
    row: String,
    after: Option<Image>,
}

struct History {
    topics: Vec<Vec<Record>>,
    /// All writes of rows that were published.
    writes: Vec<RowWrite>,
    /// Payload to the version that wrote it.
    payloads: BTreeMap<i64, Version>,
}

impl History {
    fn of(world: &World) -> Self {
        let topics: Vec<Vec<Record>> = world.nodes.iter().map(|node| world.topics.records(&node.origin)).collect();
        let mut writes = Vec::new();
        let mut payloads = BTreeMap::new();
        for (origin, records) in topics.iter().enumerate() {
            for (offset, record) in records.iter().enumerate() {
                let Some(change) = record.change() else { continue };
                let version = (record.hlc, origin);
                let mut push = |row, after| writes.push(RowWrite { version, origin, offset, row, after });
                let (before, after) = (row_name(change.before.as_ref()), row_name(change.after.as_ref()));
                match (before, after) {
                    (Some(before), Some(after)) if before != after => {
                        push(before, None);
                        push(after, change.after.clone());
                    }
                    (_, Some(after)) => push(after, change.after.clone()),
                    (Some(before), None) => push(before, None),
                    (None, None) => {}
                }
                if let Some(payload) = change.after.as_ref().and_then(payload) {
                    payloads.insert(payload, version);
                }
            }
        }
        Self { topics, writes, payloads }
    }

    /// Per row its newest write. Within one transaction the later record counts.
    fn newest(&self) -> BTreeMap<&str, &RowWrite> {
        let mut newest: BTreeMap<&str, &RowWrite> = BTreeMap::new();
        for write in &self.writes {
            let best = newest.entry(&write.row).or_insert(write);
            if (write.version, write.offset) >= (best.version, best.offset) {
                *best = write;
            }
        }
        newest
    }
}

/// The row's name as the database compares it.
fn row_name(image: Option<&Image>) -> Option<String> {
    Some(image?.get(0)?.as_text()?.trim_end().to_lowercase())
}

fn payload(image: &Image) -> Option<i64> {
    match image.get(1)? {
        Value::Int(payload) => Some(*payload),
        _ => None,
    }
}

fn is_apply(changes: &[Change]) -> bool {
    changes.first().is_some_and(|change| change.table().is_own())
}

fn nothing_set_aside(world: &World) -> Outcome {
    match world.nodes.iter().flat_map(|node| node.database.dead_letters()).next() {
        Some(letter) => Err(format!("a change of {} was set aside: {}", letter.origin, letter.reason)),
        None => Ok(()),
    }
}

/// Every row that the application wrote is in its node's topic, once, and in commit order.
fn every_write_is_published_once(world: &World, history: &History) -> Outcome {
    for (node, records) in world.nodes.iter().zip(&history.topics) {
        let commits = node.commits.lock().unwrap();
        let written = commits.iter().filter(|commit| !is_apply(&commit.changes));
        let written: Vec<(Gtid, &Change)> =
            written.flat_map(|commit| commit.changes.iter().map(move |change| (commit.gtid, change))).collect();
        let own: BTreeSet<Gtid> = written.iter().map(|(gtid, _)| *gtid).collect();
        let published: Vec<(Gtid, &Change)> = records
            .iter()
            .filter(|record| own.contains(&record.gtid))
            .filter_map(|record| Some((record.gtid, record.change()?)))
            .collect();
        let same = |one: &(Gtid, &Change), other: &(Gtid, &Change)| {
            one.0 == other.0 && one.1.op == other.1.op && images(one.1) == images(other.1)
        };
        if written.len() != published.len() || !written.iter().zip(&published).all(|(one, other)| same(one, other)) {
            let place = written.iter().zip(&published).position(|(one, other)| !same(one, other));
            return Err(format!(
                "{} wrote {} rows and published {}; the first difference is at {place:?}",
                node.origin,
                written.len(),
                published.len()
            ));
        }
    }
    Ok(())
}

fn images(change: &Change) -> [Option<Vec<Option<Value>>>; 2] {
    // The wire keeps columns by name; ours are always all there, in their order, in at least one image.
    let values = |image: &Option<Image>| image.as_ref().map(|image| image.0.to_vec());
    [values(&change.before), values(&change.after)]
}

/// No echo: what a node publishes was written there, or is a row that its applier had to settle.
fn nothing_is_published_but_writes_of_the_node(world: &World, history: &History) -> Outcome {
    for (node, records) in world.nodes.iter().zip(&history.topics) {
        let commits = node.commits.lock().unwrap();
        let applies: BTreeMap<Gtid, usize> = commits
            .iter()
            .filter(|commit| is_apply(&commit.changes))
            .map(|commit| {
                let asked = |change: &&Change| &*change.table().table == "resolutions";
                (commit.gtid, commit.changes.iter().filter(asked).count())
            })
            .collect();
        let mut published: BTreeMap<Gtid, usize> = BTreeMap::new();
        for record in records.iter().filter(|record| !record.is_heartbeat()) {
            *published.entry(record.gtid).or_default() += 1;
        }
        for (gtid, rows) in published {
            if let Some(&asked) = applies.get(&gtid)
                && rows != asked
            {
                return Err(format!(
                    "{} published {rows} rows of apply transaction {gtid}, which asked for {asked}",
                    node.origin
                ));
            }
        }
    }
    Ok(())
}

/// Clocks grow from transaction to transaction, positions never move back, and `last` is where a transaction ends.
fn order_and_clock(world: &World) -> Outcome {
    for node in &world.nodes {
        let records = world.topics.records(&node.origin);
        for pair in records.windows(2) {
            let [one, next] = pair else { continue };
            let both_data = !one.is_heartbeat() && !next.is_heartbeat();
            let place = format!("{} at {}", node.origin, next.gtid);
            if both_data && one.last && next.hlc <= one.hlc || next.hlc < one.hlc {
                return Err(format!("{place}: the clock did not grow: {} after {}", next.hlc, one.hlc));
            }
            if !next.position.covers_all(&one.position) {
                return Err(format!("{place}: the position moved back"));
            }
            if !one.last && next.gtid != one.gtid {
                return Err(format!("{place}: the transaction before it has no last record"));
            }
            if both_data && one.last && one.gtid == next.gtid {
                return Err(format!("{place}: there is more after the last record"));
            }
        }
    }
    Ok(())
}

/// Every node holds the newest version of every row and nothing else.
fn converged(world: &World, history: &History) -> Outcome {
    let newest = history.newest();
    let wanted: BTreeMap<String, &Image> =
        newest.iter().filter_map(|(row, write)| Some(((*row).to_owned(), write.after.as_ref()?))).collect();
    for node in &world.nodes {
        let rows = node.database.rows(&world.table);
        let held: BTreeMap<String, &Image> = rows.iter().map(|image| (row_name(Some(image)).unwrap(), image)).collect();
        if held != wanted {
            let row = held.keys().chain(wanted.keys()).find(|row| held.get(*row) != wanted.get(*row)).unwrap();
            return Err(format!("{}: {row} is {:?}, newest is {:?}", node.origin, held.get(row), wanted.get(row)));
        }
        let seats: Vec<&Value> = rows.iter().filter_map(|image| image.get(2)).filter(|seat| !seat.is_null()).collect();
        if world.scenario.unique && seats.iter().enumerate().any(|(at, seat)| seats[..at].contains(seat)) {
            return Err(format!("{}: one seat is held twice", node.origin));
        }
    }
    Ok(())
}

/// A write made on top of another has the larger version, whatever the clocks say.
fn later_writes_have_larger_versions(world: &World, history: &History) -> Outcome {
    for (origin, node) in world.nodes.iter().enumerate() {
        let versions: BTreeMap<Gtid, Version> = history.topics[origin]
            .iter()
            .filter(|record| !record.is_heartbeat())
            .map(|record| (record.gtid, (record.hlc, origin)))
            .collect();
        for commit in node.commits.lock().unwrap().iter().filter(|commit| !is_apply(&commit.changes)) {
            let mine = versions[&commit.gtid];
            for below in commit.changes.iter().filter_map(|change| payload(change.before.as_ref()?)) {
                let below = history.payloads[&below];
                // A transaction may write a row twice: both have its version.
                if below > mine {
                    return Err(format!("{}: {} has {mine:?}, made on top of {below:?}", node.origin, commit.gtid));
                }
            }
        }
    }
    Ok(())
}

/// Every write is there, or was replaced by one that had seen it, or is kept as the loser of a conflict.
fn losers_are_kept(world: &World, history: &History) -> Outcome {
    let newest = history.newest();
    let kept: BTreeSet<(OriginId, Hlc)> = world
        .nodes
        .iter()
        .flat_map(|node| node.database.conflicts())
        .map(|conflict| (conflict.loser.origin.clone(), conflict.loser.hlc))
        .collect();
    for write in &history.writes {
        let best = newest[&*write.row];
        if best.version == write.version {
            continue;
        }
        let replaced = history.writes.iter().any(|later| {
            let record = &history.topics[later.origin][later.offset];
            let seen = later.origin == write.origin
                || record.seen.has(&world.cluster[write.origin], tandem::change::Offset(write.offset as u64));
            later.row == write.row && later.version > write.version && seen
        });
        if !replaced && !kept.contains(&(world.cluster[write.origin].clone(), write.version.0)) {
            return Err(format!(
                "the write of {} by {} at {} vanished: nothing that had seen it replaced it, and no conflict keeps it",
                write.row, world.cluster[write.origin], write.version.0
            ));
        }
    }
    Ok(())
}
