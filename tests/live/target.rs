//! The contract of `Target`, over every implementation: memory, and a real MariaDB.
//!
//! Each test gets a site: a database that a target writes to while an application uses it too.

use std::sync::Arc;
use std::time::Duration;

use tandem::change::{
    Change, Checks, Column, ColumnKind, Gtid, Hlc, Image, Mark, Offset, Op, OriginId, RowKey, Shape, TableName, Value, ValueRef,
};
use tandem::runtime::{Disposition, Fault};
use tandem::target::mariadb::{MariadbOptions, MariadbTarget};
use tandem::target::memory::{LocalWrite, MemoryOptions, MemoryTable, MemoryTarget};
use tandem::target::{ApplyTransaction, Target, TargetError, Write};

use crate::harness::{PrivateServer, ServerOptions};

mod kept;
mod mariadb;
mod types;
mod whole;

/// A database with the table campus.riders (name, email, age): `name` is its key and compares without case, `email` is
/// unique and may be NULL; and the table campus.log (line, size) without a key.
enum Site {
    Memory(MemoryTarget),
    Mariadb { server: PrivateServer, target: MariadbTarget },
}

const LOCK_WAIT: Duration = Duration::from_secs(1);

async fn target_of(server: &PrivateServer) -> MariadbTarget {
    let mut options = MariadbOptions::new(server.url(), Some(server.password().into()));
    options.lock_wait = LOCK_WAIT;
    MariadbTarget::connect(options).await.expect("the server runs")
}

async fn server() -> PrivateServer {
    PrivateServer::start(ServerOptions::node(1)).await
}

impl Site {
    async fn memory() -> Self {
        let options = MemoryOptions { lock_wait: LOCK_WAIT, ..MemoryOptions::default() };
        let table = MemoryTable { shape: riders(), unique: Some(("email".into(), 1)), refers: None };
        let log = MemoryTable { shape: whole::log(), unique: None, refers: None };
        Self::Memory(MemoryTarget::new([table, log], options))
    }

    async fn mariadb() -> Self {
        let server = server().await;
        server
            .query(
                "CREATE DATABASE campus; CREATE TABLE campus.riders (name VARCHAR(50) PRIMARY KEY, email VARCHAR(100) NULL,
                 age INT NULL, UNIQUE KEY email (email));
                 CREATE TABLE campus.log (line VARCHAR(50) NULL, size DOUBLE NULL, KEY by_line (line))",
            )
            .await;
        let target = target_of(&server).await;
        Self::Mariadb { server, target }
    }

    async fn all() -> [Self; 2] {
        [Self::memory().await, Self::mariadb().await]
    }

    fn target(&self) -> &dyn Target {
        match self {
            Self::Memory(target) => target,
            Self::Mariadb { target, .. } => target,
        }
    }

    /// The application's own transaction: inserts a rider. False where a lock kept it out.
    async fn insert(&self, name: &str, email: Option<&str>, age: i64) -> bool {
        match self {
            Self::Memory(target) => {
                let row = vec![Value::text(name), email.map_or(Value::Null, Value::text), Value::Int(age)];
                let write = LocalWrite::Insert { table: riders().table.clone(), row };
                match target.local_write(&[write]).await {
                    Ok(_) => true,
                    Err(TargetError::Contended { .. }) => false,
                    Err(other) => panic!("{other}"),
                }
            }
            Self::Mariadb { server, .. } => {
                let email = email.map_or("NULL".into(), |email| format!("'{email}'"));
                self::tried(server, &format!("INSERT INTO campus.riders VALUES ('{name}', {email}, {age})")).await
            }
        }
    }

    async fn delete(&self, name: &str) -> bool {
        match self {
            Self::Memory(target) => {
                let write = LocalWrite::Delete { table: riders().table.clone(), key: vec![Value::text(name)] };
                target.local_write(&[write]).await.is_ok()
            }
            Self::Mariadb { server, .. } => {
                self::tried(server, &format!("DELETE FROM campus.riders WHERE name = '{name}'")).await
            }
        }
    }

    /// The committed rows, in the order of their names.
    async fn rows(&self) -> Vec<(String, Option<String>, i64)> {
        match self {
            Self::Memory(target) => {
                let text = |value: Option<ValueRef>| value.and_then(ValueRef::as_text).map(str::to_owned);
                let row = |image: Image| {
                    let Some(ValueRef::Int(age)) = image.get(2) else { panic!("{image:?}") };
                    (text(image.get(0)).unwrap(), text(image.get(1)), age)
                };
                target.rows(&riders().table).into_iter().map(row).collect()
            }
            Self::Mariadb { server, .. } => server.rows("SELECT name, email, age FROM campus.riders ORDER BY name").await,
        }
    }

    /// The last transaction of the server's own history.
    async fn last_commit(&self) -> Gtid {
        match self {
            Self::Memory(target) => target.end().iter().next().expect("something was committed"),
            Self::Mariadb { server, .. } => {
                server.first::<String>("SELECT @@gtid_binlog_pos").await.unwrap().parse().expect("one domain")
            }
        }
    }
}

