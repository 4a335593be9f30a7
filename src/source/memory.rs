//! A server's history in memory: the twin of `binlog` for tests and the simulation.
//!
//! Deterministic: no threads, no clock of its own and no hash order. All that delays or fails comes from the
//! [`Pause`] its maker gives, which is asked at every point where the real source waits for the world.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Ddl, Source, SourceError, SourceEvent, TransactionHeader, TransactionPart, TransactionStream};
use crate::change::{Change, Gtid, GtidPosition};

/// A committed transaction, whole.
#[derive(Clone, PartialEq, Debug)]
pub struct MemoryTransaction {
    pub header: TransactionHeader,
    pub changes: Vec<Change>,
    pub ddl: Option<Ddl>,
}

/// What a server committed, in order. A handle: clones share one history.
#[derive(Clone, Default)]
pub struct MemoryBinlog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    history: Mutex<History>,
    /// Counts appends, to wake who waits at the end.
    grown: watch::Sender<u64>,
}

#[derive(Default)]
struct History {
    transactions: Vec<Arc<MemoryTransaction>>,
    /// How many from the front are gone, and where those ended.
    purged: usize,
    purged_to: GtidPosition,
    end: GtidPosition,
}

impl MemoryBinlog {
    /// Commits a transaction. Panics where its GTID is not after all others of its domain: no server does that.
    pub fn append(&self, transaction: MemoryTransaction) {
        let mut history = self.history();
        let gtid = transaction.header.gtid;
        assert!(!history.end.covers(gtid), "{gtid} is not after {}", history.end);
        history.end.advance(gtid);
        history.transactions.push(Arc::new(transaction));
        drop(history);
        self.0.grown.send_modify(|count| *count += 1);
    }

    /// The GTID after the last of this domain, for a server of this id.
    pub fn next_gtid(&self, domain: u32, server: u32) -> Gtid {
        let sequence = self.history().end.in_domain(domain).map_or(1, |last| last.sequence + 1);
        Gtid { domain, server, sequence }
    }

    pub fn position(&self) -> GtidPosition {
        self.history().end.clone()
    }

    /// All transactions that are still kept.
    pub fn transactions(&self) -> Vec<Arc<MemoryTransaction>> {
        let history = self.history();
        history.transactions[history.purged..].to_vec()
    }

    /// Forgets the history up to the first transaction that the position does not cover.
    pub fn purge(&self, to: &GtidPosition) {
        let mut history = self.history();
        while let Some(oldest) = history.transactions.get(history.purged).filter(|oldest| to.covers(oldest.header.gtid)) {
            let gtid = oldest.header.gtid;
            history.purged += 1;
            history.purged_to.advance(gtid);
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0.history.lock().expect("no holder of this lock panics but in `append`, which ends the test")
    }
}

/// Where a memory source waits, and may be held up or made to fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PausePoint {
    Position,
    Open,
    Next,
}

/// Asked before each step. To answer later delays the step; an error fails it as the server or the network would.
#[async_trait]
pub trait Pause: Send + Sync {
    async fn at(&self, point: PausePoint) -> Result<(), SourceError>;
}

/// Never holds anything up.
pub struct NoPause;

#[async_trait]
impl Pause for NoPause {
    async fn at(&self, _point: PausePoint) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Reads a [`MemoryBinlog`] as `binlog` reads a server.
#[derive(Clone)]
pub struct MemorySource {
    binlog: MemoryBinlog,
    pause: Arc<dyn Pause>,
    part_changes_max: usize,
    idle_after: Duration,
    /// Held by the stream that lives.
    reader: Arc<Mutex<Weak<()>>>,
}

impl MemorySource {
    pub fn new(binlog: MemoryBinlog) -> Self {
        Self {
            binlog,
            pause: Arc::new(NoPause),
            part_changes_max: usize::MAX,
            idle_after: Duration::from_secs(1),
            reader: Arc::default(),
        }
    }

    /// As a server that holds a lock for each replica id.
    fn lease(&self) -> Result<Arc<()>, SourceError> {
        let mut reader = self.reader.lock().expect("nobody panics while it is held");
        if reader.strong_count() > 0 {
            return Err(SourceError::ReplicaIdTaken { place: "memory".into(), replica_id: 0 });
        }
        let lease = Arc::new(());
        *reader = Arc::downgrade(&lease);
        Ok(lease)
    }

    pub fn with_pause(mut self, pause: Arc<dyn Pause>) -> Self {
        self.pause = pause;
        self
    }

    /// Larger transactions come in parts of this many changes.
    pub fn with_part_changes_max(mut self, changes: usize) -> Self {
        self.part_changes_max = changes.max(1);
        self
    }

