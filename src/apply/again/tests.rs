//! Changes that are tried again, over the memory twins.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::super::group::tests::record;
use super::super::twins::applier;
use super::super::{ApplyAblation, ApplyOptions, LocalFeed};
use super::*;
use crate::change::{Body, Change, Checks, Cluster, Column, ColumnKind, GtidPosition, Image, Seen, Shape, Value};
use crate::target::TargetError;
use crate::target::memory::{
    Faults, LocalWrite, MemoryOptions, MemoryReference, MemoryTable, MemoryTarget, OnDelete, Step as DatabaseStep, Verdict,
};
use crate::topic::TopicWriter as _;
use crate::topic::memory::{FairWeather, MemoryTopics};

mod look;

/// No row of the table can be written while it is narrow.
#[derive(Default)]
struct Narrow(AtomicBool);

#[async_trait]
impl Faults for Narrow {
    async fn before(&self, step: DatabaseStep<'_>) -> Verdict {
        match step {
            DatabaseStep::Write(write) if self.0.load(Ordering::Relaxed) => Verdict::Refuse(TargetError::Unwritable {
                table: write.table().clone(),
                reason: "the value is too long for column `name` here".into(),
            }),
            _ => Verdict::Go,
        }
    }
}

fn shape(table: &str, column: &str) -> Arc<Shape> {
    let columns = ["id", column].map(|name| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false });
    Arc::new(Shape { table: TableName::new("campus", table), columns: columns.to_vec(), key: vec![0] })
}

fn change(shape: &Arc<Shape>, op: Op, row: [&str; 2]) -> Change {
    let image = Some(Image::of(row.map(|value| Some(Value::text(value)))));
    let (before, after) = match op {
        Op::Delete => (image, None),
        // Another row of the same key.
        Op::Update => (Some(Image::of([row[0], "as it was"].map(|value| Some(Value::text(value))))), image),
        _ => (None, image),
    };
    Change { shape: shape.clone(), op, before, after, checks: Checks::default() }
}

/// Node a, and b, of which a sets one change aside.
struct Rig {
    names: [OriginId; 2],
    riders: Arc<Shape>,
    bikes: Arc<Shape>,
    narrow: Arc<Narrow>,
    target: MemoryTarget,
    topics: MemoryTopics,
    local: Arc<LocalFeed>,
    desk: Arc<AgainDesk>,
    shutdown: Shutdown,
    ablation: ApplyAblation,
}

impl Rig {
    fn new() -> Self {
        let (riders, bikes) = (shape("riders", "name"), shape("bikes", "rider"));
        let narrow = Arc::new(Narrow::default());
        let local: Arc<LocalFeed> = Arc::default();
        // Its tailer runs, and nothing was written yet.
        local.passed(&GtidPosition::start());
        let tailer = local.clone();
        let options = MemoryOptions {
            faults: narrow.clone(),
            on_commit: Arc::new(move |committed| tailer.passed(&[committed.gtid].into_iter().collect())),
            ..MemoryOptions::default()
        };
        let refers = MemoryReference { column: 1, to: riders.table.clone(), on_delete: OnDelete::Cascade };
        let tables = [
            MemoryTable { shape: riders.clone(), unique: None, refers: None },
            MemoryTable { shape: bikes.clone(), unique: None, refers: Some(refers) },
        ];
        Self {
            names: ["a", "b"].map(OriginId::new),
            riders,
            bikes,
            narrow,
            target: MemoryTarget::new(tables, options),
            topics: MemoryTopics::new(),
            local,
            desk: Arc::default(),
            shutdown: Shutdown::new(),
            ablation: ApplyAblation::default(),
        }
    }

    fn start(&self) -> tokio::task::JoinHandle<Result<(), ApplyError>> {
        let cluster = Cluster::new(self.names.clone(), &self.names[0]).unwrap();
        let options = ApplyOptions {
            retry_wait: Duration::ZERO,
            idle_checkpoint: 1,
            ablation: self.ablation,
            ..ApplyOptions::new(cluster)
        };
        let local = self.local.clone();
        let applier = Applier { again: self.desk.clone(), ..applier(options, &self.target, &self.topics, local) };
        tokio::spawn(applier.run(self.shutdown.clone()))
    }

    /// A transaction in the topic of `a` (0) or `b` (1), which had seen `a` up to an offset. Without a change, a heartbeat.
    async fn publish(&self, node: usize, clock: u64, seen: Option<u64>, change: Option<Change>) {
        let origin = self.names[node].clone();
        let seen = seen.map(|offset| (self.names[0].clone(), Offset(offset)));
        let record = Record {
            origin: origin.clone(),
            seen: Arc::new(Seen(seen.into_iter().collect())),
            body: change.map_or(Body::Heartbeat, Body::Change),
            ..record(clock, 0, true).1
        };
        let mut writer = self.topics.writer(origin, Arc::new(FairWeather));
        let first = writer.resume().await.unwrap().end;
        writer.append(first, std::slice::from_ref(&record)).await.unwrap();
        if node == 0 {
            self.local.published(first, &[record]);
        }
    }

    async fn applied(&self, next: u64) {
        while self.target.marks().get(&self.names[1]).is_none_or(|mark| mark.next < Offset(next)) {
            tokio::task::yield_now().await;
        }
    }

    /// B's change with clock 10 is set aside here.
    async fn set_aside(&self, change: Change) -> tokio::task::JoinHandle<Result<(), ApplyError>> {
        self.narrow.0.store(true, Ordering::Relaxed);
        self.publish(1, 10, None, Some(change)).await;
        let running = self.start();
        self.applied(1).await;
        assert_eq!(self.target.dead_letters().len(), 1);
        self.narrow.0.store(false, Ordering::Relaxed);
        running
    }

