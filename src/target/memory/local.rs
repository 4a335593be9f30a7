//! The application that shares the database with us: its own transactions, which the tailer is to publish.

use super::database::{Resource, Row};
use super::transaction::{put_row, unique_locks};
use super::{MemoryTarget, Step, fold, refer, whole};
use crate::change::{Gtid, TableName, Value};
use crate::target::TargetError;

/// One statement of an application's transaction. Rows have a value for every column; where the table has no key, the whole
/// row stands for it, and an insert or a put is one row more.
#[derive(Clone, PartialEq, Debug)]
pub enum LocalWrite {
    /// Refused where the row exists.
    Insert { table: TableName, row: Vec<Value> },
    /// May move the row to another key; does nothing where it does not exist.
    Update { table: TableName, key: Vec<Value>, row: Vec<Value> },
    /// Insert or update by key.
    Put { table: TableName, row: Vec<Value> },
    /// Does nothing where the row does not exist.
    Delete { table: TableName, key: Vec<Value> },
    /// By a statement of its own, which is a transaction of its own: with nothing beside it.
    Truncate { table: TableName },
}

impl MemoryTarget {
    /// One transaction of the application: all of it or, after an error, nothing. Waits for locks like everybody.
    /// `None` where it changed nothing. A unique collision is `UniqueTaken`, of the primary key with the index `PRIMARY`.
    pub async fn local_write(&self, writes: &[LocalWrite]) -> Result<Option<Gtid>, TargetError> {
        let mut session = self.start();
        for write in writes {
            let verdict = self.options.faults.before(Step::LocalRow).await;
            verdict.refused()?;
            if let Some((table, before, after)) = self.keyless(write) {
                whole::write_row(&session, table, before, after).await?;
                verdict.failed()?;
                continue;
            }
            match write {
                LocalWrite::Insert { table, row } => {
                    let key = key_of(self, table, row)?;
                    session.lock(Resource::Row(key.clone())).await?;
                    if session.database().table(table)?.row(&key).is_some() {
                        return Err(TargetError::UniqueTaken { table: table.clone(), index: "PRIMARY".into() });
                    }
                    refer::parent_there(&session, table, &row.clone().into()).await?;
                    put_row(&session, table, None, &key, row.clone().into()).await?;
                }
                LocalWrite::Put { table, row } => {
                    let key = key_of(self, table, row)?;
                    session.lock(Resource::Row(key.clone())).await?;
                    refer::parent_there(&session, table, &row.clone().into()).await?;
                    put_row(&session, table, None, &key, row.clone().into()).await?;
                }
                LocalWrite::Update { table, key, row } => {
                    let (from, key) = (fold::key(table, key), key_of(self, table, row)?);
                    session.lock(Resource::Row(from.clone())).await?;
                    if session.database().table(table)?.row(&from).is_none() {
                        continue;
                    }
                    session.lock(Resource::Row(key.clone())).await?;
                    if from != key && session.database().table(table)?.row(&key).is_some() {
                        return Err(TargetError::UniqueTaken { table: table.clone(), index: "PRIMARY".into() });
                    }
                    if from != key {
                        refer::cascade(&session, table, &from, true).await?;
                    }
                    refer::parent_there(&session, table, &row.clone().into()).await?;
                    put_row(&session, table, Some(&from), &key, row.clone().into()).await?;
                }
                LocalWrite::Truncate { table } => {
                    session.lock(Resource::Table(table.clone())).await?;
                    session.database().table(table)?;
                    session.database().empty(session.id, table, true);
                }
                LocalWrite::Delete { table, key } => {
                    let key = fold::key(table, key);
                    session.lock(Resource::Row(key.clone())).await?;
                    refer::cascade(&session, table, &key, false).await?;
                    unique_locks(&session, table, &key, None).await?;
                    session.database().write_row(session.id, table, None, &key, None);
                }
            }
            verdict.failed()?;
        }
        let verdict = self.options.faults.before(Step::LocalCommit).await;
        verdict.refused()?;
        let gtid = session.commit();
        verdict.failed()?;
        Ok(gtid)
    }
}

impl MemoryTarget {
    /// What a write does to one row of a table without a key. `None` where it has one.
    fn keyless<'w>(&self, write: &'w LocalWrite) -> Option<(&'w TableName, Option<Row>, Option<Row>)> {
        let row = |values: &Vec<Value>| Some(Row::from(values.clone()));
        let (table, before, after) = match write {
            LocalWrite::Insert { table, row: after } | LocalWrite::Put { table, row: after } => (table, None, row(after)),
            LocalWrite::Update { table, key, row: after } => (table, row(key), row(after)),
            LocalWrite::Delete { table, key } => (table, row(key), None),
            LocalWrite::Truncate { .. } => return None,
        };
        let keyless = self.lock_database().table(table).is_ok_and(|own| !own.shape.has_key());
        keyless.then_some((table, before, after))
    }
}

fn key_of(target: &MemoryTarget, table: &TableName, row: &[Value]) -> Result<crate::target::CanonicalKey, TargetError> {
    let database = target.lock_database();
    let shape = &database.table(table)?.shape;
    if row.len() != shape.columns.len() {
        let reason = "the row does not have a value for each column".into();
        return Err(TargetError::Unwritable { table: table.clone(), reason });
    }
    let values: Vec<Value> = shape.key.iter().map(|&at| row[usize::from(at)].clone()).collect();
    Ok(fold::key(table, &values))
}
