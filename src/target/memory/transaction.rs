//! The apply transaction on this database.

use async_trait::async_trait;

use super::database::{Resource, Row};
use super::{Session, Step, Verdict, fold, refer, whole};
use crate::change::{Change, GtidPosition, Image, Offset, Op, OriginId, Record, Rewrite, RowKey, TableName, Value};
use crate::runtime::{Disposition, Fault};
use crate::target::{
    ApplyTransaction, CanonicalKey, Conflict, DeadLetter, Held, Parked, Referrer, SchemaEntry, TargetError, Write, WriteError,
};

pub(super) struct MemoryTransaction {
    session: Session,
}

impl MemoryTransaction {
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    async fn verdict(&mut self, step: Step<'_>) -> Result<Verdict, TargetError> {
        if !self.session.open {
            return Err(TargetError::Contended { reason: "the transaction was rolled back by an earlier failure".into() });
        }
        let verdict = self.session.target.options.faults.before(step).await;
        self.settle(verdict.refused())?;
        Ok(verdict)
    }

    /// After a failure that asks for a retry the server has rolled back.
    fn settle<T>(&mut self, outcome: Result<T, TargetError>) -> Result<T, TargetError> {
        if outcome.as_ref().is_err_and(|error| error.disposition() == Disposition::Retry) {
            self.session.rollback();
        }
        outcome
    }

    async fn held(&self, key: &RowKey) -> Result<Option<Held>, TargetError> {
        let canonical = fold::key(key.table(), &key.values);
        self.session.lock(Resource::Row(canonical.clone())).await?;
        let database = self.session.database();
        let table = database.table(key.table())?;
        Ok(table.row(&canonical).map(|row| hold(&table.shape, row)))
    }

    async fn holder(&self, change: &Change) -> Result<Option<Held>, TargetError> {
        let name = change.table();
        let Some(key) = change.key() else { return Ok(None) };
        let own = fold::key(name, &key.values);
        loop {
            let (unique, holder) = {
                let database = self.session.database();
                let table = database.table(name)?;
                let wanted = table.unique.as_ref().and_then(|(_, column)| {
                    let column = change.shape.column(&table.shape.columns[*column].name)?;
                    table.unique_of(&change.after.as_ref()?.get(column)?.to_value())
                });
                let Some(unique) = wanted else { return Ok(None) };
                let holder = table.holder(&unique).filter(|&holder| *holder != own).cloned();
                (unique, holder)
            };
            self.session.lock(Resource::Unique(unique.clone())).await?;
            if let Some(holder) = &holder {
                self.session.lock(Resource::Row(holder.clone())).await?;
            }
            // While we waited the value may have gone to another row.
            let database = self.session.database();
            let table = database.table(name)?;
            let now = table.holder(&unique).filter(|&holder| *holder != own);
            if now == holder.as_ref() {
                return Ok(now.and_then(|key| table.row(key)).map(|row| hold(&table.shape, row)));
            }
        }
    }

    async fn write_one(&self, write: &Write) -> Result<(), TargetError> {
        match write {
            Write::Put(change) => self.put(change).await,
            Write::Whole(change) => whole::write(&self.session, change).await,
            Write::Delete(key) | Write::DeleteAlone(key) => {
                let canonical = fold::key(key.table(), &key.values);
                self.session.lock(Resource::Row(canonical.clone())).await?;
                if matches!(write, Write::Delete(_)) {
                    refer::nothing_refers(&self.session, key.table(), &canonical).await?;
                }
                unique_locks(&self.session, key.table(), &canonical, None).await?;
                self.session.database().write_row(self.session.id, key.table(), None, &canonical, None);
                Ok(())
            }
        }
    }

    async fn put(&self, change: &Change) -> Result<(), TargetError> {
        let table = change.table();
        let unwritable = |reason: &str| TargetError::Unwritable { table: table.clone(), reason: reason.into() };
        let key = change.key().ok_or_else(|| unwritable("the change does not hold the whole primary key"))?;
        let key = fold::key(table, &key.values);
        let after = change.after.as_ref().ok_or_else(|| unwritable("the change has no after image"))?;
        self.session.lock(Resource::Row(key.clone())).await?;
        let row = {
            let database = self.session.database();
            let table = database.table(table)?;
            if change.op == Op::Read && table.row(&key).is_some() {
                return Err(TargetError::UniqueTaken { table: table.shape.table.clone(), index: "PRIMARY".into() });
            }
            merge(&table.shape, table.row(&key), change, after)?
        };
        if !change.checks.foreign_keys_off {
            refer::parent_there(&self.session, table, &row).await?;
        }
        put_row(&self.session, table, None, &key, row).await
    }
}

