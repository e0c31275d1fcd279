//! The waist of the design: what was recorded, as plain data.
//!
//! Everything above this module (dumps, diffs, tools) sees a [`Snapshot`] and nothing else;
//! everything below it fills one. A dump is a `Snapshot` as one JSON document, so the fields here
//! are also the documentation of the file format, version [`crate::dump::VERSION`]: each public
//! field is a JSON key of the same name.
//!
//! Invariant of a snapshot that was read or taken: every index points into its table
//! ([`Snapshot::validate`]).

use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) use crate::estimate::inclusion_probability;
use crate::report::LeakReport;
use crate::{Estimate, Stats, Weight};

/// The most frames that a recorded stack has.
pub const MAX_STACK_DEPTH: usize = 512;

/// The recorded state of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// Which process, and which profiling session in it.
    pub process: Process,
    /// When and why the snapshot was taken.
    pub taken: Taken,
    /// How samples were chosen.
    pub sampling: Sampling,
    /// Which unwinder ran: `framehop`, `backtrace`, `framehop+backtrace`, or `none` when nothing
    /// was captured. How many stacks each captured is in `stats`.
    pub unwinder: String,
    /// The profiler's own counters.
    pub stats: Stats,
    /// Sums over all stacks.
    pub totals: Metrics,
    /// The executable and the libraries in which frames lie; the executable first.
    pub modules: Vec<Module>,
    /// Every code address that occurs in a stack, once.
    pub frames: Frames,
    /// Every set of labels that occurs, once. The first is the empty set.
    pub label_sets: Vec<BTreeMap<String, String>>,
    /// Every stack that was sampled since the session started, with its estimates. One stack
    /// occurs once for each set of labels it was seen with.
    pub stacks: Vec<Stack>,
    /// The live samples themselves, each with its identity.
    pub live: LiveSamples,
    /// What the leak detector said at the last tick; absent before the first.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "Option::is_none"))]
    pub leaks: Option<LeakReport>,
}

/// Which process was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Process {
    /// The process id.
    pub id: u32,
    /// Name of the host, or of the container, when the snapshot was taken; empty where unknown.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "String::is_empty"))]
    pub host: String,
    /// Path of the executable, as the process itself saw it.
    pub executable: String,
    /// A random number of this profiling session: dumps with the same number are of one series.
    pub session: u64,
    /// When recording started, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Version of the `heapdrift` crate that recorded.
    pub heapdrift_version: String,
}

/// When and why a snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Taken {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Milliseconds since recording started, by a clock that never goes back.
    pub uptime_ms: u64,
    /// 1 for the first snapshot of the session, then counting.
    pub sequence: u64,
    /// Ticks of the leak detector that were over: samples born since have a later one.
    #[cfg_attr(feature = "analysis", serde(default))]
    pub tick: u32,
    /// What asked for it: `call`, `periodic`, `signal` or `end`.
    pub reason: String,
}

/// How samples were chosen.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Sampling {
    /// Mean bytes between samples at the moment of the snapshot; 1 is exact recording.
    pub interval_bytes: f64,
    /// The interval the session started with. It differs where the interval was changed by call,
    /// or raised because the memory cap was reached.
    pub initial_interval_bytes: f64,
    /// The seed, where one was given.
    pub seed: Option<u64>,
    /// `active`, `paused`, or `off` (the crate was built without `profiling`).
    pub state: String,
}

/// The estimates of one stack, or of all of them.
///
/// Bytes are requested bytes (`Layout::size`), without what the allocator adds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Metrics {
    /// Bytes allocated and not freed.
    pub live_bytes: Estimate,
    /// Objects allocated and not freed.
    pub live_count: Estimate,
    /// Bytes allocated since the session started.
    pub alloc_bytes: Estimate,
    /// Objects allocated since the session started. A `realloc` counts as an allocation.
    pub alloc_count: Estimate,
    /// Live bytes at the moment when the estimate of all live bytes was highest. That estimate is
    /// the maximum itself, kept at every sample; it differs from the true peak by its own standard
    /// error, rather upward, since the highest of many estimates is taken.
    pub peak_bytes: Estimate,
    /// Live objects at that moment.
    pub peak_count: Estimate,
}

