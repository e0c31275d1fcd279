//! DHAT: what valgrind's `dh_view.html` reads, version 2 of its JSON.
//!
//! What DHAT counts exactly is estimated here, and some of it was never recorded:
//! - `tb`, `tbk` (in total), `gb`, `gbk` (when the heap was largest) and `eb`, `ebk` (at the end) are
//!   the estimates of allocated, peak and live;
//! - `mb`, `mbk` (the most that the place itself ever had) is not recorded: the larger of peak and
//!   live stands for it, so it is a lower bound;
//! - `tl` (lifetimes of all blocks, in microseconds) has those of the live blocks up to now, each
//!   sample by its weight. How long freed blocks lived is not recorded: a lower bound too.
//!
//! Labels are the frames next to the root. Reads, writes and accesses are not recorded, and the file
//! says so (`bkacc`).

use std::collections::BTreeMap;
use std::io::{self, Write};

use heapdrift::snapshot::Metrics;
use heapdrift::{Estimate, Snapshot};
use serde::Serialize;

use crate::heap::fold;
use crate::heap::located::{Located, Location};
use crate::numbers::sum;

/// The document. The names are DHAT's.
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
    /// A million of them.
    Mtu: &'static str,
    /// Below this many units a lifetime counts as short.
    tuth: u64,
    cmd: String,
    pid: u32,
    /// When the heap was largest. That is not recorded; readers need a number up to `te`.
    tg: u64,
    /// The end.
    te: u64,
    pps: Vec<ProgramPoint>,
    ftbl: Vec<String>,
}

/// A stack.
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

/// Writes the heap of `snapshot`, of which `heap` is what
/// [`Symbolizer::locate`](crate::Symbolizer::locate) gave.
///
/// # Errors
/// Those of the writer.
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
    let places: Vec<Vec<usize>> =
        heap.locations.iter().map(|location| table.frames(heap, location)).collect();
    let labels: Vec<Vec<usize>> = heap
        .label_sets
        .iter()
        .map(|set| set.iter().map(|(key, value)| table.id(format!("{key}={value}"))).collect())
        .collect();
    let truncated = table.id(fold::TRUNCATED.to_owned());
    // Readers refuse a file that has the same stack twice: stacks of which only frames of the
    // allocator differed are one.
    let mut sums: BTreeMap<Vec<usize>, (Metrics, f64)> = BTreeMap::new();
    for (stack, lifetimes) in heap.stacks.iter().zip(lifetimes(snapshot)) {
        let mut fs: Vec<usize> =
            stack.locations.iter().flat_map(|&at| places[at as usize].iter().copied()).collect();
        fs.extend(Some(truncated).filter(|_| stack.truncated));
        fs.extend(labels[stack.labels as usize].iter().rev());
        let sum = sums.entry(fs).or_default();
        *sum = (sum::metrics(&sum.0, &stack.metrics), sum.1 + lifetimes);
    }
    let points = sums.into_iter().map(|(fs, (metrics, lifetimes))| point(&metrics, lifetimes, fs));
    // Readers divide by the number of blocks.
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

/// Of each stack, the estimated sum of the ages of its live objects, in microseconds.
fn lifetimes(snapshot: &Snapshot) -> Vec<f64> {
    let mut sums = vec![0.0; snapshot.stacks.len()];
    for sample in snapshot.live.iter() {
        let age = snapshot.taken.uptime_ms.saturating_sub(sample.birth_ms);
        sums[sample.stack as usize] += sample.weight().count * age as f64 * 1000.0;
    }
    sums
}

/// The table of frames.
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
                let place = match (&frame.file, frame.line) {
                    (Some(file), Some(line)) => format!("{file}:{line}"),
                    (Some(file), None) => file.clone(),
                    _ => format!("in {}", module.unwrap_or("no module")),
                };
                self.id(format!("{:#x}: {} ({place})", location.address, frame.function))
            })
            .collect()
    }
}
