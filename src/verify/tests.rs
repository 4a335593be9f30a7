//! The desk by itself: what it asks for, and when it is done.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::change::{Column, ColumnKind, RowKey, Shape, Value};
use crate::tail::NoBook;

struct Place {
    desk: VerifyDesk,
    snapshots: Arc<SnapshotDesk>,
    book: Kept,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<VerifyView>>>);

impl VerifyBook for Kept {
    fn load(&self) -> Result<Option<VerifyView>, Stop> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&self, view: &VerifyView) {
        *self.0.lock().unwrap() = Some(view.clone());
    }
}

/// A second later at each look.
#[derive(Default)]
struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now_micros(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

fn riders() -> TableName {
    TableName::new("campus", "riders")
}

fn row(id: i64, here: bool, there: bool) -> Differing {
    let column = Column { name: "id".into(), kind: ColumnKind::Integer, generated: false };
    let shape = Shape { table: riders(), columns: vec![column], key: vec![0] };
    Differing { key: RowKey { shape: Arc::new(shape), values: Box::new([Value::Int(id)]) }, there, here, columns: Vec::new() }
}

impl Place {
    fn new() -> Self {
        Self::with(Kept::default(), Arc::new(Ticks::default()))
    }

    fn with(book: Kept, clock: Arc<dyn Clock>) -> Self {
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let snapshots = Arc::new(SnapshotDesk::open(Box::new(NoBook), clock.clone()).unwrap());
        let kept = Box::new(book.clone());
        let desk = VerifyDesk::open(cluster, snapshots.clone(), clock.clone(), Observer::default(), kept).unwrap();
        Self { desk, snapshots, book, clock }
    }

    /// The process anew, with what is on its disk.
    fn restarted(self) -> Self {
        Self::with(self.book, self.clock)
    }

    fn begin(&self, repair: bool) -> VerifyView {
        self.desk.begin(&[(riders(), 10)], &[], repair, false).unwrap()
    }

    /// What the node asked the others for since the last call.
    fn asks(&self) -> Vec<Ask> {
        let ask = |note| match note {
            Note::Ask(ask) => ask,
            other => panic!("{other:?}"),
        };
        self.snapshots.waiting_notes().into_iter().map(ask).collect()
    }

    fn answer(&self, of: &Ask, after: Option<&str>, ends: bool, compared: Compared) {
        self.answer_about(&riders(), of, after, ends, compared);
    }

    fn answer_about(&self, table: &TableName, of: &Ask, after: Option<&str>, ends: bool, compared: Compared) {
        self.take(Self::prints(table, of, after, ends), compared);
    }

    /// The other node has nothing to compare there.
    fn fail_about(&self, table: &TableName, of: &Ask, compared: Compared) {
        self.take(Prints { failed: compared.failed.clone(), ..Self::prints(table, of, None, true) }, compared);
    }

    fn take(&self, prints: Prints, compared: Compared) {
        let from = OriginId::new("b");
        if self.desk.wants(&from, &prints) {
            self.desk.compared(&from, &prints, compared);
        }
    }

    fn prints(table: &TableName, of: &Ask, after: Option<&str>, ends: bool) -> Prints {
        Prints {
            verify: of.verify.clone(),
            database: table.database.to_string(),
            table: table.table.to_string(),
            columns: Vec::new(),
            after: after.map(Into::into),
            upto: None,
            keys: Vec::new(),
            rows: Vec::new(),
            left_out: Vec::new(),
            ends,
            failed: None,
        }
    }
}

fn compared(rows: u64, differing: &[Differing]) -> Compared {
    Compared { rows, differing: differing.to_vec(), ..Compared::default() }
}

#[test]
fn prints_that_come_twice_count_once_and_the_last_ends_it() {
    let place = Place::new();
    place.begin(false);
    let ask = place.asks().remove(0);
    assert_eq!((ask.publish, ask.tables[0].keys.len()), (false, 0));
    place.answer(&ask, None, false, compared(6, &[]));
    place.answer(&ask, None, false, compared(6, &[]));
    assert!(place.desk.begin(&[(riders(), 1)], &[], false, false).is_err(), "one at a time");
    place.answer(&ask, Some("k"), true, compared(4, &[]));
    let view = place.desk.view().unwrap();
    assert_eq!((view.is_open(), view.rows(), view.verdict().as_str()), (false, (10, 10), "All rows are the same."));
    assert!(place.asks().is_empty());
}

#[test]
fn what_differs_is_looked_at_again_and_only_what_still_does_is_told() {
    let place = Place::new();
    place.begin(true);
    let first = place.asks().remove(0);
    place.answer(&first, None, true, compared(10, &[row(1, true, true), row(2, true, false), row(3, false, true)]));
    let again = place.asks().remove(0);
    assert_eq!((again.verify.round, again.tables[0].keys.len()), (1, 3));
    place.answer(&first, None, true, compared(10, &[row(9, true, true)]));
    place.answer(&again, None, true, compared(3, &[row(1, true, true), row(3, false, true)]));
    let last = place.asks().remove(0);
    place.answer(&last, None, true, compared(2, &[row(1, true, true), row(3, false, true)]));
    let view = place.desk.view().unwrap();
    let kinds: Vec<_> = view.differences.iter().map(|row| (row.key["id"].as_i64().unwrap(), row.kind.as_str())).collect();
    assert_eq!(kinds, [(1, "differs"), (3, "missing_here")]);
    assert_eq!((view.rows().0, view.differing, view.verdict().as_str()), (10, 2, "2 rows differ."));
    // Both sides publish what they have.
    let repair = place.asks();
    assert!(repair[0].publish && repair[0].tables[0].keys.len() == 2, "{repair:?}");
    let own = place.snapshots.orders();
    assert_eq!(own.iter().map(|order| order.tables[0].rows_expected).collect::<Vec<_>>(), [1], "row 3 is not here");
}

#[test]
fn a_table_that_cannot_be_compared_is_told_and_a_comparison_can_be_ended() {
    let place = Place::new();
    place.begin(false);
    let ask = place.asks().remove(0);
    place.answer(&ask, None, true, Compared { failed: Some("no such table".into()), ..Compared::default() });
    let view = place.desk.view().unwrap();
    assert_eq!(view.failed().next().unwrap().reason.as_deref(), Some("no such table"));
    assert_eq!(view.verdict(), "1 of 1 comparisons could not be made.");
    place.begin(false);
    assert!(place.desk.cancel() && !place.desk.cancel());
    assert!(!place.desk.view().unwrap().is_open());
}

/// A question is known again by its round, so that two of one round would be one.
#[test]
fn all_tables_of_a_node_are_looked_at_again_by_one_question() {
    let place = Place::new();
    let bikes = TableName::new("campus", "bikes");
    place.desk.begin(&[(riders(), 1), (bikes.clone(), 1)], &[], false, false).unwrap();
    let first = place.asks().remove(0);
    place.answer(&first, None, true, compared(1, &[row(1, true, true)]));
    place.answer_about(&bikes, &first, None, true, compared(1, &[row(1, true, true)]));
    let again = place.asks();
    assert_eq!((again.len(), again[0].tables.len()), (1, 2), "{again:?}");
}

#[test]
fn after_a_restart_only_what_was_not_done_is_compared_and_earlier_answers_are_not_taken() {
    let place = Place::new();
    let tables = ["bikes", "cars", "riders"].map(|name| TableName::new("campus", name));
    let [bikes, cars, riders] = &tables;
    let begun = place.desk.begin(&tables.clone().map(|table| (table, 10)), &[], false, false).unwrap();
    let first = place.asks().remove(0);
    place.answer_about(bikes, &first, None, true, compared(10, &[]));
    place.answer_about(cars, &first, None, true, compared(10, &[row(1, true, true)]));
    place.answer_about(riders, &first, None, false, compared(5, &[]));
    let place = place.restarted();
    let view = place.desk.view().unwrap();
    assert!(view.is_open() && view.number == begun.number);
    let again = place.asks().remove(0);
    let asked: Vec<&str> = again.tables.iter().map(|asked| &*asked.table).collect();
    assert_eq!(asked, ["cars", "riders"], "what differed is compared once more, because its rows are not kept");
    place.answer_about(riders, &first, Some("k"), true, compared(5, &[row(9, true, true)]));
    place.answer_about(cars, &again, None, true, compared(10, &[]));
    assert!(place.desk.view().unwrap().is_open(), "an answer to the earlier process");
    place.answer_about(riders, &again, None, true, compared(10, &[]));
    let view = place.desk.view().unwrap();
    assert_eq!((view.is_open(), view.rows().0, view.verdict().as_str()), (false, 30, "All rows are the same."));
    // The outcome stays to be seen.
    let place = place.restarted();
    assert_eq!(place.desk.view(), Some(view));
    assert!(place.asks().is_empty());
}

#[test]
fn a_table_that_only_the_other_node_has_is_named_where_all_were_asked_about() {
    let only_there = || Compared { failed: Some("only b has this table".into()), ..Compared::default() };
    let cars = TableName::new("campus", "cars");
    for all in [true, false] {
        let place = Place::new();
        place.desk.begin(&[(riders(), 1)], &[], false, all).unwrap();
        let ask = place.asks().remove(0);
        assert_eq!(ask.all, all);
        place.fail_about(&cars, &ask, only_there());
        place.answer(&ask, None, true, compared(1, &[]));
        let view = place.desk.view().unwrap();
        let named: Vec<&str> = view.parts.iter().filter(|part| part.reason.is_some()).map(|part| &*part.table).collect();
        assert_eq!((view.is_open(), named), (false, if all { vec!["campus.cars"] } else { Vec::new() }));
    }
    // Over a new start it is still about all of them.
    let place = Place::new();
    place.desk.begin(&[(riders(), 1)], &[], false, true).unwrap();
    place.asks();
    let place = place.restarted();
    assert!(place.asks().remove(0).all);
}
