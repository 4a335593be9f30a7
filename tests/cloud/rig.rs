//! A topic in memory, an applier that feeds from it, and a receiver in a folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};
use tandem::change::{
    Body, Change, Checks, Column, ColumnKind, Gtid, Hlc, Image, Op, OriginId, Record, Seen, Shape, TableName, TablePattern,
    Value,
};
use tandem::cloud::{CloudApplier, CloudControl, CloudOptions, LocalRows, Mapping, Outlines};
use tandem::observe::Observer;
use tandem::receive::{FileShelf, Shelf, SqliteShelf};
use tandem::runtime::{Shutdown, Stop, SystemClock};
use tandem::serve::receiver::{Receiver, ReceiverOptions};
use tandem::source::{Chunk, ChunkRequest, RowReader, SourceError};
use tandem::state::{IdsFile, LedgerFile};
use tandem::target::cloud::{ApiOptions, Archive, CloudApi, FileStore, FolderFiles, Pace};
use tandem::topic::TopicWriter as _;
use tandem::topic::hub::KeyHash;
use tandem::topic::memory::{FairWeather, MemoryTopics};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::harness::wait_for;

pub const KEY: &str = "the key of laptop-a";
pub const SOON: Duration = Duration::from_secs(30);

pub fn node() -> OriginId {
    OriginId::new("laptop-a")
}

/// The cloud's side.
pub struct Cloud {
    pub address: SocketAddr,
    shelf: SqliteShelf,
    serving: JoinHandle<()>,
    folder: TempDir,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Cloud {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ReceiverOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shelf = SqliteShelf::open(folder.path(), Arc::new(SystemClock)).unwrap();
        let mut options = ReceiverOptions::new(([127, 0, 0, 1], 0).into(), vec![("laptop-a".into(), KeyHash::of(&KEY.into()))]);
        change(&mut options);
        let receiver = Receiver::open(
            options,
            Arc::new(shelf.clone()),
            FileShelf::new(FolderFiles::new(folder.path().join("files"), None, Arc::new(Pace::new(None)))),
            Arc::new(SystemClock),
        )
        .await
        .unwrap();
        let address = receiver.address();
        let serving = tokio::spawn(async move { receiver.run(Shutdown::new()).await.unwrap() });
        Self { address, shelf, serving, folder }
    }

    pub fn url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// Where it keeps files.
    pub fn files(&self) -> std::path::PathBuf {
        self.folder.path().join("files")
    }

    /// All rows of a resource, by id.
    pub async fn rows(&self, resource: &str) -> BTreeMap<String, Json> {
        let page = self.shelf.ids(resource.into(), None, None, 100_000).await.unwrap();
        let mut rows = BTreeMap::new();
        for id in page.ids {
            // It may have been deleted since.
            if let Some(row) = self.shelf.row(resource.into(), id.clone()).await.unwrap() {
                rows.insert(id, Json::Object(row));
            }
        }
        rows
    }
}

/// The node's side: its topic, and what it knows of the cloud.
pub struct Site {
    topics: MemoryTopics,
    pub observer: Observer,
    pub control: Arc<CloudControl>,
    pub folder: TempDir,
    /// What its database holds, for a cloud that is sent what it lacks.
    pub rows: Database,
    pub archive: Option<Arc<dyn Archive>>,
    written: u64,
}

/// Tables with ids and names, in memory.
#[derive(Clone, Default)]
pub struct Database {
    tables: Arc<Mutex<BTreeMap<TableName, BTreeMap<i64, String>>>>,
    /// How many rows were read whole.
    pub whole: Arc<AtomicUsize>,
}

