//! Orders to the roles of the running node: `POST /api/roles/{role}/pause`, `/resume`, `/restart`, and `POST /api/sync` to all.
//!
//! `{role}` is a role as the status names it, or `cloud` for all clouds. The answer lists the roles that were meant, as they are
//! then; where one was started at an older place, also what was read or looked at again.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::Json;
use axum::routing::post;
use serde::Deserialize;

use super::trouble::Trouble;
use super::{Restarted, Roles, StartFrom};
use crate::observe::{Observer, OrderedRole, RoleStatus};

/// An order is some words.
const ORDER_BYTES_MAX: usize = 4 << 10;

#[derive(Clone)]
struct Asked {
    observer: Observer,
    roles: Arc<dyn Roles>,
}

pub fn router(observer: Observer, roles: Arc<dyn Roles>) -> Router {
    Router::new()
        .route("/api/roles/{role}/pause", post(pause))
        .route("/api/roles/{role}/resume", post(resume))
        .route("/api/roles/{role}/restart", post(restart))
        .route("/api/sync", post(sync))
        .layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
        .with_state(Asked { observer, roles })
}

type Answer = Result<Json<Vec<RoleStatus>>, Trouble>;

/// Only JSON is taken, which no page of another site can send from somebody's browser without asking us first.
type Order<T> = Result<Json<T>, JsonRejection>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {}

async fn pause(State(asked): State<Asked>, Path(role): Path<String>, order: Order<Plain>) -> Answer {
    let Json(Plain {}) = order?;
    asked.answer(asked.roles.pause(&role).await.map_err(Trouble::Order)?)
}

async fn resume(State(asked): State<Asked>, Path(role): Path<String>, order: Order<Plain>) -> Answer {
    let Json(Plain {}) = order?;
    asked.answer(asked.roles.resume(&role).await.map_err(Trouble::Order)?)
}

async fn restart(
    State(asked): State<Asked>,
    Path(role): Path<String>,
    order: Order<StartFrom>,
) -> Result<Json<Vec<OrderedRole>>, Trouble> {
    let Json(from) = order?;
    let Restarted { roles, again } = asked.roles.restart(&role, from).await.map_err(Trouble::Order)?;
    let Json(roles) = asked.answer(roles)?;
    Ok(Json(roles.into_iter().map(|role| OrderedRole { role, again: again.clone() }).collect()))
}

/// Nodes exchange changes all the time; what waits before its next attempt makes it now. The answer is all roles.
async fn sync(State(asked): State<Asked>, order: Order<Plain>) -> Result<Json<Vec<RoleStatus>>, Trouble> {
    let Json(Plain {}) = order?;
    asked.roles.hurry();
    Ok(Json(asked.observer.status().roles))
}

impl Asked {
    fn answer(&self, meant: Vec<String>) -> Answer {
        let roles = self.observer.status().roles;
        Ok(Json(roles.into_iter().filter(|role| meant.contains(&role.name)).collect()))
    }
}
