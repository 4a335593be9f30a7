//! Rows in a MariaDB: where others want to query what came, or where it is backed up with other databases.
//!
//! Two tables in a schema of the receiver's own, which are made where they are missing. Others read them; what they wrote would not be
//! counted. Several receivers may share them: rows are locked before they are decided, and a transaction that the server ends in favour of
//! another is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::prelude::{FromRow, Queryable as _};
use mysql_async::{Conn, Error, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::decide::{self, Known, decide};
use super::{Held, Shelf, ShelfError};
use crate::change::cloud::{CloudRow, CloudVersion, IdPage, RowAnswer, RowResult};
use crate::runtime::Clock;

/// REPEATABLE READ locks the gap where a missing row would be, so that nobody else writes it between our look and our write. Strict, so
/// that what does not fit is an error and not cut off. No list of keys is turned into a join, or a lock of a few rows would become
/// one of the table.
const SET_UP: [&str; 3] = [
    "SET NAMES utf8mb4",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE",
    "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit=1, completion_type=0, sql_safe_updates=0,
        sql_select_limit=DEFAULT, in_predicate_conversion_threshold=0, innodb_lock_wait_timeout=10, lc_messages='en_US'",
];

/// Ids are kept as bytes: so no collation calls two of them equal, and one of the longest fits into a key.
const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS cloud_rows (
        resource VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, id VARBINARY(1024) NOT NULL,
        hlc BIGINT NOT NULL, origin VARBINARY(255) NOT NULL,
        body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL COMMENT 'the row as JSON; NULL: deleted',
        first_second BIGINT NOT NULL, last_second BIGINT NOT NULL,
        PRIMARY KEY (resource, id)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    "CREATE TABLE IF NOT EXISTS cloud_held (
        resource VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        rows_held BIGINT NOT NULL, last_second BIGINT NOT NULL) ENGINE=InnoDB",
];

/// For one statement, a commit included.
const WITHIN: Duration = Duration::from_secs(60);

const CONNECTIONS_MAX: usize = 8;

/// Rows that one statement asks for: with the longest ids it has 400 KB, and servers take 1 MB at least.
const ASKED_MAX: usize = 200;

/// Bytes of one statement that writes, where a single row is not larger.
const STATEMENT_BYTES: usize = 2 << 20;

/// Of a statement beside the row that it writes.
const AROUND_BYTES: usize = 8 << 10;

/// Attempts at a transaction that the server ends in favour of another.
const ATTEMPTS: u32 = 10;

/// Keeps rows in `cloud_rows`. Clones are the same shelf.
#[derive(Clone)]
pub struct MariadbShelf {
    pool: Pool,
    /// For messages.
    place: Arc<str>,
    clock: Arc<dyn Clock>,
    /// Of this process one transaction at a time: those that meet would only be ended by the server.
    turn: Arc<Mutex<()>>,
    /// The largest statement that the server takes.
    packet_bytes: usize,
}

/// What is to be written, with an answer for each.
enum Work {
    Rows(Vec<CloudRow>),
    Create { resource: String, id: String, row: Map<String, Value> },
}

/// A row by its resource and id.
type Name = (String, String);

/// What is known of rows that are locked, as it was and as it will be.
type Rows = BTreeMap<Name, (Option<Known>, Option<Known>)>;

