//! The dump reader trusts nothing: it refuses damaged, foreign and oversized files, and says why.
#![cfg(all(feature = "profiling", unix))]

mod common;
#[path = "common/encoded.rs"]
mod encoded;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::{blocks, exact, in_child, is_child, one_at_a_time};
use encoded::bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use heapdrift::dump::{self, ReadError};
use heapdrift::{Alloc, Snapshot};
use serde_json::{Value, json};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// A small session: its snapshot, the bytes of its dump and the JSON document in them.
fn sample_dump() -> (Snapshot, Vec<u8>, Value) {
    let profiler = exact().start().unwrap();
    let kept = blocks();
    let snapshot = profiler.snapshot();
    drop(kept);
    drop(profiler);
    let bytes = bytes(&snapshot);
    let json = serde_json::from_reader(MultiGzDecoder::new(&bytes[..])).unwrap();
    (snapshot, bytes, json)
}

/// Writes the bytes to a file and reads it with `dump::read`.
fn read(bytes: &[u8]) -> Result<Snapshot, ReadError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let result = dump::read(file.path());
    if let Err(error) = &result {
        let message = error.to_string();
        assert!(!message.is_empty() && !message.contains('\n'), "one line: {message}");
    }
    result
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn truncated_dumps_are_refused() {
    let _one = one_at_a_time();
    let (snapshot, bytes, _) = sample_dump();
    assert_eq!(read(&bytes).unwrap(), snapshot);
    for len in (0..bytes.len()).step_by(97).chain(bytes.len() - 12..bytes.len()) {
        assert!(read(&bytes[..len]).is_err(), "the first {len} bytes of {}", bytes.len());
    }
}

/// Xorshift with a fixed seed, so that the damage is the same in every run.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

