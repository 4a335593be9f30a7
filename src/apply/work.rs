//! What one apply transaction has done so far, and what it has to tell when it is durable.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ApplyError;
use super::decide::Entry;
use super::group::Group;
use super::step::{Step, delete_of};
use crate::change::{Change, Offset, Op, OriginId, Rewrite, RowKey, TableName};
use crate::observe::{Fate, Followed, Observer};
use crate::runtime::{Disposition, Fault};
use crate::target::{ApplyTransaction, CanonicalKey, Conflict, DeadLetter, TargetError, Write, WriteError};

/// What our tailer publishes of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    Gone,
    Stands,
}

/// One transaction's work besides writing the rows that win.
#[derive(Default)]
pub struct Work {
    pub tally: Tally,
    pub conflicts: Vec<Conflict>,
    pub dead_letters: Vec<DeadLetter>,
    pub rewrites: Vec<Rewrite>,
    /// Rows that our tailer will publish anew, newer than everything of the transaction: what comes after in it has
    /// lost already, and to write it would leave it here and nowhere else.
    pub published: BTreeMap<CanonicalKey, Published>,
    /// Those of them that go.
    pub gone: BTreeMap<CanonicalKey, RowKey>,
    /// Rows that went along with one of these, of which nothing is published.
    pub went_along: BTreeMap<CanonicalKey, RowKey>,
    /// Rows that met another node's write, and that this transaction has written since.
    pub won: BTreeMap<CanonicalKey, Entry>,
    /// Records that could not be applied, and why.
    pub failed: BTreeMap<Offset, String>,
    /// Changes that were set aside earlier, and need nobody any more.
    pub mended: Vec<(OriginId, Offset)>,
    /// A row that we had not locked holds a unique value, or refers to one that goes: start again, and lock it too.
    pub surprised: bool,
    /// Those rows, where they are known.
    pub missed: BTreeMap<CanonicalKey, RowKey>,
}

impl Work {
    /// Has our tailer publish what becomes of a row. Of two about one row the later counts, as everywhere; that it goes is said
    /// once, however many changes of the transaction the row stands against.
    pub fn publish(&mut self, canonical: &CanonicalKey, change: Change) {
        let now = if change.op == Op::Delete { Published::Gone } else { Published::Stands };
        let before = self.published.insert(canonical.clone(), now);
        match change.key().filter(|_| now == Published::Gone) {
            Some(key) => drop(self.gone.insert(canonical.clone(), key)),
            None => drop(self.gone.remove(canonical)),
        }
        if (before, now) != (Some(Published::Gone), Published::Gone) {
            self.rewrites.push(Rewrite { change });
        }
    }

    /// Removes a row here, and has the tailer publish that.
    pub async fn remove(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        of: Offset,
        key: &RowKey,
        canonical: &CanonicalKey,
    ) -> Result<(), TargetError> {
        match transaction.write(&[Write::DeleteAlone(key.clone())]).await {
            Ok(()) => {
                self.publish(canonical, delete_of(key));
                Ok(())
            }
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {
                self.failed.insert(of, error.to_string());
                Ok(())
            }
            Err(WriteError { error, .. }) => Err(error),
        }
    }

    /// Writes what is to be kept into the transaction, and counts it.
    pub async fn keep(&mut self, transaction: &mut dyn ApplyTransaction) -> Result<(), ApplyError> {
        transaction.rewrite(&self.rewrites).await?;
        transaction.keep_conflicts(&self.conflicts).await?;
        transaction.keep_dead_letters(&self.dead_letters).await?;
        transaction.mend(&self.mended).await?;
        self.mended.clear();
        self.rewrites.clear();
        for conflict in self.conflicts.drain(..) {
            let of = (conflict.key.table().clone(), conflict.kind.word(), conflict.winner.origin);
            *self.tally.conflicts.entry(of).or_default() += 1;
        }
        for letter in self.dead_letters.drain(..) {
            *self.tally.dead_letters.entry((letter.change.table().clone(), letter.reason)).or_default() += 1;
        }
        Ok(())
    }
}

/// Of a transaction too large for memory this many changes are followed one by one; all are counted.
const FOLLOWED_MAX: usize = 10_000;

/// What a transaction did, counted: told when it is durable.
#[derive(Default)]
pub struct Tally {
    changes: BTreeMap<(TableName, Op, Fate), u64>,
    conflicts: BTreeMap<(TableName, &'static str, OriginId), u64>,
    dead_letters: BTreeMap<(TableName, String), u64>,
    /// What became of each of the last changes.
    followed: Vec<Followed>,
    /// It was settled row by row.
    pub settled: bool,
    /// How long the row locks waited for the local tailer.
    pub waited: Duration,
    /// Commit time of the newest change at its origin.
    commit_second: Option<u64>,
    /// Of changes that were looked at again: what became of each, and why some could not be applied.
    pub looked: Vec<Fate>,
    pub left: Vec<(Offset, String)>,
}

impl Tally {
    pub fn count(&mut self, group: &Group, steps: &[Step], fates: &[Fate]) {
        for (number, (step, fate)) in steps.iter().zip(fates).enumerate() {
            // A change that moved its row has two steps; the second tells what became of it.
            if steps.get(number + 1).is_some_and(|next| next.at == step.at) {
                continue;
            }
            let change = group.change(step.at);
            let (offset, record) = &group.records[step.at];
            self.count_one(change, *offset, record.commit_second, *fate);
        }
        if let Some((_, last)) = group.records.last() {
            self.commit_second = Some(last.commit_second);
        }
    }

    /// Of changes that were looked at again only those count that had to be applied; how late they are says nothing.
    pub fn count_looked(&mut self, group: &Group, fates: Vec<Fate>, reason: impl Fn(Offset) -> Option<String>) {
        for ((offset, record), fate) in group.records.iter().zip(&fates) {
            match fate {
                Fate::Applied => {
                    let change = record.change().expect("a group's records hold changes");
                    self.count_one(change, *offset, record.commit_second, *fate);
                }
                Fate::SetAside => self.left.push((*offset, reason(*offset).unwrap_or_default())),
                Fate::Duplicate | Fate::LostToNewer | Fate::Held => {}
            }
        }
        self.looked = fates;
    }

    /// What became of its one change, and why it was set aside.
    pub fn fate(&self) -> (Option<Fate>, Option<&str>) {
        let reason = self.dead_letters.keys().next().map(|(_, reason)| reason.as_str());
        (self.changes.keys().next().map(|(_, _, fate)| *fate), reason)
    }

    pub fn count_one(&mut self, change: &Change, offset: Offset, commit_second: u64, fate: Fate) {
        *self.changes.entry((change.table().clone(), change.op, fate)).or_default() += 1;
        if self.followed.len() < FOLLOWED_MAX {
            self.followed.push(Followed::new(change, fate.into(), Some(offset), commit_second));
        }
    }

    pub fn tell(&mut self, origin: &OriginId, observer: &Observer) {
        observer.followed(origin, std::mem::take(&mut self.followed));
        for ((table, op, fate), changes) in &self.changes {
            observer.applied(origin, table, *op, *fate, *changes);
        }
        for ((table, kind, winner), conflicts) in &self.conflicts {
            observer.conflicts(table, kind, winner, *conflicts);
        }
        for ((table, reason), letters) in &self.dead_letters {
            observer.dead_letters(origin, table, reason, *letters);
        }
        if let Some(commit_second) = self.commit_second {
            observer.committed(origin, commit_second, self.waited.as_secs_f64());
        }
    }
}
