//! Reads one Kafka topic from a place on, record by record, and says which of them count.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use tokio::time::{Instant, sleep, timeout};

use super::client::{ANSWER, Broker, Closing, Trouble};
use super::{Place, header};
use crate::change::wire::{Decoder, WireError};
use crate::change::{Offset, Record};
use crate::topic::TopicError;

/// Bytes that a cursor fetches ahead of whoever reads it.
const AHEAD_KBYTES: usize = 16 << 10;

/// Longer than the longest wait between two attempts to connect.
const TELLING: Duration = Duration::from_secs(3);

/// The one partition.
const PARTITION: i32 = 0;

/// A consumer at a place of a topic. Offsets here are Kafka's.
pub struct Cursor {
    broker: Arc<Broker>,
    pub topic: Arc<str>,
    trouble: Trouble,
    consumer: Arc<Closing<StreamConsumer<Trouble>>>,
    decoder: Decoder,
    /// What is read next.
    pub next: i64,
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time, and a box for each record would cost more")]
pub enum Step {
    Found(Found),
    /// Nothing more was there when the broker was asked last.
    End,
    /// The place is not, or no longer, in the topic.
    OutOfRange,
}

/// What lies at one of Kafka's offsets.
pub struct Found {
    pub at: i64,
    pub what: What,
    pub bytes: usize,
}

pub enum What {
    Record(Offset, Result<Record, WireError>),
    /// A writer took over; the next record has this offset.
    Mark(Offset),
    /// It does not count: it came too late, or is not ours at all.
    Nothing,
}

/// Kafka's offsets that a topic holds: `low..high`.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub low: i64,
    pub high: i64,
}

impl Cursor {
    pub fn new(broker: Arc<Broker>, topic: Arc<str>) -> Result<Self, TopicError> {
        let trouble = Trouble::default();
        let mut config = broker.config();
        config
            // librdkafka wants a name for what it assigns by itself. Nothing is ever kept under it.
            .set("group.id", "tandem")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "true")
            // What counts is for us to say, and a transaction that somebody left open must not hold us up.
            .set("isolation.level", "read_uncommitted")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", AHEAD_KBYTES.to_string())
            // By default a full queue stops fetching for a second, which halves the speed of a long read.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "100")
            // A cursor that is sent elsewhere waits for the fetch that is under way at the end of the topic.
            .set("fetch.wait.max.ms", "100");
        let consumer = config.create_with_context(trouble.clone());
        let consumer = consumer.map_err(|error| broker.fault("making a client", &error, &trouble))?;
        let consumer = Arc::new(Closing::new(consumer));
        Ok(Self { broker, topic, trouble, consumer, decoder: Decoder::default(), next: 0 })
    }

    /// What the topic holds; `None` where there is no such topic. Asks the broker.
    pub async fn span(&self) -> Result<Option<Span>, TopicError> {
        let began = Instant::now();
        let found = loop {
            let (consumer, topic) = (self.consumer.clone(), self.topic.clone());
            let asked = tokio::task::spawn_blocking(move || ask(&consumer, &topic)).await;
            let asked = asked.map_err(|_| TopicError::Unreachable {
                place: self.broker.place.clone(),
                reason: "the question was cut off".into(),
            })?;
            match asked {
                Ok(found) => break found,
                // A broker that was just started, or gave a partition away, is back in a moment.
                Err(error) if is_passing(&error) && began.elapsed() < ANSWER => sleep(PASSING).await,
                Err(error) => {
                    self.hear_why().await;
                    return Err(self.fault("looking for", &error));
                }
            }
        };
        self.trouble.clear();
        match found {
            Some((_, partitions)) if partitions > 1 => Err(TopicError::Unsuited {
                topic: self.topic.to_string(),
                reason: format!("it has {partitions} partitions; the order of changes needs one"),
                remedy: "create it again with one partition, or let tandem create it".into(),
            }),
            found => Ok(found.map(|(span, _)| span)),
        }
    }

    /// A client tells why its connections fail only to whoever takes its messages, of which there are none now.
    async fn hear_why(&self) {
        let told = async {
            while self.trouble.latest().is_none() {
                // Whatever it is, what it says about the connection is noted on the way.
                let _ = self.consumer.recv().await;
            }
        };
        // Where nothing is told, the time-out is all that is known.
        let _ = timeout(TELLING, told).await;
    }

    /// Reads from this offset of Kafka's on.
    pub fn go_to(&mut self, at: i64) -> Result<(), TopicError> {
        let mut assignment = TopicPartitionList::with_capacity(1);
        let set = assignment.add_partition_offset(&self.topic, PARTITION, KafkaOffset::Offset(at));
        set.and_then(|()| self.consumer.assign(&assignment)).map_err(|error| self.fault("reading", &error))?;
        self.next = at;
        Ok(())
    }

    /// Fetches nothing until it is sent somewhere again.
    pub fn rest(&mut self) {
        // Only a client that is closing refuses, and that fetches nothing either.
        let _ = self.consumer.unassign();
    }

    /// The next that is there, or that it is the end. Waits for the broker; safe to drop while it waits.
    pub async fn step(&mut self) -> Result<Step, TopicError> {
        loop {
            let error = match self.consumer.recv().await {
                Ok(message) => {
                    let at = message.offset();
                    let found = read(&message, &mut self.decoder);
                    drop(message);
                    self.next = at + 1;
                    self.trouble.clear();
                    return Ok(Step::Found(found));
                }
                Err(error) => error,
            };
            match &error {
                KafkaError::PartitionEOF(_) => return Ok(Step::End),
                KafkaError::MessageConsumption(code) => match code {
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => return Ok(Step::OutOfRange),
                    // One connection of several, or one that is made again right away. Groups are none of our business.
                    RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::GroupAuthorizationFailed => {}
                    _ => return Err(self.fault("reading", &error)),
                },
                _ => return Err(self.fault("reading", &error)),
            }
        }
    }

    /// The next, where it takes no longer than an answer may; for what is known to be there.
    pub async fn step_soon(&mut self) -> Result<Step, TopicError> {
        match tokio::time::timeout(ANSWER, self.step()).await {
            Ok(step) => step,
            Err(_) => Err(self.fault("reading", &KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))),
        }
    }

    fn fault(&self, doing: &str, error: &KafkaError) -> TopicError {
        self.broker.fault(&format!("{doing} the topic {}", self.topic), error, &self.trouble)
    }
}

