//! Statements cut off at every step, and what waits behind one, over the memory twin.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::super::group::tests::record;
use super::super::twins::applier;
use super::super::{ApplyOptions, LocalFeed};
use super::*;
use crate::change::{Body, Checks, Cluster, Column, ColumnKind, Hlc, Image, Shape, Value};
use crate::target::memory::{Faults, MemoryOptions, MemoryTable, MemoryTarget, NoFaults, Step as DatabaseStep, Verdict};
use crate::topic::TopicWriter as _;
use crate::topic::memory::{FairWeather, MemoryTopics};

fn shape(table: &str) -> Arc<Shape> {
    let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Integer, generated: false };
    let columns = vec![column("id"), column("seats")];
    Arc::new(Shape { table: TableName::new("campus", table), columns, key: vec![0] })
}

/// What node b did, one transaction each.
enum Did {
    Ddl(&'static str, &'static str),
    /// A table as a snapshot found it.
    Existing(&'static str, &'static str),
    Put(&'static str, i64, i64),
    Truncate(&'static str),
}

fn change(table: &str, op: Op, after: Option<Image>) -> Body {
    let shape = match op {
        Op::Truncate => Arc::new(Shape { table: TableName::new("campus", table), columns: Vec::new(), key: Vec::new() }),
        _ => shape(table),
    };
    Body::Change(Change { shape, op, before: None, after, checks: Checks::default() })
}

async fn topic(story: &[Did]) -> MemoryTopics {
    let records: Vec<Record> = (1..)
        .zip(story)
        .map(|(sequence, did)| {
            let body = match did {
                Did::Ddl(table, statement) | Did::Existing(table, statement) => Body::Schema(Box::new(SchemaChange {
                    existing: matches!(did, Did::Existing(..)),
                    no_default: Vec::new(),
                    database: "campus".into(),
                    statement: (*statement).into(),
                    session: Default::default(),
                    tables: vec![(&TableName::new("campus", table)).into()],
                    whole: None,
                })),
                Did::Put(table, id, seats) => {
                    change(table, Op::Insert, Some(Image::of([Some(Value::Int(*id)), Some(Value::Int(*seats))])))
                }
                Did::Truncate(table) => change(table, Op::Truncate, None),
            };
            let (_, record) = record(sequence, 0, true);
            Record { body, hlc: Hlc(sequence), ..record }
        })
        .collect();
    let topics = MemoryTopics::new();
    let mut writer = topics.writer(OriginId::new("b"), Arc::new(FairWeather));
    writer.resume().await.unwrap();
    writer.append(Offset(0), &records).await.unwrap();
    topics
}

fn target(faults: Arc<dyn Faults>) -> MemoryTarget {
    let table = |name| MemoryTable { shape: shape(name), unique: None, refers: None };
    MemoryTarget::new([table("riders"), table("trips")], MemoryOptions { faults, ..MemoryOptions::default() })
}

/// Runs node a's applier until something is so, or it ends.
async fn run_until(
    target: &MemoryTarget,
    topics: &MemoryTopics,
    reached: impl Fn(&MemoryTarget) -> bool,
) -> Result<(), ApplyError> {
    let names = ["a", "b"].map(OriginId::new);
    let local: Arc<LocalFeed> = Arc::default();
    let options = ApplyOptions::new(Cluster::new(names.clone(), &names[0]).unwrap());
    let applier = applier(options, target, topics, local.clone());
    let shutdown = Shutdown::new();
    let running = tokio::spawn(applier.run(shutdown.clone()));
    while !running.is_finished() && !reached(target) {
        // Node a's tailer, which has nothing of its own to publish.
        local.passed(&target.end());
        tokio::time::advance(Duration::from_millis(5)).await;
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    running.await.unwrap()
}

fn next(target: &MemoryTarget) -> Offset {
    target.marks().get(&OriginId::new("b")).map_or(Offset(0), |mark| mark.next)
}

fn ids(target: &MemoryTarget, table: &str) -> Vec<i64> {
    let id = |row: Image| match row.get(0) {
        Some(crate::change::ValueRef::Int(id)) => id,
        other => panic!("{other:?}"),
    };
    target.rows(&TableName::new("campus", table)).into_iter().map(id).collect()
}

/// The connection is lost at one step, before it or after it.
struct LostAt {
    step: u64,
    done: bool,
    counted: AtomicU64,
}

#[async_trait]
impl Faults for LostAt {
    async fn before(&self, _: DatabaseStep<'_>) -> Verdict {
        let lost = || TargetError::Unreachable { place: "here".into(), reason: "it is gone".into() };
        match self.counted.fetch_add(1, Ordering::Relaxed) == self.step {
            true if self.done => Verdict::DoThenFail(lost()),
            true => Verdict::Refuse(lost()),
            false => Verdict::Go,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_runs_once_wherever_it_is_cut_off() {
    let story = [Did::Put("riders", 1, 1), Did::Ddl("riders", "ALTER TABLE riders ADD x INT"), Did::Put("riders", 2, 2)];
    let topics = topic(&story).await;
    let mut cut = BTreeSet::new();
    for (step, done) in (0..40).flat_map(|step| [(step, false), (step, true)]) {
        let target = target(Arc::new(LostAt { step, done, counted: AtomicU64::default() }));
        while next(&target) < Offset(3) {
            if run_until(&target, &topics, |target| next(target) >= Offset(3)).await.is_err() {
                cut.insert((step, done));
            }
        }
        assert_eq!(target.defined(), ["/* tandem b 0-1-2 */ ALTER TABLE riders ADD x INT"], "cut off at {step}, {done}");
        assert_eq!(ids(&target, "riders"), [1, 2]);
        assert_eq!(target.schema().iter().map(|entry| entry.state).collect::<Vec<_>>(), [SchemaState::Done]);
    }
    assert!(cut.len() > 20, "{cut:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_holds_its_table_alone_and_is_let_go_in_order() {
    let story = [
        Did::Put("riders", 1, 1),
        Did::Ddl("riders", "ALTER TABLE riders DROP seats"),
        Did::Put("riders", 2, 2),
        Did::Put("trips", 1, 1),
        // Not dangerous, but behind one that is.
        Did::Ddl("riders", "ALTER TABLE riders ADD y INT"),
        Did::Put("riders", 3, 3),
        Did::Truncate("riders"),
        Did::Put("riders", 4, 4),
        Did::Put("trips", 2, 2),
    ];
    let topics = topic(&story).await;
    let target = target(Arc::new(NoFaults));
    let all = Offset(story.len() as u64);
    // Twice, so that what waits is found again by a process that starts.
    for _ in 0..2 {
        run_until(&target, &topics, |target| next(target) >= all).await.unwrap();
        assert_eq!((ids(&target, "riders"), ids(&target, "trips")), (vec![1], vec![1, 2]));
        assert_eq!(target.defined(), Vec::<String>::new());
        assert!(target.schema().iter().all(|entry| entry.state == SchemaState::Waiting));
    }
    let first = target.schema()[0].clone();
    assert_eq!(first.danger.as_deref(), Some("drops a part of the table"));
    target.decide_schema(first.number, SchemaState::Approved);
    let done = |target: &MemoryTarget| target.schema().iter().all(|entry| entry.state == SchemaState::Done);
    run_until(&target, &topics, done).await.unwrap();
    assert_eq!(target.defined().len(), 2, "the second follows by itself");
    assert_eq!(ids(&target, "riders"), [4], "what was emptied is gone, and what came after it is here");
    assert_eq!(next(&target), all, "the checkpoint is where it was");
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_never_runs_and_what_waited_behind_it_comes() {
    let story = [Did::Ddl("riders", "DROP TABLE riders"), Did::Put("riders", 2, 2)];
    let topics = topic(&story).await;
    let target = target(Arc::new(NoFaults));
    run_until(&target, &topics, |target| next(target) >= Offset(2)).await.unwrap();
    assert_eq!(ids(&target, "riders"), Vec::<i64>::new());
    target.decide_schema(target.schema()[0].number, SchemaState::Skipping);
    run_until(&target, &topics, |target| target.schema()[0].state == SchemaState::Skipped).await.unwrap();
    assert_eq!((ids(&target, "riders"), target.defined().len()), (vec![2], 0));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_a_snapshot_found_is_made_where_there_is_none() {
    let story = [
        Did::Existing("riders", "CREATE TABLE IF NOT EXISTS `riders` (id INT)"),
        Did::Existing("boats", "CREATE TABLE IF NOT EXISTS `boats` (id INT)"),
        Did::Put("riders", 1, 1),
    ];
    let target = target(Arc::new(NoFaults));
    run_until(&target, &topic(&story).await, |target| next(target) == Offset(3)).await.unwrap();
    let made = target.defined();
    assert!(made.len() == 1 && made[0].ends_with("CREATE TABLE IF NOT EXISTS `boats` (id INT)"), "{made:?}");
    assert_eq!((ids(&target, "riders"), target.schema().len()), (vec![1], 1));
}

/// The tailer of a server whose binlog names no columns could not read rows that are older than what the statement makes of their table.
#[tokio::test(start_paused = true)]
async fn a_statement_waits_for_what_the_own_tailer_has_not_read_but_not_for_ever() {
    for passes in [true, false] {
        let target = target(Arc::new(NoFaults));
        let topics = topic(&[Did::Put("riders", 1, 1), Did::Ddl("riders", "ALTER TABLE riders ADD more INT")]).await;
        let names = ["a", "b"].map(OriginId::new);
        let local: Arc<LocalFeed> = Arc::default();
        local.passed(&target.end());
        let options = ApplyOptions::new(Cluster::new(names.clone(), &names[0]).unwrap());
        let patience = options.tailer_wait;
        let applier = applier(options, &target, &topics, local.clone());
        let shutdown = Shutdown::new();
        let running = tokio::spawn(applier.run(shutdown.clone()));
        let pass_time = async |time: Duration| {
            for _ in 0..time.as_millis() / 5 {
                tokio::time::advance(Duration::from_millis(5)).await;
                tokio::task::yield_now().await;
            }
        };
        pass_time(patience / 2).await;
        assert_eq!(ids(&target, "riders"), [1], "rows wait for nobody");
        assert_eq!(next(&target), Offset(1), "the statement waits");
        if passes {
            local.passed(&target.end());
            pass_time(patience / 4).await;
        } else {
            pass_time(patience).await;
        }
        assert_eq!(next(&target), Offset(2));
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}
