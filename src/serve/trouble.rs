//! What goes wrong with a request to the node, as its answer says it.

use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

use super::access::Refusal;
use crate::runtime::Stop;

/// What goes wrong with one request.
pub enum Trouble {
    NoSuch(&'static str),
    Refused(Refusal),
    NotUnderstood(String),
    /// Longer than any such order is.
    TooLarge,
    Stop(Stop),
    /// An order that is refused as the node is now.
    Order(Stop),
}

impl From<JsonRejection> for Trouble {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ => Self::NotUnderstood(rejection.body_text()),
        }
    }
}

impl From<Stop> for Trouble {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

#[derive(Serialize)]
struct TroubleBody {
    error: String,
    hint: Option<String>,
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let (status, error, hint) = match self {
            Self::NoSuch(what) => (StatusCode::NOT_FOUND, format!("there is no such {what}"), None),
            Self::Refused(Refusal::WrongName) => {
                let error = "this name is not served without a key".to_owned();
                (StatusCode::FORBIDDEN, error, Some("use 127.0.0.1, or set a key under [web]".to_owned()))
            }
            Self::Refused(Refusal::NoKey) => (StatusCode::UNAUTHORIZED, "a key is needed".into(), None),
            Self::Refused(Refusal::TooMany) => {
                let hint = "wait a minute, and use the key that [web] of this node names".to_owned();
                (StatusCode::TOO_MANY_REQUESTS, "too many keys were wrong".into(), Some(hint))
            }
            Self::Refused(Refusal::WrongKey) => (StatusCode::UNAUTHORIZED, "this is not the key".into(), None),
            Self::NotUnderstood(what) => {
                (StatusCode::BAD_REQUEST, what, Some("send JSON, as content type application/json".into()))
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "this is too large for an order".into(), None),
            Self::Stop(stop) => (StatusCode::SERVICE_UNAVAILABLE, stop.message, stop.hint),
            Self::Order(stop) => (StatusCode::CONFLICT, stop.message, stop.hint),
        };
        let mut response = (status, Json(TroubleBody { error, hint })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Bearer realm=\"tandem\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
        }
        response
    }
}
