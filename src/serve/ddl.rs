//! Other nodes' statements that define tables: which wait, and what people decide about them.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::trouble::Trouble;
use super::web::{Nothing, Shown};
use crate::observe::SchemaView;

pub(super) fn routes() -> Router<Shown> {
    Router::new()
        .route("/api/schema-changes", get(list))
        .route("/api/schema-changes/{number}/approve", post(approve))
        .route("/api/schema-changes/{number}/skip", post(skip))
}

#[derive(Deserialize)]
struct Asked {
    open: Option<bool>,
}

async fn list(State(shown): State<Shown>, Query(asked): Query<Asked>) -> Result<Json<Vec<SchemaView>>, Trouble> {
    Ok(Json(shown.orders.schema_changes(asked.open.unwrap_or(false)).await?))
}

type Body = Result<Json<Nothing>, JsonRejection>;

async fn approve(shown: State<Shown>, number: Path<u64>, body: Body) -> Result<Json<SchemaView>, Trouble> {
    decide(shown, number, body, true).await
}

async fn skip(shown: State<Shown>, number: Path<u64>, body: Body) -> Result<Json<SchemaView>, Trouble> {
    decide(shown, number, body, false).await
}

async fn decide(
    State(shown): State<Shown>,
    Path(number): Path<u64>,
    body: Body,
    run: bool,
) -> Result<Json<SchemaView>, Trouble> {
    let Json(Nothing {}) = body.map_err(|rejection| Trouble::NotUnderstood(rejection.body_text()))?;
    let decided = shown.orders.decide_schema(number, run).await?;
    Ok(Json(decided.ok_or(Trouble::NoSuch("schema change that waits"))?))
}