/// False where a lock kept the statement out.
async fn tried(server: &PrivateServer, sql: &str) -> bool {
    use mysql_async::prelude::Queryable;
    let mut conn = server.conn().await;
    conn.query_drop("SET SESSION innodb_lock_wait_timeout=1").await.unwrap();
    match conn.query_drop(sql).await {
        Ok(()) => true,
        Err(mysql_async::Error::Server(error)) if error.code == 1205 => false,
        Err(other) => panic!("{other} in: {sql}"),
    }
}

fn shape(table: &str, columns: &[&str], key: &[u16]) -> Arc<Shape> {
    let column = |name: &&str| Column { name: (*name).into(), kind: ColumnKind::Unknown, generated: false };
    let columns = columns.iter().map(column).collect();
    Arc::new(Shape { table: TableName::parse(table).unwrap(), columns, key: key.to_vec() })
}

fn riders() -> Arc<Shape> {
    shape("campus.riders", &["name", "email", "age"], &[0])
}

fn mark(next: u64) -> Mark {
    let position = "2-2-5".parse().unwrap();
    Mark {
        origin: OriginId::new("laptop-b"),
        next: Offset(next),
        data: next.checked_sub(1).map(Offset),
        position,
        hlc: Hlc(next),
    }
}

fn image(values: impl IntoIterator<Item = Value>) -> Option<Image> {
    Some(Image::of(values.into_iter().map(Some)))
}

fn change(shape: &Arc<Shape>, op: Op, before: Option<Image>, after: Option<Image>) -> Change {
    Change { shape: shape.clone(), op, before, after, checks: Checks::default() }
}

fn inserted(shape: &Arc<Shape>, values: impl IntoIterator<Item = Value>) -> Change {
    change(shape, Op::Insert, None, image(values))
}

fn rider(name: &str, email: Option<&str>, age: i64) -> Change {
    inserted(&riders(), [Value::text(name), email.map_or(Value::Null, Value::text), Value::Int(age)])
}

fn put(name: &str, email: Option<&str>, age: i64) -> Write {
    Write::Put(rider(name, email, age))
}

fn key(name: &str) -> RowKey {
    RowKey { shape: riders(), values: Box::new([Value::text(name)]) }
}

fn row(name: &str, email: Option<&str>, age: i64) -> (String, Option<String>, i64) {
    (name.into(), email.map(str::to_owned), age)
}

