//! The one suite of the room, over a broker.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, TopicPartitionList};
use tandem::change::{Offset, OriginId};
use tandem::topic::contract::{self, Subject};
use tandem::topic::kafka::{KafkaReader, KafkaWriter};
use tandem::topic::{TopicReader, TopicWriter};
use tokio::runtime::Handle;

use super::harness::{BrokerOptions, PrivateBroker, broker_or_say};
use super::{RECORD_BYTES_MAX, options};

struct Kafka(PrivateBroker);

#[async_trait]
impl Subject for Kafka {
    fn writer(&self, origin: &OriginId) -> Box<dyn TopicWriter> {
        Box::new(KafkaWriter::new(options(&self.0.address(), "contract"), origin.clone()))
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(KafkaReader::new(options(&self.0.address(), "contract")))
    }

    async fn reopen(&mut self) -> bool {
        self.0.kill9();
        // Waiting for the broker is no future that may move between threads.
        tokio::task::block_in_place(|| Handle::current().block_on(self.0.start_again()));
        true
    }

    async fn forget(&mut self, origin: &OriginId, end: Offset) -> bool {
        // Our offsets are never ahead of Kafka's, so before this one lie none but earlier ones of ours.
        forget(&self.0, &format!("contract.{origin}"), Some(end.0 as i64)).await;
        true
    }

    fn record_bytes_max(&self) -> Option<usize> {
        Some(RECORD_BYTES_MAX)
    }
}

/// What retention does, at once; without an offset, to everything.
pub async fn forget(broker: &PrivateBroker, topic: &str, before: Option<i64>) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("a client");
    let mut offsets = TopicPartitionList::new();
    let before = before.map_or(rdkafka::Offset::End, rdkafka::Offset::Offset);
    offsets.add_partition_offset(topic, 0, before).expect("an offset");
    let wait = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
    admin.delete_records(&offsets, &wait).await.expect("records are deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_holds_the_contract() {
    let Some(broker) = broker_or_say(BrokerOptions::default()).await else { return };
    contract::hold(&mut Kafka(broker)).await;
}