    /// How long nothing happens before [`SourceEvent::Idle`].
    pub fn with_idle_after(mut self, idle_after: Duration) -> Self {
        self.idle_after = idle_after;
        self
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn position(&self) -> Result<GtidPosition, SourceError> {
        self.pause.at(PausePoint::Position).await?;
        Ok(self.binlog.position())
    }

    async fn oldest(&self) -> Result<GtidPosition, SourceError> {
        self.pause.at(PausePoint::Position).await?;
        Ok(self.binlog.history().purged_to.clone())
    }

    async fn stream(&self, from: &GtidPosition) -> Result<Box<dyn TransactionStream>, SourceError> {
        self.pause.at(PausePoint::Open).await?;
        let history = self.binlog.history();
        if !from.covers_all(&history.purged_to) {
            return Err(SourceError::Purged { wanted: from.clone(), oldest: history.purged_to.clone() });
        }
        if !history.end.covers_all(from) {
            return Err(SourceError::NotInHistory { wanted: from.clone(), reason: format!("it ends at {}", history.end) });
        }
        let next = history.purged;
        drop(history);
        let grown = self.binlog.0.grown.subscribe();
        let (source, _lease) = (self.clone(), self.lease()?);
        Ok(Box::new(MemoryStream { source, from: from.clone(), next, changes_given: 0, header: None, grown, _lease }))
    }
}

struct MemoryStream {
    source: MemorySource,
    from: GtidPosition,
    /// The transaction to give next, and how many of its changes are given.
    next: usize,
    changes_given: usize,
    /// Shared by the parts of the transaction that is being given.
    header: Option<Arc<TransactionHeader>>,
    grown: watch::Receiver<u64>,
    _lease: Arc<()>,
}

#[async_trait]
impl TransactionStream for MemoryStream {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        self.source.pause.at(PausePoint::Next).await?;
        loop {
            self.grown.borrow_and_update();
            if let Some(part) = self.take_part() {
                return Ok(SourceEvent::Part(part));
            }
            if tokio::time::timeout(self.source.idle_after, self.grown.changed()).await.is_err() {
                return Ok(SourceEvent::Idle);
            }
        }
    }
}

impl MemoryStream {
    /// The next part, if there is one. Nothing waits in here, so a dropped call of `next` has taken nothing.
    fn take_part(&mut self) -> Option<TransactionPart> {
        let transaction = loop {
            let transaction = self.source.binlog.history().transactions.get(self.next)?.clone();
            if !self.from.covers(transaction.header.gtid) {
                break transaction;
            }
            self.next += 1;
        };
        let header = self.header.get_or_insert_with(|| Arc::new(transaction.header.clone())).clone();
        let first = self.changes_given;
        let end = transaction.changes.len().min(first.saturating_add(self.source.part_changes_max));
        let last = end == transaction.changes.len();
        if last {
            (self.next, self.changes_given, self.header) = (self.next + 1, 0, None);
        } else {
            self.changes_given = end;
        }
        let ddl = if last { transaction.ddl.clone() } else { None };
        Some(TransactionPart { header, changes: transaction.changes[first..end].to_vec(), ddl, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{BinlogCoordinates, Checks, Column, ColumnKind, Image, Op, Shape, TableName, Value};

    fn transaction(gtid: &str, rows: i64) -> MemoryTransaction {
        let header = TransactionHeader {
            gtid: gtid.parse().unwrap(),
            commit_second: 1,
            server_id: 1,
            coordinates: BinlogCoordinates::default(),
            read_from: None,
        };
        let columns = vec![Column { name: "id".into(), kind: ColumnKind::Integer, generated: false }];
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns, key: vec![0] });
        let change = |id| Change {
            shape: shape.clone(),
            op: Op::Insert,
            before: None,
            after: Some(Image::of([Some(Value::Int(id))])),
            checks: Checks::default(),
        };
        MemoryTransaction { header, changes: (0..rows).map(change).collect(), ddl: None }
    }

    async fn part(stream: &mut dyn TransactionStream) -> TransactionPart {
        match stream.next().await.unwrap() {
            SourceEvent::Part(part) => part,
            SourceEvent::Idle => panic!("idle instead of a part"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn transactions_come_in_order_after_the_position_and_large_ones_in_parts() {
        let binlog = MemoryBinlog::default();
        for (gtid, rows) in [("0-1-1", 1), ("1-1-1", 5), ("0-1-2", 0)] {
            binlog.append(transaction(gtid, rows));
        }
        let source = MemorySource::new(binlog.clone()).with_part_changes_max(2);
        let mut stream = source.stream(&"0-1-1".parse().unwrap()).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let part = part(&mut *stream).await;
            seen.push((part.header.gtid.to_string(), part.changes.len(), part.last));
        }
        let expected = [("1-1-1", 2, false), ("1-1-1", 2, false), ("1-1-1", 1, true), ("0-1-2", 0, true)];
        assert_eq!(seen, expected.map(|(gtid, rows, last)| (gtid.to_owned(), rows, last)));
        assert_eq!(stream.next().await.unwrap(), SourceEvent::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_stream_wakes_when_something_is_committed() {
        let binlog = MemoryBinlog::default();
        let mut stream = MemorySource::new(binlog.clone()).stream(&GtidPosition::start()).await.unwrap();
        let (part, ()) = tokio::join!(part(&mut *stream), async { binlog.append(transaction("0-1-1", 1)) });
        assert_eq!(part.changes.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_dropped_has_taken_nothing() {
        struct Slow;
        #[async_trait]
        impl Pause for Slow {
            async fn at(&self, _point: PausePoint) -> Result<(), SourceError> {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(())
            }
        }
        let binlog = MemoryBinlog::default();
        binlog.append(transaction("0-1-1", 1));
        let mut stream = MemorySource::new(binlog).with_pause(Arc::new(Slow)).stream(&GtidPosition::start()).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(1), stream.next()).await.is_err());
        assert_eq!(part(&mut *stream).await.header.gtid, "0-1-1".parse().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn purged_and_unknown_positions_are_refused() {
        let binlog = MemoryBinlog::default();
        for gtid in ["0-1-1", "0-1-2", "0-1-3"] {
            binlog.append(transaction(gtid, 1));
        }
        binlog.purge(&"0-1-2".parse().unwrap());
        let source = MemorySource::new(binlog);
        let open = async |from: &str| source.stream(&from.parse().unwrap()).await.map(|_| ());
        assert!(matches!(open("0-1-1").await, Err(SourceError::Purged { .. })));
        assert!(matches!(open("0-1-4").await, Err(SourceError::NotInHistory { .. })));
        assert!(open("0-1-2").await.is_ok());
    }
}
