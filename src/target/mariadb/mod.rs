//! A node's MariaDB, through the client protocol.
//!
//! Needs of the account: SELECT, INSERT, UPDATE, DELETE on the synced tables, ALL on `tandem`, and TRIGGER to see
//! triggers. Tables it can keep are InnoDB tables with a primary key, or without any key; [`MariadbTarget::table_faults`] names the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::Row;
use secrecy::SecretString;

use super::{ApplyTransaction, CanonicalKey, Defined, Held, Parked, Range, SchemaEntry, Seeding, Target, TargetError, Tied};
use crate::change::ddl::ColumnNow;
use crate::change::{Change, GtidPosition, Hlc, Image, Mark, Offset, OriginId, RowKey, SchemaChange, Shape, TableName};

mod advice;
mod canonical;
mod chunk;
mod ddl;
mod facts;
mod fault;
mod kept;
mod lease;
mod literal;
mod own_tables;
mod places;
mod preflight;
mod read;
mod references;
mod rights;
mod schema;
mod seeding;
mod session;
mod settle;
mod statement;
mod transaction;

pub use chunk::{Columns, Rows, TableSize, Wanted};
pub use facts::{Facts, TableFacts};
pub use kept::{Kept, KeptConflict, KeptDeadLetter};
pub use lease::{Asked, Lease};
pub use preflight::TableFault;

use canonical::Weights;
use schema::Schemas;
use session::Session;
use transaction::MariadbTransaction;

/// Where the database is, and how long we wait for it.
#[derive(Clone, Debug)]
pub struct MariadbOptions {
    /// `mysql://user@host:3306/database`, without the password; options after `?` are the driver's, such as
    /// `require_ssl=true`.
    pub url: String,
    pub password: Option<SecretString>,
    pub connect_limit: Duration,
    /// For one statement, a commit included. A statement is small; a commit can be large.
    pub statement_limit: Duration,
    /// For a row that somebody else has locked. Short, because we hold locks that the application waits for.
    pub lock_wait: Duration,
}

impl MariadbOptions {
    pub fn new(url: impl Into<String>, password: Option<SecretString>) -> Self {
        Self {
            url: url.into(),
            password,
            connect_limit: Duration::from_secs(10),
            statement_limit: Duration::from_secs(120),
            lock_wait: Duration::from_secs(3),
        }
    }
}

/// A node's database. Cheap to clone: all clones share connections and what they know of the tables.
#[derive(Clone)]
pub struct MariadbTarget(Arc<Inner>);

struct Inner {
    options: MariadbOptions,
    schemas: Schemas,
    weights: Weights,
    /// Values of columns that are no longer here, since somebody last asked.
    left_out: Mutex<BTreeMap<TableName, u64>>,
    idle: Mutex<Vec<Session>>,
}

/// Connections kept for the next use: an apply transaction, and a question beside it.
const IDLE_MAX: usize = 4;

impl Inner {
    fn new(options: MariadbOptions) -> Self {
        let (schemas, weights, left_out, idle) = Default::default();
        Self { options, schemas, weights, left_out, idle }
    }

    fn count_left_out(&self, table: &TableName, values: u64) {
        *self.left_out.lock().unwrap_or_else(PoisonError::into_inner).entry(table.clone()).or_default() += values;
    }

    async fn session(&self) -> Result<Session, TargetError> {
        let idle = self.idle().pop();
        match idle {
            Some(session) => Ok(session),
            None => self.fresh().await,
        }
    }

    async fn fresh(&self) -> Result<Session, TargetError> {
        Session::connect(&self.options).await
    }

