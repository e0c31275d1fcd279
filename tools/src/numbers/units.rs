//! Numbers as text: bytes in binary units, counts with separators, estimates with their ±.

use heapdrift::Estimate;

/// A number of bytes like `12.3 MiB`, or of objects like `1,024`.
pub fn amount(value: f64, bytes: bool) -> String {
    if bytes { self::bytes(value) } else { count(value) }
}

/// An estimate in its unit: `12.3 MiB ± 512.0 KiB`, `1,024 ± 3`.
pub fn estimate(estimate: Estimate, bytes: bool) -> String {
    format!("{} ± {}", amount(estimate.value, bytes), amount(estimate.std_error, bytes))
}

/// Bytes in the largest binary unit that gives at least 1: `12.3 MiB`. Whole numbers below 1 KiB.
pub fn bytes(value: f64) -> String {
    let (scale, unit) = heapdrift::units::binary_unit(value, 1);
    let digits = if scale > 1.0 { 1 } else { 0 };
    format!("{:.digits$} {unit}", value / scale)
}

/// Parses bytes as they are given on the command line: `2GiB`, `1.5 MiB`, `4096`.
pub fn parse_bytes(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.trim().parse().ok()?;
    let unit = match unit {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => f64::from(1 << 20),
        "GiB" => f64::from(1 << 30),
        _ => return None,
    };
    let bytes = number * unit;
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes)
}

/// A rounded number with `,` between thousands.
pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if value < 0.0 && digits != "0" {
        text.push('-');
    }
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of a whole like `12.3%`; empty if the whole is 0.
pub fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 { format!("{:.1}%", 100.0 * part / whole) } else { String::new() }
}

/// Milliseconds as `2 h 05 min`, `3 min 12 s`, `12.3 s`.
pub fn duration_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{:.1} s", ms as f64 / 1000.0),
        (0, 0, _) => format!("{minutes} min {:02} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes:02} min"),
        _ => format!("{days} d {hours:02} h"),
    }
}

/// A time in UTC, because a dump may come from another time zone: `2026-01-31 12:00:00 UTC`.
pub fn unix_ms(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{ms} ms since 1970"), |t| t.strftime("%F %T UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_largest_unit_that_fits() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes((1 << 20) as f64 - 1.0), "1.0 MiB");
        assert_eq!(bytes(f64::MAX).split_whitespace().last(), Some("EiB"));
    }

    #[test]
    fn bytes_are_read_with_their_unit() {
        assert_eq!(parse_bytes("4096"), Some(4096.0));
        assert_eq!(parse_bytes("1.5 MiB"), Some(1.5 * 1024.0 * 1024.0));
        for bad in ["", "MiB", "1XB", "-1KiB", "inf", "NaN"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0.4), "0");
        assert_eq!(count(-0.4), "0");
        assert_eq!(count(999.6), "1,000");
        assert_eq!(count(-1_234_567.0), "-1,234,567");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(duration_ms(12_345), "12.3 s");
        assert_eq!(duration_ms(192_000), "3 min 12 s");
        assert_eq!(duration_ms(7_500_000), "2 h 05 min");
        assert_eq!(duration_ms(90_000_000), "1 d 01 h");
    }

    #[test]
    fn absurd_times_do_not_panic() {
        assert_eq!(unix_ms(0), "1970-01-01 00:00:00 UTC");
        assert!(unix_ms(u64::MAX).contains("ms since 1970"));
    }
}
