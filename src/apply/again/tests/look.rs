//! Changes that are looked at again, over the same twins.

use super::*;
use crate::apply::Looked;

fn insert(shape: &Arc<Shape>, row: [&str; 2]) -> LocalWrite {
    LocalWrite::Insert { table: shape.table.clone(), row: row.map(Value::text).to_vec() }
}

impl Rig {
    /// What was written here behind everybody's back: no topic tells of it.
    async fn damage(&self, writes: &[LocalWrite]) {
        self.target.local_write(writes).await.unwrap();
    }

    async fn look(&self, from: Option<u64>) -> Looked {
        self.desk.look(self.names[1].clone(), from.map(Offset)).await.unwrap()
    }

    async fn begin(&self, next: u64) -> tokio::task::JoinHandle<Result<(), ApplyError>> {
        let running = self.start();
        self.applied(next).await;
        self.desk.works().await;
        running
    }
}

fn delete(shape: &Arc<Shape>, id: &str) -> LocalWrite {
    LocalWrite::Delete { table: shape.table.clone(), key: vec![Value::text(id)] }
}

#[tokio::test(start_paused = true)]
async fn rows_that_somebody_damaged_here_come_back_and_nothing_else_changes() {
    let rig = Rig::new();
    let riders = &rig.riders;
    rig.publish(1, 10, None, Some(change(riders, Op::Insert, ["1", "Ann"]))).await;
    rig.publish(1, 11, None, Some(change(riders, Op::Insert, ["2", "Bo"]))).await;
    rig.publish(1, 12, None, Some(change(riders, Op::Update, ["2", "Bob"]))).await;
    rig.publish(1, 13, None, Some(change(riders, Op::Insert, ["3", "Cy"]))).await;
    rig.publish(1, 14, None, Some(change(riders, Op::Delete, ["3", "Cy"]))).await;
    rig.publish(1, 15, None, Some(change(riders, Op::Insert, ["4", "Di"]))).await;
    let running = rig.begin(6).await;
    let before = rig.target.marks()[&rig.names[1]].clone();
    let whole = vec![row("1", "Ann"), row("2", "Bob"), row("4", "Di")];
    assert_eq!(rig.names(), whole);
    let looked = rig.look(None).await;
    assert_eq!((looked.changes, looked.put_right, looked.as_it_should_be, looked.newer_stands), (6, 0, 4, 2), "{looked:?}");

    rig.damage(&[delete(riders, "1"), delete(riders, "2"), insert(riders, ["2", "X"]), insert(riders, ["3", "Y"])]).await;
    let looked = rig.look(Some(2)).await;
    assert_eq!((looked.from, looked.upto), (Offset(2), Offset(6)));
    assert_eq!((looked.changes, looked.put_right, looked.as_it_should_be, looked.newer_stands), (4, 2, 1, 1), "{looked:?}");
    assert_eq!(rig.names(), vec![row("2", "Bob"), row("4", "Di")], "the first was not meant");
    let looked = rig.look(None).await;
    assert_eq!((looked.put_right, looked.as_it_should_be, looked.reason), (1, 3, None));
    assert_eq!((rig.names(), rig.target.dead_letters().len(), rig.target.conflicts().len()), (whole, 0, 0));
    assert_eq!(rig.target.marks()[&rig.names[1]], before, "the checkpoint stays where it is");
    rig.end(running).await;
}

/// B's insert is applied; then we write the row, and everybody has it, so the index may forget it.
async fn overwritten(ablation: ApplyAblation) -> Vec<Image> {
    let rig = Rig { ablation, ..Rig::new() };
    rig.publish(1, 10, None, Some(change(&rig.riders, Op::Insert, ["1", "Ann"]))).await;
    let running = rig.begin(1).await;
    rig.damage(&[delete(&rig.riders, "1"), insert(&rig.riders, ["1", "Bo"])]).await;
    rig.publish(0, 20, None, Some(change(&rig.riders, Op::Update, ["1", "Bo"]))).await;
    rig.publish(1, 30, Some(0), None).await;
    rig.applied(2).await;
    rig.look(None).await;
    rig.end(running).await;
    assert_eq!(rig.target.conflicts(), [], "our write had seen theirs");
    rig.names()
}

#[tokio::test(start_paused = true)]
async fn a_newer_write_stands_however_old_the_place_is() {
    assert_eq!(overwritten(ApplyAblation::default()).await, vec![row("1", "Bo")]);
}

