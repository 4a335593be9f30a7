//! Rows in a SQLite file: nothing else has to be installed, and copying the folder is a backup.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Map, Value};

use super::decide::{self, Known, decide};
use super::{Held, Shelf, ShelfError};
use crate::change::cloud::{CloudRow, CloudVersion, IdPage, RowAnswer};
use crate::runtime::Clock;

/// How many rows of a resource are there, without the deleted, and when one came last. Counting a million rows for everybody who asks
/// would keep those waiting who send. What an older receiver kept is counted once.
const HELD: &str = "BEGIN;
    CREATE TABLE held (resource TEXT NOT NULL PRIMARY KEY, rows INTEGER NOT NULL, last_second INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO held SELECT resource, count(body), max(last_second) FROM rows GROUP BY resource;
    COMMIT;";

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
        let reason = |error: &dyn std::fmt::Display| ShelfError::new(format!("{}: {error}", path.display()));
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
            if !connection.table_exists(None, "held")? {
                connection.execute_batch(HELD)?;
            }
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
        done.await.map_err(|_| ShelfError::new("the process ends"))?
    }
}

fn fault(error: impl std::fmt::Display) -> ShelfError {
    let reason = error.to_string();
    ShelfError { is_full: reason.contains("disk is full"), ..ShelfError::new(reason) }
}

fn known(batch: &Transaction<'_>, resource: &str, id: &str) -> Result<Option<Known>, ShelfError> {
    let mut select = batch.prepare_cached("SELECT hlc, origin, body FROM rows WHERE resource = ? AND id = ?").map_err(fault)?;
    let row = select.query_row([resource, id], |row| {
        let version = CloudVersion { hlc: row.get::<_, i64>(0)? as u64, origin: row.get(1)? };
        Ok(Known { version, body: row.get(2)? })
    });
    row.optional().map_err(fault)
}

/// Keeps what is known of a row from now on, and counts it.
fn write(
    batch: &Transaction<'_>,
    (resource, id): (&str, &str),
    before: Option<&Known>,
    after: &Known,
    now: u64,
) -> Result<(), ShelfError> {
    let mut put = batch
        .prepare_cached(
            "INSERT INTO rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (resource, id) DO UPDATE SET
             hlc = ?3, origin = ?4, body = ?5, last_second = ?6",
        )
        .map_err(fault)?;
    let (hlc, now) = (i64::try_from(after.version.hlc).map_err(fault)?, i64::try_from(now).map_err(fault)?);
    put.execute(params![resource, id, hlc, after.version.origin, after.body, now]).map_err(fault)?;
    let mut count = batch
        .prepare_cached(
            "INSERT INTO held VALUES (?1, ?2, ?3) ON CONFLICT (resource) DO UPDATE SET
             rows = rows + ?2, last_second = max(last_second, ?3)",
        )
        .map_err(fault)?;
    count.execute(params![resource, decide::grows_by(before, after), now]).map(drop).map_err(fault)
}

