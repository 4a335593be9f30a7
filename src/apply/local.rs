//! What the applier knows of its own node's writes, as the tailer makes them durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::change::{Change, GtidPosition, Hlc, Offset, Op, Record, RowKey};

/// One row that this node wrote and published.
#[derive(Clone, Debug)]
pub struct LocalWrite {
    pub key: RowKey,
    pub deleted: bool,
    pub hlc: Hlc,
    pub offset: Offset,
}

/// From the tailer to the applier of one node: the rows it published and how far it is. Keeps rows only while an
/// applier is attached; one that starts reads the earlier ones from the topic.
#[derive(Default)]
pub struct LocalFeed {
    inner: Mutex<Inner>,
    moved: Notify,
    crowded: Notify,
}

#[derive(Default)]
struct Inner {
    appliers: usize,
    writes: VecDeque<LocalWrite>,
    position: GtidPosition,
}

/// Writes that may wait before an idle applier is woken to take them.
const CROWD: usize = 4096;

impl LocalFeed {
    /// The tailer made these records durable at `first` and after.
    pub fn published(&self, first: Offset, records: &[Record]) {
        let mut inner = self.inner();
        if inner.appliers == 0 {
            return;
        }
        for (number, record) in records.iter().enumerate() {
            if let Some(change) = record.change() {
                inner.writes.extend(local_writes(change, record.hlc, Offset(first.0 + number as u64)));
            }
        }
        if inner.writes.len() >= CROWD {
            self.crowded.notify_one();
        }
    }

    /// The tailer has published or filtered everything up to here.
    pub fn passed(&self, position: &GtidPosition) {
        let mut inner = self.inner();
        position.iter().for_each(|gtid| inner.position.advance(gtid));
        drop(inner);
        self.moved.notify_waiters();
    }

    /// From now on rows are kept, until the guard is dropped.
    pub fn attach(self: &Arc<Self>) -> Attached {
        self.inner().appliers += 1;
        Attached(self.clone())
    }

    /// Takes the rows that were published since the last call, oldest first.
    pub fn take(&self) -> Vec<LocalWrite> {
        self.inner().writes.drain(..).collect()
    }

    /// Waits until the tailer has passed the position; false where it did not within the time.
    pub async fn wait(&self, position: &GtidPosition, most: Duration) -> bool {
        let passed = async {
            loop {
                let moved = self.moved.notified();
                if self.inner().position.covers_all(position) {
                    return;
                }
                moved.await;
            }
        };
        timeout(most, passed).await.is_ok()
    }

    /// Waits until so many rows are kept that they should be taken.
    pub async fn crowded(&self) {
        self.crowded.notified().await;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

/// The rows a change wrote: two where it moved a row to another key.
pub fn local_writes(change: &Change, hlc: Hlc, offset: Offset) -> impl Iterator<Item = LocalWrite> {
    let write = move |key, deleted| LocalWrite { key, deleted, hlc, offset };
    let left = change.moved_from().map(|key| write(key, true));
    left.into_iter().chain(change.key().map(|key| write(key, change.op == Op::Delete)))
}

pub struct Attached(Arc<LocalFeed>);

impl Drop for Attached {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.appliers -= 1;
        if inner.appliers == 0 {
            inner.writes.clear();
        }
    }
}
