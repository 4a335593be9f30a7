//! The contract of the topic, over every implementation that needs no server of its own.

use std::sync::Arc;

use async_trait::async_trait;
use tandem::change::{Offset, OriginId};
use tandem::topic::contract::{self, Subject};
use tandem::topic::memory::{FairWeather, MemoryTopics};
use tandem::topic::{TopicReader, TopicWriter};

struct Memory(MemoryTopics);

#[async_trait]
impl Subject for Memory {
    fn writer(&self, origin: &OriginId) -> Box<dyn TopicWriter> {
        Box::new(self.0.writer(origin.clone(), Arc::new(FairWeather)))
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(self.0.reader(Arc::new(FairWeather)))
    }

    async fn reopen(&mut self) -> bool {
        false
    }

    async fn forget(&mut self, origin: &OriginId, end: Offset) {
        self.0.forget_before(origin, end);
    }

    fn record_bytes_max(&self) -> Option<usize> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn memory_holds_the_contract() {
    contract::hold(&mut Memory(MemoryTopics::new())).await;
}
