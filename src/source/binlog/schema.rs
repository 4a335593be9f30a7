//! What information_schema says of tables, and whether it was already so at the place of the binlog that is being read.
//!
//! The server tells how a table is *now*; rows may be older. With `binlog_row_metadata=FULL` the rows' own columns are
//! in the binlog, and this only adds what is missing there (which columns are computed, UUIDs, JSON). Without, it is
//! all there is, and must be certain: [`Basis`] lists the three ways it can be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row};

use super::known::{KnownColumn, KnownTable, SystemVersioning};
use super::{connection, statement};
use crate::change::{Gtid, GtidPosition, TableFilter, TableName};
use crate::source::SourceError;

/// An ALTER that holds the table makes information_schema wait; the tailer tries again after this.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How often a table that is altered just while we read is read again.
const READ_AGAIN_MAX: usize = 5;

/// Statements that are remembered, and how much of each: only those of the same second as a transaction matter.
const PASSED_MAX: usize = 100;
const PASSED_BYTES_MAX: usize = 4096;

/// A table's time says that it is older than a transaction, unless it was made this short a time before reading begins. One second
/// would do, if clocks were never set.
const NEW: Duration = Duration::from_secs(60);

pub struct Schema {
    opts: Opts,
    place: String,
    conn: Option<Conn>,
    /// Goes on where it was when a call was dropped; begun anew each time, it might never end.
    fetching: Option<(TableName, Fetching)>,
    tables: BTreeMap<TableName, Fetched>,
    /// The last statements that passed, with the second in which they ended.
    passed: VecDeque<(u64, Box<[u8]>)>,
}

type Fetching = BoxFuture<'static, Result<(Conn, Fetched), SourceError>>;

#[derive(Clone)]
struct Fetched {
    known: Option<Arc<KnownTable>>,
    /// When the table got its definition, and whether every ALTER moves that time.
    created: Option<u64>,
    dated: bool,
    /// The end of the server's history right after.
    position: GtidPosition,
    /// Read rows with it on a basis that a later statement can disprove.
    trusted: bool,
}

/// Where in the history a table is asked for.
pub struct Moment<'a> {
    /// Everything up to the transaction, and itself.
    pub position: &'a GtidPosition,
    pub commit_second: u64,
    /// Nothing else tells which column is which.
    pub must_be_certain: bool,
}

/// Why what the server says now was also so then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Basis {
    /// Nothing was committed after the moment when it was asked.
    CaughtUp,
    /// The definition is older than the transaction, by the server's own clock.
    Older,
    /// Its last change is one we have read in the binlog. A second one within the same second would escape.
    Passed,
}

pub struct Answer {
    pub known: Option<Arc<KnownTable>>,
    pub certain: bool,
}

impl Schema {
    pub fn new(opts: Opts, place: String) -> Self {
        Self { opts, place, conn: None, fetching: None, tables: BTreeMap::new(), passed: VecDeque::new() }
    }

    /// What is known of the table at this moment. Cancel-safe: a call that was dropped goes on with the next for the same table.
    pub async fn ask(&mut self, table: &TableName, moment: &Moment<'_>) -> Result<Answer, SourceError> {
        if !self.tables.contains_key(table) {
            let fetched = self.fetch(table).await?;
            self.tables.insert(table.clone(), fetched);
        }
        let passed =
            self.passed.iter().filter(|(_, text)| statement::mentions(text, &table.table)).map(|(ended, _)| *ended).max();
        let fetched = self.tables.get_mut(table).expect("it was just put there");
        let basis = fetched.basis(moment, passed);
        let disprovable = match basis {
            Some(Basis::Passed) => true,
            Some(Basis::Older) => !fetched.dated,
            Some(Basis::CaughtUp) | None => false,
        };
        fetched.trusted |= moment.must_be_certain && disprovable;
        Ok(Answer { known: fetched.known.clone(), certain: basis.is_some() })
    }

