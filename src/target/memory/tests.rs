//! What the memory twin promises of locks, marks, faults and what a binlog would show.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::change::{Change, Checks, Column, ColumnKind, Hlc, Offset, Op, Rewrite};
use crate::target::{Held, Write};

fn riders() -> Arc<Shape> {
    let column = |name: &str, kind| Column { name: name.into(), kind, generated: false };
    let columns = vec![column("name", ColumnKind::Text), column("email", ColumnKind::Text), column("age", ColumnKind::Integer)];
    Arc::new(Shape { table: TableName::new("campus", "riders"), columns, key: vec![0] })
}

fn mark(next: u64) -> Mark {
    let position = "0-9-5".parse().unwrap();
    Mark { origin: OriginId::new("b"), next: Offset(next), data: Some(Offset(next - 1)), position, hlc: Hlc(next * 10) }
}

fn put(name: &str, email: &str, age: i64) -> Change {
    let after = Image::of([Some(Value::text(name)), Some(Value::text(email)), Some(Value::Int(age))]);
    Change { shape: riders(), op: Op::Insert, before: None, after: Some(after), checks: Checks::default() }
}

fn key(name: &str) -> RowKey {
    RowKey { shape: riders(), values: Box::new([Value::text(name)]) }
}

fn local(name: &str, email: &str, age: i64) -> LocalWrite {
    let row = vec![Value::text(name), Value::text(email), Value::Int(age)];
    LocalWrite::Insert { table: riders().table.clone(), row }
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<CommittedTransaction>>>);

