//! Snapshots and comparisons, put together: the database's existing rows for the tailer, and orders from people.

use std::sync::Arc;

use async_trait::async_trait;

use super::keeper::conflict_view;
use super::node::Database;
use crate::change::{Note, OriginId, TableFilter, TableName, TablePattern};
use crate::observe::{
    AskWish, AskedView, ConflictView, Observer, SchemaView, SnapshotTableView, SnapshotView, SnapshotWish, VerifyView,
    VerifyWish,
};
use crate::runtime::Stop;
use crate::serve::{Decision, Orders};
use crate::source::{Chunk, ChunkRequest, Listing, RowReader, SourceError};
use crate::state::SnapshotFile;
use crate::tail::{SnapshotBook, SnapshotDesk, SnapshotOrder, TableState};
use crate::target::mariadb::{MariadbTarget, TableSize, Wanted};
use crate::target::{SchemaEntry, SchemaState};
use crate::target::{Target, TargetError};
use crate::verify::VerifyDesk;

/// The node's database, as the tailer reads rows of it. The rooms do not know each other.
pub struct DatabaseRows {
    pub database: Arc<Database>,
    pub tables: TableFilter,
}

#[async_trait]
impl RowReader for DatabaseRows {
    async fn chunk(&self, wanted: &ChunkRequest) -> Result<Chunk, SourceError> {
        let failed = |error| source_error(error, &self.database);
        let target = self.database.target().await.map_err(failed)?;
        let names = match wanted.names {
            true => target.captured(&self.tables).await.map_err(failed)?,
            false => Vec::new(),
        };
        let definition = match wanted.definition {
            true => Some(target.definition(&wanted.table).await.map_err(failed)?),
            false => None,
        };
        let rows = target.existing_rows(Wanted {
            table: &wanted.table,
            after: wanted.after.as_ref(),
            upto: None,
            keys: &wanted.keys,
            // Of rows that are asked for by their keys there are no more than keys.
            rows_max: if wanted.keys.is_empty() { wanted.rows_max } else { wanted.keys.len() + 1 },
            bytes_max: wanted.bytes_max,
            condition: wanted.condition.as_deref(),
        });
        let rows = rows.await.map_err(failed)?;
        let (moment, until) = (rows.moment, rows.until);
        Ok(Chunk { shape: rows.shape, rows: rows.rows, moment, until, ends: rows.ends, names, definition })
    }

    async fn listing(&self) -> Result<Listing, SourceError> {
        let failed = |error| source_error(error, &self.database);
        let target = self.database.target().await.map_err(failed)?;
        let mut tables = Vec::new();
        for size in target.sizes(&self.tables).await.map_err(failed)? {
            let statement = target.definition(&size.table).await.map_err(failed)?;
            tables.push((size.table, statement));
        }
        // Read after them, so that every statement that made them so comes before the answer.
        Ok(Listing { tables, until: target.history_end().await.map_err(failed)? })
    }
}

pub fn source_error(error: TargetError, database: &Database) -> SourceError {
    match error {
        TargetError::Unreachable { place, reason } => SourceError::Unreachable { place, reason },
        TargetError::Contended { reason } => SourceError::Busy { place: database.place().to_owned(), reason },
        TargetError::Refused { what, remedy } => SourceError::Unsuited { what, remedy },
        other => {
            SourceError::Unsuited { what: other.to_string(), remedy: "ask for the snapshot again when it is mended".into() }
        }
    }
}

/// Keeps orders in a file, and shows them.
pub struct Book {
    pub file: SnapshotFile,
    pub observer: Observer,
}

impl SnapshotBook for Book {
    fn load(&self) -> Result<Vec<SnapshotOrder>, Stop> {
        let orders = self.file.load()?;
        self.observer.snapshots(views(&orders));
        Ok(orders)
    }

    fn save(&self, orders: &[SnapshotOrder]) {
        self.file.save(orders);
        self.observer.snapshots(views(orders));
    }
}

/// Takes orders for this node.
pub struct Desk {
    pub desk: Arc<SnapshotDesk>,
    pub verify: Arc<VerifyDesk>,
    pub database: Arc<Database>,
    pub tables: TableFilter,
}

