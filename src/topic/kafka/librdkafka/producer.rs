//! Sends records to one topic and learns where each of them landed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::client::{Broker, Closing, Trouble};
use super::{Place, header};
use crate::change::wire::{self, Encoder};
use crate::change::{OriginId, Record};
use crate::topic::TopicError;

/// Bytes that are under way at once: some requests of a megabyte each, all of it in memory until it is acknowledged.
const UNDER_WAY_BYTES: usize = 8 << 20;

/// When nothing at all was acknowledged for this long, the broker is away.
const PATIENCE: Duration = Duration::from_secs(15);

/// One producer, for one writer from its taking over to its end or first failure.
pub struct Sender {
    broker: Arc<Broker>,
    topic: Arc<str>,
    origin: OriginId,
    producer: Closing<ThreadedProducer<Reports>>,
    reports: Reports,
    encoder: Encoder,
    place: Vec<u8>,
}

/// What became of records that were sent to follow each other from a place on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Landed {
    /// So many of the first ones lie where they belong.
    pub kept: usize,
    /// Where the one after them landed instead; `None` where all are kept.
    pub elsewhere: Option<i64>,
}

#[derive(Clone, Default)]
struct Reports {
    trouble: Trouble,
    state: Arc<Mutex<State>>,
    done: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Kafka's offset that the first record under way belongs at.
    at: i64,
    under_way: usize,
    landed: Landed,
    failed: Option<KafkaError>,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.error(error, reason);
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ProducerContext for Reports {
    /// Which of the records under way it is.
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, which: usize) {
        let mut state = self.state.lock().expect("nothing panics while it holds the reports");
        state.under_way -= 1;
        match delivered {
            Ok(message) if message.offset() == state.at + which as i64 && state.landed.kept == which => state.landed.kept += 1,
            Ok(message) => {
                state.landed.elsewhere.get_or_insert(message.offset());
            }
            Err((error, _)) => {
                state.failed.get_or_insert(error.clone());
            }
        }
        if state.under_way == 0 || state.failed.is_some() {
            self.done.notify_one();
        }
    }
}

impl Sender {
    /// For a topic whose batches may have `limit` bytes.
    pub fn new(broker: Arc<Broker>, origin: OriginId, limit: usize) -> Result<Self, TopicError> {
        let reports = Reports::default();
        let mut config = broker.config();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // A record that failed for good must not be followed by the next: that one could land where this belonged.
            .set("enable.gapless.guarantee", "true")
            // We give up ourselves, for all that is under way at once.
            .set("message.timeout.ms", "0")
            .set("compression.type", "zstd")
            // As the hub: the next level costs the double time, and takes a tenth from the size.
            .set("compression.level", "1")
            .set("batch.size", limit.min(1_000_000).to_string())
            // A record alone goes at once. In a stream, those that come while two requests are under way go together:
            // with more under way and a wait instead, batches were small and cost the broker and us the double time.
            .set("linger.ms", "0")
            .set("max.in.flight.requests.per.connection", "2")
            // What is under way is limited by us, in bytes.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2097151");
        let producer = config.create_with_context(reports.clone());
        let producer = producer.map_err(|error| broker.fault("making a client", &error, &reports.trouble))?;
        let (topic, producer) = (broker.topic(&origin), Closing::new(producer));
        Ok(Self { broker, topic, origin, producer, reports, encoder: Encoder::default(), place: Vec::new() })
    }