    /// Asks for tables that were made just now, before anything is read: what is written in the same second could not be told from
    /// what was written before they were made. Where reading begins at the history's end, they are [`Basis::CaughtUp`].
    pub async fn ask_for_new(&mut self, filter: &TableFilter) -> Result<(), SourceError> {
        let mut conn = alive(&self.opts, &self.place, self.conn.take()).await?;
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE <> 'VIEW' \
             AND (CREATE_TIME IS NULL OR CREATE_TIME >= NOW() - INTERVAL {} SECOND)",
            NEW.as_secs()
        );
        let new: Vec<(String, String)> =
            conn.query(sql).await.map_err(|error| connection::fault(&self.place, &self.opts, error))?;
        self.conn = Some(conn);
        let new = new.iter().map(|(database, table)| TableName::new(database, table));
        for table in new.filter(|table| filter.captures(table)) {
            let fetched = self.fetch(&table).await?;
            self.tables.insert(table, fetched);
        }
        Ok(())
    }

    /// A statement has passed that may have changed tables: what it mentions is asked anew. Names a table whose rows were
    /// read as if this statement had already run, which is known only now.
    pub fn forget(&mut self, text: &[u8], gtid: Gtid, ended: u64) -> Option<TableName> {
        if self.passed.len() == PASSED_MAX {
            self.passed.pop_front();
        }
        self.passed.push_back((ended, text[..text.len().min(PASSED_BYTES_MAX)].into()));
        let whole_database = statement::is_about_database(text);
        let mut misread = None;
        self.tables.retain(|table, fetched| {
            let mentioned = whole_database || statement::mentions(text, &table.table);
            if mentioned && fetched.trusted && fetched.position.covers(gtid) {
                misread = Some(table.clone());
            }
            !mentioned
        });
        misread
    }

    async fn fetch(&mut self, table: &TableName) -> Result<Fetched, SourceError> {
        if self.fetching.as_ref().is_some_and(|(asked, _)| asked != table) {
            self.fetching = None;
        }
        let (opts, place, conn) = (&self.opts, &self.place, &mut self.conn);
        let (_, fetching) = self.fetching.get_or_insert_with(|| {
            let fetching = fetch(opts.clone(), place.clone(), conn.take(), table.clone());
            (table.clone(), Box::pin(fetching))
        });
        let fetched = fetching.await;
        self.fetching = None;
        let (conn, fetched) = fetched?;
        self.conn = Some(conn);
        Ok(fetched)
    }
}

/// A connection to ask with. One that was idle for hours may have been closed by the server.
async fn alive(opts: &Opts, place: &str, conn: Option<Conn>) -> Result<Conn, SourceError> {
    if let Some(mut conn) = conn
        && conn.ping().await.is_ok()
    {
        return Ok(conn);
    }
    let mut conn = connection::open(opts, place).await?;
    let set = format!("SET time_zone = '+00:00', lock_wait_timeout = {}", LOCK_WAIT.as_secs());
    conn.query_drop(set).await.map_err(|error| connection::fault(place, opts, error))?;
    Ok(conn)
}

async fn fetch(opts: Opts, place: String, conn: Option<Conn>, table: TableName) -> Result<(Conn, Fetched), SourceError> {
    let fault = |error| connection::fault(&place, &opts, error);
    let mut conn = alive(&opts, &place, conn).await?;
    for _ in 0..READ_AGAIN_MAX {
        if let Some(fetched) = read(&mut conn, &table).await.map_err(fault)? {
            return Ok((conn, fetched));
        }
    }
    Err(SourceError::Busy { place: place.clone(), reason: format!("{table} is being altered again and again") })
}

impl Fetched {
    fn basis(&self, moment: &Moment<'_>, passed: Option<u64>) -> Option<Basis> {
        if moment.position.covers_all(&self.position) {
            return Some(Basis::CaughtUp);
        }
        let created = self.created?;
        if created < moment.commit_second {
            return Some(Basis::Older);
        }
        // The statement's end is known to the second; the file's time may already be in the next.
        passed.filter(|passed| created <= passed + 1).map(|_| Basis::Passed)
    }
}

