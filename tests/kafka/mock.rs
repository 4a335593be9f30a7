//! A broker that fails when it is told to: librdkafka's mock.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tandem::change::{Offset, OriginId};
use tandem::topic::contract::{self, Subject, record};
use tandem::topic::kafka::{KafkaOptions, KafkaReader, KafkaWriter};
use tandem::topic::{TopicReader, TopicWriter};

use super::{RECORD_BYTES_MAX, options};

/// The brokers of a mock.
struct Mock(String);

/// A mock that has these topics; it makes none by itself.
fn start(topics: &[&str]) -> (MockCluster<'static, DefaultProducerContext>, Mock) {
    let cluster = MockCluster::new(1).expect("a mock");
    for topic in topics {
        cluster.create_topic(&format!("mock.{topic}"), 1, 1).expect("a topic");
    }
    let brokers = Mock(cluster.bootstrap_servers());
    (cluster, brokers)
}

impl Mock {
    fn reader(&self) -> KafkaReader {
        KafkaReader::new(self.options())
    }

    fn writer(&self, origin: &OriginId) -> KafkaWriter {
        KafkaWriter::new(self.options(), origin.clone())
    }

    fn options(&self) -> KafkaOptions {
        KafkaOptions { looks_at_settings: false, ..options(&self.0, "mock") }
    }
}

#[async_trait]
impl Subject for Mock {
    fn writer(&self, origin: &OriginId) -> Box<dyn TopicWriter> {
        Box::new(Mock::writer(self, origin))
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(Mock::reader(self))
    }

    async fn reopen(&mut self) -> bool {
        false
    }

    async fn forget(&mut self, _: &OriginId, _: Offset) -> bool {
        false
    }

    fn record_bytes_max(&self) -> Option<usize> {
        Some(RECORD_BYTES_MAX)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_holds_the_contract() {
    let names = ["order", "waited-for", "mix-a", "mix-b", "fenced", "taken-over", "large"];
    let hex = ["mix c/d?e%f", "mix-ü"]
        .map(|name| format!("x.{}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()));
    let topics: Vec<&str> = names.into_iter().chain(hex.iter().map(String::as_str)).collect();
    let (_cluster, mut mock) = start(&topics);
    contract::hold(&mut mock).await;
}

/// Appends with answers that say no, and cut connections, in between: everything is kept once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn refused_and_lost_appends_leave_nothing_out_and_nothing_twice() {
    let (cluster, mock) = start(&["faults"]);
    let origin = OriginId::new("faults");
    let mut random = fastrand::Rng::with_seed(7);
    let mut writer = mock.writer(&origin);
    let mut end = writer.resume().await.expect("a resume").end;
    let faults = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        // For good: the session ends, and the next one looks again.
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    ];
    let mut failed = 0;
    while end.0 < 2_000 {
        if random.u8(..) < 80 {
            cluster.request_errors(RDKafkaApiKey::Produce, &[faults[random.usize(..faults.len())]]);
        }
        let count = random.u64(1..80);
        let records: Vec<_> = (end.0..end.0 + count).map(|number| record(&origin, number)).collect();
        match writer.append(end, &records).await {
            Ok(after) => {
                assert_eq!(after.0, end.0 + count);
                end = after;
            }
            Err(_) => {
                failed += 1;
                cluster.clear_request_errors(RDKafkaApiKey::Produce);
                end = writer.resume().await.expect("a resume").end;
            }
        }
    }
    assert!(failed > 3, "some faults were to be final: {failed}");
    let reader = mock.reader();
    let mut next = 0;
    while next < end.0 {
        for (offset, found) in
            reader.read(&origin, Offset(next), 1 << 16, std::time::Duration::from_secs(10)).await.expect("a read")
        {
            assert_eq!((offset.0, found.row), (next, next), "each record once, in order");
            next += 1;
        }
    }
}

/// A broker that is away is waited for by whoever appends, and everything flows when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_waits_for_a_broker_that_comes_back() {
    let (cluster, mock) = start(&["away"]);
    let origin = OriginId::new("away");
    let mut writer = mock.writer(&origin);
    writer.resume().await.expect("a resume");
    cluster.broker_down(1).expect("the mock goes down");
    let records: Vec<_> = (0..100).map(|number| record(&origin, number)).collect();
    let mut appending = std::pin::pin!(writer.append(Offset(0), &records));
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut appending).await;
    assert!(early.is_err(), "nothing is acknowledged by a broker that is away: {early:?}");
    cluster.broker_up(1).expect("the mock comes back");
    assert_eq!(appending.await.expect("an append"), Offset(100));
    assert_eq!(mock.reader().extent(&origin).await.expect("an extent").end, Offset(100));
}
