//! Reads every origin's topic in a broker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout_at};

use super::KafkaOptions;
use super::client::Broker;
use super::cursor::{Cursor, Step, What};
use super::ends;
use crate::change::{Offset, OriginId, Record};
use crate::topic::{Extent, TopicError, TopicReader, check_read, readable};

/// A stream that nobody went on with for this long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// A topic that does not exist yet is looked for this often.
const LOOK_FOR: Duration = Duration::from_millis(250);

/// Clones share their connections.
#[derive(Clone)]
pub struct KafkaReader {
    broker: Arc<Broker>,
    /// Where reads ended: whoever goes on from there needs no new consumer.
    idle: Arc<Mutex<BTreeMap<OriginId, (Instant, Stream)>>>,
}

/// One topic, read on and on.
struct Stream {
    cursor: Cursor,
    /// Our offset of the next record.
    next: Offset,
    /// Read, and not given: it did not fit.
    held: Option<(Record, usize)>,
}

impl KafkaReader {
    pub fn new(options: KafkaOptions) -> Self {
        Self { broker: Broker::new(options), idle: Arc::default() }
    }

    fn take(&self, origin: &OriginId, from: Offset) -> Option<Stream> {
        let mut idle = self.idle.lock().expect("nothing panics while it holds the streams");
        idle.retain(|_, (since, _)| since.elapsed() < IDLE);
        let goes_on = idle.get(origin).is_some_and(|(_, stream)| stream.next == from);
        if goes_on { idle.remove(origin).map(|(_, stream)| stream) } else { None }
    }

    fn put(&self, origin: &OriginId, stream: Stream) {
        let mut idle = self.idle.lock().expect("nothing panics while it holds the streams");
        idle.insert(origin.clone(), (Instant::now(), stream));
    }

    /// A stream that begins at the offset; `None` where the topic does not appear in time.
    async fn open(&self, origin: &OriginId, from: Offset, give_up: Instant) -> Result<Option<Stream>, TopicError> {
        let mut cursor = Cursor::new(self.broker.clone(), self.broker.topic(origin))?;
        let ends = loop {
            match ends::look(&mut cursor, origin).await? {
                Some(ends) => break ends,
                None => check_read(origin, from, Offset(0), Offset(0))?,
            }
            let Some(left) = give_up.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Ok(None);
            };
            sleep(left.min(LOOK_FOR)).await;
        };
        let first = ends::first(&mut cursor, &ends, origin).await?;
        check_read(origin, from, first, ends.end)?;
        ends::find(&mut cursor, &ends, origin, from).await?;
        Ok(Some(Stream { cursor, next: from, held: None }))
    }
}

#[async_trait]
impl TopicReader for KafkaReader {
    async fn read(
        &self,
        origin: &OriginId,
        from: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<(Offset, Record)>, TopicError> {
        let give_up = Instant::now() + wait;
        let mut stream = match self.take(origin, from) {
            Some(stream) => stream,
            None => match self.open(origin, from, give_up).await? {
                Some(stream) => stream,
                None => return Ok(Vec::new()),
            },
        };
        let records = stream.read(origin, bytes_max, give_up).await?;
        self.put(origin, stream);
        Ok(records)
    }

    async fn extent(&self, origin: &OriginId) -> Result<Extent, TopicError> {
        let mut cursor = Cursor::new(self.broker.clone(), self.broker.topic(origin))?;
        let Some(ends) = ends::look(&mut cursor, origin).await? else { return Ok(Extent::default()) };
        let first = ends::first(&mut cursor, &ends, origin).await?;
        Ok(Extent { first, end: ends.end, last: ends.last })
    }
}

impl Stream {
    async fn read(
        &mut self,
        origin: &OriginId,
        bytes_max: usize,
        give_up: Instant,
    ) -> Result<Vec<(Offset, Record)>, TopicError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        loop {
            let (record, size) = match self.held.take() {
                Some(held) => held,
                // The first is waited for; after it, only what is here already is taken.
                None if records.is_empty() => match self.wait_for_one(origin, give_up).await? {
                    Some(found) => found,
                    None => return Ok(records),
                },
                None => match self.one(origin).now_or_never() {
                    Some(found) => match found? {
                        Some(found) => found,
                        None => return Ok(records),
                    },
                    None => return Ok(records),
                },
            };
            bytes += size;
            if !records.is_empty() && bytes > bytes_max {
                self.held = Some((record, size));
                return Ok(records);
            }
            records.push((self.next, record));
            self.next = self.next.next();
        }
    }

    /// The next record, where one comes in time.
    async fn wait_for_one(&mut self, origin: &OriginId, give_up: Instant) -> Result<Option<(Record, usize)>, TopicError> {
        let waiting = async {
            loop {
                if let Some(found) = self.one(origin).await? {
                    return Ok::<_, TopicError>(found);
                }
            }
        };
        if let Ok(found) = timeout_at(give_up, waiting).await {
            return found.map(Some);
        }
        // That nothing came does not say that nothing is there: the broker is asked.
        let wanted = self.next;
        let Some(span) = self.cursor.span().await? else {
            return Err(TopicError::PastEnd { origin: origin.clone(), wanted, end: Offset(0) });
        };
        if self.cursor.next > span.high {
            return Err(self.out_of_range(origin).await);
        }
        while self.cursor.next < span.high {
            let step = self.cursor.step_soon().await?;
            if let Some(found) = self.judge(origin, step).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The next record; `None` at the end. What does not count is passed over.
    async fn one(&mut self, origin: &OriginId) -> Result<Option<(Record, usize)>, TopicError> {
        loop {
            let step = self.cursor.step().await?;
            if matches!(step, Step::End) {
                return Ok(None);
            }
            if let Some(found) = self.judge(origin, step).await? {
                return Ok(Some(found));
            }
        }
    }

    async fn judge(&mut self, origin: &OriginId, step: Step) -> Result<Option<(Record, usize)>, TopicError> {
        let found = match step {
            Step::Found(found) => found,
            Step::End => return Ok(None),
            Step::OutOfRange => return Err(self.out_of_range(origin).await),
        };
        let (offset, record) = match found.what {
            What::Nothing => return Ok(None),
            What::Mark(offset) => (offset, None),
            What::Record(offset, record) => (offset, Some(record)),
        };
        if offset < self.next {
            return Err(TopicError::PastEnd { origin: origin.clone(), wanted: self.next, end: offset });
        }
        if offset > self.next {
            let reason = format!("topic of {origin}: after offset {} comes {offset}", self.next);
            return Err(TopicError::Damaged { reason });
        }
        let record = record.map(|record| readable(origin, offset, record)).transpose()?;
        Ok(record.map(|record| (record, found.bytes)))
    }

    /// Why the broker has nothing where we are.
    async fn out_of_range(&mut self, origin: &OriginId) -> TopicError {
        let wanted = self.next;
        let asked = async {
            let Some(ends) = ends::look(&mut self.cursor, origin).await? else {
                return Err(TopicError::PastEnd { origin: origin.clone(), wanted, end: Offset(0) });
            };
            let first = ends::first(&mut self.cursor, &ends, origin).await?;
            check_read(origin, wanted, first, ends.end)?;
            // Marks and what does not count went away, and no record with them: the next read begins anew.
            Err::<(), _>(TopicError::Store { reason: format!("the beginning of the topic of {origin} moved") })
        };
        asked.await.err().unwrap_or_else(|| TopicError::Store { reason: format!("the topic of {origin} moved") })
    }
}
