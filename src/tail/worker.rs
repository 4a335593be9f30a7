//! The loop of the tailer: read the binlog, decide, append to the topic, tell the follower.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::reread::is_about_the_past;
use super::snapshot::Snapshotting;
use super::{Floor, Follower, RereadDesk, Sequencer, Snapshots, TailError, TailOptions};
use crate::change::{GtidPosition, Offset, Record, Seen};
use crate::observe::Observer;
use crate::runtime::{Clock, Disposition, Fault, Shutdown};
use crate::source::{Source, SourceError, SourceEvent, TransactionStream};
use crate::topic::{TopicError, TopicWriter};

/// Publishes one node's own changes. Build it anew for every run.
pub struct Tailer {
    pub options: TailOptions,
    pub source: Arc<dyn Source>,
    pub writer: Box<dyn TopicWriter>,
    pub follower: Arc<dyn Follower>,
    pub floor: Arc<dyn Floor>,
    pub clock: Arc<dyn Clock>,
    pub observer: Observer,
    /// Existing rows to publish; `None` where nobody can ask for them.
    pub snapshots: Option<Snapshots>,
    /// Where people ask for the binlog to be read again from an older place.
    pub rereads: Arc<RereadDesk>,
}

/// An append that is under way: it owns the writer and the records until it is done.
type Append = Pin<Box<dyn Future<Output = Appended> + Send>>;

struct Appended {
    writer: Box<dyn TopicWriter>,
    records: Vec<Record>,
    first: Offset,
    outcome: Result<Offset, TopicError>,
}

impl Tailer {
    /// Runs until shutdown (`Ok`) or a fault. After a fault with disposition `Retry`, run again.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), TailError> {
        let Self { options, source, mut writer, follower, floor, clock, observer, snapshots, rereads } = self;
        let mut snapshot = Snapshotting::new(snapshots, observer.clone(), options.ablation.no_snapshot_window);
        let extent = writer.resume().await?;
        if extent.end < floor.end() {
            return Err(TopicError::PastEnd { origin: options.origin, wanted: floor.end(), end: extent.end }.into());
        }
        if let Some(by) = extent.last.as_ref().and_then(Record::removed_by) {
            return Err(TailError::Removed { origin: options.origin, by: by.clone() });
        }
        floor.raise(extent.end);
        follower.resumed(extent.end);
        let (mut sequencer, fresh) = match &extent.last {
            Some(last) => (Sequencer::resume(options.clone(), observer.clone(), last), false),
            // The first heartbeat makes this position durable before anything is read.
            None => (Sequencer::start(options.clone(), observer.clone(), source.position().await?), true),
        };
        if let Some(rereading) = rereads.take(&*source, extent.last.as_ref().map(|last| &*last.position)).await? {
            sequencer.read_again(rereading);
        }
        let mut stream = open_again(&*source, &mut sequencer, &observer).await?;
        // Where a topic begins, nothing counts as new until that place is durable: a run that ends before begins elsewhere.
        let mut connected = (!fresh).then(|| Connected::new(observer.clone()));
        let mut state = State {
            end: extent.end,
            told_seen: sequencer.seen().clone(),
            told_at: Instant::now(),
            told_trace: extent.last.is_some_and(|last| last.trace.is_some()),
            sequencer,
            writer: Some(writer),
            buffer: Vec::new(),
            buffered_bytes: 0,
            in_flight: 0,
            durable: 0,
            options,
            observer: observer.clone(),
            follower,
            floor,
        };
        if fresh {
            state.push_heartbeat();
        } else {
            state.pass();
        }
        let mut append: Option<Append> = None;
        let outcome = loop {
            if append.is_none() {
                append = state.start_append();
            }
            // Old changes that come once more would be taken for ones that were made while the rows were read.
            if state.buffered_bytes < state.options.buffer_bytes / 2 && !state.sequencer.is_rereading() {
                snapshot.open(&state.sequencer);
            }
            let may_read = state.buffered_bytes < state.options.buffer_bytes;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                done = async { append.as_mut().expect("guarded").await }, if append.is_some() => {
                    append = None;
                    if let Err(error) = state.finish_append(done) {
                        break Err(error.into());
                    }
                    connected.get_or_insert_with(|| Connected::new(observer.clone()));
                }
                // Seldom ready, and would starve behind a busy history.
                () = snapshot.advance() => {}
                event = stream.next(), if may_read => match event {
                    // Only what is read to compare it, and need not be read to go on.
                    Err(error)
                        if state.sequencer.is_doubtful() && !state.sequencer.is_rereading() && !is_about_history(&error) =>
                    {
                        state.sequencer.trust();
                        observer.history_not_compared(&error.to_string());
                        drop(stream);
                        match source.stream(&state.sequencer.read_from()).await {
                            Ok(again) => stream = again,
                            Err(error) => break Err(error.into()),
                        }
                    }
                    Err(error) => {
                        drop(stream);
                        match past(&mut state.sequencer, &*source, &observer, error.into()).await {
                            Ok(on) => stream = on,
                            Err(error) => break Err(error),
                        }
                    }
                    Ok(SourceEvent::Idle) => {}
                    Ok(SourceEvent::Part(part)) => {
                        let from = state.buffer.len();
                        snapshot.see(&part);
                        if let Err(error) = state.sequencer.take(part, clock.now_seconds(), &mut state.buffer) {
                            break Err(error);
                        }
                        state.buffered_bytes += state.buffer[from..].iter().map(Record::weight).sum::<usize>();
                        state.pass_if_quiet(append.is_some());
                    }
                },
                () = sleep_until(state.heartbeat_due()), if append.is_none() && state.buffer.is_empty() => {
                    state.push_heartbeat();
                }
            }
            for record in snapshot.take(&state.sequencer, state.decided()) {
                state.push(record);
            }
            snapshot.keep(state.durable);
        };
        // What was decided before the end is worth publishing: the next run has less to read again. An append under
        // way is finished, so that its outcome is known.
        if let Some(under_way) = append.take() {
            let done = under_way.await;
            let finished = state.finish_append(done);
            snapshot.keep(state.durable);
            return outcome.and(finished.map_err(TailError::from));
        }
        outcome
    }
}

