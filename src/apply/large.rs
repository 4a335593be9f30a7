//! Transactions that are too large to wait in memory: applied part by part in one commit, each part read from the topic
//! when its turn comes.

use std::sync::Arc;
use std::time::Duration;

use super::ApplyError;
use super::engine::{Engine, Tries};
use super::group::Group;
use super::settle::{Attempt, Settled, Trouble, end};
use super::step::{Step, steps};
use super::work::Work;
use crate::change::{Gtid, Hlc, Mark, NodeRank, Offset, OriginId, Record, Seen};
use crate::observe::Fate;
use crate::runtime::{Disposition, Fault};
use crate::target::{ApplyTransaction, Write, WriteError};
use crate::topic::TopicError;

/// A transaction of which memory holds nothing but where it lies in its topic.
#[derive(Clone)]
pub struct Large {
    pub gtid: Gtid,
    pub hlc: Hlc,
    pub seen: Arc<Seen>,
    pub first: Offset,
    /// Its last record, once the topic is known to have it. Before that the database is not touched: the rest may be
    /// days away.
    pub last: Option<(Offset, Arc<Record>)>,
}

impl Large {
    pub fn begin(first: Offset, record: &Record) -> Self {
        Self { gtid: record.gtid, hlc: record.hlc, seen: record.seen.clone(), first, last: None }
    }
}

/// A large transaction that is there as a whole, with the checkpoint that it ends at.
pub struct Stream {
    pub node: NodeRank,
    pub origin: OriginId,
    pub first: Offset,
    pub mark: Mark,
    pub seen: Arc<Seen>,
}

impl Engine<'_> {
    pub async fn stream(&mut self, stream: &Stream, trouble: &mut Trouble) -> Result<Attempt, ApplyError> {
        let mut transaction = self.target.begin(&stream.mark).await?;
        let attempt = self.stream_in(&mut *transaction, stream, trouble).await;
        end(transaction, attempt).await
    }

    /// Notes what it wrote, once it is committed: an attempt that is rolled back must find what it met again. No part of the
    /// attempt, for a failure here must not have it made once more.
    pub async fn remember_stream(&mut self, stream: &Stream) -> Result<(), ApplyError> {
        self.note_range(stream.node, stream.first, stream.mark.next, Tries::Many).await
    }

    async fn stream_in(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        stream: &Stream,
        trouble: &mut Trouble,
    ) -> Result<Attempt, ApplyError> {
        let mut work = Work::default();
        let mut next = stream.first;
        while next < stream.mark.next {
            let bytes = self.options.buffer_bytes / 2;
            let batch = self.reader.read(&stream.origin, next, bytes, Duration::ZERO).await?;
            let Some((last, _)) = batch.last() else {
                let origin = stream.origin.clone();
                return Err(TopicError::PastEnd { origin, wanted: stream.mark.next, end: next }.into());
            };
            next = last.next();
            let mut records: Vec<_> = batch.into_iter().filter(|(offset, _)| *offset < stream.mark.next).collect();
            while !records.is_empty() {
                let rest = records.split_off(records.len().min(self.options.group_changes.max(1)));
                let mut part = Group {
                    node: stream.node,
                    origin: stream.origin.clone(),
                    records: std::mem::replace(&mut records, rest),
                    duplicates: 0,
                    mark: stream.mark.clone(),
                    seen: Arc::default(),
                    again: false,
                    parked: Vec::new(),
                    unparked: Vec::new(),
                    empties: false,
                };
                let mut steps = steps(&part, self.target).await?;
                self.holds.hold_back(&mut part, &mut steps);
                part.park(transaction, &mut work.tally).await?;
                match self.stream_part(transaction, &part, &steps, trouble, &mut work).await? {
                    Settled::Done(fates) => work.tally.count(&part, &steps, &fates),
                    Settled::TailerBehind => return Ok(Attempt::TailerBehind),
                }
                // A part with a failure goes on, so that one attempt finds them all.
                work.keep(transaction).await?;
            }
        }
        Ok(trouble.count(&mut work).unwrap_or(Attempt::Committed(work.tally)))
    }

    /// Locks a part and writes it at once where nothing stands against it; row by row otherwise.
    pub async fn stream_part(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        part: &Group,
        steps: &[Step],
        trouble: &Trouble,
        work: &mut Work,
    ) -> Result<Settled, ApplyError> {
        let special = |step: &Step| {
            // Written twice, a row without a key would be there twice.
            step.is_keyless()
                || trouble.failed(part.offset(step.at))
                || work.published.contains_key(&step.canonical)
                || work.won.contains_key(&step.canonical)
        };
        if self.undisputed(part, steps)? && !steps.iter().any(special) {
            super::rows::Rows::lock(transaction, steps, trouble.missed()).await?;
            let refers = self.anything_refers(transaction, part, steps).await?;
            let Some(waited) = self.know_all(transaction).await? else { return Ok(Settled::TailerBehind) };
            work.tally.waited += waited;
            if !refers && self.undisputed(part, steps)? && !self.anything_tied(transaction, part, steps).await? {
                let writes: Vec<Write> = steps.iter().map(|step| step.write.clone()).collect();
                match transaction.write(&writes).await {
                    Ok(()) => return Ok(Settled::Done(vec![Fate::Applied; steps.len()])),
                    // What was written before it is written again below: twice is once.
                    Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {}
                    Err(WriteError { error, .. }) => return Err(error.into()),
                }
            }
        }
        self.settle_rows(transaction, part, steps, trouble, work).await
    }
}
