//! A table that its origin emptied by a statement: a delete of every row that is there, each decided by itself.
//!
//! A row that was written later, or without having seen it and with a larger version, stays, on this node as on every other:
//! the index notes the statement as a write of all rows of the table. Rows are read and locked with the gaps between them,
//! so that no row can come to be there unseen before the commit.

use std::sync::Arc;

use super::ApplyError;
use super::engine::Engine;
use super::group::Group;
use super::settle::{Attempt, Settled, Trouble, dead_letter, end};
use super::step::{delete_of, steps};
use super::work::Work;
use crate::change::{Body, Change, Checks, Mark, NodeRank, Offset, Op, OriginId, Record, RowKey, TableName, Version};
use crate::observe::Fate;
use crate::runtime::{Disposition, Fault};
use crate::target::{ApplyTransaction, Held};

/// A record that empties a table, with the checkpoint after it.
pub struct Emptied {
    pub node: NodeRank,
    pub origin: OriginId,
    pub offset: Offset,
    pub record: Record,
    pub mark: Mark,
    /// It waited until now, under this number.
    pub unparked: Option<u64>,
}

impl Emptied {
    fn change(&self) -> &Change {
        self.record.change().expect("it is a change of a table")
    }

    fn table(&self) -> &TableName {
        self.change().table()
    }

    pub fn version(&self) -> Version {
        Version { hlc: self.record.hlc, node: self.node }
    }

    /// These rows, as its origin would have deleted them one by one.
    fn deletes(&self, held: &[Held]) -> Group {
        let delete = |held: &Held| {
            let mut change = delete_of(&held.key);
            // As the statement: nothing that refers to the rows keeps them, or goes with them.
            change.checks = Checks { foreign_keys_off: true, ..Checks::default() };
            (self.offset, Record { body: Body::Change(change), ..self.record.clone() })
        };
        Group {
            node: self.node,
            origin: self.origin.clone(),
            records: held.iter().map(delete).collect(),
            duplicates: 0,
            mark: self.mark.clone(),
            seen: Arc::default(),
            parked: Vec::new(),
            unparked: Vec::new(),
            again: false,
            empties: true,
        }
    }
}

impl Engine<'_> {
    pub async fn empty(&mut self, emptied: &Emptied, trouble: &mut Trouble) -> Result<Attempt, ApplyError> {
        let mut transaction = self.target.begin(&emptied.mark).await?;
        let attempt = self.empty_in(&mut *transaction, emptied, trouble).await;
        end(transaction, attempt).await
    }

    /// Notes it, once it is committed.
    pub fn remember_emptied(&mut self, emptied: &Emptied) {
        if !self.options.ablation.no_emptied {
            self.index.note_emptied(emptied.table(), emptied.version(), emptied.offset);
        }
    }

    async fn empty_in(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        emptied: &Emptied,
        trouble: &mut Trouble,
    ) -> Result<Attempt, ApplyError> {
        let mut work = Work::default();
        if let Some(id) = emptied.unparked {
            transaction.unpark(&[id]).await?;
        }
        if let Some((attempts, reason)) = trouble.gives_up(emptied.offset, self.options) {
            let mut group = emptied.deletes(&[]);
            group.records.push((emptied.offset, emptied.record.clone()));
            work.dead_letters.push(dead_letter(&group, 0, attempts, reason));
            work.keep(transaction).await?;
            work.tally.count_one(group.change(0), emptied.offset, emptied.record.commit_second, Fate::SetAside);
            return Ok(Attempt::Committed(work.tally));
        }
        let mut after: Option<RowKey> = None;
        let most = self.options.group_changes.max(1);
        loop {
            let held = match transaction.rows_after(emptied.table(), after.as_ref(), most).await {
                Ok(held) => held,
                // There is no such table here, or one without a key.
                Err(error) if error.disposition() == Disposition::DeadLetter => {
                    self.empty_whole(transaction, emptied, &mut work).await?;
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let part = emptied.deletes(&held);
            let steps = steps(&part, self.target).await?;
            match self.stream_part(transaction, &part, &steps, trouble, &mut work).await? {
                Settled::Done(_) => {}
                Settled::TailerBehind => return Ok(Attempt::TailerBehind),
            }
            work.keep(transaction).await?;
            if held.len() < most {
                break;
            }
            after = held.into_iter().next_back().map(|held| held.key);
        }
        work.tally.count_one(emptied.change(), emptied.offset, emptied.record.commit_second, Fate::Applied);
        Ok(trouble.count(&mut work).unwrap_or(Attempt::Committed(work.tally)))
    }

    async fn empty_whole(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        emptied: &Emptied,
        work: &mut Work,
    ) -> Result<(), ApplyError> {
        match transaction.empty(emptied.table()).await {
            Err(error) if error.disposition() == Disposition::DeadLetter => {
                // Without the table there is nothing to be emptied; anything else is told like a change that fails.
                let exists = !self.target.columns(emptied.table()).await?.is_empty();
                if exists {
                    work.failed.insert(emptied.offset, error.to_string());
                }
                debug_assert_eq!(emptied.record.change().map(|change| change.op), Some(Op::Truncate));
                Ok(())
            }
            other => Ok(other?),
        }
    }
}
