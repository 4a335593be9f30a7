//! Rows written: runs of neighbours, each by the statements that its form asks for.

use std::sync::Arc;

use super::MariadbTransaction;
use crate::change::TableName;
use crate::runtime::{Disposition, Fault};
use crate::target::mariadb::fault::About;
use crate::target::mariadb::schema::Table;
use crate::target::mariadb::statement::{Form, Run, missing};
use crate::target::{TargetError, Write, WriteError};

/// The server's name of every primary key.
const PRIMARY: &str = "PRIMARY";

impl MariadbTransaction {
    pub(super) async fn write_all(&mut self, writes: &[Write]) -> Result<(), WriteError> {
        let mut first = 0;
        let is_whole = |write: &Write| matches!(write, Write::Whole(_));
        for some in writes.chunk_by(|one, other| is_whole(one) == is_whole(other)) {
            match is_whole(&some[0]) {
                true => self.write_whole(first, some).await?,
                false => self.write_keyed(first, some).await?,
            }
            first += some.len();
        }
        Ok(())
    }

    /// The text of a statement is made while the server is at the one before it.
    async fn write_keyed(&mut self, first: usize, writes: &[Write]) -> Result<(), WriteError> {
        let (runs, unplanned) = self.plan_all(first, writes).await;
        let mut text = runs.first().and_then(Run::statement);
        for (number, run) in runs.iter().enumerate() {
            let next = async { runs.get(number + 1).and_then(Run::statement) };
            // In this order: what is to be sent is sent before the next is made.
            let (executed, next) = futures_util::future::join(self.execute(run, text), next).await;
            executed?;
            text = next;
        }
        // What came before it has happened.
        unplanned.map_or(Ok(()), Err)
    }

