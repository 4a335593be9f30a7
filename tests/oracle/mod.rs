//! What must hold at the end of a run, whatever ran: the simulation over memory twins, or real nodes over real servers.
//!
//! The evidence is what everybody kept: the servers' own binlogs, the topics, the rows, and the conflicts.

use std::collections::{BTreeMap, BTreeSet};

use tandem::change::{Change, Gtid, Hlc, Image, Mark, Offset, Op, OriginId, Record, Rewrite, Shape, Value, ValueRef};

pub type Outcome = Result<(), String>;
/// The larger wins: clock, then place of the node.
type Version = (Hlc, usize);

mod ended;

pub use ended::{Unpublished, nobodys};

/// A row's columns by name.
pub type Columns = BTreeMap<String, Value>;

/// What one node kept.
pub struct Site {
    pub origin: OriginId,
    /// Every committed transaction with captured or own rows, in commit order, from where its topic begins.
    pub binlog: Vec<(Gtid, Vec<Change>)>,
    pub topic: Vec<Record>,
    /// The rows that are there in the end, by [`row_name`].
    pub rows: BTreeMap<String, Columns>,
    /// The losers of the conflicts that it keeps.
    pub losers: BTreeSet<(OriginId, Hlc)>,
    /// The rows that were there before its topic began: payload, and the row's name.
    pub existed: BTreeMap<String, String>,
    /// The rows that its conflicts keep.
    pub kept: Vec<Kept>,
}

/// A row that a conflict keeps.
pub struct Kept {
    pub payload: String,
    /// It waits for somebody to decide.
    pub open: bool,
    /// It is about a unique value.
    pub unique: bool,
    /// It is the row that lost.
    pub lost: bool,
}

/// All that a site committed and published, a line each: for people who look for the cause of a fault.
pub fn story(site: &Site) -> String {
    let row = |change: &Change| {
        let images = [&change.before, &change.after].map(|image| match image {
            Some(image) => {
                columns(&change.shape, image).values().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(",")
            }
            None => "-".into(),
        });
        format!("{} {} -> {}", change.op.word(), images[0], images[1])
    };
    let mut lines = vec![format!("== {} committed", site.origin)];
    for (gtid, changes) in &site.binlog {
        let told: Vec<String> = changes
            .iter()
            .map(|change| match (Mark::read(change), Rewrite::read(change)) {
                (Some(Ok(mark)), _) => format!("applied {} to {} at {}", mark.origin, mark.next, mark.hlc),
                (_, Some(Ok(rewrite))) => format!("rewrite {}", row(&rewrite.change)),
                _ => row(change),
            })
            .collect();
        lines.push(format!("{gtid}: {}", told.join("; ")));
    }
    lines.push(format!("== {} published", site.origin));
    for (offset, record) in site.topic.iter().enumerate() {
        let change = record.change().map_or_else(|| record.note().map_or("heartbeat".into(), |note| format!("{note:?}")), &row);
        let seen: Vec<String> = record.seen.0.iter().map(|(origin, offset)| format!("{origin}:{offset}")).collect();
        lines.push(format!("{offset} {} at {} seen {}: {change}", record.gtid, record.hlc, seen.join(" ")));
    }
    lines.join("\n")
}

/// With `TANDEM_STORY` set, prints what the sites did.
pub fn tell_stories(sites: &[Site]) {
    if std::env::var_os("TANDEM_STORY").is_some() {
        sites.iter().for_each(|site| eprintln!("{}", story(site)));
    }
}

/// The sites in the order of the cluster's list.
pub fn check(sites: &[Site]) -> Outcome {
    let history = History::of(sites);
    all_but_content(sites, &history)?;
    converged(sites, &history)?;
    losers_are_kept(sites, &history)
}

/// What was published, and with which versions.
pub fn all_but_content(sites: &[Site], history: &History) -> Outcome {
    for site in sites {
        let unpublished = Unpublished::of(site);
        every_write_is_published_once(site, &unpublished)?;
        nothing_else_is_published(site, &unpublished)?;
        order_and_clock(site)?;
        ended::what_was_published_nowhere_is_kept(site, &unpublished)?;
    }
    ended::rows_that_existed_stay(sites, history)?;
    later_writes_have_larger_versions(sites, history)
}

