//! How an estimate is written as JSON.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::Estimate;

impl Serialize for Estimate {
    /// `{"value": …, "std_error": …}`, both rounded to a thousandth: digits below that would be
    /// noise, and take a third of a dump.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Estimate", 2)?;
        object.serialize_field("value", &Thousandths(self.value))?;
        object.serialize_field("std_error", &Thousandths(self.std_error))?;
        object.end()
    }
}

/// Serialized with three decimals at most, and as an integer where it is one.
struct Thousandths(f64);

impl Serialize for Thousandths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Above this a double has no thousandths left.
        const EXACT: f64 = (1_u64 << 43) as f64;
        let rounded =
            if self.0.abs() < EXACT { (self.0 * 1000.0).round() / 1000.0 } else { self.0 };
        if rounded.fract() == 0.0 && rounded.abs() < 9e15 {
            serializer.serialize_i64(rounded as i64)
        } else {
            serializer.serialize_f64(rounded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_three_decimals_and_reads_back() {
        let json = serde_json::to_string(&Estimate::new(1_234.567_891, 0.0)).unwrap();
        assert_eq!(json, r#"{"value":1234.568,"std_error":0}"#);
        let back: Estimate = serde_json::from_str(&json).unwrap();
        assert_eq!(back, Estimate::new(1234.568, 0.0));
    }
}
