//! Rows that refer to a row by a foreign key, and what that key makes of them; and whether those are here that it refers to.
//!
//! The server would do the same by itself, but it would not ask whether such a row was written by somebody who did not
//! know; and what it does to them it does not log. So the applier looks, decides, and writes each of them.

use super::MariadbTransaction;
use super::look::{select, told};
use crate::change::{Change, Image, RowKey, Value, ValueRef};
use crate::target::mariadb::literal;
use crate::target::mariadb::read::key_values;
use crate::target::mariadb::references::{ForeignKey, Rule};
use crate::target::mariadb::schema::Table;
use crate::target::mariadb::statement::key_literal;
use crate::target::{CanonicalKey, Follows, Held, Referrer, TargetError};

impl MariadbTransaction {
    pub(super) async fn referrers_of(&mut self, key: &RowKey, becomes: Option<&Change>) -> Result<Vec<Referrer>, TargetError> {
        let table = self.table(key.table()).await?;
        let concerned = concerned(&table, becomes);
        if concerned.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.lock_some(&table, std::slice::from_ref(key)).await?.pop().flatten();
        // A row that is gone already may still be referred to, by its key.
        let Some(row) = held.or_else(|| only_key(&table, key)) else { return Ok(Vec::new()) };
        let own = self.canonical(&table, std::slice::from_ref(key)).await?.pop().expect("one key, one answer");
        let mut met: Vec<(CanonicalKey, Referrer)> = Vec::new();
        for reference in concerned {
            let Some((was, will)) = values(&table, reference, &row, becomes) else { continue };
            let from = self.table(&reference.from).await?;
            let Some(columns) = columns(&from, reference) else { continue };
            // A row without a key could not be told apart: the server does by itself what the foreign key says.
            if !from.shape.has_key() {
                continue;
            }
            let rows = self.rows_with(&from, &columns, &was).await?;
            let keys: Vec<RowKey> = rows.iter().map(|held| held.key.clone()).collect();
            for (held, key) in rows.into_iter().zip(self.canonical(&from, &keys).await?) {
                // A row that refers to itself goes with itself.
                if key == own {
                    continue;
                }
                let rule = if becomes.is_none() { reference.on_delete } else { reference.on_update };
                let known = met.iter_mut().find(|(other, _)| *other == key).map(|(_, referrer)| referrer);
                match known {
                    Some(referrer) => {
                        referrer.follows = both(&held.image, &referrer.follows, follows(rule, &held, &columns, &will));
                    }
                    None => {
                        let follows = follows(rule, &held, &columns, &will);
                        met.push((key, Referrer { held, follows }));
                    }
                }
            }
        }
        Ok(met.into_iter().map(|(_, referrer)| referrer).collect())
    }

    pub(super) async fn lacks_parent_of(&mut self, held: &Held) -> Result<bool, TargetError> {
        let table = self.table(held.key.table()).await?;
        for (parent, reference) in &table.refers {
            let parent = self.table(parent).await?;
            let there: Option<Vec<usize>> = reference.columns.iter().map(|(_, there)| parent.column(there)).collect();
            let (Some(own), Some(there)) = (columns(&table, reference), there) else { continue };
            let values: Option<Vec<Value>> = own.iter().map(|&at| held.image.get(at).map(ValueRef::to_value)).collect();
            // With a NULL it refers to nothing.
            let Some(values) = values.filter(|values| !values.iter().any(Value::is_null)) else { continue };
            if self.rows_with(&parent, &there, &values).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rows whose columns, in the order of an index that begins with them, have these values; locked.
    async fn rows_with(&mut self, from: &Table, columns: &[usize], values: &[Value]) -> Result<Vec<Held>, TargetError> {
        // The server has an index that begins with a foreign key's columns, in their order.
        let index = from.indexes.iter().find(|(_, own)| own.starts_with(columns)).map_or("PRIMARY", |(name, _)| name);
        let mut sql = select(from, index);
        for (number, (&at, value)) in columns.iter().zip(values).enumerate() {
            if number > 0 {
                sql.extend_from_slice(b" AND ");
            }
            let column = &from.shape.columns[at];
            literal::identifier(&mut sql, &column.name);
            sql.push(b'=');
            key_literal(&mut sql, column.kind, value.as_ref());
        }
        self.locked(from, sql).await
    }
}

/// The foreign keys that refer to what a write takes away or changes.
pub(super) fn concerned<'t>(table: &'t Table, becomes: Option<&Change>) -> Vec<&'t ForeignKey> {
    table.referred.iter().filter(|reference| becomes.is_none_or(|change| may_move(table, reference, change))).collect()
}