/// One row written by one record.
pub struct RowWrite<'a> {
    version: Version,
    offset: Offset,
    record: &'a Record,
    pub after: Option<Columns>,
}

/// All writes that were published.
pub struct History<'a> {
    pub rows: BTreeMap<String, Vec<RowWrite<'a>>>,
    /// Payload to the version that wrote it first.
    payloads: BTreeMap<String, Version>,
    existed: BTreeSet<&'a String>,
}

impl<'a> History<'a> {
    pub fn of(sites: &'a [Site]) -> Self {
        let existed = sites.iter().flat_map(|site| site.existed.keys()).collect();
        let mut history = Self { rows: BTreeMap::new(), payloads: BTreeMap::new(), existed };
        for (node, site) in sites.iter().enumerate() {
            let nobodys = nobodys(&site.topic);
            for (offset, record) in site.topic.iter().enumerate().filter(|(at, _)| !nobodys.contains(at)) {
                // A row without a key has no newest write.
                let Some(change) = record.change().filter(|change| change.shape.has_key()) else { continue };
                // A row that existed is older than every write.
                let version = if record.is_existing_row() { (Hlc(0), node) } else { (record.hlc, node) };
                let name = |image: &Option<Image>| image.as_ref().map(|image| row_name(&change.shape, image));
                let after = change.after.as_ref().map(|image| columns(&change.shape, image));
                let (was, is) = (name(&change.before), name(&change.after));
                let left = was.clone().filter(|was| is.as_ref() != Some(was));
                if let Some(payload) = after.as_ref().and_then(payload).filter(|_| !record.is_existing_row()) {
                    // The first: a row that is published again (policy `prefer`) may be overwritten by who saw only that.
                    let first = history.payloads.entry(payload).or_insert(version);
                    *first = version.min(*first);
                }
                let offset = Offset(offset as u64);
                for (row, after) in left.map(|row| (row, None)).into_iter().chain(is.map(|row| (row, after))) {
                    history.rows.entry(row).or_default().push(RowWrite { version, offset, record, after });
                }
            }
        }
        for (node, site) in sites.iter().enumerate() {
            for (offset, record) in site.topic.iter().enumerate() {
                let Some(change) = record.change().filter(|change| change.op == Op::Truncate) else { continue };
                let table = format!("{} ", change.table());
                // It deletes all rows of the table, of whatever name.
                for (_, writes) in history.rows.iter_mut().filter(|(row, _)| row.starts_with(&table)) {
                    let (version, offset) = ((record.hlc, node), Offset(offset as u64));
                    writes.push(RowWrite { version, offset, record, after: None });
                }
            }
        }
        history
    }
}

/// The newest write of a row. Within one transaction the later record counts. A row that existed is older than every write, but for
/// those that its node had seen when it told the row.
pub fn newest<'a, 'b>(writes: &'b [RowWrite<'a>]) -> &'b RowWrite<'a> {
    let newest = writes.iter().max_by_key(|write| (write.version, write.offset));
    let newest = newest.expect("a row is in the history because it was written");
    let told = |write: &&RowWrite| {
        let origin = &newest.record.origin;
        let seen = write.record.origin == *origin && write.offset > newest.offset;
        write.record.is_existing_row() && (seen || write.record.seen.has(origin, newest.offset))
    };
    writes.iter().filter(told).max_by_key(|write| write.offset).unwrap_or(newest)
}

pub fn columns(shape: &Shape, image: &Image) -> Columns {
    let known = shape.columns.iter().zip(image.values());
    known.filter_map(|(column, value)| Some((column.name.to_string(), value?.to_value()))).collect()
}

/// A row's table and key, as a database with the usual collations compares it.
pub fn row_name(shape: &Shape, image: &Image) -> String {
    let value = |&at: &u16| match image.get(usize::from(at)) {
        Some(ValueRef::Text(text)) => text.trim_end().to_lowercase(),
        other => format!("{other:?}"),
    };
    format!("{} {}", shape.table, shape.key.iter().map(value).collect::<Vec<_>>().join(","))
}

