//! The contract of the room as one suite, run over every shelf: [`hold`] fails by panicking.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::Shelf;
use crate::change::cloud::{CloudOp, CloudRow, CloudVersion, IdPage, RowResult};
use crate::runtime::ManualClock;

/// An implementation under test: empty at first.
#[async_trait]
pub trait Subject: Send {
    fn shelf(&self) -> Arc<dyn Shelf>;

    /// What the shelf goes by.
    fn clock(&self) -> &ManualClock;

    /// Ends what keeps the rows, and opens it again.
    async fn reopen(&mut self);
}

/// Runs the whole suite. Each part has a resource of its own.
pub async fn hold(subject: &mut dyn Subject) {
    counts_tell_what_is_there_and_when_something_came(subject).await;
    the_larger_version_stands_in_whatever_order_writes_come(subject).await;
    of_equal_clocks_the_larger_name_wins(subject).await;
    an_update_keeps_what_it_does_not_tell(subject).await;
    writes_of_one_row_in_one_call_go_one_after_another(subject).await;
    a_row_without_a_version_is_kept_where_there_is_none(subject).await;
    ids_come_in_pages_and_by_days(subject).await;
    ids_and_rows_are_kept_letter_by_letter(subject).await;
    a_version_that_is_no_time_is_refused_by_itself(subject).await;
    of_many_at_once_the_largest_stands_and_each_has_one_effect(subject).await;
    what_was_answered_survives_a_restart(subject).await;
}

fn write(resource: &str, id: &str, op: CloudOp, hlc: u64, row: Value) -> CloudRow {
    let Value::Object(row) = row else { panic!("rows are objects") };
    let version = CloudVersion { hlc, origin: "a".into() };
    CloudRow { key: format!("a:{hlc}"), resource: resource.into(), id: id.into(), op, version, row }
}

fn insert(resource: &str, id: &str, hlc: u64, row: Value) -> CloudRow {
    write(resource, id, CloudOp::Insert, hlc, row)
}

async fn results(subject: &dyn Subject, rows: Vec<CloudRow>) -> Vec<RowResult> {
    let answers = subject.shelf().put(rows).await.expect("the shelf can write");
    answers.into_iter().map(|answer| answer.result).collect()
}

async fn body(subject: &dyn Subject, resource: &str, id: &str) -> Option<Value> {
    subject.shelf().row(resource.into(), id.into()).await.expect("the shelf can read").map(Value::Object)
}

async fn count(subject: &dyn Subject, resource: &str) -> Option<u64> {
    let held = subject.shelf().held().await.expect("the shelf can count");
    held.rows.into_iter().find(|(name, _)| name == resource).map(|(_, rows)| rows)
}

async fn counts_tell_what_is_there_and_when_something_came(subject: &mut dyn Subject) {
    assert_eq!(subject.shelf().held().await.expect("the shelf can count"), Default::default(), "it is not empty");
    subject.clock().set_micros(1_000_000_000);
    let both = vec![insert("counted", "1", 1, json!({"id": 1})), insert("counted", "2", 1, json!({"id": 2}))];
    results(subject, both.clone()).await;
    subject.clock().set_micros(2_000_000_000);
    results(subject, both).await;
    let held = subject.shelf().held().await.expect("the shelf can count");
    assert_eq!((held.rows, held.last_second), (vec![("counted".into(), 2)], Some(1_000)), "what came twice is no news");
    let delete = |hlc| write("counted", "2", CloudOp::Delete, hlc, json!({}));
    results(subject, vec![delete(3), delete(4), write("counted", "9", CloudOp::Delete, 1, json!({}))]).await;
    let held = subject.shelf().held().await.expect("the shelf can count");
    assert_eq!((held.rows, held.last_second), (vec![("counted".into(), 1)], Some(2_000)));
    results(subject, vec![insert("counted", "2", 5, json!({"id": 2})), insert("counted", "2", 6, json!({"id": 2}))]).await;
    assert_eq!(count(subject, "counted").await, Some(2), "what was deleted and is there again is counted once");
}

