//! Tables and folded stacks have the numbers of the dump.

use heapdrift::Estimate;
use heapdrift_tools::symbolizer::Options;
use heapdrift_tools::{By, Metric, Symbolized, Symbolizer, fold, top};

use crate::names::recursive;
use crate::recorded::Recording;

/// A stack: its functions, innermost first, its labels, its live bytes and their error.
type Given<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], f64, f64);

/// A heap with stacks of the given names, which are not looked up.
fn heap(stacks: &[Given<'_>]) -> Symbolized {
    let mut recording = Recording::new();
    for (names, labels, bytes, error) in stacks {
        recording.add_frames((0..names.len() as u32).collect(), labels, *bytes, *error);
    }
    recording.snapshot.frames.module = vec![0; 16];
    recording.snapshot.frames.address = (0..16).collect();
    recording.snapshot.modules[0].path = "[unknown]".into();
    let mut heap = Symbolizer::new(Options::default()).symbolize(&recording.snapshot);
    heap.frames.clear();
    for (stack, (names, ..)) in heap.stacks.iter_mut().zip(stacks) {
        stack.frames.clear();
        for name in *names {
            let known = heap.frames.iter().position(|frame| frame.function == *name);
            let frame = known.unwrap_or_else(|| {
                heap.frames.push(heapdrift_tools::symbolized::Frame {
                    function: (*name).to_owned(),
                    krate: name.split("::").next().unwrap().to_owned(),
                    ..Default::default()
                });
                heap.frames.len() - 1
            });
            stack.frames.push(frame as u32);
        }
    }
    heap
}

fn rows(heap: &Symbolized, by: By) -> Vec<(String, Estimate, Estimate)> {
    let rows = top::table(heap, &by, Metric::LiveBytes);
    rows.into_iter().map(|row| (row.name, row.own, row.total)).collect()
}

fn sample() -> Symbolized {
    heap(&[
        (&["b::leaf", "a::mid", "a::main"], &[("route", "/x;y")], 100.0, 3.0),
        (&["b::leaf", "a::main"], &[("route", "/z")], 50.0, 4.0),
        (&["a::mid", "a::mid", "a::main"], &[], 30.0, 12.0),
    ])
}

#[test]
fn self_is_that_of_the_innermost_frame_and_total_counts_a_name_once_per_stack() {
    let e = Estimate::new;
    assert_eq!(
        rows(&sample(), By::Function),
        [
            ("b::leaf".into(), e(150.0, 5.0), e(150.0, 5.0)),
            ("a::mid".into(), e(30.0, 12.0), e(130.0, 153.0_f64.sqrt())),
            ("a::main".into(), e(0.0, 0.0), e(180.0, 13.0)),
        ]
    );
    assert_eq!(
        rows(&sample(), By::Crate),
        [("b".into(), e(150.0, 5.0), e(150.0, 5.0)), ("a".into(), e(30.0, 12.0), e(180.0, 13.0)),]
    );
}

#[test]
fn rows_can_be_labels_or_stacks() {
    let e = Estimate::new;
    let by_route = rows(&sample(), By::Label("route".into()));
    assert_eq!(by_route[0], ("/x;y".into(), e(100.0, 3.0), e(100.0, 3.0)));
    assert_eq!(by_route[2].0, "(no route)");
    let by_stack = rows(&sample(), By::Stack);
    assert_eq!(by_stack[0].0, "route=/x:y;a::main;a::mid;b::leaf");
}

#[test]
fn a_recursive_function_counts_once() {
    let mut recording = Recording::new();
    recording.add(&recursive(5), &[], 1000.0, 10.0);
    let heap = Symbolizer::new(Options::default()).symbolize(&recording.snapshot);
    let rows = top::table(&heap, &By::Function, Metric::LiveBytes);
    let row = rows.iter().find(|row| row.name == "tools::names::recursive").unwrap();
    assert_eq!((row.own, row.total), (Estimate::new(1000.0, 10.0), Estimate::new(1000.0, 10.0)));
}

#[test]
fn folded_stacks_are_as_expected_to_the_byte() {
    let mut heap = sample();
    heap.stacks[1].truncated = true;
    let mut folded = Vec::new();
    fold::write(&heap, Metric::PeakBytes, &mut folded).unwrap();
    assert_eq!(
        String::from_utf8(folded).unwrap(),
        "a::main;a::mid;a::mid 45\n\
         route=/x:y;a::main;a::mid;b::leaf 150\n\
         route=/z;[truncated];a::main;b::leaf 75\n"
    );
}

#[test]
fn the_table_is_as_expected_to_the_byte() {
    let heap = sample();
    let rows = top::table(&heap, &By::Function, Metric::LiveBytes);
    assert_eq!(
        top::render(&heap, &By::Function, Metric::LiveBytes, &rows, 2),
        "Live bytes: 180 B ± 13 B, sampling interval 64.0 KiB, 3 rows\n\
         \x20self             %  total             %  function\n\
         150 B ± 5 B   83.3%  150 B ± 5 B   83.3%  b::leaf\n\
         \x2030 B ± 12 B  16.7%  130 B ± 12 B  72.2%  a::mid\n\
         … and 1 more\n"
    );
}

#[test]
fn the_sum_of_two_processes_adds_values_and_variances() {
    let sum = Symbolized::sum([sample(), sample()]);
    assert_eq!(sum.stacks.len(), 3);
    assert_eq!(sum.totals.live_bytes, Estimate::new(360.0, 338.0_f64.sqrt()));
    let twice = rows(&sum, By::Function);
    assert_eq!(twice[0], ("b::leaf".into(), Estimate::new(300.0, 50.0_f64.sqrt()), twice[0].2));
}
