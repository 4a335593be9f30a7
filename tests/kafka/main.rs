//! Topics in Kafka: the room's contract, and what only a broker can do to us.
//!
//! Over a real Apache Kafka (`tests/harness/kafka.rs`), and over librdkafka's mock, which can be told to fail.

// In Cargo.toml it would be a target by name, which the image's build would have to make up before it has the sources.
#![cfg(feature = "kafka")]

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
