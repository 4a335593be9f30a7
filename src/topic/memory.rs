//! Topics in memory, for tests and the simulation: the same contract as the durable ones, without the durability.
//!
//! A record is kept as it comes out of its outside form, so that everything a simulation carries goes through `change::wire`. There
//! are no threads, no hash maps and no clocks but tokio's: on a current-thread runtime with paused time, the same seed
//! gives the same run. What lies between a node and the topics is its [`Weather`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Extent, TopicError, TopicReader, TopicWriter, check_append, check_read, readable};
use crate::change::wire;
use crate::change::{Offset, OriginId, Record};

mod weather;

pub use weather::{FairWeather, Point, SeededWeather, Weather};

/// The topics of all origins. Clones share them; they outlive every writer and reader, as a broker outlives its clients.
#[derive(Clone, Default)]
pub struct MemoryTopics(Arc<Shared>);

#[derive(Default)]
struct Shared {
    topics: Mutex<BTreeMap<OriginId, Topic>>,
    appended: Notify,
}

#[derive(Default)]
struct Topic {
    /// How often a writer took over.
    generation: u64,
    first: Offset,
    records: VecDeque<Kept>,
}

struct Kept {
    /// Bytes of its outside form.
    size: usize,
    record: Record,
}

impl Topic {
    fn end(&self) -> Offset {
        Offset(self.first.0 + self.records.len() as u64)
    }

    fn extent(&self) -> Extent {
        let last = self.records.back().map(|kept| kept.record.clone());
        Extent { first: self.first, end: self.end(), last }
    }
}

impl MemoryTopics {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn writer(&self, origin: OriginId, weather: Arc<dyn Weather>) -> MemoryWriter {
        MemoryWriter { topics: self.clone(), origin, weather, generation: None }
    }

    pub fn reader(&self, weather: Arc<dyn Weather>) -> MemoryReader {
        MemoryReader { topics: self.clone(), weather }
    }

    /// Everything that is kept of the origin, for checkers.
    pub fn records(&self, origin: &OriginId) -> Vec<Record> {
        let topics = self.lock();
        let Some(topic) = topics.get(origin) else { return Vec::new() };
        topic.records.iter().map(|kept| kept.record.clone()).collect()
    }

    pub fn end(&self, origin: &OriginId) -> Offset {
        self.lock().get(origin).map_or(Offset(0), Topic::end)
    }

    /// Retention: forgets what is before `first`.
    pub fn forget_before(&self, origin: &OriginId, first: Offset) {
        let mut topics = self.lock();
        let topic = topics.entry(origin.clone()).or_default();
        while topic.first < first && topic.records.pop_front().is_some() {
            topic.first = topic.first.next();
        }
    }

    /// A topic restored from an older copy: forgets what is at `end` and after.
    pub fn roll_back(&self, origin: &OriginId, end: Offset) {
        let mut topics = self.lock();
        let topic = topics.entry(origin.clone()).or_default();
        topic.records.truncate(end.0.saturating_sub(topic.first.0) as usize);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<OriginId, Topic>> {
        self.0.topics.lock().expect("nothing panics while it holds the topics")
    }
}

/// Appends to one origin's topic.
pub struct MemoryWriter {
    topics: MemoryTopics,
    origin: OriginId,
    weather: Arc<dyn Weather>,
    generation: Option<u64>,
}

#[async_trait]
impl TopicWriter for MemoryWriter {
    async fn resume(&mut self) -> Result<Extent, TopicError> {
        self.weather.pass(Point::Read).await?;
        let (extent, generation) = {
            let mut topics = self.topics.lock();
            let topic = topics.entry(self.origin.clone()).or_default();
            topic.generation += 1;
            (topic.extent(), topic.generation)
        };
        self.weather.pass(Point::Answer).await?;
        self.generation = Some(generation);
        Ok(extent)
    }

    async fn append(&mut self, expected: Offset, records: &[Record]) -> Result<Offset, TopicError> {
        self.weather.pass(Point::Append).await?;
        let kept = self.weather.keeps(records.len()).min(records.len());
        let kept_records = records[..kept].iter().zip(expected.0..).map(|(record, offset)| {
            let outside = wire::encode(record);
            let record = readable(&self.origin, Offset(offset), wire::decode(&outside))?;
            Ok(Kept { size: outside.size(), record })
        });
        let kept_records = kept_records.collect::<Result<Vec<Kept>, TopicError>>()?;
        let end = {
            let mut topics = self.topics.lock();
            let topic = topics.entry(self.origin.clone()).or_default();
            check_append(&self.origin, expected, topic.end())?;
            if self.generation.is_some_and(|own| own < topic.generation) {
                return Err(TopicError::Fenced { origin: self.origin.clone(), expected, actual: topic.end() });
            }
            topic.records.extend(kept_records);
            topic.end()
        };
        self.topics.0.appended.notify_waiters();
        self.weather.pass(Point::Appended).await?;
        if kept < records.len() {
            return Err(TopicError::Unreachable { place: "memory".into(), reason: "cut in the middle of an append".into() });
        }
        Ok(end)
    }
}

/// Reads every origin's topic.
#[derive(Clone)]
pub struct MemoryReader {
    topics: MemoryTopics,
    weather: Arc<dyn Weather>,
}

#[async_trait]
impl TopicReader for MemoryReader {
    async fn read(
        &self,
        origin: &OriginId,
        from: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<(Offset, Record)>, TopicError> {
        self.weather.pass(Point::Read).await?;
        let give_up = Instant::now() + wait;
        loop {
            let mut appended = std::pin::pin!(self.topics.0.appended.notified());
            // Listening begins before looking, so an append in between is not missed.
            appended.as_mut().enable();
            let records = self.take(origin, from, bytes_max)?;
            if !records.is_empty() || tokio::time::timeout_at(give_up, appended).await.is_err() {
                self.weather.pass(Point::Answer).await?;
                return Ok(records);
            }
        }
    }

    async fn extent(&self, origin: &OriginId) -> Result<Extent, TopicError> {
        self.weather.pass(Point::Read).await?;
        let extent = self.topics.lock().get(origin).map(Topic::extent).unwrap_or_default();
        self.weather.pass(Point::Answer).await?;
        Ok(extent)
    }
}

impl MemoryReader {
    fn take(&self, origin: &OriginId, from: Offset, bytes_max: usize) -> Result<Vec<(Offset, Record)>, TopicError> {
        let topics = self.topics.lock();
        let nothing = Topic::default();
        let topic = topics.get(origin).unwrap_or(&nothing);
        check_read(origin, from, topic.first, topic.end())?;
        let mut bytes = 0;
        let mut records = Vec::new();
        for (index, kept) in topic.records.iter().enumerate().skip((from.0 - topic.first.0) as usize) {
            bytes += kept.size;
            if !records.is_empty() && bytes > bytes_max {
                break;
            }
            let offset = Offset(topic.first.0 + index as u64);
            records.push((offset, kept.record.clone()));
        }
        Ok(records)
    }
}
