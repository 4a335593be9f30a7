//! What the applier knows of the writes of all nodes, and how it comes to know its own node's.

use std::borrow::Cow;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::ddl::Holds;
use super::group::{Group, breaks_off};
use super::index::Index;
use super::local::{LocalFeed, LocalWrite, News, local_writes};
use super::seed::Seed;
use super::stability::Stability;
use super::step::{Step, canonical};
use super::ties::Ties;
use super::{ApplyError, ApplyOptions, OverflowError};
use crate::change::{Hlc, NodeRank, Offset, OriginId, Record, RowKey, Version};
use crate::observe::Observer;
use crate::runtime::{Backoff, Disposition, Fault};
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
    pub ties: &'a mut Ties,
    pub stability: &'a mut Stability,
    pub holds: &'a Holds,
    pub seed: Option<&'a Seed>,
    pub purged: &'a [Option<(Offset, Hlc)>],
    /// Told when the database is about to have work of its own for a while.
    pub busy: &'a Notify,
}

impl Engine<'_> {
    /// Brings the index up to what the local tailer has made durable.
    pub async fn absorb(&mut self) -> Result<(), ApplyError> {
        let news = self.local.take();
        let absorbed = self.absorb_all(&news).await;
        if absorbed.is_err() {
            // Some failures are tried again with the same index, which must not miss these writes then. To note one twice is
            // to note it once.
            self.local.put_back(news);
        }
        absorbed
    }

    async fn absorb_all(&mut self, news: &News) -> Result<(), ApplyError> {
        let own = self.options.cluster.own_rank();
        if let Some(missing) = &news.missing {
            self.note_range(own, missing.start.max(self.stability.taken(own)), missing.end, Tries::Once).await?;
        }
        for (table, columns) in &news.renamed {
            self.target.forget_columns(table, columns).await?;
        }
        if !news.writes.is_empty() {
            let rows = self.note_emptied(own, &news.writes);
            let keys: Vec<RowKey> = rows.iter().map(|write| write.key.clone()).collect();
            let canonical: Vec<CanonicalKey> = canonical(self.target, &keys).await?;
            for (write, key) in rows.iter().zip(&canonical) {
                self.note(key, Version { hlc: write.hlc, node: own }, write.offset, write.deleted)?;
            }
            self.note_ties(&rows, &canonical).await?;
        }
        self.stability.take(own, news.end);
        let stable = self.stability.stable(own);
        self.ties.forget(stable);
        Ok(self.index.forget(own, stable)?)
    }

    /// Notes the writes of an origin that its topic keeps between two offsets. A transaction that was cut off, because the topic or
    /// the history of its node ended there, is nobody's.
    pub async fn note_range(&mut self, node: NodeRank, from: Offset, to: Offset, tries: Tries) -> Result<(), ApplyError> {
        let origin = self.options.cluster.name(node).clone();
        let mut next = from;
        // Of the transaction whose end was not read yet; what there is of it may be known to count, or not to.
        let (mut open, mut bytes, mut counts) = (Vec::new(), 0, None);
        while next < to {
            let batch = read_kept(self.reader, &origin, next, READ_BYTES, tries).await?;
            let Some((last, _)) = batch.last() else {
                return Err(TopicError::PastEnd { origin, wanted: to, end: next }.into());
            };
            next = last.next();
            let mut whole = Vec::new();
            for (offset, record) in batch.into_iter().filter(|(offset, _)| *offset < to) {
                if breaks_off(&record) || counts == Some(false) && record.last {
                    open.clear();
                    counts = None;
                }
                let ends = record.last;
                bytes += record.weight();
                open.push((offset, record));
                if ends {
                    whole.append(&mut open);
                    (bytes, counts) = (0, None);
                }
            }
            if bytes > READ_BYTES {
                if counts.is_none() {
                    counts = Some(goes_on(self.reader, &origin, next, to, tries).await?);
                }
                match counts {
                    Some(true) => whole.append(&mut open),
                    _ => open.clear(),
                }
                bytes = 0;
            }
            self.note_records(node, from, &whole).await?;
        }
        self.note_records(node, from, &open).await
    }

    async fn note_records(&mut self, node: NodeRank, from: Offset, records: &[(Offset, Record)]) -> Result<(), ApplyError> {
        if node == self.options.cluster.own_rank() {
            for (table, columns) in records.iter().filter_map(|(_, record)| record.schema()?.renamed_columns()) {
                self.target.forget_columns(&table, &columns).await?;
            }
        }
        let changes: Vec<_> = records.iter().filter(|(_, record)| record.change().is_some()).collect();
        let written = changes.iter().filter_map(|(offset, record)| Some((*offset, record.hlc, record.written()?)));
        let writes: Vec<LocalWrite> = written.flat_map(|(offset, hlc, change)| local_writes(change, hlc, offset)).collect();
        let writes = self.note_emptied(node, &writes);
        let keys: Vec<RowKey> = writes.iter().map(|write| write.key.clone()).collect();
        let canonical: Vec<CanonicalKey> = canonical(self.target, &keys).await?;
        if node == self.options.cluster.own_rank() {
            self.observer.own_topic_read(from, changes.iter().map(|(offset, _)| *offset));
            self.note_ties(&writes, &canonical).await?;
        }
        for (key, write) in canonical.iter().zip(&*writes) {
            self.note(key, Version { hlc: write.hlc, node }, write.offset, write.deleted)?;
        }
        Ok(())
    }

    /// Notes the tables that were emptied, and gives back the writes of single rows.
    fn note_emptied<'w>(&mut self, node: NodeRank, writes: &'w [LocalWrite]) -> Cow<'w, [LocalWrite]> {
        if !writes.iter().any(|write| write.empties) {
            return Cow::Borrowed(writes);
        }
        let (tables, rows): (Vec<_>, Vec<_>) = writes.iter().cloned().partition(|write| write.empties);
        for write in tables.into_iter().filter(|_| !self.options.ablation.no_emptied) {
            self.index.note_emptied(write.key.table(), Version { hlc: write.hlc, node }, write.offset);
        }
        Cow::Owned(rows)
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
        for step in steps.iter().filter(|step| !step.is_keyless() && !step.is_existing_row()) {
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

/// Whether the transaction that is under way there has its end, as far as one reads.
async fn goes_on(
    reader: &dyn TopicReader,
    origin: &OriginId,
    mut next: Offset,
    to: Offset,
    tries: Tries,
) -> Result<bool, ApplyError> {
    while next < to {
        let batch = read_kept(reader, origin, next, READ_BYTES, tries).await?;
        if let Some((_, end)) = batch.iter().find(|(_, record)| record.last) {
            return Ok(!breaks_off(end));
        }
        let Some((last, _)) = batch.last() else { break };
        next = last.next();
    }
    Ok(true)
}

/// How often one read of the past is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Rows are locked meanwhile, and who waits for them must not wait for a bad connection.
    Once,
    Many,
}

