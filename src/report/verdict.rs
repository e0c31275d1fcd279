//! The verdict on a leak candidate.

/// How sure the detector is that a candidate is a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "read", serde(rename_all = "lowercase"))]
pub enum Verdict {
    /// It was suspected or confirmed, but is not a leak: its objects died after all, or no more of
    /// them accumulate.
    Retracted,
    /// It looks like a leak, but a bounded structure that is still filling up looks the same.
    Suspect,
    /// The evidence has exceeded the threshold at three ticks, each of which brought more leaked
    /// objects.
    Confirmed,
}
