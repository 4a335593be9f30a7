//! Changes that were set aside, applied once more because somebody asks for it; and, in `look`, all those of an origin from an older
//! place on.
//!
//! A change is late then: newer writes of its row may have come, and the index may have forgotten them, for all nodes have them
//! by now. So before anything is decided, the writes of its rows are noted again from the topics, from the place on where any
//! newer one can be; where a topic no longer holds all of these, and the index knows of no later write, the change is refused: an older change must
//! not beat a newer write that nobody here remembers. What is decided then is decided as ever, under the version that the
//! change has always had, with the checkpoint as it stands. See docs/decisions/0015.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

mod look;

pub use look::Looked;

use self::look::{Look, LookOrder};
use super::ApplyError;
use super::group::Group;
use super::local::{LocalWrite, local_writes};
use super::stability::Stability;
use super::step::{Step, canonical, steps};
use super::worker::{Applier, Job, Known};
use crate::change::{Hlc, NodeRank, Offset, Op, OriginId, Record, RowKey, TableName, Version};
use crate::observe::Fate;
use crate::runtime::{Disposition, Shutdown, Stop};
use crate::target::CanonicalKey;
use crate::topic::TopicError;

/// Bytes of records in one read of what happened since.
const READ_BYTES: usize = 4 << 20;

/// Where a change that was set aside lies, and the clock that it has: the same place of another topic is another change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LetterPlace {
    pub hlc: Hlc,
    pub origin: OriginId,
    pub offset: Offset,
}

/// What became of a change that was tried again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The row is as the change wanted it.
    Applied,
    /// A newer write of the row stands; the change needs nobody any more.
    NewerStands,
    /// It cannot be applied still. It stays set aside, with this reason.
    Failed { reason: String },
    /// It was not tried: nobody could say whether a newer write came since. It stays set aside.
    Refused { reason: String },
}

/// What somebody wants done once more.
pub(super) enum AgainOrder {
    Retry(RetryOrder),
    Look(LookOrder),
}

pub(super) struct RetryOrder {
    letters: Vec<LetterPlace>,
    answer: oneshot::Sender<Vec<(LetterPlace, Outcome)>>,
}

/// Where whoever asks and the applier meet. One per node.
#[derive(Default)]
pub struct AgainDesk {
    inner: Mutex<Inner>,
    wanted: Notify,
    attached: Notify,
}

#[derive(Default)]
struct Inner {
    appliers: usize,
    orders: VecDeque<AgainOrder>,
}

impl AgainDesk {
    /// Has the changes applied once more, and tells what became of each. Ends early where no applier works in this process.
    pub async fn retry(&self, letters: Vec<LetterPlace>) -> Result<Vec<(LetterPlace, Outcome)>, Stop> {
        let (answer, told) = oneshot::channel();
        self.order(AgainOrder::Retry(RetryOrder { letters, answer }))?;
        told.await.map_err(|_| ended())
    }

    /// Has the changes of an origin looked at again, from an offset (or the oldest that its topic keeps) up to the checkpoint. Ends early
    /// where no applier works in this process.
    pub async fn look(&self, origin: OriginId, from: Option<Offset>) -> Result<Looked, Stop> {
        let (answer, told) = oneshot::channel();
        self.order(AgainOrder::Look(LookOrder { origin, from, answer }))?;
        told.await.map_err(|_| ended())?
    }

    /// Until an applier takes orders.
    pub async fn works(&self) {
        loop {
            let attached = self.attached.notified();
            if self.inner().appliers > 0 {
                return;
            }
            attached.await;
        }
    }

    fn order(&self, order: AgainOrder) -> Result<(), Stop> {
        let mut inner = self.inner();
        if inner.appliers == 0 {
            let message = "the applier does not work in this process now, and only it can apply a change";
            return Err(Stop::halt(message, "see `tandem status`; then ask again"));
        }
        inner.orders.push_back(order);
        self.wanted.notify_one();
        Ok(())
    }

