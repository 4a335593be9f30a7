//! Consecutive transactions of one origin that are applied in one commit.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ApplyOptions;
use super::large::{Large, Stream};
use super::stability::Stability;
use crate::change::{Change, Hlc, Mark, NodeRank, Offset, Op, OriginId, Record, Seen, Version};

/// Whole transactions of one origin, with the checkpoint that they end at.
pub struct Group {
    pub node: NodeRank,
    pub origin: OriginId,
    /// Records that hold a change, oldest first.
    pub records: Vec<(Offset, Record)>,
    /// Records that were skipped because the checkpoint already covers their transaction.
    pub duplicates: u64,
    pub mark: Mark,
    /// What the origin had seen by the end of the group.
    pub seen: Arc<Seen>,
    /// It was set aside, and somebody has it applied once more: it is late, and what the others did because of it is done.
    pub again: bool,
    /// Records that wait, each with the number of the statement that they wait behind.
    pub parked: Vec<(u64, usize)>,
    /// Changes that waited, and are applied by this group.
    pub unparked: Vec<u64>,
    /// Not changes that were told, but the rows of a table that was emptied.
    pub empties: bool,
}

impl Group {
    /// Nothing but a checkpoint.
    pub fn empty(node: NodeRank, mark: Mark) -> Self {
        let (records, parked, unparked, seen) = Default::default();
        let origin = mark.origin.clone();
        Self { node, origin, records, duplicates: 0, mark, seen, parked, unparked, empties: false, again: false }
    }

    pub fn version(&self, at: usize) -> Version {
        let record = &self.records[at].1;
        // A row that existed is older than every write.
        let hlc = if record.is_existing_row() { Hlc::default() } else { record.hlc };
        Version { hlc, node: self.node }
    }

    /// At least the version that our tailer gives to what this group's transaction asks it to publish.
    pub fn version_of_rewrites(&self, own: NodeRank) -> Version {
        Version { hlc: self.mark.hlc.next(), node: own }
    }

    pub fn offset(&self, at: usize) -> Offset {
        self.records[at].0
    }

    pub fn change(&self, at: usize) -> &Change {
        self.records[at].1.change().expect("a group's records hold changes")
    }
}

/// What an origin has to be applied next.
pub enum Next {
    Group(Group),
    /// Too large for memory. Reading begins anew after it.
    Stream(Stream),
    /// What stands by itself: something that the origin tells, a statement that defines tables, or a table that is emptied;
    /// and the checkpoint after it.
    Single {
        offset: Offset,
        record: Record,
        mark: Mark,
    },
}

/// What keeps the next record of an origin from being applied.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Hold {
    /// Its origin had seen something that we have not applied yet.
    Cause,
    /// It is from further in the future than we believe.
    Clock { ahead_seconds: f64 },
}

/// Changes in the first group of a run. From then on each commit allows twice as many, up to the limit of the options: a large group
/// that is cut off again and again by a bad connection would be begun anew for ever.
const FIRST_GROUP: usize = 16;

/// Of rows that existed at their origin so many times as many go into one commit: nobody has them here, so hardly anybody waits for
/// their locks, and each commit asks the disk.
const EXISTING_TIMES: usize = 8;

/// Records of one origin that were read and not yet applied.
pub struct Waiting {
    pub node: NodeRank,
    pub origin: OriginId,
    pub mark: Mark,
    records: VecDeque<(Offset, Record)>,
    /// Changes among them, and bytes of all.
    changes: u64,
    bytes: usize,
    /// Changes that a group may have by now.
    allowed: usize,
    /// Set when the oldest transaction is too large: what is read is then only searched for its end.
    large: Option<Large>,
    /// The origin was removed, and the record that says so is taken: nothing counts after it.
    ended: bool,
}

impl Waiting {
    pub fn new(node: NodeRank, origin: OriginId, mark: Option<Mark>) -> Self {
        let mark = mark.unwrap_or_else(|| Mark {
            origin: origin.clone(),
            next: Offset(0),
            data: None,
            position: Default::default(),
            hlc: Hlc::default(),
        });
        Self {
            node,
            origin,
            mark,
            records: VecDeque::new(),
            changes: 0,
            bytes: 0,
            allowed: FIRST_GROUP,
            large: None,
            ended: false,
        }
    }