    /// Sends a mark, and tells where it landed.
    pub async fn mark(&mut self, place: Place) -> Result<Landed, TopicError> {
        self.begin(place);
        let key = format!(r#"{{"writer":{}}}"#, serde_json::Value::from(self.origin.as_str()));
        let headers = OwnedHeaders::new();
        self.post(place, 0, key.as_bytes(), None, headers)?;
        self.landed().await
    }

    /// The first of the records that has more than `limit` bytes in its outside form, and how many. Only those are
    /// encoded for this that could be as large: the outside form of a value is at most some times as long.
    pub fn too_large(&mut self, records: &[Record], limit: usize) -> Option<usize> {
        let suspects = records.iter().filter(|record| record.weight() > limit / 64);
        suspects.map(|record| size(&self.encoder.encode(record))).find(|&size| size > limit)
    }

    /// Sends the records to lie at `place` and after; stops after the first that landed elsewhere, or soon after.
    pub async fn send(&mut self, place: Place, records: &[Record], limit: usize) -> Result<Landed, TopicError> {
        let mut kept = 0;
        while kept < records.len() {
            let part = self.send_part(place.plus(kept), &records[kept..], limit)?;
            let landed = self.landed().await?;
            kept += landed.kept;
            if landed.elsewhere.is_some() {
                return Ok(Landed { kept, ..landed });
            }
            debug_assert_eq!(landed.kept, part);
        }
        Ok(Landed { kept, elsewhere: None })
    }

    /// Sends as many as may be under way; returns how many.
    fn send_part(&mut self, place: Place, records: &[Record], limit: usize) -> Result<usize, TopicError> {
        self.begin(place);
        let mut encoder = std::mem::take(&mut self.encoder);
        let (mut count, mut bytes) = (0, 0);
        while count < records.len() && bytes < UNDER_WAY_BYTES {
            let encoded = encoder.encode(&records[count]);
            let size = size(&encoded);
            if size > limit {
                return Err(TopicError::TooLarge { origin: self.origin.clone(), size, limit });
            }
            bytes += size;
            let mut headers = OwnedHeaders::new_with_capacity(encoded.headers().len() + 1);
            headers = self.with_place(headers, place.plus(count));
            for (key, value) in encoded.headers() {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            self.post_with(count, encoded.key, Some(encoded.value), headers)?;
            count += 1;
        }
        self.encoder = encoder;
        Ok(count)
    }

    fn begin(&mut self, place: Place) {
        let mut state = self.reports.state.lock().expect("nothing panics while it holds the reports");
        *state = State { at: place.at, ..State::default() };
    }

    fn with_place(&mut self, headers: OwnedHeaders, place: Place) -> OwnedHeaders {
        place.write(&mut self.place);
        headers.insert(Header { key: header::PLACE, value: Some(&self.place) })
    }

    fn post(
        &mut self,
        place: Place,
        which: usize,
        key: &[u8],
        value: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<(), TopicError> {
        let mut headers = self.with_place(headers, place);
        for (key, value) in [(wire::header::FORMAT, wire::FORMAT), (wire::header::ORIGIN, self.origin.as_str())] {
            headers = headers.insert(Header { key, value: Some(value.as_bytes()) });
        }
        self.post_with(which, key, value, headers)
    }

    fn post_with(&self, which: usize, key: &[u8], value: Option<&[u8]>, headers: OwnedHeaders) -> Result<(), TopicError> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&self.topic, which);
        record = record.partition(0).key(key).headers(headers);
        if let Some(value) = value {
            record = record.payload(value);
        }
        self.reports.state.lock().expect("nothing panics while it holds the reports").under_way += 1;
        self.producer.send(record).map_err(|(error, _)| self.fault(&error))
    }

    /// Waits for the last report, or for the first failure.
    async fn landed(&self) -> Result<Landed, TopicError> {
        let mut before = usize::MAX;
        loop {
            {
                let state = self.reports.state.lock().expect("nothing panics while it holds the reports");
                if let Some(error) = &state.failed {
                    return Err(self.fault(error));
                }
                if state.under_way == 0 {
                    self.reports.trouble.clear();
                    return Ok(state.landed);
                }
                before = before.min(state.under_way);
            }
            if timeout(PATIENCE, self.reports.done.notified()).await.is_err() {
                let under_way = self.reports.state.lock().expect("nothing panics while it holds the reports").under_way;
                if under_way >= before {
                    return Err(self.fault(&KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)));
                }
            }
        }
    }

    fn fault(&self, error: &KafkaError) -> TopicError {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => TopicError::Unsuited {
                topic: self.topic.to_string(),
                reason: format!(
                    "it refused records of {} bytes or less, which its settings should take",
                    self.broker.options.record_bytes_max
                ),
                remedy: "raise max.message.bytes of the topic, or lower record_bytes_max under [topic]".into(),
            },
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => TopicError::Unreachable {
                place: self.broker.place.clone(),
                reason: format!("the topic {} is gone", self.topic),
            },
            _ => self.broker.fault(&format!("writing to the topic {}", self.topic), error, &self.reports.trouble),
        }
    }
}

/// Bytes of a record with all that is sent with it.
fn size(encoded: &wire::Encoded<'_>) -> usize {
    // The place has two numbers of at most twenty digits.
    let headers: usize = encoded.headers().map(|(name, value)| name.len() + value.len()).sum();
    encoded.key.len() + encoded.value.len() + headers + header::PLACE.len() + 41
}
