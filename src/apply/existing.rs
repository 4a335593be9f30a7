//! Rows that existed at their origin before anybody recorded who wrote them: a snapshot's.
//!
//! They fill what is missing here, and never beat a write. Where a row of the same key stands here that is no recent write
//! either, both existed and nobody can say which is newer: if they differ, the table's clock column decides, then the
//! preferred nodes, then the order of the nodes. Whoever decides publishes the row that stands as a write of its own, so
//! that all nodes come to one, in whatever order they meet; the other is kept as a conflict. Two rows that want one unique
//! value are told apart by what all nodes see alike, the clock column and the key, or each could lose to the other.

use std::cmp::Ordering;

use super::decide::Entry;
use super::engine::Engine;
use super::group::Group;
use super::refer::{alone, surprised};
use super::rows::{Rows, holders};
use super::settle::{Trouble, conflict_id, image_of, put_of};
use super::step::{Step, canonical};
use super::work::Work;
use super::{ApplyError, Policy};
use crate::change::wire::same_value;
use crate::change::{Change, Hlc, Image, NodeRank, Op, RowKey, Shape, ValueRef, Version};
use crate::observe::Fate;
use crate::runtime::{Disposition, Fault};
use crate::target::{
    ApplyTransaction, CanonicalKey, Conflict, ConflictKind, Held, SeedKind, Side, TargetError, Write, WriteError,
};

