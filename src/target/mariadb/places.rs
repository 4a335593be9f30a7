//! The keys of a row by which rows of other tables refer to it: its places, and which of them a write left and joined.
//!
//! Where an image does not tell a value (`binlog_row_image` other than FULL), more is answered than is so, never less: what is
//! not known may be any place of the table, and a row of unknown values is in all of them.

use std::sync::Arc;

use super::MariadbTarget;
use super::references::Rule;
use super::schema::Table;
use super::session::Session;
use crate::change::{Change, Image, RowKey, Shape, TableName, Value, ValueRef};
use crate::target::{CanonicalKey, TargetError};

/// Beside its own name, every place is under this.
const EVERY: &[u8] = b"every place of the table";
/// A place of which the values are not known.
const UNKNOWN: &[u8] = b"some place of the table";

impl MariadbTarget {
    /// As [`Target::ties`](crate::target::Target::ties): two lists for each change, what it left and what it joined.
    pub(super) async fn ties_in(
        &self,
        session: &mut Session,
        changes: &[&Change],
    ) -> Result<Vec<Vec<CanonicalKey>>, TargetError> {
        let mut all = Vec::with_capacity(2 * changes.len());
        for change in changes {
            let table = self.0.schemas.table(session, change.table()).await?;
            let (mut left, mut joined) = (Vec::new(), Vec::new());
            let silent = |rule: Rule| rule != Rule::Restrict;
            for (to, reference) in
                table.refers.iter().filter(|(_, reference)| silent(reference.on_delete) || silent(reference.on_update))
            {
                let parent = self.0.schemas.table(session, to).await?;
                let (own, other): (Vec<&str>, Vec<&str>) =
                    reference.columns.iter().map(|(own, other)| (&**own, &**other)).unzip();
                if reference.on_delete == Rule::Cascade
                    && !table.referred.is_empty()
                    && let Some(was) = gave_up(&table, change, &own)
                {
                    self.add(session, &parent, &other, was, &mut left).await?;
                }
                {
                    let is =
                        told(&table, change, &change.after, &own).into_iter().zip(told(&table, change, &change.before, &own));
                    let is: Option<Vec<Value>> = is.map(|(is, was)| is.or(was)).collect();
                    self.add(session, &parent, &other, is, &mut joined).await?;
                }
            }
            for columns in referred_columns(&table) {
                if let Some(was) = gave_up(&table, change, &columns) {
                    self.add(session, &table, &columns, was, &mut left).await?;
                }
            }
            all.extend([left, joined]);
        }
        Ok(all)
    }

    /// As [`Target::places`](crate::target::Target::places).
    pub(super) async fn places_in(
        &self,
        session: &mut Session,
        shape: &Shape,
        image: &Image,
    ) -> Result<Vec<CanonicalKey>, TargetError> {
        let table = self.0.schemas.table(session, &shape.table).await?;
        let mut places = Vec::new();
        for columns in referred_columns(&table) {
            let values: Option<Vec<Value>> =
                columns.iter().map(|column| image.get(at(&table, shape, column)?).map(ValueRef::to_value)).collect();
            match values {
                Some(values) if values.iter().any(Value::is_null) => {}
                Some(values) => {
                    places.push(named(session, &table, UNKNOWN));
                    places.extend(self.place(session, &table, &columns, values).await?);
                }
                None => places.push(named(session, &table, EVERY)),
            }
        }
        places.dedup();
        Ok(places)
    }

    async fn add(
        &self,
        session: &mut Session,
        table: &Table,
        columns: &[&str],
        values: Option<Vec<Value>>,
        places: &mut Vec<CanonicalKey>,
    ) -> Result<(), TargetError> {
        match values {
            // That refers to nothing.
            Some(values) if values.iter().any(Value::is_null) => return Ok(()),
            Some(values) => places.extend(self.place(session, table, columns, values).await?),
            None => places.push(named(session, table, UNKNOWN)),
        }
        places.push(named(session, table, EVERY));
        Ok(())
    }

    /// The canonical form of the values of some columns, as if those were the table's key.
    async fn place(
        &self,
        session: &mut Session,
        table: &Table,
        columns: &[&str],
        values: Vec<Value>,
    ) -> Result<Option<CanonicalKey>, TargetError> {
        let Some(columns) = columns.iter().map(|column| table.column(column)).collect::<Option<Vec<usize>>>() else {
            return Ok(None);
        };
        // A foreign key may name its columns in any order.
        let mut parts: Vec<(usize, Value)> = columns.into_iter().zip(values).collect();
        parts.sort_by_key(|(column, _)| *column);
        let (key, values): (Vec<u16>, Vec<Value>) = parts.into_iter().map(|(column, value)| (column as u16, value)).unzip();
        let shape = Arc::new(Shape { key, ..(*table.shape).clone() });
        let table = Table { shape: shape.clone(), ..table.clone() };
        let key = RowKey { shape, values: values.into() };
        Ok(self.0.weights.canonical(session, &[(&table, &key)]).await?.pop())
    }
}

/// The columns that foreign keys refer to, each set of them once.
fn referred_columns(table: &Table) -> Vec<Vec<&str>> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    for reference in &table.referred {
        let columns: Vec<&str> = reference.columns.iter().map(|(_, parent)| &**parent).collect();
        if !all.contains(&columns) {
            all.push(columns);
        }
    }
    all
}

/// What the columns held before the change, where it gave them other values. `None` inside where it does not tell.
fn gave_up(table: &Table, change: &Change, columns: &[&str]) -> Option<Option<Vec<Value>>> {
    change.before.as_ref()?;
    let (was, is) = (told(table, change, &change.before, columns), told(table, change, &change.after, columns));
    // A partial image leaves out what did not change.
    let moved = was.iter().zip(&is).any(|(was, is)| is.is_some() && was != is);
    moved.then(|| was.into_iter().collect())
}

fn told(table: &Table, change: &Change, image: &Option<Image>, columns: &[&str]) -> Vec<Option<Value>> {
    let value = |column: &&str| image.as_ref()?.get(at(table, &change.shape, column)?).map(ValueRef::to_value);
    columns.iter().map(value).collect()
}

/// Where the column of the table is in another description of it.
fn at(table: &Table, shape: &Shape, column: &str) -> Option<usize> {
    shape.columns.iter().position(|own| table.column(&own.name) == table.column(column))
}

fn named(session: &Session, table: &Table, name: &[u8]) -> CanonicalKey {
    let own = &table.shape.table;
    match session.server().folds_names {
        false => CanonicalKey::new(own, [name]),
        true => CanonicalKey::new(&TableName::new(&own.database.to_lowercase(), &own.table.to_lowercase()), [name]),
    }
}
