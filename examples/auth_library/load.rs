//! The load: users who stay logged in, look at their accounts, and sometimes log in again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outage::client::{Answer, Client, answer};
use outage::traffic::Traffic;

use crate::account;

/// Concurrent users; each of them refreshes twice a second.
const USERS: u64 = 50;
const REFRESH_PERIOD: Duration = Duration::from_millis(10);
const ACCOUNT_PERIOD: Duration = Duration::from_millis(20);
const LOGIN_PERIOD: Duration = Duration::from_millis(500);

/// Adds the streams of one run.
pub(crate) fn send(traffic: &mut Traffic) {
    let users: Arc<[User]> = (0..USERS).map(User::numbered).collect();
    traffic.send("POST /api/refresh", REFRESH_PERIOD, {
        let users = Arc::clone(&users);
        move |client, number| {
            let users = Arc::clone(&users);
            async move { users[(number % USERS) as usize].refresh(&client).await }
        }
    });
    // 7919 and 104729 are primes, so that the three streams do not fall into a pattern.
    traffic.send("GET /api/account", ACCOUNT_PERIOD, {
        let users = Arc::clone(&users);
        move |client, number| {
            let users = Arc::clone(&users);
            async move { users[(number * 7919 % USERS) as usize].look(&client).await }
        }
    });
    traffic.send("POST /api/login", LOGIN_PERIOD, move |client, number| {
        let users = Arc::clone(&users);
        async move { users[(number * 104_729 % USERS) as usize].log_in(&client).await }
    });
}

#[derive(Debug)]
struct User {
    name: String,
    token: Mutex<Option<String>>,
}

impl User {
    fn numbered(number: u64) -> Self {
        Self { name: account::user(number), token: Mutex::default() }
    }

    async fn log_in(&self, client: &Client) -> Answer {
        self.keep(answer(client.post("/api/login").body(self.name.clone())).await)
    }

    /// Refreshes the token; without one, logs in.
    async fn refresh(&self, client: &Client) -> Answer {
        match self.token() {
            Some(token) => self.keep(answer(client.post("/api/refresh").bearer_auth(token)).await),
            None => self.log_in(client).await,
        }
    }

    /// Looks at the account; without a token, logs in.
    async fn look(&self, client: &Client) -> Answer {
        match self.token() {
            Some(token) => answer(client.get("/api/account").bearer_auth(token)).await,
            None => self.log_in(client).await,
        }
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the token of an answer; a refusal clears it.
    fn keep(&self, answer: Answer) -> Answer {
        let token = match &answer {
            Ok((status, body)) if status.is_success() => {
                Some(String::from_utf8_lossy(body).into_owned())
            }
            Ok(_) | Err(_) => None,
        };
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        answer
    }
}
