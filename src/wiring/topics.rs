//! The topics, wherever they are kept.

use std::sync::Arc;
use std::time::Duration;

use crate::change::{Offset, OriginId, Record};
use crate::config::TopicAccess;
use crate::runtime::Stop;
use crate::topic::hub::{Hub, HubClient, HubReader, HubWriter};
use crate::topic::kafka::{KafkaOptions, KafkaReader, KafkaWriter};
use crate::topic::{TopicReader, TopicWriter};

/// How topics are reached. Clones share what they can.
#[derive(Clone)]
pub enum Topics {
    Hub(Arc<dyn Hub>),
    Kafka(Arc<KafkaOptions>),
}

impl Topics {
    /// Opens no connection yet.
    pub fn reach(access: TopicAccess) -> Result<Self, Stop> {
        Ok(match access {
            TopicAccess::Hub(options) => Self::Hub(Arc::new(HubClient::new(options)?)),
            TopicAccess::Kafka(options) => Self::Kafka(Arc::new(options)),
        })
    }

    pub fn writer(&self, origin: OriginId) -> Box<dyn TopicWriter> {
        match self {
            Self::Hub(hub) => Box::new(HubWriter::new(hub.clone(), origin)),
            Self::Kafka(options) => Box::new(KafkaWriter::new(KafkaOptions::clone(options), origin)),
        }
    }

    pub fn reader(&self) -> Arc<dyn TopicReader> {
        match self {
            Self::Hub(hub) => Arc::new(HubReader::new(hub.clone())),
            Self::Kafka(options) => Arc::new(KafkaReader::new(KafkaOptions::clone(options))),
        }
    }
}

/// The cluster's topics for commands that only look.
pub struct TopicView(Arc<dyn TopicReader>);

/// What a topic holds: `first..end`.
pub struct TopicHeld {
    pub first: Offset,
    pub end: Offset,
    pub last: Option<Record>,
}

/// Bytes of records that a command holds at once.
const VIEW_BYTES: usize = 1 << 20;

impl TopicView {
    /// Opens no connection yet.
    pub fn open(access: TopicAccess) -> Result<Self, Stop> {
        Ok(Self(Topics::reach(access)?.reader()))
    }

    pub async fn held(&self, origin: &OriginId) -> Result<TopicHeld, Stop> {
        let extent = self.0.extent(origin).await?;
        Ok(TopicHeld { first: extent.first, end: extent.end, last: extent.last })
    }

    /// Records from the offset on, none after the wait.
    pub async fn read(&self, origin: &OriginId, from: Offset, wait: Duration) -> Result<Vec<(Offset, Record)>, Stop> {
        Ok(self.0.read(origin, from, VIEW_BYTES, wait).await?)
    }
}
