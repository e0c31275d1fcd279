//! Exports have the numbers of the dump and the form of their format. `.ci/readers` checks that
//! other programs can read them.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use heapdrift_tools::pprof::message::{Label, Profile, Sample};
use heapdrift_tools::symbolizer::Options;
use heapdrift_tools::{Symbolizer, pprof};
use prost::Message as _;
use serde_json::Value;

use crate::names::recursive;
use crate::recorded::{Recording, heapdrift, output_of};

/// A dump of two stacks with the same addresses and different labels, and one deeper truncated
/// stack.
fn dump(folder: &Path) -> String {
    let mut recording = Recording::new();
    let stack = recursive(2);
    recording.add(&stack, &[("route", "/api/<upload>")], 5_000_000.0, 1000.0);
    recording.add(&stack, &[], 3_000_000.0, 1000.0);
    recording.add(&recursive(4), &[("route", "/b"), ("tenant", "a;b")], 1_000_000.0, 2000.0);
    recording.snapshot.stacks[2].truncated = true;
    recording.live(0, 4096, 65_536.0, 10_000);
    recording.live(0, 4096, 65_536.0, 20_000);
    recording.live(2, 10, 1.0, 59_000);
    recording.live(2, 20, 1.0, 60_000);
    recording.snapshot.modules[0].start = 0x5555_0000_0000;
    recording.snapshot.modules[0].end = 0x5555_1000_0000;
    recording.snapshot.modules[0].load_bias = 0x5555_0000_0000;
    recording.write(folder, "a.heap.json.gz").to_str().unwrap().to_owned()
}

fn exported(format: &str, dump: &str) -> String {
    output_of(&["export", "--format", format, dump, "-o", "-"])
}

fn pprof(dump: &str) -> Profile {
    let out = Path::new(dump).with_file_name("a.pb.gz");
    output_of(&["export", "--format", "pprof", dump, "-o", out.to_str().unwrap()]);
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(out).unwrap()).read_to_end(&mut bytes).unwrap();
    Profile::decode(&*bytes).unwrap()
}

/// Translates indices of a profile into text.
struct Names<'a>(&'a Profile);

impl Names<'_> {
    fn text(&self, id: i64) -> &str {
        &self.0.string_table[id as usize]
    }

    /// The functions of a sample, innermost first.
    fn functions(&self, sample: &Sample) -> Vec<&str> {
        let locations = sample.location_id.iter().map(|id| &self.0.location[*id as usize - 1]);
        let lines = locations.flat_map(|location| &location.line);
        lines.map(|l| self.text(self.0.function[l.function_id as usize - 1].name)).collect()
    }

    fn labels(&self, sample: &Sample) -> Vec<(&str, String)> {
        let value = |label: &Label| match label.str {
            0 => format!("{} {}", label.num, self.text(label.num_unit)),
            text => self.text(text).to_owned(),
        };
        sample.label.iter().map(|label| (self.text(label.key), value(label))).collect()
    }
}

