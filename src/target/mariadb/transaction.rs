//! The apply transaction on a MariaDB.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::canonical::other_key;
use super::fault::About;
use super::read::{held, key_values};
use super::schema::{Table, UniqueKey};
use super::session::Session;
use super::statement::{Form, Run, key_literal, keys_in};
use super::{Inner, literal, own_tables};
use crate::change::{Change, GtidPosition, Mark, Rewrite, RowKey, TableName, Value};
use crate::runtime::{Disposition, Fault};
use crate::target::{ApplyTransaction, CanonicalKey, Conflict, DeadLetter, Held, TargetError, Write, WriteError};

/// Rows locked by one statement, and rows of our own tables written by one.
const ROWS_MAX: usize = 500;

pub(super) struct MariadbTransaction {
    inner: Arc<Inner>,
    /// Gone once the transaction has ended. Dropped with it open, the connection closes and the server rolls back.
    session: Option<Session>,
    foreign_keys_off: bool,
    rewrote: bool,
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
        let mut sql = b"START TRANSACTION;".to_vec();
        own_tables::upsert_mark(&mut sql, mark);
        let (affected, outcome) = session.run_each(&sql, about).await;
        let mut own = Self { inner, session: Some(session), foreign_keys_off: false, rewrote: false };
        own.settle(outcome).await?;
        if own_tables::may_be_silent(affected.last().copied().unwrap_or(0)) {
            let renewed = own.renew(mark).await;
            own.settle(renewed).await?;
        }
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

    async fn lock_all(&mut self, keys: &[RowKey]) -> Result<Vec<Option<Held>>, TargetError> {
        let mut all = Vec::with_capacity(keys.len());
        for same_table in keys.chunk_by(|one, other| one.table() == other.table()) {
            let table = self.table(same_table[0].table()).await?;
            for some in same_table.chunks(ROWS_MAX) {
                all.append(&mut self.lock_some(&table, some).await?);
            }
        }
        Ok(all)
    }