fn payload(columns: &Columns) -> Option<String> {
    match columns.get("payload")? {
        Value::Null => None,
        payload => Some(format!("{payload:?}")),
    }
}

fn is_apply(changes: &[Change]) -> bool {
    // Where all checkpoints are replaced, the old ones go first.
    changes.iter().take_while(|change| change.table().is_own()).any(|change| Mark::read(change).is_some())
}

/// The payload of a row, as [`Site::existed`] names it.
pub fn image_payload(shape: &Shape, image: &Image) -> Option<String> {
    payload(&columns(shape, image))
}

/// Table, op and both images by name: what must come through unchanged.
fn told(change: &Change) -> (String, &'static str, [Option<Columns>; 2]) {
    let images = [&change.before, &change.after].map(|image| image.as_ref().map(|image| columns(&change.shape, image)));
    (change.table().to_string(), change.op.word(), images)
}

/// Every row that the application wrote is in its node's topic, once, unchanged, and in commit order.
fn every_write_is_published_once(site: &Site, unpublished: &Unpublished) -> Outcome {
    let written: Vec<(Gtid, &Change)> = site
        .binlog
        .iter()
        .filter(|(gtid, changes)| !is_apply(changes) && !unpublished.has(gtid))
        .flat_map(|(gtid, changes)| changes.iter().filter(|change| !change.table().is_own()).map(move |change| (*gtid, change)))
        .collect();
    let applies: BTreeSet<Gtid> = site.binlog.iter().filter(|(_, changes)| is_apply(changes)).map(|(gtid, _)| *gtid).collect();
    let nobodys = nobodys(&site.topic);
    let whole = site.topic.iter().enumerate().filter(|(at, _)| !nobodys.contains(at)).map(|(_, record)| record);
    let records = whole.filter(|record| !applies.contains(&record.gtid));
    let published: Vec<(Gtid, &Change)> = records.filter_map(|record| Some((record.gtid, record.written()?))).collect();
    let same = |one: &(Gtid, &Change), other: &(Gtid, &Change)| one.0 == other.0 && told(one.1) == told(other.1);
    if written.len() == published.len() && written.iter().zip(&published).all(|(one, other)| same(one, other)) {
        return Ok(());
    }
    let place = written.iter().zip(&published).position(|(one, other)| !same(one, other));
    let [one, other] = [&written, &published].map(|rows| place.and_then(|place| rows.get(place)));
    Err(format!(
        "{} wrote {} rows and published {}; the first difference is at {place:?}: {one:?} became {other:?}",
        site.origin,
        written.len(),
        published.len()
    ))
}

/// No echo: of an apply transaction only what it asked for is published.
fn nothing_else_is_published(site: &Site, unpublished: &Unpublished) -> Outcome {
    let mut published: BTreeMap<Gtid, usize> = BTreeMap::new();
    for record in site.topic.iter().filter(|record| record.written().is_some()) {
        *published.entry(record.gtid).or_default() += 1;
    }
    for (gtid, changes) in site.binlog.iter().filter(|(gtid, changes)| is_apply(changes) && !unpublished.has(gtid)) {
        let asked = changes.iter().filter(|change| Rewrite::read(change).is_some()).count();
        let rows = published.get(gtid).copied().unwrap_or_default();
        if rows != asked {
            return Err(format!("{} published {rows} rows of apply transaction {gtid}, which asked for {asked}", site.origin));
        }
    }
    Ok(())
}

/// Clocks grow from transaction to transaction, positions never move back, and `last` is where a transaction ends.
fn order_and_clock(site: &Site) -> Outcome {
    for pair in site.topic.windows(2) {
        let [one, next] = pair else { continue };
        let both_data = one.written().is_some() && next.written().is_some();
        let place = format!("{} at {}", site.origin, next.gtid);
        if both_data && one.last && next.hlc <= one.hlc || next.hlc < one.hlc {
            return Err(format!("{place}: the clock did not grow: {} after {}", next.hlc, one.hlc));
        }
        if !next.position.covers_all(&one.position) && !next.begins_anew() {
            return Err(format!("{place}: the position moved back"));
        }
        if !one.last && next.gtid != one.gtid && !ended::breaks_off(next) {
            return Err(format!("{place}: the transaction before it has no last record"));
        }
        if both_data && one.last && one.gtid == next.gtid {
            return Err(format!("{place}: there is more after the last record"));
        }
    }
    Ok(())
}

