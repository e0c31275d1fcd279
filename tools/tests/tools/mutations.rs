//! Thousands of damaged dumps and baselines go through everything that reads them. Each must give a
//! result or an error of one line, without a panic and without much time or memory. heapdrift reads
//! only dumps; it writes pprof and the other formats, but does not read them.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use heapdrift::leak::Replay;
use heapdrift::{LeakReport, Snapshot, dump};
use heapdrift_tools::diff::{Side, diff};
use heapdrift_tools::merge::Merge;
use heapdrift_tools::report::{History, Report};
use heapdrift_tools::symbolizer::Options;
use heapdrift_tools::{
    By, Metric, Symbolizer, dhat, flamegraph, fold, info, jeprof, leaks, packages, pprof,
    speedscope, top,
};
use serde_json::{Value, json};

use crate::random::Random;
use crate::recorded::Recording;

/// Dumps with something of everything, one of them with names. There are no files to look up
/// others.
fn corpus() -> [Snapshot; 2] {
    let mut recording = Recording::new();
    recording.snapshot.modules[0].path = "/gone/app".into();
    recording.snapshot.modules[0].start = 0x5555_0000_0000;
    recording.snapshot.modules[0].end = 0x5555_0100_0000;
    for stack in 0..12_u64 {
        let path: Vec<u64> = (0..5).map(|depth| 0x1000 + (stack >> depth) * 64).collect();
        recording.add(&path, &[("route", ["/a", "/b", "/c"][stack as usize % 3])], 1e6, 1e3);
        recording.live(stack as u32, 64 << stack, 65_536.0, stack * 1000);
    }
    recording.snapshot.stacks[3].truncated = true;
    // From about this tick on, the detector has verdicts.
    (recording.snapshot.taken.tick, recording.snapshot.taken.uptime_ms) = (30, 30_000);
    let plain = recording.snapshot.clone();
    let mut symbols = heapdrift::snapshot::Symbols::default();
    for at in 0..recording.snapshot.frames.address.len() as u32 {
        symbols.count.push(at % 3);
        symbols.function.extend((0..at % 3).map(|inlined| (at + inlined) % 4));
    }
    for name in ["main", "alloc::vec::Vec::push", "my::f", "<a::B as c::D>::e"] {
        let mut function = heapdrift::snapshot::Function::default();
        (function.name, function.crate_name) = (name.into(), "my".into());
        (function.file, function.line) = (Some("src/my.rs".into()), Some(7));
        symbols.functions.push(function);
    }
    recording.snapshot.frames.symbols = Some(symbols);
    recording.snapshot.leaks = Some(report());
    [plain, recording.snapshot]
}

/// Dumps with little but a report, one with names and one without.
fn baselines() -> [Snapshot; 2] {
    let [_, named] = corpus();
    let mut other = Snapshot::default();
    (other.process, other.modules) = (named.process.clone(), named.modules.clone());
    (other.frames, other.label_sets) = (named.frames.clone(), named.label_sets.clone());
    other.leaks = named.leaks.clone();
    let mut unnamed = other.clone();
    let report = unnamed.leaks.as_mut().expect("the other has one");
    let twin = report.candidates[0].clone();
    report.candidates.push(twin);
    unnamed.frames.symbols = None;
    [other, unnamed]
}