/// What the topic holds, and how many partitions it has.
fn ask(consumer: &StreamConsumer<Trouble>, topic: &str) -> Result<Option<(Span, usize)>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
        Some(code) => return Err(KafkaError::MetadataFetch(code)),
        None if found.partitions().is_empty() => return Ok(None),
        None => {}
    }
    let (low, high) = consumer.fetch_watermarks(topic, PARTITION, ANSWER)?;
    Ok(Some((Span { low, high }, found.partitions().len())))
}

const PASSING: Duration = Duration::from_millis(50);

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable
                | Code::OffsetNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
        )
    )
}

fn read(message: &BorrowedMessage<'_>, decoder: &mut Decoder) -> Found {
    let at = message.offset();
    let nothing = Found { at, what: What::Nothing, bytes: message.payload_len() };
    let Some(headers) = message.headers().and_then(list) else { return nothing };
    let place = headers.iter().find(|(name, _)| *name == header::PLACE).and_then(|(_, value)| Place::read(value));
    let Some(place) = place.filter(|place| place.at == at) else { return nothing };
    let Some(value) = message.payload() else { return Found { at, what: What::Mark(place.offset), bytes: 0 } };
    let key = message.key().unwrap_or_default();
    let bytes = key.len() + value.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    Found { at, what: What::Record(place.offset, decoder.decode(key, value, headers)), bytes }
}

/// A record's headers; `None` where they cannot be ours.
fn list(headers: &BorrowedHeaders) -> Option<Vec<(&str, &[u8])>> {
    // rdkafka panics over a header whose name is not UTF-8, which anybody who may write to the topic can send.
    let listed = catch_unwind(AssertUnwindSafe(|| {
        let mut all = Vec::with_capacity(headers.count());
        all.extend(headers.iter().map(|header| (header.key, header.value.unwrap_or_default())));
        all
    }));
    listed.ok()
}
