//! A summary of a dump: its process, its recording, its losses and its totals.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;
use heapdrift::snapshot::Metrics;
use heapdrift::{Estimate, Snapshot, Stats};
use serde::Serialize;

use crate::numbers::units;
use crate::output::terminal;
use crate::symbolize::symbolizer::ModuleFile;

/// The document of `info --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Path of the executable as the process saw it.
    pub binary: String,
    /// Its build-id, empty if it has none.
    pub build_id: String,
    /// The process id.
    pub pid: u32,
    /// Name of the host, empty if unknown.
    pub host: String,
    /// The number that dumps of one recording have in common.
    pub session: u64,
    /// Version of the crate that recorded.
    pub heapdrift_version: String,
    /// When the dump was taken, in milliseconds since the Unix epoch.
    pub taken_unix_ms: u64,
    /// Milliseconds since recording started.
    pub uptime_ms: u64,
    /// Sequence number within the session, from 1.
    pub sequence: u64,
    /// Why it was taken: by the interval, by a call, at the end.
    pub reason: String,
    /// Whether recording was `active`, `paused` or `off`.
    pub state: String,
    /// Mean bytes between samples.
    pub interval_bytes: f64,
    /// The interval at the start.
    pub initial_interval_bytes: f64,
    /// The seed, if one was given.
    pub seed: Option<u64>,
    /// Samples taken.
    pub samples: u64,
    /// Samples whose allocation is live.
    pub samples_live: u64,
    /// Samples that were lost or lost a part.
    pub dropped: u64,
    /// The counters of losses that are not 0.
    pub dropped_by: BTreeMap<&'static str, u64>,
    /// How stacks were captured.
    pub unwinder: String,
    /// Distinct pairs of a stack and its labels.
    pub stacks: u64,
    /// Stacks without their outermost frames.
    pub truncated_stacks: u64,
    /// Live bytes.
    pub live_bytes: Estimate,
    /// Live objects.
    pub live_count: Estimate,
    /// Live bytes when the heap was largest.
    pub peak_bytes: Estimate,
    /// Live objects at that moment.
    pub peak_count: Estimate,
    /// Bytes allocated since the start.
    pub alloc_bytes: Estimate,
    /// Objects allocated since the start.
    pub alloc_count: Estimate,
    /// Bytes that the profiler holds.
    pub profiler_bytes: u64,
    /// The cap on `profiler_bytes`.
    pub max_profiler_bytes: u64,
    /// Code addresses in stacks.
    pub addresses: u64,
    /// Those of `addresses` for which the dump itself has names.
    pub addresses_named: u64,
    /// The modules of the recorded process and their files on this machine.
    pub modules: Vec<ModuleFile>,
}

impl Info {
    /// The summary of `snapshot`. `modules` is the result of
    /// [`Symbolizer::match_modules`](crate::Symbolizer::match_modules).
    pub fn new(snapshot: &Snapshot, modules: Vec<ModuleFile>) -> Self {
        let Snapshot { process, taken, sampling, stats, totals, .. } = snapshot;
        let Metrics {
            live_bytes,
            live_count,
            peak_bytes,
            peak_count,
            alloc_bytes,
            alloc_count,
            ..
        } = *totals;
        let executable = snapshot
            .modules
            .iter()
            .find(|module| module.path == process.executable)
            .or(snapshot.modules.first());
        Self {
            binary: process.executable.clone(),
            build_id: executable.map(|module| module.build_id.clone()).unwrap_or_default(),
            pid: process.id,
            host: process.host.clone(),
            session: process.session,
            heapdrift_version: process.heapdrift_version.clone(),
            taken_unix_ms: taken.unix_ms,
            uptime_ms: taken.uptime_ms,
            sequence: taken.sequence,
            reason: taken.reason.clone(),
            state: sampling.state.clone(),
            interval_bytes: sampling.interval_bytes,
            initial_interval_bytes: sampling.initial_interval_bytes,
            seed: sampling.seed,
            samples: stats.samples_taken,
            samples_live: stats.samples_live,
            dropped: stats.samples_dropped(),
            dropped_by: losses(stats).map(|loss| (loss.name, loss.count)).collect(),
            unwinder: snapshot.unwinder.clone(),
            stacks: snapshot.stacks.len() as u64,
            truncated_stacks: stats.truncated_stacks,
            live_bytes,
            live_count,
            peak_bytes,
            peak_count,
            alloc_bytes,
            alloc_count,
            profiler_bytes: stats.profiler_bytes,
            max_profiler_bytes: stats.max_profiler_bytes,
            addresses: snapshot.frames.address.len() as u64,
            addresses_named: snapshot.frames.symbols.as_ref().map_or(0, |symbols| {
                symbols.count.iter().filter(|&&count| count > 0).count() as u64
            }),
            modules,
        }
    }

