//! Looking closer at the running node: `GET /api/position`, `POST /api/where`, `GET /api/log`.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Json;
use axum::routing::{get, post};

use super::Inspect;
use super::trouble::Trouble;
use crate::observe::{PositionView, WhereView, WhereWish, recent_log};

/// A key may hold some text.
const WISH_BYTES_MAX: usize = 64 << 10;

pub fn router(inspect: Arc<dyn Inspect>) -> Router {
    Router::new()
        .route("/api/position", get(position))
        .route("/api/where", post(where_is))
        .route("/api/log", get(async || recent_log()))
        .layer(DefaultBodyLimit::max(WISH_BYTES_MAX))
        .with_state(inspect)
}

type Node = State<Arc<dyn Inspect>>;

async fn position(State(node): Node) -> Result<Json<PositionView>, Trouble> {
    Ok(Json(node.position().await?))
}

/// The key comes in the body: values of rows belong in no address, which proxies write down.
async fn where_is(State(node): Node, wish: Result<Json<WhereWish>, JsonRejection>) -> Result<Json<WhereView>, Trouble> {
    let Json(wish) = wish?;
    Ok(Json(node.where_is(wish).await?))
}
