//! Byte counts in binary units, for reports and for the tools.

/// Returns the unit in which to print `bytes`, as the number of bytes in one unit and its symbol
/// (`B`, `KiB`, …, `EiB`).
///
/// It is the largest unit in which the value is at least 1. `digits` is the number of decimals that
/// will be printed: a value that rounding would turn into 1024 takes the next unit.
pub fn binary_unit(bytes: f64, digits: i32) -> (f64, &'static str) {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut scale, mut unit) = (1.0, 0);
    loop {
        // Bytes are printed without decimals.
        let digits = if unit == 0 { 0 } else { digits };
        let limit = 1024.0 - 0.5 * 10.0_f64.powi(-digits);
        if unit + 1 == UNITS.len() || (bytes / scale).abs() < limit {
            return (scale, UNITS[unit]);
        }
        scale *= 1024.0;
        unit += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_would_be_printed_as_1024_takes_the_next_unit() {
        assert_eq!(binary_unit(1023.0, 1), (1.0, "B"));
        assert_eq!(binary_unit(1023.6, 1), (1024.0, "KiB"));
        assert_eq!(binary_unit(1023.94 * 1024.0, 1).1, "KiB");
        assert_eq!(binary_unit(1023.96 * 1024.0, 1).1, "MiB");
        assert_eq!(binary_unit(1023.4 * 1024.0, 0).1, "KiB");
        assert_eq!(binary_unit(1023.6 * 1024.0, 0).1, "MiB");
        assert_eq!(binary_unit(-f64::MAX, 1).1, "EiB");
    }
}
