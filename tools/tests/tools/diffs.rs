//! What changed between two dumps, and which changes are significant.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use heapdrift_tools::diff::{Diff, Side, State, diff};
use heapdrift_tools::symbolizer::Options;
use heapdrift_tools::{By, Metric, Symbolizer};
use serde_json::Value;

use crate::names::recursive;
use crate::random::Random;
use crate::recorded::{Recording, heapdrift, output_of};

/// A recording with a stack of one unnamed frame for each site.
fn sites(session: u64, sites: &[(u64, f64, f64)]) -> Recording {
    let mut recording = Recording::new();
    recording.snapshot.modules[0].path = "[unknown]".into();
    recording.snapshot.process.session = session;
    for &(address, bytes, error) in sites {
        recording.add(&[address], &[], bytes, error);
    }
    recording
}

fn compared(base: &Recording, new: &Recording, metric: Metric) -> Diff {
    let mut symbolizer = Symbolizer::new(Options::default());
    let [old, young] = [base, new].map(|r| symbolizer.symbolize(&r.snapshot));
    let base = Side { snapshot: &base.snapshot, heap: &old };
    let new = Side { snapshot: &new.snapshot, heap: &young };
    diff(base, new, &By::Function, metric)
}

fn states(diff: &Diff) -> Vec<(&str, State, bool)> {
    diff.rows.iter().map(|row| (row.name.as_str(), row.state, row.significant)).collect()
}

#[test]
fn a_site_is_new_gone_grown_shrunk_or_the_same() {
    let base = sites(1, &[(1, 1000.0, 10.0), (2, 500.0, 1.0), (3, 100.0, 1.0), (4, 70.0, 1.0)]);
    let new = sites(2, &[(1, 3000.0, 10.0), (2, 300.0, 1.0), (4, 70.0, 1.0), (5, 90.0, 1.0)]);
    let diff = compared(&base, &new, Metric::LiveBytes);
    assert_eq!(
        states(&diff),
        [
            ("[unknown]+0x1", State::Grew, true),
            ("[unknown]+0x2", State::Shrank, true),
            ("[unknown]+0x3", State::Gone, true),
            ("[unknown]+0x5", State::New, true),
            ("[unknown]+0x4", State::Same, false),
        ]
    );
    let first = &diff.rows[0];
    assert_eq!((first.change.value, first.change.std_error), (2000.0, 200.0_f64.sqrt()));
    assert_eq!(diff.total.change.value, 1790.0);
    let variance: f64 = diff.rows.iter().map(|row| row.change.std_error.powi(2)).sum();
    assert!((diff.total.change.std_error - variance.sqrt()).abs() < 1e-9);
}

#[test]
fn a_change_within_its_error_is_not_significant() {
    let base = sites(1, &[(1, 1000.0, 300.0)]);
    let new = sites(2, &[(1, 1800.0, 300.0)]);
    let diff = compared(&base, &new, Metric::LiveBytes);
    // The change of 800 ± 424 is 1.89 standard errors, so p = 0.059.
    assert!((diff.rows[0].q_value - 0.0593).abs() < 1e-3, "{}", diff.rows[0].q_value);
    assert_eq!(states(&diff), [("[unknown]+0x1", State::Grew, false)]);
}

#[test]
fn a_change_among_many_sites_needs_more_evidence() {
    // 3 standard errors, or p = 0.0027, are enough for one site, but not for one among a hundred.
    let grown = |others: u64| {
        let quiet = |value: f64| (2..2 + others).map(move |site| (site, value, 10.0));
        let base: Vec<_> = [(1, 1000.0, 0.0)].into_iter().chain(quiet(1000.0)).collect();
        let new: Vec<_> = [(1, 1030.0, 10.0)].into_iter().chain(quiet(1000.6)).collect();
        let diff = compared(&sites(1, &base), &sites(2, &new), Metric::LiveBytes);
        diff.rows.iter().any(|row| row.significant)
    };
    assert!(grown(0));
    assert!(!grown(99));
}

