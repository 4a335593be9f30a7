//! Histories that end: of a node that was removed, or whose binlog was lost; and what may become of what was published nowhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use tandem::change::{Change, Gtid, GtidPosition, Record};

use super::{History, Outcome, Site, image_payload, is_apply, payload};

/// Where the topic, or the history of its node, ends, whatever was under way.
pub fn breaks_off(record: &Record) -> bool {
    record.removed_by().is_some() || record.begins_anew()
}

pub fn is_removed(site: &Site) -> bool {
    site.topic.last().is_some_and(|last| last.removed_by().is_some())
}

/// Records of transactions that were cut off by the end of a history: they count for nobody.
pub fn nobodys(topic: &[Record]) -> BTreeSet<usize> {
    let (mut nobodys, mut open) = (BTreeSet::new(), None);
    for (at, record) in topic.iter().enumerate() {
        match (record.last, open) {
            (false, None) => open = Some(at),
            (false, Some(_)) => {}
            (true, from) => {
                nobodys.extend(from.filter(|_| breaks_off(record)).unwrap_or(at)..at);
                open = None;
            }
        }
    }
    nobodys
}

/// Transactions that a node committed, and that are in its topic no more: its history was lost, or it was removed.
#[derive(Default)]
pub struct Unpublished {
    pub gtids: BTreeSet<Gtid>,
    /// What they wrote.
    payloads: BTreeSet<String>,
}

impl Unpublished {
    pub fn of(site: &Site) -> Self {
        let mut unpublished = Self::default();
        let start = Arc::new(GtidPosition::start());
        let before = std::iter::once(&start).chain(site.topic.iter().map(|record| &record.position));
        for (before, end) in before.zip(&site.topic).filter(|(_, record)| breaks_off(record)) {
            let lost = |gtid: &Gtid| !before.covers(*gtid) && (end.removed_by().is_some() || end.position.covers(*gtid));
            for (gtid, changes) in site.binlog.iter().filter(|(gtid, _)| lost(gtid)) {
                unpublished.gtids.insert(*gtid);
                unpublished.payloads.extend(changes.iter().filter_map(after));
            }
        }
        unpublished
    }

    pub fn has(&self, gtid: &Gtid) -> bool {
        self.gtids.contains(gtid)
    }

    pub fn wrote(&self, payload: &String) -> bool {
        self.payloads.contains(payload)
    }
}

fn after(change: &Change) -> Option<String> {
    image_payload(&change.shape, change.after.as_ref()?)
}

fn before(change: &Change) -> Option<String> {
    image_payload(&change.shape, change.before.as_ref()?)
}

/// Of a node whose binlog was lost: what it had written and nobody has heard of is there, was replaced by its own application, or
/// waits for a person to decide.
pub fn what_was_published_nowhere_is_kept(site: &Site, unpublished: &Unpublished) -> Outcome {
    if is_removed(site) {
        return Ok(());
    }
    let own = site.binlog.iter().filter(|(_, changes)| !is_apply(changes));
    let replaced: BTreeSet<String> = own.clone().flat_map(|(_, changes)| changes.iter().filter_map(before)).collect();
    let held: BTreeSet<String> = site.rows.values().filter_map(payload).collect();
    for (gtid, changes) in own.filter(|(gtid, _)| unpublished.has(gtid)) {
        for written in changes.iter().filter(|change| change.shape.has_key() && !change.table().is_own()).filter_map(after) {
            let kept = site.kept.iter().any(|kept| kept.open && kept.payload == written);
            if !kept && !held.contains(&written) && !replaced.contains(&written) {
                return Err(format!(
                    "{}: {written} of {gtid} was published nowhere and vanished: it is in no row, and no open conflict keeps it",
                    site.origin
                ));
            }
        }
    }
    Ok(())
}

/// A row that was there before, and that nobody wrote since, is there, or lost a unique value to another, which a conflict tells.
pub fn rows_that_existed_stay(sites: &[Site], history: &History) -> Outcome {
    let lost: BTreeSet<&String> =
        sites.iter().flat_map(|site| &site.kept).filter(|kept| kept.unique).map(|kept| &kept.payload).collect();
    for site in sites.iter().filter(|site| !is_removed(site)) {
        for (existed, row) in &site.existed {
            let writes = history.rows.get(row).into_iter().flatten();
            let is_written = writes.into_iter().any(|write| !write.record.is_existing_row());
            let is_there = site.rows.get(row).and_then(payload).as_ref() == Some(existed);
            if !is_there && !is_written && !lost.contains(existed) {
                return Err(format!("{}: {row} is gone, which was there before and which nobody wrote", site.origin));
            }
        }
    }
    Ok(())
}
