//! Merging dumps: sums, weights, origins, and memory for only a few dumps.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use heapdrift::{Estimate, Snapshot};
use serde_json::Value;

use crate::names::recursive;
use crate::recorded::{Recording, build_id, command, executable, heapdrift, output_of, ran};

/// A dump of a process with two live samples of one call site, one of them labelled.
fn process(folder: &Path, session: u64, interval: f32) -> PathBuf {
    let mut recording = Recording::new();
    // The callers are left out, because they differ.
    let stack = &recursive(2)[..3];
    recording.add(stack, &[], 1000.0, 30.0);
    recording.add(stack, &[("route", "/a")], 500.0, 40.0);
    recording.live(0, 4096, interval, 1000);
    recording.live(1, 8192, interval, 2000);
    recording.snapshot.process.session = session;
    recording.snapshot.process.started_unix_ms += session * 10_000;
    recording.snapshot.taken.unix_ms += session * 10_000;
    recording.snapshot.sampling.interval_bytes = interval.into();
    recording.write(folder, &format!("process-{session}.heap.json.gz"))
}

fn merged(folder: &Path, args: &[&str], dumps: &[&PathBuf]) -> Snapshot {
    let out = folder.join("merged.heap.json.gz");
    let mut all = vec!["merge", "-o", out.to_str().unwrap()];
    all.extend(args);
    all.extend(dumps.iter().map(|path| path.to_str().unwrap()));
    output_of(&all);
    heapdrift::dump::read(&out).unwrap()
}

#[test]
fn processes_of_one_build_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (process(folder.path(), 1, 65_536.0), process(folder.path(), 2, 524_288.0));
    let merged = merged(folder.path(), &[], &[&one, &two]);
    assert_eq!(merged.modules.len(), 1);
    assert_eq!(merged.stacks.len(), 2, "the same stacks, with the same labels");
    let metrics = |label: bool| {
        let labelled = |s: &&heapdrift::snapshot::Stack| {
            merged.label_sets[s.labels as usize].is_empty() != label
        };
        merged.stacks.iter().find(labelled).unwrap().metrics
    };
    assert_eq!(metrics(false).live_bytes, Estimate::new(2000.0, 42.426));
    assert_eq!(metrics(true).live_bytes, Estimate::new(1000.0, 56.569));
    assert_eq!(merged.totals.live_bytes.value, 3000.0);
    assert_eq!(merged.totals.live_bytes.std_error, 70.711);
    // Each sample has its own weight, and its time of birth since the start of the merged
    // recording.
    let mut live: Vec<_> =
        merged.live.iter().map(|s| (s.interval, s.birth_ms, s.size, s.stack)).collect();
    live.sort_by(|a, b| a.partial_cmp(b).unwrap());
    assert_eq!(
        live,
        [
            (65_536.0, 1000, 4096, 0),
            (65_536.0, 2000, 8192, 1),
            (524_288.0, 11_000, 4096, 0),
            (524_288.0, 12_000, 8192, 1)
        ]
    );
    assert_eq!(merged.sampling.interval_bytes, 524_288.0);
    assert_eq!(merged.taken.uptime_ms, 70_000);
    assert_eq!(merged.taken.reason, "merge");
    assert_eq!(merged.stats.samples_taken, 4);
    assert_eq!(merged.stats.samples_live, 4);
}

#[test]
fn every_command_reads_what_merge_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (process(folder.path(), 1, 65_536.0), process(folder.path(), 2, 65_536.0));
    merged(folder.path(), &["--origin-label", "origin"], &[&one, &two]);
    let dump = folder.path().join("merged.heap.json.gz");
    let dump = dump.to_str().unwrap();
    let json: Value = serde_json::from_str(&output_of(&["top", "--json", dump])).unwrap();
    assert_eq!(json["rows"][0]["name"], "tools::names::recursive");
    assert_eq!(json["rows"][0]["self"]["value"], 3000);
    let origins = output_of(&["top", "--by", "label:origin", dump]);
    let name =
        |path: &Path| path.to_str().unwrap().strip_suffix(".heap.json.gz").unwrap().to_owned();
    assert!(origins.contains(&name(&one)) && origins.contains(&name(&two)), "{origins}");
    let routes = output_of(&["top", "--by", "label:route", "--json", dump]);
    let routes: Value = serde_json::from_str(&routes).unwrap();
    assert_eq!(routes["rows"][1]["self"]["value"], 1000, "existing labels are kept");
    output_of(&["info", dump]);
    output_of(&["flamegraph", dump, "-o", "-"]);
    for format in ["folded", "dhat", "speedscope", "jeprof"] {
        output_of(&["export", "--format", format, dump, "-o", "-"]);
    }
    output_of(&["diff", one.to_str().unwrap(), dump]);
    output_of(&["merge", dump, one.to_str().unwrap(), "-o", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(dump).unwrap().permissions()) & 0o777,
        0o600
    );
}

