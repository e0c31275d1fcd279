//! What is said of a finding.

/// How sure the detector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "read", serde(rename_all = "lowercase"))]
pub enum Verdict {
    /// It was one, and is none: its objects died after all, or no more of them are kept.
    Retracted,
    /// It looks like a leak. A bounded structure that is still filling looks the same.
    Suspect,
    /// The evidence has exceeded its bound at several ticks, and each brought more of it.
    Confirmed,
}
