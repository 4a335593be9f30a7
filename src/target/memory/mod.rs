//! A database in memory: the twin of [`mariadb`](super) for the simulation and for tests of the applier.
//!
//! It has what the protocol leans on and nothing else: tables with a primary key, at most one secondary unique
//! column and one foreign key, whose cascades its history does not show, tables without any key (which one writer at a time
//! holds as a whole), row locks that also cover rows which do not exist, transactions with rollback, a history of its own, and an
//! application that writes too ([`MemoryTarget::local_write`]). Every commit is told to a hook with exactly the rows
//! that a binlog would show. Deterministic under one thread and tokio's paused time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{
    ApplyTransaction, CanonicalKey, Conflict, DeadLetter, Defined, Held, Parked, Range, SchemaEntry, Seeding, Target,
    TargetError, Tied,
};
use crate::change::ddl::ColumnNow;
use crate::change::{Change, Gtid, GtidPosition, Image, Mark, OriginId, RowKey, SchemaChange, Shape, TableName, Value};

mod database;
mod faults;
mod fold;
mod local;
mod refer;
mod transaction;
mod whole;

#[cfg(test)]
mod tests;

pub use faults::{Faults, NoFaults, Step, Verdict};
pub use local::LocalWrite;

use database::{Database, Resource, Row};
use transaction::MemoryTransaction;

/// One commit, as the server's binlog would show it.
#[derive(Clone, PartialEq, Debug)]
pub struct CommittedTransaction {
    pub gtid: Gtid,
    pub commit_second: u64,
    pub changes: Vec<Change>,
    /// A table that a statement emptied, of which no row tells.
    pub emptied: Option<TableName>,
}

/// A table: its shape, and the one column that must be unique beside the primary key.
#[derive(Clone, Debug)]
pub struct MemoryTable {
    pub shape: Arc<Shape>,
    /// Name of the index, and its column.
    pub unique: Option<(Arc<str>, usize)>,
    /// The one foreign key.
    pub refers: Option<MemoryReference>,
}

/// A column whose value, unless it is NULL, must be the key of a row of another table (with one key column).
#[derive(Clone, Debug)]
pub struct MemoryReference {
    pub column: usize,
    pub to: TableName,
    pub on_delete: OnDelete,
}

/// What a foreign key does where the row that is referred to goes. Where it moves to another key, it is always refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnDelete {
    Restrict,
    Cascade,
    SetNull,
}

#[derive(Clone)]
pub struct MemoryOptions {
    pub server_id: u32,
    /// The database's own wall clock, in seconds: the header time of each commit.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Told of every commit in the order of history, before its row locks are free. Must not call the database.
    pub on_commit: Arc<dyn Fn(CommittedTransaction) + Send + Sync>,
    pub faults: Arc<dyn Faults>,
    /// How long a lock is waited for; deadlocks end this way too.
    pub lock_wait: Duration,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            server_id: 1,
            clock: Arc::new(|| 1_700_000_000),
            on_commit: Arc::new(|_| ()),
            faults: Arc::new(NoFaults),
            lock_wait: Duration::from_secs(2),
        }
    }
}

/// The database. Cheap to clone: all clones are the same one.
#[derive(Clone)]
pub struct MemoryTarget {
    database: Arc<Mutex<Database>>,
    released: Arc<Notify>,
    options: MemoryOptions,
    seeding: Arc<Mutex<Option<Seeding>>>,
}

impl MemoryTarget {
    pub fn new(tables: impl IntoIterator<Item = MemoryTable>, options: MemoryOptions) -> Self {
        Self {
            database: Arc::new(Mutex::new(Database::new(tables))),
            released: Arc::default(),
            options,
            seeding: Arc::default(),
        }
    }

    /// The committed rows of a table, in the order of their canonical keys. Empty where there is no such table.
    pub fn rows(&self, table: &TableName) -> Vec<Image> {
        let rows = self.lock_database().committed_rows(table);
        rows.into_iter().map(|row| Image::of(row.iter().cloned().map(Some))).collect()
    }

    /// Of these rows of a table those after a key, in the order of [`rows`](Self::rows).
    pub fn after(&self, table: &TableName, rows: Vec<Image>, key: Option<&RowKey>) -> Vec<Image> {
        let Some(shape) = self.shape(table) else { return Vec::new() };
        let after = key.map(|key| fold::key(table, &key.values));
        let place = |row: &Image| RowKey::of(&shape, row).map(|key| fold::key(table, &key.values));
        rows.into_iter().filter(|row| place(row) > after).collect()
    }

    pub fn shape(&self, table: &TableName) -> Option<Arc<Shape>> {
        self.lock_database().table(table).ok().map(|table| table.shape.clone())
    }

    /// The committed row of this key.
    pub fn row(&self, table: &TableName, key: &[Value]) -> Option<Image> {
        let database = self.lock_database();
        let canonical = fold::key(table, key);
        let row = database.committed_row(table, &canonical)?;
        Some(Image::of(row.iter().cloned().map(Some)))
    }

