//! A topic's own settings in the broker: made with ours where it does not exist, looked at where it does.

use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{ANSWER, BATCH_BYTES, Broker, Closing, Trouble};
use crate::topic::TopicError;

/// Asks for topics and their settings.
pub struct Settings {
    broker: Arc<Broker>,
    trouble: Trouble,
    admin: Closing<AdminClient<Trouble>>,
}

impl Settings {
    pub fn new(broker: Arc<Broker>) -> Result<Self, TopicError> {
        let trouble = Trouble::default();
        let admin = broker.config().create_with_context(trouble.clone());
        let admin = admin.map_err(|error| broker.fault("making a client", &error, &trouble))?;
        Ok(Self { broker, trouble, admin: Closing::new(admin) })
    }

    /// Makes the topic; that it exists meanwhile is as good.
    pub async fn create(&self, topic: &str) -> Result<(), TopicError> {
        let options = &self.broker.options;
        let retention = options.max_offline.as_millis().to_string();
        let message_bytes = (options.record_bytes_max + BATCH_BYTES).to_string();
        // -1 asks for the broker's own default.
        let copies = options.replication.map_or(-1, i32::from);
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(copies))
            .set("cleanup.policy", "delete")
            .set("retention.ms", &retention)
            .set("retention.bytes", "-1")
            .set("max.message.bytes", &message_bytes)
            // By the broker's clock: a laptop whose clock is years behind would see its records expire at once.
            .set("message.timestamp.type", "LogAppendTime");
        let wait = AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER));
        let doing = format!("creating the topic {topic}");
        let fault = |error: &KafkaError| self.broker.fault(&doing, error, &self.trouble);
        let answers = self.admin.create_topics([&new], &wait).await.map_err(|error| fault(&error))?;
        match answers.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code @ (RDKafkaErrorCode::InvalidReplicationFactor | RDKafkaErrorCode::InvalidConfig)))) => {
                Err(TopicError::Unsuited {
                    topic: topic.to_owned(),
                    reason: format!("the broker would not create it: {code}"),
                    remedy: "set `replication` under [topic] to what the broker can keep, or create the topic by hand".into(),
                })
            }
            Some(Err((_, code))) => Err(fault(&KafkaError::AdminOp(code))),
            None => Err(fault(&KafkaError::Canceled)),
        }
    }

    /// The most bytes that the topic takes in one record, where its settings fit ours. A login that may not look at
    /// settings, or a broker that does not tell them, leaves ours as they are.
    pub async fn check(&self, topic: &str) -> Result<usize, TopicError> {
        let own = self.broker.options.record_bytes_max;
        let wait = AdminOptions::new().request_timeout(Some(ANSWER));
        let answers = match self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &wait).await {
            Ok(answers) => answers,
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => return Ok(own),
            Err(error) => return Err(self.broker.fault(&format!("looking at the topic {topic}"), &error, &self.trouble)),
        };
        let Some(Ok(found)) = answers.into_iter().next() else { return Ok(own) };
        self.suits(topic, &found)?;
        let theirs = number(&found, "max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok());
        Ok(theirs.map_or(own, |theirs| own.min(theirs.saturating_sub(BATCH_BYTES))))
    }

    fn suits(&self, topic: &str, found: &ConfigResource) -> Result<(), TopicError> {
        let unsuited = |reason: String, remedy: String| Err(TopicError::Unsuited { topic: topic.to_owned(), reason, remedy });
        let promised = self.broker.options.max_offline.as_millis() as i64;
        let text = |name: &str| found.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        if text("cleanup.policy").contains("compact") {
            return unsuited(
                "it is compacted, which takes changes away that a node may still need".into(),
                format!("on the topic {topic} set cleanup.policy=delete"),
            );
        }
        match number(found, "retention.ms") {
            Some(kept) if kept >= 0 && kept < promised => unsuited(
                format!("it keeps records for {} h, less than max_offline of {} h", kept / HOUR_MS, promised / HOUR_MS),
                format!("on the topic {topic} set retention.ms={promised}, or lower max_offline under [topic]"),
            ),
            _ => Ok(()),
        }
    }
}

const HOUR_MS: i64 = 3_600_000;

fn number(found: &ConfigResource, name: &str) -> Option<i64> {
    found.get(name)?.value.as_deref()?.parse().ok()
}
