//! WRITES: applies decided changes to a node's database, with the checkpoint in the same transaction.
//!
//! Contract of [`Target`] and [`ApplyTransaction`]:
//! - **The mark comes first**: `begin` writes the origin's row of `tandem.applied` as the transaction's first statement,
//!   so that the node's tailer knows the transaction as an echo. It commits or vanishes with the rows.
//! - **Locks**: after `lock`, nobody else can change, insert or delete those rows until the transaction ends; the
//!   same holds after `write` for the rows written. Keys are locked in the order given (the caller sorts).
//! - **Position after locks**: a commit of anybody else that touched a locked row is covered by what `position` answers
//!   after the lock.
//! - **Errors**: after `Retry` (a lost connection, a deadlock, a lock time-out) the transaction is gone; the outcome of a
//!   failed `commit` is unknown until the checkpoint is read again. After `DeadLetter` from `write` only the named write
//!   did not happen, what was written before it stays, and the transaction goes on.
//! - **Idempotence**: writing the same row twice equals once, but for [`Write::Whole`].

use std::collections::BTreeMap;

use async_trait::async_trait;

#[cfg(doc)]
use crate::change::Op;
use crate::change::ddl::ColumnNow;
use crate::change::{
    Change, GtidPosition, Image, Mark, Offset, OriginId, Record, Rewrite, RowKey, SchemaChange, Shape, TableName,
};

pub mod cloud;
mod ddl;
mod error;
pub mod keep;
pub mod mariadb;
pub mod memory;
mod seeding;

pub use ddl::{Defined, Parked, SchemaEntry, SchemaState};
pub use error::TargetError;
pub use keep::{Conflict, ConflictKind, DeadLetter, Side};
pub use seeding::{SeedKind, Seeding};

/// A node's database, as the applier writes it.
#[async_trait]
pub trait Target: Send + Sync {
    /// How far each origin is durably applied. An origin that is absent was never applied.
    async fn checkpoints(&self) -> Result<BTreeMap<OriginId, Mark>, TargetError>;

    /// One canonical form per key: equal exactly where the table's own comparison calls the keys the same row
    /// (collations, padding, number formats). In the order given. Needs the tables to exist.
    async fn canonical(&self, keys: &[RowKey]) -> Result<Vec<CanonicalKey>, TargetError>;

    /// What rows that were inserted or updated referred to before and refer to now. In the order given.
    async fn ties(&self, changes: &[&Change]) -> Result<Vec<Tied>, TargetError>;

    /// The places of a row: each key of it by which rows of other tables refer to it, named as in [`Tied`].
    async fn places(&self, shape: &Shape, image: &Image) -> Result<Vec<CanonicalKey>, TargetError>;
    /// Rows of a table as they are now, in no particular order, and the history that they hold all of. Nothing is locked.
    async fn range(&self, wanted: &Range) -> Result<(Vec<Held>, GtidPosition), TargetError>;

    /// A conflict that is kept waits for nobody any more. Nothing, where none of this id does.
    async fn settle(&self, conflict: &str) -> Result<(), TargetError>;

    /// The statements that define tables and are not done with, in the order in which they came.
    async fn schema_entries(&self) -> Result<Vec<SchemaEntry>, TargetError>;

    /// Keeps it by itself: in its place where it is kept already, or as the newest. Its number.
    async fn keep_schema(&self, entry: &SchemaEntry) -> Result<u64, TargetError>;

    /// The end of this server's own history (`@@gtid_binlog_pos`).
    async fn position(&self) -> Result<GtidPosition, TargetError>;

    /// The columns of a table as they are now; none where there is no such table.
    async fn columns(&self, table: &TableName) -> Result<Vec<(String, ColumnNow)>, TargetError>;

    /// What the tables of a statement are like now: one word for each, another one for another definition.
    async fn table_prints(&self, change: &SchemaChange) -> Result<String, TargetError>;

    /// Runs the statement as its origin did, marked with the stamp, at its time. Nothing of it is in a transaction. Of several
    /// tables to be dropped, those that are there.
    async fn define(&self, change: &SchemaChange, stamp: &str, second: u64) -> Result<Defined, TargetError>;

    /// These columns of a table were given other names: what comes for them is not what may be left out, because they were dropped.
    async fn forget_columns(&self, table: &TableName, columns: &[String]) -> Result<(), TargetError>;