    /// The end of history now, without a pause.
    pub fn end(&self) -> GtidPosition {
        self.lock_database().position(self.options.server_id)
    }

    /// The committed checkpoints, without a pause.
    pub fn marks(&self) -> BTreeMap<OriginId, Mark> {
        self.lock_database().applied.clone()
    }

    pub fn conflicts(&self) -> Vec<Conflict> {
        self.lock_database().kept.conflicts.values().cloned().collect()
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.lock_database().kept.dead_letters.clone()
    }

    /// All statements of other nodes, in the order in which they came.
    pub fn schema(&self) -> Vec<SchemaEntry> {
        self.lock_database().kept.schema.clone()
    }

    /// The statements that were run, with their stamps.
    pub fn defined(&self) -> Vec<String> {
        self.lock_database().kept.defined.iter().map(|(text, _)| text.clone()).collect()
    }

    /// What a person decides about one of them.
    pub fn decide_schema(&self, number: u64, state: super::SchemaState) {
        let mut database = self.lock_database();
        let entry = database.kept.schema.iter_mut().find(|entry| entry.number == number);
        entry.expect("a test decides about what is there").state = state;
    }

    /// True while nobody is inside a transaction.
    pub fn is_idle(&self) -> bool {
        self.lock_database().is_idle()
    }

    /// A transaction of its own, as on a server: the checkpoints, where they are all to be replaced, and how the node is seeded.
    async fn note_seeding(&self, marks: Option<&[Mark]>, seeding: &Seeding) -> Result<(), TargetError> {
        let verdict = self.options.faults.before(Step::Keep).await;
        verdict.refused()?;
        let mut session = self.start();
        if let Some(marks) = marks {
            // An open apply transaction has its row of the table locked.
            let held: Vec<OriginId> = self.lock_database().applied.keys().cloned().collect();
            for origin in held.iter().chain(marks.iter().map(|mark| &mark.origin)) {
                session.lock(Resource::Mark(origin.clone())).await?;
            }
            session.database().replace_marks(session.id, marks);
        }
        session.database().note_seeding(session.id, seeding.number);
        session.commit();
        *self.seeding.lock().unwrap_or_else(PoisonError::into_inner) = Some(seeding.clone());
        verdict.failed()
    }

    /// The seeding that is kept, without a pause.
    pub fn kept_seeding(&self) -> Option<Seeding> {
        self.seeding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock_database(&self) -> MutexGuard<'_, Database> {
        // A panic of a test while it held the guard must not hide behind a second one.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Session {
        let id = self.lock_database().start();
        Session { target: self.clone(), id, open: true }
    }
}

#[async_trait]
impl Target for MemoryTarget {
    async fn checkpoints(&self) -> Result<BTreeMap<OriginId, Mark>, TargetError> {
        let verdict = self.options.faults.before(Step::Checkpoints).await;
        verdict.refused()?;
        let applied = self.lock_database().applied.clone();
        verdict.failed()?;
        Ok(applied)
    }

    async fn canonical(&self, keys: &[RowKey]) -> Result<Vec<CanonicalKey>, TargetError> {
        let verdict = self.options.faults.before(Step::Canonical).await;
        verdict.refused()?;
        {
            let database = self.lock_database();
            keys.iter().try_for_each(|key| database.table(key.table()).map(drop))?;
        }
        verdict.failed()?;
        Ok(keys.iter().map(|key| fold::key(key.table(), &key.values)).collect())
    }

    async fn position(&self) -> Result<GtidPosition, TargetError> {
        let verdict = self.options.faults.before(Step::Position).await;
        verdict.refused()?;
        let position = self.end();
        verdict.failed()?;
        Ok(position)
    }

    async fn ties(&self, changes: &[&Change]) -> Result<Vec<Tied>, TargetError> {
        let database = self.lock_database();
        changes.iter().map(|change| refer::ties(&database, change)).collect()
    }

    async fn places(&self, shape: &Shape, image: &Image) -> Result<Vec<CanonicalKey>, TargetError> {
        let referred = self.lock_database().is_referred(&shape.table);
        let key = RowKey::of(&Arc::new(shape.clone()), image).filter(|_| referred);
        Ok(key.map(|key| fold::key(&shape.table, &key.values)).into_iter().collect())
    }

    async fn range(&self, wanted: &Range) -> Result<(Vec<Held>, GtidPosition), TargetError> {
        let verdict = self.options.faults.before(Step::Canonical).await;
        verdict.refused()?;
        let database = self.lock_database();
        let shape = database.table(&wanted.table)?.shape.clone();
        let place = |key: &RowKey| fold::key(&wanted.table, &key.values);
        let (after, upto) = (wanted.after.as_ref().map(place), wanted.upto.as_ref().map(place));
        let keys: Vec<CanonicalKey> = wanted.keys.iter().map(place).collect();
        let held = |row: Row| {
            let image = Image::of(row.iter().cloned().map(Some));
            Some(Held { key: RowKey::of(&shape, &image)?, image })
        };
        let meant = |held: &Held| {
            let own = place(&held.key);
            match keys.is_empty() {
                true => after.as_ref().is_none_or(|after| *after < own) && upto.as_ref().is_none_or(|upto| own <= *upto),
                false => keys.contains(&own),
            }
        };
        let rows = database.committed_rows(&wanted.table).into_iter().filter_map(held).filter(meant).take(wanted.rows_max);
        Ok((rows.collect(), database.position(self.options.server_id)))
    }