impl Database {
    pub fn put(&self, table: &str, rows: impl IntoIterator<Item = (i64, &'static str)>) {
        let mut tables = self.tables.lock().unwrap();
        let held = tables.entry(TableName::new("campus", table)).or_default();
        held.extend(rows.into_iter().map(|(id, name)| (id, name.to_owned())));
    }
}

#[async_trait]
impl RowReader for Database {
    async fn chunk(&self, wanted: &ChunkRequest) -> Result<Chunk, SourceError> {
        let chunk = self.read(wanted);
        self.whole.fetch_add(chunk.rows.len(), Ordering::Relaxed);
        Ok(chunk)
    }
}

impl Database {
    fn read(&self, wanted: &ChunkRequest) -> Chunk {
        let after = wanted.after.as_ref().map_or(i64::MIN, |key| key.values[0].as_u64().unwrap() as i64);
        // Less than is asked for, so that there are several chunks.
        let at_once = wanted.rows_max.min(3);
        let tables = self.tables.lock().unwrap();
        let is_wanted = |id: i64| wanted.keys.is_empty() || wanted.keys.iter().any(|key| key.values[0] == Value::Int(id));
        let later = tables[&wanted.table].iter().filter(|(id, _)| **id > after && is_wanted(**id));
        let rows: Vec<Image> = later.clone().take(at_once).map(|(id, name)| image(*id, name).unwrap()).collect();
        let ends = later.count() <= at_once;
        let shape = shape(&wanted.table.table);
        Chunk { shape, rows, moment: Default::default(), until: Default::default(), ends, names: Vec::new(), definition: None }
    }
}

#[async_trait]
impl LocalRows for Database {
    async fn tables(&self) -> Result<Vec<TableName>, SourceError> {
        Ok(self.tables.lock().unwrap().keys().cloned().collect())
    }

    async fn outlines(&self, wanted: &ChunkRequest, _: &[&str]) -> Result<Outlines, SourceError> {
        let Chunk { shape, rows, ends, .. } = self.read(wanted);
        Ok(Outlines { shape, rows, ends })
    }

    /// Cameras hang in rooms.
    async fn references(&self) -> Result<Vec<(TableName, TableName)>, SourceError> {
        Ok(vec![(TableName::new("campus", "cameras"), TableName::new("campus", "rooms"))])
    }
}

/// A running applier. Dropping it is a crash.
pub struct Feeding {
    task: JoinHandle<Result<(), Stop>>,
    shutdown: Shutdown,
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feeding {
    /// Ends it in order.
    pub async fn end(mut self) -> Result<(), Stop> {
        self.shutdown.cancel();
        (&mut self.task).await.expect("the applier does not panic")
    }

    /// Why it stopped by itself.
    pub async fn stopped(mut self) -> Stop {
        (&mut self.task).await.expect("the applier does not panic").expect_err("it stopped")
    }
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            topics: MemoryTopics::new(),
            observer: Observer::default(),
            control: Arc::default(),
            folder,
            rows: Database::default(),
            archive: None,
            written: 0,
        }
    }

    pub fn options(&self) -> CloudOptions {
        let mut options = CloudOptions::new("main", node());
        options.tables = ["rooms", "cameras"]
            .map(|table| (TablePattern::parse(&format!("campus.{table}")).unwrap(), Mapping::default()))
            .into();
        options.batch_age = Duration::ZERO;
        options.retry_wait = Duration::from_millis(10);
        options.pause = Duration::from_millis(200);
        options
    }

    pub fn feed(&self, url: &str) -> Feeding {
        self.feed_with(url, self.options())
    }

    pub fn feed_with(&self, url: &str, options: CloudOptions) -> Feeding {
        let api = api(url, Pace::new(None));
        self.feed_to(api.clone(), api, options)
    }

