//! Appliers between memory twins, for the tests of this room.

use std::sync::Arc;

use super::{Applier, ApplyError, ApplyOptions, LocalFeed, NoNotes, NoOverflow};
use crate::change::{Cluster, Offset, OriginId};
use crate::observe::Observer;
use crate::runtime::{Shutdown, SystemClock};
use crate::target::memory::MemoryTarget;
use crate::topic::memory::{FairWeather, MemoryTopics};

/// An applier between memory twins, which nothing is told but by its options.
pub fn applier(options: ApplyOptions, target: &MemoryTarget, topics: &MemoryTopics, local: Arc<LocalFeed>) -> Applier {
    Applier {
        options,
        target: Arc::new(target.clone()),
        reader: Arc::new(topics.reader(Arc::new(FairWeather))),
        local,
        overflow: Arc::new(|| Ok(Box::new(NoOverflow))),
        clock: Arc::new(SystemClock),
        observer: Observer::default(),
        notes: Arc::new(NoNotes),
        again: Arc::default(),
    }
}

/// Runs it until it has noted a checkpoint, or ends.
pub async fn apply_something(applier: Applier, target: &MemoryTarget) -> Result<(), ApplyError> {
    let shutdown = Shutdown::new();
    let running = tokio::spawn(applier.run(shutdown.clone()));
    while !running.is_finished() && target.marks().is_empty() {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    running.await.unwrap()
}

/// Applies for the first of the nodes, until the checkpoint of node b is there or the applier stops by itself.
pub async fn apply_until(target: &MemoryTarget, topics: MemoryTopics, nodes: &[&str], upto: u64) -> Result<(), ApplyError> {
    let cluster = Cluster::new(nodes.iter().map(|name| OriginId::new(name)), &OriginId::new(nodes[0])).unwrap();
    let local = Arc::new(LocalFeed::default());
    // Nobody else writes there, and no tailer is needed to know that.
    local.passed(&"0-1-18446744073709551615".parse().unwrap());
    let options = ApplyOptions { idle_checkpoint: 1, ..ApplyOptions::new(cluster) };
    let applier = applier(options, target, &topics, local);
    let shutdown = Shutdown::new();
    let running = tokio::spawn(applier.run(shutdown.clone()));
    let b = OriginId::new("b");
    while !running.is_finished() && target.marks().get(&b).is_none_or(|mark| mark.next < Offset(upto)) {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        // What is checked at the start may still be under way where nothing is to be applied.
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    running.await.unwrap()
}