    fn give_back(&self, session: Session) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(session);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MariadbTarget {
    /// Logs in and makes the database `tandem` where it is missing.
    pub async fn connect(options: MariadbOptions) -> Result<Self, TargetError> {
        let mut session = Session::connect(&options).await?;
        own_tables::prepare(&mut session).await?;
        own_tables::clean_up(&mut session).await?;
        own_tables::note_columns(&mut session).await?;
        let inner = Inner::new(options);
        inner.give_back(session);
        Ok(Self(Arc::new(inner)))
    }

    /// Logs in and changes nothing: for whoever only looks.
    pub async fn look(options: MariadbOptions) -> Result<Self, TargetError> {
        let session = Session::connect(&options).await?;
        let inner = Inner::new(options);
        inner.give_back(session);
        Ok(Self(Arc::new(inner)))
    }

    /// Looks at every table anew at its next use: for whoever knows that a table was changed.
    pub fn forget_tables(&self) {
        self.0.schemas.forget_all();
    }

    /// Values of columns that are no longer here and were left out, by table, since the last call.
    pub fn take_left_out(&self) -> BTreeMap<TableName, u64> {
        std::mem::take(&mut *self.0.left_out.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn give_back(&self, session: Session) {
        self.0.give_back(session);
    }

    /// A query that may be asked again. The session comes back with its answer.
    async fn rows(&self, sql: &[u8], task: &str) -> Result<(Session, Vec<Row>), TargetError> {
        let mut session = self.0.session().await?;
        let was_idle = session.used;
        match session.rows(sql, task).await {
            Ok(rows) => Ok((session, rows)),
            // The server closes connections that were idle for long.
            Err(TargetError::Unreachable { .. }) if was_idle => {
                let mut session = self.0.fresh().await?;
                let rows = session.rows(sql, task).await?;
                Ok((session, rows))
            }
            Err(error) => Err(error),
        }
    }

    /// Asks once more where a connection turns out to have been closed while it was idle.
    async fn names(&self, named: Named<'_>) -> Result<Vec<Vec<CanonicalKey>>, TargetError> {
        let mut session = self.0.session().await?;
        let was_idle = session.used;
        let mut names = self.names_in(&mut session, &named).await;
        if matches!(names, Err(TargetError::Unreachable { .. })) && was_idle {
            session = self.0.fresh().await?;
            names = self.names_in(&mut session, &named).await;
        }
        if !matches!(names, Err(TargetError::Unreachable { .. })) {
            self.give_back(session);
        }
        names
    }

    async fn names_in(&self, session: &mut Session, named: &Named<'_>) -> Result<Vec<Vec<CanonicalKey>>, TargetError> {
        Ok(match named {
            Named::Keys(keys) => vec![self.canonical_in(session, keys).await?],
            Named::Ties(changes) => self.ties_in(session, changes).await?,
            Named::Places(shape, image) => vec![self.places_in(session, shape, image).await?],
        })
    }

    async fn canonical_in(&self, session: &mut Session, keys: &[RowKey]) -> Result<Vec<CanonicalKey>, TargetError> {
        let mut tables: BTreeMap<&TableName, Arc<schema::Table>> = BTreeMap::new();
        for key in keys {
            if !tables.contains_key(key.table()) {
                tables.insert(key.table(), self.0.schemas.table(session, key.table()).await?);
            }
        }
        let wanted: Vec<_> = keys.iter().map(|key| (&*tables[key.table()], key)).collect();
        self.0.weights.canonical(session, &wanted).await
    }
}

/// What is to be given canonical names.
enum Named<'a> {
    Keys(&'a [RowKey]),
    /// Two lists for each: what it left, and what it joined.
    Ties(&'a [&'a Change]),
    Places(&'a Shape, &'a Image),
}

#[async_trait]
impl Target for MariadbTarget {
    async fn checkpoints(&self) -> Result<BTreeMap<OriginId, Mark>, TargetError> {
        let task = "reading the checkpoints";
        let sql = format!("SELECT {} FROM tandem.applied", Mark::COLUMNS.join(", "));
        let (session, rows) = self.rows(sql.as_bytes(), task).await?;
        let mark = |row| {
            let (origin, next, data, position, hlc): (String, u64, Option<u64>, String, u64) =
                mysql_async::from_row_opt(row).ok()?;
            let origin = OriginId::new(&origin);
            let position = position.parse().ok()?;
            Some((origin.clone(), Mark { origin, next: Offset(next), data: data.map(Offset), position, hlc: Hlc(hlc) }))
        };
        let marks: Option<BTreeMap<_, _>> = rows.into_iter().map(mark).collect();
        let marks = marks.ok_or_else(|| session.not_understood(task));
        self.give_back(session);
        marks
    }

    async fn canonical(&self, keys: &[RowKey]) -> Result<Vec<CanonicalKey>, TargetError> {
        Ok(self.names(Named::Keys(keys)).await?.pop().unwrap_or_default())
    }

    async fn ties(&self, changes: &[&Change]) -> Result<Vec<Tied>, TargetError> {
        let mut places = self.names(Named::Ties(changes)).await?.into_iter();
        Ok(std::iter::from_fn(|| Some(Tied { left: places.next()?, joined: places.next()? })).collect())
    }

    async fn places(&self, shape: &Shape, image: &Image) -> Result<Vec<CanonicalKey>, TargetError> {
        Ok(self.names(Named::Places(shape, image)).await?.pop().unwrap_or_default())
    }

    async fn range(&self, wanted: &Range) -> Result<(Vec<Held>, GtidPosition), TargetError> {
        self.rows_of(wanted).await
    }

    async fn settle(&self, conflict: &str) -> Result<(), TargetError> {
        self.settle_kept(conflict).await
    }

    async fn position(&self) -> Result<GtidPosition, TargetError> {
        self.history_end().await
    }

    async fn schema_entries(&self) -> Result<Vec<SchemaEntry>, TargetError> {
        self.open_entries().await
    }

    async fn keep_schema(&self, entry: &SchemaEntry) -> Result<u64, TargetError> {
        self.keep_entry(entry).await
    }

    async fn columns(&self, table: &TableName) -> Result<Vec<(String, ColumnNow)>, TargetError> {
        self.columns_of(table).await
    }

    async fn table_prints(&self, change: &SchemaChange) -> Result<String, TargetError> {
        self.prints_of(change).await
    }

    async fn define(&self, change: &SchemaChange, stamp: &str, second: u64) -> Result<Defined, TargetError> {
        self.run_definition(change, stamp, second).await
    }

    async fn forget_columns(&self, table: &TableName, columns: &[String]) -> Result<(), TargetError> {
        self.forget_known(table, columns).await
    }

    async fn parked(&self, behind: u64, most: usize) -> Result<Vec<Parked>, TargetError> {
        self.parked_behind(behind, most).await
    }

    async fn seeding(&self) -> Result<Option<Seeding>, TargetError> {
        self.kept_seeding().await
    }

    async fn begin_seeding(&self, marks: &[Mark], seeding: &Seeding) -> Result<(), TargetError> {
        self.put_seeding(marks, seeding).await
    }

    async fn keep_seeding(&self, seeding: &Seeding) -> Result<(), TargetError> {
        self.note_seeding(seeding).await
    }

    async fn begin(&self, mark: &Mark) -> Result<Box<dyn ApplyTransaction>, TargetError> {
        Ok(Box::new(MariadbTransaction::begin(self.0.clone(), mark).await?))
    }
}
