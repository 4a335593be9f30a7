//! The receiver's endpoints: the cloud API of docs/cloud.md over axum.
//!
//! Nothing is read of a request's body before its key is known, no key may ask more often than it is allowed to, and of all bodies
//! together only so much is in memory at a time.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::hub::HubError;
use super::listener::LimitedListener;
use super::tls::{Tls, TlsIdentity};
use crate::change::cloud::{BatchAnswer, CloudBatch, CloudOp, RowAnswer, RowResult, id_text};
use crate::receive::{Coming, FileShelf, Kept, Shelf, ShelfError, is_hash};
use crate::runtime::{Clock, Shutdown};
use crate::topic::hub::{Fingerprint, KeyHash};

/// How a receiver is served.
#[derive(Clone)]
pub struct ReceiverOptions {
    pub listen: SocketAddr,
    /// Who may send, with the hash of each one's key.
    pub keys: Vec<(String, KeyHash)>,
    /// `None`: unencrypted.
    pub tls: Option<TlsIdentity>,
    pub body_bytes_max: usize,
    /// Requests of one key in a second, over a while; so many may come at once.
    pub requests_per_second: u32,
}

impl ReceiverOptions {
    pub fn new(listen: SocketAddr, keys: Vec<(String, KeyHash)>) -> Self {
        Self { listen, keys, tls: None, body_bytes_max: 16 << 20, requests_per_second: 200 }
    }
}

const CONNECTIONS_MAX: usize = 256;

/// KB of bodies in memory, of all requests together.
const BODIES_KB: u32 = 256 << 10;

/// For a body to arrive: the least speed of a connection that is worth waiting for.
const BODY_SILENCE: Duration = Duration::from_secs(30);
const BYTES_PER_SECOND_MIN: u64 = 8 << 10;

const GOODBYE: Duration = Duration::from_secs(5);

/// Ids in one answer, where the question does not say or asks for more.
const IDS_MAX: usize = 10_000;

/// Parts of one file, as S3 has it.
const PARTS_MAX: u32 = 10_000;

/// Of a file that is sent back, in memory at once.
const PIECE_BYTES: usize = 1 << 20;

/// Of the name of a node.
const ORIGIN_BYTES_MAX: usize = 255;

/// Rows of one batch.
const BATCH_ROWS_MAX: usize = 20_000;

/// A receiver that listens, but does not answer before it is run.
pub struct Receiver {
    app: App,
    tls: Option<Tls>,
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone)]
struct App {
    shelf: Arc<dyn Shelf>,
    files: FileShelf,
    clock: Arc<dyn Clock>,
    keys: Arc<[(String, KeyHash)]>,
    buckets: Arc<Buckets>,
    bodies: Arc<Semaphore>,
    body_bytes_max: usize,
}

impl Receiver {
    pub async fn open(
        options: ReceiverOptions,
        shelf: Arc<dyn Shelf>,
        files: FileShelf,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HubError> {
        let tls = options.tls.as_ref().map(TlsIdentity::load).transpose()?;
        let fault = |error: io::Error| HubError::Listen { address: options.listen, reason: error.to_string() };
        let listener = TcpListener::bind(options.listen).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let app = App {
            shelf,
            files,
            clock,
            keys: options.keys.into(),
            buckets: Arc::new(Buckets { per_second: options.requests_per_second.max(1), left: Mutex::default() }),
            bodies: Arc::new(Semaphore::new(BODIES_KB as usize)),
            body_bytes_max: options.body_bytes_max,
        };
        Ok(Self { app, tls, listener, address })
    }

    /// Where it listens, the port that the system chose included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// By which senders know it; `None` where it does not encrypt.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.tls.as_ref().map(|tls| tls.fingerprint)
    }

    pub async fn run(self, shutdown: Shutdown) -> Result<(), HubError> {
        let acceptor = self.tls.map(|tls| tls.acceptor);
        let listener = LimitedListener::new(self.listener, CONNECTIONS_MAX).encrypted(acceptor);
        let serving = axum::serve(listener, router(self.app)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let give_up = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GOODBYE).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(|error| HubError::Listen { address: self.address, reason: error.to_string() }),
            () = give_up => Ok(()),
        }
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/api/batch", post(batch))
        .route("/api/sync-status", get(sync_status))
        .route("/api/upload/{kind}", post(upload))
        .route("/api/upload/{kind}/parts", post(begin_parts))
        .route("/api/upload/{kind}/parts/{upload}", post(finish_parts).delete(abort_parts))
        .route("/api/upload/{kind}/parts/{upload}/{number}", put(part))
        .route("/api/files/{kind}/{hash}", get(file))
        .route("/api/{resource}", get(ids).post(create))
        .route("/api/{resource}/{id}", get(row))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(async || Refusal::NoSuch)
        .with_state(app)
}

