//! Looking closer: how far everything is, and where one row is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::keeper::{letter_id, object};
use super::node::Database;
use super::snapshots::choose;
use super::topics::Topics;
use crate::change::{
    Change, ColumnKind, Hlc, Mark, Offset, OriginId, Record, RowKey, Seen, Shape, TableFilter, TableName, Value, wire,
};
use crate::observe::{PositionView, SearchedView, TopicPlaceView, VersionView, WhereView, WhereWish};
use crate::runtime::Stop;
use crate::serve::Inspect;
use crate::source::Source;
use crate::target::Target;
use crate::target::mariadb::{MariadbTarget, Wanted};
use crate::topic::TopicReader;

/// Versions that are shown of each node.
const VERSIONS_MAX: usize = 10;

/// Records of each topic that are looked through, the newest first: some seconds.
const SEARCH_MAX: u64 = 200_000;

/// Records of a topic that are looked through at once; within them the order is that of the topic.
const STRIDE: u64 = 5_000;
const READ_BYTES: usize = 4 << 20;

pub struct Inspector {
    pub database: Arc<Database>,
    pub topics: Topics,
    pub tables: TableFilter,
    pub own: OriginId,
    pub nodes: Vec<OriginId>,
}

#[async_trait]
impl Inspect for Inspector {
    async fn position(&self) -> Result<PositionView, Stop> {
        let reader = self.topics.reader();
        // The topics can be asked while the database is away.
        let marks = match self.database.target().await {
            Ok(target) => target.checkpoints().await.ok(),
            Err(_) => None,
        };
        let database = self.database.source()?.position().await.ok().map(|position| position.to_string());
        let mut topics = Vec::new();
        for origin in &self.nodes {
            let extent = reader.extent(origin).await?;
            let mark = marks.as_ref().and_then(|marks| marks.get(origin)).filter(|_| *origin != self.own);
            let published = extent.last.as_ref().filter(|_| *origin == self.own).map(|last| last.position.to_string());
            topics.push(TopicPlaceView {
                origin: origin.to_string(),
                first: extent.first.0,
                end: extent.end.0,
                next: mark.map(|mark| mark.next.0),
                position: mark.map(|mark| mark.position.to_string()).or(published),
                clock_seconds: extent.last.map(|last| last.hlc.0 / Hlc::SECOND),
            });
        }
        Ok(PositionView { node: self.own.to_string(), database, topics })
    }

    async fn where_is(&self, wish: WhereWish) -> Result<WhereView, Stop> {
        let target = self.database.target().await?;
        let sizes = target.sizes(&self.tables).await?;
        let (keyed, keyless) = choose(&sizes, std::slice::from_ref(&wish.table))?;
        let table = match (keyed.as_slice(), keyless.as_slice()) {
            ([(table, _)], []) => table.clone(),
            ([], [(table, why)]) => return Err(Stop::halt(format!("{table}: {why}"), "look for the row in the table itself")),
            _ => return Err(Stop::halt(format!("`{}` means several tables", wish.table), "name one of them")),
        };
        let sought = self.sought(target, &table, &wish.key).await?;
        let reader = self.topics.reader();
        let marks = target.checkpoints().await?;
        let (mut found, mut searched, mut seen) = (Vec::new(), Vec::new(), BTreeMap::new());
        for origin in &self.nodes {
            let extent = reader.extent(origin).await?;
            let from = search(&*reader, origin, extent.first, extent.end, &sought, &mut found).await?;
            let (first, end) = (extent.first.0, extent.end.0);
            searched.push(SearchedView { origin: origin.to_string(), from: from.0, first, end });
            seen.insert(origin.clone(), extent.last.map(|last| last.seen.clone()));
        }
        let rank = |origin: &OriginId| self.nodes.iter().position(|node| node == origin);
        found.sort_by_key(|(offset, record)| std::cmp::Reverse((record.hlc, rank(&record.origin), *offset)));
        let key = sought.shown();
        let (conflicts, failed) = target.kept_of(&table, &sought.names).await?;
        Ok(WhereView {
            table: table.to_string(),
            key: object(key),
            present: sought.present.as_deref().map(object),
            versions: found.iter().filter_map(|(offset, record)| self.version(*offset, record, &marks, &seen)).collect(),
            conflicts,
            failed: failed.iter().map(|(origin, offset)| letter_id(origin, *offset)).collect(),
            searched,
        })
    }
}

/// A row that is looked for, by all the ways in which its key may be written.
struct Sought {
    table: TableName,
    /// As JSON; the one of the row that is there comes last.
    names: Vec<String>,
    /// The row, as JSON.
    present: Option<String>,
}

impl Sought {
    fn shown(&self) -> &str {
        self.names.last().expect("a key was given")
    }

    fn is(&self, change: &Change) -> bool {
        let named = |key: RowKey| self.names.contains(&wire::key_json(&key));
        *change.table() == self.table && (change.key().is_some_and(named) || change.moved_from().is_some_and(named))
    }
}

impl Inspector {
    /// The key as it was given, and as the row has it, which a collation may call the same.
    async fn sought(&self, target: &MariadbTarget, table: &TableName, given: &[String]) -> Result<Sought, Stop> {
        let wanted = |keys| Wanted { table, after: None, upto: None, keys, rows_max: 1, bytes_max: 1, condition: None };
        let shape = target.existing_rows(wanted(&[])).await?.shape;
        let key = key_of(&shape, given)?;
        let rows = target.existing_rows(wanted(std::slice::from_ref(&key))).await?;
        let mut names = vec![wire::key_json(&key)];
        let row = rows.rows.first();
        names.extend(row.and_then(|row| RowKey::of(&rows.shape, row)).map(|key| wire::key_json(&key)));
        names.dedup();
        let present = row.map(|row| wire::image_json(&rows.shape, row));
        Ok(Sought { table: table.clone(), names, present })
    }