/// Begins, writes, commits.
async fn apply(target: &dyn Target, next: u64, writes: &[Write]) {
    let mut transaction = target.begin(&mark(next)).await.unwrap();
    transaction.write(writes).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn failure(transaction: &mut Box<dyn ApplyTransaction>, writes: &[Write]) -> (Option<usize>, TargetError) {
    let error = transaction.write(writes).await.expect_err("this cannot be written");
    (error.failed, error.error)
}

#[tokio::test]
async fn rows_and_checkpoint_become_durable_together() {
    for site in Site::all().await {
        let target = site.target();
        assert!(target.checkpoints().await.unwrap().is_empty());
        apply(target, 3, &[put("ann", Some("a@x"), 1), put("bob", None, 2), put("cid", None, 3)]).await;
        assert_eq!(site.rows().await, [row("ann", Some("a@x"), 1), row("bob", None, 2), row("cid", None, 3)]);
        assert_eq!(target.checkpoints().await.unwrap()[&OriginId::new("laptop-b")], mark(3));

        let mut transaction = target.begin(&mark(4)).await.unwrap();
        transaction.write(&[Write::Delete(key("bob")), put("dan", None, 4), Write::Delete(key("nobody"))]).await.unwrap();
        transaction.rollback().await;
        assert_eq!(site.rows().await.len(), 3, "nothing is left of it");
        assert_eq!(target.checkpoints().await.unwrap()[&OriginId::new("laptop-b")], mark(3));

        let mut transaction = target.begin(&mark(9)).await.unwrap();
        transaction.write(&[Write::Delete(key("bob")), put("dan", None, 4)]).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(site.rows().await, [row("ann", Some("a@x"), 1), row("cid", None, 3), row("dan", None, 4)]);
        assert_eq!(target.checkpoints().await.unwrap()[&OriginId::new("laptop-b")], mark(9));
    }
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing_and_its_locks_end() {
    for site in Site::all().await {
        let mut transaction = site.target().begin(&mark(1)).await.unwrap();
        transaction.write(&[put("ann", None, 1)]).await.unwrap();
        drop(transaction);
        // The application waits for as long as the lock is held.
        assert!(site.insert("ann", None, 2).await);
        assert_eq!(site.rows().await, [row("ann", None, 2)]);
        assert!(site.target().checkpoints().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_row_that_existed_fills_what_is_missing_and_replaces_nothing() {
    for site in Site::all().await {
        let existing =
            |name: &str, email: Option<&str>, age: i64| Write::Put(Change { op: Op::Read, ..rider(name, email, age) });
        apply(site.target(), 1, &[put("ann", None, 20)]).await;
        apply(site.target(), 2, &[existing("bob", Some("b@x"), 30)]).await;
        for (wanted, rows) in [
            (vec![existing("ann", None, 99)], "the row stands"),
            (vec![existing("cleo", Some("b@x"), 40)], "its unique value is taken"),
            (vec![existing("dora", None, 50), existing("ann", None, 99)], "one of them stands"),
        ] {
            let mut transaction = site.target().begin(&mark(3)).await.unwrap();
            let (_, error) = failure(&mut transaction, &wanted).await;
            assert!(matches!(error, TargetError::UniqueTaken { .. }), "{rows}: {error}");
            transaction.rollback().await;
        }
        assert_eq!(site.rows().await, [row("ann", None, 20), row("bob", Some("b@x"), 30)]);
    }
}

#[tokio::test]
async fn writing_twice_equals_once_and_a_put_replaces() {
    for site in Site::all().await {
        for round in 1..=2 {
            apply(site.target(), round, &[put("ann", Some("a@x"), 1), put("bob", Some("b@x"), 2)]).await;
            apply(
                site.target(),
                10 + round,
                &[put("ann", Some("a2@x"), 5), Write::Delete(key("bob")), Write::Delete(key("bob"))],
            )
            .await;
            assert_eq!(site.rows().await, [row("ann", Some("a2@x"), 5)], "round {round}");
        }
        // The same row by the column's own comparison; its key is written as the change has it.
        apply(site.target(), 20, &[put("ANN", Some("a2@x"), 6)]).await;
        assert_eq!(site.rows().await, [row("ANN", Some("a2@x"), 6)]);
        apply(site.target(), 21, &[Write::Delete(key("aNN "))]).await;
        assert_eq!(site.rows().await, []);
    }
}

#[tokio::test]
async fn a_locked_row_and_a_locked_gap_keep_others_out() {
    for site in Site::all().await {
        for name in ["ann", "eve", "zoe"] {
            assert!(site.insert(name, None, 1).await);
        }
        let mut transaction = site.target().begin(&mark(1)).await.unwrap();
        let held = transaction.lock(&[key("ANN"), key("bob"), key("zoe")]).await.unwrap();
        let there: Vec<bool> = held.iter().map(Option::is_some).collect();
        assert_eq!(there, [true, false, true]);
        let ann = held[0].as_ref().unwrap();
        assert_eq!(ann.key.values[0], Value::text("ann"), "as it is kept here");
        assert_eq!(ann.image.get(2), Some(ValueRef::Int(1)));
        assert!(!site.insert("bob", None, 2).await, "the gap is locked");
        assert!(!site.delete("ann").await, "the row is locked");
        assert!(site.delete("eve").await, "others are not");
        transaction.write(&[put("bob", None, 3)]).await.unwrap();
        assert!(!site.delete("bob").await);
        transaction.commit().await.unwrap();
        assert!(site.delete("bob").await);
        assert_eq!(site.rows().await, [row("ann", None, 1), row("zoe", None, 1)]);
    }
}

#[tokio::test]
async fn the_position_after_locks_covers_whoever_touched_the_rows() {
    for site in Site::all().await {
        for round in 1..=5 {
            assert!(site.insert("ann", None, round).await);
            let own = site.last_commit().await;
            let mut transaction = site.target().begin(&mark(round as u64)).await.unwrap();
            let held = transaction.lock(&[key("ann")]).await.unwrap();
            assert!(held[0].is_some());
            assert!(transaction.position().await.unwrap().covers(own));
            transaction.rollback().await;
            assert!(site.delete("ann").await);
        }
    }
}

#[tokio::test]
async fn holders_of_a_unique_value_are_found_and_locked() {
    for site in Site::all().await {
        assert!(site.insert("ann", Some("x@x"), 1).await);
        assert!(site.insert("dan", None, 1).await);
        let mut transaction = site.target().begin(&mark(1)).await.unwrap();
        let wanted = rider("bob", Some("X@x"), 2);
        let holders = transaction.holders(&wanted).await.unwrap();
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].key.values[0], Value::text("ann"));
        assert_eq!(transaction.holders(&rider("Ann", Some("x@x"), 2)).await.unwrap(), [], "not in its own way");
        assert_eq!(transaction.holders(&rider("cid", None, 2)).await.unwrap(), [], "NULL is nobody's");
        assert_eq!(transaction.holders(&rider("cid", Some("free@x"), 2)).await.unwrap(), []);
        assert!(!site.insert("cid", Some("free@x"), 1).await, "a free value that was looked at is locked");
        assert!(!site.delete("ann").await, "the holder is locked");

        let (failed, error) = failure(&mut transaction, &[put("bob", Some("X@x"), 2)]).await;
        assert_eq!(failed, Some(0));
        assert!(matches!(&error, TargetError::UniqueTaken { index, .. } if index == "email"), "{error}");
        transaction.write(&[Write::Delete(holders[0].key.clone()), Write::Put(wanted)]).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(site.rows().await, [row("bob", Some("X@x"), 2), row("dan", None, 1)]);
    }
}

#[tokio::test]
async fn a_failed_write_leaves_the_earlier_ones() {
    for site in Site::all().await {
        assert!(site.insert("ann", Some("x@x"), 1).await);
        let mut transaction = site.target().begin(&mark(1)).await.unwrap();
        transaction.write(&[put("bob", None, 2)]).await.unwrap();
        let (failed, error) = failure(&mut transaction, &[put("cid", Some("x@x"), 3)]).await;
        assert_eq!(failed, Some(0));
        assert_eq!(error.disposition(), Disposition::DeadLetter);
        let partial = Image::of([Some(Value::text("eve")), None, Some(Value::Int(9))]);
        let partial = change(&riders(), Op::Update, None, Some(partial));
        let (failed, error) = failure(&mut transaction, &[Write::Put(partial)]).await;
        assert_eq!((failed, error.disposition()), (Some(0), Disposition::DeadLetter));
        let strange = inserted(&shape("campus.riders", &["name", "colour"], &[0]), [Value::text("eve"), Value::text("red")]);
        let (failed, error) = failure(&mut transaction, &[put("fay", None, 1), Write::Put(strange)]).await;
        assert_eq!(failed, Some(1));
        assert!(error.to_string().contains("no column `colour`"), "{error}");
        let missing = inserted(&shape("campus.nothing", &["id"], &[0]), [Value::Int(1)]);
        let (_, error) = failure(&mut transaction, &[Write::Put(missing)]).await;
        assert!(error.to_string().contains("campus.nothing: the table does not exist"), "{error}");
        transaction.write(&[put("dan", None, 4)]).await.unwrap();
        transaction.commit().await.unwrap();
        let names: Vec<String> = site.rows().await.into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["ann", "bob", "dan", "fay"]);
    }
}

#[tokio::test]
async fn a_lock_that_somebody_holds_is_a_reason_to_try_again() {
    for site in Site::all().await {
        let mut one = site.target().begin(&mark(1)).await.unwrap();
        one.lock(&[key("ann")]).await.unwrap();
        let other_origin = Mark { origin: OriginId::new("laptop-c"), ..mark(1) };
        let mut other = site.target().begin(&other_origin).await.unwrap();
        let error = other.write(&[put("ann", None, 1)]).await.unwrap_err().error;
        assert!(matches!(error, TargetError::Contended { .. }), "{error}");
        assert!(other.position().await.is_err(), "the transaction is gone");
        one.write(&[put("ann", None, 2)]).await.unwrap();
        one.commit().await.unwrap();
        assert_eq!(site.rows().await, [row("ann", None, 2)]);
    }
}

#[tokio::test]
async fn keys_are_one_where_the_column_says_so() {
    for site in Site::all().await {
        let keys = ["ann", "ANN", "ann  ", "anne", "äñn", "ÄÑN"].map(key);
        let canonical = site.target().canonical(&keys).await.unwrap();
        assert_eq!(canonical[0], canonical[1]);
        assert_eq!(canonical[0], canonical[2]);
        assert_ne!(canonical[0], canonical[3]);
        assert_eq!(canonical[4], canonical[5]);
        let missing = RowKey { shape: shape("campus.nothing", &["id"], &[0]), values: Box::new([Value::Int(1)]) };
        assert!(matches!(site.target().canonical(&[missing]).await, Err(TargetError::Unwritable { .. })));
    }
}
