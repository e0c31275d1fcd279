//! The load: users who stay logged in, look at their accounts, and sometimes log in again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use reqwest::StatusCode;

use crate::account::{self, USERS};
use crate::outage::traffic::{Answer, Client, Traffic, answer};

/// All users refresh once in two seconds.
const REFRESH_PERIOD: Duration = Duration::from_millis(10);
const ACCOUNT_PERIOD: Duration = Duration::from_millis(20);
const LOGIN_PERIOD: Duration = Duration::from_millis(500);

/// The token that each user has.
#[derive(Clone, Debug)]
struct Tokens(Arc<Mutex<Vec<Option<String>>>>);

impl Tokens {
    fn all(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, user: u64) -> Option<String> {
        self.all()[user as usize].clone()
    }

    fn keep(&self, user: u64, (status, body): &(StatusCode, Bytes)) {
        let token = status.is_success().then(|| String::from_utf8_lossy(body).into_owned());
        self.all()[user as usize] = token;
    }
}

/// Adds the streams of one run.
pub(crate) fn send(traffic: &mut Traffic) {
    let tokens = Tokens(Arc::new(Mutex::new(vec![None; USERS as usize])));
    traffic.send("POST /api/refresh", REFRESH_PERIOD, {
        let tokens = tokens.clone();
        move |client, number| {
            let tokens = tokens.clone();
            async move {
                let user = number % USERS;
                let answer = match tokens.of(user) {
                    Some(token) => answer(client.post("/api/refresh").bearer_auth(token)).await?,
                    None => login(&client, user).await?,
                };
                tokens.keep(user, &answer);
                Ok(answer)
            }
        }
    });
    traffic.send("GET /api/account", ACCOUNT_PERIOD, {
        let tokens = tokens.clone();
        move |client, number| {
            // A user who is not logged in is refused.
            let token = tokens.of(number * 7919 % USERS).unwrap_or_default();
            async move { answer(client.get("/api/account").bearer_auth(token)).await }
        }
    });
    traffic.send("POST /api/login", LOGIN_PERIOD, move |client, number| {
        let tokens = tokens.clone();
        async move {
            let user = number * 104_729 % USERS;
            let answer = login(&client, user).await?;
            tokens.keep(user, &answer);
            Ok(answer)
        }
    });
}

async fn login(client: &Client, user: u64) -> Answer {
    answer(client.post("/api/login").body(account::user(user))).await
}
