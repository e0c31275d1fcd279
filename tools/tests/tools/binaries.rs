//! A file is used if and only if its build-id is the recorded one.

use std::fs;
use std::path::Path;

use crate::names::recursive;
use crate::recorded::{Recording, executable, heapdrift};

/// A dump whose program is not at the recorded path.
fn moved(folder: &Path) -> Recording {
    let mut recording = Recording::new();
    recording.add(&recursive(2), &[], 1000.0, 0.0);
    recording.snapshot.modules[0].path = folder.join("gone/tools").to_str().unwrap().to_owned();
    recording
}

#[test]
fn without_its_binary_a_dump_has_addresses_and_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let dump = moved(folder.path()).write(folder.path(), "a.heap.json.gz");
    let ran = heapdrift(["top".as_ref(), dump.as_os_str()]);
    assert_eq!(ran.status, 0);
    assert!(ran.out.contains("  tools+0x"), "{}", ran.out);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    for expected in ["warning: ", "gone/tools: expected build-id ", "found no such file"] {
        assert!(ran.err.contains(expected), "{expected:?} in {}", ran.err);
    }
}

#[test]
fn a_binary_with_the_right_build_id_is_used_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let recording = moved(folder.path());
    let id = recording.snapshot.modules[0].build_id.clone();
    let dump = recording.write(folder.path(), "a.heap.json.gz");
    let by_id = folder.path().join("debug/.build-id").join(&id[..2]);
    fs::create_dir_all(&by_id).unwrap();
    std::os::unix::fs::symlink(executable(), by_id.join(format!("{}.debug", &id[2..]))).unwrap();
    let (program, debug) = (executable(), folder.path().join("debug"));
    for option in
        [["--binary", program.to_str().unwrap()], ["--debug-dir", debug.to_str().unwrap()]]
    {
        let ran = heapdrift(["top", dump.to_str().unwrap(), option[0], option[1]]);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{option:?}");
        assert!(ran.out.contains("tools::names::recursive"), "{option:?}: {}", ran.out);
    }
}

#[test]
fn a_binary_with_another_build_id_is_named_and_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = moved(folder.path());
    recording.snapshot.modules[0].path = executable().to_str().unwrap().to_owned();
    recording.snapshot.modules[0].build_id = "00".repeat(20);
    let dump = recording.write(folder.path(), "a.heap.json.gz");
    let other = env!("CARGO_BIN_EXE_heapdrift");
    let ran = heapdrift(["top", dump.to_str().unwrap(), "--binary", other]);
    assert_eq!(ran.status, 0);
    assert!(!ran.out.contains("tools::names::recursive"), "{}", ran.out);
    assert_eq!(ran.err.lines().count(), 2, "the recorded file and the given one: {}", ran.err);
    for line in ran.err.lines() {
        assert!(line.contains(&format!("expected build-id {}, found ", "00".repeat(20))), "{line}");
    }
    let info = heapdrift(["info", dump.to_str().unwrap()]);
    assert!(info.out.contains("0 found of 1"), "{}", info.out);
}

#[test]
fn a_module_without_a_build_id_gets_a_hint_and_no_wrong_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = moved(folder.path());
    recording.snapshot.modules[0].path = executable().to_str().unwrap().to_owned();
    recording.snapshot.modules[0].build_id.clear();
    let dump = recording.write(folder.path(), "a.heap.json.gz");
    let ran = heapdrift(["top", dump.to_str().unwrap()]);
    assert!(ran.err.contains("-C link-arg=-Wl,--build-id"), "{}", ran.err);
    assert!(
        !ran.out.contains("tools::names::recursive"),
        "this file has a build-id, so it is another build"
    );
}

#[test]
fn devices_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = moved(folder.path());
    recording.snapshot.modules[0].path = "/dev/tty".into();
    let dump = recording.write(folder.path(), "a.heap.json.gz");
    let ran = heapdrift(["top", dump.to_str().unwrap(), "--binary", "/dev/zero"]);
    assert_eq!(ran.status, 0);
    assert!(ran.err.contains("not a regular file"), "{}", ran.err);
}