/// Times that one read of the past is tried, where nobody waits. All that is known is built from many of them, and would be begun anew for each answer
/// that is lost.
const READ_TRIES: u32 = 5;

/// Reads what its node has told before. Where retention takes it at that moment, all is read anew.
pub async fn read_kept(
    reader: &dyn TopicReader,
    origin: &OriginId,
    from: Offset,
    bytes: usize,
    tries: Tries,
) -> Result<Vec<(Offset, Record)>, ApplyError> {
    let mut backoff = Backoff::seeded(Duration::from_millis(50), Duration::from_secs(1), from.0);
    let more = if tries == Tries::Many { READ_TRIES } else { 1 };
    for _ in 1..more {
        match reader.read(origin, from, bytes, Duration::ZERO).await {
            Err(error) if error.disposition() == Disposition::Retry => sleep(backoff.next_wait()).await,
            other => return other.map_err(ApplyError::of_the_past),
        }
    }
    reader.read(origin, from, bytes, Duration::ZERO).await.map_err(ApplyError::of_the_past)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::apply::NoOverflow;
    use crate::change::{
        Body, Change, Checks, Cluster, Column, ColumnKind, Gtid, Hlc, Image, Op, OriginId, Record, Shape, TableName, Value,
    };
    use crate::target::TargetError;
    use crate::target::memory::{Faults, MemoryOptions, MemoryTable, MemoryTarget, Step as DatabaseStep, Verdict};
    use crate::topic::memory::{FairWeather, MemoryTopics};

    /// The first question about keys is lost to somebody else's lock.
    #[derive(Default)]
    struct OnceInTheWay(AtomicBool);

    #[async_trait]
    impl Faults for OnceInTheWay {
        async fn before(&self, step: DatabaseStep<'_>) -> Verdict {
            let first = matches!(step, DatabaseStep::Canonical) && !self.0.swap(true, Ordering::Relaxed);
            if first { Verdict::Refuse(TargetError::Contended { reason: "deadlock".into() }) } else { Verdict::Go }
        }
    }

    #[tokio::test]
    async fn own_writes_that_could_not_be_noted_are_noted_by_the_next_attempt() {
        let name: Vec<_> = vec![Column { name: "name".into(), kind: ColumnKind::Text, generated: false }];
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns: name, key: vec![0] });
        let change = Change {
            shape: shape.clone(),
            op: Op::Insert,
            before: None,
            after: Some(Image::of([Some(Value::text("ann"))])),
            checks: Checks::default(),
        };
        let key = RowKey { shape: shape.clone(), values: Box::new([Value::text("ann")]) };
        let names = ["a", "b"].map(OriginId::new);
        let record = Record {
            origin: names[0].clone(),
            gtid: Gtid { domain: 0, server: 1, sequence: 1 },
            row: 0,
            table_row: 0,
            hlc: Hlc(7),
            seen: Arc::default(),
            last: true,
            position: Arc::default(),
            read_from: None,
            commit_second: 0,
            server_id: 1,
            coordinates: Default::default(),
            trace: None,
            body: Body::Change(change),
        };
        let faults = Arc::new(OnceInTheWay::default());
        let target = MemoryTarget::new(
            [MemoryTable { shape, unique: None, refers: None }],
            MemoryOptions { faults, ..MemoryOptions::default() },
        );
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let options = ApplyOptions::new(cluster.clone());
        let (local, topic) = (Arc::new(LocalFeed::default()), MemoryTopics::new());
        let _attached = local.attach();
        local.published(Offset(0), &[record]);
        let mut engine = Engine {
            options: &options,
            target: &target,
            reader: &topic.reader(Arc::new(FairWeather)),
            local: &local,
            observer: &Observer::default(),
            index: &mut Index::new(10, Box::new(NoOverflow)),
            ties: &mut Ties::default(),
            stability: &mut Stability::new(cluster),
            holds: &Holds::default(),
            seed: None,
            purged: &[],
            busy: &Notify::new(),
        };
        engine.absorb().await.expect_err("the database refused");
        engine.absorb().await.unwrap();
        let canonical = target.canonical(&[key]).await.unwrap();
        let entry = engine.index.get(&canonical[0]).unwrap().expect("the write is known");
        assert_eq!(entry.version, Version { hlc: Hlc(7), node: NodeRank(0) });
    }
}
