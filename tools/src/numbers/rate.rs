//! Growth per hour, as it is given on the command line: `10MiB/h`.

use std::fmt;
use std::str::FromStr;

use crate::numbers::metric::Metric;
use crate::numbers::units;

/// A rate of growth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Bytes, or objects, per hour.
    pub per_hour: f64,
    /// Whether a unit of bytes was named; such a rate cannot be one of objects.
    in_bytes: bool,
}

impl Rate {
    /// Whether growth of this quantity can be compared with the rate.
    pub fn fits(self, metric: Metric) -> bool {
        metric.is_bytes() || !self.in_bytes
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a rate like 10MiB/h: a number, B, KiB, MiB, GiB or nothing \
                                (bytes, or objects of a count), and /s, /min, /h or /d";
        let (amount, time) = text.split_once('/').ok_or(EXPECTED)?;
        let number = units::parse_bytes(amount).ok_or(EXPECTED)?;
        let times_an_hour = match time.trim() {
            "s" => 3600.0,
            "min" => 60.0,
            "h" => 1.0,
            "d" => 1.0 / 24.0,
            _ => return Err(EXPECTED.into()),
        };
        let per_hour = number * times_an_hour;
        if !per_hour.is_finite() {
            return Err(EXPECTED.into());
        }
        Ok(Self { per_hour, in_bytes: amount.ends_with(|c: char| c.is_ascii_alphabetic()) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/h", units::amount(self.per_hour, self.in_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_a_unit_and_a_time() {
        let per_hour = |text: &str| text.parse::<Rate>().map(|rate| rate.per_hour);
        assert_eq!(per_hour("10MiB/h"), Ok(10.0 * 1024.0 * 1024.0));
        assert_eq!(per_hour("1.5 KiB/min"), Ok(1.5 * 1024.0 * 60.0));
        assert_eq!(per_hour("24/d"), Ok(1.0));
        assert_eq!(per_hour("1e3B/s"), Ok(3.6e6));
        for bad in
            ["", "10MiB", "MiB/h", "10MiB/y", "10XB/h", "-1/h", "inf/h", "NaN/h", "1e308GiB/s"]
        {
            assert!(per_hour(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_of_bytes_does_not_fit_a_count_of_objects() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        assert!(!rate("1B/h").fits(Metric::LiveCount));
        assert!(rate("1/h").fits(Metric::LiveCount) && rate("1/h").fits(Metric::LiveBytes));
    }
}