/// Why a request is not answered as it wishes.
enum Refusal {
    Key,
    Busy { seconds: u64 },
    NoSuch,
    TooLarge { limit: usize },
    Wrong { reason: String },
    Shelf(ShelfError),
}

#[derive(Serialize)]
struct RefusalBody {
    success: bool,
    error: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match &self {
            Self::Key => (StatusCode::UNAUTHORIZED, "this key is not known here".into()),
            Self::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "too many requests of this key".into()),
            Self::NoSuch => (StatusCode::NOT_FOUND, "there is nothing here".into()),
            Self::TooLarge { limit } => (StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {limit} bytes")),
            Self::Wrong { reason } => (StatusCode::UNPROCESSABLE_ENTITY, reason.clone()),
            Self::Shelf(error) if error.is_full => (StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
            Self::Shelf(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let mut response = (status, Json(RefusalBody { success: false, error })).into_response();
        if let Self::Busy { seconds } = self {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if matches!(self, Self::Key) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ShelfError> for Refusal {
    fn from(error: ShelfError) -> Self {
        Self::Shelf(error)
    }
}

fn wrong(reason: impl Into<String>) -> Refusal {
    Refusal::Wrong { reason: reason.into() }
}

/// Requests that each key may still make now: they come back with time.
struct Buckets {
    per_second: u32,
    left: Mutex<BTreeMap<String, (f64, Instant)>>,
}

impl Buckets {
    /// Takes one, or tells after how many seconds there is one.
    fn take(&self, key: &str) -> Result<(), u64> {
        let now = Instant::now();
        let full = f64::from(self.per_second);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = left.entry(key.to_owned()).or_insert((full, now));
        *tokens = (*tokens + now.duration_since(*since).as_secs_f64() * full).min(full);
        *since = now;
        if *tokens >= 1.0 {
            *tokens -= 1.0;
            return Ok(());
        }
        Err(1)
    }
}

async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, given)) = given else { return Refusal::Key.into_response() };
    let given = KeyHash::of(&SecretString::from(given.trim()));
    // All of them are compared, whichever it is: the time tells nothing.
    let known = app.keys.iter().fold(None, |found, (name, hash)| if hash.matches(&given) { Some(name) } else { found });
    let Some(name) = known else { return Refusal::Key.into_response() };
    match app.buckets.take(name) {
        Ok(()) => next.run(request).await,
        Err(seconds) => Refusal::Busy { seconds }.into_response(),
    }
}

/// Reads a body for which there is room.
async fn body(app: &App, body: Body, headers: &axum::http::HeaderMap) -> Result<Bytes, Refusal> {
    let limit = app.body_bytes_max;
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|said| said > limit) {
        return Err(Refusal::TooLarge { limit });
    }
    let size = said.unwrap_or(limit);
    let _room = app.bodies.acquire_many((size / 1024 + 1) as u32).await.expect("the semaphore is never closed");
    let patience = BODY_SILENCE + Duration::from_secs(size as u64 / BYTES_PER_SECOND_MIN);
    match tokio::time::timeout(patience, gathered(body, said, size)).await {
        Ok(Some(body)) => Ok(body),
        Ok(None) if said.is_none() => Err(Refusal::TooLarge { limit }),
        _ => Err(wrong("the body did not arrive whole")),
    }
}

/// The whole body, in one piece of memory that is asked for once: pieces that are joined at the end take it twice, which of large parts of
/// files is what a receiver holds most. `None` where it broke off or is longer than `size`.
async fn gathered(body: Body, said: Option<usize>, size: usize) -> Option<Bytes> {
    let mut whole = BytesMut::with_capacity(said.unwrap_or(0));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        if whole.len() + piece.len() > size {
            return None;
        }
        whole.extend_from_slice(&piece);
    }
    Some(whole.freeze())
}