#[test]
fn objects_in_both_dumps_of_one_process_add_no_error() {
    let recorded = |session, ids: &[u64]| {
        let mut recording = sites(session, &[]);
        let error = 64_000.0 * (ids.len() as f64).sqrt();
        recording.add(&[1], &[], ids.len() as f64 * 66_000.0, error);
        for &id in ids {
            recording.live(0, 4096, 65_536.0, 0);
            *recording.snapshot.live.id.last_mut().unwrap() = id;
        }
        recording
    };
    let cache: Vec<u64> = (0..10_000).collect();
    let leaked: Vec<u64> = (5..10_020).collect();
    let base = recorded(1, &cache);
    let same = compared(&base, &recorded(1, &leaked), Metric::LiveBytes);
    let other = compared(&base, &recorded(2, &leaked), Metric::LiveBytes);
    // 5 objects were freed and 20 are new, so the error is that of 25 samples.
    let sampled: f64 = 1.0 - (-1.0_f64 / 16.0).exp();
    let expected = 4096.0 * (25.0 * (1.0 - sampled)).sqrt() / sampled;
    assert!((same.rows[0].change.std_error / expected - 1.0).abs() < 1e-9);
    assert!(same.rows[0].significant);
    assert_eq!(same.rows[0].change.value, other.rows[0].change.value);
    assert!(!other.rows[0].significant, "for different processes these are 15 among 10,000");
    // Later allocations are independent of earlier ones.
    let mut later = recorded(1, &leaked);
    let alloc = &mut later.snapshot.stacks[0].metrics.alloc_bytes;
    *alloc = heapdrift::Estimate::new(alloc.value + 5e6, alloc.std_error.hypot(1e6));
    let allocated = compared(&base, &later, Metric::AllocBytes);
    let base_error = base.snapshot.stacks[0].metrics.alloc_bytes.std_error;
    let new_error = later.snapshot.stacks[0].metrics.alloc_bytes.std_error;
    let expected = (new_error.powi(2) - base_error.powi(2)).sqrt();
    assert!((allocated.rows[0].change.std_error - expected).abs() < 1e-6);
}

#[test]
fn a_change_without_error_is_significant() {
    let diff =
        compared(&sites(1, &[(1, 100.0, 0.0)]), &sites(2, &[(1, 101.0, 0.0)]), Metric::LiveBytes);
    assert_eq!(states(&diff), [("[unknown]+0x1", State::Grew, true)]);
}

/// The estimate and the error of a site with objects of 4 KiB, of which one in 16 is sampled.
fn random_site(random: &mut Random, objects: u32) -> (f64, f64) {
    let sampled: f64 = 1.0 - (-1.0_f64 / 16.0).exp();
    let found = (0..objects).filter(|_| random.uniform() < sampled).count() as f64;
    (found * 4096.0 / sampled, 4096.0 * (found * (1.0 - sampled)).sqrt() / sampled)
}

/// 20 pairs of dumps in which 300 sites did not change and 30 quadrupled. On average at most 5% of
/// the significant changes are false. The mean over 20 pairs has a standard error of about 1%, so
/// the bound of 8% is 3 standard errors above it.
#[test]
fn at_most_five_percent_of_significant_changes_are_chance() {
    let mut random = Random(7);
    let (mut shares, mut found) = (0.0, 0);
    for _ in 0..20 {
        let mut draw = |grown: u32| -> Vec<(u64, f64, f64)> {
            (0..330)
                .map(|site| {
                    let objects = 50 + 20 * (site as u32 % 20);
                    let objects = if site < 30 { objects * grown } else { objects };
                    let (bytes, error) = random_site(&mut random, objects);
                    (site, bytes, error)
                })
                .collect()
        };
        let (base, new) = (sites(1, &draw(1)), sites(2, &draw(4)));
        let diff = compared(&base, &new, Metric::LiveBytes);
        let significant: Vec<u64> = diff
            .rows
            .iter()
            .filter(|row| row.significant)
            .map(|row| u64::from_str_radix(row.name.rsplit_once("0x").unwrap().1, 16).unwrap())
            .collect();
        let chance = significant.iter().filter(|site| **site >= 30).count();
        shares += chance as f64 / significant.len().max(1) as f64;
        found += significant.len() - chance;
    }
    let share = shares / 20.0;
    println!(
        "{:.1}% of the significant changes are false, {found} of 600 were found",
        100.0 * share
    );
    assert!(share < 0.08, "{share}");
    assert!(found > 300, "the test must have power: {found}");
}