/// Why the binlog is no longer what the last record of the own topic tells of; `None` where it is. Reads no further than that.
/// Not to be asked while a tailer of the node reads: the server lets go of one of them.
pub async fn lost_history(
    options: TailOptions,
    source: &dyn Source,
    last: &Record,
    now_seconds: u64,
) -> Result<Option<TailError>, TailError> {
    let observer = Observer::default();
    let mut sequencer = Sequencer::resume(options, observer.clone(), last);
    let about = |error: SourceError| match error.disposition() != Disposition::Retry && is_about_history(&error) {
        true => Ok(Some(TailError::from(error))),
        false => Err(TailError::from(error)),
    };
    let mut stream = match open(source, &mut sequencer, &observer).await {
        Ok(stream) => stream,
        Err(error) => return about(error),
    };
    while sequencer.is_doubtful() {
        match stream.next().await {
            Ok(SourceEvent::Idle) => {}
            Ok(SourceEvent::Part(part)) => {
                if let Err(error) = sequencer.take(part, now_seconds, &mut Vec::new()) {
                    return Ok(Some(error));
                }
            }
            Err(error) => return about(error),
        }
    }
    Ok(None)
}

/// Begins the topic of a node whose tailer has never run, where the binlog ends now: so that the tailer comes to what is written before
/// it runs for the first time. Nothing, where the topic has begun.
pub async fn begin_topic(options: TailOptions, source: &dyn Source, writer: &mut dyn TopicWriter) -> Result<(), TailError> {
    let extent = writer.resume().await?;
    if extent.last.is_none() {
        let begun = Sequencer::start(options, Observer::default(), source.position().await?);
        let first = begun.heartbeat().expect("nothing was read, so no transaction is under way");
        writer.append(extent.end, &[first]).await?;
    }
    Ok(())
}

/// Opens the binlog where somebody wants it read from, or else where the tailer was.
async fn open_again(
    source: &dyn Source,
    sequencer: &mut Sequencer,
    observer: &Observer,
) -> Result<Box<dyn TransactionStream>, TailError> {
    if sequencer.is_rereading() {
        return match source.stream(&sequencer.read_from()).await {
            Ok(stream) => Ok(stream),
            Err(error) => past(sequencer, source, observer, error.into()).await,
        };
    }
    Ok(open(source, sequencer, observer).await?)
}

/// What is read only because somebody wants it cannot be read: the tailer goes on where it was. Any other error stays one.
async fn past(
    sequencer: &mut Sequencer,
    source: &dyn Source,
    observer: &Observer,
    error: TailError,
) -> Result<Box<dyn TransactionStream>, TailError> {
    match sequencer.give_up_reread().filter(|_| is_about_the_past(&error)) {
        Some(rereading) => {
            rereading.give_up(&error);
            Ok(open(source, sequencer, observer).await?)
        }
        None => Err(error),
    }
}