    fn version(
        &self,
        offset: Offset,
        record: &Record,
        marks: &BTreeMap<OriginId, Mark>,
        seen: &BTreeMap<OriginId, Option<Arc<Seen>>>,
    ) -> Option<VersionView> {
        let change = record.change()?;
        let origin = &record.origin;
        let is_here = *origin == self.own || marks.get(origin).is_some_and(|mark| mark.next > offset);
        let knows = |node: &&OriginId| match seen.get(*node) {
            _ if *node == origin => true,
            _ if **node == self.own => is_here,
            Some(Some(seen)) => seen.has(origin, offset),
            _ => false,
        };
        Some(VersionView {
            origin: origin.to_string(),
            offset: offset.0,
            gtid: record.gtid.to_string(),
            op: change.op.word().to_owned(),
            clock: record.hlc.0,
            written_seconds: record.hlc.0 / Hlc::SECOND,
            here: if is_here { "applied" } else { "waits" }.to_owned(),
            known_by: self.nodes.iter().filter(knows).map(ToString::to_string).collect(),
            row: change.after.as_ref().map(|image| object(&wire::image_json(&change.shape, image))),
        })
    }
}

/// The key of these values: in the order of the key's columns, or each with its column.
fn key_of(shape: &Arc<Shape>, given: &[String]) -> Result<RowKey, Stop> {
    let names: Vec<&str> = shape.key.iter().map(|&at| &*shape.columns[usize::from(at)].name).collect();
    let fix = || format!("write the key as: {}", names.iter().map(|name| format!("{name}=…")).collect::<Vec<_>>().join(" "));
    if given.len() != names.len() {
        let (table, columns) = (&shape.table, names.len());
        return Err(Stop::halt(
            format!("the key of {table} has {columns} columns, and {} values were given", given.len()),
            fix(),
        ));
    }
    let named = |name: &str| given.iter().find_map(|text| text.strip_prefix(name)?.strip_prefix('='));
    let by_name = names.iter().all(|name| named(name).is_some());
    let value = |(place, &at): (usize, &u16)| {
        let column = &shape.columns[usize::from(at)];
        let text = if by_name { named(&column.name).unwrap_or_default() } else { &given[place] };
        let number = || text.parse().map(Value::Int).or_else(|_| text.parse().map(Value::unsigned));
        match column.kind {
            ColumnKind::Integer => {
                number().map_err(|_| Stop::halt(format!("`{text}` is no number, as {} is", column.name), fix()))
            }
            _ => Ok(Value::text(text)),
        }
    };
    let values: Result<Box<[Value]>, Stop> = shape.key.iter().enumerate().map(value).collect();
    Ok(RowKey { shape: shape.clone(), values: values? })
}

/// Adds the newest writes of the row, as far as they are found; from where on the topic was looked through.
async fn search(
    reader: &dyn TopicReader,
    origin: &OriginId,
    first: Offset,
    end: Offset,
    sought: &Sought,
    found: &mut Vec<(Offset, Record)>,
) -> Result<Offset, Stop> {
    let (mut to, before) = (end.0, found.len());
    while to > first.0 && end.0 - to < SEARCH_MAX && found.len() - before < VERSIONS_MAX {
        let from = to.saturating_sub(STRIDE).max(first.0);
        let (mut next, mut stride) = (Offset(from), Vec::new());
        while next.0 < to {
            let batch = reader.read(origin, next, READ_BYTES, Duration::ZERO).await?;
            let Some((last, _)) = batch.last() else { break };
            next = last.next();
            let is =
                |(offset, record): &(Offset, Record)| offset.0 < to && record.change().is_some_and(|change| sought.is(change));
            stride.extend(batch.into_iter().filter(is));
        }
        let room = VERSIONS_MAX - (found.len() - before);
        found.extend(stride.into_iter().rev().take(room));
        to = from;
    }
    Ok(Offset(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Column;

    fn shape(columns: &[(&str, ColumnKind)]) -> Arc<Shape> {
        let column = |(name, kind): &(&str, ColumnKind)| Column { name: (*name).into(), kind: *kind, generated: false };
        let columns: Vec<Column> = columns.iter().map(column).collect();
        let key = (0..columns.len() as u16).collect();
        Arc::new(Shape { table: TableName::new("campus", "bookings"), columns, key })
    }

    #[test]
    fn a_key_is_given_by_its_values_or_by_its_columns() {
        let shape = shape(&[("room", ColumnKind::Integer), ("day", ColumnKind::Date)]);
        let check = |given: &[&str], expected: Result<&str, &str>| {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            let found = key_of(&shape, &given).map(|key| wire::key_json(&key)).map_err(|stop| stop.to_string());
            match expected {
                Ok(json) => assert_eq!(found.as_deref(), Ok(json)),
                Err(words) => assert!(found.as_ref().is_err_and(|error| error.contains(words)), "{found:?}"),
            }
        };
        let expected = Ok(r#"{"room":3,"day":"2026-11-22"}"#);
        check(&["3", "2026-11-22"], expected);
        check(&["day=2026-11-22", "room=3"], expected);
        check(&["3"], Err("write the key as: room=… day=…"));
        check(&["three", "2026-11-22"], Err("`three` is no number, as room is"));
    }
}
