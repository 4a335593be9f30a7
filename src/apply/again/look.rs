//! The changes of one origin from an older place on, looked at again because somebody asks for it.
//!
//! It is safe by design, as a change that is tried again is: each keeps the version that it has always had. What all topics tell
//! since that place is noted in the index first, so of every row the newest write is known, and only that one is compared with the row
//! here, and written where the row is not as it wants it. So nothing comes to be that was not told, nothing newer is lost, and no
//! conflict is found that was not one. What a foreign key takes along is in no binlog, so a row that may have gone with one that it
//! refers to is left as it is (see `gone`). The checkpoint stays as it is: a crash in the middle leaves nothing undone that was
//! done before. What comes meanwhile is applied between two parts of it.

use std::collections::VecDeque;

use tokio::sync::{Notify, oneshot};

mod gone;

use self::gone::Gone;
use super::super::existing::agree;
use super::super::rows::Rows;
use super::super::settle::{Attempt, Trouble, end};
use super::super::work::Work;
use super::*;
use crate::apply::decide::Entry;
use crate::apply::engine::Engine;
use crate::change::Mark;
use crate::runtime::Fault;
use crate::target::{ApplyTransaction, Write, WriteError};

/// Changes that are tried once more at the end: they may only have lacked a row that came later.
const LEFT_MAX: usize = 10_000;

/// What became of changes that were looked at again. All but the places are numbers of changes, and the six after `changes` are
/// its sum.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Looked {
    pub from: Offset,
    /// The checkpoint, when it began.
    pub upto: Offset,
    /// Changes of rows, and statements, among the records.
    pub changes: u64,
    /// The row was not as the change wants it, and is now.
    pub put_right: u64,
    /// The row was as the change wants it.
    pub as_it_should_be: u64,
    /// A newer write of the row stands.
    pub newer_stands: u64,
    /// Rows without a key, emptied tables and statements: they are not looked at again.
    pub passed_over: u64,
    /// A newer write may have been in what a topic no longer keeps, a statement of its table waits, or the row may have gone with one
    /// that it referred to.
    pub in_doubt: u64,
    /// It cannot be applied; the row is as it was.
    pub left: u64,
    /// Why the first of those in doubt, or else of those left, was.
    pub reason: Option<String>,
}

pub(in crate::apply) struct LookOrder {
    pub origin: OriginId,
    /// `None`: from the oldest that its topic keeps.
    pub from: Option<Offset>,
    pub answer: oneshot::Sender<Result<Looked, Stop>>,
}

/// A look that is under way.
pub(in crate::apply) struct Look {
    node: NodeRank,
    origin: OriginId,
    answer: oneshot::Sender<Result<Looked, Stop>>,
    looked: Looked,
    held: Vec<Held>,
    /// Writes with an older clock cannot be newer than what is looked at.
    since: Hlc,
    stage: Stage,
    gone: Gone,
    left: VecDeque<(Offset, String)>,
}

enum Stage {
    /// What the topics tell is noted: of which of them, and from where on.
    Note {
        at: usize,
        next: Option<Offset>,
    },
    Look {
        next: Offset,
    },
}

impl Look {
    fn in_doubt(&mut self, changes: u64, reason: &str) {
        self.looked.in_doubt += changes;
        self.looked.reason.get_or_insert_with(|| reason.to_owned());
    }

    /// The node whose topic may have held a newer write than this, and holds it no longer.
    fn doubtful(&self, record: &Record) -> Option<NodeRank> {
        let since = if record.is_existing_row() { Hlc::default() } else { record.hlc };
        // What is gone from its own topic is older than it.
        let others = self.held.iter().filter(|held| held.node != self.node || record.is_existing_row());
        others.filter(|held| held.begins_at.is_some_and(|begins| begins >= since)).map(|held| held.node).next()
    }
}

