//! What happens to a topic in a real broker behind our back.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tandem::change::{Offset, OriginId, wire};
use tandem::topic::contract::record;
use tandem::topic::kafka::{KafkaOptions, KafkaReader, KafkaWriter, header};
use tandem::topic::{TopicError, TopicReader, TopicWriter};

use super::contract::forget;
use super::harness::{BrokerOptions, PrivateBroker, broker_or_say};
use super::options;

const BYTES: usize = 1 << 20;

fn ours(broker: &PrivateBroker) -> KafkaOptions {
    options(&broker.address(), "behind")
}

/// Writes past us, as a producer that was killed does; tells where it landed.
async fn sneak(broker: &PrivateBroker, origin: &OriginId, number: u64, place: Option<&str>) -> i64 {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("a client");
    let wire = wire::encode(&record(origin, number));
    let mut headers = OwnedHeaders::new();
    if let Some(place) = place {
        headers = headers.insert(Header { key: header::PLACE, value: Some(place) });
        for (key, value) in &wire.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
    }
    let topic = format!("behind.{origin}");
    let record = FutureRecord::to(&topic).partition(0).key(&wire.key).payload(&wire.value).headers(headers);
    producer.send(record, Duration::from_secs(20)).await.expect("it is written").offset
}

/// All rows from the offset on: a read gives what the client has at hand, so there may be several.
async fn rows(reader: &KafkaReader, origin: &OriginId, from: u64) -> Vec<u64> {
    let mut rows = Vec::new();
    loop {
        let next = Offset(from + rows.len() as u64);
        let found = reader.read(origin, next, BYTES, Duration::ZERO).await.expect("a read");
        if found.is_empty() {
            return rows;
        }
        for (offset, record) in found {
            assert_eq!(offset.0, from + rows.len() as u64, "offsets grow by one");
            rows.push(record.row);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_or_from_strangers_does_not_count() {
    let Some(broker) = broker_or_say(BrokerOptions::default()).await else { return };
    let origin = OriginId::new("late");
    let mut first = KafkaWriter::new(ours(&broker), origin.clone());
    first.resume().await.expect("a resume");
    // Kafka's 0 is the mark, 1 the record.
    first.append(Offset(0), &[record(&origin, 0)]).await.expect("an append");
    let mut second = KafkaWriter::new(ours(&broker), origin.clone());
    second.resume().await.expect("a resume");
    // The mark of the second is at 2. What the first still had under way meant 2 and 3.
    assert_eq!(sneak(&broker, &origin, 1, Some("1@2")).await, 3);
    assert_eq!(sneak(&broker, &origin, 2, Some("2@3")).await, 4);
    assert_eq!(sneak(&broker, &origin, 9, None).await, 5);
    let reader = KafkaReader::new(ours(&broker));
    assert_eq!(rows(&reader, &origin, 0).await, [0]);
    // The second writer is told nothing of it, and goes on behind it.
    assert_eq!(second.append(Offset(1), &[record(&origin, 1), record(&origin, 2)]).await.expect("an append"), Offset(3));
    assert_eq!(rows(&reader, &origin, 1).await, [1, 2]);
    assert_eq!(rows(&KafkaReader::new(ours(&broker)), &origin, 0).await, [0, 1, 2]);

    // The other way round, so that all of this proves something: at its own place it counts, and fences us.
    let extent = reader.extent(&origin).await.expect("an extent");
    assert_eq!(extent.end, Offset(3));
    let at = sneak(&broker, &origin, 9, None).await + 1;
    assert_eq!(sneak(&broker, &origin, 3, Some(&format!("3@{at}"))).await, at);
    assert_eq!(rows(&reader, &origin, 3).await, [3]);
    assert!(matches!(second.append(Offset(3), &[record(&origin, 3)]).await, Err(TopicError::Fenced { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_is_found_among_many_marks_and_what_retention_leaves() {
    let Some(broker) = broker_or_say(BrokerOptions::default()).await else { return };
    let origin = OriginId::new("marks");
    let mut end = Offset(0);
    for turn in 0..25 {
        let mut writer = KafkaWriter::new(ours(&broker), origin.clone());
        assert_eq!(writer.resume().await.expect("a resume").end, end);
        // Some turns publish nothing, as those of a tailer that cannot reach its database.
        let records: Vec<_> = (end.0..end.0 + turn % 4).map(|number| record(&origin, number)).collect();
        end = writer.append(end, &records).await.expect("an append");
    }
    for from in 0..end.0 {
        assert_eq!(rows(&KafkaReader::new(ours(&broker)), &origin, from).await, (from..end.0).collect::<Vec<_>>());
    }
    forget(&broker, "behind.marks", Some(20)).await;
    let reader = KafkaReader::new(ours(&broker));
    let extent = reader.extent(&origin).await.expect("an extent");
    assert!(extent.first > Offset(0) && extent.end == end, "{extent:?}");
    assert_eq!(rows(&reader, &origin, extent.first.0).await, (extent.first.0..end.0).collect::<Vec<_>>());

    // Retention took everything: nobody knows how far it went, so nobody goes on.
    forget(&broker, "behind.marks", None).await;
    let read = KafkaReader::new(ours(&broker)).read(&origin, end, BYTES, Duration::ZERO).await;
    assert!(matches!(read, Err(TopicError::Emptied { .. })), "{read:?}");
    let resumed = KafkaWriter::new(ours(&broker), origin.clone()).resume().await;
    assert!(matches!(resumed, Err(TopicError::Emptied { .. })), "{resumed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_somebody_made_otherwise_is_refused_with_what_to_set() {
    let Some(broker) = broker_or_say(BrokerOptions::default()).await else { return };
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("a client");
    let topic = |name| NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let two = NewTopic::new("behind.two", 2, TopicReplication::Fixed(1));
    let topics = [
        topic("behind.short").set("retention.ms", "3600000"),
        topic("behind.compacted").set("cleanup.policy", "compact"),
        two,
        topic("behind.small").set("max.message.bytes", "200000").set("retention.ms", "-1"),
    ];
    for made in admin.create_topics(&topics, &AdminOptions::new()).await.expect("topics") {
        made.expect("a topic");
    }
    let refused = async |name: &str| {
        let error = KafkaWriter::new(ours(&broker), OriginId::new(name)).resume().await.expect_err(name);
        let hint = tandem::runtime::Fault::hint(&error).expect("what to do");
        assert!(matches!(error, TopicError::Unsuited { .. }), "{error}");
        format!("{error} - {hint}")
    };
    assert_eq!(
        refused("short").await,
        "the topic behind.short cannot be used: it keeps records for 1 h, less than max_offline of 720 h - \
         on the topic behind.short set retention.ms=2592000000, or lower max_offline under [topic]"
    );
    assert!(refused("compacted").await.contains("cleanup.policy=delete"));
    assert!(refused("two").await.contains("2 partitions"));
    // One that takes less than we are set to is used, and says so where a record does not fit.
    let origin = OriginId::new("small");
    let mut writer = KafkaWriter::new(ours(&broker), origin.clone());
    writer.resume().await.expect("a resume");
    let records: Vec<_> = (0..2_000).map(|number| record(&origin, number)).collect();
    assert_eq!(writer.append(Offset(0), &records).await.expect("batches that fit"), Offset(2_000));
}
