//! The contract of the room as one suite, run over every implementation: [`hold`] fails by panicking.
//!
//! A new implementation gives a [`Subject`] and passes all of it. What only some can do (forget, reopen) the subject
//! says itself, so that nothing is skipped by accident.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Extent, TopicError, TopicReader, TopicWriter};
use crate::change::{
    BinlogCoordinates, Body, Change, Checks, Column, ColumnKind, Gtid, GtidPosition, Hlc, Image, Offset, Op, OriginId, Record,
    Seen, Shape, TableName, Value,
};

/// An implementation under test: topics that are empty at first, and stay while the subject lives.
#[async_trait]
pub trait Subject: Send {
    fn writer(&self, origin: &OriginId) -> Box<dyn TopicWriter>;

    fn reader(&self) -> Arc<dyn TopicReader>;

    /// Ends what keeps the topics and starts it again on the same data; false where that would lose them by design.
    async fn reopen(&mut self) -> bool;

    /// Makes retention forget at least the first record, and at most what is before `end`; false where it cannot.
    async fn forget(&mut self, origin: &OriginId, end: Offset) -> bool;

    /// The most bytes one record may have here; `None` where only memory limits it.
    fn record_bytes_max(&self) -> Option<usize>;
}

/// Long enough for any implementation to notice an append; tests that pass never wait for it.
const LONG: Duration = Duration::from_secs(20);
const BYTES: usize = 1 << 20;

/// Runs the whole suite.
pub async fn hold(subject: &mut dyn Subject) {
    an_origin_that_never_published_is_empty(subject).await;
    records_come_back_as_they_were_in_order(subject).await;
    an_append_of_nothing_changes_nothing(subject).await;
    reading_stops_near_the_byte_limit_but_gives_at_least_one(subject).await;
    reading_from_any_offset_begins_there(subject).await;
    a_waiting_reader_is_woken(subject).await;
    a_wait_ends_with_nothing(subject).await;
    many_readers_and_origins_do_not_mix(subject).await;
    a_second_writer_is_fenced(subject).await;
    a_writer_that_took_over_fences_the_other(subject).await;
    an_append_past_the_end_tells_of_lost_history(subject).await;
    reading_past_the_end_is_an_error(subject).await;
    large_records_pass(subject).await;
    a_record_over_the_limit_is_refused_whole(subject).await;
    what_was_answered_survives_a_restart(subject).await;
    what_retention_forgot_is_gone_by_name(subject).await;
}

async fn an_origin_that_never_published_is_empty(subject: &mut dyn Subject) {
    let (origin, reader) = (OriginId::new("never"), subject.reader());
    assert_eq!(reader.extent(&origin).await.expect("an extent"), Extent::default());
    assert_eq!(read(&*reader, &origin, 0, BYTES).await, []);
}

async fn records_come_back_as_they_were_in_order(subject: &mut dyn Subject) {
    let (origin, reader) = (OriginId::new("order"), subject.reader());
    let mut writer = subject.writer(&origin);
    assert_eq!(writer.resume().await.expect("a first resume"), Extent::default());
    let records = records(&origin, 0..250);
    let mut end = Offset(0);
    for part in [&records[..1], &records[1..3], &records[3..250]] {
        let expected = Offset(end.0 + part.len() as u64);
        end = writer.append(end, part).await.expect("an append");
        assert_eq!(end, expected);
    }
    assert_eq!(read_all(&*reader, &origin, 0).await, records);
    assert_eq!(read_all(&*reader, &origin, 0).await, records, "reading changes nothing");
    let extent = Extent { first: Offset(0), end: Offset(250), last: records.last().cloned() };
    assert_eq!(reader.extent(&origin).await.expect("an extent"), extent);
    assert_eq!(writer.resume().await.expect("a second resume"), extent);
}

