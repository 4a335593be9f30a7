//! The topics, wherever they are kept.

use std::sync::Arc;

use crate::change::OriginId;
use crate::config::{Config, TopicAccess};
use crate::runtime::Stop;
use crate::topic::hub::{Hub, HubClient, HubReader, HubWriter};
use crate::topic::kafka::{KafkaOptions, KafkaReader, KafkaWriter};
use crate::topic::{TopicReader, TopicWriter};

/// How topics are reached. Clones share what they can.
#[derive(Clone)]
pub enum Topics {
    Hub(Arc<dyn Hub>),
    Kafka(KafkaOptions),
}

impl Topics {
    /// Opens no connection yet.
    pub fn reach(access: TopicAccess) -> Result<Self, Stop> {
        Ok(match access {
            TopicAccess::Hub(options) => Self::Hub(Arc::new(HubClient::new(options)?)),
            TopicAccess::Kafka(options) => Self::Kafka(options),
        })
    }

    pub fn writer(&self, origin: OriginId) -> Box<dyn TopicWriter> {
        match self {
            Self::Hub(hub) => Box::new(HubWriter::new(hub.clone(), origin)),
            Self::Kafka(options) => Box::new(KafkaWriter::new(options.clone(), origin)),
        }
    }

    pub fn reader(&self) -> Arc<dyn TopicReader> {
        match self {
            Self::Hub(hub) => Arc::new(HubReader::new(hub.clone())),
            Self::Kafka(options) => Arc::new(KafkaReader::new(options.clone())),
        }
    }
}

/// A reader of the cluster's topics, for commands that only look.
pub fn topic_reader(config: &Config, node: Option<&str>) -> Result<Arc<dyn TopicReader>, Stop> {
    let access = config.topic_access(node).map_err(|faults| Stop::halt(faults.to_string(), "see docs/configuration.md"))?;
    Ok(Topics::reach(access)?.reader())
}
