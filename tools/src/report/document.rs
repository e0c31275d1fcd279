//! The numbers of the page as one JSON document, as small as is possible without a format of our
//! own.
//!
//! Each text and each frame occurs once, and tables are stored by column. Stacks are leaves of a
//! tree whose root is the outermost function, so frames that they share occur once too. Values are
//! rounded to whole bytes and whole objects, or to hundredths of objects if there are few, and
//! errors to three digits: more would be noise.

use std::collections::{BTreeMap, HashMap};

use heapdrift::Estimate;
use heapdrift::blame::Kind;
use heapdrift::leak::{LeakCandidate, LeakReport};
use heapdrift::snapshot::{Metrics, Stack};
use serde::{Serialize, Serializer};

use super::contents::Report;
use super::history::{Moment, Run, RunSums};
use super::next_commands::{self, Command};
use crate::heap::symbolized::Symbolized;
use crate::intern::intern;
use crate::symbolize::packages;
use crate::views::info::{Info, Loss, losses};

/// The document of a report.
pub(super) fn json(report: &Report<'_>) -> String {
    serde_json::to_string(&Document::new(report))
        .expect("a report has nothing that JSON cannot hold")
}

#[derive(Serialize)]
struct Document<'a> {
    /// The version of the program that made the page.
    version: &'static str,
    info: Info,
    losses: Vec<Loss>,
    warnings: &'a [String],
    totals: Metrics,
    /// Functions, crates and files.
    texts: Vec<&'a str>,
    frames: FrameColumns,
    nodes: NodeColumns,
    label_sets: &'a [BTreeMap<String, String>],
    stacks: StackColumns,
    moments: Vec<MomentRow>,
    memory_limit: Option<f64>,
    runs: RunColumns,
    leaks: Option<&'a LeakReport>,
    /// The stacks of each candidate.
    candidate_stacks: Vec<Vec<u32>>,
    commands: Vec<Command>,
    name_options: &'a str,
}

/// The distinct frames. Texts are given as indices, -1 for none.
#[derive(Default, Serialize)]
struct FrameColumns {
    function: Vec<i64>,
    #[serde(rename = "crate")]
    krate: Vec<i64>,
    file: Vec<i64>,
    line: Vec<u32>,
    /// Index into `kinds`.
    kind: Vec<u32>,
    kinds: Vec<Kind>,
}

/// The call tree. Each stack adds a branch of the nodes that no stack before it had, each the
/// parent of the next.
#[derive(Default, Serialize)]
struct NodeColumns {
    /// The node from which each branch starts, -1 at the root.
    branch: Vec<i64>,
    /// The number of nodes of each branch.
    length: Vec<u32>,
    /// The index of the frame of each node. The index after the last frame stands for missing
    /// outermost frames.
    frame: Vec<u32>,
}

#[derive(Default, Serialize)]
struct StackColumns {
    /// The node of the innermost function.
    node: Vec<u32>,
    labels: Vec<u32>,
    live_bytes: EstimateColumns,
    live_count: EstimateColumns,
    peak_bytes: EstimateColumns,
    peak_count: EstimateColumns,
    alloc_bytes: EstimateColumns,
    alloc_count: EstimateColumns,
}

#[derive(Serialize)]
struct MomentRow {
    /// The path as one word of a shell.
    path: String,
    unix_ms: u64,
    uptime_ms: u64,
    tick: u32,
    reason: String,
    interval_bytes: f64,
    live_bytes: Estimate,
    live_count: Estimate,
    has_profile: bool,
}

/// The runs of [`history`](super::history), sorted by stack.
#[derive(Default, Serialize)]
struct RunColumns {
    /// The difference between the index of the stack and that of the previous run.
    stack: Vec<u32>,
    from: Vec<u32>,
    to: Vec<u32>,
    bytes: EstimateColumns,
    count: EstimateColumns,
}

#[derive(Default, Serialize)]
struct EstimateColumns {
    value: Vec<Rounded>,
    error: Vec<Rounded>,
}

/// Below this many objects, hundredths are shown.
const FEW: f64 = 1000.0;

impl EstimateColumns {
    fn push_bytes(&mut self, estimate: Estimate) {
        self.value.push(Rounded(estimate.value.round()));
        self.error.push(Rounded(three_digits(estimate.std_error)));
    }