impl Engine<'_> {
    /// Decides about a row that existed at the group's origin, and writes it where it stands.
    pub async fn settle_existing(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        trouble: &Trouble,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<Fate, ApplyError> {
        let place = &step.canonical;
        let written = work.published.contains_key(place) || rows.is_noted(place);
        let entry = rows.entry(&step.canonical, self.index)?;
        let incoming = group.change(step.at);
        // A new node has rows that others deleted before it took part: it tells them as of a place where all of that is known to it.
        let is_known_there = |entry: &Entry| {
            let cluster = &self.options.cluster;
            entry.version.node == group.node
                || group.records[step.at].1.seen.has(cluster.name(entry.version.node), entry.offset)
        };
        let stands = entry.is_some_and(|entry| rows.held(&step.canonical).is_some() || !is_known_there(&entry));
        // The seeder's rows for an earlier question may come yet, of before it had come to what this node wrote.
        let is_older = entry.is_some_and(|entry| !is_known_there(&entry));
        if written || stands && (is_older || !self.is_stale(entry.as_ref())) {
            return Ok(Fate::LostToNewer);
        }
        let Some(held) = rows.held(&step.canonical).cloned() else {
            return self.write_existing(transaction, group, step, None, trouble, rows, work).await;
        };
        if agree(incoming, &held) {
            return Ok(Fate::Duplicate);
        }
        let mut arrives = self.stands(incoming, &held, group.node).is_gt();
        if let Some(seed) = self.seed {
            if seed.seeder != group.node {
                // The seeder's row comes, or came.
                return Ok(Fate::LostToNewer);
            }
            if seed.state.kind == SeedKind::Away {
                return self.write_existing(transaction, group, step, Some(&held), trouble, rows, work).await;
            }
            // Nobody can say which is newer but a clock: without one it is more likely that this node missed something.
            let column = self.options.clock(incoming.table());
            arrives = clock_of(incoming, column) >= clock_of_held(&held, column);
        }
        self.keep_both(ConflictKind::InsertExists, group, step, &step.canonical, &held, arrives, work);
        if !arrives {
            work.publish(&step.canonical, put_of(&held));
            return Ok(Fate::LostToNewer);
        }
        self.write_existing(transaction, group, step, Some(&held), trouble, rows, work).await
    }

    /// Writes the row, in place of `replaced` where one of its key stands here. A row that replaces another, or takes a unique
    /// value from it, is published by us, too.
    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    async fn write_existing(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        replaced: Option<&Held>,
        trouble: &Trouble,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<Fate, ApplyError> {
        let incoming = group.change(step.at);
        let at = group.offset(step.at);
        let in_the_way = holders(transaction, incoming).await?;
        let keys: Vec<RowKey> = in_the_way.iter().map(|held| held.key.clone()).collect();
        let in_the_way: Vec<_> = in_the_way.into_iter().zip(canonical(self.target, &keys).await?).collect();
        if surprised(in_the_way.iter().map(|(held, key)| (key, &held.key)), rows, trouble, work) {
            return Ok(Fate::SetAside);
        }
        let column = self.options.clock(incoming.table());
        let mut in_the_way = in_the_way;
        if self.seed.is_some() {
            let mut known = Vec::with_capacity(in_the_way.len());
            for (held, key) in in_the_way {
                let entry = rows.entry(&key, self.index)?;
                if work.published.contains_key(&key) || !self.is_stale(entry.as_ref()) {
                    known.push((held, key));
                    continue;
                }
                // It comes as it is now, with a value of its own.
                if self.may_be_alone(entry.as_ref()) {
                    let arrives = Side { origin: group.origin.clone(), hlc: Hlc::default(), row: image_of(step) };
                    self.keep_unheard_of(ConflictKind::UniqueTaken, &key, &held, arrives, work);
                }
                transaction.write(&[Write::DeleteAlone(held.key)]).await.map_err(|failed| failed.error)?;
                rows.held.insert(key, None);
            }
            in_the_way = known;
        }
        for (held, key) in &in_the_way {
            let is_written = work.published.contains_key(key) || rows.entry(key, self.index)?.is_some();
            let by_clock = clock_of(incoming, column).cmp(&clock_of_held(held, column));
            if !is_written && by_clock.then_with(|| key.cmp(&step.canonical)).is_gt() {
                continue;
            }
            self.keep_both(ConflictKind::UniqueTaken, group, step, &step.canonical, held, false, work);
            match replaced {
                Some(own) => work.publish(&step.canonical, put_of(own)),
                None if self.remove_referring(transaction, group, step, &step.key, trouble, rows, work).await? => {
                    work.remove(transaction, at, &step.key, &step.canonical).await?;
                }
                None => {}
            }
            return Ok(Fate::LostToNewer);
        }
        for (held, key) in &in_the_way {
            self.keep_both(ConflictKind::UniqueTaken, group, step, key, held, true, work);
            if !self.remove_referring(transaction, group, step, &held.key, trouble, rows, work).await? {
                return Ok(Fate::LostToNewer);
            }
            work.remove(transaction, at, &held.key, key).await?;
        }
        let write = match replaced {
            Some(_) => Write::Put(Change { op: Op::Update, ..incoming.clone() }),
            None => step.write.clone(),
        };
        let written = match transaction.write(std::slice::from_ref(&write)).await {
            // Its parent comes, or was deleted by somebody who will hear of the row.
            Err(WriteError { error: TargetError::ParentMissing { .. }, .. }) if !group.again => {
                transaction.write(&[alone(&write)]).await
            }
            other => other,
        };
        match written {
            Ok(()) => {
                rows.note(&step.canonical, group.version(step.at), at);
                // What stood here before a seeder's row is known to nobody else.
                let told = replaced.is_some() && self.seed.is_none();
                if told || !in_the_way.is_empty() {
                    work.publish(&step.canonical, Change { op: Op::Update, ..incoming.clone() });
                }
                Ok(Fate::Applied)
            }
            Err(WriteError { error: TargetError::UniqueTaken { .. }, .. }) if trouble.patient() => {
                work.surprised = true;
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {
                work.failed.insert(at, error.to_string());
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) => Err(error.into()),
        }
    }

    /// Greater where the row that arrives stands: neither is a write that anybody remembers.
    fn stands(&self, incoming: &Change, held: &Held, from: NodeRank) -> Ordering {
        let column = self.options.clock(incoming.table());
        let cluster = &self.options.cluster;
        let place = |node: NodeRank| match self.options.policy(incoming.table()) {
            Policy::Prefer(order) => order.iter().position(|name| name == cluster.name(node)).unwrap_or(order.len()),
            Policy::NewestWins | Policy::Manual => 0,
        };
        let own = cluster.own_rank();
        let by_clock = clock_of(incoming, column).cmp(&clock_of_held(held, column));
        by_clock.then_with(|| place(own).cmp(&place(from))).then_with(|| own.cmp(&from))
    }

    /// Keeps the row that arrives and one that stands here as a conflict about the row of `canonical`.
    #[expect(clippy::too_many_arguments, reason = "what a conflict is made of")]
    fn keep_both(
        &self,
        kind: ConflictKind,
        group: &Group,
        step: &Step,
        canonical: &CanonicalKey,
        held: &Held,
        arrives: bool,
        work: &mut Work,
    ) {
        let cluster = &self.options.cluster;
        let version = |node| Version { hlc: Hlc::default(), node };
        let side = |node, row| Side { origin: cluster.name(node).clone(), hlc: Hlc::default(), row };
        let arrived = side(group.node, image_of(step));
        let here = side(cluster.own_rank(), Some((held.key.clone(), held.image.clone())));
        let key = if *canonical == step.canonical { &step.key } else { &held.key };
        let (winner, loser) = if arrives { (arrived, here) } else { (here, arrived) };
        work.conflicts.push(Conflict {
            id: conflict_id(canonical, version(group.node), version(cluster.own_rank())),
            kind,
            key: key.clone(),
            winner,
            loser,
            open: *self.options.policy(key.table()) == Policy::Manual
                || self.seed.is_some_and(|seed| seed.state.kind == SeedKind::HistoryLost),
        });
    }
}

/// Whether the two rows say the same in every column that both have and that no server computes.
pub fn agree(incoming: &Change, held: &Held) -> bool {
    let Some(after) = &incoming.after else { return false };
    let shape = &held.key.shape;
    incoming.shape.columns.iter().zip(after.values()).all(|(column, value)| {
        let here = shape.find(&column.name).filter(|&at| !shape.columns[at].generated && !column.generated);
        match (value, here.and_then(|at| held.image.get(at))) {
            (Some(value), Some(own)) => same_value(value, own),
            _ => true,
        }
    })
}

/// What the table's clock column says, as the server prints dates: later is greater, and NULL or no such column is least.
fn clock_of<'c>(change: &'c Change, column: Option<&str>) -> Option<&'c str> {
    text_at(&change.shape, change.after.as_ref()?, column?)
}