/// What may stand in a path, and be a name for ever.
fn is_resource(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_id(id: &str) -> bool {
    (1..=1_024).contains(&id.len()) && !id.chars().any(char::is_control)
}

async fn batch(State(app): State<App>, request: Request) -> Result<Json<BatchAnswer>, Refusal> {
    let (parts, arriving) = request.into_parts();
    let bytes = body(&app, arriving, &parts.headers).await?;
    let batch: CloudBatch = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("this is no batch: {error}")))?;
    if batch.rows.len() > BATCH_ROWS_MAX {
        return Err(Refusal::TooLarge { limit: app.body_bytes_max });
    }
    // A row that cannot be kept is refused by itself; the others are taken.
    let refusals: Vec<Option<&'static str>> = batch
        .rows
        .iter()
        .map(|row| match row.op {
            _ if !is_resource(&row.resource) => Some("its resource is no name"),
            _ if !is_id(&row.id) => Some("its id is none"),
            _ if row.version.origin.len() > ORIGIN_BYTES_MAX => Some("its origin is no name"),
            CloudOp::Insert if row.row.is_empty() => Some("it has no fields"),
            _ => None,
        })
        .collect();
    let taken = batch.rows.into_iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none()).map(|(row, _)| row).collect();
    let mut answers = app.shelf.put(taken).await?.into_iter();
    let results: Vec<RowAnswer> = refusals
        .into_iter()
        .map(|refusal| match refusal {
            Some(why) => RowAnswer { result: RowResult::Refused, error: Some(why.into()) },
            None => answers.next().expect("the shelf answers for every row"),
        })
        .collect();
    let success = results.iter().all(|answer| answer.result != RowResult::Refused);
    Ok(Json(BatchAnswer { success, results }))
}

#[derive(Deserialize)]
struct IdsQuery {
    days: Option<u64>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct IdsBody {
    success: bool,
    ids: Vec<String>,
    next: Option<String>,
}

async fn ids(
    State(app): State<App>,
    Path(resource): Path<String>,
    Query(query): Query<IdsQuery>,
) -> Result<Json<IdsBody>, Refusal> {
    if !is_resource(&resource) {
        return Err(Refusal::NoSuch);
    }
    // A row came no earlier than the time that it tells, so this leaves out none of the days asked for.
    let since = query.days.map(|days| app.clock.now_seconds().saturating_sub(days.saturating_mul(86_400)));
    let limit = query.limit.unwrap_or(IDS_MAX).clamp(1, IDS_MAX);
    let page = app.shelf.ids(resource, since, query.after, limit).await?;
    Ok(Json(IdsBody { success: true, ids: page.ids, next: page.next }))
}

async fn create(State(app): State<App>, Path(resource): Path<String>, request: Request) -> Result<Response, Refusal> {
    if !is_resource(&resource) {
        return Err(Refusal::NoSuch);
    }
    let (parts, arriving) = request.into_parts();
    let bytes = body(&app, arriving, &parts.headers).await?;
    let row: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("this is no row: {error}")))?;
    // A row says its id itself; where it has another column for it, the header does.
    let said = parts.headers.get("tandem-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let id = said.or_else(|| row.get("id").and_then(id_text)).filter(|id| is_id(id)).ok_or_else(|| wrong("it has no id"))?;
    let created = app.shelf.create(resource, id.clone(), row).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({ "success": true, "id": id, "created": created }))).into_response())
}

/// A file in the field `file` of a form.
async fn upload(State(app): State<App>, Path(kind): Path<String>, request: Request) -> Result<Json<Value>, Refusal> {
    if !is_resource(&kind) {
        return Err(Refusal::NoSuch);
    }
    let (parts, arriving) = request.into_parts();
    let bytes = body(&app, arriving, &parts.headers).await?;
    let said = parts.headers.get("tandem-blake3").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let form = Request::from_parts(parts, Body::from(bytes));
    let mut form = Multipart::from_request(form, &()).await.map_err(|error| wrong(error.body_text()))?;
    let broken = |error: MultipartError| wrong(format!("this is no form with a file: {}", error.body_text()));
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() != Some("file") {
            continue;
        }
        let bytes = field.bytes().await.map_err(broken)?;
        return here(&kind, app.files.put(&kind, bytes, said.as_deref()).await?);
    }
    Err(wrong("the form has no field `file`"))
}

/// Where a file is that came.
fn here(kind: &str, kept: Kept) -> Result<Json<Value>, Refusal> {
    match kept {
        Kept::Here(hash) => Ok(Json(json!({ "success": true, "url": format!("/api/files/{kind}/{hash}"), "hash": hash }))),
        Kept::Damaged => Err(wrong("the file has another hash than was said")),
        Kept::NoSuch => Err(Refusal::NoSuch),
    }
}

#[derive(Deserialize)]
struct PartsAsked {
    hash: String,
    size: u64,
    part_bytes: u64,
}