    /// Neighbours that share their statements; and the write that cannot be written, up to which they go.
    async fn plan_all<'w>(&mut self, first: usize, writes: &'w [Write]) -> (Vec<Run<'w>>, Option<WriteError>) {
        let mut runs: Vec<Run<'w>> = Vec::new();
        for (number, write) in (first..).zip(writes) {
            let planned = match self.plan(number, write, runs.last()).await {
                Ok(planned) => planned,
                Err(error) => return (runs, Some(WriteError { failed: Some(number), error })),
            };
            let apart = match runs.last_mut() {
                Some(before) => before.join(planned),
                None => Some(planned),
            };
            runs.extend(apart);
        }
        (runs, None)
    }

    async fn plan<'w>(&mut self, number: usize, write: &'w Write, like: Option<&Run<'w>>) -> Result<Run<'w>, TargetError> {
        let name = write.table();
        let table = match like {
            Some(run) if run.table.shape.table == *name => run.table.clone(),
            _ => self.table(name).await?,
        };
        table.writable()?;
        match Run::new(table, number, write, like) {
            // A column that came to be a moment ago.
            Err(TargetError::Unwritable { .. }) => {
                self.inner.schemas.forget(name);
                let table = self.table(name).await?;
                let table = self.without_dropped(table, write).await?;
                Run::new(table, number, write, like)
            }
            other => other,
        }
    }

    /// The table as one that leaves out what a change says of columns that are no longer here. A column that never was here is
    /// no such: to leave that out would lose what nobody said may be lost.
    async fn without_dropped(&mut self, table: Arc<Table>, write: &Write) -> Result<Arc<Table>, TargetError> {
        let Write::Put(change) = write else { return Ok(table) };
        let missing = missing(&table, &change.shape);
        if missing.is_empty() {
            return Ok(table);
        }
        let known = super::super::ddl::known_columns(self.session()?, &table.shape.table).await?;
        let (was_here, other): (Vec<_>, Vec<_>) = missing.into_iter().partition(|name| known.contains(&name.to_lowercase()));
        if !other.is_empty() && !super::super::ddl::is_left_as_it_is(self.session()?, &table.shape.table).await? {
            return Ok(table);
        }
        let dropped = table.dropped.iter().cloned().chain(was_here).chain(other).collect();
        Ok(self.inner.schemas.note_dropped(&table, dropped))
    }

    async fn execute(&mut self, run: &Run<'_>, text: Option<Vec<u8>>) -> Result<(), WriteError> {
        let outcome = self.execute_run(run, text).await;
        let failed =
            |error: &TargetError| (run.len() == 1 && error.disposition() == Disposition::DeadLetter).then_some(run.first);
        outcome.map_err(|error| {
            if error.disposition() == Disposition::DeadLetter {
                self.inner.schemas.forget(&run.table.shape.table);
            }
            WriteError { failed: failed(&error), error }
        })
    }

    async fn execute_run(&mut self, run: &Run<'_>, text: Option<Vec<u8>>) -> Result<(), TargetError> {
        self.foreign_keys(run.checks.foreign_keys_off).await?;
        let left_out = run.left_out();
        if left_out > 0 {
            self.inner.count_left_out(&run.table.shape.table, left_out);
        }
        let text = text.unwrap_or_default();
        match run.form {
            Form::Upsert => match self.statement(run, text).await {
                // The guard of the upsert: the row that was in the way is not the row of this key.
                Err(TargetError::Unwritable { table, .. }) if self.has_unique(&table).await? => {
                    Err(TargetError::UniqueTaken { table, index: "a new unique key".into() })
                }
                other => other,
            },
            Form::Delete | Form::Fill => self.statement(run, text).await,
            Form::Insert => match self.statement(run, text).await {
                Err(TargetError::UniqueTaken { index, .. }) if index == PRIMARY => self.update(run, true).await,
                other => other,
            },
            Form::Update { or_insert } => self.update(run, or_insert).await,
        }
    }

    pub(super) async fn foreign_keys(&mut self, off: bool) -> Result<(), TargetError> {
        if off != self.foreign_keys_off {
            let sql: &[u8] = if off { b"SET SESSION foreign_key_checks=0" } else { b"SET SESSION foreign_key_checks=1" };
            self.session()?.run(sql, About::Task("switching foreign key checks")).await?;
            self.foreign_keys_off = off;
        }
        Ok(())
    }

    /// Updates by key, and inserts of the rows that were not there.
    async fn update(&mut self, run: &Run<'_>, or_insert: bool) -> Result<(), TargetError> {
        let missing = self.update_rows(run, 0..run.len()).await?;
        if missing.is_empty() {
            return Ok(());
        }
        if !or_insert {
            let reason = "the row does not exist here and the change holds only some of its columns".into();
            return Err(TargetError::Unwritable { table: run.table.shape.table.clone(), reason });
        }
        match self.statement(run, run.insert(missing.iter().copied())).await {
            // Our updates have locked the gaps, so it is a row of this very run that is in it twice: one after another.
            Err(TargetError::UniqueTaken { index, .. }) if index == PRIMARY || run.table.is_hashed() => {
                for row in missing {
                    if !self.update_rows(run, [row]).await?.is_empty() {
                        self.statement(run, run.insert([row])).await?;
                    }
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Updates these rows by key and tells which of them were not there.
    async fn update_rows(
        &mut self,
        run: &Run<'_>,
        rows: impl IntoIterator<Item = usize> + Clone,
    ) -> Result<Vec<usize>, TargetError> {
        let sql = run.updates(rows.clone());
        self.fits(&run.table, &sql)?;
        let (found, outcome) = self.session()?.run_each(&sql, About::Table(&run.table)).await;
        outcome?;
        Ok(rows.into_iter().zip(found).filter(|(_, found)| *found == 0).map(|(row, _)| row).collect())
    }

    async fn has_unique(&mut self, table: &TableName) -> Result<bool, TargetError> {
        self.inner.schemas.forget(table);
        Ok(self.table(table).await.is_ok_and(|table| !table.unique.is_empty()))
    }

    async fn statement(&mut self, run: &Run<'_>, sql: Vec<u8>) -> Result<(), TargetError> {
        self.fits(&run.table, &sql)?;
        self.session()?.run(&sql, About::Table(&run.table)).await.map(drop)
    }

    /// A statement larger than the server takes would cost the connection.
    pub(super) fn fits(&mut self, table: &Table, sql: &[u8]) -> Result<(), TargetError> {
        let limit = self.session()?.server().packet_bytes;
        if sql.len() < limit {
            return Ok(());
        }
        let reason = format!("it is larger than the server's max_allowed_packet of {limit} bytes: raise it there");
        Err(TargetError::Unwritable { table: table.shape.table.clone(), reason })
    }
}
