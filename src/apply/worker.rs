//! The loop of the applier: take a group of an origin, apply it, remember it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::again::AgainDesk;
use super::ddl::{Holds, empties};
use super::empty::Emptied;
use super::engine::{Engine, Tries, read_kept};
use super::fetch::Fetch;
use super::group::{Group, Hold, Next, Waiting};
use super::index::Index;
use super::large::Stream;
use super::seed::Seed;
use super::settle::{Attempt, Trouble};
use super::stability::Stability;
use super::step::{Step, steps};
use super::ties::Ties;
use super::work::Tally;
use super::{ApplyError, ApplyOptions, LocalFeed, NoteTaker, Overflow, OverflowError};
use crate::change::{Hlc, Mark, Note, Offset, OriginId, Record};
use crate::observe::Observer;
use crate::runtime::{Backoff, Clock, Disposition, Fault, Shutdown};
use crate::target::{Target, TargetError};
use crate::topic::{TopicError, TopicReader};

/// Applies the other origins' changes to one node's database. Build it anew for every run.
pub struct Applier {
    pub options: ApplyOptions,
    pub target: Arc<dyn Target>,
    pub reader: Arc<dyn TopicReader>,
    pub local: Arc<LocalFeed>,
    /// Makes an empty scratch space for what the index cannot keep in memory.
    pub overflow: Arc<dyn Fn() -> Result<Box<dyn Overflow>, OverflowError> + Send + Sync>,
    pub clock: Arc<dyn Clock>,
    pub observer: Observer,
    pub notes: Arc<dyn NoteTaker>,
    /// Where people ask for changes to be applied once more.
    pub again: Arc<AgainDesk>,
}

