//! The environment variable `HEAPDRIFT`.
//!
//! One table, [`KEYS`], holds the name, the short form, the values and the effect of each key. A
//! test compares the documentation of [`Profiler::from_env`](super::Profiler::from_env) with it.

use std::ffi::OsStr;
use std::time::Duration;

use super::Builder;
use crate::error::StartError;
use crate::signals;

/// The name of the variable.
pub(super) const VARIABLE: &str = "HEAPDRIFT";

/// A key of the variable.
struct Key {
    /// The name of the builder method that it stands for.
    name: &'static str,
    /// The short form, if there is one.
    short: Option<&'static str>,
    /// Which values are accepted, in words.
    values: &'static str,
    /// Applies a value; `None` if it is not one of `values`.
    set: fn(Builder, &str) -> Option<Builder>,
}

/// All keys, in the order of the documentation.
const KEYS: [Key; 11] = [
    Key {
        name: "sample_interval_bytes",
        short: Some("interval"),
        values: BYTES,
        set: |builder, value| Some(builder.sample_interval_bytes(bytes(value)?)),
    },
    Key {
        name: "seed",
        short: None,
        values: "a whole number",
        set: |builder, value| Some(builder.seed(value.parse().ok()?)),
    },
    Key {
        name: "max_profiler_bytes",
        short: None,
        values: BYTES,
        set: |builder, value| Some(builder.max_profiler_bytes(bytes(value)?)),
    },
    Key {
        name: "max_stack_depth",
        short: None,
        values: "a number of frames",
        set: |builder, value| Some(builder.max_stack_depth(value.parse().ok()?)),
    },
    Key {
        name: "diff_every",
        short: Some("diff"),
        values: DURATION,
        set: |builder, value| Some(builder.diff_every(duration(value)?)),
    },
    Key {
        name: "dump_every",
        short: None,
        values: DURATION,
        set: |builder, value| Some(builder.dump_every(duration(value)?)),
    },
    Key {
        name: "dump_dir",
        short: None,
        values: "a folder",
        set: |builder, value| Some(builder.dump_dir(non_empty(value)?)),
    },
    Key {
        name: "dump_keep",
        short: Some("keep"),
        values: "a number of files",
        set: |builder, value| Some(builder.dump_keep(value.parse().ok()?)),
    },
    Key {
        name: "dump_on_signal",
        short: Some("signal"),
        values: "SIGUSR1, SIGUSR2, SIGHUP or the number of a signal",
        set: |builder, value| Some(builder.dump_on_signal(signals::number(value)?)),
    },
    Key {
        name: "baseline",
        short: None,
        values: "a dump",
        set: |builder, value| Some(builder.baseline(non_empty(value)?)),
    },
    Key {
        name: "own_crates",
        short: None,
        values: "names of crates, separated by colons",
        set: |builder, value| Some(builder.own_crates(non_empty(value)?.split(':'))),
    },
];

const BYTES: &str = "a number of bytes like 65536, 64KiB or 1MiB";
const DURATION: &str = "a time like 500ms, 30s, 5m or 1h, or 0";

/// The settings that a value of the variable asks for.
pub(super) fn parse(value: &OsStr) -> Result<Builder, StartError> {
    let text = value
        .to_str()
        .ok_or_else(|| StartError::bad_value(VARIABLE, value.to_string_lossy(), "text in UTF-8"))?;
    // For each key, the name that it was given by.
    let mut given: [Option<&'static str>; KEYS.len()] = [None; KEYS.len()];
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).try_fold(
        Builder::default(),
        |builder, pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (name.trim(), value.trim());
            let (index, name) = find(name).ok_or_else(|| unknown(name))?;
            if let Some(first) = given[index].replace(name) {
                return Err(StartError::RepeatedKey { first, second: name });
            }
            let key = &KEYS[index];
            (key.set)(builder, value).ok_or_else(|| StartError::bad_value(name, value, key.values))
        },
    )
}

/// The index of a key in [`KEYS`], by its name or its short form; and that name.
fn find(name: &str) -> Option<(usize, &'static str)> {
    names().find(|(_, known)| *known == name)
}

/// All names and short forms, each with the index of its key.
fn names() -> impl Iterator<Item = (usize, &'static str)> {
    KEYS.iter().enumerate().flat_map(|(index, key)| {
        [Some(key.name), key.short].into_iter().flatten().map(move |name| (index, name))
    })
}

fn unknown(name: &str) -> StartError {
    let with_short_form = |key: &Key| match key.short {
        Some(short) => format!("{} ({short})", key.name),
        None => key.name.to_owned(),
    };
    StartError::UnknownKey {
        key: name.to_owned(),
        nearest: nearest(name),
        expected: KEYS.iter().map(with_short_form).collect::<Vec<_>>().join(", "),
    }
}

