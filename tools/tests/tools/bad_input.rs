//! A damaged or foreign file ends in status 2 and one line that names it, without a panic and
//! without much time or memory.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::names::recursive;
use crate::recorded::{Ran, Recording, heapdrift, ran};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn good(folder: &Path) -> (PathBuf, Value) {
    let mut recording = Recording::new();
    recording.add(&recursive(2), &[("a", "b")], 1000.0, 1.0);
    let path = recording.write(folder, "good.heap.json.gz");
    let mut json = String::new();
    let file = fs::File::open(&path).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut json).unwrap();
    (path, serde_json::from_str(&json).unwrap())
}

/// Runs every command on `path`.
fn each_command(path: &Path) -> Vec<Ran> {
    let path = path.to_str().unwrap();
    let export = |format, to| heapdrift(["export", "--format", format, path, "-o", to]);
    vec![
        heapdrift(["info", path]),
        heapdrift(["top", path]),
        heapdrift(["top", "--json", "--by", "stack", path]),
        heapdrift(["flamegraph", path, "-o", "-"]),
        heapdrift(["flamegraph", path, "--diff", path, "-o", "-"]),
        heapdrift(["diff", path, path]),
        export("folded", "-"),
        export("dhat", "-"),
        export("speedscope", "-"),
        export("jeprof", "-"),
        // The pprof format is binary, so it cannot be captured as text.
        export("pprof", "/dev/null"),
        heapdrift(["symbolize", path, "-o", "/dev/null"]),
        heapdrift(["merge", path, "-o", "/dev/null"]),
    ]
}

fn refused(path: &Path, expected: &str) {
    let leaks = heapdrift(["leaks".as_ref(), path]);
    let series = heapdrift(["leaks".as_ref(), path, path]);
    for ran in each_command(path).into_iter().chain([leaks, series]) {
        assert_eq!(ran.status, 2, "{}", ran.err);
        assert_eq!(ran.out, "");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        let named = ran.err.contains(path.to_str().unwrap());
        assert!(named && ran.err.contains(expected), "expected {expected:?} in {}", ran.err);
    }
}