/// What is held because of its clock, or waits for another origin, is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Applier {
    /// Runs until shutdown (`Ok`) or a fault. After a fault with disposition `Retry`, run again.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), ApplyError> {
        let _attached = self.local.attach();
        self.options.cluster = self.counted().await?;
        let mut state = self.rebuild().await?;
        let _takes_orders = self.again.attach();
        let arrived = Arc::new(Notify::new());
        let fetch = |waiting: &Waiting| {
            let (reader, arrived) = (self.reader.clone(), arrived.clone());
            let bytes = self.options.buffer_bytes / 2;
            Fetch::start(reader, waiting.origin.clone(), waiting.mark.next, bytes, arrived, self.observer.clone())
        };
        let mut fetches: Vec<Fetch> = state.waiting.iter().map(fetch).collect();
        let mut look = None;
        while !shutdown.is_cancelled() {
            let mut progress = false;
            progress |= self.release(&mut state, &shutdown).await?;
            self.ask_for_seed(&mut state.known, &state.durable).await?;
            for (at, reading) in fetches.iter_mut().enumerate() {
                state.fill(at, reading, &self.options)?;
                // Said before, because it can take long, and nothing is heard of the origin meanwhile.
                state.report(at, &self.observer);
                let large = state.ready[at].is_none() && state.waiting[at].is_large();
                let applied = self.apply_next(&mut state, at, &shutdown).await?;
                if applied && large {
                    // What was read after the large transaction was let go.
                    state.waiting[at].forget_large();
                    *reading = fetch(&state.waiting[at]);
                }
                progress |= applied;
            }
            (0..fetches.len()).for_each(|at| state.report(at, &self.observer));
            progress |= self.take_orders(&mut state.known, &mut look, &shutdown).await?;
            if progress {
                continue;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = arrived.notified() => {}
                () = self.again.wanted() => {}
                () = self.local.crowded() => self.engine(&mut state.known, &Notify::new()).absorb().await?,
                () = sleep(LOOK_AGAIN) => {}
            }
        }
        Ok(())
    }

    pub(super) fn engine<'a>(&'a self, known: &'a mut Known, busy: &'a Notify) -> Engine<'a> {
        Engine {
            options: &self.options,
            target: &*self.target,
            reader: &*self.reader,
            local: &self.local,
            observer: &self.observer,
            index: &mut known.index,
            ties: &mut known.ties,
            stability: &mut known.stability,
            holds: &known.holds,
            seed: known.seed.as_ref(),
            purged: &known.purged,
            busy,
        }
    }

    /// Applies what comes next of an origin; false where there is nothing that can be applied now.
    async fn apply_next(&self, state: &mut State, at: usize, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let State { known, waiting, durable, ready } = state;
        let waiting = &mut waiting[at];
        let mut next = match ready[at].take() {
            Some(ready) => ready?,
            None => match self.take_next(waiting, &known.stability, true).await? {
                Some(next) => next,
                None => return Ok(false),
            },
        };
        if let Ready::Group(group, steps) = &mut next {
            // Here and not when it was made ready: what it has to wait behind may have come since.
            known.holds.hold_back(group, steps);
        }
        let (mark, seen) = match &next {
            Ready::Stream(stream) => {
                if self.commit(known, &Notify::new(), &Job::Stream(stream), &stream.origin, shutdown).await?.is_none() {
                    return Ok(false);
                }
                self.engine(known, &Notify::new()).remember_stream(stream).await?;
                durable[at] = stream.mark.clone();
                waiting.mark = stream.mark.clone();
                (&stream.mark, &stream.seen)
            }
            Ready::Single { offset, record, mark } => {
                // What the origin had seen of us, so that it is not taken for something that it has yet to see.
                known.stability.tell(waiting.node, &record.seen);
                if let Some(by) = record.removed_by() {
                    if !self.take_removal(known, waiting, mark, by, shutdown).await? {
                        return Ok(false);
                    }
                    durable[at] = mark.clone();
                } else if let Some(prints) = known.seed_prints(record) {
                    if !self.take_seeded(known, &durable[at], (*offset, record), prints, shutdown).await? {
                        return Ok(false);
                    }
                } else if record.note().is_some() {
                    self.take_note(known, record).await?;
                } else {
                    if !self.take_alone(known, waiting, (*offset, record), mark, shutdown).await? {
                        return Ok(false);
                    }
                    durable[at] = mark.clone();
                }
                (mark, &record.seen)
            }
            Ready::Group(group, steps) => {
                if !group.records.is_empty() || group.mark.next.0 - durable[at].next.0 >= self.options.idle_checkpoint {
                    let (busy, stability) = (Notify::new(), known.stability.clone());
                    let job = Job::Group(group, steps);
                    let commit = async {
                        let committed = self.commit(known, &busy, &job, &group.origin, shutdown).await;
                        // What was taken below must not be dropped half-made: it is in the queue no longer.
                        busy.notify_one();
                        committed
                    };
                    let ahead = async {
                        busy.notified().await;
                        if waiting.is_large() { Ok(None) } else { self.take_next(waiting, &stability, false).await }
                    };
                    let (committed, next) = tokio::join!(commit, ahead);
                    ready[at] = next.transpose();
                    let Some(tally) = committed? else { return Ok(false) };
                    self.engine(known, &busy).remember(group, steps)?;
                    waiting.grow(tally.settled, &self.options);
                    assert!(durable[at].next <= group.mark.next, "a checkpoint never moves back");
                    durable[at] = group.mark.clone();
                }
                (&group.mark, &group.seen)
            }
        };
        known.stability.tell(waiting.node, seen);
        known.stability.take(waiting.node, mark.next);
        for node in self.options.cluster.ranks() {
            known.index.forget(node, known.stability.stable(node))?;
        }
        Ok(true)
    }

    /// Takes what comes next of an origin out of what waits, and finds out which rows it writes. `due` where it is its turn:
    /// what holds it is told then, and not when the turn of the one before is still to end.
    async fn take_next(&self, waiting: &mut Waiting, stability: &Stability, due: bool) -> Result<Option<Ready>, ApplyError> {
        let next = match waiting.next(&self.options, stability, self.clock.now_micros()) {
            Ok(Some(next)) => next,
            Ok(None) | Err(Hold::Cause) => return Ok(None),
            Err(Hold::Clock { ahead_seconds }) => {
                if due {
                    self.observer.clock_wrong(&waiting.origin, ahead_seconds);
                }
                return Ok(None);
            }
        };
        Ok(Some(match next {
            Next::Stream(stream) => Ready::Stream(stream),
            Next::Single { offset, record, mark } => {
                waiting.mark = mark.clone();
                Ready::Single { offset, record, mark }
            }
            Next::Group(group) => {
                assert!(waiting.mark.next <= group.mark.next, "a checkpoint never moves back");
                // From here on it is applied before anything else of its origin, or the run ends and all is read anew.
                waiting.mark = group.mark.clone();
                self.observer.duplicates(&group.origin, group.duplicates);
                let steps = steps(&group, &*self.target).await?;
                Ready::Group(group, steps)
            }
        }))
    }

    /// Takes a statement that defines tables, or one that emptied a table. False at shutdown.
    async fn take_alone(
        &self,
        known: &mut Known,
        waiting: &Waiting,
        (offset, record): (Offset, &Record),
        mark: &Mark,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        if !empties(record) {
            return self.take_schema(known, (offset, record), mark, shutdown).await;
        }
        let (busy, origin) = (Notify::new(), &waiting.origin);
        let mut group = Group {
            node: waiting.node,
            origin: origin.clone(),
            records: vec![(offset, record.clone())],
            duplicates: 0,
            mark: mark.clone(),
            seen: record.seen.clone(),
            parked: Vec::new(),
            unparked: Vec::new(),
            again: false,
            empties: false,
        };
        known.holds.hold_back(&mut group, &mut Vec::new());
        if !group.parked.is_empty() {
            let parked = self.commit(known, &busy, &Job::Group(&group, &[]), origin, shutdown).await?;
            return Ok(parked.is_some());
        }
        let Group { node, mark, .. } = group;
        let emptied = Emptied { node, origin: origin.clone(), offset, record: record.clone(), mark, unparked: None };
        let committed = self.commit(known, &busy, &Job::Empty(&emptied), origin, shutdown).await?.is_some();
        if committed {
            self.engine(known, &busy).remember_emptied(&emptied);
        }
        Ok(committed)
    }

    /// Hears what another node tells; what is told to others is passed by.
    async fn take_note(&self, known: &mut Known, record: &Record) -> Result<(), ApplyError> {
        let own = self.options.cluster.own();
        match record.note() {
            // Rows that are still to be brought up to date say nothing about what others should have.
            Some(Note::Ask(ask)) if ask.of.contains(own) && known.seed.is_some() => {
                self.notes.refuse(ask, "it is being seeded itself");
            }
            Some(Note::Ask(ask)) if ask.of.contains(own) => self.notes.asked(ask),
            Some(Note::Prints(prints)) if prints.verify.asker == *own && self.notes.wants(&record.origin, prints) => {
                let compared = self.engine(known, &Notify::new()).compare(&record.origin, &record.seen, prints).await?;
                self.notes.compared(&record.origin, prints, compared);
            }
            Some(Note::Settled { conflict }) => self.target.settle(conflict).await?,
            _ => {}
        }
        Ok(())
    }

    /// Tries until it is committed. `None` at shutdown.
    pub(super) async fn commit(
        &self,
        known: &mut Known,
        busy: &Notify,
        job: &Job<'_>,
        origin: &OriginId,
        shutdown: &Shutdown,
    ) -> Result<Option<Tally>, ApplyError> {
        let mut settle = matches!(job, Job::Again(..));
        let mut trouble = Trouble::default();
        let mut backoff = Backoff::seeded(Duration::from_millis(5), Duration::from_secs(1), job.mark().next.0);
        while !shutdown.is_cancelled() {
            let mut engine = self.engine(known, busy);
            engine.absorb().await?;
            let attempt = match job {
                Job::Stream(stream) => engine.stream(stream, &mut trouble).await,
                Job::Empty(emptied) => engine.empty(emptied, &mut trouble).await,
                Job::Look(group, steps, gone) => engine.look(group, steps, gone, &mut trouble).await,
                Job::Group(group, steps) | Job::Again(group, steps) if settle => {
                    engine.settle(group, steps, &mut trouble).await
                }
                Job::Group(group, steps) | Job::Again(group, steps) => engine.straight(group, steps).await,
            };
            let wait = match attempt {
                Ok(Attempt::Committed(mut tally)) => {
                    tally.settled = settle;
                    tally.tell(origin, &self.observer);
                    return Ok(Some(tally));
                }
                Ok(Attempt::Settle) => {
                    settle = true;
                    continue;
                }
                Ok(Attempt::TailerBehind) => {
                    self.observer.waits_for_tailer(origin);
                    backoff.next_wait()
                }
                Ok(Attempt::Surprised) => continue,
                Ok(Attempt::Failed) => self.options.retry_wait,
                // Somebody else was in the way: the transaction is gone, and nothing of it happened.
                Err(ApplyError::Target(error @ TargetError::Contended { .. })) => {
                    debug_assert_eq!(error.disposition(), Disposition::Retry);
                    self.observer.contended(origin);
                    backoff.next_wait()
                }
                Err(error) => return Err(error),
            };
            // Ends early at shutdown; a time-out is the ordinary end of the wait.
            let _ = timeout(wait, shutdown.cancelled()).await;
        }
        Ok(None)
    }

    /// Everything the applier knows comes from the topics and the checkpoints: read both again.
    async fn rebuild(&self) -> Result<State, ApplyError> {
        let cluster = &self.options.cluster;
        let mut marks = self.target.checkpoints().await?;
        let index = Index::new(self.options.index_rows, (self.overflow)()?);
        let holds = Holds::new(self.target.schema_entries().await?);
        let seed = Seed::open(self.target.seeding().await?, cluster)?;
        let mut known = Known {
            index,
            ties: Ties::default(),
            stability: Stability::new(cluster.clone()),
            holds,
            seed,
            purged: vec![None; cluster.len()],
        };
        known.index.hold(known.seed.is_some());
        if let Some(oldest) = known.holds.oldest() {
            for node in cluster.ranks() {
                let told = oldest.told.get(cluster.name(node)).cloned().unwrap_or_default();
                known.stability.tell(node, &Arc::new(told));
            }
            known.stability.freeze(true);
        }
        let (mut waiting, mut durable) = (Vec::new(), Vec::new());
        let (mut reaches, mut told) = (Vec::new(), BTreeSet::new());
        for node in cluster.ranks() {
            let origin = cluster.name(node);
            let extent = self.reader.extent(origin).await?;
            let mark = marks.remove(origin);
            told.extend(extent.last.iter().flat_map(|last| last.seen.0.keys().cloned()));
            let reach = match (node == cluster.own_rank(), &mark) {
                (true, _) => extent.end,
                (false, mark) => mark.as_ref().map_or(Offset(0), |mark| mark.next),
            };
            if extent.end < reach {
                return Err(TopicError::PastEnd { origin: origin.clone(), wanted: reach, end: extent.end }.into());
            }
            if node != cluster.own_rank() && extent.first > reach {
                // Before anything is applied: a new node that had begun would no longer be known as one, when it is seeded.
                return Err(TopicError::Gone { origin: origin.clone(), wanted: reach, first: extent.first }.into());
            }
            let removed_by = extent.last.as_ref().and_then(Record::removed_by).filter(|_| reach == extent.end);
            if let Some(by) = removed_by {
                if node == cluster.own_rank() {
                    return Err(ApplyError::Removed { origin: origin.clone(), by: by.clone() });
                }
                self.removed(&mut known, node, by);
            }
            if node != cluster.own_rank() {
                if extent.first < reach {
                    let from = Offset(reach.0 - 1);
                    let last = read_kept(&*self.reader, origin, from, 1, Tries::Many).await?;
                    if let Some((_, record)) = last.first() {
                        // An origin's clock never stands still from one transaction to the next, nor goes back.
                        if mark.as_ref().is_some_and(|mark| mark.hlc != record.hlc) {
                            return Err(TopicError::Replaced { origin: origin.clone(), next: reach }.into());
                        }
                        known.stability.tell(node, &record.seen);
                        self.observer.told(origin, &record.seen);
                    }
                }
                let from = Waiting::new(node, origin.clone(), mark);
                durable.push(from.mark.clone());
                waiting.push(from);
            }
            known.stability.take(node, reach);
            reaches.push((node, extent.first, reach));
        }
        let mut unlisted: BTreeMap<OriginId, Offset> = marks.into_iter().map(|(origin, mark)| (origin, mark.next)).collect();
        let elsewhere = told.into_iter().filter(|origin| cluster.rank(origin).is_none());
        elsewhere.for_each(|origin| _ = unlisted.entry(origin).or_default());
        self.check_unlisted(&unlisted).await?;
        for (node, first, reach) in reaches {
            let stable = known.stability.stable(node);
            let from = stable.max(first);
            if from > stable {
                let oldest = read_kept(&*self.reader, cluster.name(node), from, 1, Tries::Many).await?;
                known.purged[usize::from(node.0)] = oldest.first().map(|(_, record)| (from, record.hlc));
            }
            let mut from = from;
            if let Some(seed) = &known.seed {
                from = from.min(self.seeded_from(seed, cluster.name(node), (first, reach)).await?);
            }
            known.holds.incomplete |= from > stable && !known.holds.is_empty();
            if node == cluster.own_rank() {
                self.observer.own_topic_read(from, []);
            }
            self.engine(&mut known, &Notify::new()).note_range(node, from, reach, Tries::Many).await?;
        }
        let ready = waiting.iter().map(|_| None).collect();
        Ok(State { known, waiting, durable, ready })
    }
}