/// The sabotage that the test above must catch.
#[tokio::test(start_paused = true)]
async fn without_looking_back_an_older_change_would_win() {
    let ablation = ApplyAblation { no_look_back: true, ..ApplyAblation::default() };
    assert_eq!(overwritten(ablation).await, vec![row("1", "Ann")]);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_emptied_since_stays_empty() {
    let rig = Rig::new();
    let truncate = Change { op: Op::Truncate, before: None, after: None, ..change(&rig.riders, Op::Insert, ["1", "Ann"]) };
    let log = Arc::new(Shape { key: Vec::new(), ..(*shape("log", "line")).clone() });
    rig.publish(1, 10, None, Some(change(&rig.riders, Op::Insert, ["1", "Ann"]))).await;
    rig.publish(1, 11, None, Some(change(&log, Op::Insert, ["1", "a line"]))).await;
    rig.publish(1, 12, None, Some(truncate)).await;
    rig.publish(1, 13, None, Some(change(&rig.riders, Op::Insert, ["2", "Bo"]))).await;
    let running = rig.begin(4).await;
    let looked = rig.look(None).await;
    assert_eq!((looked.changes, looked.newer_stands, looked.as_it_should_be, looked.passed_over), (4, 1, 1, 2), "{looked:?}");
    assert_eq!(rig.names(), vec![row("2", "Bo")]);
    rig.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_parent_has_its_newest_write_later_comes_back_with_it() {
    let rig = Rig::new();
    rig.publish(1, 10, None, Some(change(&rig.riders, Op::Insert, ["1", "Ann"]))).await;
    rig.publish(1, 11, None, Some(change(&rig.bikes, Op::Insert, ["7", "1"]))).await;
    rig.publish(1, 12, None, Some(change(&rig.riders, Op::Update, ["1", "Anna"]))).await;
    rig.publish(1, 13, None, Some(change(&rig.riders, Op::Insert, ["2", "Bo"]))).await;
    rig.publish(1, 14, None, Some(change(&rig.riders, Op::Delete, ["2", "Bo"]))).await;
    let running = rig.begin(5).await;
    // A row that came back by hand, and that another by hand refers to, is nothing that we may take away.
    let by_hand = [insert(&rig.riders, ["2", "Bo"]), insert(&rig.bikes, ["8", "2"])];
    rig.damage(&[delete(&rig.bikes, "7"), delete(&rig.riders, "1")]).await;
    rig.damage(&by_hand).await;
    let looked = rig.look(None).await;
    assert_eq!((looked.put_right, looked.newer_stands, looked.left), (2, 2, 1), "{looked:?}");
    assert!(looked.reason.unwrap().contains("still refer to it"));
    assert_eq!(rig.names(), vec![row("1", "Anna"), row("2", "Bo")]);
    assert_eq!((rig.target.rows(&rig.bikes.table).len(), rig.target.dead_letters().len()), (2, 0));
    rig.end(running).await;
}

/// B's rider goes, with its bike, and is made anew without it.
async fn made_anew(ablation: ApplyAblation) -> (Looked, usize) {
    let rig = Rig { ablation, ..Rig::new() };
    rig.publish(1, 10, None, Some(change(&rig.riders, Op::Insert, ["1", "Ann"]))).await;
    rig.publish(1, 11, None, Some(change(&rig.bikes, Op::Insert, ["7", "1"]))).await;
    rig.publish(1, 12, None, Some(change(&rig.riders, Op::Delete, ["1", "Ann"]))).await;
    rig.publish(1, 13, None, Some(change(&rig.riders, Op::Insert, ["1", "Ann"]))).await;
    rig.publish(1, 14, None, Some(change(&rig.bikes, Op::Insert, ["8", "1"]))).await;
    let running = rig.begin(5).await;
    rig.damage(&[delete(&rig.bikes, "8")]).await;
    let looked = rig.look(None).await;
    rig.end(running).await;
    (looked, rig.target.rows(&rig.bikes.table).len())
}

/// That the bike went with its rider is in no topic.
#[tokio::test(start_paused = true)]
async fn a_row_that_went_with_its_parent_does_not_come_back_because_the_parent_did() {
    let (looked, bikes) = made_anew(ApplyAblation::default()).await;
    assert_eq!((looked.put_right, looked.in_doubt, looked.left, bikes), (1, 1, 0, 1), "{looked:?}");
    assert!(looked.reason.unwrap().contains("is in no binlog"));
    let sabotage = ApplyAblation { no_look_back: true, ..ApplyAblation::default() };
    assert_eq!(made_anew(sabotage).await.1, 2, "the test can fail");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_decide_is_told_and_left_as_it_is() {
    let rig = Rig::new();
    rig.publish(1, 10, None, Some(change(&rig.riders, Op::Insert, ["1", "Ann"]))).await;
    // Of what we wrote the topic has let something go since.
    rig.publish(0, 20, None, Some(change(&rig.riders, Op::Delete, ["1", "Ann"]))).await;
    rig.publish(0, 40, None, None).await;
    rig.publish(1, 50, Some(0), Some(change(&rig.riders, Op::Insert, ["2", "Bo"]))).await;
    let running = rig.begin(2).await;
    rig.topics.forget_before(&rig.names[0], Offset(1));
    rig.damage(&[delete(&rig.riders, "2")]).await;
    let looked = rig.look(None).await;
    assert_eq!((looked.changes, looked.in_doubt, looked.put_right), (2, 1, 1), "{looked:?}");
    assert!(looked.reason.unwrap().starts_with("the topic of a no longer reaches back to it"));
    rig.end(running).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_that_does_not_exist_is_refused() {
    let rig = Rig::new();
    for clock in 10..14 {
        rig.publish(1, clock, None, Some(change(&rig.riders, Op::Insert, ["1", "Ann"]))).await;
    }
    let running = rig.begin(4).await;
    rig.topics.forget_before(&rig.names[1], Offset(2));
    let refused = async |origin: &str, from: Option<u64>, words: &str| {
        let stop = rig.desk.look(OriginId::new(origin), from.map(Offset)).await.expect_err(words);
        assert!(stop.message.contains(words), "{stop}");
    };
    refused("x", None, "x is no other node of the cluster").await;
    refused("a", None, "a is no other node of the cluster").await;
    refused("b", Some(1), "no longer holds offset 1: the oldest kept is 2").await;
    refused("b", Some(5), "nothing is applied here from offset 5 on: the next is 4").await;
    assert_eq!(rig.look(Some(4)).await.changes, 0, "there is nothing between");
    assert_eq!(rig.look(None).await.changes, 2);
    rig.end(running).await;
    let stop = rig.desk.look(OriginId::new("b"), None).await.unwrap_err();
    assert!(stop.message.starts_with("the applier does not work in this process now"), "{stop}");
}
