//! DHAT: version 2 of the JSON that valgrind's `dh_view.html` reads.
//!
//! Figures that DHAT counts exactly are estimates here, and some were not recorded:
//! - `tb`, `tbk` (in total), `gb`, `gbk` (when the heap was largest) and `eb`, `ebk` (at the end)
//!   are the estimates of allocated, peak and live.
//! - `mb`, `mbk` (the most that the stack itself ever held) are not recorded. The larger of peak
//!   and live stands for them, which is a lower bound.
//! - `tl` (the sum of the lifetimes of all blocks, in microseconds) is the sum of the ages of the
//!   live blocks, each sample by its weight. The lifetimes of freed blocks are not recorded, so
//!   this is a lower bound too.
//!
//! Labels are the frames next to the root. Reads, writes and accesses are not recorded, and the
//! file says so (`bkacc`).

use std::collections::BTreeMap;
use std::io::{self, Write};

use heapdrift::snapshot::Metrics;
use heapdrift::{Estimate, Snapshot};
use serde::Serialize;

use crate::heap::fold;
use crate::heap::located::{Located, Location};
use crate::numbers::sum;

/// The document. The names of the fields are DHAT's.
#[derive(Serialize)]
#[allow(non_snake_case)]
struct Document {
    dhatFileVersion: u32,
    mode: &'static str,
    verb: &'static str,
    /// Whether there are lifetimes.
    bklt: bool,
    /// Whether there are accesses.
    bkacc: bool,
    /// The unit of time.
    tu: &'static str,
    /// The unit of a million times `tu`.
    Mtu: &'static str,
    /// Below this many units a lifetime counts as short.
    tuth: u64,
    cmd: String,
    pid: u32,
    /// The time when the heap was largest. It is not recorded, but readers need a number up to
    /// `te`.
    tg: u64,
    /// The time of the end.
    te: u64,
    pps: Vec<ProgramPoint>,
    ftbl: Vec<String>,
}

/// A stack with its figures.
#[derive(Serialize)]
struct ProgramPoint {
    tb: u64,
    tbk: u64,
    tl: u64,
    mb: u64,
    mbk: u64,
    gb: u64,
    gbk: u64,
    eb: u64,
    ebk: u64,
    fs: Vec<usize>,
}

/// Writes the heap of `snapshot`. `heap` is the result of
/// [`Symbolizer::locate`](crate::Symbolizer::locate) for it.
///
/// # Errors
/// The errors of the writer.
pub fn write(snapshot: &Snapshot, heap: &Located, out: &mut dyn Write) -> io::Result<()> {
    let uptime = snapshot.taken.uptime_ms.saturating_mul(1000);
    let document = Document {
        dhatFileVersion: 2,
        mode: "rust-heap",
        verb: "Allocated",
        bklt: true,
        bkacc: false,
        tu: "µs",
        Mtu: "s",
        tuth: 10,
        cmd: snapshot.process.executable.clone(),
        pid: snapshot.process.id,
        tg: uptime,
        te: uptime,
        pps: Vec::new(),
        ftbl: vec!["[root]".to_owned()],
    };
    let document = filled(document, snapshot, heap);
    serde_json::to_writer(&mut *out, &document)?;
    out.write_all(b"\n")
}

fn filled(mut document: Document, snapshot: &Snapshot, heap: &Located) -> Document {
    let mut table = Table { texts: &mut document.ftbl, index: BTreeMap::new() };
    let frame_ids: Vec<Vec<usize>> =
        heap.locations.iter().map(|location| table.frames(heap, location)).collect();
    let labels: Vec<Vec<usize>> = heap
        .label_sets
        .iter()
        .map(|set| set.iter().map(|(key, value)| table.id(format!("{key}={value}"))).collect())
        .collect();
    let truncated = table.id(fold::TRUNCATED.to_owned());
    // Readers refuse a file with the same stack twice, so stacks that differ only in removed
    // allocator frames are added up.
    let mut sums: BTreeMap<Vec<usize>, (Metrics, f64)> = BTreeMap::new();
    for (stack, lifetimes) in heap.stacks.iter().zip(lifetimes(snapshot)) {
        let mut fs: Vec<usize> =
            stack.locations.iter().flat_map(|&at| frame_ids[at as usize].iter().copied()).collect();
        fs.extend(Some(truncated).filter(|_| stack.truncated));
        fs.extend(labels[stack.labels as usize].iter().rev());
        let sum = sums.entry(fs).or_default();
        *sum = (sum::metrics(&sum.0, &stack.metrics), sum.1 + lifetimes);
    }
    let points = sums.into_iter().map(|(fs, (metrics, lifetimes))| point(&metrics, lifetimes, fs));
    // Readers divide by the number of blocks, so it must not be 0.
    document.pps = points.filter(|point| point.tbk > 0).collect();
    document
}

fn point(metrics: &Metrics, lifetimes: f64, fs: Vec<usize>) -> ProgramPoint {
    let whole = |estimate: Estimate| estimate.value.round() as u64;
    let (gb, gbk) = (whole(metrics.peak_bytes), whole(metrics.peak_count));
    let (eb, ebk) = (whole(metrics.live_bytes), whole(metrics.live_count));
    ProgramPoint {
        tb: whole(metrics.alloc_bytes),
        tbk: whole(metrics.alloc_count),
        tl: lifetimes.round() as u64,
        mb: gb.max(eb),
        mbk: gbk.max(ebk),
        gb,
        gbk,
        eb,
        ebk,
        fs,
    }
}

/// For each stack, the estimated sum of the ages of its live objects in microseconds.
fn lifetimes(snapshot: &Snapshot) -> Vec<f64> {
    let mut sums = vec![0.0; snapshot.stacks.len()];
    for sample in snapshot.live.iter() {
        let age = snapshot.taken.uptime_ms.saturating_sub(sample.birth_ms);
        sums[sample.stack as usize] += sample.weight().count * age as f64 * 1000.0;
    }
    sums
}

/// The table of frames, each once.
struct Table<'a> {
    texts: &'a mut Vec<String>,
    index: BTreeMap<String, usize>,
}

impl Table<'_> {
    fn id(&mut self, text: String) -> usize {
        if let Some(&id) = self.index.get(&text) {
            return id;
        }
        let id = self.texts.len();
        self.texts.push(text.clone());
        self.index.insert(text, id);
        id
    }

    /// `0xADDRESS: function (file:line)` for each function at a location.
    fn frames(&mut self, heap: &Located, location: &Location) -> Vec<usize> {
        let module = location.mapping.map(|mapping| heap.mappings[mapping as usize].path.as_str());
        let frames = location.frames.iter().map(|&frame| &heap.frames[frame as usize]);
        frames
            .map(|frame| {
                let location_text = match (&frame.file, frame.line) {
                    (Some(file), Some(line)) => format!("{file}:{line}"),
                    (Some(file), None) => file.clone(),
                    _ => format!("in {}", module.unwrap_or("no module")),
                };
                self.id(format!("{:#x}: {} ({location_text})", location.address, frame.function))
            })
            .collect()
    }
}
