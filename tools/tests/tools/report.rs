//! The page has the numbers of the other commands, and names stay text. `.ci/page` checks how it
//! looks and works in a browser.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use heapdrift::Snapshot;
use heapdrift::snapshot::{Function, Symbols};
use serde_json::Value;

use crate::leaks::{LAST, at_tick, refused, series, with_report, write};
use crate::names::recursive;
use crate::recorded::{Ran, Recording, heapdrift, output_of};

const METRICS: [(&str, &str); 5] = [
    ("live-bytes", "live_bytes"),
    ("live-count", "live_count"),
    ("peak-bytes", "peak_bytes"),
    ("alloc-bytes", "alloc_bytes"),
    ("alloc-count", "alloc_count"),
];

fn report(dumps: &[impl AsRef<str>]) -> Ran {
    heapdrift(["report", "-o", "-"].into_iter().chain(dumps.iter().map(AsRef::as_ref)))
}

fn page(dumps: &[impl AsRef<str>]) -> String {
    let ran = report(dumps);
    assert_eq!(ran.status, 0, "{}", ran.err);
    ran.out
}

/// The numbers of a page.
fn document(page: &str) -> Value {
    let (_, data) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(data.split("</script>").next().unwrap()).unwrap()
}

fn numbers(column: &Value) -> Vec<f64> {
    column.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn indices(column: &Value) -> Vec<usize> {
    numbers(column).into_iter().map(|number| number as usize).collect()
}

/// The functions of each stack, innermost first, as the scripts of the page read them.
fn stacks(document: &Value) -> Vec<Vec<String>> {
    let nodes = &document["nodes"];
    let frames = indices(&nodes["frame"]);
    let mut parents: Vec<Option<usize>> = Vec::new();
    for (branch, length) in numbers(&nodes["branch"]).into_iter().zip(indices(&nodes["length"])) {
        let first = (branch >= 0.0).then_some(branch as usize);
        let start = parents.len();
        parents.push(first);
        parents.extend((start..start + length - 1).map(Some));
    }
    assert_eq!(parents.len(), frames.len());
    let functions = indices(&document["frames"]["function"]);
    let name = |node: usize| match functions.get(frames[node]) {
        Some(&text) => document["texts"][text].as_str().unwrap().to_owned(),
        None => "[truncated]".to_owned(),
    };
    let path =
        |leaf: usize| std::iter::successors(Some(leaf), |&node| parents[node]).map(name).collect();
    indices(&document["stacks"]["node"]).into_iter().map(path).collect()
}

/// A dump with the names that an attacker could choose.
fn hostile(folder: &Path) -> String {
    let mut recording = Recording::new();
    recording.add(&[1, 2], &[("route", "</script><script>alert(2)</script>")], 5e6, 1000.0);
    recording.add(&[3, 2], &[], 1e6, 2000.0);
    recording.snapshot.stacks[1].truncated = true;
    recording.snapshot.process.executable = "/srv/<b>&\u{202e}app".into();
    let names = ["</script><script>alert(1)</script>", "<!--", "\u{2028}{{data}}", "main"];
    let mut symbols = Symbols::default();
    symbols.count = vec![1; recording.snapshot.frames.address.len()];
    symbols.function = (0..4).collect();
    symbols.functions = names.map(function).to_vec();
    recording.snapshot.frames.symbols = Some(symbols);
    write(folder, "it's $(here).heap.json.gz", &recording.snapshot)
}

fn function(name: &str) -> Function {
    let mut function = Function::default();
    (function.name, function.crate_name) = (name.into(), "app".into());
    function
}

#[test]
fn the_page_is_one_file_that_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (dump, out) =
        (with_report(folder.path(), "a.heap.json.gz", |_| ()), folder.path().join("r.html"));
    let printed = output_of(&["report", &dump, "-o", out.to_str().unwrap()]);
    assert_eq!(printed, format!("{}\n", out.display()));
    let page = fs::read_to_string(&out).unwrap();
    for part in [
        "<!doctype html>",
        "<html lang=\"en\">",
        "default-src 'none'",
        "<header",
        "<nav aria-label",
        "<main",
        "<noscript>",
        "Copyright (c) 2022 Leon Sorokin",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let policy = page.split("Content-Security-Policy\" content=\"").nth(1).unwrap();
    let policy = policy.split('"').next().unwrap();
    assert_eq!(policy.matches("'sha256-").count(), 3, "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for loading in ["src=", "<link rel=\"stylesheet", "@import", "url(", "fetch(", "import("] {
        assert!(!page.contains(loading), "{loading}");
    }
    for id in ["candidates", "timeline", "heap", "recording", "commands"] {
        let section = format!("<section id=\"{id}\" aria-labelledby=\"{id}-heading\">");
        assert!(page.contains(&section) && page.contains(&format!("<h2 id=\"{id}-heading\">")));
    }
}

#[test]
fn the_numbers_of_the_page_are_those_of_top() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::new();
    recording.add(&recursive(2), &[("route", "/a")], 5_000_000.25, 1000.0);
    recording.add(&recursive(4), &[], 1_000_000.5, 2000.0);
    recording.add(&recursive(3)[2..], &[], 70_000.125, 300.0);
    recording.snapshot.stacks[1].truncated = true;
    let dump = recording.write(folder.path(), "a.heap.json.gz").to_str().unwrap().to_owned();
    let document = document(&page(&[&dump]));
    let stacks = stacks(&document);
    assert_eq!(stacks[1].last().unwrap(), "[truncated]");
    for (metric, field) in METRICS {
        let top = output_of(&["top", "--json", "--metric", metric, &dump]);
        let top: Value = serde_json::from_str(&top).unwrap();
        assert_eq!(document["totals"][field], top["total"], "{metric}");
        let values = numbers(&document["stacks"][field]["value"]);
        let errors = numbers(&document["stacks"][field]["error"]);
        let mut own: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for ((stack, value), error) in stacks.iter().zip(values).zip(errors) {
            let sums = own.entry(&stack[0]).or_default();
            *sums = (sums.0 + value, sums.1 + error * error);
        }
        let rows = top["rows"].as_array().unwrap();
        assert!(!rows.is_empty());
        for row in rows.iter().filter(|row| row["self"]["value"].as_f64() > Some(0.0)) {
            let (value, variance) = own[row["name"].as_str().unwrap()];
            let expected = |part: &str| row["self"][part].as_f64().unwrap();
            assert!((value - expected("value")).abs() <= 1.5, "{metric}: {value}, {row}");
            let error = variance.sqrt();
            assert!((error / expected("std_error") - 1.0).abs() < 0.01, "{metric}: {error}, {row}");
        }
    }
}