fn put(batch: &Transaction<'_>, row: CloudRow, now: u64) -> Result<RowAnswer, ShelfError> {
    let (resource, id) = (row.resource.clone(), row.id.clone());
    let before = known(batch, &resource, &id)?;
    let (answer, after) = decide(before.as_ref(), row)?;
    if let Some(after) = after {
        write(batch, (&resource, &id), before.as_ref(), &after, now)?;
    }
    Ok(answer)
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
            let before = known(&batch, &resource, &id)?;
            let Some(after) = decide::first(before.as_ref(), &row)? else { return Ok(false) };
            write(&batch, (&resource, &id), before.as_ref(), &after, now)?;
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
            let body = known(&batch, &resource, &id)?.and_then(|known| known.body);
            body.as_deref().map(decide::read).transpose()
        })
        .await
    }

    async fn held(&self) -> Result<Held, ShelfError> {
        self.with(|file, _| {
            let mut select =
                file.prepare_cached("SELECT resource, rows, last_second FROM held ORDER BY resource").map_err(fault)?;
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

    use super::super::contract::{self, Subject};
    use super::*;
    use crate::change::cloud::CloudOp;
    use crate::runtime::ManualClock;

    struct InAFolder {
        shelf: Option<SqliteShelf>,
        clock: Arc<ManualClock>,
        folder: tempfile::TempDir,
    }

    impl InAFolder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::at_micros(1_000_000_000));
            let shelf = Some(SqliteShelf::open(folder.path(), clock.clone()).unwrap());
            Self { shelf, clock, folder }
        }
    }

    #[async_trait]
    impl Subject for InAFolder {
        fn shelf(&self) -> Arc<dyn Shelf> {
            Arc::new(self.shelf.clone().unwrap())
        }

        fn clock(&self) -> &ManualClock {
            &self.clock
        }

        async fn reopen(&mut self) {
            // Nobody else may have it open.
            self.shelf = None;
            self.shelf = Some(SqliteShelf::open(self.folder.path(), self.clock.clone()).unwrap());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sqlite_file_holds_the_contract() {
        contract::hold(&mut InAFolder::new()).await;
    }

    /// A shelf for which whatever comes last is the newest. The suite has to see it.
    struct Careless(SqliteShelf, std::sync::atomic::AtomicU64);

    #[async_trait]
    impl Shelf for Careless {
        async fn put(&self, mut rows: Vec<CloudRow>) -> Result<Vec<RowAnswer>, ShelfError> {
            for row in &mut rows {
                row.version.hlc = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            self.0.put(rows).await
        }

        async fn create(&self, resource: String, id: String, row: Map<String, Value>) -> Result<bool, ShelfError> {
            self.0.create(resource, id, row).await
        }

        async fn ids(
            &self,
            resource: String,
            since: Option<u64>,
            after: Option<String>,
            limit: usize,
        ) -> Result<IdPage, ShelfError> {
            self.0.ids(resource, since, after, limit).await
        }

        async fn row(&self, resource: String, id: String) -> Result<Option<Map<String, Value>>, ShelfError> {
            self.0.row(resource, id).await
        }

        async fn held(&self) -> Result<Held, ShelfError> {
            self.0.held().await
        }
    }

    struct CarelessInAFolder(InAFolder, Arc<Careless>);

    #[async_trait]
    impl Subject for CarelessInAFolder {
        fn shelf(&self) -> Arc<dyn Shelf> {
            self.1.clone()
        }

        fn clock(&self) -> &ManualClock {
            &self.0.clock
        }

        async fn reopen(&mut self) {}
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[should_panic(expected = "what came twice is no news")]
    async fn a_shelf_that_does_not_compare_versions_fails_the_contract() {
        let subject = InAFolder::new();
        let careless = Arc::new(Careless(subject.shelf.clone().unwrap(), Default::default()));
        contract::hold(&mut CarelessInAFolder(subject, careless)).await;
    }

    #[tokio::test]
    async fn a_full_disk_is_told_from_other_failures() {
        let subject = InAFolder::new();
        let limit =
            |pages: &'static str| subject.shelf.as_ref().unwrap().with(move |file, _| file.execute_batch(pages).map_err(fault));
        let row = |id: u64| {
            let row = Map::from_iter([("text".to_owned(), json!("x".repeat(100_000)))]);
            let (version, key) = (CloudVersion { hlc: 1, origin: "a".into() }, "a:1".to_owned());
            CloudRow { key, resource: "rooms".into(), id: id.to_string(), op: CloudOp::Insert, version, row }
        };
        limit("PRAGMA max_page_count = 20").await.unwrap();
        let error = subject.shelf().put(vec![row(1)]).await.unwrap_err();
        assert!(error.is_full, "{error}");
        limit("PRAGMA max_page_count = 100000").await.unwrap();
        assert_eq!(subject.shelf().put(vec![row(1)]).await.unwrap().len(), 1, "there is room again");
        assert!(!limit("SELECT * FROM none").await.unwrap_err().is_full);
    }

    #[tokio::test]
    async fn what_an_older_receiver_kept_is_counted() {
        let mut subject = InAFolder::new();
        let version = CloudVersion { hlc: 1, origin: "a".into() };
        let row = |id: u64, op| {
            let row = Map::from_iter([("id".to_owned(), json!(id))]);
            CloudRow { key: "a:1".into(), resource: "rooms".into(), id: id.to_string(), op, version: version.clone(), row }
        };
        let rows = vec![row(1, CloudOp::Insert), row(2, CloudOp::Insert), row(3, CloudOp::Delete)];
        subject.shelf().put(rows).await.unwrap();
        let before = subject.shelf().held().await.unwrap();
        assert_eq!(before.rows, [("rooms".to_owned(), 2)]);
        subject.shelf.as_ref().unwrap().with(|file, _| file.execute_batch("DROP TABLE held").map_err(fault)).await.unwrap();
        subject.reopen().await;
        assert_eq!(subject.shelf().held().await.unwrap(), before);
    }
}
