//! The node's own server: the API, metrics and health; the screens are beside it, behind the same gate.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::observe::{
    ActivitySearch, ActivityView, AskWish, AskedView, Became, ConflictView, FailedView, Observer, SnapshotView, SnapshotWish,
    Status, VerifyView, VerifyWish,
};
use crate::runtime::Shutdown;

use super::access::{Access, Refusal};
use super::gate::Gate;
use super::listener::LimitedListener;
use super::screens::{self, Screens};
use super::tls::{Tls, TlsIdentity};
use super::trouble::Trouble;
use super::{
    Clouds, Decision, FailedOrders, Inspect, Keeper, LIST_MAX, Orders, Part, Roles, ServeError, Setup, cloud_sync, page, roles,
};

/// Browsers open about six each, a scraper one: enough for a room full of people.
const CONNECTIONS_MAX: usize = 128;

#[derive(Clone, Debug)]
pub struct WebOptions {
    pub listen: SocketAddr,
    /// Must be there where `listen` is open to other machines.
    pub key: Option<SecretString>,
    /// Over `https`, with this certificate.
    pub tls: Option<TlsIdentity>,
}

/// The pages of one node, bound to their address.
pub struct Web {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    screens: Screens,
    tls: Option<Tls>,
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Connected<IncomingStream<'_, LimitedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, LimitedListener>) -> Self {
        Self(stream.remote_addr().ip())
    }
}

#[derive(Clone)]
pub(super) struct Shown {
    observer: Observer,
    keeper: Arc<dyn Keeper>,
    pub orders: Arc<dyn Orders>,
}

impl Web {
    pub async fn bind(
        options: WebOptions,
        observer: Observer,
        keeper: Arc<dyn Keeper>,
        orders: Arc<dyn Orders>,
    ) -> Result<Self, ServeError> {
        let listen = options.listen;
        let access = match options.key {
            Some(key) => Access::key(&key),
            None if listen.ip().is_loopback() => Access::Loopback,
            None => return Err(ServeError::Open { listen }),
        };
        let load = |identity: &TlsIdentity| identity.load().map_err(|error| ServeError::Certificate(Box::new(error)));
        let tls = options.tls.as_ref().map(load).transpose()?;
        let listen_error = |source| ServeError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let gate = Arc::new(Gate::new(access, tls.is_some()).ok_or(ServeError::NoChance)?);
        let shown = Shown { observer: observer.clone(), keeper: keeper.clone(), orders: orders.clone() };
        let screens = Screens {
            observer,
            keeper,
            orders,
            clouds: None,
            setup: None,
            failed: None,
            roles: None,
            gate,
            ordered: Arc::default(),
        };
        let router = router(shown, screens.gate.clone());
        Ok(Self { listener, address, router, screens, tls })
    }

    /// With orders to the clouds that the node feeds.
    pub fn with_clouds(mut self, clouds: Arc<dyn Clouds>) -> Self {
        let orders = cloud_sync::router(self.screens.observer.clone(), clouds.clone());
        let orders = self.guarded(orders);
        self.router = self.router.merge(orders);
        self.screens.clouds = Some(clouds);
        self
    }

    /// With orders about changes that were set aside.
    pub fn with_failed(mut self, orders: Arc<dyn FailedOrders>) -> Self {
        self.screens.failed = Some(orders.clone());
        let orders = self.guarded(super::failed::router(orders));
        self.router = self.router.merge(orders);
        self
    }

    /// With what people look closer at.
    pub fn with_inspect(mut self, inspect: Arc<dyn Inspect>) -> Self {
        let views = self.guarded(super::inspect::router(inspect));
        self.router = self.router.merge(views);
        self
    }

    /// With orders to the roles of the node.
    pub fn with_roles(mut self, orders: Arc<dyn Roles>) -> Self {
        self.screens.roles = Some(orders.clone());
        let orders = self.guarded(roles::router(self.screens.observer.clone(), orders));
        self.router = self.router.merge(orders);
        self
    }