/// Reading begins where the last transaction that was passed comes again, or after it where the server no longer has it.
async fn open(
    source: &dyn Source,
    sequencer: &mut Sequencer,
    observer: &Observer,
) -> Result<Box<dyn TransactionStream>, SourceError> {
    if sequencer.is_doubtful() {
        // A server whose history ends right before that transaction would be waited for without an end.
        let (end, wanted) = (source.position().await?, sequencer.position());
        if !end.covers_all(wanted) {
            return Err(SourceError::NotInHistory { wanted: (**wanted).clone(), reason: format!("it ends at {end}") });
        }
    }
    match source.stream(&sequencer.read_from()).await {
        // A laptop that was idle for as long as its binlog is kept.
        Err(error @ SourceError::Purged { .. }) if sequencer.is_doubtful() => {
            sequencer.trust();
            let stream = source.stream(&sequencer.read_from()).await?;
            observer.history_not_compared(&error.to_string());
            Ok(stream)
        }
        outcome => outcome,
    }
}

/// Whether the error says something about the history that is compared, or that nothing can be read now.
fn is_about_history(error: &SourceError) -> bool {
    error.disposition() == Disposition::Retry
        || matches!(error, SourceError::Purged { .. } | SourceError::NotInHistory { .. } | SourceError::Incident { .. })
}

/// Shown as connected until it is dropped, however the run ends: also when whoever runs it gives it up.
struct Connected(Observer);

impl Connected {
    fn new(observer: Observer) -> Self {
        observer.tail_connected(true);
        Self(observer)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.tail_connected(false);
    }
}

struct State {
    options: TailOptions,
    sequencer: Sequencer,
    writer: Option<Box<dyn TopicWriter>>,
    /// Records decided and not yet handed to the topic, oldest first.
    buffer: Vec<Record>,
    buffered_bytes: usize,
    /// Records of the append that is under way, and those of this run that are durable.
    in_flight: usize,
    durable: u64,
    /// The offset that the next append must get.
    end: Offset,
    /// The `seen` that the topic tells, and when it was told something last.
    told_seen: Arc<Seen>,
    told_at: Instant,
    /// The topic tells of a transaction by which its binlog can be known again.
    told_trace: bool,
    follower: Arc<dyn Follower>,
    floor: Arc<dyn Floor>,
    observer: Observer,
}

impl State {
    /// Hands the oldest records to the topic; `None` if there are none.
    fn start_append(&mut self) -> Option<Append> {
        if self.buffer.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let fits = |record: &&Record| {
            bytes += record.weight();
            bytes <= self.options.append_bytes
        };
        let count = self.buffer.iter().take_while(fits).count().max(1);
        let rest = self.buffer.split_off(count);
        let records = std::mem::replace(&mut self.buffer, rest);
        self.in_flight = records.len();
        let mut writer = self.writer.take().expect("no append is under way");
        let first = self.end;
        Some(Box::pin(async move {
            let outcome = writer.append(first, &records).await;
            Appended { writer, records, first, outcome }
        }))
    }

    fn finish_append(&mut self, done: Appended) -> Result<(), TopicError> {
        let Appended { writer, records, first, outcome } = done;
        self.writer = Some(writer);
        self.in_flight = 0;
        let end = outcome?;
        self.durable += records.len() as u64;
        assert_eq!(end.0, first.0 + records.len() as u64, "an append is kept whole, in order, at the offset it named");
        self.end = end;
        self.floor.raise(end);
        self.buffered_bytes -= records.iter().map(Record::weight).sum::<usize>();
        let last = records.last().expect("an append has records");
        self.told_seen = last.seen.clone();
        self.told_at = Instant::now();
        self.told_trace |= records.iter().any(|record| record.trace.is_some());
        self.observer.published(first, &records);
        self.follower.published(first, &records);
        if self.buffer.is_empty() {
            self.pass();
        } else if let Some(position) = records.iter().rev().find(|record| record.last).map(|record| &record.position) {
            self.follower.passed(position);
        }
        Ok(())
    }

    /// Everything decided is durable: tell how far that is, if it is the history that we know.
    fn pass(&self) {
        if self.sequencer.is_doubtful() {
            return;
        }
        let position: &GtidPosition = self.sequencer.position();
        self.follower.passed(position);
    }

    fn pass_if_quiet(&self, appending: bool) {
        if self.buffer.is_empty() && !appending {
            self.pass();
        }
    }

    fn heartbeat_due(&self) -> Instant {
        // Until a transaction is told, nothing would show that the binlog was replaced.
        let first = !self.told_trace && self.sequencer.has_passed();
        let moved = first || *self.told_seen != **self.sequencer.seen();
        self.told_at + if moved { self.options.heartbeat_seen } else { self.options.heartbeat_idle }
    }

    fn push(&mut self, record: Record) {
        self.buffered_bytes += record.weight();
        self.buffer.push(record);
    }

    /// Records of this run so far, durable or on their way.
    fn decided(&self) -> u64 {
        self.durable + (self.in_flight + self.buffer.len()) as u64
    }

    fn push_heartbeat(&mut self) {
        match self.sequencer.heartbeat() {
            Some(record) => self.push(record),
            // Inside a transaction: its records tell the same soon.
            None => self.told_at = Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests;