/// The row that comes of the known columns of an image on top of what is there.
pub(super) fn merge(
    shape: &crate::change::Shape,
    here: Option<&Row>,
    change: &Change,
    after: &Image,
) -> Result<Row, TargetError> {
    let unwritable = |reason: String| TargetError::Unwritable { table: shape.table.clone(), reason };
    let mut row: Vec<Option<Value>> = match here {
        Some(row) => row.iter().cloned().map(Some).collect(),
        // An inserted row tells all that is not a default; of any other we would invent what it does not tell.
        None if matches!(change.op, Op::Insert | Op::Read) && after.is_full() => vec![Some(Value::Null); shape.columns.len()],
        None => vec![None; shape.columns.len()],
    };
    for (column, value) in change.shape.columns.iter().zip(after.values()) {
        let Some(value) = value else { continue };
        let at = shape.column(&column.name).ok_or_else(|| unwritable(format!("there is no column `{}` here", column.name)))?;
        row[at] = Some(value.to_value());
    }
    let partial = || unwritable("the row does not exist here and the change holds only some of its columns".into());
    row.into_iter().collect::<Option<_>>().ok_or_else(partial)
}

fn hold(shape: &std::sync::Arc<crate::change::Shape>, row: &Row) -> Held {
    let image = Image::of(row.iter().cloned().map(Some));
    let key = RowKey::of(shape, &image).expect("a table here has a key and whole rows");
    Held { key, image }
}

/// Locks the unique values that a row gives up and takes.
pub(super) async fn unique_locks(
    session: &Session,
    name: &TableName,
    key: &CanonicalKey,
    row: Option<&Row>,
) -> Result<(), TargetError> {
    let mut values: Vec<CanonicalKey> = {
        let database = session.database();
        let table = database.table(name)?;
        let column = table.unique.as_ref().map(|(_, column)| *column);
        let value = |row: &Row| table.unique_of(row.get(column?)?);
        let (old, new) = (table.row(key).and_then(value), row.and_then(value));
        if old == new { Vec::new() } else { [old, new].into_iter().flatten().collect() }
    };
    values.sort();
    for value in values {
        session.lock(Resource::Unique(value)).await?;
    }
    Ok(())
}

/// Writes a row whose key is locked; `from` is its earlier key.
pub(super) async fn put_row(
    session: &Session,
    name: &TableName,
    from: Option<&CanonicalKey>,
    key: &CanonicalKey,
    row: Row,
) -> Result<(), TargetError> {
    unique_locks(session, name, from.unwrap_or(key), Some(&row)).await?;
    let mut database = session.database();
    let table = database.table(name)?;
    if let Some((index, column)) = &table.unique
        && let Some(value) = table.unique_of(&row[*column])
        && table.holder(&value).is_some_and(|holder| holder != key && Some(holder) != from)
    {
        return Err(TargetError::UniqueTaken { table: name.clone(), index: index.to_string() });
    }
    database.write_row(session.id, name, from, key, Some(row));
    Ok(())
}

