//! How sure the detector is of a finding.

/// How sure the detector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "analysis", serde(rename_all = "lowercase"))]
pub enum Verdict {
    /// It was suspected or confirmed, and is not a leak: its objects died after all, or no more of
    /// them accumulate.
    Retracted,
    /// It looks like a leak. A bounded structure that is still filling up looks the same.
    Suspect,
    /// The evidence has exceeded the threshold at several ticks, and each of them brought more
    /// leaked objects.
    Confirmed,
}