fn clock_of_held<'h>(held: &'h Held, column: Option<&str>) -> Option<&'h str> {
    text_at(&held.key.shape, &held.image, column?)
}

fn text_at<'i>(shape: &Shape, image: &'i Image, column: &str) -> Option<&'i str> {
    image.get(shape.find(column)?).and_then(ValueRef::as_text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::group::tests::record;
    use super::super::twins::apply_until;
    use super::*;
    use crate::change::{Body, Column, ColumnKind, Offset, OriginId, Record, Seen, TableName, Value};
    use crate::target::memory::{MemoryOptions, MemoryTable, MemoryTarget};
    use crate::topic::TopicWriter as _;
    use crate::topic::memory::{FairWeather, MemoryTopics};

    /// A new node skips what others wrote before it took part, deletes among it. What it has all the same it tells as of a place where
    /// it had passed them.
    #[tokio::test(start_paused = true)]
    async fn a_delete_that_the_node_had_passed_does_not_keep_its_row_out_and_another_one_does() {
        let columns = vec![Column { name: "id".into(), kind: ColumnKind::Integer, generated: false }];
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns, key: vec![0] });
        let [b, c] = ["b", "c"].map(OriginId::new);
        let image = |id| Some(Image::of([Some(Value::Int(id))]));
        let told = |origin: &OriginId, sequence, op, id, seen: &[u64]| {
            let (before, after) = if op == Op::Delete { (image(id), None) } else { (None, image(id)) };
            let change = Change { shape: shape.clone(), op, before, after, checks: Default::default() };
            let seen = seen.iter().map(|&offset| (c.clone(), Offset(offset))).collect();
            let seen = Arc::new(Seen(seen));
            Record { origin: origin.clone(), seen, body: Body::Change(change), ..record(sequence, 0, true).1 }
        };
        let topics = MemoryTopics::new();
        let deletes = [told(&c, 1, Op::Delete, 1, &[]), told(&c, 2, Op::Delete, 2, &[])];
        // Of the first delete it knows.
        let rows = [told(&b, 1, Op::Read, 1, &[0]), told(&b, 1, Op::Read, 2, &[0])];
        for (origin, records) in [(&c, deletes), (&b, rows)] {
            let mut writer = topics.writer(origin.clone(), Arc::new(FairWeather));
            writer.resume().await.unwrap();
            writer.append(Offset(0), &records).await.unwrap();
        }
        let table = MemoryTable { shape: shape.clone(), unique: None, refers: None };
        let target = MemoryTarget::new([table], MemoryOptions::default());
        // The fourth has told nothing, so that no delete is forgotten.
        apply_until(&target, topics, &["a", "b", "c", "d"], 2).await.unwrap();
        assert_eq!(target.rows(&shape.table), [image(1).unwrap()]);
    }
}