async fn the_larger_version_stands_in_whatever_order_writes_come(subject: &mut dyn Subject) {
    let new = insert("rooms", "1", 5, json!({"id": 1, "name": "new"}));
    assert_eq!(results(subject, vec![new.clone()]).await, [RowResult::Applied]);
    assert_eq!(results(subject, vec![new.clone()]).await, [RowResult::Duplicate]);
    let old = insert("rooms", "1", 4, json!({"id": 1, "name": "old"}));
    let old_delete = write("rooms", "1", CloudOp::Delete, 3, json!({}));
    assert_eq!(results(subject, vec![old.clone(), old_delete]).await, [RowResult::Stale, RowResult::Stale]);
    assert_eq!(body(subject, "rooms", "1").await, Some(json!({"id": 1, "name": "new"})));
    let delete = write("rooms", "1", CloudOp::Delete, 9, json!({}));
    assert_eq!(results(subject, vec![delete, new, old]).await, [RowResult::Applied, RowResult::Stale, RowResult::Stale]);
    assert_eq!(body(subject, "rooms", "1").await, None, "what was deleted does not come back");
    assert_eq!(results(subject, vec![insert("rooms", "1", 10, json!({"id": 1}))]).await, [RowResult::Applied]);
}

async fn of_equal_clocks_the_larger_name_wins(subject: &mut dyn Subject) {
    let of = |origin: &str| {
        let row = insert("equals", "1", 7, json!({"from": origin}));
        CloudRow { version: CloudVersion { origin: origin.into(), ..row.version.clone() }, ..row }
    };
    assert_eq!(results(subject, vec![of("b")]).await, [RowResult::Applied]);
    assert_eq!(results(subject, vec![of("a"), of("c")]).await, [RowResult::Stale, RowResult::Applied]);
    assert_eq!(body(subject, "equals", "1").await, Some(json!({"from": "c"})));
}

async fn an_update_keeps_what_it_does_not_tell(subject: &mut dyn Subject) {
    let update = |id: &str, hlc, row| write("parts", id, CloudOp::Update, hlc, row);
    results(subject, vec![insert("parts", "1", 5, json!({"id": 1, "name": "a", "size": null}))]).await;
    results(subject, vec![update("1", 6, json!({"name": "b"})), update("2", 6, json!({"name": "c"}))]).await;
    assert_eq!(body(subject, "parts", "1").await, Some(json!({"id": 1, "name": "b", "size": null})));
    assert_eq!(body(subject, "parts", "2").await, Some(json!({"name": "c"})), "of what is not there it keeps what it tells");
    results(subject, vec![write("parts", "1", CloudOp::Delete, 7, json!({})), update("1", 8, json!({"size": 2}))]).await;
    assert_eq!(body(subject, "parts", "1").await, Some(json!({"size": 2})), "nothing of before the delete is in it");
}

async fn writes_of_one_row_in_one_call_go_one_after_another(subject: &mut dyn Subject) {
    let rows = vec![
        insert("calls", "1", 1, json!({"a": 1})),
        write("calls", "1", CloudOp::Update, 2, json!({"b": 2})),
        insert("calls", "1", 1, json!({"a": 1})),
        write("calls", "1", CloudOp::Update, 2, json!({"b": 2})),
        write("calls", "2", CloudOp::Delete, 2, json!({})),
        insert("calls", "2", 1, json!({"a": 1})),
    ];
    let expected =
        [RowResult::Applied, RowResult::Applied, RowResult::Stale, RowResult::Duplicate, RowResult::Applied, RowResult::Stale];
    assert_eq!(results(subject, rows).await, expected);
    assert_eq!(body(subject, "calls", "1").await, Some(json!({"a": 1, "b": 2})));
    assert_eq!(count(subject, "calls").await, Some(1));
    assert_eq!(results(subject, Vec::new()).await, [], "nothing is answered with nothing");
}

async fn a_row_without_a_version_is_kept_where_there_is_none(subject: &mut dyn Subject) {
    results(subject, vec![write("plain", "gone", CloudOp::Delete, 1, json!({}))]).await;
    let shelf = subject.shelf();
    let create = async |id: &str, name: &str| {
        let row = Map::from_iter([("name".to_owned(), name.into())]);
        shelf.create("plain".into(), id.into(), row).await.expect("the shelf can write")
    };
    assert!(create("1", "first").await);
    assert!(!create("1", "second").await);
    assert!(!create("gone", "again").await, "it was deleted");
    assert_eq!(body(subject, "plain", "1").await, Some(json!({"name": "first"})));
    assert_eq!(count(subject, "plain").await, Some(1));
    // Every version beats none.
    assert_eq!(results(subject, vec![insert("plain", "1", 0, json!({"name": "read"}))]).await, [RowResult::Applied]);
}

