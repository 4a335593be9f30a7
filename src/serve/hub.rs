//! The hub's endpoints: `topic::hub::protocol` over axum.
//!
//! A key says which node asks. Any known node may read every topic; it may append to its own only, but for the one record by
//! which people remove another node. Nothing is read of a
//! request's body before its key is known, and of all bodies together only so much is in memory at a time.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::listener::LimitedListener;
use super::tls::{Tls, TlsIdentity};
use crate::change::{Offset, OriginId};
use crate::runtime::{Disposition, Fault, Shutdown};
use crate::topic::TopicError;
use crate::topic::hub::protocol::{self, AppendQuery, Appended, Listed, ListedTopic, ReadQuery, Refusal, WAIT_MS_MAX, header};
use crate::topic::hub::{BLOCK_BYTES, Block, BlockError, Fingerprint, Held, Hub, HubStore, KeyHash, StoreOptions, is_removal};

/// How a hub is kept and served.
#[derive(Clone)]
pub struct HubOptions {
    pub store: StoreOptions,
    pub listen: SocketAddr,
    /// The nodes that may ask, with the hash of each one's key.
    pub keys: Vec<(OriginId, KeyHash)>,
    /// `None`: unencrypted.
    pub tls: Option<TlsIdentity>,
}

impl HubOptions {
    pub fn new(folder: impl Into<PathBuf>, listen: SocketAddr, keys: Vec<(OriginId, KeyHash)>) -> Self {
        Self { store: StoreOptions::new(folder), listen, keys, tls: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("the hub cannot open its topics")]
    Store(#[source] TopicError),
    #[error("the certificate {} cannot be used: {reason}", file.display())]
    Certificate { file: PathBuf, reason: String },
    #[error("the hub cannot listen on {address}: {reason}")]
    Listen { address: SocketAddr, reason: String },
}

impl Fault for HubError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Store(error) => error.disposition(),
            Self::Certificate { .. } => Disposition::Halt,
            // The address may come back with the network, or the other process may end.
            Self::Listen { .. } => Disposition::Retry,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Certificate { .. } => Some(
                "mend `certificate` and `certificate_key`, or remove both for one of its own, which is made at the start"
                    .into(),
            ),
            Self::Listen { .. } => Some("end what uses the address, or choose another".into()),
        }
    }
}

/// A node has a handful: its appends, and a long-poll for each of the others. The rest is for many nodes.
const CONNECTIONS_MAX: usize = 512;

/// KB of bodies in memory, of all requests together.
const BODIES_KB: u32 = 256 << 10;

/// For a body to arrive: what the client allows itself, so that it is never us who give up first.
const BODY_SILENCE: Duration = Duration::from_secs(30);

/// For requests under way when the hub is to end. Long-polls are ended at once.
const GOODBYE: Duration = Duration::from_secs(5);

/// Bytes of a request that ends another node's topic. It tells what every node had seen, so it grows with the nodes.
const REMOVAL_BYTES: usize = 64 << 10;

/// A hub that listens, but does not answer before it is run.
pub struct HubServer {
    store: HubStore,
    keys: Vec<(OriginId, KeyHash)>,
    tls: Option<Tls>,
    listener: TcpListener,
    address: SocketAddr,
}

/// Keeps and serves the topics until the shutdown.
pub async fn serve_hub(options: HubOptions, shutdown: Shutdown) -> Result<(), HubError> {
    HubServer::open(options).await?.run(shutdown).await
}

impl HubServer {
    pub async fn open(options: HubOptions) -> Result<Self, HubError> {
        let store = tokio::task::spawn_blocking(move || HubStore::open(&options.store)).await;
        let cut_off = |_| TopicError::Store { reason: "opening was cut off by the end of the process".into() };
        let store = store.map_err(cut_off).and_then(|opened| opened).map_err(HubError::Store)?;
        Self::over(store, options.listen, options.keys, options.tls.as_ref()).await
    }

