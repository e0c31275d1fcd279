//! Serializes estimates.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::Estimate;

impl Serialize for Estimate {
    /// Writes `{"value": …, "std_error": …}`, both rounded to thousandths. Further digits would be
    /// noise and take up a third of a dump.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Estimate", 2)?;
        object.serialize_field("value", &Thousandths(self.value))?;
        object.serialize_field("std_error", &Thousandths(self.std_error))?;
        object.end()
    }
}

/// A number that is serialized with at most three decimals, and as an integer if it is one.
struct Thousandths(f64);

impl Serialize for Thousandths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Above this limit an `f64` cannot represent thousandths.
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
