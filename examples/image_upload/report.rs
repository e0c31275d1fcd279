//! What a run has to say for itself: traffic, memory, and what heapdrift saw.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use heapdrift_tools::{By, Metric, Symbolizer, flamegraph, symbolizer, top};

use crate::load::{RouteTally, Tally};
use crate::server::{CATALOGUE_ROUTE, Service, UPLOAD_ROUTE};

const MIB: f64 = 1048576.0;
const SITES_SHOWN: usize = 12;
const ROUTES_SHOWN: usize = 5;

/// Resident memory of this process, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Prints what was served and what it left behind.
pub(crate) fn traffic(tally: &Tally, service: &Service, resident_before: Option<u64>) {
    println!();
    route(&format!("POST {UPLOAD_ROUTE}"), &tally.uploads);
    route(&format!("GET {CATALOGUE_ROUTE}"), &tally.catalogue);
    println!("the oversized upload was answered {}", tally.oversized);
    if let (Some(before), Some(after)) = (resident_before, resident_bytes()) {
        println!(
            "resident memory: {:.1} MiB at the start, {:.1} MiB at the end",
            before as f64 / MIB,
            after as f64 / MIB
        );
    }
    let (count, bytes) = service.uploads_kept();
    println!("decoded pictures kept after their response: {count}, {:.1} MiB", bytes as f64 / MIB);
}

fn route(name: &str, tally: &RouteTally) {
    println!(
        "{name:<20} {:>6} served (mean {:.1} ms, longest {:.1} ms), {} refused, {} failed",
        tally.served,
        tally.mean().as_secs_f64() * 1e3,
        tally.longest.as_secs_f64() * 1e3,
        tally.refused,
        tally.failed
    );
}

/// Draws the flamegraph of the newest dump in `out`, prints its top sites, and says where all
/// files are. Only dumps written since `started` count: the folder may hold those of other runs.
pub(crate) fn profile(out: &Path, started: SystemTime) -> Result<()> {
    let dumps = dumps_since(out, started)?;
    let newest =
        dumps.last().with_context(|| format!("no dump was written to {}", out.display()))?;
    let snapshot = heapdrift::dump::read(newest)
        .with_context(|| format!("cannot read the dump {}", newest.display()))?;
    let mut symbolizer = Symbolizer::new(symbolizer::Options::default());
    let heap = symbolizer.symbolize(&snapshot);
    for warning in symbolizer.take_warnings() {
        eprintln!("warning: {warning}");
    }
    let picture = out.join("flamegraph.svg");
    flamegraph::write(&heap, Metric::LiveBytes, &picture)
        .with_context(|| format!("cannot write {}", picture.display()))?;

    for (by, metric, limit) in [
        (By::Function, Metric::LiveBytes, SITES_SHOWN),
        (By::Label("route".to_owned()), Metric::LiveBytes, ROUTES_SHOWN),
        (By::Label("route".to_owned()), Metric::PeakBytes, ROUTES_SHOWN),
    ] {
        let rows = top::table(&heap, &by, metric);
        print!("\n{}", top::render(&heap, &by, metric, &rows, limit));
    }

    println!("\nfiles:");
    for dump in &dumps {
        println!("  {}", dump.display());
    }
    println!("  {}", picture.display());
    Ok(())
}

/// The dumps in `out` that were written since `started`, the oldest first.
fn dumps_since(out: &Path, started: SystemTime) -> Result<Vec<PathBuf>> {
    let cannot_read = || format!("cannot read the folder {}", out.display());
    let mut dumps = Vec::new();
    for entry in std::fs::read_dir(out).with_context(cannot_read)? {
        let entry = entry.with_context(cannot_read)?;
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let written = written.with_context(cannot_read)?;
        if written >= started && entry.file_name().to_string_lossy().ends_with(".heap.json.gz") {
            dumps.push((written, entry.path()));
        }
    }
    dumps.sort();
    Ok(dumps.into_iter().map(|(_, path)| path).collect())
}
