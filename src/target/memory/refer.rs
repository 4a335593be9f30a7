//! The one foreign key that a table may have.

use super::database::{Database, Resource, Row};
use super::{MemoryReference, OnDelete, Session, fold};
use crate::change::{Change, Image, RowKey, TableName, Value};
use crate::target::{CanonicalKey, Follows, Held, Referrer, TargetError, Tied};

impl MemoryReference {
    /// The key that a row of the table refers to.
    pub(super) fn parent(&self, row: &Row) -> Option<CanonicalKey> {
        let value = row.get(self.column)?;
        (!value.is_null()).then(|| fold::key(&self.to, std::slice::from_ref(value)))
    }
}

/// Holds the row that a new row refers to, so that it cannot go meanwhile; an error where it is not there.
pub(super) async fn parent_there(session: &Session, name: &TableName, row: &Row) -> Result<(), TargetError> {
    let (to, parent) = {
        let database = session.database();
        let Some(reference) = &database.table(name)?.refers else { return Ok(()) };
        let Some(parent) = reference.parent(row) else { return Ok(()) };
        (reference.to.clone(), parent)
    };
    session.lock(Resource::Row(parent.clone())).await?;
    match session.database().table(&to)?.row(&parent) {
        Some(_) => Ok(()),
        None => Err(TargetError::ParentMissing { table: name.clone(), constraint: String::new() }),
    }
}

pub(super) async fn lacks_parent(session: &Session, held: &Held) -> Result<bool, TargetError> {
    let row: Row = held.image.values().map(|value| value.expect("rows here are whole").to_value()).collect();
    match parent_there(session, held.key.table(), &row).await {
        Err(TargetError::ParentMissing { .. }) => Ok(true),
        other => other.map(|()| false),
    }
}

/// The rows that refer to a row which the session holds; held too.
async fn referring(
    session: &Session,
    name: &TableName,
    key: &CanonicalKey,
) -> Result<Vec<(TableName, CanonicalKey)>, TargetError> {
    loop {
        let found = session.database().referring(name, key);
        for (_, row) in &found {
            session.lock(Resource::Row(row.clone())).await?;
        }
        // No new one can come while the row is held, but one may have gone while we waited.
        if session.database().referring(name, key).len() == found.len() {
            return Ok(found);
        }
    }
}

fn on_delete(session: &Session, name: &TableName) -> Result<OnDelete, TargetError> {
    let database = session.database();
    Ok(database.table(name)?.refers.as_ref().expect("it refers").on_delete)
}

fn nulled(session: &Session, name: &TableName, key: &CanonicalKey) -> Result<Row, TargetError> {
    let database = session.database();
    let table = database.table(name)?;
    let mut row = table.row(key).expect("it is held").clone();
    row[table.refers.as_ref().expect("it refers").column] = Value::Null;
    Ok(row)
}

/// The application's own delete of a row (or its move to another key): what refers to it follows in silence, or forbids it.
pub(super) async fn cascade(session: &Session, name: &TableName, key: &CanonicalKey, moves: bool) -> Result<(), TargetError> {
    for (from, row) in referring(session, name, key).await? {
        match on_delete(session, &from)? {
            OnDelete::Restrict => return Err(still_referred(name)),
            _ if moves => return Err(still_referred(name)),
            OnDelete::Cascade => {
                Box::pin(cascade(session, &from, &row, false)).await?;
                session.database().write_silently(session.id, &from, &row, None);
            }
            OnDelete::SetNull => {
                let nulled = nulled(session, &from, &row)?;
                session.database().write_silently(session.id, &from, &row, Some(nulled));
            }
        }
    }
    Ok(())
}

/// What a row let go of, and what it holds on to.
pub(super) fn ties(database: &Database, change: &Change) -> Result<Tied, TargetError> {
    let table = database.table(change.table())?;
    let Some(reference) = &table.refers else { return Ok(Tied::default()) };
    let parent = |image: &Option<Image>| {
        let value = image.as_ref()?.get(reference.column)?.to_value();
        (!value.is_null()).then(|| fold::key(&reference.to, &[value]))
    };
    let (was, is) = (parent(&change.before), parent(&change.after));
    let goes = reference.on_delete == OnDelete::Cascade && database.is_referred(change.table());
    let left = was.filter(|was| goes && is.as_ref() != Some(was));
    let joined = is.filter(|_| reference.on_delete != OnDelete::Restrict);
    Ok(Tied { left: left.into_iter().collect(), joined: joined.into_iter().collect() })
}

/// The applier's delete of a row, which must have asked what refers to it.
pub(super) async fn nothing_refers(session: &Session, name: &TableName, key: &CanonicalKey) -> Result<(), TargetError> {
    match referring(session, name, key).await?.is_empty() {
        true => Ok(()),
        false => Err(still_referred(name)),
    }
}

fn still_referred(name: &TableName) -> TargetError {
    TargetError::Unwritable { table: name.clone(), reason: "other rows here still refer to it".into() }
}

pub(super) async fn referrers(session: &Session, key: &RowKey, moves: bool) -> Result<Vec<Referrer>, TargetError> {
    let name = key.table();
    let canonical = fold::key(name, &key.values);
    session.lock(Resource::Row(canonical.clone())).await?;
    let mut all = Vec::new();
    for (from, row) in referring(session, name, &canonical).await? {
        let image = |row: Row| Image::of(row.iter().cloned().map(Some));
        let follows = match on_delete(session, &from)? {
            _ if moves => Follows::Blocks,
            OnDelete::Restrict => Follows::Blocks,
            OnDelete::Cascade => Follows::Goes,
            OnDelete::SetNull => Follows::Becomes(image(nulled(session, &from, &row)?)),
        };
        let database = session.database();
        let table = database.table(&from)?;
        let image = image(table.row(&row).expect("it is held").clone());
        let key = RowKey::of(&table.shape, &image).expect("a table here has a key and whole rows");
        all.push(Referrer { held: Held { key, image }, follows });
    }
    Ok(all)
}
