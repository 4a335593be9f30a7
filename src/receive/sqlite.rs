//! Rows in a SQLite file: nothing else has to be installed, and copying the folder is a backup.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Map, Value};

use super::{Held, Shelf, ShelfError};
use crate::change::cloud::{CloudOp, CloudRow, CloudVersion, IdPage, RowAnswer, RowResult};
use crate::runtime::Clock;

/// Clones are the same shelf.
#[derive(Clone)]
pub struct SqliteShelf {
    file: Arc<Mutex<Connection>>,
    clock: Arc<dyn Clock>,
}

impl SqliteShelf {
    /// Opens `rows.sqlite` in the folder, which is made where it is missing.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, ShelfError> {
        let path = folder.join("rows.sqlite");
        let reason = |error: &dyn std::fmt::Display| ShelfError { reason: format!("{}: {error}", path.display()) };
        std::fs::create_dir_all(folder).map_err(|error| reason(&error))?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            connection.execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE IF NOT EXISTS rows (
                     resource TEXT NOT NULL, id TEXT NOT NULL, hlc INTEGER NOT NULL, origin TEXT NOT NULL,
                     body TEXT, first_second INTEGER NOT NULL, last_second INTEGER NOT NULL,
                     PRIMARY KEY (resource, id)) WITHOUT ROWID;",
            )?;
            Ok(connection)
        };
        Ok(Self { file: Arc::new(Mutex::new(open().map_err(|error| reason(&error))?)), clock })
    }

    /// Waiting for the disk must not keep other connections from being answered.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, u64) -> Result<T, ShelfError> + Send + 'static,
    ) -> Result<T, ShelfError> {
        let (file, now) = (self.file.clone(), self.clock.now_seconds());
        let done = tokio::task::spawn_blocking(move || work(&mut file.lock().unwrap_or_else(PoisonError::into_inner), now));
        done.await.map_err(|_| ShelfError { reason: "the process ends".into() })?
    }
}

fn fault(error: impl std::fmt::Display) -> ShelfError {
    ShelfError { reason: error.to_string() }
}

/// What is known of a row; without a body it is deleted.
struct Kept {
    version: CloudVersion,
    body: Option<String>,
}

fn kept(batch: &Transaction<'_>, resource: &str, id: &str) -> Result<Option<Kept>, ShelfError> {
    let mut select = batch.prepare_cached("SELECT hlc, origin, body FROM rows WHERE resource = ? AND id = ?").map_err(fault)?;
    let row = select.query_row([resource, id], |row| {
        let version = CloudVersion { hlc: row.get::<_, i64>(0)? as u64, origin: row.get(1)? };
        Ok(Kept { version, body: row.get(2)? })
    });
    row.optional().map_err(fault)
}

fn write(
    batch: &Transaction<'_>,
    resource: &str,
    id: &str,
    version: &CloudVersion,
    body: Option<&str>,
    now: u64,
) -> Result<(), ShelfError> {
    let mut put = batch
        .prepare_cached(
            "INSERT INTO rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (resource, id) DO UPDATE SET
             hlc = ?3, origin = ?4, body = ?5, last_second = ?6",
        )
        .map_err(fault)?;
    let (hlc, now) = (i64::try_from(version.hlc).map_err(fault)?, i64::try_from(now).map_err(fault)?);
    put.execute(params![resource, id, hlc, version.origin, body, now]).map(drop).map_err(fault)
}

fn put(batch: &Transaction<'_>, row: CloudRow, now: u64) -> Result<RowAnswer, ShelfError> {
    if i64::try_from(row.version.hlc).is_err() {
        return Ok(RowAnswer { result: RowResult::Refused, error: Some("its version is no time".into()) });
    }
    let before = kept(batch, &row.resource, &row.id)?;
    if let Some(before) = &before {
        if before.version == row.version {
            return Ok(RowAnswer::of(RowResult::Duplicate));
        }
        if before.version > row.version {
            return Ok(RowAnswer::of(RowResult::Stale));
        }
    }
    let body = match row.op {
        CloudOp::Delete => None,
        CloudOp::Insert => Some(row.row),
        CloudOp::Update => {
            let text = before.and_then(|before| before.body);
            let mut body: Map<String, Value> =
                text.map_or_else(|| Ok(Map::new()), |text| serde_json::from_str(&text)).map_err(fault)?;
            body.extend(row.row);
            Some(body)
        }
    };
    let body = body.map(|body| serde_json::to_string(&body)).transpose().map_err(fault)?;
    write(batch, &row.resource, &row.id, &row.version, body.as_deref(), now)?;
    Ok(RowAnswer::of(RowResult::Applied))
}