/// Why a transaction came to nothing.
enum Broken {
    Server(Error),
    Kept(ShelfError),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<ShelfError> for Broken {
    fn from(error: ShelfError) -> Self {
        Self::Kept(error)
    }
}

impl MariadbShelf {
    /// Logs in, and makes the tables in the schema that `opts` names. They need no privilege but CREATE, SELECT, INSERT and UPDATE there.
    pub async fn open(opts: Opts, clock: Arc<dyn Clock>) -> Result<Self, ShelfError> {
        let place: Arc<str> = format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port()).into();
        let constraints = PoolConstraints::new(0, CONNECTIONS_MAX).expect("the least is not more than the most");
        let opts = OptsBuilder::from_opts(opts)
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 30))
            .tcp_keepalive(Some(Duration::from_secs(20)))
            .stmt_cache_size(Some(0))
            .setup(SET_UP.to_vec())
            .pool_opts(PoolOpts::default().with_constraints(constraints));
        let (pool, turn) = (Pool::new(opts), Arc::default());
        let mut shelf = Self { pool, place, clock, turn, packet_bytes: 0 };
        let mut conn = shelf.conn().await?;
        for table in TABLES {
            shelf.within(conn.query_drop(table)).await?;
        }
        let facts: Vec<(String, usize)> = shelf.rows(&mut conn, "SELECT VERSION(), @@max_allowed_packet").await?;
        let Some((_, packet_bytes)) = facts.into_iter().next().filter(|(version, _)| version.contains("MariaDB")) else {
            return Err(shelf.fault("it is not MariaDB"));
        };
        shelf.packet_bytes = packet_bytes;
        Ok(shelf)
    }

    async fn conn(&self) -> Result<Conn, ShelfError> {
        self.within(self.pool.get_conn()).await
    }

    async fn within<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, ShelfError> {
        match timeout(WITHIN, asked).await {
            Ok(answer) => answer.map_err(|error| self.of_server(&error)),
            Err(_) => Err(self.fault(format!("no answer within {} s", WITHIN.as_secs()))),
        }
    }

    async fn rows<T: FromRow + Send + 'static>(&self, conn: &mut Conn, sql: &str) -> Result<Vec<T>, ShelfError> {
        self.within(conn.query(sql)).await
    }

    fn fault(&self, reason: impl std::fmt::Display) -> ShelfError {
        ShelfError {
            reason: format!("{}: {reason}", self.place),
            remedy: "see that the database runs, and that the account may create, read and write tables in the schema",
            is_full: false,
        }
    }

    fn of_server(&self, error: &Error) -> ShelfError {
        match error {
            // What the server says of accounts and names holds no value of a row; what it says else may.
            Error::Server(error) if matches!(error.code, 1044 | 1045 | 1049 | 1142 | 1227 | 1698) => self.fault(&error.message),
            // The disk is full, or the table.
            Error::Server(error) if matches!(error.code, 1021 | 1114) => {
                let reason = format!("{}: the server has no room left (error {})", self.place, error.code);
                ShelfError { reason, remedy: "make room on the disk of the database", is_full: true }
            }
            Error::Server(error) => self.fault(format!("the server answered with error {}", error.code)),
            other => self.fault(other),
        }
    }

    /// Does it in one transaction, and again where that had to give way to another.
    async fn write(&self, work: &Work) -> Result<Vec<RowAnswer>, ShelfError> {
        let now = i64::try_from(self.clock.now_seconds()).map_err(|error| self.fault(error))?;
        let _turn = self.turn.lock().await;
        let mut attempts = 1;
        loop {
            let mut conn = self.conn().await?;
            let error = match timeout(WITHIN, self.transaction(&mut conn, work, now)).await {
                Ok(Ok(answers)) => return Ok(answers),
                Ok(Err(error)) => error,
                // The connection goes with what was begun on it.
                Err(_) => return Err(self.fault(format!("no answer within {} s", WITHIN.as_secs()))),
            };
            // What it fails with tells nothing new.
            let _ = timeout(WITHIN, conn.query_drop("ROLLBACK")).await;
            match error {
                Broken::Server(error) if gave_way(&error) && attempts < ATTEMPTS => attempts += 1,
                Broken::Server(error) => return Err(self.of_server(&error)),
                Broken::Kept(error) => return Err(error),
            }
        }
    }

    async fn transaction(&self, conn: &mut Conn, work: &Work, now: i64) -> Result<Vec<RowAnswer>, Broken> {
        conn.query_drop("START TRANSACTION").await?;
        let mut rows = lock(conn, work).await?;
        let answers = match work {
            Work::Create { resource, id, row } => {
                let (before, after) = rows.get_mut(&(resource.clone(), id.clone())).expect("it was asked for");
                *after = decide::first(before.as_ref(), row)?;
                vec![RowAnswer::of(if after.is_some() { RowResult::Applied } else { RowResult::Duplicate })]
            }
            Work::Rows(writes) => {
                let decided = writes.iter().map(|row| self.decide(row, &mut rows));
                decided.collect::<Result<_, ShelfError>>()?
            }
        };
        for statement in statements(&rows, now, STATEMENT_BYTES.min(self.packet_bytes)) {
            conn.query_drop(statement).await?;
        }
        conn.query_drop("COMMIT").await?;
        Ok(answers)
    }

    fn decide(&self, row: &CloudRow, rows: &mut Rows) -> Result<RowAnswer, ShelfError> {
        let (before, after) = rows.get_mut(&(row.resource.clone(), row.id.clone())).expect("it was asked for");
        let (answer, then) = decide(after.as_ref().or(before.as_ref()), row.clone())?;
        let Some(then) = then else { return Ok(answer) };
        let bytes = value(&row.resource, &row.id, &then, 0).len() + AROUND_BYTES;
        if bytes > self.packet_bytes {
            let error = format!("its {bytes} bytes are more than the database takes at once (max_allowed_packet)");
            return Ok(RowAnswer { result: RowResult::Refused, error: Some(error) });
        }
        *after = Some(then);
        Ok(answer)
    }
}

