//! Leak reports of one dump and of a series.

use std::fs;
use std::path::{Path, PathBuf};

use heapdrift::{LeakReport, Snapshot};
use serde_json::Value;

use crate::names::recursive;
use crate::recorded::{Ran, Recording, heapdrift, output_of};

pub(crate) const LAST: u32 = 48;

/// The live set at a tick of a session. One call site keeps two objects per tick, another frees its
/// objects after two ticks.
pub(crate) fn at_tick(tick: u32) -> Snapshot {
    let mut recording = Recording::new();
    recording.add(&recursive(2)[..3], &[("route", "/leaky")], 1000.0, 0.0);
    recording.add(&recursive(7)[4..6], &[], 1000.0, 0.0);
    let live = |recording: &mut Recording, stack: u32, id: u64, birth: u32| {
        recording.live(stack, 65_536, 65_536.0, u64::from(birth) * 1000);
        let live = &mut recording.snapshot.live;
        *live.id.last_mut().unwrap() = id;
        *live.birth_tick.last_mut().unwrap() = birth;
    };
    for birth in 1..=tick {
        for object in 0..2 {
            live(&mut recording, 0, u64::from(birth * 2 + object), birth);
        }
    }
    for birth in tick.saturating_sub(1).max(1)..=tick {
        live(&mut recording, 1, 1_000_000 + u64::from(birth), birth);
    }
    let taken = &mut recording.snapshot.taken;
    (taken.tick, taken.sequence, taken.uptime_ms) = (tick, tick.into(), u64::from(tick) * 60_000);
    recording.snapshot
}