#[test]
fn the_origin_label_host_is_the_name_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let on = |session: u64, host: &str| {
        let path = process(folder.path(), session, 65_536.0);
        let mut dump = heapdrift::dump::read(&path).unwrap();
        dump.process.host = host.to_owned();
        heapdrift::dump::write(&dump, &path).unwrap();
        path
    };
    let dumps = [on(1, "web-1"), on(2, "web-2"), on(3, "web-2"), on(4, "")];
    let labels = |key: &str| -> Vec<String> {
        let merged = merged(folder.path(), &["--origin-label", key], &dumps.each_ref());
        assert_eq!(merged.process.host, "", "there is more than one host");
        let values: std::collections::BTreeSet<String> =
            merged.label_sets.iter().map(|set| set[key].clone()).collect();
        values.into_iter().collect()
    };
    // For a dump without a host, the label is the name of the dump.
    let unknown = folder.path().join("process-4").to_str().unwrap().to_owned();
    assert_eq!(labels("host"), [&unknown, "web-1", "web-2"]);
    assert_eq!(labels("origin").len(), 4);
    let same = merged(folder.path(), &[], &[&dumps[1], &dumps[2]]);
    assert_eq!(same.process.host, "web-2");
    let info = output_of(&["info", dumps[0].to_str().unwrap()]);
    assert!(info.contains("4711 on web-1, recorded by heapdrift 0.1.0"), "{info}");
}

#[test]
fn sites_are_numbered_anew_and_leak_reports_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let with_ticks = |session: u64, ticks: [u32; 2]| {
        let path = process(folder.path(), session, 65_536.0);
        let mut dump = heapdrift::dump::read(&path).unwrap();
        dump.live.birth_tick = ticks.into();
        dump.taken.tick = ticks[1];
        dump.frames.function.iter_mut().for_each(|start| *start -= 1);
        dump.leaks = Some(heapdrift::LeakReport::default());
        heapdrift::dump::write(&dump, &path).unwrap();
        path
    };
    let (one, two) = (with_ticks(1, [1, 3]), with_ticks(2, [2, 7]));
    let merged = merged(folder.path(), &["--origin-label", "origin"], &[&one, &two]);
    let sites: Vec<u32> = merged.stacks.iter().map(|stack| stack.site).collect();
    assert_eq!(sites, [0, 1, 2, 3], "both had 0 and 1");
    assert_eq!(merged.live.birth_tick, [1, 3, 2, 7]);
    assert_eq!(merged.taken.tick, 7);
    let starts: Vec<u64> = merged.frames.address.iter().map(|address| address - 1).collect();
    assert_eq!(merged.frames.function, starts);
    assert_eq!(merged.leaks, None);
}

#[test]
fn only_the_last_dump_of_a_series_counts() {
    let folder = tempfile::tempdir().unwrap();
    let first = process(folder.path(), 1, 65_536.0);
    let mut later = heapdrift::dump::read(&first).unwrap();
    later.taken.sequence = 2;
    later.stacks[0].metrics.live_bytes = Estimate::new(7000.0, 0.0);
    let second = folder.path().join("second.heap.json.gz");
    heapdrift::dump::write(&later, &second).unwrap();
    for order in [[&first, &second, &first], [&second, &first, &second]] {
        let merged = merged(folder.path(), &[], &order);
        assert_eq!(merged.stacks[0].metrics.live_bytes.value, 7000.0);
        assert_eq!(merged.live.len(), 2);
    }
}

#[test]
fn two_merges_of_the_same_processes_are_compared_object_by_object() {
    let folder = tempfile::tempdir().unwrap();
    let dumps = [process(folder.path(), 1, 65_536.0), process(folder.path(), 2, 65_536.0)];
    let now = merged(folder.path(), &[], &[&dumps[0], &dumps[1]]);
    let again = merged(folder.path(), &[], &[&dumps[1], &dumps[0]]);
    assert_eq!(now.process.session, again.process.session);
    let ids = |s: &Snapshot| s.live.id.iter().copied().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(&now), ids(&again));
    assert_eq!(ids(&now).len(), 4, "equal ids of different processes stay distinct");
    let other = merged(folder.path(), &[], &[&dumps[0], &process(folder.path(), 3, 65_536.0)]);
    assert_ne!(now.process.session, other.process.session);
}