/// A leak report like that of a service.
fn report() -> LeakReport {
    let frame = |function: &str, crate_name: Option<&str>| {
        json!({
            "function": function, "file": "src/my.rs", "line": 7, "crate": crate_name, "own": false,
            "module": "/gone/app", "address": 0x1000,
        })
    };
    let estimate = json!({"value": 1e6, "std_error": 1e3});
    let report = json!({
        "version": 1, "tick": 40, "uptime_ms": 40_000, "tested_sites": 3, "candidates": [{
            "verdict": "confirmed", "function": "app+0x1000", "crate": null, "own": false,
            "leaked_bytes_per_hour": estimate, "live_bytes": estimate, "live_count": estimate,
            "first_seen_tick": 21, "labels": {"route": "/a"}, "shared_frames": 1,
            "blame": {"crate": null, "version": null, "kind": "unknown", "own_frame": null},
            "frames": [frame("app+0x1000", None), frame("my::f", Some("my"))],
            "evidence": {
                "kind": "survival", "sites": 1, "log10_e": 9.5, "log10_threshold": 3.5,
                "mature_age": 4, "mature_alive": 40, "mature_deaths": 1, "births": 60,
                "ticks": [3, 30], "quarters": [1.0, 2.0, 3.0, 4.0], "cohorts": [1, 2, 3],
                "ages": [{"from": 1, "alive": 2, "died": 3}], "curve": [[21, 5e5]], "steps": [],
            },
        }],
    });
    serde_json::from_value(report).expect("it has all fields")
}

fn packed(json: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(json).unwrap();
    encoder.finish().unwrap()
}

fn unpacked(dump: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    heapdrift::dump::to_writer(dump, &mut bytes).unwrap();
    let mut json = Vec::new();
    flate2::read::GzDecoder::new(&*bytes).read_to_end(&mut json).unwrap();
    json
}

/// Flips, cuts, repeats or replaces bytes.
fn mutated_bytes(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                let run: Vec<u8> = bytes[at..].iter().take(random.below(64)).copied().collect();
                bytes.splice(at..at, run);
            }
            3 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let text = random.of(&[
                    "-1",
                    "1e308",
                    "9e99",
                    "null",
                    "[]",
                    "{}",
                    "\"",
                    "18446744073709551615",
                    "0.5",
                ]);
                let end = (at + text.len()).min(bytes.len());
                bytes.splice(at..end, text.bytes());
            }
        }
    }
    bytes
}

/// A random value inside of `value`, at most `depth` levels down.
fn somewhere<'a>(value: &'a mut Value, depth: usize, random: &mut Random) -> &'a mut Value {
    let inside = match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if depth == 0 || inside == 0 {
        return value;
    }
    let at = random.below(inside);
    let inner = match value {
        Value::Array(list) => &mut list[at],
        Value::Object(map) => map.values_mut().nth(at).expect("it is below the length"),
        _ => unreachable!("nothing is inside of it"),
    };
    somewhere(inner, depth - 1, random)
}

/// Replaces, removes or repeats values. The result is JSON and usually still a dump.
fn mutated_values(json: &mut Value, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let depth = 2 + random.below(6);
        let value = somewhere(json, depth, random);
        let absurd = [
            Value::from(-1.0),
            0.into(),
            1.into(),
            u32::MAX.into(),
            u64::MAX.into(),
            (1_u64 << 53).into(),
            1e308.into(),
            1e-308.into(),
            "".into(),
            "\u{1b}[31m\n;#< 1".into(),
            Value::Null,
        ];
        match value {
            Value::Array(list) if random.below(2) == 0 => {
                let copies = random.below(3) * random.below(200);
                if let Some(last) = list.last().cloned() {
                    list.extend(std::iter::repeat_n(last, copies));
                }
                list.truncate(random.below(2 * list.len() + 1));
            }
            Value::Object(map) if random.below(2) == 0 => {
                let at = random.below(map.len());
                if let Some(key) = map.keys().nth(at).cloned() {
                    map.remove(&key);
                }
            }
            // Numbers that the field may well have.
            Value::Number(number) if random.below(4) > 0 => {
                let number = number.as_u64().unwrap_or(1);
                let near = [number / 2, number.saturating_add(1), random.next() % (number | 3), 0];
                *value = (*random.of(&near)).into();
            }
            Value::String(text) if random.below(4) > 0 => {
                let more = random.of(&["\u{1b}[31m\n", ";# 1", "<script>", "", " (deleted)", "é"]);
                text.insert_str(0, more);
            }
            value => *value = random.of(&absurd).clone(),
        }
    }
}

