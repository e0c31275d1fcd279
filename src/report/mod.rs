//! The leak report: plain data, with its text and JSON forms.

mod baseline;
mod candidate;
mod frame;
mod json;
mod leak_report;
mod text;
mod verdict;

pub(crate) use baseline::Baseline;
pub use candidate::{AgeGroup, BaselineStatus, Evidence, EvidenceKind, LeakCandidate};
pub use frame::{Blame, Frame, Kind};
pub use leak_report::{LeakReport, MAX_CANDIDATES};
pub use verdict::Verdict;
