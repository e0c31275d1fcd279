//! The environment variable `HEAPDRIFT`.

use std::ffi::OsStr;
use std::time::Duration;

use super::{Builder, StartError, signals};

/// The name of the variable.
pub(super) const VARIABLE: &str = "HEAPDRIFT";

/// Its keys, in the order of the documentation.
pub(super) const KEYS: [&str; 9] = [
    "interval",
    "seed",
    "max_bytes",
    "max_depth",
    "diff",
    "dump_dir",
    "keep",
    "baseline",
    "signal",
];

/// The settings that a value of the variable asks for.
pub(super) fn parse(value: &OsStr) -> Result<Builder, StartError> {
    let text = value
        .to_str()
        .ok_or_else(|| StartError::bad_value(VARIABLE, value.to_string_lossy(), "text in UTF-8"))?;
    let mut seen = Vec::new();
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).try_fold(
        Builder::default(),
        |builder, pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = *KEYS
                .iter()
                .find(|known| **known == key.trim())
                .ok_or_else(|| StartError::UnknownKey(key.trim().to_owned()))?;
            if seen.contains(&key) {
                return Err(StartError::bad_value(key, value, "each key only once"));
            }
            seen.push(key);
            set(builder, key, value.trim())
        },
    )
}

fn set(builder: Builder, key: &'static str, value: &str) -> Result<Builder, StartError> {
    let bad = |expected: &str| StartError::bad_value(key, value, expected);
    let bytes = || bytes(value).ok_or_else(|| bad("a number of bytes like 65536 or 64KiB"));
    let number = || value.parse::<u64>().map_err(|_| bad("a whole number"));
    let files = || value.parse::<usize>().map_err(|_| bad("a whole number"));
    Ok(match key {
        "interval" => builder.sample_interval_bytes(bytes()?),
        "seed" => builder.seed(number()?),
        "max_bytes" => builder.max_profiler_bytes(bytes()?),
        "max_depth" => builder.max_stack_depth(files()?),
        "diff" => {
            builder.diff_every(duration(value).ok_or_else(|| bad("a time like 500ms, 30s or 5m"))?)
        }
        "dump_dir" if value.is_empty() => return Err(bad("a folder")),
        "dump_dir" => builder.dump_dir(value),
        "keep" => builder.dump_keep(files()?),
        "baseline" if value.is_empty() => return Err(bad("a dump")),
        "baseline" => builder.baseline(value),
        "signal" => builder.dump_on_signal(
            signals::number(value)
                .ok_or_else(|| bad("SIGUSR1, SIGUSR2, SIGHUP or a signal's number"))?,
        ),
        _ => return Err(StartError::UnknownKey(key.to_owned())),
    })
}

/// Splits `64KiB` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let scale = match unit {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(scale)
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" | "min" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        "" if number == 0 => Some(Duration::ZERO),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_line_is_accepted() {
        let line = "interval=64KiB,diff=30s,dump_dir=/var/tmp/heap,keep=20,signal=SIGUSR2";
        let builder = format!("{:?}", parse(OsStr::new(line)).unwrap());
        for part in ["interval_bytes: 65536", "diff_every: 30s", "/var/tmp/heap", "dump_keep: 20"] {
            assert!(builder.contains(part), "{part} is missing in {builder}");
        }
    }

    #[test]
    fn errors_name_the_key_and_the_value() {
        for (line, expected) in [
            ("intervall=1", r#"unknown key "intervall""#),
            ("interval=12XB", r#"for interval, found "12XB""#),
            ("interval=", "for interval"),
            ("interval=99999999999999999999KiB", "for interval"),
            ("diff=30", r#"for diff, found "30""#),
            ("keep=-1", r#"for keep, found "-1""#),
            ("signal=SIGFOO", r#"for signal, found "SIGFOO""#),
            ("seed=1,seed=2", "each key only once"),
            ("dump_dir=", "a folder"),
        ] {
            let message = parse(OsStr::new(line)).unwrap_err().to_string();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
