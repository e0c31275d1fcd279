//! `POST /api/login` and `POST /api/refresh`, which leave the tokens to the library.

use axum::extract::State;
use axum::http::HeaderMap;

use crate::server::{Refusal, Service, bearer};

const SCOPES: [&str; 4] = ["account:read", "account:write", "orders:read", "orders:write"];

/// Issues the first token for the user named in the body.
pub(crate) async fn login(State(service): State<Service>, user: String) -> Result<String, Refusal> {
    if !service.accounts.has(&user) {
        return Err(Refusal::NoSuchUser);
    }
    Ok(service.sessions.issue(&user, &SCOPES))
}

/// Returns the successor of the token in the header.
pub(crate) async fn refresh(
    State(service): State<Service>,
    headers: HeaderMap,
) -> Result<String, Refusal> {
    Ok(service.sessions.refresh(bearer(&headers)?)?)
}
