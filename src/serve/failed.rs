//! Orders about changes that were set aside: `POST /api/failed/retry` and `/api/failed/discard`, each with
//! `{"ids": ["laptop-b:12", …]}` or `{"all": true}`.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Json;
use axum::routing::post;
use serde::Serialize;

use super::FailedOrders;
use super::trouble::Trouble;
use crate::observe::{FailedWish, RetriedView};
use crate::runtime::Stop;

/// Some thousand ids.
const ORDER_BYTES_MAX: usize = 256 << 10;

pub fn router(orders: Arc<dyn FailedOrders>) -> Router {
    Router::new()
        .route("/api/failed/retry", post(retry))
        .route("/api/failed/discard", post(discard))
        .layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
        .with_state(orders)
}

#[derive(Serialize)]
struct Retried {
    results: Vec<RetriedView>,
}

#[derive(Serialize)]
struct Discarded {
    discarded: Vec<String>,
}

type Orders = State<Arc<dyn FailedOrders>>;

/// Only JSON is taken, which no page of another site can send from somebody's browser without asking us first.
type Wish = Result<Json<FailedWish>, JsonRejection>;

async fn retry(State(orders): Orders, wish: Wish) -> Result<Json<Retried>, Trouble> {
    Ok(Json(Retried { results: orders.retry(named(wish)?).await? }))
}

async fn discard(State(orders): Orders, wish: Wish) -> Result<Json<Discarded>, Trouble> {
    Ok(Json(Discarded { discarded: orders.discard(named(wish)?).await? }))
}

fn named(wish: Wish) -> Result<FailedWish, Trouble> {
    let Json(wish) = wish?;
    if wish.all != wish.ids.is_empty() {
        let (message, hint) =
            ("it is not said which changes are meant", "send either {\"ids\": [\"laptop-b:12\"]} or {\"all\": true}");
        return Err(Trouble::Order(Stop::halt(message, hint)));
    }
    Ok(wish)
}