#[test]
fn a_file_that_is_not_a_dump_is_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let (good, json) = good(folder.path());
    let good = fs::read(good).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    refused(&folder.path().join("missing"), "No such file");
    refused(folder.path(), "directory");
    refused(&file("empty", b""), "expected");
    refused(&file("truncated", &good[..good.len() / 2]), "expected a heapdrift dump (gzip)");
    refused(&file("no-end", &good[..good.len() - 4]), "expected a heapdrift dump (gzip)");
    refused(&file("text", b"hello, this is text\n"), "expected a heapdrift dump (gzip)");
    refused(&file("elf", &fs::read("/proc/self/exe").unwrap()[..4096]), "gzip");
    refused(&file("zeros", &gzip(&[0; 4096])), "expected the JSON of a heapdrift dump");
    refused(&file("array", &gzip(b"[1, 2, 3]")), "expected the JSON of a heapdrift dump");
    refused(&file("nested", &gzip("[".repeat(1 << 20).as_bytes())), "expected the JSON");
    refused(&file("other", &gzip(br#"{"format": "pprof"}"#)), "found \"pprof\"");
    let line = gzip(br#"{"format": "two\nlines \u001b[31m"}"#);
    refused(&file("control", &line), "expected \"format\": \"heapdrift\"");
    refused(&file("newer", &gzip(br#"{"format": "heapdrift", "version": 2}"#)), "version 2");
    let with = |name: &str, pointer: &str, value: Value| {
        let mut json = json.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        file(name, &gzip(json.to_string().as_bytes()))
    };
    refused(
        &with("frame", "/stacks/0/frames/0", json!(4_000_000_000_u32)),
        "expected stacks.frames",
    );
    refused(&with("module", "/frames/module/0", json!(7)), "expected frames.module below 1");
    refused(&with("labels", "/stacks/0/labels", json!(9)), "expected stacks.labels");
    refused(&with("negative", "/stacks/0/labels", json!(-1)), "expected the JSON");
    refused(&with("columns", "/frames/address", json!([1])), "of equal length");
    refused(&with("functions", "/frames/function", json!([1])), "of equal length");
    refused(&with("error", "/totals/live_bytes/std_error", json!(-1)), "damaged dump");
    refused(&with("type", "/stacks", json!("none")), "expected the JSON");
    refused(&with("lines", "/stacks", json!("\u{1b}two\nlines")), "expected the JSON");
    let frames = json["frames"]["address"].as_array().unwrap().len();
    let symbols = |count: u32, function: u32| {
        let mut frames = json["frames"].clone();
        let counts = vec![count; frames["address"].as_array().unwrap().len()];
        frames["symbols"] = json!({
            "count": counts,
            "function": vec![function; frames["address"].as_array().unwrap().len()],
            "functions": [{"name": "f", "crate_name": "c"}],
        });
        frames
    };
    refused(&with("sum", "/frames", symbols(2, 0)), "expected symbols.function of length");
    refused(&with("sums", "/frames", symbols(u32::MAX, 0)), "expected symbols.function of length");
    refused(&with("function", "/frames", symbols(1, 1)), "expected symbols.function below 1");
    let mut short = symbols(1, 0);
    short["symbols"]["count"] = json!([frames]);
    refused(&with("short", "/frames", short), "of equal length");
}

#[test]
fn a_gzip_bomb_is_refused_in_little_memory_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&gzip(b"{\"format\": \"heapdrift\", \"x\": ")).unwrap();
    // gzip files can be concatenated: this is 8 GiB in 8 MB.
    let member = gzip(&vec![b' '; 8 << 20]);
    for _ in 0..1024 {
        file.write_all(&member).unwrap();
    }
    drop(file);
    let start = Instant::now();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 400000; exec \"$0\" info \"$1\"", env!("CARGO_BIN_EXE_heapdrift")])
        .arg(&path)
        .output()
        .unwrap();
    let ran = ran(output);
    assert_eq!(ran.status, 2, "{}", ran.err);
    assert!(ran.err.contains("expected at most 96 MiB unpacked"), "{}", ran.err);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn absurd_numbers_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut json) = good(folder.path());
    for name in ["live_bytes", "live_count", "alloc_bytes", "peak_bytes"] {
        json["stacks"][0]["metrics"][name] = json!({"value": 1e308, "std_error": 1e308});
        json["totals"][name] = json!({"value": -1e308, "std_error": 1e308});
    }
    let twin = json["stacks"][0].clone();
    json["stacks"].as_array_mut().unwrap().push(twin);
    json["taken"]["unix_ms"] = json!(u64::MAX);
    json["taken"]["uptime_ms"] = json!(u64::MAX);
    json["sampling"]["interval_bytes"] = json!(-1.0);
    json["stats"]["dropped_slots"] = json!(u64::MAX);
    json["stats"]["dropped_stacks"] = json!(u64::MAX);
    fs::write(&path, gzip(json.to_string().as_bytes())).unwrap();
    for ran in each_command(&path) {
        assert_eq!(ran.status, 0, "{}", ran.err);
    }
}

#[test]
fn an_absurdly_deep_stack_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::new();
    let frame = recording.frame(0, 1);
    recording.add_frames(vec![frame; 1_000_000], &[], 1.0, 0.0);
    let path = recording.write(folder.path(), "deep.heap.json.gz");
    for ran in each_command(&path) {
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(ran.out.len() < 8 << 20, "{}", ran.out.len());
    }
}

#[test]
fn unused_label_sets_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut json) = good(folder.path());
    let mut sets = vec![json!({}); 1_000_000];
    sets[999_999] = json!({"a": "b"});
    json["label_sets"] = sets.into();
    json["stacks"][0]["labels"] = json!(999_999);
    fs::write(&path, gzip(json.to_string().as_bytes())).unwrap();
    let snapshot = heapdrift::dump::read(&path).unwrap();
    let options = heapdrift_tools::symbolizer::Options::default();
    let heap = heapdrift_tools::Symbolizer::new(options).symbolize(&snapshot);
    assert_eq!(heap.label_sets.len(), 1);
    assert_eq!(heap.label_sets[heap.stacks[0].labels as usize]["a"], "b");
}

#[test]
fn text_from_a_dump_cannot_send_escape_sequences_to_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::new();
    recording.snapshot.process.executable = "/bin/\x1b[2Jevil\nsecond".into();
    recording.snapshot.modules[0].path = "/bin/\x1b]0;evil\x07".into();
    recording.add(&[1], &[("k", "\x1b[31mred\nline")], 1.0, 0.0);
    let path = recording.write(folder.path(), "evil.heap.json.gz");
    let path = path.to_str().unwrap();
    let by_label = heapdrift(["top", "--by", "label:k", path]);
    for ran in each_command(Path::new(path)).into_iter().chain([by_label]) {
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(!ran.out.contains(['\x1b', '\x07']), "{:?}", ran.out);
        assert!(!ran.err.contains(['\x1b', '\x07']), "{:?}", ran.err);
    }
}
