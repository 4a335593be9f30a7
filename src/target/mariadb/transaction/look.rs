//! Rows looked at and locked: by their primary key, or by a unique value that they hold.

use std::collections::HashMap;

use super::{MariadbTransaction, ROWS_MAX};
use crate::change::{Change, RowKey, ValueRef};
use crate::target::mariadb::canonical::other_key;
use crate::target::mariadb::fault::About;
use crate::target::mariadb::literal;
use crate::target::mariadb::read::{held, key_values};
use crate::target::mariadb::schema::{Table, UniqueKey};
use crate::target::mariadb::statement::{key_literal, keys_in};
use crate::target::{CanonicalKey, Held, TargetError};

impl MariadbTransaction {
    pub(super) async fn lock_all(&mut self, keys: &[RowKey]) -> Result<Vec<Option<Held>>, TargetError> {
        let mut all = Vec::with_capacity(keys.len());
        for same_table in keys.chunk_by(|one, other| one.table() == other.table()) {
            let table = self.table(same_table[0].table()).await?;
            for some in same_table.chunks(ROWS_MAX) {
                all.append(&mut self.lock_some(&table, some).await?);
            }
        }
        Ok(all)
    }

    pub(super) async fn lock_some(&mut self, table: &Table, keys: &[RowKey]) -> Result<Vec<Option<Held>>, TargetError> {
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
    pub(super) async fn locked(&mut self, table: &Table, mut sql: Vec<u8>) -> Result<Vec<Held>, TargetError> {
        sql.extend_from_slice(b" FOR UPDATE");
        let session = self.session()?;
        let rows = session.rows_about(&sql, About::Table(table)).await?;
        held(table, &rows).ok_or_else(|| session.not_understood("reading locked rows"))
    }

    pub(super) async fn holders_of(&mut self, change: &Change) -> Result<Vec<Held>, TargetError> {
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
        let mut looked_through = false;
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
            let Some(wanted) = unique.columns.iter().map(value).collect::<Option<Vec<ValueRef>>>() else { continue };
            // Any number of rows may have NULL.
            if wanted.iter().any(|value| value.is_null()) {
                continue;
            }
            if unique.prefix {
                return Err(prefix_refused(&table, unique));
            }
            // Until a write fails for it nobody is looked for: it would be all rows for each write.
            if unique.hashed && !self.inner.schemas.is_taken_lately(&table.shape.table) {
                continue;
            }
            let mut condition = Vec::new();
            for (number, (&at, value)) in unique.columns.iter().zip(wanted).enumerate() {
                if number > 0 {
                    condition.extend_from_slice(b" AND ");
                }
                let column = &table.shape.columns[at];
                literal::identifier(&mut condition, &column.name);
                condition.push(b'=');
                key_literal(&mut condition, column.kind, value);
            }
            let mut held = match unique.hashed {
                true => {
                    looked_through = true;
                    self.looked_through(&table, &condition).await?
                }
                false => self.locked(&table, [select(&table, &unique.name), condition].concat()).await?,
            };
            holders.append(&mut held);
        }
        let found = self.distinct(&table, holders, own_key).await?;
        if looked_through {
            *self.looked_through.entry(table.shape.table.clone()).or_default() |= !found.is_empty();
        }
        Ok(found)
    }

    /// Each row once, and our own not at all: a row may hold several of the values, and our own is not in its own way.
    async fn distinct(&mut self, table: &Table, holders: Vec<Held>, own_key: RowKey) -> Result<Vec<Held>, TargetError> {
        if holders.is_empty() {
            return Ok(holders);
        }
        let mut keys: Vec<RowKey> = holders.iter().map(|held| held.key.clone()).collect();
        keys.push(own_key);
        let mut canonical = self.canonical(table, &keys).await?;
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
}

impl MariadbTransaction {
    /// The rows that meet a condition for which there is no index. They are found without locks, which would be on the whole table, and
    /// locked by their keys, if they are still such rows then. A row that came to be one meanwhile is in the way of the write, which says so.
    async fn looked_through(&mut self, table: &Table, condition: &[u8]) -> Result<Vec<Held>, TargetError> {
        let mut sql = select(table, "PRIMARY");
        sql.extend_from_slice(condition);
        let session = self.session()?;
        let rows = session.rows_about(&sql, About::Table(table)).await?;
        let found = held(table, &rows).ok_or_else(|| session.not_understood("looking for a row by its unique value"))?;
        if found.is_empty() {
            return Ok(found);
        }
        let mut values = Vec::with_capacity(found.len());
        for held in &found {
            values.push(key_values(table, &held.key).ok_or_else(|| other_key(table))?);
        }
        let mut sql = select(table, "PRIMARY");
        keys_in(&mut sql, table, values);
        sql.extend_from_slice(b" AND ");
        sql.extend_from_slice(condition);
        self.locked(table, sql).await
    }
}

/// `SELECT … FROM table FORCE INDEX (index) WHERE `: forced, because the server reads, and locks, the whole of a small
/// table otherwise.
pub(super) fn select(table: &Table, index: &str) -> Vec<u8> {
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
pub(super) fn told<'c>(table: &Table, change: &'c Change, at: usize) -> Option<ValueRef<'c>> {
    let name = &table.shape.columns[at].name;
    let from = change.shape.columns.iter().position(|column| column.name == *name).or_else(|| {
        let same = |column: &crate::change::Column| table.column(&column.name) == Some(at);
        change.shape.columns.iter().position(same)
    })?;
    change.after.as_ref()?.get(from)
}

fn told_or_kept<'c>(table: &Table, change: &'c Change, kept: Option<&'c Held>, at: usize) -> Option<ValueRef<'c>> {
    told(table, change, at).or_else(|| kept?.image.get(at))
}

fn prefix_refused(table: &Table, unique: &UniqueKey) -> TargetError {
    let reason =
        format!("its unique key `{}` counts only the first characters of a column, which is not supported", unique.name);
    TargetError::Unwritable { table: table.shape.table.clone(), reason }
}
