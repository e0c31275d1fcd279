//! One token: `claims.signature`, both in base64url.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What a token states about its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Unique for each token.
    pub id: u64,
    /// The user.
    pub subject: String,
    /// What the user may do.
    pub scopes: Vec<String>,
    /// When the token expires, since the Unix epoch.
    pub expires: Duration,
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is not two parts of base64url, or the first part has no claims.
    Malformed,
    /// It is not signed with our key.
    Forged,
    /// It is not valid any more.
    Expired,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "expected a token of the form claims.signature in base64url",
            Self::Forged => "the token is not signed with the key of this service",
            Self::Expired => "the token has expired",
        })
    }
}

impl std::error::Error for TokenError {}

/// Signs claims, and verifies the tokens that it has signed.
pub(crate) struct Signer(Hmac<Sha256>);

impl Signer {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).expect("claims are plain data");
        let mut token = URL_SAFE_NO_PAD.encode(claims);
        let signature = self.0.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    pub(crate) fn verify(&self, token: &str, now: Duration) -> Result<Claims, TokenError> {
        let (claims, signature) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        let signed = self.0.clone().chain_update(claims);
        signed.verify_slice(&signature).map_err(|_| TokenError::Forged)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Malformed)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed)?;
        if claims.expires <= now { Err(TokenError::Expired) } else { Ok(claims) }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}
