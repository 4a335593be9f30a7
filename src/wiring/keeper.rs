//! What the node's database keeps for people, in the form in which they see it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value as Json};

use super::node::Database;
use crate::change::{Change, Image, RowKey, wire};
use crate::observe::{ConflictView, FailedView, SideView};
use crate::runtime::Stop;
use crate::serve::Keeper;
use crate::target::keep::Side;
use crate::target::mariadb::{KeptConflict, KeptDeadLetter};

/// Answers from the node's database.
pub struct DatabaseKeeper(pub Arc<Database>);

#[async_trait]
impl Keeper for DatabaseKeeper {
    async fn conflicts(&self, at_most: usize, open_only: bool) -> Result<Vec<ConflictView>, Stop> {
        let conflicts = self.0.target().await?.conflicts(open_only, at_most).await?;
        Ok(conflicts.into_iter().map(conflict_view).collect())
    }

    async fn conflict(&self, id: &str) -> Result<Option<ConflictView>, Stop> {
        let target = self.0.target().await?;
        Ok(target.conflict(id).await?.map(conflict_view))
    }

    async fn failed(&self, at_most: usize) -> Result<Vec<FailedView>, Stop> {
        let letters = self.0.target().await?.dead_letters(at_most).await?;
        Ok(letters.into_iter().map(failed_view).collect())
    }
}

pub fn conflict_view(kept: KeptConflict) -> ConflictView {
    ConflictView {
        id: kept.id,
        table: kept.table,
        key: object(&kept.key),
        kind: kept.kind,
        open: kept.open,
        winner: side_view(&kept.winner),
        loser: side_view(&kept.loser),
    }
}

fn side_view(side: &Side) -> SideView {
    let row = |(key, image): &(RowKey, Image)| object(&wire::image_json(&key.shape, image));
    SideView {
        origin: side.origin.as_str().to_owned(),
        written_seconds: side.hlc.0 / crate::change::Hlc::SECOND,
        row: side.row.as_ref().map(row),
    }
}

fn failed_view(kept: KeptDeadLetter) -> FailedView {
    let letter = kept.letter;
    FailedView {
        origin: letter.origin.as_str().to_owned(),
        offset: letter.offset.0,
        table: letter.change.table().to_string(),
        key: row_of(&letter.change),
        op: letter.change.op.word().to_owned(),
        reason: letter.reason,
        attempts: letter.attempts,
    }
}

/// What tells the row from others: its key, or all that it was (or is, if it is new) where the table has none.
fn row_of(change: &Change) -> Map<String, Json> {
    let image = change.before.as_ref().or(change.after.as_ref());
    match (change.key(), image) {
        (Some(key), _) => object(&wire::key_json(&key)),
        (None, Some(image)) => object(&wire::image_json(&change.shape, image)),
        (None, None) => Map::new(),
    }
}

/// Text that this program wrote as an object of columns.
fn object(json: &str) -> Map<String, Json> {
    serde_json::from_str(json).unwrap_or_default()
}
