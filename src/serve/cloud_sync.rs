//! Orders to feed a cloud now, and what is known of it: `/api/cloud-sync`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::gate::is_foreign;
use super::{Clouds, FilesAsked, FilesRefused, SyncAsked, SyncRefused};
use crate::observe::{CloudFile, CloudReport, CloudState, Observer, spoken_time};

/// Longer, and a proxy between might give up; the run is asked about again then.
const WAIT_MAX: Duration = Duration::from_secs(45);

/// An order is some words.
const ORDER_BYTES_MAX: usize = 64 << 10;

#[derive(Clone)]
struct Orders {
    observer: Observer,
    clouds: Arc<dyn Clouds>,
}

pub fn router(observer: Observer, clouds: Arc<dyn Clouds>) -> Router {
    Router::new()
        .route("/api/cloud-sync/status", get(status))
        .route("/api/cloud-sync/sync-now", post(sync_now))
        .route("/api/cloud-sync/run", get(run))
        .route("/api/cloud-sync/files", get(files))
        .layer(axum::extract::DefaultBodyLimit::max(ORDER_BYTES_MAX))
        .with_state(Orders { observer, clouds })
}

/// Why an order is not taken.
struct Trouble(StatusCode, String, &'static str);

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let Self(status, error, hint) = self;
        (status, Json(json!({ "success": false, "error": error, "hint": hint }))).into_response()
    }
}

impl Orders {
    fn names(&self) -> Vec<String> {
        self.observer.status().clouds.into_iter().map(|cloud| cloud.name).collect()
    }

    /// The cloud that is named; the only one where none is.
    fn one_cloud(&self, named: Option<String>) -> Result<String, Trouble> {
        if let Some(name) = named {
            return Ok(name);
        }
        let mut names = self.names();
        if names.len() == 1 {
            return Ok(names.remove(0));
        }
        let fed = if names.is_empty() { "none".into() } else { names.join(", ") };
        let hint = "add \"cloud\" to the order, or [cloud.main] to the configuration";
        Err(Trouble(StatusCode::UNPROCESSABLE_ENTITY, format!("say which cloud: this node feeds {fed}"), hint))
    }
}

fn no_such_cloud(name: &str) -> Trouble {
    Trouble(StatusCode::NOT_FOUND, format!("this node feeds no cloud {name}"), "see GET /api/cloud-sync/status")
}