/// Reads a dump in both ways, as the commands do and as a service does.
fn read(bytes: &[u8]) -> Result<Snapshot, String> {
    let mut document = Vec::new();
    let whole = dump::unpack(bytes, &mut document).and_then(|()| dump::from_json(&document));
    let in_pieces = dump::from_reader(bytes);
    // Errors may differ: each way reports the first that it finds.
    assert_eq!(whole.as_ref().ok(), in_pieces.as_ref().ok());
    whole.map_err(|error| one_line(&error))
}

/// Reads a dump and does everything with it that the commands do.
fn everything(bytes: &[u8], other: &Snapshot) -> Result<(), String> {
    let snapshot = read(bytes)?;
    let mut symbolizer = Symbolizer::new(Options::default());
    let located = symbolizer.locate(&snapshot);
    let heap = located.clone().into_symbolized();
    let other_heap = symbolizer.symbolize(other);
    let modules = symbolizer.match_modules(&snapshot);
    symbolizer.take_warnings().iter().for_each(|warning| drop(one_line(warning)));
    info::Info::new(&snapshot, modules).render_styled();
    if let Some(report) = leaks::embedded(&mut symbolizer, &snapshot, &["my".to_owned()]) {
        let _ = (report.to_string(), report.to_json());
    }
    let mut names = leaks::DumpNames::new(&mut symbolizer, &snapshot, &[]);
    let mut replay = Replay::new();
    let mut series = [&snapshot, other];
    series.sort_by_key(|dump| dump.taken.tick);
    let mut history = History::default();
    for snapshot in series {
        let _ = replay.tick(snapshot, &mut names).to_string();
        history.add("a".as_ref(), snapshot);
    }
    let packages = packages::of_dump(&mut symbolizer, &snapshot, [""; 0]);
    let page = Report {
        dump: &snapshot,
        heap: &heap,
        packages: &packages,
        history: &history,
        leaks: snapshot.leaks.as_ref(),
        memory_limit: None,
        name_options: "",
        warnings: &symbolizer.take_warnings(),
    };
    page.html();
    let out = &mut Vec::new();
    for metric in [Metric::LiveBytes, Metric::LiveCount, Metric::AllocBytes, Metric::PeakBytes] {
        for by in [By::Function, By::Line, By::Stack, By::Label("route".into())] {
            let rows = top::table(&heap, &by, metric);
            top::render(&heap, &by, metric, &rows, usize::MAX);
            let side = |snapshot, heap| Side { snapshot, heap };
            for (base, new) in [
                (side(other, &other_heap), side(&snapshot, &heap)),
                (side(&snapshot, &heap), side(other, &other_heap)),
                (side(&snapshot, &heap), side(&snapshot, &heap)),
            ] {
                let found = diff(base, new, &by, metric);
                found.render_styled(&by, metric, usize::MAX);
                let rate = "1/h".parse().unwrap();
                if let Ok(Some(row)) = found.faster_than(rate) {
                    one_line(&found.crossing(row, rate, metric));
                }
            }
        }
        fold::write(&heap, metric, out).unwrap();
        flamegraph::svg(&heap, metric).unwrap();
        flamegraph::svg_diff(&other_heap, &heap, metric).unwrap();
    }
    pprof::write(&snapshot, &located, out).unwrap();
    dhat::write(&snapshot, &located, out).unwrap();
    speedscope::write(&heap, out).unwrap();
    jeprof::write(&located, out).unwrap();
    let symbols = symbolizer.symbols(&snapshot);
    let mut merge = Merge::default();
    merge.add(&snapshot, Some(("origin", "here")));
    merge.add(other, None);
    merge.add(&snapshot, None);
    let mut merged = merge.finish();
    let valid = |what: &str, snapshot: &Snapshot| {
        // A merged dump must be readable unless its numbers overflowed.
        snapshot.validate().or_else(|why| match why.contains("finite") {
            true => Ok(()),
            false => Err(format!("{what} gives a broken dump: {why}")),
        })
    };
    valid("merge", &merged).unwrap();
    merged.frames.symbols = None;
    let mut named = snapshot;
    named.frames.symbols = Some(symbols);
    valid("symbolize", &named).unwrap();
    Ok(())
}

