//! What the applier knows of its own node's writes, as the tailer makes them durable.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::change::{Change, GtidPosition, Hlc, Offset, Op, Record, RowKey, SchemaChange, TableName};

/// One row that this node wrote and published.
#[derive(Clone, Debug)]
pub struct LocalWrite {
    pub key: RowKey,
    pub deleted: bool,
    pub hlc: Hlc,
    pub offset: Offset,
    /// The whole change, where it wrote the row.
    pub put: Option<Change>,
    /// Not one row: all of its table went.
    pub empties: bool,
}

/// From the tailer to the applier of one node: the rows it published and how far it is. Keeps rows only while an
/// applier is attached; one that starts reads the earlier ones from the topic.
#[derive(Default)]
pub struct LocalFeed {
    inner: Mutex<Inner>,
    moved: Notify,
    crowded: Notify,
}

#[derive(Default)]
struct Inner {
    appliers: usize,
    writes: VecDeque<LocalWrite>,
    /// Columns that statements gave other names.
    renamed: Vec<(TableName, Vec<String>)>,
    /// What these hold, near enough.
    bytes: usize,
    /// What the topic keeps, and is not among the writes.
    missing: Option<Range<Offset>>,
    /// Where the own topic ended when the tailer last told.
    end: Offset,
    /// `None` until the tailer has told. Where nothing is in the binlog yet it must have, too: a tailer that runs for the first time begins
    /// where the binlog ends, and would not see what was applied before.
    position: Option<GtidPosition>,
}

impl Inner {
    /// The topic keeps what waits.
    fn let_go(&mut self) {
        let Some(first) = self.writes.front().map(|write| write.offset) else { return };
        let from = self.missing.as_ref().map_or(first, |earlier| earlier.start.min(first));
        self.missing = Some(from..self.end);
        self.writes.clear();
        self.bytes = 0;
    }

    fn clear(&mut self) {
        self.writes.clear();
        self.renamed.clear();
        self.bytes = 0;
    }

    fn is_too_much(&self) -> bool {
        self.writes.len() > MOST || self.bytes > MOST_BYTES
    }
}

/// What the tailer has told since it was last asked.
#[derive(Default, Debug)]
pub struct News {
    /// Records to be read from the own topic.
    pub missing: Option<Range<Offset>>,
    /// Oldest first.
    pub writes: Vec<LocalWrite>,
    /// Columns that statements of this node gave other names, by the old ones.
    pub renamed: Vec<(TableName, Vec<String>)>,
    /// Where the own topic ended by then.
    pub end: Offset,
}

/// Writes that may wait before an idle applier is woken to take them.
const CROWD: usize = 4096;
/// Writes that may wait at all, and the bytes of their rows: more are read from the topic again.
const MOST: usize = 4 * CROWD;
const MOST_BYTES: usize = 8 << 20;

impl LocalFeed {
    /// A tailer took the topic over, and it ends here. What was not told before is kept all the same: an append whose
    /// answer was lost, by this process or one that died.
    pub fn resumed(&self, end: Offset) {
        let mut inner = self.inner();
        let from = std::mem::replace(&mut inner.end, end);
        if inner.appliers > 0 && from < end {
            let from = inner.missing.as_ref().map_or(from, |earlier| earlier.start);
            inner.missing = Some(from..end);
        }
    }

    /// The tailer made these records durable at `first` and after.
    pub fn published(&self, first: Offset, records: &[Record]) {
        let mut inner = self.inner();
        inner.end = Offset(first.0 + records.len() as u64);
        if inner.appliers == 0 {
            return;
        }
        for (number, record) in records.iter().enumerate() {
            inner.renamed.extend(record.schema().and_then(SchemaChange::renamed_columns));
            if let Some(change) = record.written() {
                inner.bytes += change.weight();
                inner.writes.extend(local_writes(change, record.hlc, Offset(first.0 + number as u64)));
            }
        }
        if inner.writes.len() >= CROWD || inner.bytes >= MOST_BYTES / 4 {
            self.crowded.notify_one();
        }
        if inner.is_too_much() {
            inner.let_go();
        }
    }

    /// The tailer has published or filtered everything up to here.
    pub fn passed(&self, position: &GtidPosition) {
        let mut inner = self.inner();
        let passed = inner.position.get_or_insert_default();
        position.iter().for_each(|gtid| passed.advance(gtid));
        drop(inner);
        self.moved.notify_waiters();
    }

    /// From now on rows are kept, until the guard is dropped.
    pub fn attach(self: &Arc<Self>) -> Attached {
        self.inner().appliers += 1;
        Attached(self.clone())
    }

    /// Takes what was told since the last call.
    pub fn take(&self) -> News {
        let mut inner = self.inner();
        let writes = inner.writes.drain(..).collect();
        let renamed = std::mem::take(&mut inner.renamed);
        inner.clear();
        News { missing: inner.missing.take(), writes, renamed, end: inner.end }
    }

    /// Gives back what was taken and could not be used: it comes again with the next.
    pub fn put_back(&self, news: News) {
        let mut inner = self.inner();
        if inner.appliers == 0 {
            return;
        }
        let later = inner.missing.take();
        inner.missing = match (news.missing, later) {
            (Some(earlier), Some(later)) => Some(earlier.start..later.end),
            (earlier, later) => earlier.or(later),
        };
        inner.renamed.extend(news.renamed);
        inner.bytes += news.writes.iter().filter_map(|write| write.put.as_ref()).map(Change::weight).sum::<usize>();
        news.writes.into_iter().rev().for_each(|write| inner.writes.push_front(write));
        if inner.is_too_much() {
            inner.let_go();
        }
    }