pub(crate) fn write(folder: &Path, name: &str, snapshot: &Snapshot) -> String {
    let path: PathBuf = folder.join(name);
    heapdrift::dump::write(snapshot, &path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A series whose file names do not sort in the order of the ticks.
pub(crate) fn series(
    folder: &Path,
    ticks: impl Iterator<Item = u32>,
    edit: impl Fn(&mut Snapshot),
) -> Vec<String> {
    let dump = |tick: u32| {
        let mut snapshot = at_tick(tick);
        edit(&mut snapshot);
        write(folder, &format!("{}-{tick}.heap.json.gz", tick % 7), &snapshot)
    };
    let mut paths: Vec<String> = ticks.map(dump).collect();
    paths.sort();
    paths
}

fn leaks(args: &[&str], dumps: &[impl AsRef<str>]) -> Ran {
    let dumps = dumps.iter().map(AsRef::as_ref);
    heapdrift(["leaks"].into_iter().chain(args.iter().copied()).chain(dumps))
}

fn report(ran: &Ran) -> LeakReport {
    assert_eq!(ran.status, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

/// A dump with the report of its series.
pub(crate) fn with_report(folder: &Path, name: &str, edit: impl Fn(&mut Snapshot)) -> String {
    let inner = tempfile::tempdir().unwrap();
    let dumps = series(inner.path(), 1..=LAST, &edit);
    let mut last = at_tick(LAST);
    edit(&mut last);
    last.leaks = Some(report(&leaks(&["--json"], &dumps)));
    write(folder, name, &last)
}

pub(crate) fn refused(ran: &Ran, expected: &[&str]) {
    assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    for part in expected {
        assert!(ran.err.contains(part), "expected {part:?} in {}", ran.err);
    }
}

#[test]
fn a_series_is_judged_in_the_order_of_its_ticks() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = series(folder.path(), 1..=LAST, |_| ());
    let ran = leaks(&["--json"], &dumps);
    assert_eq!(ran.err, "", "no tick is missing");
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["tick"], LAST);
    let candidates = json["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 1, "{}", ran.out);
    let first = &candidates[0];
    assert_eq!(first["verdict"], "confirmed");
    assert_eq!(first["function"], "tools::names::recursive");
    assert_eq!((first["crate"].as_str(), first["own"].as_bool()), (Some("tools"), Some(true)));
    assert_eq!(first["labels"]["route"], "/leaky");
    assert!(first["first_seen_tick"].as_u64().unwrap() >= 20);
    let per_hour = first["leaked_bytes_per_hour"]["value"].as_f64().unwrap();
    let truth = 2.0 * 60.0 * 65_536.0 / (1.0 - (-1.0_f64).exp());
    assert!((per_hour / truth - 1.0).abs() < 0.2, "{per_hour}, {truth}");
    let frame = &first["frames"][0];
    assert_eq!(frame["crate"], "tools");
    assert!(frame["file"].as_str().unwrap().ends_with("tests/tools/names.rs"), "{frame}");
    assert!(frame["line"].is_u64() && frame["own"].is_boolean(), "{frame}");
    for key in ["live_bytes", "live_count"] {
        assert!(first[key]["value"].is_number() && first[key]["std_error"].is_number(), "{key}");
    }
    let text = leaks(&[], &dumps);
    assert!(text.out.starts_with(&format!("leaks at tick {LAST} ")), "{}", text.out);
    assert!(text.out.contains("confirmed: "), "{}", text.out);
    assert!(text.out.lines().count() < 24, "{}", text.out);
}

#[test]
fn fail_over_is_status_1_if_a_confirmed_leak_is_significantly_faster() {
    let folder = tempfile::tempdir().unwrap();
    let dump = with_report(folder.path(), "one.heap.json.gz", |_| ());
    let leaked = report(&leaks(&["--json"], &[&dump])).candidates[0].leaked_bytes_per_hour;
    let low = leaked.ci95().0;
    assert!(low > 1e6 && low < leaked.value);
    let crossed = leaks(&["--fail-over", &format!("{}/h", low * 0.99)], &[&dump]);
    assert_eq!(crossed.status, 1);
    assert!(crossed.out.starts_with("leaks at tick"), "the report is printed all the same");
    assert!(
        crossed.err.starts_with("fail-over: tools::names::recursive: leaks "),
        "{}",
        crossed.err
    );
    assert_eq!(crossed.err.lines().count(), 1, "{}", crossed.err);
    let hidden = leaks(&["-n", "1", "--json", "--fail-over", "1B/h"], &[&dump]);
    assert_eq!(hidden.status, 1);
    assert_eq!(leaks(&["--fail-over", &format!("{}/h", low * 1.01)], &[&dump]).status, 0);
    // A suspected leak does not count.
    let mut suspected = heapdrift::dump::read(dump.as_ref()).unwrap();
    suspected.leaks.as_mut().unwrap().candidates[0].verdict = heapdrift::Verdict::Suspect;
    let suspected = write(folder.path(), "suspected.heap.json.gz", &suspected);
    assert_eq!(leaks(&["--fail-over", "1B/h"], &[&suspected]).status, 0);
}

#[test]
fn the_report_in_a_dump_gets_the_names_that_the_service_lacked() {
    let folder = tempfile::tempdir().unwrap();
    let program = crate::recorded::executable();
    let gone = |snapshot: &mut Snapshot| {
        snapshot.modules[0].path = "/gone/app".into();
        snapshot.process.executable = "/gone/app".into();
    };
    let dump = with_report(folder.path(), "gone.heap.json.gz", gone);
    let nameless = leaks(&["--json"], &[&dump]);
    assert!(nameless.err.contains("/gone/app"), "{}", nameless.err);
    let nameless = report(&nameless);
    assert!(nameless.candidates[0].function.starts_with("app+0x"), "{nameless}");
    let program = program.to_str().unwrap();
    let named = leaks(&["--json", "--binary", program], &[&dump]);
    assert_eq!(named.err, "");
    let candidate = &report(&named).candidates[0];
    assert_eq!(candidate.function, "tools::names::recursive");
    assert_eq!(candidate.blame.crate_name.as_deref(), Some("tools"));
    assert!(candidate.stack.iter().all(|frame| !frame.function.starts_with("app+0x")));
    assert_eq!(candidate.evidence, nameless.candidates[0].evidence);
    // Once dumps are symbolized, running the detector over them needs no binary.
    let inner = tempfile::tempdir().unwrap();
    let symbolized: Vec<String> = series(inner.path(), 1..=LAST, gone)
        .iter()
        .map(|dump| {
            let out = dump.replace(".heap.", ".named.heap.");
            output_of(&["symbolize", dump, "--binary", program, "-o", &out]);
            out
        })
        .collect();
    let from_dumps = report(&leaks(&["--json"], &symbolized));
    assert_eq!(from_dumps.candidates[0].function, "tools::names::recursive");
    assert_eq!(from_dumps.candidates[0].verdict, heapdrift::Verdict::Confirmed);
}

#[test]
fn own_crates_can_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let dump = with_report(folder.path(), "one.heap.json.gz", |_| ());
    let mut foreign = heapdrift::dump::read(dump.as_ref()).unwrap();
    for candidate in &mut foreign.leaks.as_mut().unwrap().candidates {
        candidate.own = false;
        candidate.stack.iter_mut().for_each(|frame| frame.own = false);
    }
    let foreign = write(folder.path(), "foreign.heap.json.gz", &foreign);
    assert!(!report(&leaks(&["--json"], &[&foreign])).candidates[0].own);
    let own = report(&leaks(&["--json", "--own-crate", "tools"], &[&foreign]));
    let candidate = &own.candidates[0];
    assert!(candidate.own);
    assert!(candidate.blame.own_frame.is_some());
}

#[test]
fn a_baseline_marks_new_candidates() {
    let folder = tempfile::tempdir().unwrap();
    let dump = with_report(folder.path(), "one.heap.json.gz", |_| ());
    let known = leaks(&["--baseline", &dump], &[&dump]);
    assert!(known.out.contains("in the baseline too: not new"), "{}", known.out);
    let mut clean = heapdrift::dump::read(dump.as_ref()).unwrap();
    clean.leaks.as_mut().unwrap().candidates.clear();
    let before = write(folder.path(), "before.heap.json.gz", &clean);
    let new = leaks(&["--json", "--baseline", &before], &[&dump]);
    let json: Value = serde_json::from_str(&new.out).unwrap();
    assert_eq!(json["candidates"][0]["baseline"], "new");
    clean.process.executable = "/usr/bin/other".into();
    let other = write(folder.path(), "other.heap.json.gz", &clean);
    let program = crate::recorded::executable();
    let program = program.file_name().unwrap().to_str().unwrap();
    refused(
        &leaks(&["--baseline", &other], &[&dump]),
        &[&other, &format!("expected a dump of {program}"), "found one of other"],
    );
    clean.leaks = None;
    let silent = write(folder.path(), "silent.heap.json.gz", &clean);
    refused(&leaks(&["--baseline", &silent], &[&dump]), &[&silent]);
}

#[test]
fn a_dump_without_a_report_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dump = write(folder.path(), "none.heap.json.gz", &at_tick(3));
    refused(&leaks(&[], &[&dump]), &[&dump, "expected a dump with a leak report"]);
    let early = write(folder.path(), "early.heap.json.gz", &at_tick(0));
    refused(&leaks(&[], &[&early, &early]), &[&early, "ticks of the leak detector"]);
}

#[test]
fn dumps_that_are_not_a_series_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = series(folder.path(), 1..=4, |_| ());
    let with = |name: &str, edit: fn(&mut Snapshot)| {
        let mut other = at_tick(5);
        edit(&mut other);
        let other = write(folder.path(), name, &other);
        (leaks(&[], &[&dumps[0], &dumps[1], &other]), other)
    };
    let (ran, other) = with("session.heap.json.gz", |dump| dump.process.session = 0xabc);
    refused(&ran, &[&dumps[0], &other, "expected dumps of one session", "abc (process 4711"]);
    let (ran, other) = with("build.heap.json.gz", |dump| {
        dump.process.session = 2;
        dump.modules[0].build_id = "ab12".into();
    });
    refused(&ran, &[&dumps[0], &other, "expected dumps of one build", "ab12"]);
    let (ran, other) = with("same.heap.json.gz", |dump| dump.modules[0].build_id = "cd34".into());
    refused(&ran, &[&other, "expected dumps of one build", "cd34"]);
    let (ran, other) = with("merged.heap.json.gz", |dump| dump.taken.reason = "merge".into());
    refused(&ran, &[&other, "found a merged dump"]);
    let (ran, other) = with("tick.heap.json.gz", |_| ());
    assert_eq!(ran.status, 0, "{} {other}", ran.err);
}

