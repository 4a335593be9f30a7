//! What a run of the tailer says of itself, over the memory twins.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::change::{OriginId, TableFilter};
use crate::runtime::SystemClock;
use crate::source::memory::{MemoryBinlog, MemorySource};
use crate::tail::MemoryFloor;
use crate::topic::memory::{MemoryTopics, Point, Weather};

/// An append waits until it is let through.
struct Gate {
    came: Semaphore,
    opened: Semaphore,
}

#[async_trait]
impl Weather for Gate {
    async fn pass(&self, point: Point) -> Result<(), TopicError> {
        if point == Point::Append {
            self.came.add_permits(1);
            self.opened.acquire().await.expect("nobody closes it").forget();
        }
        Ok(())
    }
}

struct Nobody;

impl Follower for Nobody {
    fn resumed(&self, _: Offset) {}
    fn published(&self, _: Offset, _: &[Record]) {}
    fn passed(&self, _: &GtidPosition) {}
}

/// Whoever writes after that word expects to be heard; and a run that ends before begins at a later place.
#[tokio::test]
async fn a_new_topics_tailer_says_that_it_reads_when_the_place_where_it_begins_is_durable() {
    let gate = Arc::new(Gate { came: Semaphore::new(0), opened: Semaphore::new(0) });
    let (origin, observer, shutdown) = (OriginId::new("a"), Observer::default(), Shutdown::new());
    let tailer = Tailer {
        options: TailOptions::new(origin.clone(), TableFilter::everything()),
        source: Arc::new(MemorySource::new(MemoryBinlog::default())),
        writer: Box::new(MemoryTopics::new().writer(origin, gate.clone())),
        follower: Arc::new(Nobody),
        floor: Arc::<MemoryFloor>::default(),
        clock: Arc::new(SystemClock),
        observer: observer.clone(),
        snapshots: None,
        rereads: Arc::default(),
    };
    let running = tokio::spawn(tailer.run(shutdown.clone()));
    let _ = gate.came.acquire().await.unwrap();
    assert!(!observer.status().tailer.connected, "its first record is on its way");
    gate.opened.add_permits(1);
    let connected = async {
        while !observer.status().tailer.connected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), connected).await.expect("the tailer says that it reads");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(!observer.status().tailer.connected);
}