    /// Files go to a store of their own.
    pub fn feed_to(&self, api: Arc<CloudApi>, files: Arc<dyn FileStore>, options: CloudOptions) -> Feeding {
        let applier = CloudApplier {
            cloud: api,
            files,
            archive: self.archive.clone(),
            ledger: Arc::new(Mutex::new(Box::new(LedgerFile::open(self.folder.path(), "main").unwrap()))),
            options,
            known: Mutex::new(Box::new(IdsFile::create(self.folder.path(), "main").unwrap())),
            rows: Arc::new(self.rows.clone()),
            reader: Arc::new(self.topics.reader(Arc::new(FairWeather))),
            control: self.control.clone(),
            clock: Arc::new(SystemClock),
            observer: self.observer.clone(),
        };
        let shutdown = Shutdown::new();
        let task = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { applier.run(shutdown).await.map_err(Stop::from) }
        });
        Feeding { task, shutdown }
    }

    /// Loses what the node knows of its cloud, as with a broken disk.
    pub fn forget(&mut self) {
        self.folder = tempfile::tempdir().unwrap();
    }

    /// Writes one transaction of these changes.
    pub async fn write(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.append(changes.into_iter().map(Body::Change).collect()).await;
    }

    pub async fn heartbeat(&mut self) {
        self.append(vec![Body::Heartbeat]).await;
    }

    async fn append(&mut self, bodies: Vec<Body>) {
        let count = bodies.len();
        let records: Vec<Record> = bodies
            .into_iter()
            .enumerate()
            .map(|(row, body)| {
                self.written += 1;
                Record {
                    origin: node(),
                    gtid: Gtid { domain: 0, server: 1, sequence: self.written },
                    row: row as u64,
                    table_row: row as u64,
                    hlc: Hlc(self.written),
                    seen: Arc::new(Seen::default()),
                    last: row + 1 == count,
                    position: Arc::default(),
                    read_from: None,
                    commit_second: 1_700_000_000,
                    server_id: 1,
                    coordinates: Default::default(),
                    trace: None,
                    body,
                }
            })
            .collect();
        let mut writer = self.topics.writer(node(), Arc::new(FairWeather));
        let end = self.topics.end(&node());
        writer.append(end, &records).await.unwrap();
    }

    /// Waits until all that was written is with the cloud, or set aside.
    pub async fn wait_until_sent(&self) {
        wait_for("everything to be sent", SOON, async || {
            let status = self.observer.cloud_status("main");
            status.pending == Some(0) && status.last_run.is_some() && status.state == tandem::observe::CloudState::Idle
        })
        .await;
    }
}

/// The API at this address, as a node speaks to it. It gives up soon, for clouds that are silent.
pub fn api(url: &str, pace: Pace) -> Arc<CloudApi> {
    let options = ApiOptions { within: Duration::from_millis(700), ..api_options(url, KEY) };
    Arc::new(CloudApi::new(options, Arc::new(pace)).unwrap())
}

/// The same, with a key of its own.
pub fn api_with(url: &str, key: &str) -> Arc<CloudApi> {
    Arc::new(CloudApi::new(api_options(url, key), Arc::new(Pace::new(None))).unwrap())
}

/// The same, to a cloud that is known by this certificate.
pub fn api_over_tls(url: &str, authority: &std::path::Path) -> Arc<CloudApi> {
    let options = ApiOptions { authority: Some(authority.to_owned()), ..api_options(url, KEY) };
    Arc::new(CloudApi::new(options, Arc::new(Pace::new(None))).unwrap())
}

fn api_options(url: &str, key: &str) -> ApiOptions {
    ApiOptions {
        url: url.into(),
        key: key.into(),
        key_name: "the environment variable CLOUD_KEY".into(),
        within: SOON,
        authority: None,
    }
}

fn shape(table: &str) -> Arc<Shape> {
    let columns = ["id", "name"].map(|name| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false });
    Arc::new(Shape { table: TableName::new("campus", table), columns: columns.into(), key: vec![0] })
}

fn image(id: i64, name: &str) -> Option<Image> {
    Some(Image::of([Some(Value::Int(id)), Some(Value::text(name))]))
}

fn change(table: &str, op: Op, before: Option<Image>, after: Option<Image>) -> Change {
    Change { shape: shape(table), op, before, after, checks: Checks::default() }
}

pub fn insert(table: &str, id: i64, name: &str) -> Change {
    change(table, Op::Insert, None, image(id, name))
}

pub fn update(table: &str, id: i64, before: &str, after: &str) -> Change {
    change(table, Op::Update, image(id, before), image(id, after))
}

pub fn delete(table: &str, id: i64, name: &str) -> Change {
    change(table, Op::Delete, image(id, name), None)
}

/// Rows as the receiver should have them.
pub fn expected(rows: &[(i64, &str)]) -> BTreeMap<String, Json> {
    rows.iter().map(|(id, name)| (id.to_string(), expected_json(*id, name))).collect()
}

/// One of them.
pub fn expected_json(id: i64, name: &str) -> Json {
    json!({ "id": id, "name": name })
}