    /// From now on orders are taken, until the guard is dropped.
    pub(super) fn attach(self: &Arc<Self>) -> TakesOrders {
        self.inner().appliers += 1;
        self.attached.notify_waiters();
        TakesOrders(self.clone())
    }

    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn take(&self) -> Option<AgainOrder> {
        self.inner().orders.pop_front()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended() -> Stop {
    Stop {
        disposition: Disposition::Retry,
        message: "the applier ended while it was at it".into(),
        hint: Some("what it did is done, each change with its commit: ask again for what is left".into()),
    }
}

pub(super) struct TakesOrders(Arc<AgainDesk>);

impl Drop for TakesOrders {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.appliers -= 1;
        if inner.appliers == 0 {
            // Whoever waits learns it.
            inner.orders.clear();
        }
    }
}

/// A change that can be tried.
struct Letter {
    place: LetterPlace,
    group: Group,
    steps: Vec<Step>,
    /// The index knew the last write of its rows, before anything was noted again.
    is_known: bool,
}

impl Letter {
    /// Writes of its rows with this clock or a later one may be newer. Every write is newer than a row that existed.
    fn since(&self) -> Hlc {
        if self.group.records[0].1.is_existing_row() { Hlc::default() } else { self.place.hlc }
    }

    fn is_decided_by_version(&self) -> bool {
        self.steps.iter().any(|step| !step.is_keyless())
    }
}

/// What a topic still holds, as far as it matters here.
#[derive(Clone, Copy)]
struct Held {
    node: NodeRank,
    first: Offset,
    /// Up to where we took it.
    reach: Offset,
    /// The clock of the oldest record. `None` where nothing is gone from the topic.
    begins_at: Option<Hlc>,
}

impl Applier {
    /// Does what people asked for, and the next part of what takes longer. False where nothing was to be done.
    pub(super) async fn take_orders(
        &self,
        known: &mut Known,
        look: &mut Option<Look>,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        let mut progress = false;
        // One at a time: each would have the index forget what the other needs.
        while look.is_none()
            && let Some(order) = self.again.take()
        {
            match order {
                AgainOrder::Retry(order) => self.apply_again(known, order, shutdown).await?,
                AgainOrder::Look(order) => *look = self.begin_look(known, order).await?,
            }
            progress = true;
        }
        if let Some(going_on) = look.take() {
            *look = self.look_on(known, going_on, shutdown).await?;
            progress = true;
        }
        Ok(progress)
    }

    /// Does what was asked for, and answers. Nothing is forgotten by the index meanwhile.
    async fn apply_again(&self, known: &mut Known, order: RetryOrder, shutdown: &Shutdown) -> Result<(), ApplyError> {
        let RetryOrder { mut letters, answer } = order;
        letters.sort();
        letters.dedup();
        known.index.hold(true);
        let outcomes = self.try_again(known, &letters, shutdown).await;
        known.index.hold(false);
        // What was noted for this alone must not be taken by the next order for what was never forgotten.
        for node in self.options.cluster.ranks() {
            known.index.forget(node, known.stability.stable(node))?;
        }
        // Whoever asked may be gone; it is done all the same.
        let _ = answer.send(outcomes?);
        Ok(())
    }

    async fn try_again(
        &self,
        known: &mut Known,
        places: &[LetterPlace],
        shutdown: &Shutdown,
    ) -> Result<Vec<(LetterPlace, Outcome)>, ApplyError> {
        let mut outcomes = Vec::new();
        let mut letters = Vec::new();
        for place in places {
            match self.letter(place).await? {
                Ok(mut letter) => {
                    for step in letter.steps.iter().filter(|step| !step.is_keyless()) {
                        letter.is_known &= known.index.get(&step.canonical)?.is_some();
                    }
                    letters.push(letter);
                }
                Err(reason) => outcomes.push((place.clone(), Outcome::Refused { reason })),
            }
        }
        let held = self.held(&known.stability).await?;
        self.note_since(known, &held, &letters).await?;
        for letter in letters {
            if shutdown.is_cancelled() {
                break;
            }
            let outcome = match self.in_doubt(known, &held, &letter)? {
                Some(reason) => Outcome::Refused { reason },
                None => match self.apply_letter(known, &letter, shutdown).await? {
                    Some(outcome) => outcome,
                    None => break,
                },
            };
            let change = letter.group.change(0);
            self.observer.tried_again(&letter.place.origin, change.table(), outcome.word());
            outcomes.push((letter.place, outcome));
        }
        Ok(outcomes)
    }