    /// The summary as text with ANSI colours.
    pub fn render_styled(&self) -> String {
        let mut lines = Lines::default();
        lines.line("binary", &self.binary);
        lines.line("build-id", if self.build_id.is_empty() { "none" } else { &self.build_id });
        let at = if self.host.is_empty() { "" } else { " on " };
        lines.line(
            "process",
            format!(
                "{}{at}{}, recorded by heapdrift {}",
                self.pid, self.host, self.heapdrift_version
            ),
        );
        lines.line(
            "taken",
            format!(
                "{}, dump {} of the session ({})",
                units::unix_ms(self.taken_unix_ms),
                self.sequence,
                self.reason
            ),
        );
        lines.line("uptime", format!("{} of recording", units::duration_ms(self.uptime_ms)));
        lines.line("recording", &self.state);
        lines.line("interval", self.interval());
        lines.line(
            "samples",
            format!(
                "{} taken, {} live, {} stacks",
                units::count(self.samples as f64),
                units::count(self.samples_live as f64),
                units::count(self.stacks as f64)
            ),
        );
        lines.line("dropped", units::count(self.dropped as f64));
        for (name, count) in &self.dropped_by {
            lines.line("", format!("{name} {}: {}", units::count(*count as f64), meaning(name)));
        }
        lines.line("unwinder", &self.unwinder);
        lines.line("truncated", format!("{} stacks", units::count(self.truncated_stacks as f64)));
        lines.line(
            "profiler",
            format!(
                "{} held, at most {}",
                units::bytes(self.profiler_bytes as f64),
                units::bytes(self.max_profiler_bytes as f64)
            ),
        );
        lines.estimates(&[
            ("live", self.live_bytes, self.live_count),
            ("at the peak", self.peak_bytes, self.peak_count),
            ("allocated", self.alloc_bytes, self.alloc_count),
        ]);
        if self.addresses_named > 0 {
            lines.line(
                "names",
                format!(
                    "in the dump, of {} of {} addresses",
                    units::count(self.addresses_named as f64),
                    units::count(self.addresses as f64)
                ),
            );
        }
        let unmatched: Vec<&ModuleFile> =
            self.modules.iter().filter(|m| m.problem.is_some()).collect();
        let matched = self.modules.iter().filter(|m| m.file.is_some()).count();
        lines.line("modules", format!("{} found of {}", matched, self.modules.len()));
        for problem in unmatched.iter().filter_map(|module| module.problem.as_ref()) {
            lines.line("", problem);
        }
        lines.text
    }

    fn interval(&self) -> String {
        let now = match self.interval_bytes {
            exact if exact <= 1.0 => "1 B (every allocation)".to_owned(),
            interval => units::bytes(interval),
        };
        let changed = self.interval_bytes != self.initial_interval_bytes;
        if changed {
            format!("{now} now, {} at the start", units::bytes(self.initial_interval_bytes))
        } else {
            now
        }
    }
}

/// A counter of losses that is not 0.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Loss {
    name: &'static str,
    count: u64,
    /// What the counter means.
    meaning: &'static str,
}

/// The counters of losses and their meanings.
const MEANINGS: [(&str, &str); 8] = [
    ("dropped_records", "samples were lost because no record was free"),
    (
        "dropped_slots",
        "samples were lost because no slot was free for the object, or its alignment was too large",
    ),
    ("dropped_stacks", "samples have no stack because the stack table was full"),
    ("dropped_unwinds", "samples have no stack because no unwinder was free"),
    (
        "dropped_labels",
        "samples have no labels because the label table was full, or a label was too long",
    ),
    ("dropped_dumps", "dumps that could not be written"),
    (
        "samples_thinned",
        "live samples were given up to stay below the memory cap; estimates are still unbiased, but less precise",
    ),
    ("thinnings", "times the interval was raised to stay below the memory cap"),
];

/// The losses of a recording.
pub(crate) fn losses(stats: &Stats) -> impl Iterator<Item = Loss> {
    let counts = [
        stats.dropped_records,
        stats.dropped_slots,
        stats.dropped_stacks,
        stats.dropped_unwinds,
        stats.dropped_labels,
        stats.dropped_dumps,
        stats.samples_thinned,
        stats.thinnings,
    ];
    let losses = MEANINGS.iter().zip(counts);
    losses.filter(|(_, count)| *count > 0).map(|(&(name, meaning), count)| Loss {
        name,
        count,
        meaning,
    })
}

fn meaning(name: &str) -> &'static str {
    MEANINGS.iter().find(|(known, _)| *known == name).map_or("", |(_, meaning)| meaning)
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, key: &str, value: impl AsRef<str>) {
        let bold = Style::new().bold();
        let value = terminal::printable(value.as_ref());
        let _ = writeln!(self.text, "{bold}{key:<12}{bold:#} {value}");
    }

    /// Adds a line for each row, with values and errors right-aligned.
    fn estimates(&mut self, rows: &[(&str, Estimate, Estimate)]) {
        let cells: Vec<[String; 4]> = rows
            .iter()
            .map(|(_, bytes, count)| {
                [
                    units::bytes(bytes.value),
                    units::bytes(bytes.std_error),
                    units::count(count.value),
                    units::count(count.std_error),
                ]
            })
            .collect();
        let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: [usize; 4] = std::array::from_fn(width);
        for ((key, ..), [bytes, bytes_error, count, count_error]) in rows.iter().zip(&cells) {
            let [w0, w1, w2, w3] = widths;
            self.line(
                key,
                format!(
                    "{bytes:>w0$} ± {bytes_error:>w1$}   {count:>w2$} ± {count_error:>w3$} objects"
                ),
            );
        }
    }
}