#[async_trait]
impl Orders for Desk {
    async fn snapshot(&self, wish: SnapshotWish) -> Result<SnapshotView, Stop> {
        let target = self.database.target().await?;
        not_while_seeded(target).await?;
        let sizes = target.sizes(&self.tables).await?;
        let (wanted, refused) = choose(&sizes, &wish.tables)?;
        if let (Some(condition), Some(first)) = (&wish.condition, wanted.first()) {
            // Read now, so that what is wrong with the condition is said to whoever wrote it.
            for (table, _) in std::iter::once(first).chain(&wanted[1..]) {
                let one =
                    Wanted { table, after: None, upto: None, keys: &[], rows_max: 1, bytes_max: 1, condition: Some(condition) };
                target.existing_rows(one).await?;
            }
        }
        if wish.dry_run {
            return Ok(view(&SnapshotDesk::plan(&wanted, &refused, wish.condition)));
        }
        let id = self.desk.ask(&wanted, &refused, wish.condition);
        let orders = self.desk.orders();
        let order = orders.iter().find(|order| order.id == id);
        order.map(view).ok_or_else(|| Stop::halt("the order was forgotten", "ask again"))
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotView>, Stop> {
        Ok(views(&self.desk.orders()))
    }

    async fn cancel_snapshot(&self, id: u64) -> Result<bool, Stop> {
        Ok(self.desk.cancel(id))
    }

    async fn settle(&self, conflict: &str, decision: &Decision) -> Result<Option<ConflictView>, Stop> {
        let target = self.database.target().await?;
        let Some(kept) = target.conflict(conflict).await? else { return Ok(None) };
        match decision {
            Decision::Winner => target.settle(&kept.id).await?,
            Decision::Loser { columns } => target.put_back(&kept, columns).await?,
        }
        self.desk.tell(Note::Settled { conflict: kept.id.clone() });
        Ok(target.conflict(&kept.id).await?.map(conflict_view))
    }

    async fn verify(&self, wish: VerifyWish) -> Result<VerifyView, Stop> {
        let target = self.database.target().await?;
        not_while_seeded(target).await?;
        let sizes = target.sizes(&self.tables).await?;
        let (wanted, refused) = choose(&sizes, &wish.tables)?;
        self.verify.begin(&wanted, &refused, wish.repair, wish.tables.is_empty())
    }

    async fn ask_other(&self, wish: AskWish) -> Result<AskedView, Stop> {
        let named = |name: &String| {
            let no_table = || Stop::halt(format!("`{name}` is no name of a table"), "write it as database.table");
            TableName::parse(name).ok_or_else(no_table)
        };
        let tables = wish.tables.iter().map(named).collect::<Result<Vec<_>, Stop>>()?;
        Ok(AskedView { number: self.verify.ask_one(&OriginId::new(&wish.of), &tables, wish.definitions)? })
    }

    async fn schema_changes(&self, open_only: bool) -> Result<Vec<SchemaView>, Stop> {
        let target = self.database.target().await?;
        let counts = target.parked_counts().await?;
        let entries = target.schema_list(open_only, crate::serve::LIST_MAX).await?;
        Ok(entries.into_iter().map(|entry| schema_view(&entry, counts.get(&entry.number).copied().unwrap_or(0))).collect())
    }

    async fn decide_schema(&self, number: u64, run: bool) -> Result<Option<SchemaView>, Stop> {
        let decided = if run { SchemaState::Approved } else { SchemaState::Skipping };
        if !self.database.target().await?.decide_schema(number, decided).await? {
            return Ok(None);
        }
        Ok(self.schema_changes(true).await?.into_iter().find(|view| view.number == number))
    }

    async fn verified(&self) -> Result<Option<VerifyView>, Stop> {
        Ok(self.verify.view())
    }

    async fn cancel_verify(&self) -> Result<bool, Stop> {
        Ok(self.verify.cancel())
    }
}

/// Rows that are still to be brought up to date are nobody else's business.
async fn not_while_seeded(target: &MariadbTarget) -> Result<(), Stop> {
    match target.seeding().await? {
        Some(seeding) if seeding.is_open() => {
            let message = format!("this node is being seeded by {}", seeding.seeder);
            Err(Stop::halt(message, "wait for its end: tandem reseed shows how far it is"))
        }
        _ => Ok(()),
    }
}

fn schema_view(entry: &SchemaEntry, parked: u64) -> SchemaView {
    SchemaView {
        number: entry.number,
        origin: entry.origin.to_string(),
        committed_seconds: entry.commit_second,
        object: entry.change.object(),
        statement: entry.change.statement.clone(),
        state: entry.state.word().into(),
        open: entry.state.is_open(),
        danger: entry.danger.clone(),
        remark: entry.remark.clone(),
        parked,
    }
}

pub type Chosen = (Vec<(TableName, u64)>, Vec<(TableName, String)>);

/// The tables that are meant, and those among them whose rows cannot be published so.
pub fn choose(sizes: &[TableSize], names: &[String]) -> Result<Chosen, Stop> {
    let mut meant = vec![names.is_empty(); sizes.len()];
    for name in names {
        let pattern = TablePattern::parse(name).or_else(|| TablePattern::parse(&format!("*.{name}")));
        let of = |size: &TableSize| pattern.as_ref().is_some_and(|pattern| pattern.matches(&size.table));
        let found: Vec<usize> = (0..sizes.len()).filter(|&at| of(&sizes[at])).collect();
        match (&*found, name.contains('*')) {
            ([], _) => {
                let message = format!("`{name}` is no table that is synced here");
                return Err(Stop::halt(
                    message,
                    "`tandem status --json` lists the tables; [tables] include and exclude say which",
                ));
            }
            ([_, _, ..], false) => {
                let message = format!("`{name}` is in more than one database");
                return Err(Stop::halt(message, format!("say which, for example {}", sizes[found[0]].table)));
            }
            (found, _) => found.iter().for_each(|&at| meant[at] = true),
        }
    }
    let chosen = || sizes.iter().zip(&meant).filter(|(_, meant)| **meant).map(|(size, _)| size);
    let keyed = chosen().filter(|size| size.has_key).map(|size| (size.table.clone(), size.rows)).collect();
    let why = "it has no primary key, so its rows cannot be told apart";
    let refused = chosen().filter(|size| !size.has_key).map(|size| (size.table.clone(), why.to_owned())).collect();
    Ok((keyed, refused))
}

/// What people asked for: a comparison's questions are not shown as snapshots.
fn views(orders: &[SnapshotOrder]) -> Vec<SnapshotView> {
    orders.iter().filter(|order| order.verify.is_none()).map(view).collect()
}

fn view(order: &SnapshotOrder) -> SnapshotView {
    let state = |state| match state {
        TableState::Waiting => "waiting",
        TableState::Running => "running",
        TableState::Done => "done",
        TableState::Failed => "failed",
        TableState::Cancelled => "cancelled",
    };
    let table = |table: &crate::tail::TableOrder| SnapshotTableView {
        name: table.name().to_string(),
        state: state(table.state).into(),
        rows: table.rows,
        rows_expected: table.rows_expected,
        reason: table.reason.clone(),
    };
    SnapshotView {
        id: order.id,
        condition: order.condition.clone(),
        asked_seconds: order.asked_seconds,
        ended_seconds: order.ended_seconds,
        waits_for: order.waits_for.clone(),
        tables: order.tables.iter().map(table).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_meant_by_name_by_pattern_or_all() {
        let size = |database, table, has_key| TableSize { table: TableName::new(database, table), rows: 5, has_key };
        let sizes = [size("campus", "riders", true), size("shop", "riders", true), size("campus", "log", false)];
        let check = |names: &[&str], expected: &[&str], refused: usize| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let (wanted, without) = choose(&sizes, &names).unwrap_or_else(|stop| panic!("{stop}"));
            assert_eq!(wanted.iter().map(|(table, _)| table.to_string()).collect::<Vec<_>>(), expected);
            assert_eq!(without.len(), refused);
        };
        check(&[], &["campus.riders", "shop.riders"], 1);
        check(&["shop.riders"], &["shop.riders"], 0);
        check(&["campus.*"], &["campus.riders"], 1);
        check(&["log"], &[], 1);
        let refuse = |name: &str| choose(&sizes, &[name.to_owned()]).unwrap_err().to_string();
        assert!(refuse("riders").contains("more than one database"));
        assert!(refuse("drivers").contains("no table that is synced"));
    }
}