    async fn lock_some(&mut self, table: &Table, keys: &[RowKey]) -> Result<Vec<Option<Held>>, TargetError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(key_values(table, key).ok_or_else(|| other_key(table))?);
        }
        let mut sql = select(table, "PRIMARY");
        keys_in(&mut sql, table, values);
        let found = self.locked(table, sql).await?;
        if found.is_empty() {
            return Ok(vec![None; keys.len()]);
        }
        let found_keys: Vec<RowKey> = found.iter().map(|held| held.key.clone()).collect();
        let found_keys = self.canonical(table, &found_keys).await?;
        let found: HashMap<CanonicalKey, Held> = found_keys.into_iter().zip(found).collect();
        let wanted = self.canonical(table, keys).await?;
        Ok(wanted.iter().map(|key| found.get(key).cloned()).collect())
    }

    /// Runs a [`select`] with its condition, and locks what it finds and the gaps where it finds nothing.
    async fn locked(&mut self, table: &Table, mut sql: Vec<u8>) -> Result<Vec<Held>, TargetError> {
        sql.extend_from_slice(b" FOR UPDATE");
        let session = self.session()?;
        let rows = session.rows_about(&sql, About::Table(table)).await?;
        let all: Option<Vec<Held>> = rows.into_iter().map(|row| held(table, row)).collect();
        all.ok_or_else(|| session.not_understood("reading locked rows"))
    }

    async fn holders_of(&mut self, change: &Change) -> Result<Vec<Held>, TargetError> {
        let table = self.table(change.table()).await?;
        if change.after.is_none() || table.unique.is_empty() {
            return Ok(Vec::new());
        }
        let no_key = || TargetError::Unwritable {
            table: change.table().clone(),
            reason: "the change does not hold the whole primary key".into(),
        };
        let own_key = change.key().ok_or_else(no_key)?;
        let mut now: Option<Option<Held>> = None;
        let mut holders: Vec<Held> = Vec::new();
        for unique in &table.unique {
            let told = unique.columns.iter().filter(|&&at| told(&table, change, at).is_some()).count();
            if told == 0 {
                continue;
            }
            // The rest of the values is what the row has now.
            if told < unique.columns.len() && now.is_none() {
                now = self.lock_some(&table, std::slice::from_ref(&own_key)).await?.pop();
            }
            let kept = now.as_ref().and_then(Option::as_ref);
            let value = |&at: &usize| told_or_kept(&table, change, kept, at);
            let Some(wanted) = unique.columns.iter().map(value).collect::<Option<Vec<&Value>>>() else { continue };
            // Any number of rows may have NULL.
            if wanted.iter().any(|value| value.is_null()) {
                continue;
            }
            if unique.prefix {
                return Err(prefix_refused(&table, unique));
            }
            let mut sql = select(&table, &unique.name);
            for (number, (&at, value)) in unique.columns.iter().zip(wanted).enumerate() {
                if number > 0 {
                    sql.extend_from_slice(b" AND ");
                }
                let column = &table.shape.columns[at];
                literal::identifier(&mut sql, &column.name);
                sql.push(b'=');
                key_literal(&mut sql, column.kind, value);
            }
            holders.append(&mut self.locked(&table, sql).await?);
        }
        if holders.is_empty() {
            return Ok(holders);
        }
        let mut keys: Vec<RowKey> = holders.iter().map(|held| held.key.clone()).collect();
        keys.push(own_key);
        let mut canonical = self.canonical(&table, &keys).await?;
        // A row may hold several of the values, and our own row is not in its own way.
        let mut met = vec![canonical.pop().expect("one was pushed last")];
        let mut distinct = Vec::with_capacity(holders.len());
        for (held, key) in holders.into_iter().zip(canonical) {
            if !met.contains(&key) {
                met.push(key);
                distinct.push(held);
            }
        }
        Ok(distinct)
    }

    async fn write_all(&mut self, writes: &[Write]) -> Result<(), WriteError> {
        let mut run: Option<Run<'_>> = None;
        for (number, write) in writes.iter().enumerate() {
            let planned = match self.plan(number, write, run.as_ref()).await {
                Ok(planned) => planned,
                Err(error) => {
                    // What came before it is to happen.
                    if let Some(run) = run.take() {
                        self.execute(&run).await?;
                    }
                    return Err(WriteError { failed: Some(number), error });
                }
            };
            run = match run.take() {
                None => Some(planned),
                Some(mut before) => match before.join(planned) {
                    None => Some(before),
                    Some(planned) => {
                        self.execute(&before).await?;
                        Some(planned)
                    }
                },
            };
        }
        match run {
            Some(run) => self.execute(&run).await,
            None => Ok(()),
        }
    }

    async fn plan<'w>(&mut self, number: usize, write: &'w Write, like: Option<&Run<'w>>) -> Result<Run<'w>, TargetError> {
        let name = match write {
            Write::Put(change) => change.table(),
            Write::Delete(key) => key.table(),
        };
        let table = match like {
            Some(run) if run.table.shape.table == *name => run.table.clone(),
            _ => self.table(name).await?,
        };
        match Run::new(table, number, write, like) {
            // A column that came to be a moment ago.
            Err(TargetError::Unwritable { .. }) => {
                self.inner.schemas.forget(name);
                let table = self.table(name).await?;
                Run::new(table, number, write, like)
            }
            other => other,
        }
    }

    async fn execute(&mut self, run: &Run<'_>) -> Result<(), WriteError> {
        let outcome = self.execute_run(run).await;
        let failed =
            |error: &TargetError| (run.len() == 1 && error.disposition() == Disposition::DeadLetter).then_some(run.first);
        outcome.map_err(|error| {
            if error.disposition() == Disposition::DeadLetter {
                self.inner.schemas.forget(&run.table.shape.table);
            }
            WriteError { failed: failed(&error), error }
        })
    }

    async fn execute_run(&mut self, run: &Run<'_>) -> Result<(), TargetError> {
        if run.checks.foreign_keys_off != self.foreign_keys_off {
            let sql: &[u8] = match run.checks.foreign_keys_off {
                true => b"SET SESSION foreign_key_checks=0",
                false => b"SET SESSION foreign_key_checks=1",
            };
            self.session()?.run(sql, About::Task("switching foreign key checks")).await?;
            self.foreign_keys_off = run.checks.foreign_keys_off;
        }
        match run.form {
            Form::Upsert => match self.statement(run, run.statement()).await {
                // The guard of the upsert: the row that was in the way is not the row of this key.
                Err(TargetError::Unwritable { table, .. }) if self.has_unique(&table).await? => {
                    Err(TargetError::UniqueTaken { table, index: "a new unique key".into() })
                }
                other => other,
            },
            Form::Delete => self.statement(run, run.statement()).await,
            Form::Insert => match self.statement(run, run.statement()).await {
                Err(TargetError::UniqueTaken { index, .. }) if index == "PRIMARY" => self.update(run, true).await,
                other => other,
            },
            Form::Update { or_insert } => self.update(run, or_insert).await,
        }
    }

    /// Updates by key, and inserts of the rows that were not there.
    async fn update(&mut self, run: &Run<'_>, or_insert: bool) -> Result<(), TargetError> {
        let sql = run.updates();
        self.fits(run, &sql)?;
        let (found, outcome) = self.session()?.run_each(&sql, About::Table(&run.table)).await;
        outcome?;
        let missing: Vec<usize> = found.iter().enumerate().filter(|(_, found)| **found == 0).map(|(at, _)| at).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if !or_insert {
            let reason = "the row does not exist here and the change holds only some of its columns".into();
            return Err(TargetError::Unwritable { table: run.table.shape.table.clone(), reason });
        }
        match self.statement(run, run.insert(missing)).await {
            // Our update has locked the gap, so this is a row of the same run: its own earlier write.
            Err(TargetError::UniqueTaken { index, .. }) if index == "PRIMARY" => {
                Err(TargetError::Contended { reason: "a row came to be while it was written".into() })
            }
            other => other,
        }
    }

    async fn has_unique(&mut self, table: &TableName) -> Result<bool, TargetError> {
        self.inner.schemas.forget(table);
        Ok(self.table(table).await.is_ok_and(|table| !table.unique.is_empty()))
    }

    async fn statement(&mut self, run: &Run<'_>, sql: Vec<u8>) -> Result<(), TargetError> {
        self.fits(run, &sql)?;
        self.session()?.run(&sql, About::Table(&run.table)).await.map(drop)
    }

    /// A statement larger than the server takes would cost the connection.
    fn fits(&mut self, run: &Run<'_>, sql: &[u8]) -> Result<(), TargetError> {
        let limit = self.session()?.server().packet_bytes;
        if sql.len() < limit {
            return Ok(());
        }
        let reason = format!("it is larger than the server's max_allowed_packet of {limit} bytes: raise it there");
        Err(TargetError::Unwritable { table: run.table.shape.table.clone(), reason })
    }

    async fn own(&mut self, sql: &[u8], task: &str) -> Result<(), TargetError> {
        let written = match self.session() {
            Ok(session) => session.run_each(sql, About::Task(task)).await.1,
            Err(gone) => Err(gone),
        };
        self.settle(written).await
    }
}