#[test]
fn flipped_bits_are_detected_or_harmless() {
    let _one = one_at_a_time();
    let (snapshot, bytes, json) = sample_dump();
    let mut state = 0x1234_5678_9ABC_DEF1;
    // In the file, gzip's checksum detects a flipped bit, except for header bits without a meaning.
    let mut refused = 0;
    for _ in 0..1000 {
        let mut bytes = bytes.clone();
        let bit = random(&mut state) % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        match read(&bytes) {
            Ok(read) => assert_eq!(read, snapshot),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 950, "{refused}");
    // In the document, before it is compressed, no checksum helps: what is accepted is consistent.
    let json = serde_json::to_vec(&json).unwrap();
    for _ in 0..1000 {
        let mut json = json.clone();
        let bit = random(&mut state) % (json.len() * 8);
        json[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = read(&gzip(&json)) {
            read.validate().unwrap();
        }
    }
}

#[test]
fn other_files_are_refused_with_the_reason() {
    let _one = one_at_a_time();
    let (_, _, json) = sample_dump();
    let refused = |bytes: &[u8]| read(bytes).unwrap_err();
    assert!(matches!(refused(b""), ReadError::NotGzip(_)));
    assert!(matches!(refused(b"{\"format\": \"heapdrift\"}"), ReadError::NotGzip(_)));
    assert!(matches!(refused(&gzip(b"")), ReadError::NotJson(_)));
    assert!(matches!(refused(&gzip(b"not JSON")), ReadError::NotJson(_)));
    assert!(matches!(refused(&gzip(b"\xff\xfe\0\0")), ReadError::NotJson(_)));
    // serde also reads a struct from an array, whose first element is the format: here 1.
    assert!(matches!(refused(&gzip(b"[1, 2]")), ReadError::OtherFormat(_)));
    assert!(matches!(refused(&gzip(b"{}")), ReadError::OtherFormat(None)));
    let other = refused(&gzip(br#"{"format": "pprof", "version": 1}"#));
    assert!(matches!(&other, ReadError::OtherFormat(Some(name)) if name == "pprof"), "{other}");
    assert!(matches!(refused(&gzip(&[b'['; 100_000])), ReadError::NotJson(_)));
    let nested = format!("{{\"format\": {}", "[".repeat(1 << 20));
    assert!(matches!(refused(&gzip(nested.as_bytes())), ReadError::NotJson(_)));
    // A newer version may have other fields.
    let newer = refused(&gzip(br#"{"format": "heapdrift", "version": 2, "new": []}"#));
    assert!(matches!(newer, ReadError::NewerVersion(2)), "{newer}");
    assert!(newer.to_string().contains("newer heapdrift"), "{newer}");
    let mut newer = json.clone();
    newer["version"] = json!(7);
    let newer = refused(&gzip(newer.to_string().as_bytes()));
    assert!(matches!(newer, ReadError::NewerVersion(7)), "{newer}");
    // Unknown fields of this version are ignored.
    let mut more = json;
    more["more"] = json!({"of": ["the", "same"]});
    read(&gzip(more.to_string().as_bytes())).unwrap();
    // Fields that older dumps lack may be missing.
    more["process"].as_object_mut().unwrap().remove("host");
    more["modules"][0].as_object_mut().unwrap().remove("code");
    let older = read(&gzip(more.to_string().as_bytes())).unwrap();
    assert_eq!((older.process.host.as_str(), &older.modules[0].code), ("", &None));
    let missing = dump::read(Path::new("/nonexistent/x.heap.json.gz")).unwrap_err();
    assert!(matches!(missing, ReadError::Io(_)), "{missing}");
}

#[test]
fn indices_and_numbers_out_of_range_are_refused() {
    let _one = one_at_a_time();
    let (_, _, json) = sample_dump();
    for (pointer, bad) in [
        ("/frames/module/0", json!(1_000_000)),
        ("/frames/module/0", json!(-1)),
        ("/frames/module/0", json!(u64::MAX)),
        ("/stacks/0/frames/0", json!(1_000_000)),
        ("/stacks/0/labels", json!(99)),
        ("/live/stack/0", json!(1_000_000)),
        ("/live/interval/0", json!(0.5)),
        ("/live/interval/0", json!(-1)),
        ("/live/interval/0", json!(1e300)),
        ("/live/size/0", json!("12")),
        ("/live/size", json!([])),
        ("/frames/address", json!([1])),
        ("/stacks/0/metrics/live_bytes/std_error", json!(-1)),
        ("/totals/live_bytes/value", json!(null)),
        ("/version", json!(0)),
        ("/version", json!("1")),
        ("/version", json!(null)),
        ("/stacks", json!({})),
    ] {
        let mut json = json.clone();
        *json.pointer_mut(pointer).expect(pointer) = bad.clone();
        assert!(read(&gzip(json.to_string().as_bytes())).is_err(), "{pointer} = {bad}");
    }
}

/// The peak resident memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn high_water_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Two MiB of gzip unpack to two GiB; the reader gives up early and needs little memory.
#[test]
#[cfg(target_os = "linux")]
fn gzip_bombs_are_refused_in_little_memory() {
    const NAME: &str = "gzip_bombs_are_refused_in_little_memory";
    if !is_child() {
        in_child(NAME, &[]);
        return;
    }
    // gzip members may be concatenated, so one compressed MiB is repeated instead of packing 2 GiB.
    let bomb = |before: &[u8], byte: u8| {
        let member = gzip(&vec![byte; 1 << 20]);
        let mut bomb = gzip(before);
        (0..2048).for_each(|_| bomb.extend_from_slice(&member));
        bomb
    };
    let zeros = bomb(b"", 0);
    let spaces = bomb(b"{", b' ');
    let before = high_water_kib();
    assert!(matches!(read(&zeros), Err(ReadError::NotJson(_))));
    let spaces = read(&spaces).unwrap_err();
    assert!(matches!(spaces, ReadError::TooLarge), "{spaces}");
    let grown = high_water_kib() - before;
    assert!(grown < 8 << 10, "{grown} KiB");
    if cfg!(debug_assertions) {
        // The rest takes another ten seconds: unoptimised serde_json needs 60 ns per byte.
        return;
    }
    // The reader holds one string up to its limit, and its old buffer while it doubles: not 2 GiB.
    let name = read(&bomb(br#"{"unwinder": ""#, b'x')).unwrap_err();
    assert!(matches!(name, ReadError::TooLarge), "{name}");
    let grown = high_water_kib() - before;
    assert!(grown < 512 << 10, "{grown} KiB");
}