#[async_trait]
impl Shelf for SqliteShelf {
    async fn put(&self, rows: Vec<CloudRow>) -> Result<Vec<RowAnswer>, ShelfError> {
        self.with(move |file, now| {
            let batch = file.transaction().map_err(fault)?;
            let answers = rows.into_iter().map(|row| put(&batch, row, now)).collect::<Result<_, _>>()?;
            batch.commit().map_err(fault)?;
            Ok(answers)
        })
        .await
    }

    async fn create(&self, resource: String, id: String, row: Map<String, Value>) -> Result<bool, ShelfError> {
        self.with(move |file, now| {
            let batch = file.transaction().map_err(fault)?;
            if kept(&batch, &resource, &id)?.is_some() {
                return Ok(false);
            }
            let body = serde_json::to_string(&row).map_err(fault)?;
            write(&batch, &resource, &id, &CloudVersion::default(), Some(&body), now)?;
            batch.commit().map_err(fault)?;
            Ok(true)
        })
        .await
    }

    async fn ids(
        &self,
        resource: String,
        since: Option<u64>,
        after: Option<String>,
        limit: usize,
    ) -> Result<IdPage, ShelfError> {
        self.with(move |file, _| {
            let mut select = file
                .prepare_cached(
                    "SELECT id FROM rows WHERE resource = ?1 AND id > ?2 AND first_second >= ?3 AND body IS NOT NULL
                     ORDER BY id LIMIT ?4",
                )
                .map_err(fault)?;
            let since = i64::try_from(since.unwrap_or(0)).map_err(fault)?;
            // One more, to know whether there are more.
            let asked = i64::try_from(limit + 1).map_err(fault)?;
            let rows = select.query_map(params![resource, after.unwrap_or_default(), since, asked], |row| row.get(0));
            let mut ids: Vec<String> = rows.map_err(fault)?.collect::<rusqlite::Result<_>>().map_err(fault)?;
            let more = ids.len() > limit;
            ids.truncate(limit);
            Ok(IdPage { next: ids.last().filter(|_| more).cloned(), ids })
        })
        .await
    }

    async fn row(&self, resource: String, id: String) -> Result<Option<Map<String, Value>>, ShelfError> {
        self.with(move |file, _| {
            let batch = file.transaction().map_err(fault)?;
            let body = kept(&batch, &resource, &id)?.and_then(|kept| kept.body);
            body.map(|body| serde_json::from_str(&body).map_err(fault)).transpose()
        })
        .await
    }