/// Dumps of two processes. The second holds more at one site, and nothing at the other.
fn builds(folder: &Path) -> [String; 2] {
    let mut base = Recording::new();
    base.add(&recursive(2), &[("route", "/a")], 5_000_000.0, 1000.0);
    base.add(&[0x10], &[], 1000.0, 1.0);
    let mut new = Recording::new();
    new.add(&recursive(2), &[("route", "/a")], 65_000_000.0, 1000.0);
    new.snapshot.process.session = 2;
    new.snapshot.taken.unix_ms += 30 * 60_000;
    [("base", base), ("new", new)].map(|(name, recording)| {
        let path = recording.write(folder, &format!("{name}.heap.json.gz"));
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn the_document_has_the_fixed_fields() {
    let folder = tempfile::tempdir().unwrap();
    let [base, new] = builds(folder.path());
    let json: Value = serde_json::from_str(&output_of(&["diff", "--json", &base, &new])).unwrap();
    let row = &json["rows"][0];
    assert_eq!(row["name"], "tools::names::recursive");
    assert_eq!(row["state"], "grew");
    assert_eq!(row["change"]["value"], 60_000_000);
    assert_eq!(row["change"]["std_error"], 1414.214);
    assert_eq!(row["significant"], true);
    assert_eq!(json["rows"][1]["state"], "gone");
    assert_eq!(json["elapsed_hours"], 0.5);
    assert_eq!(json["total"]["change"]["value"], 59_999_000);
    let by = |by: &str| output_of(&["diff", "--by", by, &base, &new]);
    assert!(by("label:route").contains(" /a\n"));
    assert!(by("crate").contains(" tools\n"));
    assert!(by("stack").contains(";tools::names::recursive\n"));
    assert!(by("line").contains("names.rs:"));
    let text = by("function");
    assert!(text.contains("+57.2 MiB ± 1.4 KiB"), "{text}");
    assert!(text.contains("2 sites, 2 changed significantly"), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn growth_over_the_bound_is_status_1_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let [base, new] = builds(folder.path());
    // 60 MB in half an hour are 114.4 MiB/h.
    let with = |rate: &str| heapdrift(["diff", &base, &new, "--fail-over", rate]);
    let fine = with("115MiB/h");
    assert_eq!((fine.status, fine.err.as_str()), (0, ""));
    let crossed = with("114MiB/h");
    assert_eq!(crossed.status, 1);
    assert_eq!(crossed.err.lines().count(), 1, "{}", crossed.err);
    assert!(
        crossed.err.contains("at least 114.4 MiB/h (95%), expected at most 114.0 MiB/h"),
        "{}",
        crossed.err
    );
    assert_eq!(crossed.out, fine.out, "the table is printed all the same");
    let backwards = heapdrift(["diff", &new, &base, "--fail-over", "1GiB/h"]);
    assert_eq!(backwards.status, 2);
    assert!(backwards.err.contains("taken after the base"), "{}", backwards.err);
}

#[test]
fn comparing_builds_without_names_gives_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let dump = |name: &str, id: &str| {
        let mut recording = Recording::new();
        recording.add(&[0x10], &[], 1000.0, 1.0);
        recording.snapshot.modules[0].path = "/gone/app".into();
        recording.snapshot.modules[0].build_id = id.repeat(20);
        recording.write(folder.path(), name).to_str().unwrap().to_owned()
    };
    let (one, other) = (dump("1", "aa"), dump("2", "bb"));
    let ran = heapdrift(["diff", &one, &other]);
    assert_eq!(ran.status, 0);
    assert!(ran.err.contains("different builds, and names are missing"), "{}", ran.err);
    assert!(!heapdrift(["diff", &one, &one]).err.contains("different builds"));
}

#[test]
fn the_differential_flamegraph_is_red_where_it_grew() {
    let folder = tempfile::tempdir().unwrap();
    let [base, new] = builds(folder.path());
    let svg = |new: &str, base: &str| {
        let out = folder.path().join("diff.svg");
        output_of(&["flamegraph", new, "--diff", base, "-o", out.to_str().unwrap()]);
        fs::read_to_string(out).unwrap()
    };
    /// The colours of the frames of a function. It calls itself, and only the innermost changed.
    fn colors<'a>(svg: &'a str, function: &str) -> BTreeSet<&'a str> {
        let start = format!("{function} (");
        let frames = svg.split("<title>").filter(|frame| frame.starts_with(&start));
        frames.map(|f| f.split("fill=\"").nth(1).unwrap().split('"').next().unwrap()).collect()
    }
    let recursive = "tools::names::recursive";
    let grown = svg(&new, &base);
    assert_eq!(colors(&grown, recursive), ["rgb(250,250,250)", "rgb(255,100,100)"].into());
    assert!(grown.contains("red has grown, blue has shrunk"), "the subtitle says so");
    assert!(grown.contains("(65,000,000 ± 1,000 bytes"), "frames have their errors");
    let shrunk = svg(&base, &new);
    assert_eq!(colors(&shrunk, recursive), ["rgb(100,100,255)", "rgb(250,250,250)"].into());
    let same = svg(&new, &new);
    assert_eq!(colors(&same, recursive), ["rgb(250,250,250)"].into());
}
