//! The loop of the applier: take a group of an origin, apply it, remember it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::engine::Engine;
use super::fetch::Fetch;
use super::group::{Group, Hold, Waiting};
use super::index::Index;
use super::settle::{Attempt, Committed, Trouble};
use super::stability::Stability;
use super::step::{Step, steps};
use super::{ApplyError, ApplyOptions, LocalFeed, Overflow, OverflowError};
use crate::change::Offset;
use crate::observe::{Fate, Observer};
use crate::runtime::{Backoff, Clock, Disposition, Fault, Shutdown};
use crate::target::Target;
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
        let mut fetches: Vec<Fetch> = state
            .waiting
            .iter()
            .map(|waiting| {
                let (reader, arrived) = (self.reader.clone(), arrived.clone());
                let bytes = self.options.buffer_bytes / 2;
                Fetch::start(reader, waiting.origin.clone(), waiting.mark.next, bytes, arrived, self.observer.clone())
            })
            .collect();
        while !shutdown.is_cancelled() {
            let mut progress = false;
            for (at, fetch) in fetches.iter_mut().enumerate() {
                state.fill(at, fetch, &self.options)?;
                progress |= self.next_group(&mut state, at, &shutdown).await?;
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

    /// Applies the next group of an origin; false where there is nothing that can be applied now.
    async fn next_group(&self, state: &mut State, at: usize, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let now = self.clock.now_micros();
        let State { waiting, stability, .. } = state;
        let group = match waiting[at].next_group(&self.options, stability, now) {
            Ok(Some(group)) => group,
            Ok(None) | Err(Hold::Cause) => return Ok(false),
            Err(Hold::Clock { ahead_seconds }) => {
                self.observer.clock_wrong(&waiting[at].origin, ahead_seconds);
                return Ok(false);
            }
        };
        self.observer.duplicates(&group.origin, group.duplicates);
        let steps = steps(&group, &*self.target).await?;
        let idle = group.records.is_empty();
        if !idle || group.mark.next.0 - state.durable[at].0 >= self.options.idle_checkpoint {
            let Some(committed) = self.commit(state, &group, &steps, shutdown).await? else { return Ok(false) };
            self.remember(state, &group, &steps, &committed)?;
            state.durable[at] = group.mark.next;
        }
        state.stability.tell(group.node, &group.seen);
        state.stability.take(group.node, group.mark.next);
        for node in self.options.cluster.ranks() {
            state.index.forget(node, state.stability.stable(node))?;
        }
        let checkpoint = &mut state.waiting[at].mark;
        assert!(checkpoint.next <= group.mark.next, "a checkpoint never moves back");
        *checkpoint = group.mark;
        Ok(true)
    }

    /// Tries until the group is committed. `None` at shutdown.
    async fn commit(
        &self,
        state: &mut State,
        group: &Group,
        steps: &[Step],
        shutdown: &Shutdown,
    ) -> Result<Option<Committed>, ApplyError> {
        let mut settle = false;
        let mut trouble = Trouble::default();
        let mut backoff = Backoff::seeded(Duration::from_millis(5), Duration::from_secs(1), group.mark.next.0);
        while !shutdown.is_cancelled() {
            let mut engine = self.engine(state);
            engine.absorb().await?;
            let attempt =
                if settle { engine.settle(group, steps, &mut trouble).await } else { engine.straight(group, steps).await };
            let wait = match attempt {
                Ok(Attempt::Committed(committed)) => return Ok(Some(committed)),
                Ok(Attempt::Settle) => {
                    settle = true;
                    continue;
                }
                Ok(Attempt::TailerBehind) => {
                    self.observer.waits_for_tailer(&group.origin);
                    backoff.next_wait()
                }
                Ok(Attempt::Failed(failed)) if failed.is_empty() => continue,
                Ok(Attempt::Failed(failed)) => {
                    trouble.count(failed);
                    self.options.retry_wait
                }
                // Somebody else was in the way: the transaction is gone, and nothing of it happened.
                Err(ApplyError::Target(error @ crate::target::TargetError::Contended { .. })) => {
                    debug_assert_eq!(error.disposition(), Disposition::Retry);
                    self.observer.contended(&group.origin);
                    backoff.next_wait()
                }
                Err(error) => return Err(error),
            };
            // Ends early at shutdown; a time-out is the ordinary end of the wait.
            let _ = timeout(wait, shutdown.cancelled()).await;
        }
        Ok(None)
    }

    fn remember(&self, state: &mut State, group: &Group, steps: &[Step], committed: &Committed) -> Result<(), OverflowError> {
        let mut engine = self.engine(state);
        for (step, fate) in steps.iter().zip(&committed.fates) {
            let (offset, record) = &group.records[step.at];
            let change = record.change().expect("a group's records hold changes");
            // Even a change that was set aside is the newest write that the topics know.
            engine.note(&step.canonical, group.version(step.at), *offset, step.deletes() && *fate == Fate::Applied)?;
            self.observer.applied(&group.origin, change.table(), change.op, *fate);
        }
        for conflict in &committed.conflicts {
            self.observer.conflict(conflict.key.table(), conflict.kind.word(), &conflict.winner.origin);
        }
        for letter in &committed.dead_letters {
            self.observer.dead_letter(&letter.origin, letter.change.table(), &letter.reason);
        }
        if let Some((_, last)) = group.records.last() {
            self.observer.committed(&group.origin, last.commit_second, committed.waited.as_secs_f64());
        }
        Ok(())
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
        // A transaction larger than the buffer must be complete before it can be applied, so an origin whose records
        // hold no whole transaction may go on.
        while self.waiting[at].bytes < options.buffer_bytes || !self.waiting[at].has_whole() {
            match fetch.take()? {
                Some(batch) => self.waiting[at].push(batch),
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