#[async_trait]
impl ApplyTransaction for MemoryTransaction {
    async fn lock(&mut self, keys: &[RowKey]) -> Result<Vec<Option<Held>>, TargetError> {
        let verdict = self.verdict(Step::Lock).await?;
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            let held = self.held(key).await;
            all.push(self.settle(held)?);
        }
        self.settle(verdict.failed())?;
        Ok(all)
    }

    async fn holders(&mut self, change: &Change) -> Result<Vec<Held>, TargetError> {
        let verdict = self.verdict(Step::Holders).await?;
        let holder = self.holder(change).await;
        let holder = self.settle(holder)?;
        self.settle(verdict.failed())?;
        Ok(holder.into_iter().collect())
    }

    async fn is_referred(&mut self, table: &TableName, becomes: Option<&Change>) -> Result<bool, TargetError> {
        // Only a key can be referred to.
        let moves = becomes.is_none_or(|change| change.moved_from().is_some());
        Ok(moves && self.session.database().is_referred(table))
    }

    async fn referrers(&mut self, key: &RowKey, becomes: Option<&Change>) -> Result<Vec<Referrer>, TargetError> {
        if !self.is_referred(key.table(), becomes).await? {
            return Ok(Vec::new());
        }
        let verdict = self.verdict(Step::Referrers).await?;
        let referrers = refer::referrers(&self.session, key, becomes.is_some()).await;
        let referrers = self.settle(referrers)?;
        self.settle(verdict.failed())?;
        Ok(referrers)
    }

    async fn lacks_parent(&mut self, held: &Held) -> Result<bool, TargetError> {
        let verdict = self.verdict(Step::Referrers).await?;
        let lacks = refer::lacks_parent(&self.session, held).await;
        let lacks = self.settle(lacks)?;
        self.settle(verdict.failed())?;
        Ok(lacks)
    }

    async fn position(&mut self) -> Result<GtidPosition, TargetError> {
        let verdict = self.verdict(Step::Position).await?;
        let position = self.session.target.end();
        self.settle(verdict.failed())?;
        Ok(position)
    }

    async fn write(&mut self, writes: &[Write]) -> Result<(), WriteError> {
        for (number, write) in writes.iter().enumerate() {
            let outcome = match self.verdict(Step::Write(write)).await {
                Ok(verdict) => match self.write_one(write).await {
                    Ok(()) => verdict.failed(),
                    failed => failed,
                },
                Err(error) => Err(error),
            };
            self.settle(outcome).map_err(|error| WriteError { failed: Some(number), error })?;
        }
        Ok(())
    }

    async fn rewrite(&mut self, rewrites: &[Rewrite]) -> Result<(), TargetError> {
        let verdict = self.verdict(Step::Rewrite).await?;
        for rewrite in rewrites {
            self.session.database().write_rewrite(self.session.id, rewrite);
        }
        self.settle(verdict.failed())
    }

    async fn keep_conflicts(&mut self, conflicts: &[Conflict]) -> Result<(), TargetError> {
        let verdict = self.verdict(Step::Keep).await?;
        for conflict in conflicts {
            self.session.database().keep_conflict(self.session.id, conflict);
        }
        self.settle(verdict.failed())
    }

    async fn keep_dead_letters(&mut self, letters: &[DeadLetter]) -> Result<(), TargetError> {
        let verdict = self.verdict(Step::Keep).await?;
        for letter in letters {
            self.session.database().keep_dead_letter(self.session.id, letter);
        }
        self.settle(verdict.failed())
    }

    async fn mend(&mut self, letters: &[(OriginId, Offset)]) -> Result<(), TargetError> {
        self.session.database().mend(self.session.id, letters);
        Ok(())
    }

    async fn keep_schema(&mut self, entry: &SchemaEntry) -> Result<u64, TargetError> {
        let verdict = self.verdict(Step::Keep).await?;
        let number = self.session.database().keep_schema(self.session.id, entry);
        self.settle(verdict.failed())?;
        Ok(number)
    }

    async fn park(&mut self, records: &[(u64, Offset, &Record)]) -> Result<(), TargetError> {
        let verdict = self.verdict(Step::Keep).await?;
        for &(behind, offset, record) in records {
            let parked = Parked { id: 0, offset, record: record.clone() };
            self.session.database().park(self.session.id, behind, parked);
        }
        self.settle(verdict.failed())
    }

    async fn unpark(&mut self, ids: &[u64]) -> Result<(), TargetError> {
        let verdict = self.verdict(Step::Keep).await?;
        self.session.database().unpark(self.session.id, ids);
        self.settle(verdict.failed())
    }

    async fn rows_after(&mut self, name: &TableName, after: Option<&RowKey>, most: usize) -> Result<Vec<Held>, TargetError> {
        let verdict = self.verdict(Step::Lock).await?;
        let locked = self.session.lock(Resource::Table(name.clone())).await;
        self.settle(locked)?;
        let held = {
            let database = self.session.database();
            let table = database.table(name)?;
            let after = after.map(|key| fold::key(name, &key.values));
            let rows = table.keys_after(after.as_ref()).filter_map(|key| table.row(key));
            rows.take(most).map(|row| hold(&table.shape, row)).collect()
        };
        self.settle(verdict.failed())?;
        Ok(held)
    }

    async fn empty(&mut self, name: &TableName) -> Result<(), TargetError> {
        let verdict = self.verdict(Step::Lock).await?;
        let locked = self.session.lock(Resource::Table(name.clone())).await;
        self.settle(locked)?;
        self.session.database().table(name)?;
        self.session.database().empty(self.session.id, name, false);
        self.settle(verdict.failed())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), TargetError> {
        let verdict = self.verdict(Step::Commit).await?;
        self.session.commit();
        verdict.failed()
    }

    async fn rollback(mut self: Box<Self>) {
        self.session.rollback();
    }
}
