//! What the applier knows of the writes of all nodes, and how it comes to know its own node's.

use std::time::Duration;

use super::group::Group;
use super::index::Index;
use super::local::{LocalFeed, News, local_writes};
use super::stability::Stability;
use super::step::{Step, canonical};
use super::{ApplyError, ApplyOptions, OverflowError};
use crate::change::{NodeRank, Offset, RowKey, Version};
use crate::observe::Observer;
use crate::target::{ApplyTransaction, CanonicalKey, Target};
use crate::topic::{TopicError, TopicReader};

/// Bytes of records in one read of what happened before.
const READ_BYTES: usize = 4 << 20;

/// What the applier knows, and what it writes to.
pub struct Engine<'a> {
    pub options: &'a ApplyOptions,
    pub target: &'a dyn Target,
    pub reader: &'a dyn TopicReader,
    pub local: &'a LocalFeed,
    pub observer: &'a Observer,
    pub index: &'a mut Index,
    pub stability: &'a mut Stability,
}

impl Engine<'_> {
    /// Brings the index up to what the local tailer has made durable.
    pub async fn absorb(&mut self) -> Result<(), ApplyError> {
        let News { missing, writes, end } = self.local.take();
        let own = self.options.cluster.own_rank();
        if let Some(missing) = missing {
            self.note_range(own, missing.start.max(self.stability.taken(own)), missing.end).await?;
            self.stability.take(own, missing.end);
        }
        if !writes.is_empty() {
            let keys: Vec<RowKey> = writes.iter().map(|write| write.key.clone()).collect();
            for (write, key) in writes.iter().zip(canonical(self.target, &keys).await?) {
                self.note(&key, Version { hlc: write.hlc, node: own }, write.offset, write.deleted)?;
            }
        }
        self.stability.take(own, end);
        Ok(self.index.forget(own, self.stability.stable(own))?)
    }

    /// Notes the writes of an origin that its topic keeps between two offsets.
    pub async fn note_range(&mut self, node: NodeRank, from: Offset, to: Offset) -> Result<(), ApplyError> {
        let origin = self.options.cluster.name(node).clone();
        let mut next = from;
        while next < to {
            let batch = self.reader.read(&origin, next, READ_BYTES, Duration::ZERO).await?;
            let Some((last, _)) = batch.last() else {
                return Err(TopicError::PastEnd { origin, wanted: to, end: next }.into());
            };
            next = last.next();
            let mut keys: Vec<RowKey> = Vec::new();
            let mut notes = Vec::new();
            for (offset, record) in batch.iter().take_while(|(offset, _)| *offset < to) {
                let Some(change) = record.change() else { continue };
                for write in local_writes(change, record.hlc, *offset) {
                    notes.push((Version { hlc: write.hlc, node }, *offset, write.deleted));
                    keys.push(write.key);
                }
            }
            if node == self.options.cluster.own_rank() {
                self.observer.own_topic_read(from, notes.iter().map(|(_, offset, _)| *offset));
            }
            let canonical: Vec<CanonicalKey> = canonical(self.target, &keys).await?;
            for (key, (version, offset, deleted)) in canonical.iter().zip(notes) {
                self.note(key, version, offset, deleted)?;
            }
        }
        Ok(())
    }

    pub fn note(&mut self, key: &CanonicalKey, version: Version, offset: Offset, deleted: bool) -> Result<(), OverflowError> {
        if deleted && self.options.ablation.no_tombstones {
            self.index.remove(key)
        } else {
            self.index.note(key, version, offset)
        }
    }

    /// Notes what a group wrote. Even a change that was set aside is the newest write that the topics know.
    pub fn remember(&mut self, group: &Group, steps: &[Step]) -> Result<(), OverflowError> {
        for step in steps {
            self.note(&step.canonical, group.version(step.at), group.offset(step.at), step.deletes())?;
        }
        Ok(())
    }

    /// Waits until the local tailer has passed everything committed before our locks, and knows it. `None` where it
    /// did not within the limit.
    pub async fn know_all(&mut self, transaction: &mut dyn ApplyTransaction) -> Result<Option<Duration>, ApplyError> {
        let position = transaction.position().await?;
        let since = tokio::time::Instant::now();
        if !self.options.ablation.no_wait && !self.local.wait(&position, self.options.tailer_wait).await {
            return Ok(None);
        }
        self.absorb().await?;
        Ok(Some(since.elapsed()))
    }
}
