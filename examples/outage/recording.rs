//! The recording of a run, and its results at the end.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use heapdrift::Snapshot;
use heapdrift_tools::report::{self, History, Report};
use heapdrift_tools::{By, Metric, Symbolizer, flamegraph, leaks, packages, symbolizer, top};

use super::Run;

const MIB: f64 = 1048576.0;
/// How many dumps are kept in the output folder: all of a run of the default length.
const DUMPS_KEPT: usize = 60;
const SITES_SHOWN: usize = 12;
const ROUTES_SHOWN: usize = 5;

/// A run that is being recorded; inert without the feature `profiling`.
#[derive(Debug)]
#[must_use = "recording stops when this is dropped"]
pub struct Recording<'run> {
    run: &'run Run,
    out: PathBuf,
    profiler: heapdrift::Profiler,
    started: SystemTime,
    resident_before: Option<u64>,
}

impl Run {
    /// Starts to record. Memory that belongs to the clients has to be allocated before.
    pub fn record(&self) -> Result<Recording<'_>> {
        let (out, started, resident_before) = (self.out(), SystemTime::now(), resident_bytes());
        let mut builder = heapdrift::Profiler::builder()
            .sample_interval_bytes(self.options.interval)
            // A dump of every tick, so that the page and `heapdrift leaks` see what it saw.
            .diff_every(self.tick())
            .dump_every(self.tick());
        if cfg!(feature = "profiling") {
            std::fs::create_dir_all(&out)
                .with_context(|| format!("cannot make the output folder {}", out.display()))?;
            builder = builder.dump_dir(&out).dump_keep(DUMPS_KEPT);
        }
        let builder = self.follow_leaks(builder);
        // Not as a context: the error names its cause itself, which would be printed twice.
        let profiler =
            builder.start().map_err(|error| anyhow!("cannot start the profiler: {error}"))?;
        Ok(Recording { run: self, out, profiler, started, resident_before })
    }
}

impl Recording<'_> {
    /// Ends the recording and prints the results. The service has to outlive it, so that the last
    /// dump shows what the service still holds.
    pub fn end(self) -> Result<()> {
        let Self { run, out, profiler, started, resident_before } = self;
        if let (Some(before), Some(after)) = (resident_before, resident_bytes()) {
            run.say(format_args!(
                "resident memory: {:.1} MiB at the start, {:.1} MiB at the end",
                before as f64 / MIB,
                after as f64 / MIB
            ));
        }
        let report = profiler.diff_now();
        drop(profiler);
        if run.options.json {
            println!("{}", report.to_json());
        }
        if !cfg!(feature = "profiling") {
            run.say(format_args!(
                "nothing was recorded, so nothing was written to {}",
                out.display()
            ));
            return Ok(());
        }
        let dumps = dumps_since(&out, started)?;
        let [picture, page] = show_newest(run, &out, &dumps)?;
        let leaks = run.show_leaks(&report, &out)?;

        run.say("\nfiles:");
        if let Some(newest) = dumps.last() {
            run.say(format_args!("  {} (the newest of {} dumps)", newest.display(), dumps.len()));
        }
        run.say(format_args!("  {} (for a browser)", page.display()));
        run.say(format_args!("  {}", picture.display()));
        run.say(format_args!("  {}", leaks.display()));
        Ok(())
    }
}

/// Prints the top sites of the newest of `dumps`. Writes its flamegraph, and the report of all
/// dumps, to `out`.
fn show_newest(run: &Run, out: &Path, dumps: &[PathBuf]) -> Result<[PathBuf; 2]> {
    let (history, snapshot) = read(out, dumps)?;
    let mut symbolizer = Symbolizer::new(symbolizer::Options::default());
    let heap = symbolizer.symbolize(&snapshot);
    let packages = packages::of_dump(&mut symbolizer, &snapshot, [""; 0]);
    let leaks = leaks::embedded(&mut symbolizer, &snapshot, &[]);
    let warnings = symbolizer.take_warnings();
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    let picture = out.join("flamegraph.svg");
    flamegraph::write(&heap, Metric::LiveBytes, &picture)
        .with_context(|| format!("cannot write {}", picture.display()))?;
    let page = out.join("report.html");
    let report = Report {
        dump: &snapshot,
        heap: &heap,
        packages: &packages,
        history: &history,
        leaks: leaks.as_ref(),
        memory_limit: None,
        name_options: "",
        warnings: &warnings,
    };
    report::write(&report, &page).with_context(|| format!("cannot write {}", page.display()))?;

    for (by, metric, limit) in [
        (By::Function, Metric::LiveBytes, SITES_SHOWN),
        (By::Label("route".to_owned()), Metric::LiveBytes, ROUTES_SHOWN),
        (By::Label("route".to_owned()), Metric::PeakBytes, ROUTES_SHOWN),
    ] {
        let rows = top::table(&heap, &by, metric);
        run.say(format_args!("\n{}", top::render(&heap, &by, metric, &rows, limit).trim_end()));
    }
    Ok([picture, page])
}

/// Reads dumps, the oldest first, and returns their history and the newest of them.
fn read(out: &Path, dumps: &[PathBuf]) -> Result<(History, Snapshot)> {
    let mut history = History::default();
    let mut newest = None;
    for path in dumps {
        let snapshot = heapdrift::dump::read(path)
            .with_context(|| format!("cannot read the dump {}", path.display()))?;
        history.add(path, &snapshot);
        newest = Some(snapshot);
    }
    let newest = newest.with_context(|| format!("no dump was written to {}", out.display()))?;
    Ok((history, newest))
}

/// The dumps in `out` that were written since `started`, the oldest first: the folder may hold
/// those of other runs.
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

/// Resident memory of this process, if the system reports it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
