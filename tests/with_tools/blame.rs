//! Blame: whose code allocated, found in a recording of this very program.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

use common::{live_labelled, one_at_a_time};
use heapdrift::blame::{Blame, Frame, Kind, Packages, blame};
use heapdrift::names::machinery;
use heapdrift::{Alloc, Profiler, Snapshot, with_labels};
use heapdrift_tools::{Symbolizer, packages, symbolizer};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// A snapshot of what `allocate` allocated, recorded exactly.
fn recorded<T>(allocate: impl FnOnce() -> T) -> Snapshot {
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let kept = with_labels(&[("site", "here")], allocate);
    let snapshot = profiler.snapshot();
    drop(kept);
    snapshot
}

/// The blame for the live blocks labelled `site=here`, and their stacks.
fn blamed(snapshot: &Snapshot, own_crates: &[&str]) -> (Vec<Blame>, Vec<Vec<Frame>>, Packages) {
    let mut symbolizer = Symbolizer::new(symbolizer::Options::default());
    let packages = packages::of_dump(&mut symbolizer, snapshot, own_crates.iter().copied());
    let heap = symbolizer.symbolize(snapshot);
    let stacks: Vec<Vec<Frame>> = live_labelled(snapshot, "site", "here")
        .iter()
        .map(|sample| {
            let frames = &heap.stacks[sample.stack as usize].frames;
            frames.iter().map(|f| packages::frame(&packages, &heap.frames[*f as usize])).collect()
        })
        .collect();
    assert!(!stacks.is_empty(), "something was allocated");
    (stacks.iter().map(|stack| blame(stack, &packages)).collect(), stacks, packages)
}

#[test]
fn memory_allocated_in_this_file_is_blamed_on_this_crate() {
    let _guard = one_at_a_time();
    let line = line!() + 1;
    let snapshot = recorded(|| Vec::<u8>::with_capacity(777));
    let (blames, ..) = blamed(&snapshot, &[]);
    assert_eq!(blames[0].crate_name.as_deref(), Some("blame"));
    assert_eq!(blames[0].kind, Kind::Own);
    let own = blames[0].own_frame.as_ref().unwrap();
    assert!(own.own);
    assert_eq!(own.file.as_deref(), Some("tests/with_tools/blame.rs"));
    assert_eq!(own.line, Some(line));
}

#[test]
fn memory_allocated_by_a_dependency_is_blamed_on_it_and_shows_the_line_that_called_it() {
    let _guard = one_at_a_time();
    let line = line!() + 1;
    let snapshot = recorded(|| anyhow::Error::msg("text"));
    let (blames, stacks, _) = blamed(&snapshot, &[]);
    assert_eq!(blames[0].crate_name.as_deref(), Some("anyhow"), "{stacks:#?}");
    assert_eq!(blames[0].kind, Kind::Dependency);
    assert!(blames[0].version.as_deref().is_some_and(|version| version.starts_with("1.0.")));
    let own = blames[0].own_frame.as_ref().unwrap();
    assert_eq!((own.file.as_deref(), own.line), (Some("tests/with_tools/blame.rs"), Some(line)));
}

#[test]
fn a_crate_listed_as_own_counts_as_own() {
    let _guard = one_at_a_time();
    let snapshot = recorded(|| anyhow::Error::msg("text"));
    let (blames, ..) = blamed(&snapshot, &["anyhow"]);
    assert_eq!((blames[0].crate_name.as_deref(), blames[0].kind), (Some("anyhow"), Kind::Own));
    let own = blames[0].own_frame.as_ref().unwrap();
    assert_eq!(own.crate_name.as_deref(), Some("anyhow"));
}

#[test]
fn memory_allocated_by_std_is_blamed_on_its_caller() {
    let _guard = one_at_a_time();
    let snapshot = recorded(|| std::fs::read("Cargo.toml").unwrap());
    let (blames, stacks, packages) = blamed(&snapshot, &[]);
    assert_eq!(blames[0].kind, Kind::Own);
    let std = stacks[0].iter().find(|frame| frame.function.starts_with("std::fs::read")).unwrap();
    assert_eq!(packages.package_of(std).kind, Kind::Std);
    assert!(!std.own);
    assert_eq!(machinery::role(&std.function), machinery::Role::Std);
}
