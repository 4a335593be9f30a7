//! The hub's durable store: one SQLite file, one thread that writes it, some connections that read it.
//!
//! An append is answered after its commit was synced to the disk (WAL, synchronous=FULL), so what was answered
//! survives kill -9 and the loss of power. Appends that wait at the same moment share one commit and one sync.
//! One process at a time: a lock file says whose the folder is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::file::{Readers, StoreFile};
use self::writer::{Job, Order, WriterThread};
use super::{APPEND_BYTES, BLOCK_BYTES, Block, Held, Hub, RECORD_BYTES_LIMIT, Resumed};
use crate::change::{Offset, OriginId};
use crate::runtime::{Clock, SystemClock};
use crate::topic::{TopicError, check_read};

mod file;
mod retention;
#[cfg(test)]
mod tests;
mod writer;

/// How a store is kept.
#[derive(Clone)]
pub struct StoreOptions {
    /// The folder of the store; made if it does not exist.
    pub folder: PathBuf,
    /// Records that were appended longer ago than this are forgotten, but for the last ones of each topic.
    pub max_offline: Duration,
    /// Bytes of the store's file after which the oldest records are forgotten early.
    pub max_bytes: Option<u64>,
    /// The most bytes of one record, at most [`RECORD_BYTES_LIMIT`].
    pub record_bytes_max: usize,
    pub clock: Arc<dyn Clock>,
}

impl StoreOptions {
    /// A store in the folder that keeps thirty days.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            max_offline: Duration::from_secs(30 * 24 * 3600),
            max_bytes: None,
            // Holds a row with a 40 MB blob in base64.
            record_bytes_max: 64 << 20,
            clock: Arc::new(SystemClock),
        }
    }
}

/// The store of all topics. Clones share it; it closes when the last is dropped.
#[derive(Clone)]
pub struct HubStore(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    readers: Readers,
    record_bytes_max: usize,
    // Dropped before the lock of the folder goes, which the thread holds.
    writer: WriterThread,
}

/// What the writing thread tells the others.
#[derive(Default)]
struct Shared {
    topics: RwLock<Topics>,
    changed: Notify,
}

type Topics = BTreeMap<OriginId, TopicState>;

/// What is durable of a topic.
#[derive(Clone, Copy, Debug, Default)]
struct TopicState {
    id: u16,
    first: Offset,
    end: Offset,
    generation: u64,
}

impl Shared {
    fn topic(&self, origin: &OriginId) -> TopicState {
        self.topics.read().expect("nothing panics while it holds the topics").get(origin).copied().unwrap_or_default()
    }

    fn publish(&self, topics: Topics) {
        *self.topics.write().expect("nothing panics while it holds the topics") = topics;
        self.changed.notify_waiters();
    }
}

impl HubStore {
    /// Opens the store, or makes it. Blocks for as long as the disk takes.
    pub fn open(options: &StoreOptions) -> Result<Self, TopicError> {
        let file = StoreFile::open(&options.folder)?;
        let readers = Readers::new(file.path());
        let shared = Arc::new(Shared::default());
        let record_bytes_max = options.record_bytes_max.min(RECORD_BYTES_LIMIT);
        let writer = WriterThread::start(file, options, shared.clone())?;
        Ok(Self(Arc::new(Inner { shared, readers, record_bytes_max, writer })))
    }

    pub fn record_bytes_max(&self) -> usize {
        self.0.record_bytes_max
    }

    /// The origins that have a topic, with what it holds.
    pub fn topics(&self) -> Vec<(OriginId, Offset, Offset)> {
        let topics = self.0.shared.topics.read().expect("nothing panics while it holds the topics");
        topics.iter().map(|(origin, topic)| (origin.clone(), topic.first, topic.end)).collect()
    }

    /// Forgets whole blocks before the offset, but never the last.
    pub async fn forget_before(&self, origin: &OriginId, offset: Offset) -> Result<Offset, TopicError> {
        Ok(self.order(origin, Job::Forget { before: offset }, 0).await?.first)
    }

    async fn order(&self, origin: &OriginId, job: Job, bytes: usize) -> Result<TopicState, TopicError> {
        let room = self.0.writer.room(bytes).await?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.0.writer.send(Order { origin: origin.clone(), job, reply, _room: room })?;
        answer.await.map_err(|_| closed())?
    }
}

fn closed() -> TopicError {
    TopicError::Store { reason: "the hub's store is closed".into() }
}

#[async_trait]
impl Hub for HubStore {
    async fn resume(&self, origin: &OriginId) -> Result<Resumed, TopicError> {
        let topic = self.order(origin, Job::Resume, 0).await?;
        let held = self.held(origin).await?;
        Ok(Resumed { held, generation: topic.generation, record_bytes_max: self.0.record_bytes_max })
    }

    async fn append(&self, origin: &OriginId, generation: Option<u64>, blocks: Vec<Block>) -> Result<Offset, TopicError> {
        let bytes = blocks.iter().map(|block| block.sealed().len()).sum();
        Ok(self.order(origin, Job::Append { generation, blocks }, bytes).await?.end)
    }

    async fn read(&self, origin: &OriginId, from: Offset, bytes_max: usize, wait: Duration) -> Result<Vec<Block>, TopicError> {
        let give_up = Instant::now() + wait;
        // No more than a hub would take in one append is given in one answer, or readers fill its memory.
        let bytes_max = bytes_max.min(APPEND_BYTES + BLOCK_BYTES);
        loop {
            let mut changed = std::pin::pin!(self.0.shared.changed.notified());
            // Listening begins before looking, so an append in between is not missed.
            changed.as_mut().enable();
            let topic = self.0.shared.topic(origin);
            check_read(origin, from, topic.first, topic.end)?;
            if from < topic.end {
                let blocks = self.0.readers.run(move |reader| reader.blocks(topic.id, from, topic.end, bytes_max)).await?;
                // None where retention was faster than we were; then the topic says so itself the next time.
                if !blocks.is_empty() {
                    return Ok(blocks);
                }
                if self.0.shared.topic(origin).first <= from {
                    return Err(missing(origin, from));
                }
            } else if tokio::time::timeout_at(give_up, changed).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    async fn held(&self, origin: &OriginId) -> Result<Held, TopicError> {
        let topic = self.0.shared.topic(origin);
        let last = match topic.end > topic.first {
            true => {
                let last = Offset(topic.end.0 - 1);
                self.0.readers.run(move |reader| reader.blocks(topic.id, last, topic.end, 0)).await?.pop()
            }
            false => None,
        };
        if last.is_none() && topic.end > topic.first {
            return Err(missing(origin, Offset(topic.end.0 - 1)));
        }
        Ok(Held { first: topic.first, end: topic.end, last })
    }
}

fn missing(origin: &OriginId, offset: Offset) -> TopicError {
    TopicError::Damaged { reason: format!("topic of {origin}: offset {offset} is missing") }
}