/// Every node holds the newest version of every row and nothing else.
fn converged(sites: &[Site], history: &History) -> Outcome {
    let newest = history.rows.iter().filter_map(|(row, writes)| Some((row, newest(writes).after.as_ref()?)));
    let wanted: BTreeMap<&String, &Columns> = newest.collect();
    for site in sites.iter().filter(|site| !ended::is_removed(site)) {
        let held: BTreeMap<&String, &Columns> = site.rows.iter().collect();
        if held != wanted {
            let row = held.keys().chain(wanted.keys()).find(|row| held.get(*row) != wanted.get(*row)).expect("they differ");
            return Err(format!("{}: {row} is {:?}, newest is {:?}", site.origin, held.get(row), wanted.get(row)));
        }
    }
    Ok(())
}

/// A write made on top of another has the larger version, whatever the clocks say.
fn later_writes_have_larger_versions(sites: &[Site], history: &History) -> Outcome {
    for (node, site) in sites.iter().enumerate() {
        let records = site.topic.iter().filter(|record| record.written().is_some());
        let versions: BTreeMap<Gtid, Version> = records.map(|record| (record.gtid, (record.hlc, node))).collect();
        let unpublished = Unpublished::of(site);
        for (gtid, changes) in site.binlog.iter().filter(|(gtid, changes)| !is_apply(changes) && !unpublished.has(gtid)) {
            for change in changes.iter().filter(|change| !change.table().is_own()) {
                let Some(below) = change.before.as_ref().and_then(|image| payload(&columns(&change.shape, image))) else {
                    continue;
                };
                // Nobody recorded who wrote what was there before.
                if history.existed.contains(&below) {
                    continue;
                }
                let Some(&first) = history.payloads.get(&below) else {
                    if unpublished.wrote(&below) {
                        continue;
                    }
                    return Err(format!("{}: {gtid} was made on top of {below}, which nobody published", site.origin));
                };
                let (mine, below) = (versions[gtid], first);
                // A transaction may write a row twice: both have its version.
                if below > mine {
                    return Err(format!("{}: {gtid} has {mine:?}, made on top of {below:?}", site.origin));
                }
            }
        }
    }
    Ok(())
}

/// Every write is there, or was replaced by one that had seen it, or is kept as the loser of a conflict.
pub fn losers_are_kept(sites: &[Site], history: &History) -> Outcome {
    let kept: BTreeSet<&(OriginId, Hlc)> = sites.iter().flat_map(|site| &site.losers).collect();
    // Where nobody remembered the version, the image is there.
    let images: BTreeSet<&String> =
        sites.iter().flat_map(|site| &site.kept).filter(|kept| kept.lost).map(|kept| &kept.payload).collect();
    for (row, writes) in &history.rows {
        let best = newest(writes);
        // What equals the newest is not lost, and a row that existed is no write.
        // Nor is it lost where a row stands against the emptying of its table.
        let is_row = |write: &&RowWrite| !write.record.is_existing_row() && write.record.logged_row().is_some();
        let others = writes.iter().filter(|write| write.version != best.version).filter(is_row);
        for write in others.filter(|write| write.after != best.after) {
            let origin = &write.record.origin;
            let replaced = writes.iter().any(|later| {
                let seen = later.record.origin == *origin || later.record.seen.has(origin, write.offset);
                // A row that was told as it stood holds what its node had seen.
                seen && (later.version > write.version || later.record.is_existing_row())
            });
            let image = write.after.as_ref().and_then(payload);
            let kept = kept.contains(&(origin.clone(), write.version.0)) || image.is_some_and(|image| images.contains(&image));
            if !replaced && !kept {
                return Err(format!(
                    "the write of {row} by {origin} at {} vanished: nothing that had seen it replaced it, and no conflict keeps it",
                    write.version.0
                ));
            }
        }
    }
    Ok(())
}