    /// False where memory is full, or what is read next must wait for a large transaction.
    pub fn has_room(&self, options: &ApplyOptions) -> bool {
        match &self.large {
            Some(large) => large.last.is_none(),
            None => self.bytes < options.buffer_bytes,
        }
    }

    pub fn push(&mut self, batch: Vec<(Offset, Record)>, options: &ApplyOptions) {
        if self.ended {
            return;
        }
        if let Some(at) = batch.iter().position(|(_, record)| breaks_off(record)) {
            return self.push_end(batch, at, options);
        }
        if let Some(large) = &mut self.large {
            large.last = batch.into_iter().find(|(_, record)| record.last).map(|(at, record)| (at, Arc::new(record)));
            return;
        }
        self.bytes += batch.iter().map(|(_, record)| record.weight()).sum::<usize>();
        self.changes += batch.iter().filter(|(_, record)| record.change().is_some()).count() as u64;
        self.records.extend(batch);
        self.notice_large(options);
    }

    /// What comes up to the end of a topic or of a history. A transaction that is not whole by then never is, and is nobody's: no node
    /// can have applied it.
    fn push_end(&mut self, mut batch: Vec<(Offset, Record)>, at: usize, options: &ApplyOptions) {
        let rest = batch.split_off(at + 1);
        let end = batch.pop();
        if let Some(large) = &mut self.large {
            large.last = batch.into_iter().find(|(_, record)| record.last).map(|(at, record)| (at, Arc::new(record)));
            if large.last.is_some() {
                // Reading begins anew after it, and comes to the end again.
                return;
            }
            self.large = None;
        } else {
            self.records.extend(batch);
        }
        while self.records.back().is_some_and(|(_, record)| !record.last) {
            self.records.pop_back();
        }
        let is_removal = end.as_ref().is_some_and(|(_, record)| record.removed_by().is_some());
        self.records.extend(end);
        self.bytes = self.records.iter().map(|(_, record)| record.weight()).sum();
        self.changes = self.records.iter().filter(|(_, record)| record.change().is_some()).count() as u64;
        if !is_removal && !rest.is_empty() {
            self.push(rest, options);
        }
    }

    /// Lets a transaction go that fills the memory and has not ended.
    fn notice_large(&mut self, options: &ApplyOptions) {
        if self.bytes >= options.buffer_bytes
            && !self.records.iter().any(|(_, record)| record.last)
            && let Some((first, record)) = self.records.front().filter(|(_, record)| !stands_alone(record))
        {
            self.large = Some(Large::begin(*first, record));
            self.records.clear();
            (self.changes, self.bytes) = (0, 0);
        }
    }

    pub fn is_large(&self) -> bool {
        self.large.is_some()
    }

    /// The large transaction is applied: reading goes on after it.
    pub fn forget_large(&mut self) {
        self.large = None;
    }

    /// A group was committed: the next may be larger. One that had to be settled row by row held its locks long, so that rows which
    /// existed come in ordinary groups again.
    pub fn grow(&mut self, settled: bool, options: &ApplyOptions) {
        let twice = self.allowed.saturating_mul(2);
        self.allowed = if settled { twice.min(options.group_changes) } else { twice };
    }

    /// Changes that wait in memory.
    pub fn len(&self) -> u64 {
        self.changes
    }