#[test]
fn modules_of_different_builds_stay_distinct() {
    let folder = tempfile::tempdir().unwrap();
    let one = process(folder.path(), 1, 65_536.0);
    let mut other = heapdrift::dump::read(&one).unwrap();
    other.process.session = 2;
    other.modules[0].build_id = "ab".repeat(20);
    let path = folder.path().join("other.heap.json.gz");
    heapdrift::dump::write(&other, &path).unwrap();
    let out = folder.path().join("both.heap.json.gz");
    heapdrift([
        "merge".as_ref(),
        one.as_os_str(),
        path.as_os_str(),
        "-o".as_ref(),
        out.as_os_str(),
    ]);
    let both = heapdrift::dump::read(&out).unwrap();
    let ids: Vec<&str> = both.modules.iter().map(|module| module.build_id.as_str()).collect();
    assert_eq!(ids, [&*build_id(&executable()), &*"ab".repeat(20)]);
    assert_eq!(both.stacks.len(), 4);
}

#[test]
fn a_dump_is_read_from_a_pipe_and_anything_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dump = fs::read(process(folder.path(), 1, 65_536.0)).unwrap();
    let piped = |args: &[&str], input: &[u8]| {
        let input_file = folder.path().join("input");
        fs::write(&input_file, input).unwrap();
        let input = fs::File::open(&input_file).unwrap();
        ran(command().args(args).stdin(input).output().unwrap())
    };
    let top = piped(&["top", "--json", "-"], &dump);
    assert_eq!((top.status, top.err.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&top.out).unwrap();
    assert_eq!(json["rows"][0]["self"]["value"], 1500);
    let merged = piped(&["merge", "-", "-o", "/dev/null"], &dump);
    assert_eq!((merged.status, merged.err.as_str()), (0, ""));
    let refused = piped(&["top", "-"], b"text");
    assert_eq!(refused.status, 2);
    assert!(refused.err.starts_with("error: -: expected a heapdrift dump"), "{}", refused.err);
}

/// Merges 1,000 dumps of 200,000 live samples on 20,000 stacks. Run it with `--release --
/// --ignored`; `HEAPDRIFT_MERGE_DUMPS` sets a smaller number.
#[test]
#[ignore = "writes gigabytes and takes minutes"]
fn a_thousand_dumps_merge_within_a_minute_and_a_gigabyte() {
    let folder = tempfile::tempdir().unwrap();
    let dumps: u64 = std::env::var("HEAPDRIFT_MERGE_DUMPS").map_or(1000, |n| n.parse().unwrap());
    let mut recording = Recording::new();
    let mut random = 1_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) % below
    };
    let frames: Vec<u32> = (0..20_000).map(|i| recording.frame(0, 0x1000 + i * 32)).collect();
    for stack in 0..20_000 {
        let mut path = vec![frames[stack]];
        path.extend((0..39).map(|_| frames[next(20_000) as usize]));
        recording.add_frames(path, &[], 1_234_567.891, 1234.567);
    }
    for _ in 0..200_000 {
        let (stack, size) = (next(20_000) as u32, 16 << next(12));
        recording.live(stack, size, 524_288.0, next(3_600_000));
    }
    let mut paths = Vec::new();
    for session in 0..dumps {
        recording.snapshot.process.session = session;
        paths.push(recording.write(folder.path(), &format!("{session}.heap.json.gz")));
    }
    let out = folder.path().join("merged.heap.json.gz");
    let started = Instant::now();
    let mut merge = command();
    merge.args(["merge", "-o"]).arg(&out).args(&paths);
    let (status, used) = watched(merge.spawn().unwrap());
    let elapsed = started.elapsed();
    assert!(status.success(), "{status}");
    let bytes: HashMap<&str, u64> =
        [("in", &paths[0]), ("out", &out)].map(|(k, p)| (k, fs::metadata(p).unwrap().len())).into();
    println!("{dumps} dumps of {bytes:?} bytes in {elapsed:?}: {used:?}");
    assert!(used.kilobytes < 1 << 20, "{used:?}");
    // This is a minute on two idle cores.
    assert!(used.seconds < 0.06 * dumps as f64 * 2.0, "{used:?}");
}

/// The resources that a process has used, measured up to a hundredth of a second before its end.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// The peak of resident memory.
    kilobytes: u64,
    /// User and system processor time.
    seconds: f64,
}

/// Waits for the end of a process and measures its resources.
fn watched(mut process: Child) -> (ExitStatus, Used) {
    let folder = PathBuf::from(format!("/proc/{}", process.id()));
    let mut used = Used::default();
    loop {
        // A process that has ended has no memory any more.
        let facts = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let memory = facts.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let memory = memory.and_then(|line| line.split_whitespace().next()?.parse().ok());
        used.kilobytes = memory.unwrap_or(used.kilobytes);
        let facts = fs::read_to_string(folder.join("stat")).unwrap();
        // Fields 14 and 15 are in hundredths of a second. Field 2 is a name in parentheses that may
        // contain spaces.
        let times = facts.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        used.seconds = times.map(|time| time.parse::<f64>().unwrap() / 100.0).sum();
        if let Some(status) = process.try_wait().unwrap() {
            return (status, used);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