/// A row of which nothing but its key is known.
fn only_key(table: &Table, key: &RowKey) -> Option<Held> {
    let mut image = vec![None; table.shape.columns.len()];
    for (at, value) in table.key().zip(key_values(table, key)?) {
        image[at] = Some(value.to_value());
    }
    Some(Held { key: key.clone(), image: Image::of(image) })
}

/// False where the change tells that what the foreign key refers to stays as it is.
fn may_move(table: &Table, reference: &ForeignKey, change: &Change) -> bool {
    reference.columns.iter().any(|(_, parent)| {
        let at = change.shape.columns.iter().position(|column| table.column(&column.name) == table.column(parent));
        let of = |image: &Option<Image>| image.as_ref().and_then(|image| image.get(at?).map(ValueRef::to_value));
        match (of(&change.before), of(&change.after)) {
            (Some(before), Some(after)) => before != after,
            // A partial image leaves out what did not change.
            (_, None) => false,
            (None, Some(_)) => true,
        }
    })
}

/// What rows refer to now, and what the row will have in its place (`None`: it goes). `None` where nothing can refer to it,
/// or where it stays the same.
fn values(
    table: &Table,
    reference: &ForeignKey,
    row: &Held,
    becomes: Option<&Change>,
) -> Option<(Vec<Value>, Option<Vec<Value>>)> {
    let places: Vec<usize> = reference.columns.iter().map(|(_, parent)| table.column(parent)).collect::<Option<_>>()?;
    let was: Vec<Value> = places.iter().map(|&at| row.image.get(at).map(ValueRef::to_value)).collect::<Option<_>>()?;
    if was.iter().any(Value::is_null) {
        return None;
    }
    let will = becomes.map(|change| {
        let value = |(&at, was): (&usize, &Value)| told(table, change, at).map_or_else(|| was.clone(), ValueRef::to_value);
        places.iter().zip(&was).map(value).collect::<Vec<_>>()
    });
    (will.as_ref() != Some(&was)).then_some((was, will))
}

fn columns(from: &Table, reference: &ForeignKey) -> Option<Vec<usize>> {
    reference.columns.iter().map(|(own, _)| from.column(own)).collect()
}

fn follows(rule: Rule, held: &Held, columns: &[usize], will: &Option<Vec<Value>>) -> Follows {
    let with = |values: Vec<Value>| {
        let mut row = known(&held.image);
        columns.iter().zip(values).for_each(|(&at, value)| row[at] = Some(value));
        Follows::Becomes(Image::of(row))
    };
    match (rule, will) {
        (Rule::Restrict, _) => Follows::Blocks,
        (Rule::Cascade, None) => Follows::Goes,
        (Rule::Cascade, Some(values)) => with(values.clone()),
        (Rule::SetNull, _) => with(vec![Value::Null; columns.len()]),
    }
}

/// A row that refers twice: what keeps the other row weighs most.
fn both(was: &Image, one: &Follows, other: Follows) -> Follows {
    match (one, other) {
        (Follows::Blocks, _) | (_, Follows::Blocks) => Follows::Blocks,
        (Follows::Goes, _) | (_, Follows::Goes) => Follows::Goes,
        (Follows::Becomes(one), Follows::Becomes(other)) => {
            let rows = known(was).into_iter().zip(known(one)).zip(known(&other));
            Follows::Becomes(Image::of(rows.map(|((was, one), other)| if one == was { other } else { one })))
        }
    }
}

fn known(image: &Image) -> Vec<Option<Value>> {
    image.values().map(|value| value.map(ValueRef::to_value)).collect()
}