    /// The next records to apply: as many whole transactions as the limits allow, at least one. `Ok(None)` where no
    /// whole transaction is here.
    pub fn next(&mut self, options: &ApplyOptions, stability: &Stability, now_micros: u64) -> Result<Option<Next>, Hold> {
        let believed = now_micros.saturating_add(options.max_clock_skew.as_micros() as u64);
        let held = |hlc: Hlc, seen: &Seen| {
            if hlc.0 > believed {
                Some(Hold::Clock { ahead_seconds: (hlc.0 - now_micros) as f64 / 1e6 })
            } else {
                (!stability.has_all(seen, self.node)).then_some(Hold::Cause)
            }
        };
        if let Some(large) = &self.large {
            let Some((last, record)) = &large.last else { return Ok(None) };
            if let Some(hold) = held(large.hlc, &large.seen) {
                return Err(hold);
            }
            if self.mark.position.covers(large.gtid) {
                let mut group = self.group(vec![(*last, Record::clone(record))]);
                group.duplicates = last.0 + 1 - large.first.0;
                return Ok(Some(Next::Group(group)));
            }
            let mut mark = self.mark_after(*last, record);
            mark.data = Some(*last);
            let stream =
                Stream { node: self.node, origin: self.origin.clone(), first: large.first, mark, seen: large.seen.clone() };
            return Ok(Some(Next::Stream(stream)));
        }
        let (mut take, mut changes, mut bytes) = (0, 0, 0);
        let (mut group_changes, mut group_bytes) = (0, 0);
        let (mut hold, mut existing) = (None, true);
        for (number, (_, record)) in self.records.iter().enumerate() {
            hold = held(record.hlc, &record.seen);
            if hold.is_some() {
                break;
            }
            // What it says is about the place where it is: all before it is applied first.
            if stands_alone(record) {
                if number == 0 {
                    return Ok(self.take_single(options));
                }
                // Rows of the same transaction that come before a statement have been committed before it.
                if take == 0 {
                    (take, group_changes, group_bytes) = (number, changes, bytes);
                }
                break;
            }
            changes += usize::from(record.change().is_some());
            bytes += record.weight();
            existing &= record.is_existing_row();
            if record.last {
                let most = options.group_changes.saturating_mul(if existing { EXISTING_TIMES } else { 1 });
                let full = changes > most.min(self.allowed) || bytes > options.group_bytes;
                if full && take > 0 {
                    break;
                }
                take = number + 1;
                (group_changes, group_bytes) = (changes, bytes);
                if full {
                    break;
                }
            }
        }
        match (take, hold) {
            (0, Some(hold)) => Err(hold),
            (0, None) => Ok(None),
            _ => {
                debug_assert!(group_changes <= take);
                self.bytes -= group_bytes;
                self.changes -= group_changes as u64;
                let taken: Vec<_> = self.records.drain(..take).collect();
                Ok(Some(Next::Group(self.group(taken))))
            }
        }
    }

    fn take_single(&mut self, options: &ApplyOptions) -> Option<Next> {
        let (offset, record) = self.records.pop_front()?;
        self.bytes -= record.weight();
        self.changes -= u64::from(record.change().is_some());
        let is_of_its_transaction = record.note().is_none() && !record.schema().is_some_and(|change| change.existing);
        if is_of_its_transaction && self.mark.position.covers(record.gtid) {
            // It came twice, and much may have been written since the first time.
            let mut group = self.group(vec![(offset, record)]);
            group.duplicates = 1;
            return Some(Next::Group(group));
        }
        let mut mark = self.mark_after(offset, &record);
        self.ended = record.removed_by().is_some();
        // That it is taken has to be known to all, so it counts in what we tell that we have seen.
        if record.note().is_none() || self.ended {
            mark.data = Some(offset);
        }
        self.notice_large(options);
        Some(Next::Single { offset, record, mark })
    }

    /// The checkpoint after a record that ends a transaction.
    fn mark_after(&self, at: Offset, last: &Record) -> Mark {
        let mut mark = Mark {
            origin: self.origin.clone(),
            next: at.next(),
            data: self.mark.data,
            // A server that was set up anew counts from the beginning.
            position: if last.begins_anew() { Default::default() } else { self.mark.position.clone() },
            hlc: last.hlc.max(self.mark.hlc),
        };
        last.position.iter().for_each(|gtid| mark.position.advance(gtid));
        mark
    }

    fn group(&self, taken: Vec<(Offset, Record)>) -> Group {
        let (last_offset, last) = taken.last().expect("a group has at least one record");
        let mut mark = self.mark_after(*last_offset, last);
        let seen = last.seen.clone();
        let mut duplicates = 0;
        let mut records = taken;
        records.retain(|(_, record)| {
            let duplicate = record.written().is_some() && self.mark.position.covers(record.gtid);
            duplicates += u64::from(duplicate);
            record.change().is_some() && !duplicate
        });
        if let Some((offset, _)) = records.last() {
            mark.data = Some(*offset);
        }
        let (parked, unparked) = Default::default();
        let origin = self.origin.clone();
        Group { node: self.node, origin, records, duplicates, mark, seen, parked, unparked, empties: false, again: false }
    }
}

/// What is taken by itself, after all that comes before it.
fn stands_alone(record: &Record) -> bool {
    record.note().is_some() || record.schema().is_some() || record.change().is_some_and(|change| change.op == Op::Truncate)
}