    /// The oldest changes that wait behind the statement of this number, at most so many.
    async fn parked(&self, behind: u64, most: usize) -> Result<Vec<Parked>, TargetError>;

    /// The seeding of this node that is under way, or the last one.
    async fn seeding(&self) -> Result<Option<Seeding>, TargetError>;

    /// The checkpoints become these and no others, and the seeding begins: both or nothing. Read in the binlog, the marks raise
    /// the clock of this node above all that it skips. Nobody may apply meanwhile.
    async fn begin_seeding(&self, marks: &[Mark], seeding: &Seeding) -> Result<(), TargetError>;

    /// Keeps how far it is.
    async fn keep_seeding(&self, seeding: &Seeding) -> Result<(), TargetError>;

    /// Starts a transaction and writes the mark.
    async fn begin(&self, mark: &Mark) -> Result<Box<dyn ApplyTransaction>, TargetError>;
}

/// A row's identity on its target: table and key, as bytes that are equal exactly for the same row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CanonicalKey(pub Box<[u8]>);

impl CanonicalKey {
    /// Of a table as a whole: what the keys of all its rows begin with.
    pub fn of_table(table: &TableName) -> Self {
        Self::new(table, std::iter::empty::<&[u8]>())
    }

    pub fn is_of(&self, table: &TableName) -> bool {
        self.0.starts_with(&Self::of_table(table).0)
    }

    /// The table, as [`of_table`](Self::of_table) names it. `None` of a key that has no such form.
    pub fn table(&self) -> Option<&[u8]> {
        let mut end = 0;
        for _ in 0..2 {
            let length = self.0.get(end..end + 4)?.try_into().ok().map(u32::from_be_bytes)?;
            end = end.checked_add(4)?.checked_add(length as usize)?;
        }
        self.0.get(..end)
    }

    /// Of the table and the canonical form of each value. Lengths go first, so that no two keys run together.
    pub fn new<P: AsRef<[u8]>>(table: &TableName, parts: impl IntoIterator<Item = P>) -> Self {
        let mut bytes = Vec::with_capacity(48);
        let mut put = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        };
        put(table.database.as_bytes());
        put(table.table.as_bytes());
        parts.into_iter().for_each(|part| put(part.as_ref()));
        Self(bytes.into())
    }
}

/// The places that a write of a row touched: keys by which rows refer to others, as far as more than one foreign key can act.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tied {
    /// For a row that others refer to: what it no longer refers to by a foreign key that takes it along (ON DELETE CASCADE), and
    /// its own earlier key where that changed.
    pub left: Vec<CanonicalKey>,
    /// What it refers to by a foreign key that acts in silence (CASCADE, SET NULL), where that may itself go with another row, or
    /// be given another key.
    pub joined: Vec<CanonicalKey>,
}

/// Rows of one table: of some keys; or, where there are none, those after one key up to another.
#[derive(Clone, PartialEq, Debug)]
pub struct Range {
    pub table: TableName,
    pub after: Option<RowKey>,
    pub upto: Option<RowKey>,
    pub keys: Vec<RowKey>,
    /// At most so many.
    pub rows_max: usize,
}

/// One row to be written.
#[derive(Clone, PartialEq, Debug)]
pub enum Write {
    /// The row becomes the change's after image (its known columns), whether it exists or not. Of [`Op::Read`] it must not
    /// exist: [`TargetError::UniqueTaken`] where it does.
    Put(Change),
    /// The row is gone afterwards, whether it existed or not. Refused where rows of another table refer to it.
    Delete(RowKey),
    /// The same, whatever refers to it: no foreign key is asked, and nothing follows.
    DeleteAlone(RowKey),
    /// A change of a table without a key. What is inserted is one row more; an update or delete is of exactly one row that equals
    /// the whole before image, not only as collations compare. [`TargetError::RowMissing`] where there is none.
    Whole(Change),
}

impl Write {
    pub fn table(&self) -> &TableName {
        match self {
            Self::Put(change) | Self::Whole(change) => change.table(),
            Self::Delete(key) | Self::DeleteAlone(key) => key.table(),
        }
    }
}

/// A row as the target has it now, with the target's own shape.
#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    pub key: RowKey,
    pub image: Image,
}

