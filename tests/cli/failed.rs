//! Changes that were set aside, as a person or a script deals with them.

use async_trait::async_trait;
use serde_json::json;
use tandem::observe::{FailedView, FailedWish, RetriedView};
use tandem::runtime::Stop;
use tandem::serve::FailedOrders;

use super::{NOW, Shown};

pub fn letters() -> Vec<FailedView> {
    let row = |value: serde_json::Value| value.as_object().cloned();
    let letter = FailedView {
        id: "laptop-b:12".into(),
        origin: "laptop-b".into(),
        offset: 12,
        table: "campus.bookings".into(),
        key: row(json!({"id": 1})).unwrap(),
        op: "update".into(),
        reason: "campus.bookings: the check `seats` refuses it".into(),
        attempts: 3,
        remedy: "Make checks alike; then retry.".into(),
        written_seconds: NOW - 60,
        before: row(json!({"id": 1, "seats": 2})),
        after: row(json!({"id": 1, "seats": 9, "name": "\u{1b}[2J"})),
    };
    let missing = FailedView {
        id: "laptop-b:40".into(),
        offset: 40,
        reason: "campus.bookings: the table does not exist here".into(),
        remedy: "Create the table; then retry.".into(),
        before: None,
        ..letter.clone()
    };
    vec![missing, letter]
}

/// A node on which the first is mended, the second needs nobody, and others fail in one way or another.
pub struct Mended;

#[async_trait]
impl FailedOrders for Mended {
    async fn retry(&self, wish: FailedWish) -> Result<Vec<RetriedView>, Stop> {
        let ids = if wish.all { letters().into_iter().map(|letter| letter.id).collect() } else { wish.ids };
        let result = |(number, id): (usize, String)| {
            let (outcome, reason) = match number {
                0 => ("applied", None),
                1 => ("newer_stands", None),
                2 => ("failed", Some("campus.bookings: a check refuses it".to_owned())),
                _ => ("refused", Some("the topic of laptop-b no longer holds it".to_owned())),
            };
            RetriedView { id, outcome: outcome.into(), reason }
        };
        Ok(ids.into_iter().enumerate().map(result).collect())
    }

    async fn discard(&self, wish: FailedWish) -> Result<Vec<String>, Stop> {
        match wish.ids.iter().find(|id| letters().iter().all(|letter| letter.id != **id)) {
            Some(id) => Err(Stop::halt(format!("no change `{id}` is set aside"), "`tandem failed list` shows the ids")),
            None if wish.all => Ok(letters().into_iter().map(|letter| letter.id).collect()),
            None => Ok(wish.ids),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_were_set_aside_are_listed_by_their_causes_and_shown() {
    let node = Shown::start(None).await;
    let said = node.place.run(&["failed", "list"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
Create the table; then retry.
ID           TABLE            ROW   CHANGE  ATTEMPTS  REASON
laptop-b:40  campus.bookings  id 1  update         3  campus.bookings: the table does not exist here

Make checks alike; then retry.
ID           TABLE            ROW   CHANGE  ATTEMPTS  REASON
laptop-b:12  campus.bookings  id 1  update         3  campus.bookings: the check `seats` refuses it

When it is mended:   tandem failed retry laptop-b:40
"
    );
    let json: Vec<FailedView> = serde_json::from_str(&node.place.run(&["failed", "list", "--json"]).out).unwrap();
    assert_eq!(json, letters());
    let page: Vec<FailedView> =
        serde_json::from_str(&node.place.run(&["failed", "list", "--json", "--skip", "1", "--limit", "1"]).out).unwrap();
    assert_eq!(page, letters()[1..2]);
    let said = node.place.run(&["failed", "list", "--skip", "2"]);
    assert_eq!((said.code, said.out.as_str()), (0, "No further change is set aside on laptop-a.\n"));
    let said = node.place.run(&["failed", "show", "laptop-b:12"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
laptop-b:12: update of campus.bookings, row with id 1, made on laptop-b at 2027-01-15 07:59:00.
Tried 3 times: campus.bookings: the check `seats` refuses it.
Make checks alike; then retry.

COLUMN  BEFORE       AFTER
id      1            1
name    (not known)  \u{fffd}[2J
seats   2            9
"
    );
    let said = node.place.run(&["failed", "show", "laptop-b:13"]);
    assert_eq!((said.code, said.err.as_str()), (2, "error: there is no such change set aside — see the list\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_tried_again_or_discarded_and_the_exit_code_says_whether_any_is_left() {
    let node = Shown::start(None).await;
    let said = node.place.run(&["failed", "retry", "--all"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(said.out, "laptop-b:40: applied.\nlaptop-b:12: not needed any more: a newer write of the row stands.\n");
    let said = node.place.run(&["failed", "retry", "b:1", "b:2", "b:3", "b:4"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    assert!(said.out.contains("b:3: failed again: campus.bookings: a check refuses it.\n"), "{}", said.out);
    let refused = "b:4: not tried: the topic of laptop-b no longer holds it. Discard it, then run tandem verify --repair.\n";
    assert!(said.out.ends_with(refused), "{}", said.out);
    let said = node.place.run(&["failed", "discard", "laptop-b:12"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "laptop-b:12: discarded.\nTheir rows may differ from those of other nodes: tandem verify finds and settles that.\n"
    );
    let said = node.place.run(&["failed", "discard", "nothing"]);
    let expected = "error: no change `nothing` is set aside — `tandem failed list` shows the ids\n";
    assert_eq!((said.code, said.err.as_str()), (2, expected));
    for unclear in [&["failed", "retry"][..], &["failed", "discard"], &["failed", "discard", "--all", "laptop-b:12"]] {
        let said = node.place.run(unclear);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{unclear:?}");
    }
}
