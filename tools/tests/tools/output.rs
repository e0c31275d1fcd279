//! What the commands print and write.

use std::fs;
use std::process::Stdio;

use crate::names::recursive;
use crate::recorded::{Recording, command, heapdrift, output_of, ran};

fn recording() -> Recording {
    let mut recording = Recording::new();
    recording.add(&recursive(2), &[("route", "/api/<upload>")], 5_000_000.0, 1000.0);
    recording.add(&recursive(4), &[], 1_000_000.0, 2000.0);
    recording.snapshot.stats.dropped_slots = 3;
    recording.snapshot.sampling.initial_interval_bytes = 4096.0;
    recording
}

/// The path of a dump of [`recording`] in `folder`.
fn dump(folder: &tempfile::TempDir) -> String {
    recording().write(folder.path(), "a.heap.json.gz").to_str().unwrap().to_owned()
}

#[test]
fn info_has_the_fixed_fields_and_names_each_loss() {
    let folder = tempfile::tempdir().unwrap();
    let dump = dump(&folder);
    let json: serde_json::Value =
        serde_json::from_str(&output_of(&["info", "--json", &dump])).unwrap();
    assert_eq!(json["interval_bytes"], 65_536.0);
    assert_eq!(json["samples"], 2);
    assert_eq!(json["dropped"], 3);
    assert_eq!(json["unwinder"], "framehop");
    assert_eq!(json["live_bytes"]["value"], 6_000_000);
    assert_eq!(json["live_count"]["value"], 60_000);
    assert_eq!(json["peak_bytes"]["value"], 9_000_000);
    assert!(json["live_bytes"]["std_error"].as_f64().unwrap() > 2000.0);
    assert_eq!(json["build_id"].as_str().unwrap().len(), 40);
    assert!(json["binary"].as_str().unwrap().contains("tools-"));
    let text = output_of(&["info", &dump]);
    for expected in [
        "64.0 KiB now, 4.0 KiB at the start",
        "5.7 MiB ± 2.2 KiB",
        "dropped_slots 3: samples were lost",
        "2027-01-15 08:01:00 UTC, dump 1",
    ] {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
    assert!(!text.contains("dropped_stacks"), "counters that are 0 are not mentioned");
}

#[test]
fn top_prints_all_rows_as_json_and_the_first_as_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let dump = dump(&folder);
    let json: serde_json::Value =
        serde_json::from_str(&output_of(&["top", "--json", &dump])).unwrap();
    assert_eq!(json["metric"], "live-bytes");
    assert_eq!(json["rows"][0]["name"], "tools::names::recursive");
    assert_eq!(json["rows"][0]["self"]["value"], 6_000_000);
    assert_eq!(json["rows"][0]["total"]["value"], 6_000_000);
    let text = output_of(&["top", "-n", "1", "--by", "label:route", &dump]);
    assert!(text.contains("/api/<upload>") && text.contains("… and 1 more"), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn the_flamegraph_is_xml_with_a_frame_for_each_function_and_label() {
    let folder = tempfile::tempdir().unwrap();
    let (dump, svg) = (dump(&folder), folder.path().join("out.svg"));
    let printed = output_of(&["flamegraph", &dump, "-o", svg.to_str().unwrap()]);
    assert_eq!(printed, format!("{}\n", svg.display()));
    let text = fs::read_to_string(&svg).unwrap();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&text, options).unwrap();
    let titles: Vec<&str> = document
        .descendants()
        .filter(|node| node.has_tag_name("title"))
        .filter_map(|node| node.text())
        .collect();
    assert!(
        titles.contains(&"route=/api/<upload> (5,000,000 ± 1,000 bytes, 83.33%)"),
        "{titles:?}"
    );
    let recursive = titles.iter().filter(|t| t.starts_with("tools::names::recursive (")).count();
    assert_eq!(recursive, 3 + 5);
    assert!(titles.iter().any(|t| t.starts_with("all (6,000,000 ± 2,236 bytes")), "{titles:?}");
    assert!(text.contains("5.7 MiB ± 2.2 KiB"), "the subtitle has the total");
}

#[test]
fn the_flamegraph_of_an_empty_heap_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let dump = Recording::new().write(folder.path(), "empty.heap.json.gz");
    let svg = output_of(&["flamegraph", dump.to_str().unwrap(), "-o", "-"]);
    assert!(roxmltree::Document::parse(&svg).is_ok());
    assert!(svg.contains("nothing was recorded"));
    for command in ["top", "info"] {
        output_of(&[command, dump.to_str().unwrap()]);
    }
}

