//! `GET /api/account`: the healthy route, over accounts that are read once at the start.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;

use crate::server::{Refusal, Service, bearer};

const ACCOUNTS: u64 = 5000;
const ORDERS_SHOWN: usize = 50;

/// All accounts.
#[derive(Debug)]
pub(crate) struct Accounts {
    orders_by_user: BTreeMap<String, u64>,
}

impl Accounts {
    pub(crate) fn open() -> Self {
        let orders_by_user =
            (0..ACCOUNTS).map(|number| (user(number), number * 7919 % 1000)).collect();
        Self { orders_by_user }
    }

    pub(crate) fn has(&self, user: &str) -> bool {
        self.orders_by_user.contains_key(user)
    }
}

/// The name of a user.
pub(crate) fn user(number: u64) -> String {
    format!("user-{number:04}@example.org")
}

#[derive(Debug, Serialize)]
pub(crate) struct Account {
    user: String,
    orders: Vec<String>,
}

pub(crate) async fn show(
    State(service): State<Service>,
    headers: HeaderMap,
) -> Result<Json<Account>, Refusal> {
    let claims = service.sessions.verify(bearer(&headers)?)?;
    let first =
        service.accounts.orders_by_user.get(&claims.subject).copied().ok_or(Refusal::NoSuchUser)?;
    let orders = (first..).take(ORDERS_SHOWN).map(|id| format!("order no. {id}")).collect();
    Ok(Json(Account { user: claims.subject, orders }))
}