/// The first command on a page.
fn document_line(page: &str) -> String {
    document(page)["commands"][0]["line"].as_str().unwrap().to_owned()
}

#[test]
fn names_stay_text_and_a_path_stays_one_word() {
    let folder = tempfile::tempdir().unwrap();
    let dump = hostile(folder.path());
    let page = page(&[&dump]);
    assert_eq!(page.matches("</script>").count(), 3);
    assert!(!page.contains("<script>alert"));
    assert!(page.contains("<title>&lt;b&gt;&amp;"), "the title is escaped");
    let document = document(&page);
    let stacks = stacks(&document);
    assert_eq!(stacks[0][0], "</script><script>alert(1)</script>");
    assert_eq!(stacks[1], ["\u{2028}{{data}}", "main", "[truncated]"]);
    for command in document["commands"].as_array().unwrap() {
        let words = shlex::split(command["line"].as_str().unwrap()).unwrap();
        assert_eq!(words[0], "heapdrift");
        assert!(words.contains(&dump), "{words:?}");
    }
    let program = crate::recorded::executable();
    let program = program.to_str().unwrap();
    let piped = heapdrift(["report", &dump, "--binary", program, "-o", "-"]).out;
    let command = document_line(&piped);
    assert!(command.ends_with(&format!(" --binary {program}")), "{command}");
}