/// A file is to come in parts.
async fn begin_parts(State(app): State<App>, Path(kind): Path<String>, request: Request) -> Result<Json<Value>, Refusal> {
    if !is_resource(&kind) {
        return Err(Refusal::NoSuch);
    }
    let (parts, arriving) = request.into_parts();
    let bytes = body(&app, arriving, &parts.headers).await?;
    let asked: PartsAsked = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("this begins no file: {error}")))?;
    if !is_hash(&asked.hash) {
        return Err(wrong("its hash is none"));
    }
    let limit = app.body_bytes_max;
    if !(1..=limit as u64).contains(&asked.part_bytes) || asked.size.div_ceil(asked.part_bytes) > u64::from(PARTS_MAX) {
        return Err(Refusal::TooLarge { limit });
    }
    match app.files.begin(&kind, &asked.hash, asked.size, asked.part_bytes).await? {
        Coming::Here => here(&kind, Kept::Here(asked.hash)),
        Coming::Upload(upload) => Ok(Json(json!({ "success": true, "upload": upload }))),
    }
}

async fn part(
    State(app): State<App>,
    Path((kind, upload, number)): Path<(String, String, u32)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    if !is_resource(&kind) || number >= PARTS_MAX {
        return Err(Refusal::NoSuch);
    }
    let (parts, arriving) = request.into_parts();
    let bytes = body(&app, arriving, &parts.headers).await?;
    let said = parts.headers.get("tandem-blake3").and_then(|value| value.to_str().ok());
    match app.files.part(&kind, &upload, number, bytes, said).await? {
        Kept::Here(word) => Ok(Json(json!({ "success": true, "part": word }))),
        Kept::Damaged => Err(wrong("the part has another hash than was said")),
        Kept::NoSuch => Err(Refusal::NoSuch),
    }
}

#[derive(Deserialize)]
struct PartsSent {
    parts: Vec<String>,
}

async fn finish_parts(
    State(app): State<App>,
    Path((kind, upload)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    if !is_resource(&kind) {
        return Err(Refusal::NoSuch);
    }
    let (parts, arriving) = request.into_parts();
    let bytes = body(&app, arriving, &parts.headers).await?;
    let sent: PartsSent = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("this ends no file: {error}")))?;
    here(&kind, app.files.finish(&kind, &upload, &sent.parts).await?)
}

async fn abort_parts(State(app): State<App>, Path((kind, upload)): Path<(String, String)>) -> Result<Json<Value>, Refusal> {
    if !is_resource(&kind) {
        return Err(Refusal::NoSuch);
    }
    match app.files.abort(&kind, &upload).await? {
        Kept::Here(_) => Ok(Json(json!({ "success": true }))),
        Kept::Damaged | Kept::NoSuch => Err(Refusal::NoSuch),
    }
}

/// A piece at a time, however large the file is.
async fn file(State(app): State<App>, Path((kind, hash)): Path<(String, String)>) -> Result<Response, Refusal> {
    if !is_resource(&kind) {
        return Err(Refusal::NoSuch);
    }
    let first = app.files.read(&kind, &hash, 0, PIECE_BYTES).await?.ok_or(Refusal::NoSuch)?;
    let read = first.len() as u64;
    let rest = stream::try_unfold((app.files, read), move |(files, from)| {
        let (kind, hash) = (kind.clone(), hash.clone());
        async move {
            // A piece that is not full was the last.
            if from == 0 || !from.is_multiple_of(PIECE_BYTES as u64) {
                return Ok(None);
            }
            let piece = files.read(&kind, &hash, from, PIECE_BYTES).await.map_err(io::Error::other)?.unwrap_or_default();
            let next = from + piece.len() as u64;
            Ok::<_, io::Error>((!piece.is_empty()).then_some((piece, (files, next))))
        }
    });
    let whole = stream::iter([Ok(first)]).chain(rest);
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, Body::from_stream(whole)).into_response())
}

async fn row(
    State(app): State<App>,
    Path((resource, id)): Path<(String, String)>,
) -> Result<Json<Map<String, Value>>, Refusal> {
    app.shelf.row(resource, id).await?.map(Json).ok_or(Refusal::NoSuch)
}

async fn sync_status(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let held = app.shelf.held().await?;
    let rows: u64 = held.rows.iter().map(|(_, rows)| rows).sum();
    let message = match held.last_second {
        Some(_) => format!("{rows} rows of {} resources are here", held.rows.len()),
        None => "nothing has come yet".into(),
    };
    let tables: Map<String, Value> = held.rows.into_iter().map(|(resource, rows)| (resource, rows.into())).collect();
    Ok(Json(json!({ "success": true, "status": "ok", "message": message, "last_sync": held.last_second, "rows": tables })))
}
