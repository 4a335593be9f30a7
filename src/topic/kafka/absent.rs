//! What stands for the client in a program that was built without it. The configuration refuses a broker there
//! ([`super::BUILT_IN`]), so nobody comes here; who does is refused again, and nothing is sent or lost.

use std::time::Duration;

use async_trait::async_trait;

use super::KafkaOptions;
use crate::change::{Offset, OriginId, Record};
use crate::runtime::Finding;
use crate::topic::{Extent, TopicError, TopicReader, TopicWriter};

#[derive(Clone)]
pub struct KafkaReader(KafkaOptions);

impl KafkaReader {
    pub fn new(options: KafkaOptions) -> Self {
        Self(options)
    }
}

#[async_trait]
impl TopicReader for KafkaReader {
    async fn read(&self, origin: &OriginId, _: Offset, _: usize, _: Duration) -> Result<Vec<(Offset, Record)>, TopicError> {
        Err(refused(&self.0, origin))
    }

    async fn extent(&self, origin: &OriginId) -> Result<Extent, TopicError> {
        Err(refused(&self.0, origin))
    }
}

pub struct KafkaWriter(KafkaOptions, OriginId);

impl KafkaWriter {
    pub fn new(options: KafkaOptions, origin: OriginId) -> Self {
        Self(options, origin)
    }
}

#[async_trait]
impl TopicWriter for KafkaWriter {
    async fn resume(&mut self) -> Result<Extent, TopicError> {
        Err(refused(&self.0, &self.1))
    }

    async fn append(&mut self, _: Offset, _: &[Record]) -> Result<Offset, TopicError> {
        Err(refused(&self.0, &self.1))
    }
}

/// Whoever reads the topics tells why that cannot be.
pub async fn examine(_: KafkaOptions, _: &[OriginId]) -> Vec<Finding> {
    Vec::new()
}

fn refused(options: &KafkaOptions, origin: &OriginId) -> TopicError {
    TopicError::Unsuited {
        topic: format!("{}.{origin}", options.cluster),
        reason: "this program was built without the Kafka client".into(),
        remedy: "build it with cargo's feature `kafka`, or have a hub keep the topics".into(),
    }
}
