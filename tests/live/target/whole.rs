//! Rows of a table without a key: written one by one, found by all that they hold.

use super::types::{TYPES, a_column_of_each_type};
use super::*;
use tandem::change::wire;

pub(super) fn log() -> Arc<Shape> {
    shape("campus.log", &["line", "size"], &[])
}

type Line = (Option<&'static str>, Option<f64>);

fn line((line, size): Line) -> Option<Image> {
    image([line.map_or(Value::Null, Value::text), size.map_or(Value::Null, Value::Double)])
}

fn insert(row: Line) -> Write {
    Write::Whole(change(&log(), Op::Insert, None, line(row)))
}

fn update(from: Line, to: Line) -> Write {
    Write::Whole(change(&log(), Op::Update, line(from), line(to)))
}

fn delete(row: Line) -> Write {
    Write::Whole(change(&log(), Op::Delete, line(row), None))
}

/// The committed rows, sorted.
async fn lines(site: &Site) -> Vec<(Option<String>, Option<f64>)> {
    let mut lines: Vec<(Option<String>, Option<f64>)> = match site {
        Site::Memory(target) => {
            let row = |image: Image| {
                let size = match image.get(1) {
                    Some(ValueRef::Double(size)) => Some(size),
                    _ => None,
                };
                (image.get(0).and_then(ValueRef::as_text).map(str::to_owned), size)
            };
            target.rows(&log().table).into_iter().map(row).collect()
        }
        Site::Mariadb { server, .. } => server.rows("SELECT line, size FROM campus.log").await,
    };
    lines.sort_by(|one, other| one.partial_cmp(other).expect("no size is NaN"));
    lines
}

async fn check(site: &Site, expected: &[Line]) {
    let expected: Vec<_> = expected.iter().map(|(line, size)| (line.map(str::to_owned), *size)).collect();
    assert_eq!(lines(site).await, expected);
}

#[tokio::test]
async fn of_equal_rows_without_a_key_one_is_changed_and_one_is_deleted() {
    for site in Site::all().await {
        let (a, null) = ((Some("a"), Some(0.1)), (None, None));
        apply(site.target(), 1, &[insert(a), insert(a), insert(a), insert(null), insert(null), put("ann", None, 1)]).await;
        check(&site, &[null, null, a, a, a]).await;
        apply(site.target(), 2, &[delete(a), update(a, (Some("b"), None)), delete(null)]).await;
        check(&site, &[null, a, (Some("b"), None)]).await;
        // In the order given, each on what the one before it left.
        let writes = [update((Some("b"), None), a), delete(a), delete(a), insert((Some("c"), None)), put("bob", None, 2)];
        apply(site.target(), 3, &writes).await;
        check(&site, &[null, (Some("c"), None)]).await;
        assert_eq!(site.rows().await.len(), 2, "the others are written in their turn");
    }
}

#[tokio::test]
async fn a_row_that_only_compares_equal_is_not_the_row() {
    for site in Site::all().await {
        let row = (Some("a"), Some(0.5));
        apply(site.target(), 1, &[insert(row)]).await;
        let others =
            [(Some("A"), Some(0.5)), (Some("a "), Some(0.5)), (Some("a"), None), (None, Some(0.5)), (Some("a"), Some(0.25))];
        let mut transaction = site.target().begin(&mark(2)).await.unwrap();
        for other in others {
            for write in [delete(other), update(other, (Some("b"), None))] {
                let (failed, error) = failure(&mut transaction, &[write]).await;
                assert_eq!((failed, error.disposition()), (Some(0), Disposition::DeadLetter));
                assert!(matches!(error, TargetError::RowMissing { .. }), "{error}");
            }
        }
        // The transaction goes on.
        transaction.write(&[update(row, (Some("b"), None))]).await.unwrap();
        transaction.commit().await.unwrap();
        check(&site, &[(Some("b"), None)]).await;
    }
}

#[tokio::test]
async fn a_missing_row_among_several_is_an_error_of_the_whole() {
    for site in Site::all().await {
        let mut transaction = site.target().begin(&mark(1)).await.unwrap();
        let (_, error) =
            failure(&mut transaction, &[insert((Some("a"), None)), delete((Some("b"), None)), insert((None, None))]).await;
        assert!(matches!(error, TargetError::RowMissing { .. }), "{error}");
        transaction.rollback().await;
        check(&site, &[]).await;
    }
}

#[tokio::test]
async fn what_is_no_whole_row_or_has_a_key_here_is_refused() {
    for site in Site::all().await {
        let mut transaction = site.target().begin(&mark(1)).await.unwrap();
        let part = || Some(Image::of([Some(Value::text("a")), None]));
        let keyed = shape("campus.riders", &["name", "email", "age"], &[]);
        let cases = [
            (change(&log(), Op::Insert, None, part()), "does not hold the whole row"),
            (change(&log(), Op::Delete, part(), None), "does not hold the whole row"),
            (change(&log(), Op::Update, line((None, None)), part()), "does not hold the whole row"),
            (inserted(&keyed, [Value::text("ann"), Value::Null, Value::Null]), "it has a primary key here"),
            (inserted(&shape("campus.log", &["colour"], &[]), [Value::Null]), "there is no column `colour` here"),
            (inserted(&shape("campus.nothing", &["id"], &[]), [Value::Null]), "the table does not exist here"),
        ];
        for (change, expected) in cases {
            let (failed, error) = failure(&mut transaction, &[Write::Whole(change)]).await;
            assert_eq!((failed, error.disposition()), (Some(0), Disposition::DeadLetter), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        transaction.rollback().await;
    }
}

/// Over the wire and back, as every change comes.
fn wired(change: Change) -> Write {
    Write::Whole(wire::decode_change(wire::encode_change(&change).as_bytes()).unwrap())
}

#[tokio::test]
async fn a_value_of_every_type_finds_its_row_and_no_other() {
    let (server, target, held) = a_column_of_each_type().await;
    let tables: Vec<String> =
        TYPES.iter().enumerate().map(|(at, (kind, _))| format!("CREATE TABLE campus.w{at} (c {kind}, n INT)")).collect();
    server.query(&tables.join("; ")).await;
    for (at, (kind, values)) in TYPES.iter().enumerate() {
        let table = format!("campus.w{at}");
        let shape = shape(&table, &["c", "n"], &[]);
        // The values, and NULL.
        let values: Vec<Value> =
            held[..values.len()].iter().chain(held.last()).map(|held| held.image.get(at + 1).unwrap().to_value()).collect();
        let row = |value: usize, n: usize| image([values[value].clone(), Value::Int(n as i64)]);
        let inserted = |value| wired(change(&shape, Op::Insert, None, row(value, value)));
        let deleted = |value, n| wired(change(&shape, Op::Delete, row(value, n), None));
        let mut transaction = target.begin(&mark(at as u64 + 1)).await.unwrap();
        for value in 0..values.len() {
            let next = (value + 1) % values.len();
            let there = wired(change(&shape, Op::Update, row(value, value), row(next, 100)));
            let and_back = wired(change(&shape, Op::Update, row(next, 100), row(value, value)));
            let writes = [inserted(value), inserted(value), there, and_back, deleted(value, value)];
            transaction.write(&writes).await.unwrap_or_else(|error| panic!("{kind}: {value}: {error:?}"));
        }
        for (one, other) in (0..values.len()).flat_map(|one| (0..values.len()).map(move |other| (one, other))) {
            // Some values are equal as they are kept: zero has no sign, a short value of BINARY is padded.
            let same = format!("{:?}", values[one]) == format!("{:?}", values[other]);
            let found = transaction.write(&[deleted(one, other)]).await.map_err(|error| error.error);
            let missing = matches!(found, Err(TargetError::RowMissing { .. }));
            assert!(missing != same, "{kind}: {one} for {other}: {found:?}");
            if same {
                transaction.write(&[inserted(other)]).await.unwrap();
            }
        }
        transaction.commit().await.unwrap();
        let left: Vec<usize> = server.rows(&format!("SELECT n FROM {table} ORDER BY n")).await;
        assert_eq!(left, (0..values.len()).collect::<Vec<_>>(), "{kind}");
        let mut transaction = target.begin(&mark(at as u64 + 1)).await.unwrap();
        let all: Vec<Write> = (0..values.len()).map(|value| deleted(value, value)).collect();
        transaction.write(&all).await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        transaction.commit().await.unwrap();
        assert_eq!(server.first::<u64>(&format!("SELECT COUNT(*) FROM {table}")).await, Some(0), "{kind}");
    }
}
