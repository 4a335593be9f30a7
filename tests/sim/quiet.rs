//! When a run is done, and whether it stays so.

use std::time::Duration;

use tandem::change::{Offset, OriginId, Record};
use tandem::tail::SnapshotOrder;
use tokio::time::sleep;

use crate::oracle::nobodys;
use crate::world::{Node, World};

impl World {
    /// What each node has still to publish, to apply, or to find.
    pub fn undone(&self) -> Vec<String> {
        let last_data = |origin: &OriginId| {
            let records = self.history(origin);
            let nobodys = nobodys(&records);
            let counts = |(at, record): &(usize, &Record)| record.change().is_some() && !nobodys.contains(at);
            records.iter().enumerate().rfind(counts).map(|(at, _)| Offset(at as u64))
        };
        let mut undone = self.waits_for_leaving();
        for (at, node) in self.nodes.iter().enumerate() {
            if self.is_leaving(at) {
                continue;
            }
            if node.database.kept_seeding().is_some_and(|seeding| seeding.is_open()) {
                undone.push(format!("{} is being seeded", node.origin));
            }
            let failed = node.database.kept_seeding().into_iter().flat_map(|seeding| seeding.failed);
            undone.extend(failed.map(|(table, why)| format!("{}: {table} was not seeded: {why}", node.origin)));
            let records = self.topics.records(&node.origin);
            let end = node.database.end();
            if !records.last().is_some_and(|last| last.position.covers_all(&end)) {
                let told = records.last().map(|last| last.position.to_string());
                undone.push(format!("{} published up to {told:?} of {end}", node.origin));
            }
            let marks = node.database.marks();
            for origin in self.cluster.iter().filter(|origin| **origin != node.origin) {
                let (wanted, has) = (last_data(origin), marks.get(origin).and_then(|mark| mark.data));
                if wanted > has {
                    undone.push(format!("{} applied {origin} up to {has:?} of {wanted:?}", node.origin));
                }
            }
            if node.desk.lock().unwrap().orders().iter().any(SnapshotOrder::is_open) {
                undone.push(format!("{} has a snapshot under way", node.origin));
            }
        }
        undone
    }

    /// When all is done nothing more is published but a heartbeat now and then: nobody answers an answer.
    pub async fn stays_quiet(&self) -> Result<(), String> {
        let count = |node: &Node| {
            let records = self.topics.records(&node.origin);
            (records.iter().filter(|record| record.change().is_some()).count(), records.len())
        };
        let before: Vec<_> = self.nodes.iter().map(count).collect();
        sleep(Duration::from_secs(100)).await;
        for (node, before) in self.nodes.iter().zip(before) {
            let after = count(node);
            if after.0 != before.0 {
                return Err(format!("{} published {} changes although nobody wrote", node.origin, after.0 - before.0));
            }
            if after.1 - before.1 > 15 {
                return Err(format!("{} published {} heartbeats in 100 idle seconds", node.origin, after.1 - before.1));
            }
        }
        Ok(())
    }
}