/// `status`, `message` and `last_sync` of all clouds together, then each.
async fn status(State(orders): State<Orders>) -> Json<Value> {
    let clouds = orders.observer.status().clouds;
    // The worst one's state is that of all.
    let worst = clouds.iter().max_by_key(|cloud| match cloud.state {
        CloudState::Idle => 0,
        CloudState::Starting => 1,
        CloudState::Syncing => 2,
        CloudState::Offline => 3,
        CloudState::Paused => 4,
    });
    let message = match worst {
        None => "this node feeds no cloud".to_owned(),
        Some(cloud) => cloud.reason.clone().unwrap_or_else(|| match (cloud.state, cloud.last_success_seconds) {
            (CloudState::Syncing, _) => format!("{} rows sent so far", cloud.sending),
            (_, Some(second)) => format!("everything was in the cloud at {}", spoken_time(second)),
            (_, None) => "nothing was sent yet".into(),
        }),
    };
    Json(json!({
        "status": worst.map_or("none", |cloud| cloud.state.label()),
        "message": message,
        "last_sync": clouds.iter().filter_map(|cloud| cloud.last_success_seconds).min(),
        "next_run": clouds.iter().filter_map(|cloud| cloud.next_run_seconds).min(),
        "clouds": clouds,
    }))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Order {
    /// May be left out where there is only one.
    cloud: Option<String>,
    force: bool,
    dry_run: bool,
    tables: Vec<String>,
    /// Answer at once, with the run's number.
    no_wait: bool,
}

async fn sync_now(State(orders): State<Orders>, headers: HeaderMap, body: Bytes) -> Result<Response, Trouble> {
    if is_foreign(&headers) {
        let error = "this order comes from a page of another site".to_owned();
        return Err(Trouble(StatusCode::FORBIDDEN, error, "order it from the node's own page, or without a browser"));
    }
    // A browser's button sends an empty form, and wants to see the page again.
    let form = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form"));
    let order: Order = match body.is_empty() || form {
        true => Order { no_wait: form, ..Order::default() },
        false => serde_json::from_slice(&body).map_err(|error| {
            Trouble(StatusCode::BAD_REQUEST, format!("this is no order: {error}"), "send {} or {\"force\": true}")
        })?,
    };
    let mut all = if form && order.cloud.is_none() { orders.names() } else { Vec::new() };
    let cloud = if all.is_empty() { orders.one_cloud(order.cloud)? } else { all.remove(0) };
    let asked = SyncAsked { force: order.force, dry_run: order.dry_run, tables: order.tables };
    let ordered = |cloud: &str| {
        orders.clouds.sync_now(cloud, &asked).map_err(|refused| match refused {
            SyncRefused::NoSuchCloud => no_such_cloud(cloud),
            SyncRefused::Another => {
                Trouble(StatusCode::CONFLICT, "another kind of run waits for its turn".into(), "try again when it has ended")
            }
        })
    };
    let number = ordered(&cloud)?;
    all.iter().try_for_each(|cloud| ordered(cloud).map(drop))?;
    if form {
        return Ok(Redirect::to("/").into_response());
    }
    if order.no_wait {
        return Ok((StatusCode::ACCEPTED, Json(json!({ "cloud": cloud, "run": number }))).into_response());
    }
    answer(&orders, &cloud, number).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilesQuery {
    cloud: Option<String>,
    state: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

/// Files in one answer.
const FILES_MAX: usize = 1_000;

/// What became of files that rows name, a page at a time.
async fn files(State(orders): State<Orders>, Query(asked): Query<FilesQuery>) -> Result<Json<Value>, Trouble> {
    let name = orders.one_cloud(asked.cloud)?;
    let after = asked.after.as_deref().map(after).transpose()?;
    let wanted = FilesAsked { state: asked.state, after, at_most: asked.limit.unwrap_or(100).clamp(1, FILES_MAX) };
    let found = orders.clouds.files(&name, &wanted).map_err(|refused| match refused {
        FilesRefused::NoSuchCloud => no_such_cloud(&name),
        FilesRefused::NotRunning => {
            let hint = "start it: tandem resume cloud, or restart the node";
            Trouble(StatusCode::SERVICE_UNAVAILABLE, format!("the role that feeds {name} does not run"), hint)
        }
        FilesRefused::Ledger(reason) => {
            let error = format!("what is known of files cannot be read: {reason}");
            Trouble(StatusCode::SERVICE_UNAVAILABLE, error, "look at the disk of this node's state folder")
        }
    })?;
    let next = found.last().filter(|_| found.len() == wanted.at_most);
    let next = next.map(|last| json!([last.state, last.scope, last.path]).to_string());
    Ok(Json(json!({ "cloud": name, "files": found, "next": next })))
}

fn after(text: &str) -> Result<CloudFile, Trouble> {
    let named: Result<(String, String, String), _> = serde_json::from_str(text);
    let (state, scope, path) = named.map_err(|_| {
        let error = "`after` is no `next` of an answer".to_owned();
        Trouble(StatusCode::BAD_REQUEST, error, "leave it out for the first page")
    })?;
    Ok(CloudFile { state, scope, path, ..CloudFile::default() })
}

#[derive(Deserialize)]
struct RunAsked {
    cloud: String,
    run: u64,
}

async fn run(State(orders): State<Orders>, Query(asked): Query<RunAsked>) -> Result<Response, Trouble> {
    answer(&orders, &asked.cloud, asked.run).await
}

/// The report where the run ends soon; else that it is under way.
async fn answer(orders: &Orders, cloud: &str, run: u64) -> Result<Response, Trouble> {
    match tokio::time::timeout(WAIT_MAX, orders.clouds.report(cloud, run)).await {
        Ok(Some(report)) => Ok(Json::<CloudReport>(report).into_response()),
        Ok(None) => Err(no_such_cloud(cloud)),
        Err(_) => Ok((StatusCode::ACCEPTED, Json(json!({ "cloud": cloud, "run": run }))).into_response()),
    }
}
