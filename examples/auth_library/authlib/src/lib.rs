//! Session tokens: signed with HMAC-SHA256, short-lived, and refreshed by their holder.
//!
//! A token is refreshed once. If it is presented again, it gets the same successor, since the first
//! answer may have been lost. The time of each presentation is kept, since the token may be stolen.

mod refreshed;
mod token;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use token::{Claims, TokenError};

use refreshed::Refreshed;
use token::Signer;

/// Issues, checks and refreshes the tokens of one service.
#[derive(Debug)]
pub struct Sessions {
    signer: Signer,
    lifetime: Duration,
    bounded: bool,
}

impl Sessions {
    /// Sessions whose tokens are valid for `lifetime`.
    pub fn new(key: &[u8], lifetime: Duration) -> Self {
        Self { signer: Signer::new(key), lifetime, bounded: false }
    }

    /// Like [`new`](Self::new), but forgets a refreshed token when it expires.
    pub fn bounded(key: &[u8], lifetime: Duration) -> Self {
        Self { bounded: true, ..Self::new(key, lifetime) }
    }

    /// The first token of a session.
    pub fn issue(&self, subject: &str, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self.sign(subject.to_owned(), scopes, now())
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// [`TokenError`], if the token was not issued with this key, or has expired.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.signer.verify(token, now())
    }

    /// Returns the successor of `token`, whose lifetime begins now.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn refresh(&self, token: &str) -> Result<String, TokenError> {
        let now = now();
        let claims = self.signer.verify(token, now)?;
        let mut refreshed = refreshed::all();
        if self.bounded {
            refreshed.forget_expired(now);
        }
        if let Some(before) = refreshed.get_mut(claims.id) {
            before.presented.push(now);
            return Ok(before.successor.clone());
        }
        let mut presented = Vec::with_capacity(refreshed::TIMES_KEPT);
        presented.push(now);
        let successor = self.sign(claims.subject, claims.scopes, now);
        let expires = claims.expires;
        refreshed.insert(claims.id, Refreshed { successor: successor.clone(), presented, expires });
        Ok(successor)
    }

    fn sign(&self, subject: String, scopes: Vec<String>, now: Duration) -> String {
        let (id, expires) = (rand::random(), now + self.lifetime);
        self.signer.sign(&Claims { id, subject, scopes, expires })
    }
}

/// The time since the Unix epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