#[test]
fn pprof_has_the_four_sample_types_in_the_order_of_go() {
    let folder = tempfile::tempdir().unwrap();
    let profile = pprof(&dump(folder.path()));
    let names = Names(&profile);
    let types: Vec<(&str, &str)> =
        profile.sample_type.iter().map(|t| (names.text(t.r#type), names.text(t.unit))).collect();
    assert_eq!(
        types,
        [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes")
        ]
    );
    assert_eq!(names.text(profile.default_sample_type), "inuse_space");
    let period = profile.period_type.unwrap();
    assert_eq!((names.text(period.r#type), names.text(period.unit)), ("space", "bytes"));
    assert_eq!(profile.period, 65_536);
    assert_eq!(profile.time_nanos, 1_800_000_060_000_000_000);
    assert_eq!(profile.duration_nanos, 60_000_000_000);
    let values: Vec<&[i64]> = profile.sample.iter().map(|s| &*s.value).collect();
    assert_eq!(values[0], [100_000, 10_000_000, 50_000, 5_000_000]);
    assert_eq!(values[2], [20_000, 2_000_000, 10_000, 1_000_000]);
    let comments: Vec<&str> = profile.comment.iter().map(|c| names.text(*c)).collect();
    assert!(comments.iter().any(|c| c.contains("live-bytes: 8.6 MiB ± 2.4 KiB")), "{comments:?}");
}

#[test]
fn pprof_has_labels_and_the_object_size_if_there_is_only_one() {
    let folder = tempfile::tempdir().unwrap();
    let profile = pprof(&dump(folder.path()));
    let names = Names(&profile);
    let labels: Vec<_> = profile.sample.iter().map(|sample| names.labels(sample)).collect();
    assert_eq!(labels[0], [("route", "/api/<upload>".into()), ("bytes", "4096 bytes".to_owned())]);
    assert_eq!(labels[1], []);
    assert_eq!(
        labels[2],
        [("route", "/b".into()), ("tenant", "a;b".to_owned())],
        "objects of two sizes"
    );
}

#[test]
fn the_mapping_of_a_missing_binary_is_the_recorded_one() {
    let mut recording = Recording::new();
    recording.add(&[0x3_1234], &[], 1000.0, 1.0);
    let module = &mut recording.snapshot.modules[0];
    (module.path, module.load_bias) = ("/gone/app".into(), 0x5555_0000_0000);
    (module.start, module.end) = (0x5555_0000_0000, 0x5555_0010_0000);
    // lld puts code at a larger offset in memory than in the file.
    (module.code, module.file_offset) = (Some(0x3_1040..0x4_2000), 0x3_0040);
    let mapping = |recording: &Recording| {
        let snapshot = &recording.snapshot;
        let heap = Symbolizer::new(Options::default()).locate(snapshot);
        let [mapping] = &pprof::profile(snapshot, &heap).mapping[..] else { panic!("one module") };
        (mapping.memory_start, mapping.memory_limit, mapping.file_offset)
    };
    let recorded = (0x5555_0003_1000, 0x5555_0004_2000, 0x3_0000);
    assert_eq!(mapping(&recording), recorded);
    // Older dumps do not contain the mapping.
    recording.snapshot.modules[0].code = None;
    assert_eq!(mapping(&recording), (0x5555_0000_0000, 0x5555_0010_0000, 0));
}

#[test]
fn pprof_locations_are_process_addresses_inside_their_mapping() {
    let folder = tempfile::tempdir().unwrap();
    let profile = pprof(&dump(folder.path()));
    let names = Names(&profile);
    let functions = names.functions(&profile.sample[0]);
    assert_eq!(functions[..3], ["tools::names::recursive"; 3]);
    assert!(functions.iter().any(|f| f.ends_with("exports::dump")), "{functions:?}");
    let truncated = names.functions(&profile.sample[2]);
    assert_eq!(truncated.last(), Some(&"[truncated]"));
    let [mapping] = &profile.mapping[..] else { panic!("{:?}", profile.mapping) };
    assert!(names.text(mapping.filename).contains("/tools-"));
    assert_eq!(names.text(mapping.build_id).len(), 40);
    assert!(mapping.has_functions && mapping.has_filenames && mapping.has_line_numbers);
    let elf = fs::read(crate::recorded::executable()).unwrap();
    let elf = object::File::parse(&*elf).unwrap();
    let text = object::Object::section_by_name(&elf, ".text").unwrap();
    let text = object::ObjectSection::address(&text);
    for location in profile.location.iter().filter(|l| l.mapping_id == 1) {
        let range = mapping.memory_start..mapping.memory_limit;
        assert!(location.line.is_empty() || range.contains(&location.address), "{location:?}");
    }
    assert_eq!(mapping.memory_start % 4096, 0);
    assert!((mapping.memory_start..mapping.memory_limit).contains(&(0x5555_0000_0000 + text)));
    let inlined = profile.location.iter().any(|location| location.line.len() > 1);
    assert_eq!(mapping.has_inline_frames, inlined);
    // For musl the standard library is built without optimization, so nothing of it is inlined.
    assert!(inlined || cfg!(target_env = "musl"), "some function is inlined");
}

#[test]
fn pprof_without_names_can_be_symbolized_by_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::new();
    recording.add(&[0x1000, 0x2000], &[], 1000.0, 0.0);
    recording.snapshot.modules[0].path = "/gone/app".into();
    recording.snapshot.modules[0].start = 0x10_0000;
    recording.snapshot.modules[0].end = 0x20_0000;
    recording.snapshot.modules[0].load_bias = 0x10_0000;
    let dump = recording.write(folder.path(), "gone.heap.json.gz");
    let out = folder.path().join("gone.pb");
    let (dump, to) = (dump.to_str().unwrap(), out.to_str().unwrap());
    let ran = heapdrift(["export", "--format", "pprof", dump, "-o", to]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(out).unwrap()).read_to_end(&mut bytes).unwrap();
    let profile = Profile::decode(&*bytes).unwrap();
    let mapping = profile.mapping[0];
    assert_eq!((mapping.memory_start, mapping.memory_limit), (0x10_0000, 0x20_0000));
    assert!(!mapping.has_functions && !mapping.has_filenames && !mapping.has_inline_frames);
    assert!(profile.location.iter().all(|location| location.line.is_empty()));
    assert_eq!(profile.location[0].address, 0x10_1000);
}

#[test]
fn dhat_has_live_as_the_end_and_the_peak_as_the_maximum() {
    let folder = tempfile::tempdir().unwrap();
    let json: Value = serde_json::from_str(&exported("dhat", &dump(folder.path()))).unwrap();
    assert_eq!(json["dhatFileVersion"], 2);
    assert_eq!(json["mode"], "rust-heap");
    assert_eq!(json["bklt"], true);
    assert_eq!(json["bkacc"], false);
    let points = json["pps"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    // The points are in no particular order.
    let of_bytes = |bytes: u64| points.iter().find(|point| point["tb"] == bytes).unwrap();
    let (first, last) = (of_bytes(10_000_000), of_bytes(2_000_000));
    assert_eq!((&first["gb"], &first["eb"]), (&7_500_000.into(), &5_000_000.into()));
    assert_eq!(first["mb"], 7_500_000, "the larger of both is a lower bound");
    // There are two samples of 4 KiB at an interval of 64 KiB, 50 s and 40 s old.
    let weight = 1.0 / (1.0 - (-1.0_f64 / 16.0).exp());
    assert_eq!(first["tl"].as_f64().unwrap(), (weight * 90_000_000.0).round());
    assert_eq!(last["tl"], 1_000_000);
    let frame = |point: &Value, at: usize| {
        json["ftbl"][point["fs"][at].as_u64().unwrap() as usize].as_str().unwrap().to_owned()
    };
    let leaf = frame(first, 0);
    assert!(leaf.starts_with("0x5555"), "{leaf}");
    assert!(leaf.contains(": tools::names::recursive (") && leaf.contains("names.rs:"), "{leaf}");
    let depth = first["fs"].as_array().unwrap().len();
    assert_eq!(frame(first, depth - 1), "route=/api/<upload>");
    let depth = last["fs"].as_array().unwrap().len();
    assert_eq!(frame(last, depth - 1), "route=/b", "the first label is next to the root");
    assert_eq!(frame(last, depth - 3), "[truncated]");
}

#[test]
fn speedscope_has_a_profile_for_each_metric_root_first() {
    let folder = tempfile::tempdir().unwrap();
    let json: Value = serde_json::from_str(&exported("speedscope", &dump(folder.path()))).unwrap();
    let profiles = json["profiles"].as_array().unwrap();
    let ends: Vec<&Value> = profiles.iter().map(|p| &p["endValue"]).collect();
    assert_eq!(ends, [9_000_000, 90_000, 18_000_000, 180_000, 13_500_000]);
    assert_eq!(profiles[0]["unit"], "bytes");
    assert_eq!(profiles[1]["unit"], "none");
    let name = |index: &Value| &json["shared"]["frames"][index.as_u64().unwrap() as usize]["name"];
    let stack = profiles[0]["samples"][0].as_array().unwrap();
    assert_eq!(name(&stack[0]), "route=/api/<upload>");
    assert_eq!(name(&stack[stack.len() - 1]), "tools::names::recursive");
    assert_eq!(profiles[0]["weights"][0], 5_000_000);
}

#[test]
fn jeprof_has_symbols_stacks_and_libraries() {
    let folder = tempfile::tempdir().unwrap();
    let text = exported("jeprof", &dump(folder.path()));
    let (symbols, rest) = text.split_once("\n---\n").unwrap();
    let (stacks, libraries) = rest.split_once("\nMAPPED_LIBRARIES:\n").unwrap();
    let mut symbols = symbols.lines();
    assert_eq!(symbols.next(), Some("--- symbol"));
    assert!(symbols.next().unwrap().starts_with("binary=/"));
    let names: HashMap<u64, &str> = symbols
        .map(|line| line.split_once(' ').unwrap())
        .map(|(address, name)| (u64::from_str_radix(&address[2..], 16).unwrap(), name))
        .collect();
    let mut stacks = stacks.lines();
    assert_eq!(
        stacks.next(),
        Some("heap profile: 90000: 9000000 [180000: 18000000] @ heap_v2/1"),
        "objects of 100 bytes are not scaled"
    );
    let first = stacks.next().unwrap();
    let (counts, addresses) = first.split_once(" @ ").unwrap();
    assert_eq!(
        counts, "80000: 8000000 [160000: 16000000]",
        "stacks that differ in labels are added up"
    );
    let addresses: Vec<u64> = addresses
        .split(' ')
        .map(|address| u64::from_str_radix(&address[2..], 16).unwrap())
        .collect();
    assert!(names[&addresses[0]].starts_with("tools::names::recursive"));
    // Readers subtract one from the address of a caller.
    assert!(names[&(addresses[1] - 1)].starts_with("tools::names::recursive"));
    assert!(addresses.iter().skip(1).all(|address| names.contains_key(&(address - 1))));
    assert_eq!(stacks.filter(|line| !line.is_empty()).count(), 1);
    assert_eq!(libraries.lines().count(), 1);
    assert!(libraries.starts_with("5555") && libraries.contains(" r-xp "), "{libraries}");
}

#[test]
fn an_option_that_a_format_cannot_honour_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let dump = dump(folder.path());
    let ran =
        heapdrift(["export", "--format", "pprof", "--metric", "peak-bytes", &dump, "-o", "-"]);
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("--metric"), "{}", ran.err);
}