impl Applier {
    /// `None` where it is refused; who asked knows then.
    pub(super) async fn begin_look(&self, known: &mut Known, order: LookOrder) -> Result<Option<Look>, ApplyError> {
        let LookOrder { origin, from, answer } = order;
        let (node, looked, since) = match self.place_of(known.seed.is_some(), &origin, from).await? {
            Ok(place) => place,
            Err(stop) => {
                // Whoever asked may be gone.
                let _ = answer.send(Err(stop));
                return Ok(None);
            }
        };
        let held = self.held(&known.stability).await?;
        known.index.hold(true);
        let stage = Stage::Note { at: 0, next: None };
        let (gone, left) = Default::default();
        Ok(Some(Look { node, origin, answer, looked, held, since, stage, gone, left }))
    }

    async fn place_of(
        &self,
        is_seeded: bool,
        origin: &OriginId,
        from: Option<Offset>,
    ) -> Result<Result<(NodeRank, Looked, Hlc), Stop>, ApplyError> {
        let cluster = &self.options.cluster;
        let refused = |message: String, hint: String| Ok(Err(Stop::halt(message, hint)));
        let Some(node) = cluster.rank(origin).filter(|node| *node != cluster.own_rank()) else {
            let others: Vec<&str> = cluster.others().map(|rank| cluster.name(rank).as_str()).collect();
            return refused(
                format!("{origin} is no other node of the cluster"),
                format!("its other nodes: {}", others.join(", ")),
            );
        };
        if is_seeded {
            let hint = "every row of it is being compared with another node's; see `tandem status`";
            return refused("this node is being seeded".into(), hint.into());
        }
        let extent = self.reader.extent(origin).await?;
        let upto = self.target.checkpoints().await?.get(origin).map_or(Offset(0), |mark| mark.next).min(extent.end);
        let oldest = extent.first.min(upto);
        let from = from.unwrap_or(oldest);
        if from < oldest {
            return refused(
                format!("the topic of {origin} no longer holds offset {from}: the oldest kept is {oldest}"),
                "--from beginning looks at all that is kept; what is older is compared by tandem verify --repair".into(),
            );
        }
        if from > upto {
            return refused(
                format!("of {origin} nothing is applied here from offset {from} on: the next is {upto}"),
                "what is not applied yet comes by itself; name an older offset, or leave out --from".into(),
            );
        }
        // Rows that existed are older than every write, so from the oldest on everything counts.
        let since = if from > oldest && from < upto { self.clock_at(origin, from).await? } else { Hlc::default() };
        Ok(Ok((node, Looked { from, upto, ..Looked::default() }, since)))
    }

    /// Does the next part of it. `None` when it is done, and who asked knows.
    pub(super) async fn look_on(
        &self,
        known: &mut Known,
        mut look: Look,
        shutdown: &Shutdown,
    ) -> Result<Option<Look>, ApplyError> {
        let answer = match self.look_further(known, &mut look, shutdown).await {
            Ok(false) => return Ok(Some(look)),
            Ok(true) => {
                let mut looked = look.looked;
                looked.left += look.left.len() as u64;
                let first = look.left.pop_front().map(|(_, reason)| reason);
                looked.reason = looked.reason.or(first);
                self.observer.looked_again(&look.origin, looked.changes, looked.put_right, looked.in_doubt + looked.left);
                Ok(looked)
            }
            // What a topic no longer keeps is no fault of what comes.
            Err(ApplyError::Topic(error)) if error.disposition() != Disposition::Retry => Err(Stop::from(error)),
            Err(error) => return Err(error),
        };
        known.index.hold(false);
        for node in self.options.cluster.ranks() {
            known.index.forget(node, known.stability.stable(node))?;
        }
        // Whoever asked may be gone; it is done all the same.
        let _ = look.answer.send(answer);
        Ok(None)
    }