/// The known name that is spelled most like `name`, if at most half of the letters differ.
fn nearest(name: &str) -> Option<&'static str> {
    names()
        .map(|(_, known)| (edit_distance(name, known), known))
        .filter(|(distance, known)| 2 * distance <= name.chars().count().max(known.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance: how many letters must be inserted, removed or replaced.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // The distances of the letters of `a` so far from each beginning of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn non_empty(value: &str) -> Option<&str> {
    Some(value).filter(|value| !value.is_empty())
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

    fn settings(line: &str) -> String {
        format!("{:?}", parse(OsStr::new(line)).unwrap())
    }

    fn refusal(line: &str) -> String {
        parse(OsStr::new(line)).unwrap_err().to_string()
    }

    #[test]
    fn the_documented_line_is_accepted() {
        let settings =
            settings("interval=64KiB,diff=30s,dump_dir=/var/tmp/heap,keep=20,signal=SIGUSR2");
        let signal = format!("dump_on_signal: {:?}", signals::number("USR2"));
        for part in [
            "sample_interval_bytes: 65536",
            "diff_every: 30s",
            "/var/tmp/heap",
            "dump_keep: 20",
            &signal,
        ] {
            assert!(settings.contains(part), "{part} is missing in {settings}");
        }
    }

    /// A value that is not the default, for each key, and how the setting looks then.
    const EXAMPLES: [(&str, &str, &str); KEYS.len()] = [
        ("sample_interval_bytes", "1MiB", "sample_interval_bytes: 1048576"),
        ("seed", "9", "seed: Some(9)"),
        ("max_profiler_bytes", "2MiB", "max_profiler_bytes: 2097152"),
        ("max_stack_depth", "40", "max_stack_depth: 40"),
        ("diff_every", "5m", "diff_every: 300s"),
        ("dump_every", "0", "dump_every: 0ns"),
        ("dump_dir", "/d", r#"dump_dir: Some("/d")"#),
        ("dump_keep", "3", "dump_keep: 3"),
        ("dump_on_signal", "12", "dump_on_signal: Some(12)"),
        ("baseline", "/b", r#"baseline: Some("/b")"#),
        ("own_crates", "shop:shop-api", r#"own_crates: ["shop", "shop-api"]"#),
    ];

    #[test]
    fn a_key_sets_the_builder_setting_of_its_name_and_so_does_its_short_form() {
        for (key, (name, value, expected)) in KEYS.iter().zip(EXAMPLES) {
            assert_eq!(key.name, name);
            for name in [Some(key.name), key.short].into_iter().flatten() {
                let settings = settings(&format!("{name}={value}"));
                assert!(settings.contains(expected), "{expected} is missing in {settings}");
            }
        }
        let all: Vec<String> =
            EXAMPLES.iter().map(|(name, value, _)| format!("{name} = {value}")).collect();
        let settings = settings(&all.join(" , "));
        assert!(EXAMPLES.iter().all(|(.., expected)| settings.contains(expected)), "{settings}");
    }

    #[test]
    fn the_documentation_lists_exactly_the_keys_of_the_table() {
        let lines = || include_str!("mod.rs").lines().map(str::trim);
        let rows = KEYS.iter().map(|Key { name, short, values, .. }| {
            let short = short.map_or(String::new(), |short| format!("`{short}` "));
            format!("/// | [`{name}`] | {short}| {values} |")
        });
        let documented = lines().filter(|line| line.starts_with("/// | [`"));
        assert_eq!(documented.collect::<Vec<_>>(), rows.collect::<Vec<_>>());
        let links = KEYS.iter().map(|Key { name, .. }| format!("/// [`{name}`]: Builder::{name}"));
        let documented = lines().filter(|line| line.contains("`]: Builder::"));
        assert_eq!(documented.collect::<Vec<_>>(), links.collect::<Vec<_>>());
    }

    #[test]
    fn a_setting_that_is_given_twice_is_an_error_that_has_both_names() {
        assert!(refusal("seed=1,seed=2").contains(r#"found "seed" twice"#));
        for line in ["diff=1s,diff_every=1s", "keep=1,seed=2,dump_keep=1"] {
            let refusal = refusal(line);
            let mut names = line.split(',').map(|pair| pair.split_once('=').unwrap().0);
            let (first, last) = (names.next().unwrap(), names.next_back().unwrap());
            let both = format!("found {first:?} and {last:?}");
            assert!(refusal.contains(&both), "{line}: {refusal}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_all_keys_and_the_nearest_one() {
        for (name, nearest) in [
            ("intervall", Some("interval")),
            ("sample_interval", Some("sample_interval_bytes")),
            ("max_bytes", Some("max_profiler_bytes")),
            ("max_depth", Some("max_stack_depth")),
            ("dumpdir", Some("dump_dir")),
            ("Keep", Some("keep")),
            ("colour", None),
            ("", None),
        ] {
            let error = parse(OsStr::new(&format!("{name}=1"))).unwrap_err();
            let message = error.to_string();
            let StartError::UnknownKey { key, nearest: found, .. } = error else {
                panic!("{name}: {message}");
            };
            assert_eq!((key.as_str(), found), (name, nearest), "{message}");
            assert!(message.contains(&format!("unknown key {name:?} in HEAPDRIFT")), "{message}");
            assert!(names().all(|(_, known)| message.contains(known)), "{message}");
            let suggested = nearest.is_none_or(|n| message.contains(&format!("mean {n:?}?")));
            assert!(suggested, "{message}");
        }
    }

    #[test]
    fn errors_name_the_key_as_it_was_written_and_the_value() {
        for (line, expected) in [
            ("interval=12XB", r#"for interval, found "12XB""#),
            ("sample_interval_bytes=12XB", r#"for sample_interval_bytes, found "12XB""#),
            ("interval=", "for interval"),
            ("interval=99999999999999999999KiB", "for interval"),
            ("diff=30", r#"for diff, found "30""#),
            ("dump_every=5 weeks", r#"for dump_every, found "5 weeks""#),
            ("keep=-1", r#"for keep, found "-1""#),
            ("signal=SIGFOO", r#"for signal, found "SIGFOO""#),
            ("dump_dir=", "a folder"),
            ("baseline", "a dump"),
        ] {
            let refusal = refusal(line);
            assert!(refusal.contains(expected), "{line}: {refusal}");
        }
    }
}
