//! Topics in Kafka: the room's contract, and what only a broker can do to us.
//!
//! Over a real Apache Kafka (`tests/harness/kafka.rs`), and over librdkafka's mock, which can be told to fail.

#[path = "../harness/mod.rs"]
mod harness;

mod broker;
mod contract;
mod foreign;
mod login;
mod mock;

use tandem::topic::kafka::KafkaOptions;

/// Small, so that the limit is reached without writing much.
const RECORD_BYTES_MAX: usize = 1 << 20;

fn options(brokers: &str, cluster: &str) -> KafkaOptions {
    let brokers = brokers.split(',').map(str::to_owned).collect();
    KafkaOptions { record_bytes_max: RECORD_BYTES_MAX, ..KafkaOptions::new(brokers, cluster) }
}