    /// The change of this place, or why it cannot be tried.
    async fn letter(&self, place: &LetterPlace) -> Result<Result<Letter, String>, ApplyError> {
        let LetterPlace { origin, offset, hlc } = place;
        let cluster = &self.options.cluster;
        let Some(node) = cluster.rank(origin).filter(|node| *node != cluster.own_rank()) else {
            return Ok(Err(format!("{origin} is no other node of the cluster any more")));
        };
        let extent = self.reader.extent(origin).await?;
        if *offset < extent.first {
            return Ok(Err(format!("the topic of {origin} no longer holds it: the oldest kept is {}", extent.first)));
        }
        let mark = self.target.checkpoints().await?.remove(origin).filter(|mark| mark.next > *offset);
        let Some(mark) = mark.filter(|mark| mark.next <= extent.end) else {
            return Ok(Err(format!("it is beyond what is applied of {origin}")));
        };
        let record = self.reader.read(origin, *offset, 1, Duration::ZERO).await?.into_iter().next();
        let is_it = |(at, record): &(Offset, Record)| {
            at == offset && record.hlc == *hlc && record.change().is_some_and(|change| change.op != Op::Truncate)
        };
        let Some((_, record)) = record.filter(is_it) else {
            return Ok(Err(format!("the topic of {origin} has another record at {offset}")));
        };
        let (origin, seen) = (origin.clone(), record.seen.clone());
        let (parked, unparked) = Default::default();
        let records = vec![(*offset, record)];
        let group = Group { node, origin, records, duplicates: 0, mark, seen, again: true, parked, unparked, empties: false };
        let steps = steps(&group, &*self.target).await?;
        Ok(Ok(Letter { place: place.clone(), group, steps, is_known: true }))
    }

    async fn held(&self, stability: &Stability) -> Result<Vec<Held>, ApplyError> {
        let mut held = Vec::new();
        for node in self.options.cluster.ranks() {
            let origin = self.options.cluster.name(node);
            let extent = self.reader.extent(origin).await?;
            let reach = stability.taken(node);
            let begins_at = match extent.first {
                Offset(0) => None,
                // All of it is gone: whatever was in it may be newer.
                first if first >= reach => Some(Hlc(u64::MAX)),
                first => Some(self.clock_at(origin, first).await?),
            };
            held.push(Held { node, first: extent.first.min(reach), reach, begins_at });
        }
        Ok(held)
    }

    async fn clock_at(&self, origin: &OriginId, offset: Offset) -> Result<Hlc, ApplyError> {
        let found = self.reader.read(origin, offset, 1, Duration::ZERO).await?;
        let past_end = || TopicError::PastEnd { origin: origin.clone(), wanted: offset, end: offset };
        Ok(found.first().ok_or_else(past_end)?.1.hlc)
    }

    /// Notes what the topics tell of the rows in question, from where a write may be newer than one of the changes.
    async fn note_since(&self, known: &mut Known, held: &[Held], letters: &[Letter]) -> Result<(), ApplyError> {
        let decided = || letters.iter().filter(|letter| letter.is_decided_by_version());
        let Some(since) = decided().map(Letter::since).min() else { return Ok(()) };
        let tables: BTreeSet<&TableName> = decided().map(|letter| letter.group.change(0).table()).collect();
        let rows: BTreeSet<&CanonicalKey> = decided().flat_map(|letter| &letter.steps).map(|step| &step.canonical).collect();
        for Held { node, first, reach, .. } in held {
            let origin = self.options.cluster.name(*node);
            let mut next = self.first_since(origin, since, *first, *reach).await?;
            while next < *reach {
                let batch = self.reader.read(origin, next, READ_BYTES, Duration::ZERO).await?;
                let Some((last, _)) = batch.last() else {
                    return Err(TopicError::PastEnd { origin: origin.clone(), wanted: *reach, end: next }.into());
                };
                next = last.next();
                let records: Vec<_> = batch.into_iter().filter(|(offset, _)| offset < reach).collect();
                self.note_written(known, *node, &records, Some((&tables, &rows))).await?;
            }
        }
        Ok(())
    }