/// Where the origin's topic or its history ends, whatever was under way.
pub fn breaks_off(record: &Record) -> bool {
    record.removed_by().is_some() || record.begins_anew()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::change::{Body, Cluster, Gtid};

    pub fn record(sequence: u64, row: u64, last: bool) -> (Offset, Record) {
        let gtid = Gtid { domain: 0, server: 1, sequence };
        let passed = if last { sequence } else { sequence - 1 };
        let position = [Gtid { sequence: passed, ..gtid }].into_iter().collect();
        let record = Record {
            origin: OriginId::new("b"),
            gtid,
            row,
            table_row: row,
            hlc: Hlc(sequence),
            seen: Arc::default(),
            last,
            position: Arc::new(position),
            read_from: None,
            commit_second: 0,
            server_id: 1,
            coordinates: Default::default(),
            trace: None,
            body: Body::Heartbeat,
        };
        (Offset(10 * sequence + row), record)
    }

    /// A row that existed: each stands by itself.
    fn existing(number: u64) -> (Offset, Record) {
        use crate::change::{Checks, Shape, TableName};
        let (at, mut record) = record(1, number, true);
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns: Vec::new(), key: Vec::new() });
        record.body = Body::Change(Change { shape, op: Op::Read, before: None, after: None, checks: Checks::default() });
        (at, record)
    }

    #[test]
    fn rows_that_existed_come_in_large_groups_as_long_as_none_is_settled() {
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let stability = Stability::new(cluster.clone());
        let options = ApplyOptions { group_changes: 20, ..ApplyOptions::new(cluster) };
        let mut waiting = Waiting::new(NodeRank(1), names[1].clone(), None);
        waiting.push((0..2_000).map(existing).chain((2..9).map(|sequence| record(sequence, 0, true))).collect(), &options);
        let mut taken = |settled: Option<bool>| {
            if let Some(settled) = settled {
                waiting.grow(settled, &options);
            }
            let Ok(Some(Next::Group(group))) = waiting.next(&options, &stability, 9) else { panic!("there are more") };
            group.records.len()
        };
        assert_eq!(taken(None), FIRST_GROUP);
        let grown: Vec<usize> = (0..5).map(|_| taken(Some(false))).collect();
        assert_eq!(grown, [32, 64, 128, 160, 160]);
        assert_eq!([taken(Some(true)), taken(Some(true))], [20, 20], "locks are held long while rows are settled one by one");
        assert_eq!([taken(Some(false)), taken(Some(false))], [40, 80]);
    }

    /// A table that was emptied again would lose what was written to it since.
    #[test]
    fn what_stands_alone_is_skipped_where_it_comes_twice() {
        use crate::change::{Shape, TableName};
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let (stability, options) = (Stability::new(cluster.clone()), ApplyOptions::new(cluster));
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns: Vec::new(), key: Vec::new() });
        let change = Change { shape, op: Op::Truncate, before: None, after: None, checks: Default::default() };
        let emptied = |offset| (Offset(offset), Record { body: Body::Change(change.clone()), ..record(1, 0, true).1 });
        let mut waiting = Waiting::new(NodeRank(1), names[1].clone(), None);
        waiting.push(vec![emptied(0), emptied(1)], &options);
        let Ok(Some(Next::Single { mark, .. })) = waiting.next(&options, &stability, 9) else { panic!("it is new") };
        waiting.mark = mark;
        let Ok(Some(Next::Group(group))) = waiting.next(&options, &stability, 9) else { panic!("it came before") };
        assert_eq!((group.records.len(), group.duplicates, group.mark.next), (0, 1, Offset(2)));
    }

    /// A server that was set up anew gives the numbers of the old one again.
    #[test]
    fn a_history_that_begins_anew_is_not_compared_with_the_one_before() {
        use crate::change::{Shape, TableName};
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let (stability, options) = (Stability::new(cluster.clone()), ApplyOptions::new(cluster));
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns: Vec::new(), key: Vec::new() });
        let change = Change { shape, op: Op::Insert, before: None, after: None, checks: Default::default() };
        let written = |sequence| {
            let (offset, record) = record(sequence, 0, true);
            (offset, Record { body: Body::Change(change.clone()), ..record })
        };
        let check = |anew: bool, expected: (usize, u64)| {
            let mut waiting = Waiting::new(NodeRank(1), names[1].clone(), None);
            waiting.push(vec![written(900)], &options);
            let Ok(Some(Next::Group(group))) = waiting.next(&options, &stability, 999) else { panic!("it is whole") };
            waiting.mark = group.mark;
            if anew {
                // In the middle of a transaction that never ends.
                let (offset, cut_off) = record(901, 0, false);
                let position = [Gtid { domain: 0, server: 1, sequence: 5 }].into_iter().collect();
                waiting.push(vec![(offset, cut_off.clone()), (offset.next(), Record::anew(&cut_off, position))], &options);
                let Ok(Some(Next::Single { mark, .. })) = waiting.next(&options, &stability, 999) else {
                    panic!("it is a note")
                };
                waiting.mark = mark;
            }
            waiting.push(vec![written(6)], &options);
            let Ok(Some(Next::Group(group))) = waiting.next(&options, &stability, 999) else { panic!("it is whole") };
            assert_eq!((group.records.len(), group.duplicates), expected, "anew: {anew}");
        };
        check(true, (1, 0));
        check(false, (0, 1));
    }

    /// The end of the topic of a node that was removed.
    fn end(after: &(Offset, Record)) -> (Offset, Record) {
        (after.0.next(), Record::removal(&after.1.origin, Some(&after.1), &OriginId::new("a")))
    }

    #[test]
    fn a_transaction_that_a_removed_node_never_ended_counts_for_nobody_and_nothing_does_after_it() {
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let stability = Stability::new(cluster.clone());
        let options = ApplyOptions::new(cluster);
        let cut_off = record(2, 1, false);
        let ends = end(&cut_off);
        let check = |buffer_bytes: usize| {
            let options = ApplyOptions { buffer_bytes, ..options.clone() };
            let mut waiting = Waiting::new(NodeRank(1), names[1].clone(), None);
            waiting.push(vec![record(1, 0, true)], &options);
            let Ok(Some(Next::Group(group))) = waiting.next(&options, &stability, 9) else { panic!("it is whole") };
            waiting.mark = group.mark;
            waiting.push(vec![record(2, 0, false)], &options);
            assert_eq!(waiting.is_large(), buffer_bytes == 1);
            waiting.push(vec![cut_off.clone(), ends.clone(), record(3, 0, true)], &options);
            assert!(!waiting.is_large());
            let Ok(Some(Next::Single { record: last, mark, .. })) = waiting.next(&options, &stability, 9) else { panic!() };
            assert_eq!(last.removed_by(), Some(&names[0]));
            assert_eq!((mark.next, mark.data), (ends.0.next(), Some(ends.0)), "it is told to all that it is taken");
            assert!(!mark.position.covers(cut_off.1.gtid));
            waiting.push(vec![record(4, 0, true)], &options);
            assert!(matches!(waiting.next(&options, &stability, 9), Ok(None)), "nothing counts after it");
        };
        check(1);
        check(8 << 20);
    }

    #[test]
    fn a_transaction_that_does_not_fit_is_let_go_and_found_again_when_its_end_is_there() {
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let stability = Stability::new(cluster.clone());
        let options = ApplyOptions { buffer_bytes: 1, ..ApplyOptions::new(cluster) };
        let mut waiting = Waiting::new(NodeRank(1), names[1].clone(), None);
        waiting.push(vec![record(1, 0, true)], &options);
        assert!(!waiting.has_room(&options) && !waiting.is_large(), "a whole transaction waits, however large");
        assert!(matches!(waiting.next(&options, &stability, 0), Ok(Some(Next::Group(_)))));

        waiting.push(vec![record(2, 0, false)], &options);
        assert!(waiting.is_large() && waiting.len() == 0);
        for row in 1..4 {
            assert!(waiting.has_room(&options), "its end must be found");
            assert!(matches!(waiting.next(&options, &stability, 0), Ok(None)), "and nothing is begun before");
            let mut batch = vec![record(2, row, row == 3)];
            batch.extend((row == 3).then(|| record(3, 0, true)));
            waiting.push(batch, &options);
        }
        assert!(!waiting.has_room(&options));
        let Ok(Some(Next::Stream(stream))) = waiting.next(&options, &stability, 0) else { panic!("it is whole now") };
        assert_eq!((stream.first, stream.mark.next, stream.mark.data), (Offset(20), Offset(24), Some(Offset(23))));
        assert!(stream.mark.position.covers(Gtid { domain: 0, server: 1, sequence: 2 }));
        assert!(!stream.mark.position.covers(Gtid { domain: 0, server: 1, sequence: 3 }));
    }
}