    async fn retry(&self) -> Outcome {
        let place = LetterPlace { hlc: Hlc(10), origin: self.names[1].clone(), offset: Offset(0) };
        let outcomes = self.desk.retry(vec![place.clone(), place]).await.unwrap();
        assert_eq!(outcomes.len(), 1, "asked for twice, done once");
        outcomes.into_iter().next().unwrap().1
    }

    fn names(&self) -> Vec<Image> {
        self.target.rows(&self.riders.table)
    }

    async fn end(&self, running: tokio::task::JoinHandle<Result<(), ApplyError>>) {
        self.shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}

fn row(id: &str, name: &str) -> Image {
    Image::of([id, name].map(|value| Some(Value::text(value))))
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_cause_is_mended_is_applied_and_forgotten() {
    let rig = Rig::new();
    let running = rig.set_aside(change(&rig.riders, Op::Insert, ["1", "Ann"])).await;
    let before = rig.target.marks()[&rig.names[1]].clone();
    assert_eq!(rig.retry().await, Outcome::Applied);
    assert_eq!((rig.names(), rig.target.dead_letters()), (vec![row("1", "Ann")], vec![]));
    assert_eq!(rig.target.marks()[&rig.names[1]], before, "the checkpoint stays where it is");
    rig.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_still_fails_stays_with_its_newest_reason() {
    let rig = Rig::new();
    let running = rig.set_aside(change(&rig.riders, Op::Insert, ["1", "Ann"])).await;
    rig.narrow.0.store(true, Ordering::Relaxed);
    let reason = "campus.riders: the value is too long for column `name` here".to_owned();
    assert_eq!(rig.retry().await, Outcome::Failed { reason });
    assert_eq!((rig.names(), rig.target.dead_letters().len()), (vec![], 1));
    rig.end(running).await;
}

/// The write is forgotten by the index: all nodes have it. Without reading the topics again the older change would win.
#[tokio::test(start_paused = true)]
async fn a_newer_write_stands_also_where_the_index_has_forgotten_it() {
    let rig = Rig::new();
    let running = rig.set_aside(change(&rig.riders, Op::Insert, ["1", "Ann"])).await;
    let ours = LocalWrite::Insert { table: rig.riders.table.clone(), row: ["1", "Bo"].map(Value::text).to_vec() };
    rig.target.local_write(&[ours]).await.unwrap();
    rig.publish(0, 20, None, Some(change(&rig.riders, Op::Insert, ["1", "Bo"]))).await;
    rig.publish(1, 30, Some(0), None).await;
    rig.applied(2).await;
    assert_eq!(rig.retry().await, Outcome::NewerStands);
    assert_eq!((rig.names(), rig.target.dead_letters()), (vec![row("1", "Bo")], vec![]));
    rig.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_decide_any_more_is_refused() {
    let rig = Rig::new();
    let running = rig.set_aside(change(&rig.riders, Op::Insert, ["1", "Ann"])).await;
    // A write of ours that the topic has let go since, and something later.
    rig.publish(0, 20, None, Some(change(&rig.riders, Op::Delete, ["1", "Ann"]))).await;
    rig.publish(0, 40, None, None).await;
    rig.publish(1, 50, Some(0), None).await;
    rig.applied(2).await;
    rig.topics.forget_before(&rig.names[0], Offset(1));
    let Outcome::Refused { reason } = rig.retry().await else { panic!("it may be older than what was forgotten") };
    assert!(reason.starts_with("the topic of a no longer reaches back to it"), "{reason}");
    rig.topics.forget_before(&rig.names[1], Offset(1));
    let Outcome::Refused { reason } = rig.retry().await else { panic!("it is gone itself") };
    assert_eq!(reason, "the topic of b no longer holds it: the oldest kept is 1");
    assert_eq!((rig.names(), rig.target.dead_letters().len()), (vec![], 1));
    rig.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_parent_went_meanwhile_is_not_written_without_it() {
    let rig = Rig::new();
    let running = rig.set_aside(change(&rig.bikes, Op::Insert, ["7", "1"])).await;
    let Outcome::Failed { reason } = rig.retry().await else { panic!("on all other nodes it went with its parent") };
    assert!(reason.contains("refers to a row of another table that is not here"), "{reason}");
    assert_eq!(rig.target.rows(&rig.bikes.table), []);
    rig.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_takes_nothing_along_that_came_meanwhile() {
    let rig = Rig::new();
    let insert = |table: &Arc<Shape>, row: [&str; 2]| LocalWrite::Insert {
        table: table.table.clone(),
        row: row.map(Value::text).to_vec(),
    };
    rig.target.local_write(&[insert(&rig.riders, ["1", "Ann"])]).await.unwrap();
    let running = rig.set_aside(change(&rig.riders, Op::Delete, ["1", "Ann"])).await;
    rig.target.local_write(&[insert(&rig.bikes, ["7", "1"])]).await.unwrap();
    rig.publish(0, 20, None, Some(change(&rig.bikes, Op::Insert, ["7", "1"]))).await;
    rig.publish(1, 30, Some(0), None).await;
    rig.applied(2).await;
    let Outcome::Failed { reason } = rig.retry().await else { panic!("the bike would go here and nowhere else") };
    assert_eq!(reason, "campus.riders: other rows here still refer to it, and came after it");
    assert_eq!((rig.names().len(), rig.target.rows(&rig.bikes.table).len()), (1, 1));
    rig.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_where_no_applier_works_is_told_so() {
    let rig = Rig::new();
    let place = LetterPlace { hlc: Hlc(10), origin: rig.names[1].clone(), offset: Offset(0) };
    let stop = rig.desk.retry(vec![place]).await.unwrap_err();
    assert!(stop.message.starts_with("the applier does not work in this process now"), "{stop}");
}