    /// Notes what these records wrote: everything, or what they tell of some rows of some tables.
    async fn note_written(
        &self,
        known: &mut Known,
        node: NodeRank,
        records: &[(Offset, Record)],
        only: Option<(&BTreeSet<&TableName>, &BTreeSet<&CanonicalKey>)>,
    ) -> Result<(), ApplyError> {
        let written = records.iter().filter_map(|(offset, record)| Some((*offset, record.hlc, record.written()?)));
        let writes: Vec<LocalWrite> = written
            .filter(|(.., change)| only.is_none_or(|(tables, _)| tables.contains(change.table())))
            .flat_map(|(offset, hlc, change)| local_writes(change, hlc, offset))
            .collect();
        let (emptied, writes): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.empties);
        for write in emptied {
            known.index.note_emptied(write.key.table(), Version { hlc: write.hlc, node }, write.offset);
        }
        let keys: Vec<RowKey> = writes.iter().map(|write| write.key.clone()).collect();
        for (key, write) in canonical(&*self.target, &keys).await?.iter().zip(writes) {
            if only.is_none_or(|(_, rows)| rows.contains(key)) {
                known.index.note(key, Version { hlc: write.hlc, node }, write.offset)?;
            }
        }
        Ok(())
    }

    /// The first offset of `first..reach` whose record has this clock or a later one. An origin's clock never goes back.
    async fn first_since(&self, origin: &OriginId, since: Hlc, first: Offset, reach: Offset) -> Result<Offset, ApplyError> {
        let (mut low, mut high) = (first.0, reach.0);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.clock_at(origin, Offset(middle)).await? < since {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(Offset(low))
    }

    /// Why nobody can say whether a newer write came since; `None` where it is known.
    fn in_doubt(&self, known: &Known, held: &[Held], letter: &Letter) -> Result<Option<String>, ApplyError> {
        if known.holds.behind(letter.group.change(0).table()).is_some() {
            return Ok(Some("a schema change of its table waits: see `tandem ddl list`".into()));
        }
        if letter.is_known {
            return Ok(None);
        }
        let gone = held.iter().find(|held| held.begins_at.is_some_and(|begins| begins >= letter.since()));
        let Some(gone) = gone else { return Ok(None) };
        // A newer write that was found is newer, whatever else there may have been.
        let own = Version { hlc: letter.place.hlc, node: letter.group.node };
        for step in letter.steps.iter().filter(|step| !step.is_keyless()) {
            if known.index.get(&step.canonical)?.is_none_or(|entry| entry.version <= own) {
                let name = self.options.cluster.name(gone.node);
                return Ok(Some(format!(
                    "the topic of {name} no longer reaches back to it, so nobody can say whether its row was written since"
                )));
            }
        }
        Ok(None)
    }

    /// `None` at shutdown.
    async fn apply_letter(
        &self,
        known: &mut Known,
        letter: &Letter,
        shutdown: &Shutdown,
    ) -> Result<Option<Outcome>, ApplyError> {
        let Letter { group, steps, .. } = letter;
        let job = Job::Again(group, steps);
        let Some(tally) = self.commit(known, &Notify::new(), &job, &group.origin, shutdown).await? else { return Ok(None) };
        self.engine(known, &Notify::new()).remember(group, steps)?;
        let (fate, reason) = tally.fate();
        Ok(Some(match fate {
            Some(Fate::Applied | Fate::Duplicate) => Outcome::Applied,
            Some(Fate::LostToNewer) => Outcome::NewerStands,
            Some(Fate::SetAside | Fate::Held) | None => {
                Outcome::Failed { reason: reason.unwrap_or("no reason given").to_owned() }
            }
        }))
    }
}

impl Outcome {
    /// One of four, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NewerStands => "newer_stands",
            Self::Failed { .. } => "failed",
            Self::Refused { .. } => "refused",
        }
    }

    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason } | Self::Refused { reason } => Some(reason),
            Self::Applied | Self::NewerStands => None,
        }
    }
}

#[cfg(test)]
mod tests;