    /// With a screen of how the node is set up.
    pub fn with_setup(mut self, setup: Arc<dyn Setup>) -> Self {
        self.screens.setup = Some(setup);
        self
    }

    fn guarded(&self, router: Router) -> Router {
        let router = router.layer(middleware::from_fn_with_state(self.screens.gate.clone(), guard));
        router.layer(middleware::map_response(with_headers))
    }

    /// Where it listens: the port is the system's choice where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown; requests under way are answered first.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), ServeError> {
        let open = screens::open_router(self.screens.clone()).layer(middleware::map_response(with_headers));
        let router = self.router.clone().merge(self.guarded(screens::router(self.screens.clone()))).merge(open);
        let listener = LimitedListener::new(self.listener, CONNECTIONS_MAX).encrypted(self.tls.map(|tls| tls.acceptor));
        let served = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>())
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .await;
        served.map_err(|source| ServeError::Listen { listen: self.address, source })
    }
}

fn router(shown: Shown, gate: Arc<Gate>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/activity", get(activity))
        .route("/api/conflicts", get(conflicts))
        .route("/api/conflicts/{id}", get(conflict))
        .route("/api/conflicts/{id}/settle", post(settle))
        .route("/api/failed", get(failed))
        .route("/api/failed/{id}", get(failed_one))
        .route("/api/snapshots", get(snapshots).post(snapshot))
        .route("/api/snapshots/{id}/cancel", post(cancel_snapshot))
        .route("/api/verify", get(verified).post(verify))
        .route("/api/verify/cancel", post(cancel_verify))
        .route("/api/ask", post(ask_other))
        .merge(super::ddl::routes())
        .layer(middleware::from_fn_with_state(gate, guard));
    // Whoever watches over the process need not know the key, and learns nothing from these.
    let open = Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready));
    guarded.merge(open).fallback(nowhere).layer(middleware::map_response(with_headers)).with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shown.observer.metrics_text())
}

async fn status(State(shown): State<Shown>) -> Json<Status> {
    Json(shown.observer.status())
}

#[derive(Deserialize)]
struct Asked {
    limit: Option<usize>,
    /// Entries that come before.
    skip: Option<usize>,
    open: Option<bool>,
}

impl Asked {
    fn part(&self) -> Part {
        Part { skip: self.skip.unwrap_or(0), at_most: self.limit.unwrap_or(LIST_MAX).min(LIST_MAX) }
    }
}

#[derive(Deserialize)]
struct ActivityAsked {
    limit: Option<usize>,
    #[serde(default)]
    table: String,
    #[serde(default)]
    key: String,
    /// Table and key are whole.
    #[serde(default)]
    whole: bool,
    became: Option<Became>,
    before: Option<u64>,
}

async fn activity(State(shown): State<Shown>, Query(asked): Query<ActivityAsked>) -> Json<Vec<ActivityView>> {
    let ActivityAsked { limit, table, key, whole, became, before } = asked;
    let search = ActivitySearch { table, key, whole, became, before };
    Json(shown.observer.activity(&search, limit.unwrap_or(LIST_MAX).min(LIST_MAX)))
}

async fn conflicts(State(shown): State<Shown>, Query(asked): Query<Asked>) -> Result<Response, Trouble> {
    Ok(Json(shown.keeper.conflicts(asked.part(), asked.open.unwrap_or(false)).await?).into_response())
}