    fn push_count(&mut self, estimate: Estimate) {
        let parts = if estimate.value < FEW { 100.0 } else { 1.0 };
        self.value.push(Rounded((estimate.value * parts).round() / parts));
        self.error.push(Rounded(three_digits(estimate.std_error)));
    }
}

/// A number that is written as an integer if it is one.
struct Rounded(f64);

impl Serialize for Rounded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 9e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

fn three_digits(error: f64) -> f64 {
    if error == 0.0 || !error.is_finite() {
        return error;
    }
    let scale = 10_f64.powi(2 - error.abs().log10().floor() as i32);
    let rounded = (error * scale).round() / scale;
    if rounded.is_finite() { rounded } else { error }
}

impl<'a> Document<'a> {
    fn new(report: &Report<'a>) -> Self {
        let Report { dump, heap, history, .. } = *report;
        // Paths on this machine are left out, because readers of the page need not know them.
        let info = Info::new(dump, Vec::new());
        let (texts, frames) = frames(report);
        let (nodes, leaves) = tree(heap);
        let (profiles, runs) = history.runs();
        let moments = (0..).zip(&history.moments);
        let moments = moments.map(|(at, moment)| MomentRow::new(moment, profiles.contains(&at)));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            info,
            losses: losses(&dump.stats).collect(),
            warnings: report.warnings,
            totals: heap.totals,
            texts,
            frames,
            nodes,
            label_sets: &heap.label_sets,
            stacks: stacks(heap, leaves),
            moments: moments.collect(),
            memory_limit: report.memory_limit,
            runs: if profiles.len() > 1 { columns(report, runs) } else { RunColumns::default() },
            leaks: report.leaks,
            candidate_stacks: candidate_stacks(report),
            commands: next_commands::commands(report),
            name_options: report.name_options,
        }
    }
}

impl MomentRow {
    fn new(moment: &Moment, has_profile: bool) -> Self {
        Self {
            path: next_commands::word(&moment.path),
            unix_ms: moment.unix_ms,
            uptime_ms: moment.uptime_ms,
            tick: moment.tick,
            reason: moment.reason.clone(),
            interval_bytes: moment.interval_bytes,
            live_bytes: moment.totals.live_bytes,
            live_count: moment.totals.live_count,
            has_profile,
        }
    }
}

fn frames<'a>(report: &Report<'a>) -> (Vec<&'a str>, FrameColumns) {
    let mut texts = Vec::new();
    let mut index: HashMap<&str, u32> = HashMap::new();
    let mut text = |text: &'a str| i64::from(intern(&mut index, &mut texts, text));
    let mut kinds = HashMap::new();
    let mut columns = FrameColumns::default();
    for frame in &report.heap.frames {
        columns.function.push(text(&frame.function));
        columns.krate.push(text(&frame.krate));
        columns.file.push(frame.file.as_deref().map_or(-1, &mut text));
        columns.line.push(frame.line.unwrap_or_default());
        let blamed = packages::frame(report.packages, frame);
        let kind = report.packages.package_of(&blamed).kind;
        columns.kind.push(intern(&mut kinds, &mut columns.kinds, kind));
    }
    (texts, columns)
}

/// The call tree, and the innermost node of each stack.
fn tree(heap: &Symbolized) -> (NodeColumns, Vec<u32>) {
    let missing = heap.frames.len() as u32;
    let mut nodes = NodeColumns::default();
    let mut index: HashMap<(i64, u32), i64> = HashMap::new();
    let mut leaves = Vec::with_capacity(heap.stacks.len());
    for stack in &heap.stacks {
        let mut at = -1;
        let before = nodes.frame.len();
        let outermost = stack.truncated.then_some(missing);
        for frame in outermost.into_iter().chain(stack.frames.iter().rev().copied()) {
            at = *index.entry((at, frame)).or_insert_with(|| {
                if nodes.frame.len() == before {
                    nodes.branch.push(at);
                }
                nodes.frame.push(frame);
                nodes.frame.len() as i64 - 1
            });
        }
        if nodes.frame.len() > before {
            nodes.length.push((nodes.frame.len() - before) as u32);
        }
        leaves.push(u32::try_from(at).expect("every stack has at least one frame"));
    }
    (nodes, leaves)
}