/// `SELECT … FROM table FORCE INDEX (index) WHERE `: forced, because the server reads, and locks, the whole of a small
/// table otherwise.
fn select(table: &Table, index: &str) -> Vec<u8> {
    let mut sql = b"SELECT ".to_vec();
    sql.extend_from_slice(&table.select);
    sql.extend_from_slice(b" FROM ");
    literal::table(&mut sql, &table.shape.table);
    sql.extend_from_slice(b" FORCE INDEX (");
    literal::identifier(&mut sql, index);
    sql.extend_from_slice(b") WHERE ");
    sql
}

/// What the change's after image says of a column of the table.
fn told<'c>(table: &Table, change: &'c Change, at: usize) -> Option<&'c Value> {
    let name = &table.shape.columns[at].name;
    let from = change.shape.columns.iter().position(|column| column.name == *name).or_else(|| {
        let same = |column: &crate::change::Column| table.column(&column.name) == Some(at);
        change.shape.columns.iter().position(same)
    })?;
    change.after.as_ref()?.get(from)
}

fn told_or_kept<'c>(table: &Table, change: &'c Change, kept: Option<&'c Held>, at: usize) -> Option<&'c Value> {
    told(table, change, at).or_else(|| kept?.image.get(at))
}

fn prefix_refused(table: &Table, unique: &UniqueKey) -> TargetError {
    let reason =
        format!("its unique key `{}` counts only the first characters of a column, which is not supported", unique.name);
    TargetError::Unwritable { table: table.shape.table.clone(), reason }
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
                let Err(error) = self.settle::<()>(Err(error)).await else { return Ok(()) };
                Err(WriteError { failed, error })
            }
        }
    }

    async fn remark(&mut self, mark: &Mark) -> Result<(), TargetError> {
        let renewed = self.renew(mark).await;
        self.settle(renewed).await
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

    async fn commit(mut self: Box<Self>) -> Result<(), TargetError> {
        let committed = match self.session() {
            Ok(session) => session.run(b"COMMIT", About::Task("committing")).await.map(drop),
            Err(gone) => Err(gone),
        };
        self.settle(committed).await?;
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
