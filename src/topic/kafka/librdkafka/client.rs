//! What all clients of a broker share: how it is reached, what its errors mean to us, and how a client is closed.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use secrecy::ExposeSecret;

use super::KafkaOptions;
use crate::change::OriginId;
use crate::topic::TopicError;

/// A question that the broker does not answer in this time is given up; its clients try again.
pub const ANSWER: Duration = Duration::from_secs(15);

/// Kafka's limits are about batches: what a record has around it there. Measured: 61 bytes a batch, some 20 a record.
pub const BATCH_BYTES: usize = 16 << 10;

/// The broker as its clients need it: settings, and how messages name it.
pub struct Broker {
    pub options: KafkaOptions,
    pub place: String,
}

impl Broker {
    pub fn new(options: KafkaOptions) -> Arc<Self> {
        let place = format!("kafka {}", options.brokers.join(", "));
        Arc::new(Self { options, place })
    }

    /// The Kafka topic of an origin. Names of nodes and clusters hold letters, digits, `-` and `_`, which Kafka takes as
    /// they are; any other (no configuration leads here) is written out, behind a second dot that no legal name has.
    pub fn topic(&self, origin: &OriginId) -> Arc<str> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let (cluster, name) = (&self.options.cluster, origin.as_str());
        if name.bytes().all(legal) {
            return format!("{cluster}.{name}").into();
        }
        let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{cluster}.x.{hex}").into()
    }

    /// Settings that every client has.
    pub fn config(&self) -> ClientConfig {
        let KafkaOptions { brokers, tls, sasl, record_bytes_max, .. } = &self.options;
        let mut config = ClientConfig::new();
        let batch = record_bytes_max + BATCH_BYTES;
        config
            .set("client.id", "tandem")
            .set("bootstrap.servers", brokers.join(","))
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "30000")
            .set("socket.connection.setup.timeout.ms", "10000")
            // A laptop comes back from sleep often, and its broker is near: ask again soon.
            .set("reconnect.backoff.max.ms", "2000")
            .set("message.max.bytes", batch.to_string())
            .set("receive.message.max.bytes", (2 * batch).max(100 << 20).to_string());
        let protocol = match (tls, sasl) {
            (None, None) => "plaintext",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), None) => "ssl",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = tls {
            let files = [
                ("ssl.ca.location", &tls.authority),
                ("ssl.certificate.location", &tls.certificate),
                ("ssl.key.location", &tls.key),
            ];
            for (name, file) in files {
                if let Some(file) = file {
                    config.set(name, file.to_string_lossy());
                }
            }
            if let Some(password) = &tls.key_password {
                config.set("ssl.key.password", password.expose_secret());
            }
        }
        if let Some(sasl) = sasl {
            config
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", sasl.password.expose_secret());
        }
        config
    }

    /// What an error of a client means to the room. `doing` completes "while …".
    pub fn fault(&self, doing: &str, error: &KafkaError, trouble: &Trouble) -> TopicError {
        use RDKafkaErrorCode as Code;
        let place = self.place.clone();
        let known = trouble.latest();
        let code = error.rdkafka_error_code();
        match code.or(known.as_ref().map(|(code, _)| *code)) {
            Some(
                code @ (Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::PolicyViolation),
            ) => return TopicError::Denied { place, reason: format!("{} while {doing}", sentence(code)) },
            Some(code @ (Code::SaslAuthenticationFailed | Code::Authentication)) => {
                let reason = known.map_or_else(|| sentence(code), |(_, reason)| reason);
                return TopicError::Denied { place, reason };
            }
            _ => {}
        }
        match known {
            Some((Code::SaslAuthenticationFailed | Code::Authentication, reason)) => TopicError::Denied { place, reason },
            // What the connection said tells more than that an answer did not come.
            Some((_, reason)) => TopicError::Unreachable { place, reason },
            None => {
                let what = code.map_or_else(|| error.to_string(), sentence);
                TopicError::Unreachable { place, reason: format!("{what} while {doing}") }
            }
        }
    }
}

/// librdkafka's word for a code, without its name and number.
fn sentence(code: RDKafkaErrorCode) -> String {
    code.to_string()
}

/// The last that a client said about its connections: time-outs by themselves do not tell why.
#[derive(Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>);

impl Trouble {
    pub fn latest(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.lock().expect("nothing panics while it holds the last trouble").clone()
    }

    /// Something worked.
    pub fn clear(&self) {
        *self.0.lock().expect("nothing panics while it holds the last trouble") = None;
    }

    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut latest = self.0.lock().expect("nothing panics while it holds the last trouble");
        // "All brokers are down" comes after the reason, and would hide it.
        if code != RDKafkaErrorCode::AllBrokersDown || latest.is_none() {
            *latest = Some((code, reason.to_owned()));
        }
    }
}

impl ClientContext for Trouble {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code()
            && code != RDKafkaErrorCode::PartitionEOF
        {
            self.note(code, reason);
        }
    }

    fn stats_raw(&self, _: &[u8]) {}
}

impl ConsumerContext for Trouble {}

/// A client that is closed in a thread of its own: closing waits for answers, which a task must not.
pub struct Closing<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Closing<T> {
    pub fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Where no thread can be had it closes here, and somebody waits.
        let _ = std::thread::Builder::new().name("kafka closes".into()).spawn(move || drop(client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::kafka::{Mechanism, Sasl};

    #[test]
    fn every_origin_has_a_topic_of_its_own_that_kafka_takes() {
        let broker = Broker::new(KafkaOptions::new(vec!["x:1".into()], "campus"));
        let topic = |name: &str| broker.topic(&OriginId::new(name)).to_string();
        assert_eq!(topic("laptop-a_2"), "campus.laptop-a_2");
        assert_eq!(topic("x"), "campus.x");
        assert_eq!(topic("a b"), "campus.x.612062");
        assert_eq!(topic("a.b"), "campus.x.612e62");
    }

    #[test]
    fn passwords_are_not_in_what_can_be_printed() {
        let mut options = KafkaOptions::new(vec!["x:1".into()], "campus");
        let password = "correct horse";
        options.sasl = Some(Sasl { mechanism: Mechanism::Plain, username: "u".into(), password: password.into() });
        assert!(!format!("{options:?}").contains(password));
        assert!(!Broker::new(options).place.contains(password));
    }
}