    async fn settle(&self, conflict: &str) -> Result<(), TargetError> {
        if let Some(conflict) = self.lock_database().kept.conflicts.get_mut(conflict) {
            conflict.open = false;
        }
        Ok(())
    }

    async fn schema_entries(&self) -> Result<Vec<SchemaEntry>, TargetError> {
        Ok(self.lock_database().kept.schema.iter().filter(|entry| entry.state.is_open()).cloned().collect())
    }

    async fn keep_schema(&self, entry: &SchemaEntry) -> Result<u64, TargetError> {
        let verdict = self.options.faults.before(Step::Keep).await;
        verdict.refused()?;
        let number = self.lock_database().kept.keep_schema(entry);
        verdict.failed()?;
        Ok(number)
    }

    async fn columns(&self, table: &TableName) -> Result<Vec<(String, ColumnNow)>, TargetError> {
        let now = || ColumnNow { column_type: "text".into(), nullable: true, plain: true };
        let shape = self.shape(table);
        Ok(shape.iter().flat_map(|shape| &shape.columns).map(|column| (column.name.to_string(), now())).collect())
    }

    async fn table_prints(&self, change: &SchemaChange) -> Result<String, TargetError> {
        let database = self.lock_database();
        Ok(database.kept.defined.iter().filter(|(_, other)| other.meets(change)).count().to_string())
    }

    async fn define(&self, change: &SchemaChange, stamp: &str, _: u64) -> Result<Defined, TargetError> {
        let verdict = self.options.faults.before(Step::Define).await;
        verdict.refused()?;
        self.lock_database().kept.defined.push((format!("{stamp} {}", change.statement), change.clone()));
        verdict.failed()?;
        Ok(Defined::Done)
    }

    async fn forget_columns(&self, _: &TableName, _: &[String]) -> Result<(), TargetError> {
        // Its tables keep their columns, so it never leaves any out.
        Ok(())
    }

    async fn parked(&self, behind: u64, most: usize) -> Result<Vec<Parked>, TargetError> {
        let database = self.lock_database();
        let waiting = database.kept.parked.iter().filter(|(of, _)| *of == behind);
        Ok(waiting.map(|(_, parked)| parked.clone()).take(most).collect())
    }

    async fn seeding(&self) -> Result<Option<Seeding>, TargetError> {
        Ok(self.kept_seeding())
    }

    async fn begin_seeding(&self, marks: &[Mark], seeding: &Seeding) -> Result<(), TargetError> {
        self.note_seeding(Some(marks), seeding).await
    }

    async fn keep_seeding(&self, seeding: &Seeding) -> Result<(), TargetError> {
        self.note_seeding(None, seeding).await
    }

    async fn begin(&self, mark: &Mark) -> Result<Box<dyn ApplyTransaction>, TargetError> {
        let verdict = self.options.faults.before(Step::Begin).await;
        verdict.refused()?;
        let mut session = self.start();
        session.mark(mark).await?;
        verdict.failed()?;
        Ok(Box::new(MemoryTransaction::new(session)))
    }
}

/// One open transaction. Dropped without a commit it rolls back, as a server does when a client vanishes.
struct Session {
    target: MemoryTarget,
    id: u64,
    open: bool,
}

impl Session {
    fn database(&self) -> MutexGuard<'_, Database> {
        self.target.lock_database()
    }

    /// Waits for a lock; takes it at once where it is ours already.
    async fn lock(&self, resource: Resource) -> Result<(), TargetError> {
        let deadline = Instant::now() + self.target.options.lock_wait;
        loop {
            // Made before the look, so that a release in between is not missed.
            let released = self.target.released.notified();
            if self.database().take(self.id, &resource) {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, released).await.is_err() {
                return Err(TargetError::Contended { reason: "lock wait timeout exceeded".into() });
            }
        }
    }

    async fn mark(&mut self, mark: &Mark) -> Result<(), TargetError> {
        self.lock(Resource::Mark(mark.origin.clone())).await?;
        self.database().write_mark(self.id, mark);
        Ok(())
    }

    fn commit(&mut self) -> Option<Gtid> {
        self.open = false;
        let options = &self.target.options;
        let gtid = self.database().commit(self.id, options.server_id, &*options.clock, &*options.on_commit);
        self.target.released.notify_waiters();
        gtid
    }

    fn rollback(&mut self) {
        if std::mem::take(&mut self.open) {
            self.database().roll_back(self.id);
            self.target.released.notify_waiters();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.rollback();
    }
}
