//! The loop of the applier: take a group of an origin, apply it, remember it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::engine::Engine;
use super::fetch::Fetch;
use super::group::{Group, Hold, Next, Waiting};
use super::index::Index;
use super::large::Stream;
use super::settle::{Attempt, Trouble};
use super::stability::Stability;
use super::step::{Step, steps};
use super::{ApplyError, ApplyOptions, LocalFeed, Overflow, OverflowError};
use crate::change::{Mark, Offset, OriginId};
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
}

/// What is held because of its clock, or waits for another origin, is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Applier {
    /// Runs until shutdown (`Ok`) or a fault. After a fault with disposition `Retry`, run again.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ApplyError> {
        let _attached = self.local.attach();
        let mut state = self.rebuild().await?;
        let arrived = Arc::new(Notify::new());
        let fetch = |waiting: &Waiting| {
            let (reader, arrived) = (self.reader.clone(), arrived.clone());
            let bytes = self.options.buffer_bytes / 2;
            Fetch::start(reader, waiting.origin.clone(), waiting.mark.next, bytes, arrived, self.observer.clone())
        };
        let mut fetches: Vec<Fetch> = state.waiting.iter().map(fetch).collect();
        while !shutdown.is_cancelled() {
            let mut progress = false;
            for (at, reading) in fetches.iter_mut().enumerate() {
                state.fill(at, reading, &self.options)?;
                let was_large = state.waiting[at].is_large();
                let applied = self.apply_next(&mut state, at, &shutdown).await?;
                if applied && was_large {
                    // What was read after the large transaction was let go.
                    state.waiting[at].forget_large();
                    *reading = fetch(&state.waiting[at]);
                }
                progress |= applied;
            }
            state.report(&self.observer);
            if progress {
                continue;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = arrived.notified() => {}
                () = self.local.crowded() => self.engine(&mut state).absorb().await?,
                () = sleep(LOOK_AGAIN) => {}
            }
        }
        Ok(())
    }

    fn engine<'a>(&'a self, state: &'a mut State) -> Engine<'a> {
        Engine {
            options: &self.options,
            target: &*self.target,
            reader: &*self.reader,
            local: &self.local,
            observer: &self.observer,
            index: &mut state.index,
            stability: &mut state.stability,
        }
    }

    /// Applies what comes next of an origin; false where there is nothing that can be applied now.
    async fn apply_next(&self, state: &mut State, at: usize, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let now = self.clock.now_micros();
        let State { waiting, stability, .. } = state;
        let next = match waiting[at].next(&self.options, stability, now) {
            Ok(Some(next)) => next,
            Ok(None) | Err(Hold::Cause) => return Ok(false),
            Err(Hold::Clock { ahead_seconds }) => {
                self.observer.clock_wrong(&waiting[at].origin, ahead_seconds);
                return Ok(false);
            }
        };
        let (mark, seen) = match next {
            Next::Stream(stream) => {
                if !self.commit(state, &Job::Stream(&stream), &stream.origin, shutdown).await? {
                    return Ok(false);
                }
                state.durable[at] = stream.mark.next;
                (stream.mark, stream.seen)
            }
            Next::Group(group) => {
                self.observer.duplicates(&group.origin, group.duplicates);
                let steps = steps(&group, &*self.target).await?;
                if !group.records.is_empty() || group.mark.next.0 - state.durable[at].0 >= self.options.idle_checkpoint {
                    if !self.commit(state, &Job::Group(&group, &steps), &group.origin, shutdown).await? {
                        return Ok(false);
                    }
                    self.engine(state).remember(&group, &steps)?;
                    state.durable[at] = group.mark.next;
                }
                (group.mark, group.seen)
            }
        };
        let waiting = &mut state.waiting[at];
        state.stability.tell(waiting.node, &seen);
        state.stability.take(waiting.node, mark.next);
        assert!(waiting.mark.next <= mark.next, "a checkpoint never moves back");
        waiting.mark = mark;
        for node in self.options.cluster.ranks() {
            state.index.forget(node, state.stability.stable(node))?;
        }
        Ok(true)
    }

    /// Tries until it is committed. False at shutdown.
    async fn commit(
        &self,
        state: &mut State,
        job: &Job<'_>,
        origin: &OriginId,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        let mut settle = false;
        let mut trouble = Trouble::default();
        let mut backoff = Backoff::seeded(Duration::from_millis(5), Duration::from_secs(1), job.mark().next.0);
        while !shutdown.is_cancelled() {
            let mut engine = self.engine(state);
            engine.absorb().await?;
            let attempt = match job {
                Job::Stream(stream) => engine.stream(stream, &mut trouble).await,
                Job::Group(group, steps) if settle => engine.settle(group, steps, &mut trouble).await,
                Job::Group(group, steps) => engine.straight(group, steps).await,
            };
            let wait = match attempt {
                Ok(Attempt::Committed(tally)) => {
                    tally.tell(origin, &self.observer);
                    return Ok(true);
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
        Ok(false)
    }

    /// Everything the applier knows comes from the topics and the checkpoints: read both again.
    async fn rebuild(&self) -> Result<State, ApplyError> {
        let cluster = &self.options.cluster;
        let mut marks = self.target.checkpoints().await?;
        let mut state = State {
            index: Index::new(self.options.index_rows, (self.overflow)()?),
            stability: Stability::new(cluster.clone()),
            waiting: Vec::new(),
            durable: Vec::new(),
        };
        let mut reaches = Vec::new();
        for node in cluster.ranks() {
            let origin = cluster.name(node);
            let extent = self.reader.extent(origin).await?;
            let mark = marks.remove(origin);
            let reach = match (node == cluster.own_rank(), &mark) {
                (true, _) => extent.end,
                (false, mark) => mark.as_ref().map_or(Offset(0), |mark| mark.next),
            };
            if extent.end < reach {
                return Err(TopicError::PastEnd { origin: origin.clone(), wanted: reach, end: extent.end }.into());
            }
            if node != cluster.own_rank() {
                if extent.first < reach {
                    let from = Offset(reach.0 - 1);
                    let last = self.reader.read(origin, from, 1, Duration::ZERO).await?;
                    if let Some((_, record)) = last.first() {
                        // An origin's clock never stands still from one transaction to the next, nor goes back.
                        if mark.as_ref().is_some_and(|mark| mark.hlc != record.hlc) {
                            return Err(TopicError::Replaced { origin: origin.clone(), next: reach }.into());
                        }
                        state.stability.tell(node, &record.seen);
                        self.observer.told(origin, &record.seen);
                    }
                }
                state.waiting.push(Waiting::new(node, origin.clone(), mark));
                state.durable.push(reach);
            }
            state.stability.take(node, reach);
            reaches.push((node, extent.first, reach));
        }
        for (node, first, reach) in reaches {
            let from = state.stability.stable(node).max(first);
            if node == cluster.own_rank() {
                self.observer.own_topic_read(from, []);
            }
            self.engine(&mut state).note_range(node, from, reach).await?;
        }
        Ok(state)
    }
}

/// What is committed at once.
enum Job<'a> {
    Group(&'a Group, &'a [Step]),
    Stream(&'a Stream),
}

impl Job<'_> {
    fn mark(&self) -> &Mark {
        match self {
            Self::Group(group, _) => &group.mark,
            Self::Stream(stream) => &stream.mark,
        }
    }
}

struct State {
    index: Index,
    stability: Stability,
    /// Per other origin: what was read and not yet applied.
    waiting: Vec<Waiting>,
    /// Per other origin: the checkpoint in the database. Heartbeats move ahead of it.
    durable: Vec<Offset>,
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

    fn report(&self, observer: &Observer) {
        observer.index_rows(self.index.len() as u64, self.index.spilled());
        for waiting in &self.waiting {
            observer.pending(&waiting.origin, waiting.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoOverflow;
    use super::super::group::tests::record;
    use super::*;
    use crate::change::{Cluster, Hlc, Record};
    use crate::runtime::SystemClock;
    use crate::target::memory::{MemoryOptions, MemoryTarget};
    use crate::topic::TopicWriter as _;
    use crate::topic::memory::{FairWeather, MemoryTopics};

    /// Three heartbeats of node b, whose clock began here.
    async fn topic(clock: u64) -> MemoryTopics {
        let topics = MemoryTopics::new();
        let records: Vec<_> = (1..4).map(|sequence| record(sequence, 0, true).1).collect();
        let records: Vec<_> = records.into_iter().map(|record| Record { hlc: Hlc(clock + record.hlc.0), ..record }).collect();
        let mut writer = topics.writer(OriginId::new("b"), Arc::new(FairWeather));
        writer.resume().await.unwrap();
        writer.append(Offset(0), &records).await.unwrap();
        topics
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_was_replaced_by_another_as_long_is_noticed() {
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let target = MemoryTarget::new([], MemoryOptions::default());
        let apply = async |topics: MemoryTopics| {
            let applier = Applier {
                options: ApplyOptions { idle_checkpoint: 1, ..ApplyOptions::new(cluster.clone()) },
                target: Arc::new(target.clone()),
                reader: Arc::new(topics.reader(Arc::new(FairWeather))),
                local: Arc::default(),
                overflow: Arc::new(|| Ok(Box::new(NoOverflow))),
                clock: Arc::new(SystemClock),
                observer: Observer::default(),
            };
            let shutdown = Shutdown::new();
            let running = tokio::spawn(applier.run(shutdown.clone()));
            while !running.is_finished() && target.marks().get(&names[1]).is_none_or(|mark| mark.next < Offset(3)) {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
            running.await.unwrap()
        };
        apply(topic(0).await).await.expect("everything is new");
        assert_eq!(target.marks()[&names[1]].next, Offset(3));
        apply(topic(0).await).await.expect("it is the same");
        let error = apply(topic(5).await).await.expect_err("it is another");
        assert!(matches!(error, ApplyError::Topic(TopicError::Replaced { .. })), "{error}");
        assert_eq!(error.disposition(), Disposition::Halt);
        assert!(error.hint().unwrap().contains("topic rolled back"));
    }
}