    /// True when nothing is left to do.
    async fn look_further(&self, known: &mut Known, look: &mut Look, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        match look.stage {
            Stage::Note { at, next } => {
                let Some(held) = look.held.get(at).copied().filter(|_| !self.options.ablation.no_look_back) else {
                    look.stage = Stage::Look { next: look.looked.from };
                    return Ok(false);
                };
                let origin = self.options.cluster.name(held.node);
                let next = match next {
                    Some(next) => next,
                    None => self.first_since(origin, look.since, held.first, held.reach).await?,
                };
                if next >= held.reach {
                    look.stage = Stage::Note { at: at + 1, next: None };
                    return Ok(false);
                }
                let records = self.read_some(origin, next, held.reach).await?;
                look.stage = Stage::Note { at, next: records.last().map(|(last, _)| last.next()) };
                self.note_written(known, held.node, &records, None).await?;
                look.gone.note(&*self.target, held.node, &records).await?;
                Ok(false)
            }
            Stage::Look { next } if next < look.looked.upto => {
                self.note_since_then(known, look).await?;
                let records = self.read_some(&look.origin, next, look.looked.upto).await?;
                let after = records.last().map_or(next, |(last, _)| last.next());
                let rows = self.sort_out(known, look, records);
                let Some(left) = self.look_at(known, look, rows, shutdown).await? else { return Ok(false) };
                let room = LEFT_MAX.saturating_sub(look.left.len());
                look.looked.left += left.len().saturating_sub(room) as u64;
                look.left.extend(left.into_iter().take(room));
                look.stage = Stage::Look { next: after };
                Ok(false)
            }
            Stage::Look { .. } => {
                self.note_since_then(known, look).await?;
                self.look_at_left(known, look, shutdown).await
            }
        }
    }

    /// Notes what was applied since the last time. The index knows it already; what went with it does not stand there.
    async fn note_since_then(&self, known: &mut Known, look: &mut Look) -> Result<(), ApplyError> {
        for held in look.held.iter_mut().filter(|_| !self.options.ablation.no_look_back) {
            let reach = known.stability.taken(held.node);
            while held.reach < reach {
                let records = self.read_some(self.options.cluster.name(held.node), held.reach, reach).await?;
                look.gone.note(&*self.target, held.node, &records).await?;
                held.reach = records.last().map_or(reach, |(last, _)| last.next());
            }
        }
        Ok(())
    }

    /// The records of `from..upto` that one read gives; at least one.
    async fn read_some(&self, origin: &OriginId, from: Offset, upto: Offset) -> Result<Vec<(Offset, Record)>, ApplyError> {
        let mut records = self.reader.read(origin, from, READ_BYTES, Duration::ZERO).await?;
        records.retain(|(offset, _)| *offset < upto);
        if records.is_empty() {
            return Err(TopicError::PastEnd { origin: origin.clone(), wanted: upto, end: from }.into());
        }
        Ok(records)
    }

    /// Counts what is not looked at, and gives back the changes that are.
    fn sort_out(&self, known: &Known, look: &mut Look, records: Vec<(Offset, Record)>) -> Vec<(Offset, Record)> {
        let mut rows = Vec::with_capacity(records.len());
        for (offset, record) in records {
            let Some(change) = record.change() else {
                let statements = u64::from(record.schema().is_some());
                look.looked.changes += statements;
                look.looked.passed_over += statements;
                continue;
            };
            look.looked.changes += 1;
            if change.op == Op::Truncate || !change.shape.has_key() {
                look.looked.passed_over += 1;
            } else if known.holds.behind(change.table()).is_some() {
                look.in_doubt(1, "a schema change of its table waits: see `tandem ddl list`");
            } else if let Some(node) = look.doubtful(&record) {
                let name = self.options.cluster.name(node);
                let reason = "no longer reaches back to it, so nobody can say whether its row was written since";
                look.in_doubt(1, &format!("the topic of {name} {reason}"));
            } else {
                rows.push((offset, record));
            }
        }
        rows
    }