/// `None` where the table changed while it was read.
async fn read(conn: &mut Conn, table: &TableName) -> mysql_async::Result<Option<Fetched>> {
    let name = (&*table.database, &*table.table);
    let state = "SELECT ENGINE, TABLE_TYPE, UNIX_TIMESTAMP(CREATE_TIME) FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    let before: Option<(Option<String>, String, Option<u64>)> = conn.exec_first(state, name).await?;
    let columns: Vec<Row> = conn
        .exec(
            "SELECT COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA, GENERATION_EXPRESSION \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            name,
        )
        .await?;
    let primary_key: Vec<String> = conn
        .exec(
            "SELECT COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX",
            name,
        )
        .await?;
    let hash_keys: Option<usize> = conn
        .exec_first(
            "SELECT COUNT(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_TYPE = 'HASH' AND NON_UNIQUE = 0",
            name,
        )
        .await?;
    let checks: Vec<String> = conn
        .exec(
            "SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ?",
            name,
        )
        .await?;
    let after: Option<(Option<String>, String, Option<u64>)> = conn.exec_first(state, name).await?;
    let position: String = conn.query_first("SELECT @@gtid_binlog_pos").await?.unwrap_or_default();
    if before != after {
        return Ok(None);
    }
    let position = position.parse().unwrap_or_default();
    let Some((engine, table_type, created)) = after else {
        return Ok(Some(Fetched { known: None, created: None, dated: false, position, trusted: false }));
    };
    let columns = columns.into_iter().map(|row| column(row, &checks)).collect::<Option<Vec<_>>>();
    let columns = columns.ok_or_else(|| mysql_async::Error::Other("information_schema.COLUMNS has another form".into()))?;
    // Every index of MEMORY is a hash, of what the index itself holds.
    let in_memory = engine.as_ref().is_some_and(|engine| engine.eq_ignore_ascii_case("MEMORY"));
    let hash_keys = hash_keys.filter(|_| !in_memory).unwrap_or_default();
    let known = KnownTable { columns, primary_key, system_versioned: table_type == "SYSTEM VERSIONED", hash_keys };
    // InnoDB takes the time from the definition's file, which every ALTER writes anew; others keep it in the data.
    let dated = engine.is_some_and(|engine| engine.eq_ignore_ascii_case("InnoDB"));
    Ok(Some(Fetched { known: Some(Arc::new(known)), created, dated, position, trusted: false }))
}

fn column(row: Row, checks: &[String]) -> Option<KnownColumn> {
    let text = |at: usize| row.get_opt::<Option<String>, usize>(at)?.ok();
    let name = text(0)??;
    let extra = text(4)?.unwrap_or_default().to_uppercase();
    let expression = text(5)?.unwrap_or_default().to_uppercase();
    let system_versioning = match expression.trim() {
        "ROW START" => Some(SystemVersioning::RowStart),
        "ROW END" => Some(SystemVersioning::RowEnd),
        _ => None,
    };
    let json = format!("json_valid(`{}`)", name.replace('`', "``"));
    Some(KnownColumn {
        json: checks.iter().any(|check| check.trim().eq_ignore_ascii_case(&json)),
        column_type: text(1)??,
        character_set: text(2)?,
        collation: text(3)?,
        generated: system_versioning.is_none() && (extra.contains("VIRTUAL") || extra.contains("STORED GENERATED")),
        invisible: extra.contains("INVISIBLE"),
        system_versioning,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(created: Option<u64>, position: &str) -> Fetched {
        Fetched { known: None, created, dated: true, position: position.parse().unwrap(), trusted: false }
    }

    #[test]
    fn what_the_server_says_now_counts_only_where_it_was_so_then() {
        let check = |created, asked_at: &str, read: &str, second, passed, expected| {
            let position: GtidPosition = read.parse().unwrap();
            let moment = Moment { position: &position, commit_second: second, must_be_certain: true };
            assert_eq!(fetched(created, asked_at).basis(&moment, passed), expected, "{created:?} {asked_at} {read}");
        };
        check(Some(200), "0-1-9", "0-1-9", 100, None, Some(Basis::CaughtUp));
        check(Some(99), "0-1-9", "0-1-5", 100, None, Some(Basis::Older));
        check(Some(100), "0-1-9", "0-1-5", 100, None, None);
        check(Some(100), "0-1-9", "0-1-5", 100, Some(100), Some(Basis::Passed));
        check(Some(101), "0-1-9", "0-1-5", 100, Some(100), Some(Basis::Passed));
        check(Some(150), "0-1-9", "0-1-5", 100, Some(100), None);
        check(None, "0-1-9,1-1-1", "0-1-9", 100, Some(100), None);
    }

    #[test]
    fn a_statement_that_disproves_what_was_read_names_the_table() {
        let table = TableName::new("d", "t");
        let mut schema = Schema::new(Opts::default(), String::new());
        let gtid = "0-1-7".parse().unwrap();
        let mut put = |trusted, position: &str| {
            let fetched = Fetched { trusted, ..fetched(Some(100), position) };
            schema.tables.insert(table.clone(), fetched);
            let misread = schema.forget(b"ALTER TABLE t ADD c INT", gtid, 100);
            assert!(schema.tables.is_empty());
            misread
        };
        assert_eq!(put(true, "0-1-9"), Some(table.clone()));
        assert_eq!(put(false, "0-1-9"), None);
        assert_eq!(put(true, "0-1-6"), None);
    }
}