    /// Waits until the tailer has passed the position; false where it did not within the time.
    pub async fn wait(&self, position: &GtidPosition, most: Duration) -> bool {
        let passed = async {
            loop {
                let moved = self.moved.notified();
                if self.inner().position.as_ref().is_some_and(|passed| passed.covers_all(position)) {
                    return;
                }
                moved.await;
            }
        };
        timeout(most, passed).await.is_ok()
    }

    /// Waits until so many rows are kept that they should be taken.
    pub async fn crowded(&self) {
        self.crowded.notified().await;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }
}

/// The rows a change wrote: two where it moved a row to another key.
pub fn local_writes(change: &Change, hlc: Hlc, offset: Offset) -> impl Iterator<Item = LocalWrite> {
    let write = move |key, put: Option<Change>| LocalWrite { key, deleted: put.is_none(), hlc, offset, put, empties: false };
    let empties = (change.op == Op::Truncate).then(|| {
        let key = RowKey { shape: change.shape.clone(), values: Box::default() };
        LocalWrite { empties: true, ..write(key, None) }
    });
    let left = change.moved_from().map(|key| write(key, None));
    let put = (change.op != Op::Delete).then(|| change.clone());
    left.into_iter().chain(change.key().map(|key| write(key, put))).chain(empties)
}

pub struct Attached(Arc<LocalFeed>);

impl Drop for Attached {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.appliers -= 1;
        if inner.appliers == 0 {
            inner.clear();
            inner.missing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::record;
    use super::*;
    use crate::change::{Body, Checks, Column, ColumnKind, Image, Shape, TableName, Value};

    #[test]
    fn what_the_topic_kept_without_an_answer_is_asked_for_once() {
        let feed = Arc::new(LocalFeed::default());
        feed.resumed(Offset(3));
        let attached = feed.attach();
        assert_eq!((feed.take().missing, feed.take().end), (None, Offset(3)), "who attaches reads that by itself");
        feed.published(Offset(3), &[]);
        feed.resumed(Offset(3));
        assert_eq!(feed.take().missing, None, "nothing was kept meanwhile");
        feed.resumed(Offset(5));
        feed.resumed(Offset(8));
        let news = feed.take();
        assert_eq!((news.missing, news.end), (Some(Offset(3)..Offset(8)), Offset(8)));
        assert_eq!(feed.take().missing, None);
        feed.resumed(Offset(9));
        let news = feed.take();
        feed.resumed(Offset(11));
        feed.put_back(news);
        assert_eq!(feed.take().missing, Some(Offset(8)..Offset(11)), "what could not be used comes again");
        feed.resumed(Offset(12));
        drop(attached);
        let _attached = feed.attach();
        assert_eq!(feed.take().missing, None, "it was for the applier that has gone");
    }

    fn inserted(number: u64, value: Value) -> Record {
        let column = Column { name: "id".into(), kind: ColumnKind::Unknown, generated: false };
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns: vec![column], key: vec![0] });
        let after = Some(Image::of([Some(value)]));
        let change = Change { shape, op: Op::Insert, before: None, after, checks: Checks::default() };
        Record { body: Body::Change(change), ..record(number + 1, 0, true).1 }
    }

    #[test]
    fn few_rows_that_are_large_are_let_go_as_many_small_ones_are() {
        let feed = Arc::new(LocalFeed::default());
        let _attached = feed.attach();
        let large = |number| inserted(number, Value::text("x".repeat(MOST_BYTES / 4)));
        let rows: Vec<Record> = (0..4).map(large).collect();
        feed.published(Offset(0), &rows[..3]);
        assert_eq!(feed.take().writes.len(), 3);
        feed.published(Offset(3), &rows[..3]);
        let news = feed.take();
        assert_eq!((news.missing.clone(), news.writes.len()), (None, 3), "what was taken counts no more");
        feed.published(Offset(6), &rows[..2]);
        feed.put_back(news);
        let news = feed.take();
        assert_eq!((news.missing, news.writes.len()), (Some(Offset(3)..Offset(8)), 0));
    }

    #[test]
    fn what_nobody_takes_is_let_go_and_read_from_the_topic_again() {
        let feed = Arc::new(LocalFeed::default());
        feed.resumed(Offset(7));
        let _attached = feed.attach();
        let record = |number| inserted(number, Value::unsigned(number));
        let half: Vec<Record> = (0..MOST as u64 / 2).map(record).collect();
        feed.published(Offset(7), &half);
        feed.published(Offset(7 + half.len() as u64), &half);
        let news = feed.take();
        assert_eq!((news.missing, news.writes.len()), (None, MOST), "as many as may wait");
        let (first, end) = (Offset(7 + MOST as u64), Offset(8 + 2 * MOST as u64));
        feed.published(first, &half);
        feed.published(Offset(first.0 + half.len() as u64), &half);
        feed.published(Offset(end.0 - 1), &half[..1]);
        let news = feed.take();
        assert_eq!((news.missing, news.writes.len(), news.end), (Some(first..end), 0, end));
        feed.published(end, &half[..1]);
        assert_eq!(feed.take().writes.len(), 1, "and it goes on");
    }
}