#[test]
fn a_series_is_in_order_and_has_the_differences_of_diff() {
    let folder = tempfile::tempdir().unwrap();
    // In a real dump, the sums of the stacks are those of the live samples.
    let consistent = |snapshot: &mut Snapshot| {
        let live = snapshot.live.iter().collect::<Vec<_>>();
        for (at, stack) in (0..).zip(&mut snapshot.stacks) {
            let here = || live.iter().filter(move |sample| sample.stack == at);
            let bytes = here().map(|sample| sample.size as f64 / sample.probability()).sum();
            stack.metrics.live_bytes = heapdrift::Estimate::new(bytes, 1.0);
        }
    };
    let mut dumps = series(folder.path(), (1..=LAST).step_by(3), consistent);
    dumps.reverse();
    let document = document(&page(&dumps));
    let moments = document["moments"].as_array().unwrap();
    let ticks: Vec<f64> = moments.iter().map(|moment| moment["tick"].as_f64().unwrap()).collect();
    assert!(ticks.is_sorted() && ticks.len() == dumps.len(), "{ticks:?}");
    assert!(moments.iter().all(|moment| moment["has_profile"] == true));
    let runs = &document["runs"];
    let mut columns = ["stack", "from", "to"].map(|name| indices(&runs[name]));
    (1..columns[0].len()).for_each(|run| columns[0][run] += columns[0][run - 1]);
    let (values, errors) = (numbers(&runs["bytes"]["value"]), numbers(&runs["bytes"]["error"]));
    let stacks = stacks(&document);
    let rounding = 1.0 + values.len() as f64 / 2.0;
    for (base, now) in [(0, moments.len() - 1), (2, 9)] {
        let mut changes: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for run in 0..values.len() {
            let covers = |dump: usize| (columns[1][run]..=columns[2][run]).contains(&dump);
            let sign = f64::from(u8::from(covers(now))) - f64::from(u8::from(covers(base)));
            let change = changes.entry(&stacks[columns[0][run]][0]).or_default();
            change.0 += sign * values[run];
            change.1 += sign * sign * errors[run] * errors[run];
        }
        let path = |at: usize| moments[at]["path"].as_str().unwrap();
        let diff = output_of(&["diff", "--json", path(base), path(now)]);
        let diff: Value = serde_json::from_str(&diff).unwrap();
        let rows = diff["rows"].as_array().unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            let (value, variance) = changes[row["name"].as_str().unwrap()];
            let expected = |part: &str| row["change"][part].as_f64().unwrap();
            assert!((value - expected("value")).abs() < rounding, "{value}, {row}");
            let tolerance = 0.01 * expected("std_error");
            assert!((variance.sqrt() - expected("std_error")).abs() <= tolerance, "{row}");
        }
    }
}

#[test]
fn the_page_has_the_candidates_of_the_last_dump_with_their_stacks() {
    let folder = tempfile::tempdir().unwrap();
    let dump = with_report(folder.path(), "one.heap.json.gz", |_| ());
    let alone = document(&page(&[&dump]));
    let leaks: Value = serde_json::from_str(&output_of(&["leaks", "--json", &dump])).unwrap();
    assert_eq!(alone["leaks"], leaks);
    assert_eq!(alone["candidate_stacks"], serde_json::json!([[0]]));
    let compared = output_of(&["report", &dump, "--baseline", &dump, "-o", "-"]);
    assert_eq!(document(&compared)["leaks"]["candidates"][0]["baseline"], "known");
    let none = write(folder.path(), "none.heap.json.gz", &at_tick(3));
    assert_eq!(document(&page(&[&none]))["leaks"], Value::Null);
}

#[test]
fn the_memory_limit_is_that_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let dump = write(folder.path(), "one.heap.json.gz", &at_tick(3));
    assert_eq!(document(&page(&[&dump]))["memory_limit"], Value::Null);
    let limited = output_of(&["report", &dump, "--memory-limit", "1.5GiB", "-o", "-"]);
    assert_eq!(document(&limited)["memory_limit"], 1.5 * f64::from(1 << 30));
    for bad in ["0", "much", "-1GiB"] {
        let ran = heapdrift(["report", &dump, &format!("--memory-limit={bad}"), "-o", "-"]);
        refused(&ran, &[bad, "expected a size like 2GiB"]);
    }
}

#[test]
fn losses_and_warnings_are_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::new();
    recording.add(&[1], &[], 5e6, 1000.0);
    recording.snapshot.stats.dropped_slots = 3;
    recording.snapshot.modules[0].path = "/gone/app".into();
    let dump = recording.write(folder.path(), "a.heap.json.gz").to_str().unwrap().to_owned();
    let document = document(&page(&[&dump]));
    assert_eq!(document["losses"][0]["name"], "dropped_slots");
    assert_eq!(document["losses"][0]["count"], 3);
    assert!(document["losses"][0]["meaning"].as_str().unwrap().starts_with("samples were lost"));
    assert!(document["warnings"][0].as_str().unwrap().contains("/gone/app"));
}

#[test]
fn dumps_that_are_not_a_series_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = series(folder.path(), 1..=2, |_| ());
    let mut other = at_tick(3);
    other.process.session = 0xabc;
    let other = write(folder.path(), "other.heap.json.gz", &other);
    refused(&report(&[&dumps[0], &other]), &[&dumps[0], &other, "expected dumps of one session"]);
    refused(&report(&["/nowhere.heap.json.gz"]), &["/nowhere.heap.json.gz", "No such file"]);
    refused(&report(&["-", "-"]), &["expected one dump from standard input"]);
    let into_folder = heapdrift(["report", &dumps[0], "-o", folder.path().to_str().unwrap()]);
    refused(&into_folder, &["found a directory"]);
    fs::write(folder.path().join("bad.heap.json.gz"), "no dump").unwrap();
    let bad = folder.path().join("bad.heap.json.gz").to_str().unwrap().to_owned();
    refused(&report(&[&dumps[0], &bad]), &[&bad]);
}
