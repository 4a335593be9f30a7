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

    async fn forget(&mut self, origin: &OriginId, end: Offset) -> bool {
        self.0.forget_before(origin, end);
        true
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

    async fn forget(&mut self, origin: &OriginId, end: Offset) -> bool {
        self.store().forget_before(origin, end).await.unwrap();
        true
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
        Arc::new(HubClient::new(ClientOptions { url, key: key(origin), trust: Default::default() }).unwrap())
    }
}

impl Running {
    async fn start(folder: &TempDir) -> Self {
        let keys = ORIGINS.iter().map(|origin| (OriginId::new(origin), KeyHash::of(&key(origin)))).collect();
        let options = HubOptions { store: store_options(folder.path()), listen: ([127, 0, 0, 1], 0).into(), keys, tls: None };
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

    async fn forget(&mut self, origin: &OriginId, end: Offset) -> bool {
        self.hub.as_ref().unwrap().store.forget_before(origin, end).await.unwrap();
        true
    }

    fn record_bytes_max(&self) -> Option<usize> {
        Some(RECORD_BYTES_MAX)
    }
}

#[tokio::test]
async fn a_hub_behind_http_holds_the_contract() {
    contract::hold(&mut Http::new().await).await;
}

/// What the protocol says to requests that no client of ours makes.
mod over_http {
    use std::time::Duration;

    use tandem::topic::TopicError;
    use tandem::topic::contract::record;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    use super::*;

    /// Sends bytes as they are; gives the status line and the body.
    async fn raw(http: &Http, request: &[u8]) -> (u16, String) {
        let address = http.hub.as_ref().unwrap().url.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn post(http: &Http, path: &str, key: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw(http, &[head.as_bytes(), body].concat()).await
    }

    #[tokio::test]
    async fn who_has_no_key_gets_nothing() {
        let http = Http::new().await;
        for path in ["/v1/topics", "/v1/topics/order", "/v1/topics/order/blocks?from=0&bytes_max=1&wait_ms=0"] {
            for authorization in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic the key of order\r\n"] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n");
                let (status, body) = raw(&http, request.as_bytes()).await;
                assert_eq!((status, &*body), (401, r#"{"error":"unknown_key"}"#), "{path} {authorization}");
            }
        }
        let (status, _) = post(&http, "/v1/topics/order/blocks", "wrong", b"").await;
        assert_eq!(status, 401);
        let stranger = Arc::new(
            HubClient::new(ClientOptions {
                url: http.hub.as_ref().unwrap().url.clone(),
                key: "x".into(),
                trust: Default::default(),
            })
            .unwrap(),
        );
        let error = HubReader::new(stranger).extent(&OriginId::new("order")).await.unwrap_err();
        assert!(matches!(error, TopicError::Denied { .. }), "{error}");
        assert!(!error.to_string().contains("Bearer"), "{error}");
    }

    #[tokio::test]
    async fn a_node_appends_to_its_own_topic_only() {
        let http = Http::new().await;
        let origin = OriginId::new("order");
        let mut writer = HubWriter::new(http.client("fenced"), origin.clone());
        for error in [writer.resume().await.unwrap_err(), writer.append(Offset(0), &[record(&origin, 0)]).await.unwrap_err()] {
            let text = error.to_string();
            assert!(matches!(error, TopicError::Denied { .. }), "{text}");
            assert!(text.contains("the key is that of fenced"), "{text}");
        }
        assert_eq!(HubReader::new(http.client("fenced")).extent(&origin).await.unwrap().end, Offset(0));
    }

    #[tokio::test]
    async fn bodies_that_are_no_blocks_are_refused_and_nothing_is_kept() {
        let http = Http::new().await;
        let mut random = fastrand::Rng::with_seed(5);
        for size in [0, 1, 11, 12, 13, 28, 100, 20_000] {
            let body: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
            let (status, answer) = post(&http, "/v1/topics/order/blocks", "the key of order", &body).await;
            assert_eq!(status, 400, "{size} bytes: {answer}");
            assert!(answer.contains("bad_request"), "{answer}");
        }
        let (status, _) = post(&http, "/v1/topics/order/blocks?generation=-1", "the key of order", b"x").await;
        assert_eq!(status, 400);
        let (status, answer) = raw(
            &http,
            b"POST /v1/topics/order/blocks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer the key of order\r\n\
              Content-Length: 999999999999\r\n\r\n",
        )
        .await;
        assert_eq!(status, 413, "{answer}");
        assert!(http.hub.as_ref().unwrap().store.topics().iter().all(|(_, _, end)| *end == Offset(0)));
    }

    #[tokio::test]
    async fn the_end_of_the_hub_ends_a_long_wait() {
        let mut http = Http::new().await;
        let reader = HubReader::new(http.client("never"));
        let origin = OriginId::new("order");
        let waiting = tokio::spawn(async move { reader.read(&origin, Offset(0), 1, Duration::from_secs(60)).await });
        // An answer to somebody else shows that the hub is up and the first question under way or about to be.
        HubReader::new(http.client("order")).extent(&OriginId::new("order")).await.unwrap();
        let before = Instant::now();
        http.hub.take().unwrap().stop().await;
        let outcome = waiting.await.unwrap();
        assert!(matches!(outcome, Ok(ref found) if found.is_empty()) || matches!(outcome, Err(TopicError::Unreachable { .. })));
        assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn a_hub_that_is_away_or_is_none_is_unreachable_with_its_address() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        let client = Arc::new(
            HubClient::new(ClientOptions { url: format!("http://{address}"), key: "x".into(), trust: Default::default() })
                .unwrap(),
        );
        let reader = HubReader::new(client);
        let origin = OriginId::new("order");
        let answering = tokio::spawn(async move {
            for answer in
                ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 502 Bad Gateway\r\n\r\n", "SSH-2.0-x\r\n"]
            {
                let (mut stream, _) = free.accept().await.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        for number in 0..4 {
            let error = reader.extent(&origin).await.unwrap_err();
            assert!(matches!(error, TopicError::Unreachable { .. }), "{number}: {error:?}");
            assert!(error.to_string().contains(&address.to_string()), "{number}: {error}");
        }
        answering.await.unwrap();
        for url in ["", "127.0.0.1:7421", "ftp://x", "http://user:secret@x"] {
            let error =
                HubClient::new(ClientOptions { url: url.into(), key: "x".into(), trust: Default::default() }).err().unwrap();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