async fn an_append_of_nothing_changes_nothing(subject: &mut dyn Subject) {
    let origin = OriginId::new("order");
    let before = subject.reader().extent(&origin).await.expect("an extent");
    let mut writer = subject.writer(&origin);
    writer.resume().await.expect("a resume");
    assert_eq!(writer.append(before.end, &[]).await.expect("an append of nothing"), before.end);
    assert_eq!(subject.reader().extent(&origin).await.expect("an extent"), before);
}

async fn reading_stops_near_the_byte_limit_but_gives_at_least_one(subject: &mut dyn Subject) {
    let (origin, reader) = (OriginId::new("order"), subject.reader());
    assert_eq!(read(&*reader, &origin, 0, 0).await.len(), 1);
    let some = read(&*reader, &origin, 0, 10_000).await.len();
    // How many of them are at hand at once is the implementation's affair.
    assert!((1..100).contains(&some), "{some} records of some hundred bytes each in 10,000 bytes");
}

async fn reading_from_any_offset_begins_there(subject: &mut dyn Subject) {
    let (origin, reader) = (OriginId::new("order"), subject.reader());
    for from in [0, 1, 2, 3, 100, 249, 250] {
        let numbers: Vec<u64> = read_all(&*reader, &origin, from).await.iter().map(|record| record.row).collect();
        assert_eq!(numbers, (from..250).collect::<Vec<_>>(), "from {from}");
    }
}

async fn a_waiting_reader_is_woken(subject: &mut dyn Subject) {
    let (origin, reader) = (OriginId::new("waited-for"), subject.reader());
    let mut writer = subject.writer(&origin);
    writer.resume().await.expect("a resume");
    let records = records(&origin, 0..3);
    for (at, record) in records.iter().enumerate() {
        let at = Offset(at as u64);
        let waiting = reader.read(&origin, at, BYTES, LONG);
        let appending = async {
            // Lets the reader ask first; the outcome must be the same where it did not.
            tokio::task::yield_now().await;
            writer.append(at, std::slice::from_ref(record)).await
        };
        let (found, appended) = tokio::join!(waiting, appending);
        appended.expect("an append");
        assert_eq!(found.expect("a read"), [(at, record.clone())]);
    }
}

async fn a_wait_ends_with_nothing(subject: &mut dyn Subject) {
    let (origin, reader) = (OriginId::new("waited-for"), subject.reader());
    let found = reader.read(&origin, Offset(3), BYTES, Duration::from_millis(30)).await.expect("a read");
    assert_eq!(found, []);
}

async fn many_readers_and_origins_do_not_mix(subject: &mut dyn Subject) {
    let origins: Vec<OriginId> = ["mix-a", "mix-b", "mix c/d?e%f", "mix-ü"].iter().map(|name| OriginId::new(name)).collect();
    let reader = subject.reader();
    let writing = origins.iter().map(|origin| {
        let mut writer = subject.writer(origin);
        async move {
            let mut end = writer.resume().await.expect("a resume").end;
            for record in records(origin, 0..20) {
                end = writer.append(end, &[record]).await.expect("an append");
            }
        }
    });
    let reading = origins.iter().map(|origin| {
        let reader = reader.clone();
        async move {
            let mut found = Vec::new();
            while found.len() < 20 {
                let from = Offset(found.len() as u64);
                found.extend(reader.read(origin, from, 1_000, LONG).await.expect("a read"));
            }
            assert!(found.iter().enumerate().all(|(at, (offset, record))| offset.0 == at as u64 && record.origin == *origin));
        }
    });
    tokio::join!(futures_util::future::join_all(writing), futures_util::future::join_all(reading));
}

async fn a_second_writer_is_fenced(subject: &mut dyn Subject) {
    let origin = OriginId::new("fenced");
    let (mut one, mut two) = (subject.writer(&origin), subject.writer(&origin));
    let records = records(&origin, 0..3);
    one.resume().await.expect("a resume");
    one.append(Offset(0), &records[..2]).await.expect("an append");
    match two.append(Offset(0), &records[..1]).await {
        Err(TopicError::Fenced { expected, actual, .. }) => assert_eq!((expected, actual), (Offset(0), Offset(2))),
        other => panic!("a second writer was not fenced: {other:?}"),
    }
    assert_eq!(read_all(&*subject.reader(), &origin, 0).await, records[..2], "nothing was kept of the fenced append");
    one.append(Offset(2), &records[2..]).await.expect("the first writer goes on");
}