    /// Compares the rows that these changes are the newest writes of, and puts them right. The changes that could not be applied, and
    /// why; `None` at shutdown.
    async fn look_at(
        &self,
        known: &mut Known,
        look: &mut Look,
        rows: Vec<(Offset, Record)>,
        shutdown: &Shutdown,
    ) -> Result<Option<Vec<(Offset, String)>>, ApplyError> {
        let Some(mark) = self.target.checkpoints().await?.remove(&look.origin) else {
            look.in_doubt(rows.len() as u64, "its checkpoint is gone from tandem.applied");
            return Ok(Some(Vec::new()));
        };
        let mut left = Vec::new();
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let records: Vec<_> = rows.by_ref().take(self.options.group_changes.max(1)).collect();
            let count = records.len();
            let (group, steps) = self.newest_of(known, look, &mark, records).await?;
            look.looked.newer_stands += (count - group.records.len()) as u64;
            if group.records.is_empty() {
                continue;
            }
            let may_have_gone = look.gone.with(&*self.target, &group).await?;
            let job = Job::Look(&group, &steps, &may_have_gone);
            let Some(tally) = self.commit(known, &Notify::new(), &job, &look.origin, shutdown).await? else { return Ok(None) };
            for fate in &tally.looked {
                match fate {
                    Fate::Applied => look.looked.put_right += 1,
                    Fate::Duplicate => look.looked.as_it_should_be += 1,
                    Fate::LostToNewer => look.looked.newer_stands += 1,
                    Fate::Held => look.in_doubt(1, gone::REASON),
                    Fate::SetAside => {}
                }
            }
            left.extend(tally.left);
        }
        Ok(Some(left))
    }

    /// Those of the changes that no newer write is known to stand against, as a group.
    async fn newest_of(
        &self,
        known: &mut Known,
        look: &Look,
        mark: &Mark,
        records: Vec<(Offset, Record)>,
    ) -> Result<(Group, Vec<Step>), ApplyError> {
        let (origin, seen) = (look.origin.clone(), records.last().map(|(_, last)| last.seen.clone()).unwrap_or_default());
        let (mark, (parked, unparked)) = (mark.clone(), Default::default());
        let mut group = Group {
            node: look.node,
            origin,
            records,
            duplicates: 0,
            mark,
            seen,
            again: true,
            parked,
            unparked,
            empties: false,
        };
        let mut steps = steps(&group, &*self.target).await?;
        let mut is_newest = vec![false; group.records.len()];
        for step in &steps {
            let own = (group.version(step.at), group.offset(step.at));
            let newer = |Entry { version, offset }: Entry| (version, offset) > own;
            is_newest[step.at] |= !known.index.get(&step.canonical)?.is_some_and(newer);
        }
        let places: Vec<usize> = is_newest
            .iter()
            .scan(0, |next, newest| {
                let place = *next;
                *next += usize::from(*newest);
                Some(place)
            })
            .collect();
        steps.retain(|step| is_newest[step.at]);
        steps.iter_mut().for_each(|step| step.at = places[step.at]);
        let mut newest = is_newest.iter();
        group.records.retain(|_| *newest.next().expect("one for each"));
        Ok((group, steps))
    }

    /// What could not be applied may only have lacked a row that came later in its topic: it is tried until none of it can be. False at
    /// shutdown.
    async fn look_at_left(&self, known: &mut Known, look: &mut Look, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let mut before = usize::MAX;
        while !look.left.is_empty() && look.left.len() < before {
            before = look.left.len();
            let mut left = VecDeque::new();
            while !look.left.is_empty() {
                let some: Vec<_> = look.left.drain(..look.left.len().min(self.options.group_changes.max(1))).collect();
                let mut rows = Vec::with_capacity(some.len());
                for (offset, _) in &some {
                    rows.extend(self.reader.read(&look.origin, *offset, 1, Duration::ZERO).await?.into_iter().take(1));
                }
                let Some(still) = self.look_at(known, look, rows, shutdown).await? else {
                    look.left.extend(left.into_iter().chain(some));
                    return Ok(false);
                };
                left.extend(still);
            }
            look.left = left;
        }
        Ok(true)
    }
}

