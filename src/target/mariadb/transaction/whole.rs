//! Rows without a key: a statement each, in the order given; those of one table share a round trip.

use std::sync::Arc;

use super::MariadbTransaction;
use crate::change::Change;
use crate::runtime::{Disposition, Fault};
use crate::target::mariadb::fault::About;
use crate::target::mariadb::schema::Table;
use crate::target::mariadb::statement::whole;
use crate::target::{TargetError, Write, WriteError};

/// Bytes of the statements of one round trip, but for a single large row.
const BYTES_MAX: usize = 256 << 10;

/// Statements that wait to be sent.
struct Waiting {
    table: Arc<Table>,
    foreign_keys_off: bool,
    /// Place of the first among all writes, and how many there are.
    first: usize,
    count: usize,
    sql: Vec<u8>,
}

impl MariadbTransaction {
    /// Writes that are all of rows without a key; the first is the `first` of all.
    pub(super) async fn write_whole(&mut self, first: usize, writes: &[Write]) -> Result<(), WriteError> {
        let mut waiting: Option<Waiting> = None;
        for (number, write) in (first..).zip(writes) {
            let Write::Whole(change) = write else { unreachable!("the caller parted them from the others") };
            let (table, sql) = match self.statement_of(change).await {
                Ok(planned) => planned,
                Err(error) => {
                    // What came before it is to happen.
                    if let Some(waiting) = waiting.take() {
                        self.send(waiting).await?;
                    }
                    return Err(WriteError { failed: Some(number), error });
                }
            };
            let foreign_keys_off = change.checks.foreign_keys_off;
            match &mut waiting {
                Some(waiting)
                    if Arc::ptr_eq(&waiting.table, &table)
                        && waiting.foreign_keys_off == foreign_keys_off
                        && waiting.sql.len() + sql.len() < BYTES_MAX =>
                {
                    waiting.sql.push(b';');
                    waiting.sql.extend_from_slice(&sql);
                    waiting.count += 1;
                }
                _ => {
                    let next = Waiting { table, foreign_keys_off, first: number, count: 1, sql };
                    if let Some(waiting) = waiting.replace(next) {
                        self.send(waiting).await?;
                    }
                }
            }
        }
        match waiting {
            Some(waiting) => self.send(waiting).await,
            None => Ok(()),
        }
    }

    async fn statement_of(&mut self, change: &Change) -> Result<(Arc<Table>, Vec<u8>), TargetError> {
        let table = self.table(change.table()).await?;
        table.writable()?;
        match whole(&table, change) {
            // A column that came to be a moment ago, or a key that is gone.
            Err(TargetError::Unwritable { .. }) => {
                self.inner.schemas.forget(change.table());
                let table = self.table(change.table()).await?;
                let sql = whole(&table, change)?;
                Ok((table, sql))
            }
            sql => Ok((table, sql?)),
        }
    }

    async fn send(&mut self, waiting: Waiting) -> Result<(), WriteError> {
        let outcome = self.send_all(&waiting).await;
        outcome.map_err(|error| {
            let is_of_a_row = error.disposition() == Disposition::DeadLetter;
            if is_of_a_row && !matches!(error, TargetError::RowMissing { .. }) {
                self.inner.schemas.forget(&waiting.table.shape.table);
            }
            // Of several, those after the one that failed may have happened.
            WriteError { failed: (is_of_a_row && waiting.count == 1).then_some(waiting.first), error }
        })
    }

    async fn send_all(&mut self, waiting: &Waiting) -> Result<(), TargetError> {
        self.foreign_keys(waiting.foreign_keys_off).await?;
        self.fits(&waiting.table, &waiting.sql)?;
        let (found, outcome) = self.session()?.run_each(&waiting.sql, About::Table(&waiting.table)).await;
        outcome?;
        match found.contains(&0) || found.len() != waiting.count {
            true => Err(TargetError::RowMissing { table: waiting.table.shape.table.clone() }),
            false => Ok(()),
        }
    }
}