impl Seen {
    fn take(&self) -> Vec<CommittedTransaction> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn database(faults: Arc<dyn Faults>) -> (MemoryTarget, Seen) {
    let seen = Seen::default();
    let told = seen.clone();
    let options = MemoryOptions {
        server_id: 7,
        faults,
        on_commit: Arc::new(move |transaction| told.0.lock().unwrap().push(transaction)),
        ..MemoryOptions::default()
    };
    let table = MemoryTable { shape: riders(), unique: Some(("email".into(), 1)), refers: None };
    (MemoryTarget::new([table], options), seen)
}

#[tokio::test(start_paused = true)]
async fn the_mark_comes_first_and_a_rewrite_in_its_place() {
    let (database, seen) = database(Arc::new(NoFaults));
    let mut apply = database.begin(&mark(3)).await.unwrap();
    apply.write(&[Write::Put(put("ann", "a@x", 1))]).await.unwrap();
    let rewrite =
        Rewrite { change: Change { op: Op::Delete, before: put("bob", "", 0).after, after: None, ..put("bob", "", 0) } };
    apply.rewrite(std::slice::from_ref(&rewrite)).await.unwrap();
    apply.commit().await.unwrap();

    let seen = seen.take();
    let [CommittedTransaction { gtid, changes, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(gtid.to_string(), "0-7-1");
    assert_eq!(Mark::read(&changes[0]).unwrap().unwrap(), mark(3));
    assert_eq!(changes[1].op, Op::Insert);
    let Change { before: Some(_), op: Op::Delete, .. } = Rewrite::read(&changes[2]).unwrap().unwrap().change else { panic!() };
    assert_eq!(database.checkpoints().await.unwrap()[&OriginId::new("b")], mark(3));
}

#[tokio::test(start_paused = true)]
async fn a_locked_place_keeps_the_application_out_until_the_end() {
    let (database, seen) = database(Arc::new(NoFaults));
    let mut apply = database.begin(&mark(1)).await.unwrap();
    assert_eq!(apply.lock(&[key("ann")]).await.unwrap(), [None]);
    // The same row by the database's own comparison.
    let refused = database.local_write(&[local("ANN ", "a@x", 1)]).await.unwrap_err();
    assert!(matches!(refused, TargetError::Contended { .. }), "{refused}");
    assert!(apply.position().await.unwrap().is_start());

    let writer = tokio::spawn({
        let database = database.clone();
        async move { database.local_write(&[local("ANN ", "a@x", 1)]).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!writer.is_finished());
    apply.rollback().await;
    assert!(writer.await.unwrap().unwrap().is_some());
    assert_eq!(database.checkpoints().await.unwrap().len(), 0);
    assert_eq!(seen.take().len(), 1);

    let mut apply = database.begin(&mark(1)).await.unwrap();
    let held = apply.lock(&[key("ann")]).await.unwrap();
    let [Some(Held { key, .. })] = &held[..] else { panic!("{held:?}") };
    assert_eq!(key.values[0], Value::text("ANN "));
    assert_eq!(apply.position().await.unwrap().to_string(), "0-7-1");
}

#[tokio::test(start_paused = true)]
async fn a_unique_value_is_taken_until_its_holder_is_gone_for_good() {
    let (database, _) = database(Arc::new(NoFaults));
    database.local_write(&[local("ann", "x@x", 1)]).await.unwrap();
    let collision = database.local_write(&[local("cid", "c@x", 1), local("bob", "X@X", 2)]).await.unwrap_err();
    assert!(matches!(collision, TargetError::UniqueTaken { ref index, .. } if index == "email"));
    assert_eq!(database.rows(&riders().table).len(), 1, "the whole transaction is undone");

    let mut apply = database.begin(&mark(1)).await.unwrap();
    let holders = apply.holders(&put("bob", "x@x", 2)).await.unwrap();
    assert_eq!(holders[0].key, key("ann"));
    let error = apply.write(&[Write::Put(put("bob", "x@x", 2))]).await.unwrap_err();
    assert_eq!(error.failed, Some(0));
    apply.write(&[Write::Delete(key("ann")), Write::Put(put("bob", "x@x", 2))]).await.unwrap();
    // Committed readers still see the old row, and its value is not free for others.
    assert!(database.row(&riders().table, &[Value::text("ann")]).is_some());
    let refused = database.local_write(&[local("dan", "x@x", 1)]).await.unwrap_err();
    assert!(matches!(refused, TargetError::Contended { .. }));
    drop(apply);
    assert!(database.is_idle());
    assert_eq!(database.row(&riders().table, &[Value::text("ann")]), put("ann", "x@x", 1).after);
    assert!(database.row(&riders().table, &[Value::text("bob")]).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_not_invented() {
    let (database, _) = database(Arc::new(NoFaults));
    let mut partial = put("ann", "", 5);
    partial.op = Op::Update;
    partial.after = Some(Image::of([Some(Value::text("ann")), None, Some(Value::Int(6))]));
    let mut apply = database.begin(&mark(1)).await.unwrap();
    let error = apply.write(&[Write::Put(put("ann", "e", 5)), Write::Put(partial.clone())]).await;
    error.unwrap();
    apply.write(&[Write::Delete(key("ann"))]).await.unwrap();
    let error = apply.write(&[Write::Put(partial)]).await.unwrap_err();
    assert!(matches!(error.error, TargetError::Unwritable { .. }));
}

struct FailTheCommit;

#[async_trait]
impl Faults for FailTheCommit {
    async fn before(&self, step: Step<'_>) -> Verdict {
        let error = TargetError::Unreachable { place: "here".into(), reason: "the connection broke".into() };
        if let Step::Commit = step { Verdict::DoThenFail(error) } else { Verdict::Go }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_can_happen_and_report_a_failure() {
    let (database, seen) = database(Arc::new(FailTheCommit));
    let apply = database.begin(&mark(4)).await.unwrap();
    apply.commit().await.unwrap_err();
    assert_eq!(database.checkpoints().await.unwrap()[&OriginId::new("b")], mark(4));
    assert_eq!(seen.take().len(), 1);
    assert!(database.is_idle());
}

#[tokio::test(start_paused = true)]
async fn an_update_that_moves_a_row_is_one_change() {
    let (database, seen) = database(Arc::new(NoFaults));
    database.local_write(&[local("ann", "a@x", 1)]).await.unwrap();
    let table = riders().table.clone();
    let row = vec![Value::text("bea"), Value::text("a@x"), Value::Int(1)];
    let update = LocalWrite::Update { table: table.clone(), key: vec![Value::text("ann")], row };
    database.local_write(std::slice::from_ref(&update)).await.unwrap();
    let [_, CommittedTransaction { changes, .. }] = &seen.take()[..] else { panic!() };
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].moved_from(), Some(key("ann")));
    assert_eq!(database.local_write(&[update]).await.unwrap(), None, "nothing matches any more");
    assert_eq!(database.rows(&table).len(), 1);
}