    /// Serves a store that somebody else uses too: the node that keeps the topics needs no HTTP to reach them.
    pub async fn over(
        store: HubStore,
        listen: SocketAddr,
        keys: Vec<(OriginId, KeyHash)>,
        tls: Option<&TlsIdentity>,
    ) -> Result<Self, HubError> {
        let tls = tls.map(TlsIdentity::load).transpose()?;
        let fault = |error: io::Error| HubError::Listen { address: listen, reason: error.to_string() };
        let listener = TcpListener::bind(listen).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { store, keys, tls, listener, address })
    }

    /// Where it listens, the port that the system chose included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// By which nodes know it; `None` where it does not encrypt.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.tls.as_ref().map(|tls| tls.fingerprint)
    }

    pub fn store(&self) -> &HubStore {
        &self.store
    }

    pub async fn run(self, shutdown: Shutdown) -> Result<(), HubError> {
        let app = App {
            store: self.store,
            keys: self.keys.into(),
            bodies: Arc::new(Semaphore::new(BODIES_KB as usize)),
            shutdown: shutdown.clone(),
        };
        let acceptor = self.tls.map(|tls| tls.acceptor);
        let listener = LimitedListener::new(self.listener, CONNECTIONS_MAX).encrypted(acceptor);
        let serving = axum::serve(listener, router(app)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let give_up = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GOODBYE).await;
        };
        tokio::select! {
            ended = serving => {
                ended.map_err(|error| HubError::Listen { address: self.address, reason: error.to_string() })
            }
            () = give_up => Ok(()),
        }
    }
}

#[derive(Clone)]
struct App {
    store: HubStore,
    keys: Arc<[(OriginId, KeyHash)]>,
    bodies: Arc<Semaphore>,
    shutdown: Shutdown,
}

fn router(app: App) -> Router {
    Router::new()
        .route("/v1/topics", get(list))
        .route("/v1/topics/{origin}", get(held))
        .route("/v1/topics/{origin}/writer", post(resume))
        .route("/v1/topics/{origin}/blocks", get(read).post(append))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(app)
}

/// The node whose key the request carries.
struct Node(OriginId);

impl FromRequestParts<App> for Node {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let given = bearer(&parts.headers).ok_or(Refusal::UnknownKey)?;
        let given = KeyHash::of(&given);
        // All of them are compared, whichever it is: the time tells nothing.
        let matching = app.keys.iter().fold(None, |found, (node, hash)| if hash.matches(&given) { Some(node) } else { found });
        matching.cloned().map(Self).ok_or(Refusal::UnknownKey)
    }
}

fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let text = std::str::from_utf8(headers.get(axum::http::header::AUTHORIZATION)?.as_bytes()).ok()?;
    let (scheme, key) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().into())
}

impl Node {
    fn must_be(&self, origin: &OriginId) -> Result<(), Refusal> {
        if self.0 == *origin { Ok(()) } else { Err(Refusal::NotYours { node: self.0.clone() }) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).expect("these are statuses of HTTP");
        (status, axum::Json(self)).into_response()
    }
}

async fn list(State(app): State<App>, _: Node) -> axum::Json<Listed> {
    let topics = app.store.topics().into_iter();
    axum::Json(Listed { topics: topics.map(|(origin, first, end)| ListedTopic { origin, first, end }).collect() })
}

async fn held(State(app): State<App>, _: Node, Path(origin): Path<String>) -> Result<Response, Refusal> {
    let held = app.store.held(&OriginId::new(&origin)).await?;
    Ok(holding(held, &[]))
}

async fn resume(State(app): State<App>, node: Node, Path(origin): Path<String>) -> Result<Response, Refusal> {
    let origin = OriginId::new(&origin);
    node.must_be(&origin)?;
    let resumed = app.store.resume(&origin).await?;
    let more = [(header::GENERATION, resumed.generation), (header::RECORD_BYTES_MAX, resumed.record_bytes_max as u64)];
    Ok(holding(resumed.held, &more))
}