async fn a_writer_that_took_over_fences_the_other(subject: &mut dyn Subject) {
    let origin = OriginId::new("taken-over");
    let (mut one, mut two) = (subject.writer(&origin), subject.writer(&origin));
    let records = records(&origin, 0..2);
    one.resume().await.expect("a resume");
    one.append(Offset(0), &records[..1]).await.expect("an append");
    assert_eq!(two.resume().await.expect("a resume").end, Offset(1));
    // At the right offset, but what the earlier writer sends can no longer be kept.
    assert!(matches!(one.append(Offset(1), &records[1..]).await, Err(TopicError::Fenced { .. })));
    two.append(Offset(1), &records[1..]).await.expect("the second writer goes on");
    assert_eq!(read_all(&*subject.reader(), &origin, 0).await, records);
}

async fn an_append_past_the_end_tells_of_lost_history(subject: &mut dyn Subject) {
    let origin = OriginId::new("taken-over");
    let mut writer = subject.writer(&origin);
    writer.resume().await.expect("a resume");
    match writer.append(Offset(9), &records(&origin, 9..10)).await {
        Err(TopicError::PastEnd { wanted, end, .. }) => assert_eq!((wanted, end), (Offset(9), Offset(2))),
        other => panic!("an append past the end was answered with {other:?}"),
    }
}

async fn reading_past_the_end_is_an_error(subject: &mut dyn Subject) {
    for (origin, wanted, expected) in [("never", 1, 0), ("order", 251, 250), ("order", u64::MAX, 250)] {
        let origin = OriginId::new(origin);
        match subject.reader().read(&origin, Offset(wanted), BYTES, LONG).await {
            Err(TopicError::PastEnd { wanted: told, end, .. }) => assert_eq!((told, end), (Offset(wanted), Offset(expected))),
            other => panic!("reading past the end was answered with {other:?}"),
        }
    }
}

async fn large_records_pass(subject: &mut dyn Subject) {
    let (origin, reader) = (OriginId::new("large"), subject.reader());
    let mut writer = subject.writer(&origin);
    writer.resume().await.expect("a resume");
    // Random, so that compression cannot make it small.
    let mut random = fastrand::Rng::with_seed(1);
    let size = subject.record_bytes_max().unwrap_or(8 << 20) / 2;
    let bytes: Box<[u8]> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
    let large = [record_with(&origin, 0, Value::Bytes(bytes)), record(&origin, 1)];
    writer.append(Offset(0), &large).await.expect("an append of a large record");
    assert_eq!(read_all(&*reader, &origin, 0).await, large);
    assert_eq!(read(&*reader, &origin, 0, 10).await.len(), 1);
}

async fn a_record_over_the_limit_is_refused_whole(subject: &mut dyn Subject) {
    let Some(limit) = subject.record_bytes_max() else { return };
    let origin = OriginId::new("large");
    let mut writer = subject.writer(&origin);
    let before = writer.resume().await.expect("a resume");
    let text = Value::text("x".repeat(limit + 1));
    match writer.append(before.end, &[record(&origin, 2), record_with(&origin, 3, text)]).await {
        Err(TopicError::TooLarge { size, limit: told, .. }) => assert!(size > told, "{size} is not over {told}"),
        other => panic!("a record over the limit was answered with {other:?}"),
    }
    assert_eq!(writer.resume().await.expect("a resume"), before);
    writer.append(before.end, &[record(&origin, 2)]).await.expect("the writer goes on");
}

