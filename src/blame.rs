//! Stub, replaced by the branch of names.
use serde::{Deserialize, Serialize};

/// Whose code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Kind {
    Own,
    Dependency,
    Std,
    C,
    #[default]
    Unknown,
}

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Frame {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    #[serde(rename = "crate")]
    pub crate_name: Option<String>,
    pub own: bool,
    #[serde(default)]
    pub module: String,
    #[serde(default)]
    pub address: u64,
}

/// Blame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)]
pub struct Blame {
    #[serde(rename = "crate")]
    pub crate_name: Option<String>,
    pub version: Option<String>,
    pub kind: Kind,
    pub own_frame: Option<Frame>,
}