fn holding(held: Held, more: &[(&'static str, u64)]) -> Response {
    let mut response = Body::from(protocol::write_blocks(held.last.as_slice())).into_response();
    let known = [(header::FIRST, held.first.0), (header::END, held.end.0)];
    for (name, value) in known.iter().chain(more) {
        response.headers_mut().insert(*name, (*value).into());
    }
    response
}

async fn read(
    State(app): State<App>,
    _: Node,
    Path(origin): Path<String>,
    query: Result<Query<ReadQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Bytes, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::BadRequest { reason: error.body_text() })?;
    let origin = OriginId::new(&origin);
    let wait = Duration::from_millis(query.wait_ms.min(WAIT_MS_MAX));
    let bytes_max = usize::try_from(query.bytes_max).unwrap_or(usize::MAX);
    tokio::select! {
        blocks = app.store.read(&origin, query.from, bytes_max, wait) => Ok(protocol::write_blocks(&blocks?)),
        // The client asks again and finds us away, or the next process in our place.
        () = app.shutdown.cancelled() => Ok(Bytes::new()),
    }
}

async fn append(
    State(app): State<App>,
    node: Node,
    Path(origin): Path<String>,
    query: Result<Query<AppendQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<axum::Json<Appended>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::BadRequest { reason: error.body_text() })?;
    let origin = OriginId::new(&origin);
    let limit = app.store.record_bytes_max();
    let size = body_size(request.headers())?;
    // What ends another node's topic is small. Anything else for it is refused before it is read.
    if size > REMOVAL_BYTES {
        node.must_be(&origin)?;
    }
    if size > protocol::body_bytes_max(limit) {
        return Err(Refusal::TooLarge { size, limit });
    }
    // Held until the answer, so that waiting for the disk counts too.
    let room = app.bodies.acquire_many(size as u32 / 1024 + 1).await;
    let _room = room.expect("the semaphore is never closed");
    let arrives = axum::body::to_bytes(request.into_body(), size);
    let patience = BODY_SILENCE + Duration::from_secs(size as u64 / protocol::BYTES_PER_SECOND_MIN);
    let body = match tokio::time::timeout(patience, arrives).await {
        Ok(Ok(body)) => body,
        _ => return Err(Refusal::BadRequest { reason: "the body did not arrive whole".into() }),
    };
    let blocks = check(body, limit).await?;
    if !is_removal(&origin, &node.0, &blocks) {
        node.must_be(&origin)?;
    }
    let end: Offset = app.store.append(&origin, query.generation, blocks).await?;
    Ok(axum::Json(Appended { end }))
}

/// The length must be known before anything is read: it is what memory is set aside for.
fn body_size(headers: &HeaderMap) -> Result<usize, Refusal> {
    let text = headers.get(axum::http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let size = text.and_then(|text| text.parse().ok());
    size.ok_or_else(|| Refusal::BadRequest { reason: "the request does not say its length".into() })
}

/// Bytes up to which unpacking takes less time than handing it to another thread.
const CHECKED_HERE: usize = 16 << 10;

/// A block that cannot be read would be in the topic for ever, so each is unpacked and walked through once.
async fn check(body: Bytes, record_bytes_max: usize) -> Result<Vec<Block>, Refusal> {
    if body.len() <= CHECKED_HERE {
        return check_now(body, record_bytes_max);
    }
    let checked = tokio::task::spawn_blocking(move || check_now(body, record_bytes_max)).await;
    checked.unwrap_or_else(|_| Err(Refusal::Store { reason: "the hub is ending".into() }))
}

fn check_now(body: Bytes, record_bytes_max: usize) -> Result<Vec<Block>, Refusal> {
    let fault = |error: BlockError| Refusal::BadRequest { reason: error.to_string() };
    let blocks = protocol::read_blocks(body).map_err(fault)?;
    if blocks.is_empty() {
        return Err(Refusal::BadRequest { reason: "an append of nothing".into() });
    }
    for block in &blocks {
        // Looked at before it is unpacked: a small body can claim to hold much.
        let claimed = block.unpacked as usize;
        let size = if claimed > record_bytes_max + BLOCK_BYTES { claimed } else { block.check().map_err(fault)? };
        if size > record_bytes_max {
            return Err(Refusal::TooLarge { size, limit: record_bytes_max });
        }
    }
    Ok(blocks)
}