/// What is committed at once.
pub(super) enum Job<'a> {
    Group(&'a Group, &'a [Step]),
    /// What was set aside: row by row from the first attempt on.
    Again(&'a Group, &'a [Step]),
    /// What was applied before, to be compared with the rows; and of which records these may have gone in silence.
    Look(&'a Group, &'a [Step], &'a [bool]),
    Stream(&'a Stream),
    Empty(&'a Emptied),
}

impl Job<'_> {
    fn mark(&self) -> &Mark {
        match self {
            Self::Group(group, _) | Self::Again(group, _) | Self::Look(group, ..) => &group.mark,
            Self::Stream(stream) => &stream.mark,
            Self::Empty(emptied) => &emptied.mark,
        }
    }
}

/// What is known of the writes of all nodes.
pub(super) struct Known {
    pub index: Index,
    pub ties: Ties,
    pub stability: Stability,
    pub holds: Holds,
    /// This node is being seeded.
    pub seed: Option<Seed>,
    /// Per origin: what is kept of its topic begins here, with this clock, and some node had not told to have what came before.
    pub purged: Vec<Option<(Offset, Hlc)>>,
}

/// Taken from what waits, and ready to be applied.
pub(super) enum Ready {
    Group(Group, Vec<Step>),
    Stream(Stream),
    Single { offset: Offset, record: Record, mark: Mark },
}

pub(super) struct State {
    pub known: Known,
    /// Per other origin: what was read and not yet applied.
    pub waiting: Vec<Waiting>,
    /// Per other origin: the checkpoint in the database. Heartbeats move ahead of it.
    pub durable: Vec<Mark>,
    /// Per other origin: what was made ready while the one before it was written.
    pub ready: Vec<Option<Result<Ready, ApplyError>>>,
}

impl State {
    /// Takes what the fetch has ready, as far as there is room.
    fn fill(&mut self, at: usize, fetch: &mut Fetch, options: &ApplyOptions) -> Result<(), ApplyError> {
        while self.waiting[at].has_room(options) {
            match fetch.take()? {
                Some(batch) => self.waiting[at].push(batch, options),
                None => break,
            }
        }
        Ok(())
    }

    fn report(&self, at: usize, observer: &Observer) {
        observer.index_rows(self.known.index.len() as u64, self.known.index.spilled());
        let waiting = &self.waiting[at];
        let pending = match &self.ready[at] {
            Some(Ok(Ready::Group(group, _))) => waiting.len() + group.records.len() as u64,
            // How many changes it has is counted when they are applied.
            _ if waiting.is_large() => 1,
            _ => waiting.len(),
        };
        observer.pending(&waiting.origin, pending);
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::record;
    use super::super::twins::apply_until;
    use super::*;
    use crate::target::memory::{MemoryOptions, MemoryTarget};
    use crate::topic::TopicWriter as _;
    use crate::topic::memory::{FairWeather, MemoryTopics};

    /// Three heartbeats of node b, whose clock began here.
    async fn topic(clock: u64) -> MemoryTopics {
        topic_that(clock, false).await
    }

    /// The same, perhaps ended by node a.
    async fn topic_that(clock: u64, ended: bool) -> MemoryTopics {
        let topics = MemoryTopics::new();
        let records: Vec<_> = (1..4).map(|sequence| record(sequence, 0, true).1).collect();
        let mut records: Vec<_> =
            records.into_iter().map(|record| Record { hlc: Hlc(clock + record.hlc.0), ..record }).collect();
        if ended {
            records.push(Record::removal(&OriginId::new("b"), records.last(), &OriginId::new("a")));
        }
        let mut writer = topics.writer(OriginId::new("b"), Arc::new(FairWeather));
        writer.resume().await.unwrap();
        writer.append(Offset(0), &records).await.unwrap();
        topics
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_leaves_the_list_when_its_topic_is_ended_and_taken_whole_and_not_before() {
        let target = MemoryTarget::new([], MemoryOptions::default());
        let refused = async |ended: bool, nodes: &[&str], words: &str| {
            let error = apply_until(&target, topic_that(0, ended).await, nodes, 0).await.expect_err(words);
            let said = format!("{error} — {}", error.hint().unwrap_or_default());
            assert!(error.disposition() == Disposition::Halt && said.contains(words), "{said}");
        };
        apply_until(&target, topic(0).await, &["a", "b"], 3).await.expect("everything is new");
        refused(false, &["a"], "b is no longer in [nodes], but its topic was not closed").await;
        refused(true, &["a"], "1 records of its topic are not applied here").await;
        apply_until(&target, topic_that(0, true).await, &["a", "b"], 4).await.expect("it is taken in its place");
        assert_eq!(target.marks()[&OriginId::new("b")].data, Some(Offset(3)));
        apply_until(&target, topic_that(0, true).await, &["a"], 0).await.expect("nobody needs it any more");
        refused(true, &["b", "a"], "this node, b, was removed by a").await;
    }

    /// By what it has applied a new node is told from one that was away, when it is seeded.
    #[tokio::test(start_paused = true)]
    async fn where_the_beginning_of_one_topic_is_missing_nothing_of_the_others_is_applied() {
        let target = MemoryTarget::new([], MemoryOptions::default());
        let (topics, c) = (topic(0).await, OriginId::new("c"));
        let mut writer = topics.writer(c.clone(), Arc::new(FairWeather));
        writer.resume().await.unwrap();
        let records = [1, 2, 3].map(|sequence| Record { origin: c.clone(), ..record(sequence, 0, true).1 });
        writer.append(Offset(0), &records).await.unwrap();
        topics.forget_before(&c, Offset(2));
        let error = apply_until(&target, topics, &["a", "b", "c"], 3).await.expect_err("two records are missing");
        assert!(matches!(error, ApplyError::Topic(TopicError::Gone { .. })), "{error}");
        assert!(target.marks().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_was_replaced_by_another_as_long_is_noticed() {
        let names = ["a", "b"].map(OriginId::new);
        let target = MemoryTarget::new([], MemoryOptions::default());
        let apply = async |topics: MemoryTopics| apply_until(&target, topics, &["a", "b"], 3).await;
        apply(topic(0).await).await.expect("everything is new");
        assert_eq!(target.marks()[&names[1]].next, Offset(3));
        apply(topic(0).await).await.expect("it is the same");
        let error = apply(topic(5).await).await.expect_err("it is another");
        assert!(matches!(error, ApplyError::Topic(TopicError::Replaced { .. })), "{error}");
        assert_eq!(error.disposition(), Disposition::Halt);
        assert!(error.hint().unwrap().contains("topic rolled back"));
    }
}