async fn ids_come_in_pages_and_by_days(subject: &mut dyn Subject) {
    subject.clock().set_micros(1_000_000_000);
    let of = |id: &str| insert("paged", id, 5, json!({"id": id}));
    let gone = write("paged", "0", CloudOp::Delete, 1, json!({}));
    results(subject, vec![of("3"), of("10"), of("2"), gone, insert("other", "5", 5, json!({}))]).await;
    subject.clock().set_micros(5_000_000_000);
    // A new version makes no row younger.
    results(subject, vec![of("4"), insert("paged", "2", 6, json!({"id": "2"}))]).await;
    let shelf = subject.shelf();
    let page = async |since, after: Option<&str>, limit| {
        shelf.ids("paged".into(), since, after.map(str::to_owned), limit).await.expect("the shelf can read")
    };
    assert_eq!(page(None, None, 2).await, IdPage { ids: vec!["10".into(), "2".into()], next: Some("2".into()) });
    assert_eq!(page(None, Some("2"), 2).await, IdPage { ids: vec!["3".into(), "4".into()], next: None });
    assert_eq!(page(Some(2_000), None, 9).await.ids, ["4"]);
    assert_eq!(page(None, Some("4"), 9).await, IdPage::default());
}

async fn ids_and_rows_are_kept_letter_by_letter(subject: &mut dyn Subject) {
    let ids = ["A", "a", "a ", "a'b", "a\\", "a\\'", "é", "🙏", "%", "x'00'"];
    let row = |id: &str| json!({"id": id, "text": format!("{id}\u{0}\n\"'\\ {id}"), "large": 18_446_744_073_709_551_615_u64, "half": 0.1});
    let rows = ids.iter().map(|id| insert("letters", id, 1, row(id))).collect();
    assert_eq!(results(subject, rows).await, [RowResult::Applied; 10]);
    for id in ids {
        assert_eq!(body(subject, "letters", id).await, Some(row(id)), "{id}");
    }
    let mut sorted = ids.map(str::to_owned);
    sorted.sort();
    let page = subject.shelf().ids("letters".into(), None, None, 100).await.expect("the shelf can read");
    assert_eq!(page.ids, sorted, "in the order of their bytes");
}

async fn a_version_that_is_no_time_is_refused_by_itself(subject: &mut dyn Subject) {
    let rows = vec![insert("times", "1", u64::MAX, json!({})), insert("times", "2", i64::MAX as u64, json!({}))];
    assert_eq!(results(subject, rows).await, [RowResult::Refused, RowResult::Applied]);
    assert_eq!(body(subject, "times", "1").await, None);
}

/// Senders that do not wait for each other, each with every row, in different orders.
async fn of_many_at_once_the_largest_stands_and_each_has_one_effect(subject: &mut dyn Subject) {
    const SENDERS: u64 = 6;
    const ROWS: u64 = 40;
    let senders = (0..SENDERS).map(|sender| {
        let shelf = subject.shelf();
        let write_of = move |n: u64| {
            let row = if sender % 2 == 0 { n } else { ROWS - 1 - n };
            insert("crowd", &row.to_string(), 1 + (sender + row) % SENDERS, json!({"from": sender}))
        };
        tokio::spawn(async move {
            let mut applied = 0;
            for some in (0..ROWS).map(write_of).collect::<Vec<_>>().chunks(8) {
                let answers = shelf.put(some.to_vec()).await.expect("the shelf can write");
                applied += answers.iter().filter(|answer| answer.result == RowResult::Applied).count();
                assert!(answers.iter().all(|answer| answer.result != RowResult::Refused));
            }
            applied
        })
    });
    let mut applied = 0;
    for sender in senders.collect::<Vec<_>>() {
        applied += sender.await.expect("no sender panics");
    }
    assert!((ROWS as usize..=(ROWS * SENDERS) as usize).contains(&applied), "{applied}");
    for row in 0..ROWS {
        let winner = (0..SENDERS).max_by_key(|sender| (sender + row) % SENDERS).expect("there are senders");
        assert_eq!(body(subject, "crowd", &row.to_string()).await, Some(json!({"from": winner})), "row {row}");
    }
    assert_eq!(count(subject, "crowd").await, Some(ROWS));
}

async fn what_was_answered_survives_a_restart(subject: &mut dyn Subject) {
    results(subject, vec![insert("kept", "1", 5, json!({"id": 1})), write("kept", "2", CloudOp::Delete, 5, json!({}))]).await;
    subject.reopen().await;
    assert_eq!(body(subject, "kept", "1").await, Some(json!({"id": 1})));
    assert_eq!(results(subject, vec![insert("kept", "2", 4, json!({"id": 2}))]).await, [RowResult::Stale]);
    assert_eq!(count(subject, "kept").await, Some(1));
}