#[test]
fn missing_ticks_and_unused_dumps_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    let mut dumps = series(folder.path(), (1..=LAST).filter(|t| !(5..=9).contains(t)), |_| ());
    let complete = series(tempfile::tempdir().unwrap().path(), 1..=2, |_| ());
    assert_eq!(complete.len(), 2);
    let gap = leaks(&["--json"], &dumps);
    let line = "note: ticks 5 to 9 are missing: verdicts may come later than in the service\n";
    assert_eq!(gap.err, line);
    // Add a dump that was taken by a call after the last tick, and one from before the first tick.
    let mut later = at_tick(LAST);
    later.taken.sequence += 1;
    later.live = Default::default();
    dumps.insert(0, write(folder.path(), "0-later.heap.json.gz", &later));
    dumps.insert(0, write(folder.path(), "0-early.heap.json.gz", &at_tick(0)));
    let both = leaks(&["--json"], &dumps);
    assert_eq!(both.out, gap.out, "the first dump of a tick counts");
    let lines: Vec<&str> = both.err.lines().collect();
    assert_eq!(lines.len(), 3, "{}", both.err);
    assert_eq!(lines[0], "note: 1 dump before the first tick left out");
    assert!(
        lines[1].starts_with("note: 1 dump of a tick that another has left out: "),
        "{}",
        lines[1]
    );
    assert!(lines[1].ends_with("0-later.heap.json.gz"), "{}", lines[1]);
    // If the last dump has a report of its own, a note says so.
    let own = with_report(folder.path(), "own.heap.json.gz", |_| ());
    let hint = leaks(&[], &[&dumps[2], &own]).err;
    assert!(hint.contains(&format!("the service's own report: heapdrift leaks {own}")), "{hint}");
    fs::remove_file(&own).unwrap();
    refused(&leaks(&[], &[&dumps[2], &own]), &[&own, "No such file"]);
}