fn stacks(heap: &Symbolized, leaves: Vec<u32>) -> StackColumns {
    let mut columns = StackColumns { node: leaves, ..StackColumns::default() };
    for stack in &heap.stacks {
        let metrics = &stack.metrics;
        columns.labels.push(stack.labels);
        columns.live_bytes.push_bytes(metrics.live_bytes);
        columns.live_count.push_count(metrics.live_count);
        columns.peak_bytes.push_bytes(metrics.peak_bytes);
        columns.peak_count.push_count(metrics.peak_count);
        columns.alloc_bytes.push_bytes(metrics.alloc_bytes);
        columns.alloc_count.push_count(metrics.alloc_count);
    }
    columns
}

/// The runs by stack instead of by site. The last dump has all stacks of the session, so every site
/// is found there.
fn columns(report: &Report<'_>, runs: Vec<(Run, RunSums)>) -> RunColumns {
    let sites = (0..).zip(&report.dump.stacks).map(|(at, stack)| (stack.site, at));
    let stack_of: HashMap<u32, u32> = sites.collect();
    let known =
        runs.into_iter().filter_map(|(run, sums)| Some((*stack_of.get(&run.site)?, run, sums)));
    let mut runs: Vec<(u32, Run, RunSums)> = known.collect();
    runs.sort_by_key(|(stack, run, _)| (*stack, *run));
    let mut columns = RunColumns::default();
    let mut before = 0;
    for (stack, run, sums) in runs {
        columns.stack.push(stack - before);
        before = stack;
        columns.from.push(run.from);
        columns.to.push(run.to);
        columns.bytes.push_bytes(sums.bytes.estimate());
        columns.count.push_count(sums.count.estimate());
    }
    columns
}

/// The stacks of each candidate: those that have its labels and go through the functions that its
/// call sites share. They are matched by address, because the service may have named functions
/// otherwise than this machine does. A single call site is matched by its own addresses, and
/// several by the addresses where their common functions begin.
fn candidate_stacks(report: &Report<'_>) -> Vec<Vec<u32>> {
    let dump = report.dump;
    let candidates = report.leaks.map_or(&[][..], |leaks| &leaks.candidates);
    let by_address: HashMap<(&str, u64), usize> = (0..dump.frames.address.len())
        .map(|frame| {
            let module = &dump.modules[dump.frames.module[frame] as usize];
            ((module.path.as_str(), dump.frames.address[frame]), frame)
        })
        .collect();
    let stacks_of = |candidate: &LeakCandidate| {
        let frames = &dump.frames;
        let addresses = match candidate.evidence.sites {
            1 => &frames.address,
            _ => &frames.function,
        };
        let address_of = |frame: usize| (frames.module[frame], addresses[frame]);
        let shared = candidate.stack.iter().take(candidate.shared_frames.max(1));
        let known = shared.filter_map(|f| by_address.get(&(f.module.as_str(), f.address)));
        let mut shared: Vec<(u32, u64)> = known.map(|&frame| address_of(frame)).collect();
        // Inlined functions have the address of the function that they are inlined into.
        shared.dedup();
        let is_labelled = |stack: &Stack| {
            let labels = &dump.label_sets[stack.labels as usize];
            candidate.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let goes_through = |stack: &Stack| {
            let mut addresses: Vec<(u32, u64)> =
                stack.frames.iter().map(|&frame| address_of(frame as usize)).collect();
            addresses.dedup();
            !shared.is_empty() && addresses.windows(shared.len()).any(|window| window == shared)
        };
        let stacks = (0..).zip(&dump.stacks);
        let found = stacks.filter(|(_, stack)| is_labelled(stack) && goes_through(stack));
        found.map(|(at, _)| at).collect()
    };
    candidates.iter().map(stacks_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_three_digits() {
        assert_eq!(three_digits(123_456.0), 123_000.0);
        assert_eq!(three_digits(0.012_345), 0.0123);
        assert_eq!(three_digits(0.0), 0.0);
        assert!(three_digits(f64::MAX) > 1e308 && three_digits(f64::MIN_POSITIVE) > 0.0);
    }

    #[test]
    fn integers_are_written_as_such() {
        let text = |number: f64| serde_json::to_string(&Rounded(number)).unwrap();
        assert_eq!((text(3.0), text(0.25), text(-0.0)), ("3".into(), "0.25".into(), "0".into()));
    }
}
