//! Tables without a key: a row is found by all that it holds.

use super::Session;
use super::database::{Resource, Row};
use super::transaction::{merge, put_row, unique_locks};
use crate::change::{Change, TableName};
use crate::target::TargetError;

/// The applier's change of one row.
pub(super) async fn write(session: &Session, change: &Change) -> Result<(), TargetError> {
    let name = change.table();
    let unwritable = |reason: &str| TargetError::Unwritable { table: name.clone(), reason: reason.into() };
    let (before, after) = {
        let database = session.database();
        let table = database.table(name)?;
        if table.shape.has_key() {
            return Err(unwritable("it has a primary key here, and had none where it was changed"));
        }
        if !change.is_whole() {
            return Err(unwritable("it has no primary key, and the change does not hold the whole row"));
        }
        let row = |image: &Option<_>| image.as_ref().map(|image| merge(&table.shape, None, change, image)).transpose();
        (row(&change.before)?, row(&change.after)?)
    };
    match write_row(session, name, before, after).await? {
        true => Ok(()),
        false => Err(TargetError::RowMissing { table: name.clone() }),
    }
}

/// One row more, another, or one less. False where no row equals `before`.
pub(super) async fn write_row(
    session: &Session,
    name: &TableName,
    before: Option<Row>,
    after: Option<Row>,
) -> Result<bool, TargetError> {
    session.lock(Resource::Table(name.clone())).await?;
    let place = {
        let mut database = session.database();
        match &before {
            None => Some(database.new_place(name)),
            Some(row) => database.table(name)?.equal(row),
        }
    };
    let Some(place) = place else { return Ok(false) };
    match after {
        Some(row) => put_row(session, name, None, &place, row).await?,
        None => {
            unique_locks(session, name, &place, None).await?;
            session.database().write_row(session.id, name, None, &place, None);
        }
    }
    Ok(true)
}
