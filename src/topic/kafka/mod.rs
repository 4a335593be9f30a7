//! Kafka, or Redpanda: topics in a broker, for sites that run one.
//!
//! One Kafka topic per origin, `<cluster>.<origin>`, with one partition. A broker gives no append at an expected offset,
//! and an append that a dead writer sent may land at any later time. So each record says where it must lie
//! ([`Place`]), and one that lies elsewhere was never kept: every reader passes over it, today or in a year, whatever it
//! has read before. That is the room's fence, without Kafka's transactions (decision 0010):
//!
//! - a writer that takes over keeps a **mark** first, a record without a value that only says where it lies. Whatever an
//!   earlier writer has still under way meant a place that is taken now, or one behind it that it cannot reach;
//! - the broker's idempotence keeps what one writer sends in order and without holes.
//!
//! Kafka's own offsets count the marks, and what came too late, too. Ours do not, so a record says both.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

// The one place that knows whether the client is built in: the stand-in refuses all that is asked of it.
#[cfg_attr(not(feature = "kafka"), path = "absent.rs")]
mod librdkafka;
mod place;

pub use librdkafka::{KafkaReader, KafkaWriter, examine};
pub use place::{Place, header};

/// Whether this program speaks to a broker at all: cargo's feature `kafka`, which is on where nobody turned it off.
pub const BUILT_IN: bool = cfg!(feature = "kafka");

/// How a broker is reached, and what its topics must be like.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// `host:port` of some brokers; they tell the others.
    pub brokers: Vec<String>,
    /// First part of the topics' names.
    pub cluster: String,
    /// Encrypt; without it everything is sent as it is.
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
    /// Copies of each topic that we create; `None` leaves it to the broker.
    pub replication: Option<u16>,
    /// Topics keep their records at least this long.
    pub max_offline: Duration,
    /// The most bytes of one record.
    pub record_bytes_max: usize,
    /// Whether a topic's settings are looked at before it is written. Not with librdkafka's mock, which tells none.
    pub looks_at_settings: bool,
}

/// Whom to trust and who we are. Files are in PEM.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who signs brokers' certificates; `None` trusts whom the system trusts.
    pub authority: Option<PathBuf>,
    /// Our own certificate and its key, where brokers ask for one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password: Option<SecretString>,
}

#[derive(Clone, Debug)]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub username: String,
    pub password: SecretString,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::ScramSha512, Self::Plain];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// What a broker may be told to take in one record: its requests end at 100 MiB, and some room is left in them.
pub const RECORD_BYTES_LIMIT: usize = 96 << 20;

impl KafkaOptions {
    /// Brokers without encryption and login, and topics that keep thirty days.
    pub fn new(brokers: Vec<String>, cluster: impl Into<String>) -> Self {
        Self {
            brokers,
            cluster: cluster.into(),
            tls: None,
            sasl: None,
            replication: None,
            max_offline: Duration::from_secs(30 * 24 * 3600),
            // As the hub: holds a row with a 40 MB blob in base64.
            record_bytes_max: 64 << 20,
            looks_at_settings: true,
        }
    }
}