/// True where the server ended the transaction for the sake of another: a deadlock, or a lock that was not given.
fn gave_way(error: &Error) -> bool {
    matches!(error, Error::Server(error) if matches!(error.code, 1205 | 1213 | 1020))
}

/// Looks at the rows, and keeps others from writing them, those that are missing included.
async fn lock(conn: &mut Conn, work: &Work) -> Result<Rows, Error> {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    match work {
        Work::Create { resource, id, .. } => {
            names.insert(resource, BTreeSet::from([id.as_str()]));
        }
        Work::Rows(rows) => {
            for row in rows {
                names.entry(&row.resource).or_default().insert(&row.id);
            }
        }
    }
    let mut rows = Rows::new();
    for (resource, ids) in names {
        let all: Vec<&str> = ids.into_iter().collect();
        rows.extend(all.iter().map(|id| ((resource.to_owned(), (*id).to_owned()), (None, None))));
        for some in all.chunks(ASKED_MAX) {
            let ids: Vec<String> = some.iter().map(|id| bytes(id)).collect();
            let sql = format!(
                "SELECT id, hlc, origin, body FROM cloud_rows FORCE INDEX (PRIMARY) WHERE resource = {} AND id IN ({}) FOR UPDATE",
                text(resource),
                ids.join(",")
            );
            for (id, hlc, origin, body) in conn.query::<(String, u64, String, Option<String>), _>(sql).await? {
                let known = Known { version: CloudVersion { hlc, origin }, body };
                rows.insert((resource.to_owned(), id), (Some(known), None));
            }
        }
    }
    Ok(rows)
}

/// What writes the rows that changed, and counts them.
fn statements(rows: &Rows, now: i64, bytes_max: usize) -> Vec<String> {
    const ROWS: &str = "INSERT INTO cloud_rows (resource, id, hlc, origin, body, first_second, last_second) VALUES ";
    const OVER: &str = " ON DUPLICATE KEY UPDATE hlc = VALUES(hlc), origin = VALUES(origin), body = VALUES(body),
        last_second = VALUES(last_second)";
    let (mut statements, mut statement) = (Vec::new(), String::new());
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for ((resource, id), (before, after)) in rows {
        let Some(after) = after else { continue };
        *counts.entry(resource).or_default() += decide::grows_by(before.as_ref(), after);
        let value = value(resource, id, after, now);
        if !statement.is_empty() && statement.len() + value.len() + AROUND_BYTES > bytes_max {
            statements.push(std::mem::take(&mut statement) + OVER);
        }
        statement.push_str(if statement.is_empty() { ROWS } else { "," });
        statement.push_str(&value);
    }
    if !statement.is_empty() {
        statements.push(statement + OVER);
    }
    for (resource, grows_by) in counts {
        statements.push(format!(
            "INSERT INTO cloud_held (resource, rows_held, last_second) VALUES ({}, {grows_by}, {now})
             ON DUPLICATE KEY UPDATE rows_held = rows_held + VALUES(rows_held),
                last_second = GREATEST(last_second, VALUES(last_second))",
            text(resource)
        ));
    }
    statements
}

fn value(resource: &str, id: &str, row: &Known, now: i64) -> String {
    let Known { version: CloudVersion { hlc, origin }, body } = row;
    let body = body.as_deref().map_or_else(|| "NULL".into(), text);
    format!("({}, {}, {hlc}, {}, {body}, {now}, {now})", text(resource), bytes(id), bytes(origin))
}