    async fn held(&self) -> Result<Held, ShelfError> {
        self.with(|file, _| {
            let mut select = file
                .prepare_cached("SELECT resource, count(body), max(last_second) FROM rows GROUP BY resource ORDER BY resource")
                .map_err(fault)?;
            let mut held = Held::default();
            let mut rows = select.query([]).map_err(fault)?;
            while let Some(row) = rows.next().map_err(fault)? {
                let (count, last): (i64, i64) = (row.get(1).map_err(fault)?, row.get(2).map_err(fault)?);
                held.rows.push((row.get(0).map_err(fault)?, count as u64));
                held.last_second = held.last_second.max(Some(last as u64));
            }
            Ok(held)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::ManualClock;

    fn write_of(id: &str, op: CloudOp, hlc: u64, row: Value) -> CloudRow {
        let Value::Object(row) = row else { panic!("rows are objects") };
        let version = CloudVersion { hlc, origin: "a".into() };
        CloudRow { key: format!("a:{hlc}"), resource: "rooms".into(), id: id.into(), op, version, row }
    }

    fn shelf() -> (SqliteShelf, Arc<ManualClock>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_micros(1_000_000_000));
        (SqliteShelf::open(folder.path(), clock.clone()).unwrap(), clock, folder)
    }

    async fn results(shelf: &SqliteShelf, rows: Vec<CloudRow>) -> Vec<RowResult> {
        shelf.put(rows).await.unwrap().into_iter().map(|answer| answer.result).collect()
    }

    async fn body(shelf: &SqliteShelf, id: &str) -> Option<Value> {
        shelf.row("rooms".into(), id.into()).await.unwrap().map(Value::Object)
    }

    #[tokio::test]
    async fn the_larger_version_stands_in_whatever_order_writes_come() {
        let (shelf, _, _folder) = shelf();
        let insert = write_of("1", CloudOp::Insert, 5, json!({"id": 1, "name": "new"}));
        assert_eq!(results(&shelf, vec![insert.clone(), insert.clone()]).await, [RowResult::Applied, RowResult::Duplicate]);
        let old = write_of("1", CloudOp::Insert, 4, json!({"id": 1, "name": "old"}));
        let old_delete = write_of("1", CloudOp::Delete, 3, json!({}));
        assert_eq!(results(&shelf, vec![old.clone(), old_delete]).await, [RowResult::Stale, RowResult::Stale]);
        assert_eq!(body(&shelf, "1").await, Some(json!({"id": 1, "name": "new"})));
        let delete = write_of("1", CloudOp::Delete, 9, json!({}));
        assert_eq!(results(&shelf, vec![delete, insert, old]).await, [RowResult::Applied, RowResult::Stale, RowResult::Stale]);
        assert_eq!(body(&shelf, "1").await, None, "what was deleted does not come back");
        assert_eq!(results(&shelf, vec![write_of("1", CloudOp::Insert, 10, json!({"id": 1}))]).await, [RowResult::Applied]);
    }

    #[tokio::test]
    async fn an_update_keeps_what_it_does_not_tell() {
        let (shelf, _, _folder) = shelf();
        let insert = write_of("1", CloudOp::Insert, 5, json!({"id": 1, "name": "a", "size": null}));
        results(&shelf, vec![insert, write_of("1", CloudOp::Update, 6, json!({"name": "b"}))]).await;
        assert_eq!(body(&shelf, "1").await, Some(json!({"id": 1, "name": "b", "size": null})));
    }

    #[tokio::test]
    async fn ids_come_in_pages_and_by_days() {
        let (shelf, clock, _folder) = shelf();
        let insert = |id: &str| write_of(id, CloudOp::Insert, 5, json!({}));
        results(&shelf, vec![insert("1"), insert("2"), insert("3"), write_of("0", CloudOp::Delete, 1, json!({}))]).await;
        clock.set_micros(5_000_000_000);
        assert!(shelf.create("rooms".into(), "4".into(), Map::new()).await.unwrap());
        assert!(!shelf.create("rooms".into(), "4".into(), Map::new()).await.unwrap());
        assert!(!shelf.create("rooms".into(), "0".into(), Map::new()).await.unwrap(), "it was deleted");
        let page = |since, after: Option<&str>, limit| {
            let after = after.map(str::to_owned);
            let shelf = &shelf;
            async move { shelf.ids("rooms".into(), since, after, limit).await.unwrap() }
        };
        assert_eq!(page(None, None, 2).await, IdPage { ids: vec!["1".into(), "2".into()], next: Some("2".into()) });
        assert_eq!(page(None, Some("2"), 2).await, IdPage { ids: vec!["3".into(), "4".into()], next: None });
        assert_eq!(page(Some(2_000), None, 9).await.ids, ["4"]);
        let held = shelf.held().await.unwrap();
        assert_eq!((held.rows, held.last_second), (vec![("rooms".into(), 4)], Some(5_000)));
    }

    #[tokio::test]
    async fn rows_survive_the_process() {
        let (shelf, clock, folder) = shelf();
        results(&shelf, vec![write_of("1", CloudOp::Insert, 5, json!({"id": 1}))]).await;
        drop(shelf);
        let shelf = SqliteShelf::open(folder.path(), clock).unwrap();
        assert_eq!(body(&shelf, "1").await, Some(json!({"id": 1})));
    }
}
