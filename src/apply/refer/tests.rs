//! What comes in one commit with a row that is removed for its unique value.

use std::sync::Arc;

use super::super::group::tests::record;
use super::super::twins::{applier, apply_something};
use super::super::{ApplyOptions, LocalFeed};
use crate::change::{
    Body, Change, Checks, Cluster, Column, ColumnKind, Image, Op, OriginId, Record, Rewrite, Shape, TableName, Value,
};
use crate::target::memory::{LocalWrite, MemoryOptions, MemoryReference, MemoryTable, MemoryTarget, OnDelete};
use crate::topic::TopicWriter as _;
use crate::topic::memory::{FairWeather, MemoryTopics};

/// A table whose rows have a name and one column more.
fn shape(table: &str, column: &str) -> Arc<Shape> {
    let columns = ["name", column].map(|name| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false });
    Arc::new(Shape { table: TableName::new("campus", table), columns: columns.to_vec(), key: vec![0] })
}

fn insert(shape: &Arc<Shape>, row: [&str; 2]) -> Change {
    let after = Some(Image::of(row.map(|value| Some(Value::text(value)))));
    Change { shape: shape.clone(), op: Op::Insert, before: None, after, checks: Checks::default() }
}

/// One transaction of an origin as its topic keeps it.
async fn publish(topics: &MemoryTopics, origin: &OriginId, sequence: u64, changes: Vec<Change>) {
    let last = changes.len() - 1;
    let of = |(row, change): (usize, Change)| {
        let (_, record) = record(sequence, row as u64, row == last);
        Record { origin: origin.clone(), body: Body::Change(change), ..record }
    };
    let records: Vec<Record> = changes.into_iter().enumerate().map(of).collect();
    let mut writer = topics.writer(origin.clone(), Arc::new(FairWeather));
    let end = writer.resume().await.unwrap().end;
    writer.append(end, &records).await.unwrap();
}

/// A rider of ours has the seat of one that comes, with a bike that refers to it, in one transaction: what is then in the table of
/// bikes, and in what our tailer is asked to publish of it.
async fn bikes_of_a_rider_without_seat(on_delete: OnDelete) -> (Vec<Image>, Vec<Change>) {
    let names = ["a", "b"].map(OriginId::new);
    let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
    let (riders, bikes) = (shape("riders", "seat"), shape("bikes", "rider"));
    let rewrites = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = rewrites.clone();
    let options = MemoryOptions {
        on_commit: Arc::new(move |committed| {
            let told = committed.changes.iter().filter_map(|change| Rewrite::read(change)?.ok());
            kept.lock().unwrap().extend(told.map(|rewrite| rewrite.change));
        }),
        ..MemoryOptions::default()
    };
    let refers = MemoryReference { column: 1, to: riders.table.clone(), on_delete };
    let tables = [
        MemoryTable { shape: riders.clone(), unique: Some(("seat".into(), 1)), refers: None },
        MemoryTable { shape: bikes.clone(), unique: None, refers: Some(refers) },
    ];
    let target = MemoryTarget::new(tables, options);
    let topics = MemoryTopics::new();
    let ours = LocalWrite::Insert { table: riders.table.clone(), row: ["ours", "1"].map(Value::text).to_vec() };
    target.local_write(&[ours]).await.unwrap();
    publish(&topics, &names[0], 2, vec![insert(&riders, ["ours", "1"])]).await;
    publish(&topics, &names[1], 1, vec![insert(&riders, ["theirs", "1"]), insert(&bikes, ["bike", "theirs"])]).await;
    let local = Arc::new(LocalFeed::default());
    local.passed(&target.end());
    apply_something(applier(ApplyOptions::new(cluster), &target, &topics, local), &target).await.unwrap();
    assert_eq!(target.rows(&riders.table), [insert(&riders, ["ours", "1"]).after.unwrap()]);
    let published =
        rewrites.lock().unwrap().iter().filter(|change: &&Change| change.table() == &bikes.table).cloned().collect();
    (target.rows(&bikes.table), published)
}

/// It refers to nothing otherwise, or is gone elsewhere: the delete of its parent has seen it.
#[tokio::test]
async fn what_comes_in_one_commit_with_a_row_that_is_removed_for_its_unique_value_follows_it() {
    assert_eq!(bikes_of_a_rider_without_seat(OnDelete::Cascade).await, (vec![], vec![]));
    let freed = Image::of([Some(Value::text("bike")), Some(Value::Null)]);
    assert_eq!(bikes_of_a_rider_without_seat(OnDelete::SetNull).await, (vec![freed], vec![]));
    let (rows, published) = bikes_of_a_rider_without_seat(OnDelete::Restrict).await;
    assert!(rows.is_empty() && matches!(&published[..], [change] if change.op == Op::Delete), "{published:?}");
}
