//! The apply transaction on a MariaDB.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::fault::About;
use super::schema::Table;
use super::session::{APPLYING, Session};
use super::{Inner, own_tables};
use crate::change::{Change, GtidPosition, Mark, Offset, OriginId, Record, Rewrite, RowKey, TableName};
use crate::runtime::{Disposition, Fault};
use crate::target::{
    ApplyTransaction, CanonicalKey, Conflict, DeadLetter, Held, Referrer, SchemaEntry, TargetError, Write, WriteError,
};

mod look;
mod referrers;
mod schema;
mod whole;
mod write;

use referrers::concerned;

/// Rows locked by one statement, and rows of our own tables written by one.
const ROWS_MAX: usize = 500;

pub(super) struct MariadbTransaction {
    inner: Arc<Inner>,
    /// Gone once the transaction has ended. Dropped with it open, the connection closes and the server rolls back.
    session: Option<Session>,
    foreign_keys_off: bool,
    rewrote: bool,
    /// Tables that were looked through for who holds a value which only a hash finds, and whether somebody was found.
    looked_through: HashMap<TableName, bool>,
}

impl MariadbTransaction {
    /// Starts with the mark, which makes it known to the tailer as an echo.
    pub async fn begin(inner: Arc<Inner>, mark: &Mark) -> Result<Self, TargetError> {
        let session = inner.session().await?;
        let was_idle = session.used;
        match Self::start(inner.clone(), session, mark).await {
            // The server closes connections that were idle for long; that says nothing of the server itself.
            Err(TargetError::Unreachable { .. }) if was_idle => {
                let session = inner.fresh().await?;
                Self::start(inner, session, mark).await
            }
            other => other,
        }
    }

    async fn start(inner: Arc<Inner>, mut session: Session, mark: &Mark) -> Result<Self, TargetError> {
        let about = About::Task("starting an apply transaction");
        // Each time, because whatever resets a connection on its way (a proxy) clears it in silence.
        let mut sql = format!("SET {APPLYING}=1;START TRANSACTION;").into_bytes();
        own_tables::upsert_mark(&mut sql, mark);
        let (affected, outcome) = session.run_each(&sql, about).await;
        let mut own =
            Self { inner, session: Some(session), foreign_keys_off: false, rewrote: false, looked_through: HashMap::new() };
        own.settle(outcome).await?;
        if own_tables::may_be_silent(affected.last().copied().unwrap_or(0)) {
            let renewed = own.renew(mark).await;
            own.settle(renewed).await?;
        }
        Ok(own)
    }

    /// Starts a transaction of this node itself, which settles a conflict: its tailer publishes it.
    pub async fn begin_own(inner: Arc<Inner>, conflict: &str) -> Result<Self, TargetError> {
        let session = inner.session().await?;
        let mut own =
            Self { inner, session: Some(session), foreign_keys_off: false, rewrote: false, looked_through: HashMap::new() };
        let mut sql = format!("SET {APPLYING}=1;START TRANSACTION;").into_bytes();
        own_tables::settle(&mut sql, conflict);
        own.own(&sql, "settling a conflict").await?;
        Ok(own)
    }

    async fn renew(&mut self, mark: &Mark) -> Result<(), TargetError> {
        let mut sql = Vec::new();
        own_tables::renew_mark(&mut sql, mark);
        self.session()?.run_each(&sql, About::Task("writing the checkpoint")).await.1
    }

    fn session(&mut self) -> Result<&mut Session, TargetError> {
        let gone = || TargetError::Contended { reason: "the transaction was rolled back by an earlier failure".into() };
        self.session.as_mut().ok_or_else(gone)
    }

    /// After a failure that is not one of a single write, nothing of the transaction is left.
    async fn settle<T>(&mut self, outcome: Result<T, TargetError>) -> Result<T, TargetError> {
        let Err(error) = &outcome else { return outcome };
        match (error, error.disposition()) {
            (_, Disposition::DeadLetter) => {}
            // Its connection is lost, or in a state we do not know.
            (TargetError::Unreachable { .. }, _) => self.session = None,
            _ => self.roll_back().await,
        }
        outcome
    }

    async fn roll_back(&mut self) {
        if let Some(mut session) = self.session.take()
            && session.run(b"ROLLBACK", About::Task("rolling back")).await.is_ok()
        {
            self.put_away(session).await;
        }
    }

    async fn put_away(&mut self, mut session: Session) {
        if self.foreign_keys_off && session.run(b"SET SESSION foreign_key_checks=1", About::Task("a reset")).await.is_err() {
            return;
        }
        self.inner.give_back(session);
    }

    async fn table(&mut self, name: &TableName) -> Result<Arc<Table>, TargetError> {
        let inner = self.inner.clone();
        inner.schemas.table(self.session()?, name).await
    }

    async fn canonical(&mut self, table: &Table, keys: &[RowKey]) -> Result<Vec<CanonicalKey>, TargetError> {
        let inner = self.inner.clone();
        let keys: Vec<_> = keys.iter().map(|key| (table, key)).collect();
        inner.weights.canonical(self.session()?, &keys).await
    }

    async fn own(&mut self, sql: &[u8], task: &str) -> Result<(), TargetError> {
        let written = match self.session() {
            Ok(session) => session.run_each(sql, About::Task(task)).await.1,
            Err(gone) => Err(gone),
        };
        self.settle(written).await
    }
}

