//! How much room a node has left: time until its server may purge what nobody else has yet, and space on its disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::node::Database;
use super::topics::Topics;
use crate::change::OriginId;
use crate::observe::Observer;
use crate::runtime::Clock;
use crate::source::Source;
use crate::state::free_bytes;

/// Binlogs are kept for days and disks fill in hours.
const LOOK_EVERY: Duration = Duration::from_secs(30);

pub struct Room {
    pub database: Arc<Database>,
    pub topics: Topics,
    pub own: OriginId,
    /// Where this node keeps something.
    pub folders: Vec<PathBuf>,
    pub clock: Arc<dyn Clock>,
    pub observer: Observer,
}

impl Room {
    /// Looks now and then, and never ends. What cannot be asked keeps its last value: whoever needs it says why.
    pub async fn watch(&self) -> std::convert::Infallible {
        loop {
            let free = self.folders.iter().filter_map(|folder| free_bytes(folder).ok()).min();
            if let Some(bytes) = free {
                self.observer.disk_free(bytes);
            }
            if let Some((retention, waits)) = self.binlog().await {
                self.observer.binlog_kept(retention, waits);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// How long binlogs are kept, and for how long something has waited in them, at most: since the last commit that is published.
    async fn binlog(&self) -> Option<(Option<f64>, f64)> {
        let source = self.database.source().ok()?;
        let retention = source.retention().await.ok()?;
        // First the end, then what is published: a commit between the two is published, and not taken for one that waits.
        let end = source.position().await.ok()?;
        let last = self.topics.reader().extent(&self.own).await.ok()?.last;
        let waits = match last {
            Some(last) if !last.position.covers_all(&end) => self.clock.now_seconds().saturating_sub(last.commit_second) as f64,
            _ => 0.0,
        };
        Some((retention.map(|kept| kept.as_secs_f64()), waits))
    }
}