async fn conflict(State(shown): State<Shown>, Path(id): Path<String>) -> Result<Response, Trouble> {
    let conflict = shown.keeper.conflict(&id).await?;
    Ok(Json(conflict.ok_or(Trouble::NoSuch("conflict"))?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    keep: Kept,
    /// Only these columns of the row that lost.
    #[serde(default)]
    columns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Winner,
    Loser,
}

async fn settle(
    State(shown): State<Shown>,
    Path(id): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<ConflictView>, Trouble> {
    let Json(wanted) = wanted?;
    let decision = match wanted.keep {
        Kept::Winner => Decision::Winner,
        Kept::Loser => Decision::Loser { columns: wanted.columns },
    };
    let settled = shown.orders.settle(&id, &decision).await?;
    Ok(Json(settled.ok_or(Trouble::NoSuch("conflict"))?))
}

async fn failed(State(shown): State<Shown>, Query(asked): Query<Asked>) -> Result<Response, Trouble> {
    Ok(Json(shown.keeper.failed(asked.part()).await?).into_response())
}

async fn failed_one(State(shown): State<Shown>, Path(id): Path<String>) -> Result<Json<FailedView>, Trouble> {
    Ok(Json(shown.keeper.failed_one(&id).await?.ok_or(Trouble::NoSuch("change set aside"))?))
}

async fn snapshots(State(shown): State<Shown>) -> Result<Response, Trouble> {
    Ok(Json(shown.orders.snapshots().await?).into_response())
}

/// Only JSON is taken, which no page of another site can send from somebody's browser without asking us first.
async fn snapshot(
    State(shown): State<Shown>,
    wish: Result<Json<SnapshotWish>, JsonRejection>,
) -> Result<Json<SnapshotView>, Trouble> {
    let Json(wish) = wish?;
    Ok(Json(shown.orders.snapshot(wish).await?))
}

async fn cancel_snapshot(
    State(shown): State<Shown>,
    Path(id): Path<u64>,
    body: Result<Json<Nothing>, JsonRejection>,
) -> Result<Json<Nothing>, Trouble> {
    let Json(Nothing {}) = body?;
    match shown.orders.cancel_snapshot(id).await? {
        true => Ok(Json(Nothing {})),
        false => Err(Trouble::NoSuch("snapshot under way")),
    }
}

async fn verified(State(shown): State<Shown>) -> Result<Json<Option<VerifyView>>, Trouble> {
    Ok(Json(shown.orders.verified().await?))
}

async fn verify(
    State(shown): State<Shown>,
    wish: Result<Json<VerifyWish>, JsonRejection>,
) -> Result<Json<VerifyView>, Trouble> {
    let Json(wish) = wish?;
    Ok(Json(shown.orders.verify(wish).await?))
}

async fn cancel_verify(
    State(shown): State<Shown>,
    body: Result<Json<Nothing>, JsonRejection>,
) -> Result<Json<Nothing>, Trouble> {
    let Json(Nothing {}) = body?;
    match shown.orders.cancel_verify().await? {
        true => Ok(Json(Nothing {})),
        false => Err(Trouble::NoSuch("comparison under way")),
    }
}

async fn ask_other(State(shown): State<Shown>, wish: Result<Json<AskWish>, JsonRejection>) -> Result<Json<AskedView>, Trouble> {
    let Json(wish) = wish?;
    Ok(Json(shown.orders.ask_other(wish).await?))
}

/// `{}`: a body that only shows that it is JSON.
#[derive(Deserialize, Serialize)]
pub(super) struct Nothing {}

/// Ready once every role has started and none has stopped. Offline is ready: that is what this program is for.
async fn ready(State(shown): State<Shown>) -> Response {
    let unready = |state: &str| matches!(state, "waiting" | "stopped");
    let names: Vec<String> =
        shown.observer.status().roles.into_iter().filter(|role| unready(&role.state)).map(|role| role.name).collect();
    match names.as_slice() {
        [] => "ready\n".into_response(),
        names => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", names.join(", "))).into_response(),
    }
}

async fn nowhere() -> Trouble {
    Trouble::NoSuch("page")
}

async fn guard(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    match gate.check(request.headers(), from) {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(Refusal::NoKey) if wants_a_screen(&request) => {
            Redirect::to(&format!("/login?to={}", request.uri().path())).into_response()
        }
        Err(refusal) => Trouble::Refused(refusal).into_response(),
    }
}

/// True for a person's browser, which is better shown where to sign in.
fn wants_a_screen(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && page::is_screen(request.uri().path()) && accepts.contains("text/html")
}

/// No page may be framed, cached, or load anything from elsewhere.
async fn with_headers(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
        frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests;
