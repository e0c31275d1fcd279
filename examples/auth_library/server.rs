//! The service: its routes, and the library that all of them use.

use std::sync::Arc;
use std::time::Duration;

use authlib::{Sessions, TokenError};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::account::{self, Accounts};
use crate::login;

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) accounts: Arc<Accounts>,
}

impl Service {
    pub(crate) fn new(token_lifetime: Duration, fixed: bool) -> Self {
        let key: [u8; 32] = rand::random();
        let sessions = if fixed {
            Sessions::bounded(&key, token_lifetime)
        } else {
            Sessions::new(&key, token_lifetime)
        };
        Self { sessions: Arc::new(sessions), accounts: Arc::new(Accounts::open()) }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/api/login", post(login::login))
            .route("/api/refresh", post(login::refresh))
            .route("/api/account", get(account::show))
            .with_state(self)
    }
}

/// The token of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or(Refusal::NoToken)
}

/// Why a request was refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    NoToken,
    BadToken(TokenError),
    NoSuchUser,
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        Self::BadToken(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let why = match self {
            Self::NoToken => "expected the header authorization: Bearer TOKEN".to_owned(),
            Self::BadToken(error) => error.to_string(),
            Self::NoSuchUser => "there is no such user".to_owned(),
        };
        (StatusCode::UNAUTHORIZED, why).into_response()
    }
}