/// Reads a dump as the baseline of another, as `leaks --baseline` and services do.
fn compared(bytes: &[u8], other: &Snapshot) -> Result<(), String> {
    let baseline = read(bytes)?;
    let mut symbolizer = Symbolizer::new(Options::default());
    for own_crates in [&[][..], &["my".to_owned()]] {
        let mut reports = [&baseline, other]
            .map(|dump| leaks::embedded(&mut symbolizer, dump, own_crates).unwrap_or_default());
        for _ in 0..2 {
            let [report, before] = &mut reports;
            report.compare_with_baseline(before);
            assert!(report.candidates.iter().all(|candidate| candidate.baseline.is_some()));
            let _ = (report.to_string(), report.to_json());
            reports.reverse();
        }
    }
    Ok(())
}

fn one_line(text: &impl Display) -> String {
    // Line ends in names are replaced where lines are printed.
    text.to_string()
}

fn run(
    mutations: usize,
    seed: u64,
    corpus: &[Snapshot; 2],
    reader: fn(&[u8], &Snapshot) -> Result<(), String>,
) {
    let mut random = Random(seed);
    let texts: Vec<Vec<u8>> = corpus.iter().map(unpacked).collect();
    let values: Vec<Value> =
        texts.iter().map(|text| serde_json::from_slice(text).unwrap()).collect();
    let (mut good, mut slowest) = (0, Duration::ZERO);
    for number in 0..mutations {
        let which = random.below(corpus.len());
        let bytes = match random.below(8) {
            0 => mutated_bytes(packed(&texts[which]), &mut random),
            1 | 2 => packed(&mutated_bytes(texts[which].clone(), &mut random)),
            _ => {
                let mut json = values[which].clone();
                mutated_values(&mut json, &mut random);
                packed(json.to_string().as_bytes())
            }
        };
        let started = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| reader(&bytes, &corpus[1 - which])));
        slowest = slowest.max(started.elapsed());
        match done {
            Ok(Ok(())) => good += 1,
            Ok(Err(line)) => assert_eq!(line.lines().count(), 1, "{line}"),
            Err(_) => {
                let path = std::env::temp_dir().join(format!("heapdrift-mutation-{seed}-{number}"));
                std::fs::write(&path, &bytes).unwrap();
                panic!("mutation {number} of seed {seed}, kept as {}", path.display());
            }
        }
    }
    println!(
        "{mutations} mutations: {good} read, {} refused, slowest {slowest:?}",
        mutations - good
    );
    assert!(good > mutations / 10 && good < mutations * 9 / 10, "{good}: both outcomes must occur");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        println!("{peak}");
        let kilobytes: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(kilobytes < 1 << 20, "{kilobytes}");
    }
}

/// Runs as many mutations as the environment says, or a hundred thousand.
fn many(corpus: &[Snapshot; 2], reader: fn(&[u8], &Snapshot) -> Result<(), String>) {
    let number = |name: &str, other: u64| std::env::var(name).map_or(other, |n| n.parse().unwrap());
    let mutations = number("HEAPDRIFT_MUTATIONS", 100_000) as usize;
    run(mutations, number("HEAPDRIFT_SEED", 2), corpus, reader);
}

#[test]
fn mutated_dumps_are_read_or_refused() {
    run(500, 1, &corpus(), everything);
}

#[test]
fn mutated_baselines_are_read_or_refused() {
    run(500, 1, &baselines(), compared);
}

/// Run it with `cargo test -p heapdrift-tools --test tools -- --ignored mutated`. `HEAPDRIFT_SEED`
/// sets another seed and `HEAPDRIFT_MUTATIONS` another number. With `--release` it is quicker, but
/// overflows of sums are not noticed.
#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_mutated_dumps_are_read_or_refused() {
    many(&corpus(), everything);
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_mutated_baselines_are_read_or_refused() {
    many(&baselines(), compared);
}
