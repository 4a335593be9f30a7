//! What becomes of a write, given what is known of its row. Pure; every shelf decides by it.

use serde_json::{Map, Value};

use super::ShelfError;
use crate::change::cloud::{CloudOp, CloudRow, CloudVersion, RowAnswer, RowResult};

/// What is known of a row; without a body it is deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    pub version: CloudVersion,
    /// The row as JSON.
    pub body: Option<String>,
}

/// The answer to a write, and what is known of the row then; `None` where it stays as it was.
pub fn decide(before: Option<&Known>, row: CloudRow) -> Result<(RowAnswer, Option<Known>), ShelfError> {
    // Stores have signed numbers, and no clock comes near.
    if i64::try_from(row.version.hlc).is_err() {
        return Ok((RowAnswer { result: RowResult::Refused, error: Some("its version is no time".into()) }, None));
    }
    if let Some(before) = before {
        if before.version == row.version {
            return Ok((RowAnswer::of(RowResult::Duplicate), None));
        }
        if before.version > row.version {
            return Ok((RowAnswer::of(RowResult::Stale), None));
        }
    }
    let body = match row.op {
        CloudOp::Delete => None,
        CloudOp::Insert => Some(row.row),
        CloudOp::Update => {
            let text = before.and_then(|before| before.body.as_deref());
            let mut body = text.map_or_else(|| Ok(Map::new()), read)?;
            body.extend(row.row);
            Some(body)
        }
    };
    let body = body.map(|body| written(&body)).transpose()?;
    Ok((RowAnswer::of(RowResult::Applied), Some(Known { version: row.version, body })))
}

/// A row that has no version: kept where nothing is known of its id. `None` where something is, be it that it was deleted.
pub fn first(before: Option<&Known>, row: &Map<String, Value>) -> Result<Option<Known>, ShelfError> {
    let body = before.is_none().then(|| written(row)).transpose()?;
    Ok(body.map(|body| Known { version: CloudVersion::default(), body: Some(body) }))
}

/// A row as it was kept.
pub fn read(text: &str) -> Result<Map<String, Value>, ShelfError> {
    // What the parser says may repeat what is in the row.
    serde_json::from_str(text).map_err(|_| ShelfError::new("a row that was kept is no JSON any more"))
}

fn written(row: &Map<String, Value>) -> Result<String, ShelfError> {
    serde_json::to_string(row).map_err(|error| ShelfError::new(error.to_string()))
}

/// How the count of a resource's rows changes when this is known of one in place of that.
pub fn grows_by(before: Option<&Known>, after: &Known) -> i64 {
    let is_there = |known: &Known| i64::from(known.body.is_some());
    is_there(after) - before.map_or(0, is_there)
}
