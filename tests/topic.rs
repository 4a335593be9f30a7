//! The contract of the topic, over every implementation that needs no server of its own.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tandem::change::{Offset, OriginId};
use tandem::runtime::Shutdown;
use tandem::serve::hub::{HubError, HubOptions, HubServer};
use tandem::topic::contract::{self, Subject};
use tandem::topic::hub::{ClientOptions, HubClient, HubReader, HubStore, HubWriter, KeyHash, StoreOptions};
use tandem::topic::memory::{FairWeather, MemoryTopics};
use tandem::topic::{TopicReader, TopicWriter};
use tempfile::TempDir;
use tokio::task::JoinHandle;

struct Memory(MemoryTopics);

#[async_trait]
impl Subject for Memory {
    fn writer(&self, origin: &OriginId) -> Box<dyn TopicWriter> {
        Box::new(self.0.writer(origin.clone(), Arc::new(FairWeather)))
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(self.0.reader(Arc::new(FairWeather)))
    }

    async fn reopen(&mut self) -> bool {
        false
    }

    async fn forget(&mut self, origin: &OriginId, end: Offset) {
        self.0.forget_before(origin, end);
    }

    fn record_bytes_max(&self) -> Option<usize> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn memory_holds_the_contract() {
    contract::hold(&mut Memory(MemoryTopics::new())).await;
}

/// Small, so that the limit is reached without writing much.
const RECORD_BYTES_MAX: usize = 1 << 20;

fn store_options(folder: impl Into<PathBuf>) -> StoreOptions {
    StoreOptions { record_bytes_max: RECORD_BYTES_MAX, ..StoreOptions::new(folder) }
}

struct Store {
    folder: TempDir,
    store: Option<HubStore>,
}

impl Store {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = HubStore::open(&store_options(folder.path())).unwrap();
        Self { folder, store: Some(store) }
    }

    fn store(&self) -> HubStore {
        self.store.clone().unwrap()
    }
}

#[async_trait]
impl Subject for Store {
    fn writer(&self, origin: &OriginId) -> Box<dyn TopicWriter> {
        Box::new(HubWriter::new(Arc::new(self.store()), origin.clone()))
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(HubReader::new(Arc::new(self.store())))
    }

    async fn reopen(&mut self) -> bool {
        self.store = None;
        self.store = Some(HubStore::open(&store_options(self.folder.path())).unwrap());
        true
    }

    async fn forget(&mut self, origin: &OriginId, end: Offset) {
        self.store().forget_before(origin, end).await.unwrap();
    }

    fn record_bytes_max(&self) -> Option<usize> {
        Some(RECORD_BYTES_MAX)
    }
}

#[tokio::test]
async fn the_store_holds_the_contract() {
    contract::hold(&mut Store::new()).await;
}

struct Http {
    folder: TempDir,
    hub: Option<Running>,
}

struct Running {
    url: String,
    store: HubStore,
    shutdown: Shutdown,
    serving: JoinHandle<Result<(), HubError>>,
}

/// The names that the contract uses.
const ORIGINS: [&str; 10] =
    ["never", "order", "waited-for", "mix-a", "mix-b", "mix c/d?e%f", "mix-ü", "fenced", "taken-over", "large"];

fn key(origin: &str) -> secrecy::SecretString {
    format!("the key of {origin}").into()
}

impl Http {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let hub = Some(Running::start(&folder).await);
        Self { folder, hub }
    }

    fn client(&self, origin: &str) -> Arc<HubClient> {
        let url = self.hub.as_ref().unwrap().url.clone();
        Arc::new(HubClient::new(ClientOptions { url, key: key(origin) }).unwrap())
    }
}

impl Running {
    async fn start(folder: &TempDir) -> Self {
        let keys = ORIGINS.iter().map(|origin| (OriginId::new(origin), KeyHash::of(&key(origin)))).collect();
        let options = HubOptions { store: store_options(folder.path()), listen: ([127, 0, 0, 1], 0).into(), keys };
        let server = HubServer::open(options).await.unwrap();
        let (url, store) = (format!("http://{}", server.address()), server.store().clone());
        let shutdown = Shutdown::new();
        let serving = tokio::spawn(server.run(shutdown.clone()));
        Self { url, store, shutdown, serving }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

#[async_trait]
impl Subject for Http {
    fn writer(&self, origin: &OriginId) -> Box<dyn TopicWriter> {
        Box::new(HubWriter::new(self.client(origin.as_str()), origin.clone()))
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(HubReader::new(self.client("never")))
    }

    async fn reopen(&mut self) -> bool {
        self.hub.take().unwrap().stop().await;
        self.hub = Some(Running::start(&self.folder).await);
        true
    }

    async fn forget(&mut self, origin: &OriginId, end: Offset) {
        self.hub.as_ref().unwrap().store.forget_before(origin, end).await.unwrap();
    }

    fn record_bytes_max(&self) -> Option<usize> {
        Some(RECORD_BYTES_MAX)
    }
}

#[tokio::test]
async fn a_hub_behind_http_holds_the_contract() {
    contract::hold(&mut Http::new().await).await;
}
