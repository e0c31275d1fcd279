//! The time for a large dump is proportional to its size.

use std::time::{Duration, Instant};

use heapdrift_tools::symbolizer::Options;
use heapdrift_tools::{By, Metric, Symbolizer, flamegraph, top};

use crate::names::recursive;
use crate::recorded::Recording;

#[test]
fn twenty_thousand_stacks_take_seconds() {
    let base = recursive(30);
    let mut recording = Recording::new();
    let outer: Vec<u32> = base.iter().map(|&address| recording.frame(0, address)).collect();
    let inner: Vec<u32> =
        (0..2000).map(|i| recording.frame(0, base[0].wrapping_add(i * 16))).collect();
    for i in 0..20_000_usize {
        let mut frames = vec![inner[i % 2000], inner[(i * 7) % 1999]];
        frames.extend(&outer[i % 10..]);
        recording.add_frames(frames, &[("tenant", &format!("t{}", i % 50))], 1000.0, 10.0);
    }
    let start = Instant::now();
    let heap = Symbolizer::new(Options::default()).symbolize(&recording.snapshot);
    let symbolized = start.elapsed();
    for by in [By::Function, By::Crate, By::Line, By::Stack, By::Label("tenant".into())] {
        let rows = top::table(&heap, &by, Metric::LiveBytes);
        assert!(!top::render(&heap, &by, Metric::LiveBytes, &rows, 20).is_empty());
    }
    let svg = flamegraph::svg(&heap, Metric::LiveBytes).unwrap();
    println!(
        "symbolized in {symbolized:?}, all in {:?}, {} bytes of SVG",
        start.elapsed(),
        svg.len()
    );
    // Unoptimized: 2 to 4 s on two shared cores. Quadratic it would be minutes.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