#[async_trait]
impl ApplyTransaction for MariadbTransaction {
    async fn lock(&mut self, keys: &[RowKey]) -> Result<Vec<Option<Held>>, TargetError> {
        let locked = self.lock_all(keys).await;
        self.settle(locked).await
    }

    async fn holders(&mut self, change: &Change) -> Result<Vec<Held>, TargetError> {
        let holders = self.holders_of(change).await;
        self.settle(holders).await
    }

    async fn is_referred(&mut self, table: &TableName, becomes: Option<&Change>) -> Result<bool, TargetError> {
        let table = match self.table(table).await {
            // The write says what is wrong with it.
            Err(error) if error.disposition() == Disposition::DeadLetter => return Ok(false),
            table => self.settle(table).await?,
        };
        Ok(!concerned(&table, becomes).is_empty())
    }

    async fn referrers(&mut self, key: &RowKey, becomes: Option<&Change>) -> Result<Vec<Referrer>, TargetError> {
        let referrers = self.referrers_of(key, becomes).await;
        self.settle(referrers).await
    }

    async fn lacks_parent(&mut self, held: &Held) -> Result<bool, TargetError> {
        let lacks = self.lacks_parent_of(held).await;
        self.settle(lacks).await
    }

    async fn position(&mut self) -> Result<GtidPosition, TargetError> {
        let task = "reading the server's position";
        let read = async {
            let session = self.session()?;
            let row = session.rows(b"SELECT @@gtid_binlog_pos", task).await?.pop();
            let text: Option<String> = row.and_then(|row| mysql_async::from_row_opt(row).ok());
            text.and_then(|text| text.parse().ok()).ok_or_else(|| session.not_understood(task))
        };
        let position = read.await;
        self.settle(position).await
    }

    async fn write(&mut self, writes: &[Write]) -> Result<(), WriteError> {
        match self.write_all(writes).await {
            Ok(()) => Ok(()),
            Err(WriteError { failed, error }) => {
                if let TargetError::UniqueTaken { table, .. } = &error {
                    self.inner.schemas.note_taken(table);
                }
                let Err(error) = self.settle::<()>(Err(error)).await else { return Ok(()) };
                Err(WriteError { failed, error })
            }
        }
    }

    async fn rewrite(&mut self, rewrites: &[Rewrite]) -> Result<(), TargetError> {
        self.rewrote |= !rewrites.is_empty();
        for some in rewrites.chunks(ROWS_MAX) {
            let texts: Vec<String> = some.iter().map(Rewrite::to_text).collect();
            let mut sql = Vec::new();
            own_tables::insert_rewrites(&mut sql, &texts);
            self.own(&sql, "asking for rows to be published").await?;
        }
        Ok(())
    }

    async fn keep_conflicts(&mut self, conflicts: &[Conflict]) -> Result<(), TargetError> {
        for conflict in conflicts {
            let mut sql = Vec::new();
            own_tables::insert_conflict(&mut sql, conflict);
            self.own(&sql, "keeping a conflict").await?;
        }
        Ok(())
    }

    async fn keep_dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), TargetError> {
        for letter in letters {
            let mut sql = Vec::new();
            own_tables::insert_dead_letter(&mut sql, letter);
            self.own(&sql, "keeping a dead letter").await?;
        }
        Ok(())
    }

    async fn mend(&mut self, letters: &[(OriginId, Offset)]) -> Result<(), TargetError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut sql = Vec::new();
        own_tables::delete_dead_letters(&mut sql, letters);
        self.own(&sql, "removing a dead letter").await
    }

    async fn keep_schema(&mut self, entry: &SchemaEntry) -> Result<u64, TargetError> {
        let kept = match self.session() {
            Ok(session) => super::ddl::keep(session, entry).await,
            Err(gone) => Err(gone),
        };
        self.settle(kept).await
    }

    async fn park(&mut self, records: &[(u64, Offset, &Record)]) -> Result<(), TargetError> {
        let parked = self.park_all(records).await;
        self.settle(parked).await
    }

    async fn unpark(&mut self, ids: &[u64]) -> Result<(), TargetError> {
        let unparked = self.unpark_all(ids).await;
        self.settle(unparked).await
    }

    async fn rows_after(&mut self, table: &TableName, after: Option<&RowKey>, most: usize) -> Result<Vec<Held>, TargetError> {
        let rows = self.next_rows(table, after, most).await;
        self.settle(rows).await
    }

    async fn empty(&mut self, table: &TableName) -> Result<(), TargetError> {
        let emptied = self.empty_table(table).await;
        self.settle(emptied).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), TargetError> {
        let committed = match self.session() {
            Ok(session) => session.run(b"COMMIT", About::Task("committing")).await.map(drop),
            Err(gone) => Err(gone),
        };
        self.settle(committed).await?;
        // What had failed is written. Where nobody was in the way, or nobody is any more, the next write need not look first.
        for (table, _) in self.looked_through.iter().filter(|(_, found)| !**found) {
            self.inner.schemas.forget_taken(table);
        }
        let mut session = self.session.take().expect("it has just committed");
        if self.rewrote && own_tables::clean_up(&mut session).await.is_err() {
            // The commit stands; the connection may not.
            return Ok(());
        }
        self.put_away(session).await;
        Ok(())
    }

    async fn rollback(mut self: Box<Self>) {
        self.roll_back().await;
    }
}