/// A row that refers to another by a foreign key.
#[derive(Clone, PartialEq, Debug)]
pub struct Referrer {
    pub held: Held,
    pub follows: Follows,
}

/// What a foreign key does to a row when the one that it refers to goes or takes another key.
#[derive(Clone, PartialEq, Debug)]
pub enum Follows {
    /// RESTRICT, NO ACTION: the other row has to stay.
    Blocks,
    /// CASCADE: it goes too.
    Goes,
    /// SET NULL, or the other row's new values: it becomes this whole row.
    Becomes(Image),
}

#[async_trait]
pub trait ApplyTransaction: Send {
    /// Locks the rows, existing or not, and tells what is there, in the order given.
    async fn lock(&mut self, keys: &[RowKey]) -> Result<Vec<Option<Held>>, TargetError>;

    /// Other rows that hold a value of a secondary unique key which this change's after image wants; locked.
    /// Empty for a delete and for a table without secondary unique keys. Of a key that no row can be found by, only where a write of the
    /// table has failed for it before.
    async fn holders(&mut self, change: &Change) -> Result<Vec<Held>, TargetError>;

    /// Whether a foreign key refers to the table at all, and to what `becomes` changes. As a rule no question to the database.
    async fn is_referred(&mut self, table: &TableName, becomes: Option<&Change>) -> Result<bool, TargetError>;

    /// Rows that refer to this row and would have to follow: where it goes, or where `becomes` gives it other values to
    /// refer to; locked, and the row itself with them, so that nobody else can let one refer to it until the transaction
    /// ends. Asked before the write. Each row once; empty where [`is_referred`](Self::is_referred) says no.
    async fn referrers(&mut self, key: &RowKey, becomes: Option<&Change>) -> Result<Vec<Referrer>, TargetError>;

    /// Whether the row refers by a foreign key to one that is not here. Those that are, are locked.
    async fn lacks_parent(&mut self, held: &Held) -> Result<bool, TargetError>;

    /// The end of this server's own history (`@@gtid_binlog_pos`), read after the locks.
    async fn position(&mut self) -> Result<GtidPosition, TargetError>;

    /// Writes in the order given; may join neighbours into one statement where that is the same. On an error, `failed`
    /// is the index of the write that did not happen (see [`WriteError`]).
    async fn write(&mut self, writes: &[Write]) -> Result<(), WriteError>;

    /// Asks the tailer of this node to publish the row's new state.
    async fn rewrite(&mut self, rewrites: &[Rewrite]) -> Result<(), TargetError>;

    async fn keep_conflicts(&mut self, conflicts: &[Conflict]) -> Result<(), TargetError>;

    async fn keep_dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), TargetError>;

    /// Forgets dead letters, by origin and offset.
    async fn mend(&mut self, letters: &[(OriginId, Offset)]) -> Result<(), TargetError>;

    /// Keeps what became of a statement, with the checkpoint. Its number.
    async fn keep_schema(&mut self, entry: &SchemaEntry) -> Result<u64, TargetError>;

    /// Keeps changes that wait, each behind the statement of this number.
    async fn park(&mut self, records: &[(u64, Offset, &Record)]) -> Result<(), TargetError>;

    /// These wait no longer.
    async fn unpark(&mut self, ids: &[u64]) -> Result<(), TargetError>;

    /// The next rows of a table with a key, in its order; locked, with the gaps between them, so that no row can come to be
    /// there. Fewer than `most` where the table ends.
    async fn rows_after(&mut self, table: &TableName, after: Option<&RowKey>, most: usize) -> Result<Vec<Held>, TargetError>;

    /// Removes all rows of a table, whatever refers to them.
    async fn empty(&mut self, table: &TableName) -> Result<(), TargetError>;

    /// Rows, checkpoint and everything kept become durable together.
    async fn commit(self: Box<Self>) -> Result<(), TargetError>;

    async fn rollback(self: Box<Self>);
}

/// A write that failed. Where `failed` is known, the writes before it happened and it and all after it did not.
/// `None`: the failing write was one of several in a statement, none of which happened: roll back and write singly.
#[derive(Debug)]
pub struct WriteError {
    pub failed: Option<usize>,
    pub error: TargetError,
}