async fn what_was_answered_survives_a_restart(subject: &mut dyn Subject) {
    let names = ["order", "fenced", "large", "mix-a"];
    let mut kept = Vec::new();
    for name in names {
        kept.push(read_all(&*subject.reader(), &OriginId::new(name), 0).await);
    }
    if !subject.reopen().await {
        return;
    }
    for (name, kept) in names.into_iter().zip(kept) {
        let origin = OriginId::new(name);
        assert_eq!(read_all(&*subject.reader(), &origin, 0).await, kept, "{name} after a restart");
        let mut writer = subject.writer(&origin);
        let extent = writer.resume().await.expect("a resume after a restart");
        assert_eq!((extent.end.0, &extent.last), (kept.len() as u64, &kept.last().cloned()));
        writer.append(extent.end, &[record(&origin, extent.end.0)]).await.expect("an append after a restart");
    }
}

async fn what_retention_forgot_is_gone_by_name(subject: &mut dyn Subject) {
    let origin = OriginId::new("order");
    let before = subject.reader().extent(&origin).await.expect("an extent");
    if !subject.forget(&origin, Offset(200)).await {
        return;
    }
    let reader = subject.reader();
    let after = reader.extent(&origin).await.expect("an extent");
    assert!(after.first > Offset(0) && after.first <= Offset(200), "{} was to be forgotten", after.first);
    assert_eq!((after.end, &after.last), (before.end, &before.last), "forgetting touches the oldest only");
    match reader.read(&origin, Offset(0), BYTES, LONG).await {
        Err(TopicError::Gone { wanted, first, .. }) => assert_eq!((wanted, first), (Offset(0), after.first)),
        other => panic!("reading what is gone was answered with {other:?}"),
    }
    let rest = read_all(&*reader, &origin, after.first.0).await;
    assert_eq!(rest.len() as u64, after.end.0 - after.first.0);
    let mut writer = subject.writer(&origin);
    let end = writer.resume().await.expect("a resume").end;
    writer.append(end, &[record(&origin, end.0)]).await.expect("an append after forgetting");
}

async fn read(reader: &dyn TopicReader, origin: &OriginId, from: u64, bytes_max: usize) -> Vec<(Offset, Record)> {
    reader.read(origin, Offset(from), bytes_max, Duration::ZERO).await.expect("a read")
}

/// All records from the offset on, in as many reads as it takes.
async fn read_all(reader: &dyn TopicReader, origin: &OriginId, from: u64) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let found = read(reader, origin, from + records.len() as u64, 20_000).await;
        if found.is_empty() {
            return records;
        }
        for (offset, record) in found {
            assert_eq!(offset.0, from + records.len() as u64, "offsets grow by one");
            records.push(record);
        }
    }
}

fn records(origin: &OriginId, numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers.map(|number| record(origin, number)).collect()
}

/// A record like those of a small table, whose `row` is the number.
pub fn record(origin: &OriginId, number: u64) -> Record {
    record_with(origin, number, Value::text(format!("rider number {number} of {origin}")))
}

fn record_with(origin: &OriginId, number: u64, value: Value) -> Record {
    let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false };
    let shape = Shape { table: TableName::new("campus", "riders"), columns: vec![column("id"), column("name")], key: vec![0] };
    let gtid = Gtid { domain: 0, server: 7, sequence: number + 1 };
    Record {
        origin: origin.clone(),
        gtid,
        row: number,
        table_row: 0,
        hlc: Hlc(1_700_000_000_000_000 + number),
        seen: Arc::new(Seen([(OriginId::new("somebody-else"), Offset(number))].into())),
        last: true,
        position: Arc::new(GtidPosition::from_iter([gtid])),
        read_from: None,
        commit_second: 1_700_000_000,
        server_id: 7,
        coordinates: BinlogCoordinates { file: "mysqld-bin.000001".into(), position: 4 + number },
        trace: None,
        body: Body::Change(Change {
            shape: Arc::new(shape),
            op: Op::Insert,
            before: None,
            after: Some(Image::of([Some(Value::unsigned(number)), Some(value)])),
            checks: Checks::default(),
        }),
    }
}