/// A text literal: of what our sessions have, these three letters alone mean something in it.
fn text(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 16);
    literal.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' => literal.push_str("\\'"),
            '\\' => literal.push_str("\\\\"),
            '\0' => literal.push_str("\\0"),
            letter => literal.push(letter),
        }
    }
    literal.push('\'');
    literal
}

/// A literal of bytes, which have no collation.
fn bytes(text: &str) -> String {
    let mut literal = String::with_capacity(2 * text.len() + 3);
    literal.push_str("x'");
    for byte in text.bytes() {
        write!(literal, "{byte:02x}").expect("texts take what is written");
    }
    literal.push('\'');
    literal
}

#[async_trait]
impl Shelf for MariadbShelf {
    async fn put(&self, rows: Vec<CloudRow>) -> Result<Vec<RowAnswer>, ShelfError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.write(&Work::Rows(rows)).await
    }

    async fn create(&self, resource: String, id: String, row: Map<String, Value>) -> Result<bool, ShelfError> {
        let answers = self.write(&Work::Create { resource, id, row }).await?;
        Ok(answers.first().is_some_and(|answer| answer.result == RowResult::Applied))
    }

    async fn ids(
        &self,
        resource: String,
        since: Option<u64>,
        after: Option<String>,
        limit: usize,
    ) -> Result<IdPage, ShelfError> {
        // One more, to know whether there are more.
        let sql = format!(
            "SELECT id FROM cloud_rows FORCE INDEX (PRIMARY) WHERE resource = {} AND id > {} AND first_second >= {}
             AND body IS NOT NULL ORDER BY id LIMIT {}",
            text(&resource),
            bytes(&after.unwrap_or_default()),
            since.unwrap_or(0),
            limit + 1
        );
        let mut conn = self.conn().await?;
        let mut ids: Vec<String> = self.rows(&mut conn, &sql).await?;
        let more = ids.len() > limit;
        ids.truncate(limit);
        Ok(IdPage { next: ids.last().filter(|_| more).cloned(), ids })
    }

    async fn row(&self, resource: String, id: String) -> Result<Option<Map<String, Value>>, ShelfError> {
        let sql = format!(
            "SELECT body FROM cloud_rows WHERE resource = {} AND id = {} AND body IS NOT NULL",
            text(&resource),
            bytes(&id)
        );
        let mut conn = self.conn().await?;
        let body: Option<String> = self.rows(&mut conn, &sql).await?.into_iter().next();
        body.as_deref().map(decide::read).transpose()
    }

    async fn held(&self) -> Result<Held, ShelfError> {
        let mut conn = self.conn().await?;
        let sql = "SELECT resource, rows_held, last_second FROM cloud_held ORDER BY resource";
        let rows: Vec<(String, u64, u64)> = self.rows(&mut conn, sql).await?;
        let last_second = rows.iter().map(|(_, _, last)| *last).max();
        Ok(Held { rows: rows.into_iter().map(|(resource, rows, _)| (resource, rows)).collect(), last_second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_what_they_were_and_nothing_more() {
        assert_eq!(text("a'b\\c\0d\n🙏"), "'a\\'b\\\\c\\0d\n🙏'");
        assert_eq!((bytes("a'é"), bytes("")), ("x'6127c3a9'".into(), "x''".into()));
    }

    #[test]
    fn statements_are_divided_by_bytes_and_count_each_resource() {
        let known =
            |body: Option<&str>| Known { version: CloudVersion { hlc: 1, origin: "a".into() }, body: body.map(str::to_owned) };
        let large = "x".repeat(STATEMENT_BYTES / 2);
        let mut rows = Rows::new();
        for id in ["1", "2", "3"] {
            rows.insert(("rooms".into(), id.into()), (None, Some(known(Some(&large)))));
        }
        rows.insert(("cameras".into(), "1".into()), (Some(known(Some("{}"))), Some(known(None))));
        rows.insert(("cameras".into(), "2".into()), (Some(known(Some("{}"))), None));
        let statements = statements(&rows, 7, STATEMENT_BYTES);
        let written: Vec<bool> = statements.iter().map(|statement| statement.contains("cloud_rows")).collect();
        assert_eq!(written, [true, true, true, false, false]);
        assert!(statements[3].contains("('cameras', -1, 7)") && statements[4].contains("('rooms', 3, 7)"));
        assert!(!statements[0].contains("x'32'"), "what did not change is not written");
    }
}
