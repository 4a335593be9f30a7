//! Real servers and real processes for tests and the demo, private to the program that starts them.
//!
//! Everything started here lives on the loopback, on a free port, in a directory of its own, and ends with its handle:
//! by process id, even when the program that started it is killed. No system service is started, stopped or changed.
//!
//! `tests/live/main.rs` and `examples/demo.rs` include this module by path; each uses a part of it.
#![allow(dead_code, unused_imports)]

mod azure_server;
mod cloud_server;
mod cluster;
mod digest;
mod faulty_cloud;
mod kafka;
mod keeper;
mod link;
mod node;
mod ports;
mod process;
mod s3_server;
mod server;
mod template;
mod tools;
mod wait;

pub use azure_server::AzureServer;
pub use cloud_server::{CloudServer, CloudServerOptions, get_json, get_text};
pub use cluster::{Cluster, ClusterOptions, status};
pub use digest::{TableRows, databases_differ, tables};
pub use faulty_cloud::{Came, FaultyCloud, Step};
pub use kafka::{BrokerOptions, GUEST, PASSWORD, PrivateBroker, USER, broker_or_say, foreign_reader_or_say, kafka_or_say};
pub use keeper::{HubKeeper, KafkaKeeper, TopicKeeper};
pub use link::Link;
pub use node::{Node, NodeOptions};
pub use ports::free_port;
pub use process::Running;
pub use s3_server::S3Server;
pub use server::{PrivateServer, ServerOptions, Sync};
pub use tools::{folder_or_say, found_or_say};
pub use wait::{wait_for, wait_until};

use std::path::PathBuf;

/// What the harness keeps between runs and where it logs: `target/harness`.
pub fn harness_dir() -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"),
    };
    let dir = target.join("harness");
    std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot create {}: {error}", dir.display()));
    dir
}