/// A mapped executable or shared library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Module {
    /// Path as the dynamic loader saw it; `[unknown]` stands for code outside every module.
    pub path: String,
    /// The GNU build-id in lower-case hexadecimal, empty where the module has none.
    pub build_id: String,
    /// Load bias: a module-relative address plus this is the address in the recorded process.
    pub load_bias: u64,
    /// Start of the mapped range, as an address in the recorded process.
    pub start: u64,
    /// End (exclusive) of the mapped range.
    pub end: u64,
    /// File offset of the module's first executable segment.
    pub file_offset: u64,
    /// Where that segment is in memory, relative to the module: the byte at `file_offset` of the file
    /// is mapped at `load_bias` plus the start. Absent where unknown.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "Option::is_none"))]
    pub code: Option<Range<u64>>,
}

impl Module {
    /// A module of which only the path is known.
    pub fn named(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// The bytes of a build-id in the form of [`build_id`](Self::build_id).
    #[doc(hidden)]
    pub fn build_id_from_bytes(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Code addresses, one a frame, in two columns of equal length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Frames {
    /// Index into [`Snapshot::modules`].
    pub module: Vec<u32>,
    /// Address relative to the module: an address of the ELF file's own address space (what
    /// `addr2line` and `nm` use), inside the call instruction, not the return address behind it.
    pub address: Vec<u64>,
    /// Where the function at the address begins, relative to the module; the address itself where
    /// nobody could tell. From the unwind tables, so it needs no symbols.
    pub function: Vec<u64>,
    /// Names, where `heapdrift symbolize` has put them in. Recording never does.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "Option::is_none"))]
    pub symbols: Option<Symbols>,
}

/// Names of the code addresses, so that a dump can be read without the binaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Symbols {
    /// For each frame, how many functions are there; 0 where no name is known.
    pub count: Vec<u32>,
    /// Indices into `functions`, frame after frame: the innermost function of a frame first, each
    /// inlined into the next.
    pub function: Vec<u32>,
    /// Functions at places in their source, each once.
    pub functions: Vec<Function>,
}

/// A function at a place in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Function {
    /// Readable name, without hashes.
    pub name: String,
    /// Its crate, or the file name of its module for other languages.
    pub crate_name: String,
    /// Source file.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "Option::is_none"))]
    pub file: Option<String>,
    /// Line in `file`.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "Option::is_none"))]
    pub line: Option<u32>,
}

impl Symbols {
    /// Of each frame, its functions as indices into `functions`.
    pub fn of_frames(&self) -> impl Iterator<Item = &[u32]> {
        let mut rest = self.function.as_slice();
        self.count.iter().map(move |&count| {
            let (these, others) = rest.split_at(rest.len().min(count as usize));
            rest = others;
            these
        })
    }
}

/// A sampled stack and its estimates.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct Stack {
    /// Indices into [`Snapshot::frames`], the innermost function first.
    pub frames: Vec<u32>,
    /// Whether the outermost frames are missing: depth limit, or no unwind information.
    #[cfg_attr(feature = "analysis", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub truncated: bool,
    /// Number of the stack with its labels, the same in all dumps of a session.
    pub site: u32,
    /// Index into [`Snapshot::label_sets`].
    pub labels: u32,
    /// The estimates of this stack with these labels.
    pub metrics: Metrics,
}

/// The live samples, a column a property, all of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "analysis", derive(serde::Serialize))]
#[cfg_attr(feature = "read", derive(serde::Deserialize))]
#[non_exhaustive]
pub struct LiveSamples {
    /// Identity: never given twice in a session, kept through `realloc`.
    pub id: Vec<u64>,
    /// Index into [`Snapshot::stacks`].
    pub stack: Vec<u32>,
    /// Requested bytes.
    pub size: Vec<u64>,
    /// The interval R, in bytes, at which this sample was kept: it was included with probability
    /// `1 − exp(−size/R)`, or 1 when R is 1. Below the snapshot's interval where the interval was
    /// raised and the sample not thinned yet, above it where the interval was lowered.
    pub interval: Vec<f32>,
    /// Birth, in milliseconds since recording started. `realloc` keeps it.
    pub birth_ms: Vec<u64>,
    /// The tick of the leak detector that was running at birth, from 1. `realloc` keeps it.
    pub birth_tick: Vec<u32>,
    /// How many times `realloc` has changed the object's size.
    pub reallocs: Vec<u32>,
}

/// One row of [`LiveSamples`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LiveSample {
    /// Identity, see [`LiveSamples::id`].
    pub id: u64,
    /// Index into [`Snapshot::stacks`].
    pub stack: u32,
    /// Requested bytes.
    pub size: u64,
    /// The interval at which this sample was kept, in bytes.
    pub interval: f32,
    /// Birth in milliseconds since recording started.
    pub birth_ms: u64,
    /// The tick of the leak detector that was running at birth, from 1.
    pub birth_tick: u32,
    /// How many times `realloc` has changed the object's size.
    pub reallocs: u32,
}

