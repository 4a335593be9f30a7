//! What the node's database keeps for people, in the form in which they see it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value as Json};

use super::node::Database;
use crate::change::{Change, Hlc, Image, Offset, OriginId, RowKey, TableFilter, TableName, wire};
use crate::observe::{ConflictView, FailedView, SideView, TableView, remedy};
use crate::runtime::Stop;
use crate::serve::{Keeper, Part};
use crate::target::keep::Side;
use crate::target::mariadb::{KeptConflict, KeptDeadLetter, TableSize};

/// Answers from the node's database.
pub struct DatabaseKeeper {
    pub database: Arc<Database>,
    pub tables: TableFilter,
}

#[async_trait]
impl Keeper for DatabaseKeeper {
    async fn conflicts(&self, part: Part, open_only: bool) -> Result<Vec<ConflictView>, Stop> {
        let conflicts = self.database.target().await?.conflicts(open_only, part.skip, part.at_most).await?;
        Ok(conflicts.into_iter().map(conflict_view).collect())
    }

    async fn conflict(&self, id: &str) -> Result<Option<ConflictView>, Stop> {
        let target = self.database.target().await?;
        Ok(target.conflict(id).await?.map(conflict_view))
    }

    async fn failed_one(&self, id: &str) -> Result<Option<FailedView>, Stop> {
        let Some((origin, offset)) = letter_of(id) else { return Ok(None) };
        Ok(self.database.target().await?.dead_letter(&origin, offset).await?.map(failed_view))
    }

    async fn failed(&self, part: Part) -> Result<Vec<FailedView>, Stop> {
        let letters = self.database.target().await?.dead_letters(part.skip, part.at_most).await?;
        Ok(letters.into_iter().map(failed_view).collect())
    }

    async fn tables(&self) -> Result<Vec<TableView>, Stop> {
        let target = self.database.target().await?;
        let sizes = target.sizes(&self.tables).await?;
        let all = target.all_tables(&self.tables).await?;
        Ok(all.into_iter().map(|name| table_view(&name, &sizes, &self.tables)).collect())
    }
}

fn table_view(name: &TableName, sizes: &[TableSize], filter: &TableFilter) -> TableView {
    let size = sizes.iter().find(|size| size.table == *name);
    let excluded = filter.exclude.iter().find(|pattern| pattern.matches(name));
    let why = match (size, excluded) {
        (Some(size), _) if size.has_key => None,
        (Some(_), _) => Some("it has no key: rows are found by all they hold, and no conflict is settled".to_owned()),
        (None, Some(pattern)) => Some(format!("excluded by \"{pattern}\" under [tables]")),
        (None, None) => Some("named by no `include` under [tables]".to_owned()),
    };
    TableView { name: name.to_string(), synced: size.is_some(), why, rows: size.map(|size| size.rows) }
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
        written_seconds: side.hlc.0 / Hlc::SECOND,
        row: side.row.as_ref().map(row),
    }
}

fn failed_view(kept: KeptDeadLetter) -> FailedView {
    let letter = kept.letter;
    let row = |image: &Option<Image>| image.as_ref().map(|image| object(&wire::image_json(&letter.change.shape, image)));
    FailedView {
        id: letter_id(&letter.origin, letter.offset),
        remedy: remedy(&letter.reason).to_owned(),
        written_seconds: letter.hlc.0 / Hlc::SECOND,
        before: row(&letter.change.before),
        after: row(&letter.change.after),
        origin: letter.origin.as_str().to_owned(),
        offset: letter.offset.0,
        table: letter.change.table().to_string(),
        key: row_of(&letter.change),
        op: letter.change.op.word().to_owned(),
        reason: letter.reason,
        attempts: letter.attempts,
    }
}

/// What people call a change that was set aside.
pub fn letter_id(origin: &OriginId, offset: Offset) -> String {
    format!("{origin}:{offset}")
}

pub fn letter_of(id: &str) -> Option<(OriginId, Offset)> {
    let (origin, offset) = id.rsplit_once(':')?;
    Some((OriginId::new(origin), Offset(offset.parse().ok()?)))
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
pub fn object(json: &str) -> Map<String, Json> {
    serde_json::from_str(json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::TablePattern;

    #[test]
    fn a_table_that_is_left_out_says_why() {
        let pattern = |text: &str| TablePattern::parse(text).unwrap();
        let filter = TableFilter { include: vec![pattern("campus.*")], exclude: vec![pattern("campus.*_log")] };
        let sizes = [TableSize { table: TableName::new("campus", "riders"), rows: 5, has_key: true }];
        let check = |name: &str, synced: bool, why: Option<&str>| {
            let view = table_view(&TableName::parse(name).unwrap(), &sizes, &filter);
            assert_eq!((view.synced, view.why.as_deref()), (synced, why), "{name}");
        };
        check("campus.riders", true, None);
        check("campus.bus_log", false, Some("excluded by \"campus.*_log\" under [tables]"));
        check("shop.riders", false, Some("named by no `include` under [tables]"));
    }
}