impl Engine<'_> {
    /// Compares the rows of a group with what it wants, and writes those that are otherwise, but for those that may be gone for a
    /// reason that nobody told.
    pub async fn look(
        &mut self,
        group: &Group,
        steps: &[Step],
        may_have_gone: &[bool],
        trouble: &mut Trouble,
    ) -> Result<Attempt, ApplyError> {
        let mut transaction = self.target.begin(&group.mark).await?;
        let attempt = self.look_in(&mut *transaction, group, steps, may_have_gone, trouble).await;
        end(transaction, attempt).await
    }

    async fn look_in(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        steps: &[Step],
        may_have_gone: &[bool],
        trouble: &mut Trouble,
    ) -> Result<Attempt, ApplyError> {
        let mut rows = Rows::lock(transaction, steps, trouble.missed()).await?;
        if self.know_all(transaction).await?.is_none() {
            return Ok(Attempt::TailerBehind);
        }
        let (mut work, mut fates) = (Work::default(), vec![Fate::LostToNewer; group.records.len()]);
        for step in steps {
            let gone = may_have_gone[step.at];
            let fate = self.look_step(transaction, group, step, gone, trouble, &mut rows, &mut work).await?;
            // A change that moved its row has two steps: what could not be done counts most, and what was done more than what was so.
            const WEIGHTS: [Fate; 5] = [Fate::LostToNewer, Fate::Duplicate, Fate::Applied, Fate::Held, Fate::SetAside];
            let weight = |fate: Fate| WEIGHTS.iter().position(|known| *known == fate);
            if weight(fate) > weight(fates[step.at]) {
                fates[step.at] = fate;
            }
        }
        if let Some(again) = trouble.count(&mut work) {
            return Ok(again);
        }
        let done = group.records.iter().zip(&fates).filter(|(_, fate)| !matches!(fate, Fate::SetAside | Fate::Held));
        work.mended = done.map(|((offset, _), _)| (group.origin.clone(), *offset)).collect();
        work.keep(transaction).await?;
        work.tally.count_looked(group, fates, |offset| Some(trouble.gives_up(offset, self.options)?.1.to_owned()));
        Ok(Attempt::Committed(work.tally))
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    async fn look_step(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        may_have_gone: bool,
        trouble: &Trouble,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<Fate, ApplyError> {
        let (at, version) = (group.offset(step.at), group.version(step.at));
        if trouble.gives_up(at, self.options).is_some() {
            return Ok(Fate::SetAside);
        }
        // Asked again with the row locked: who writes it now has to wait.
        if rows.entry(&step.canonical, self.index)?.is_some_and(|entry| entry.version > version) {
            return Ok(Fate::LostToNewer);
        }
        let stands = match (&step.write, rows.held(&step.canonical)) {
            // A row that existed only fills what is missing.
            (Write::Put(change), Some(held)) => step.is_existing_row() || agree(change, held),
            (Write::Delete(_) | Write::DeleteAlone(_), None) => true,
            (Write::Put(_), None) | (Write::Delete(_) | Write::DeleteAlone(_), Some(_)) | (Write::Whole(_), _) => false,
        };
        if stands {
            return Ok(Fate::Duplicate);
        }
        if may_have_gone && !step.deletes() {
            return Ok(Fate::Held);
        }
        if self.is_referred(transaction, group, step).await? {
            let table = group.change(step.at).table();
            work.failed.insert(at, format!("{table}: other rows here still refer to it, and came after it"));
            return Ok(Fate::SetAside);
        }
        match transaction.write(std::slice::from_ref(&step.write)).await {
            Ok(()) => {
                rows.note(&step.canonical, version, at);
                Ok(Fate::Applied)
            }
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {
                work.failed.insert(at, error.to_string());
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) => Err(error.into()),
        }
    }
}