impl LiveSample {
    /// The probability with which an object of this size is sampled: `1 − exp(−size/interval)`, or
    /// 1 where the interval is 1. An object of no bytes counts as one of 1.
    pub fn probability(&self) -> f64 {
        inclusion_probability(self.size, self.interval)
    }

    /// What the sample stands for.
    pub fn weight(&self) -> Weight {
        Weight::of(self.size, self.probability())
    }
}

impl LiveSamples {
    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// The samples, row by row.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = LiveSample> + '_ {
        (0..self.len()).map(|row| LiveSample {
            id: self.id[row],
            stack: self.stack[row],
            size: self.size[row],
            interval: self.interval[row],
            birth_ms: self.birth_ms[row],
            birth_tick: self.birth_tick[row],
            reallocs: self.reallocs[row],
        })
    }

    /// Adds a row.
    pub fn push(&mut self, sample: LiveSample) {
        self.id.push(sample.id);
        self.stack.push(sample.stack);
        self.size.push(sample.size);
        self.interval.push(sample.interval);
        self.birth_ms.push(sample.birth_ms);
        self.birth_tick.push(sample.birth_tick);
        self.reallocs.push(sample.reallocs);
    }
}

impl Snapshot {
    /// Checks the invariant: columns of one table have equal length, indices are in range, and
    /// estimates are finite.
    ///
    /// # Errors
    /// The first violation found, in words: what was expected and what was found.
    pub fn validate(&self) -> Result<(), String> {
        // An age is a difference of ticks, and sums of them must fit. At one a second it is 68 years.
        if self.taken.tick > i32::MAX as u32 {
            return Err(format!("expected taken.tick below 2³¹, found {}", self.taken.tick));
        }
        let frames = &self.frames;
        same_length("frames", &[frames.module.len(), frames.address.len(), frames.function.len()])?;
        let live = &self.live;
        same_length(
            "live",
            &[
                live.id.len(),
                live.stack.len(),
                live.size.len(),
                live.interval.len(),
                live.birth_ms.len(),
                live.birth_tick.len(),
                live.reallocs.len(),
            ],
        )?;
        in_range("frames.module", &self.frames.module, "modules", self.modules.len())?;
        if let Some(symbols) = &self.frames.symbols {
            same_length("frames", &[self.frames.module.len(), symbols.count.len()])?;
            let (named, sum) = (symbols.function.len(), symbols.count.iter());
            let sum: u64 = sum.map(|&count| u64::from(count)).sum();
            if sum != named as u64 {
                return Err(format!(
                    "expected symbols.function of length {sum} (the sum of symbols.count), found {named}"
                ));
            }
            let functions = symbols.functions.len();
            in_range("symbols.function", &symbols.function, "symbols.functions", functions)?;
        }
        for stack in &self.stacks {
            in_range("stacks.frames", &stack.frames, "frames", self.frames.address.len())?;
            in_range("stacks.labels", &[stack.labels], "label_sets", self.label_sets.len())?;
            stack.metrics.validate()?;
        }
        in_range("live.stack", &live.stack, "stacks", self.stacks.len())?;
        if let Some(bad) = live.interval.iter().find(|r| !(r.is_finite() && **r >= 1.0)) {
            return Err(format!("expected live.interval of at least 1, found {bad}"));
        }
        self.totals.validate()
    }
}

impl Metrics {
    fn validate(&self) -> Result<(), String> {
        let all = [
            self.live_bytes,
            self.live_count,
            self.alloc_bytes,
            self.alloc_count,
            self.peak_bytes,
            self.peak_count,
        ];
        match all.iter().find(|e| !(e.value.is_finite() && e.std_error >= 0.0)) {
            None => Ok(()),
            Some(e) => Err(format!(
                "expected finite estimates with a standard error of at least 0, found {} ± {}",
                e.value, e.std_error
            )),
        }
    }
}

fn same_length(table: &str, lengths: &[usize]) -> Result<(), String> {
    match lengths.iter().find(|length| **length != lengths[0]) {
        None => Ok(()),
        Some(other) => Err(format!(
            "expected columns of {table} of equal length, found {} and {other}",
            lengths[0]
        )),
    }
}

fn in_range(field: &str, indices: &[u32], table: &str, length: usize) -> Result<(), String> {
    match indices.iter().find(|index| **index as usize >= length) {
        None => Ok(()),
        Some(index) => {
            Err(format!("expected {field} below {length} (the length of {table}), found {index}"))
        }
    }
}