#[test]
fn the_flamegraph_adds_up_processes_and_uses_the_last_dump_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::new();
    recording.add(&recursive(1), &[], 100.0, 0.0);
    let first = recording.write(folder.path(), "1.heap.json.gz");
    recording.add(&recursive(2), &[], 10.0, 0.0);
    recording.snapshot.taken.sequence = 2;
    let second = recording.write(folder.path(), "2.heap.json.gz");
    recording.snapshot.process.session = 2;
    let other = recording.write(folder.path(), "3.heap.json.gz");
    let total = |dumps: &[&std::path::PathBuf]| {
        let mut args = vec!["flamegraph", "-o", "-"];
        args.extend(dumps.iter().map(|path| path.to_str().unwrap()));
        let svg = output_of(&args);
        svg.split("total_samples=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    assert_eq!(total(&[&second, &first]), "110");
    assert_eq!(total(&[&first, &second, &other]), "220");
}

#[test]
fn a_folded_file_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (dump, out) = (dump(&folder), folder.path().join("a.folded"));
    let export = |out: &str| heapdrift(["export", "--format", "folded", &dump, "-o", out]);
    let ran = export(out.to_str().unwrap());
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let folded = fs::read_to_string(&out).unwrap();
    assert_eq!(folded, export("-").out);
    assert_eq!(folded.lines().count(), 2);
    assert!(folded.contains("route=/api/<upload>;"));
    let ran = export(folder.path().to_str().unwrap());
    assert_eq!(ran.status, 2);
    assert_eq!(ran.err.lines().count(), 1);
    assert!(ran.err.contains("found a directory"), "{}", ran.err);
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let dump = dump(&folder);
    for args in
        [["top", "--by", "stack"], ["info", "--json", "--full-stacks"], ["top", "-n0", "--json"]]
    {
        let mut child = command()
            .args(args)
            .arg(&dump)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran = ran(child.wait_with_output().unwrap());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output_of(&["completions", shell]);
        for command in [
            "info",
            "top",
            "flamegraph",
            "diff",
            "report",
            "export",
            "merge",
            "symbolize",
            "completions",
        ] {
            assert!(script.contains(command), "{command} in {shell}");
        }
    }
    let ran = heapdrift(["completions", "cmd.exe"]);
    assert_eq!((ran.status, ran.err.lines().count()), (2, 1));
    if let Ok(bash) = std::process::Command::new("bash")
        .args(["-n", "-c"])
        .arg(output_of(&["completions", "bash"]))
        .output()
    {
        assert!(bash.status.success(), "{bash:?}");
    }
}

#[test]
fn standard_input_twice_is_refused() {
    for args in [
        &["diff", "-", "-"][..],
        &["merge", "-", "-", "-o", "x"],
        &["flamegraph", "-", "--diff", "-", "-o", "x"],
    ] {
        let ran = heapdrift(args);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains("standard input"), "{}", ran.err);
    }
}

#[test]
fn bad_usage_is_one_line_and_status_2() {
    for args in [
        &["top"][..],
        &["top", "x", "--by", "colour"],
        &["top", "x", "--by", "label:"],
        &["top", "x", "--metric", "dead-bytes"],
        &["flamegraph", "-o", "x.svg"],
        &["flamegraph", "x"],
        &["report", "x"],
        &["export", "x", "--format", "xml", "-o", "y"],
        &["diff", "a"],
        &["diff", "a", "b", "--fail-over", "10MiB"],
        &["diff", "a", "b", "--fail-over", "1MiB/h", "--metric", "live-count"],
    ] {
        let ran = heapdrift(args);
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{args:?}");
        assert_eq!(ran.err.lines().count(), 1, "{args:?}: {}", ran.err);
    }
}