#[test]
fn a_damaged_report_prints_no_escape_sequences_and_does_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let dump = with_report(folder.path(), "one.heap.json.gz", |_| ());
    let mut evil = heapdrift::dump::read(dump.as_ref()).unwrap();
    let report = evil.leaks.as_mut().unwrap();
    report.omitted = u64::MAX;
    report.tick = u64::MAX;
    let candidate = &mut report.candidates[0];
    candidate.function = "\u{1b}[2Jevil\u{7}".into();
    candidate.shared_frames = usize::MAX;
    candidate.stack.iter_mut().for_each(|frame| frame.crate_name = None);
    candidate.stack[0].module = "\u{1b}]0;evil".into();
    candidate.leaked_bytes_per_hour = heapdrift::Estimate::new(1e308, 1e308);
    candidate.evidence.cohorts = vec![u64::MAX, 0, 1];
    candidate.evidence.curve = vec![(u64::MAX, -1e308)];
    let twins = vec![candidate.clone(); 9];
    report.candidates.extend(twins);
    let evil = write(folder.path(), "evil.heap.json.gz", &evil);
    for args in [&["-n", "0"][..], &["-n", "70000"], &["--json"], &["--own-crate", "x"]] {
        let ran = leaks(args, &[&evil]);
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(!ran.out.contains(['\u{1b}', '\u{7}']), "{:?}", ran.out);
    }
    let shown = |args: &[&str]| leaks(args, &[&evil]).out.matches("  stack ").count();
    assert_eq!((shown(&[]), shown(&["-n", "2"]), shown(&["-n", "0"])), (3, 2, 10));
    let two = leaks(&["-n", "2", "--json"], &[&evil]).out;
    let two: Value = serde_json::from_str(&two).unwrap();
    assert_eq!(two["candidates"].as_array().unwrap().len(), 2);
    // A tick that is too large is refused.
    let mut late = at_tick(2);
    late.taken.tick = u32::MAX;
    let late = write(folder.path(), "late.heap.json.gz", &late);
    refused(&leaks(&[], &[&late, &late]), &[&late, "expected taken.tick below"]);
}

#[test]
fn bad_rates_and_options_are_named() {
    let ran = leaks(&["--fail-over", "fast"], &["x"]);
    refused(&ran, &["fast", "expected a rate like 10MiB/h"]);
    refused(&leaks(&[], &[""; 0]), &["required"]);
    refused(&leaks(&["--baseline", "-"], &["-"]), &["expected one dump from standard input"]);
}
