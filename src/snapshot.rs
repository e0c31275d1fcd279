//! Snapshots: the recorded state of a process, as plain data.
//!
//! Recording produces a [`Snapshot`]; dumps, diffs and tools work on nothing else. A dump is a
//! `Snapshot` as one JSON document in which each public field is a key of the same name, so this
//! module also documents the file format, version [`crate::dump::VERSION`].
//!
//! In a snapshot that was taken or read, every index is within the table it refers to;
//! [`Snapshot::validate`] checks that.

use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) use crate::estimate::inclusion_probability;
use crate::report::LeakReport;
use crate::{Estimate, Stats, Weight};

/// The maximum number of frames in a recorded stack.
pub const MAX_STACK_DEPTH: usize = 512;

/// The recorded state of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The process, and the profiling session in it.
    pub process: Process,
    /// When and why the snapshot was taken.
    pub taken: Taken,
    /// How samples were chosen.
    pub sampling: Sampling,
    /// The unwinders that captured stacks: `framehop`, `backtrace`, `framehop+backtrace`, or `none`
    /// if no stack was captured. `stats` says how many each captured.
    pub unwinder: String,
    /// The profiler's own counters.
    pub stats: Stats,
    /// Sums over all stacks.
    pub totals: Metrics,
    /// The executable, which is first, and the libraries in which frames lie.
    pub modules: Vec<Module>,
    /// The distinct code addresses that occur in stacks.
    pub frames: Frames,
    /// The distinct sets of labels that occur. The first is the empty set.
    pub label_sets: Vec<BTreeMap<String, String>>,
    /// The stacks that were sampled since the session started, with their estimates. A stack occurs
    /// once for each set of labels that was in force when it was sampled.
    pub stacks: Vec<Stack>,
    /// The live samples, each with its identity.
    pub live: LiveSamples,
    /// The report of the leak detector at the last tick; absent before the first tick.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
    pub leaks: Option<LeakReport>,
}

/// The process that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Process {
    /// The process id.
    pub id: u32,
    /// The name of the host or of the container when the snapshot was taken; empty if unknown.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "String::is_empty"))]
    pub host: String,
    /// The path of the executable, as the process itself saw it.
    pub executable: String,
    /// A random number that identifies the profiling session. Dumps with the same number are from
    /// one session.
    pub session: u64,
    /// The time when recording started, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// The version of the `heapdrift` crate that recorded.
    pub heapdrift_version: String,
}

/// When and why a snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Taken {
    /// The time of the snapshot, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Milliseconds since recording started, by a monotonic clock.
    pub uptime_ms: u64,
    /// Sequence number within the session, from 1.
    pub sequence: u64,
    /// The number of ticks of the leak detector that had ended. Samples that were born after the
    /// last of them have a larger [`birth_tick`](LiveSamples::birth_tick).
    #[cfg_attr(feature = "read", serde(default))]
    pub tick: u32,
    /// What triggered the snapshot: `call`, `periodic`, `signal` or `end`.
    pub reason: String,
}

/// How samples were chosen.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Sampling {
    /// Mean bytes between samples at the moment of the snapshot; 1 means that every allocation is
    /// recorded.
    pub interval_bytes: f64,
    /// The interval with which the session started. It differs from `interval_bytes` if the program
    /// changed the interval, or if it was raised because the memory cap was reached.
    pub initial_interval_bytes: f64,
    /// The seed, if one was set.
    pub seed: Option<u64>,
    /// `active`, `paused`, or `off`. The last means that nothing is recorded, because the crate was
    /// built without `profiling` or the platform does not support recording.
    pub state: String,
}

/// The estimates of one stack, or their sums over all stacks.
///
/// Bytes are requested bytes (`Layout::size`), without the overhead of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Metrics {
    /// Bytes that were allocated and not freed yet.
    pub live_bytes: Estimate,
    /// Objects that were allocated and not freed yet.
    pub live_count: Estimate,
    /// Bytes allocated since the session started.
    pub alloc_bytes: Estimate,
    /// Objects allocated since the session started. A `realloc` counts as an allocation.
    pub alloc_count: Estimate,
    /// Live bytes at the peak: the moment when the estimate of all live bytes was highest. The
    /// estimate is compared with its maximum at every sample. As the highest of many noisy
    /// estimates, the peak errs upward by about its own standard error.
    pub peak_bytes: Estimate,
    /// Live objects at the peak.
    pub peak_count: Estimate,
}

/// A mapped executable or shared library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Module {
    /// The path, as the dynamic loader saw it. `[unknown]` stands for code outside every module.
    pub path: String,
    /// The build-id in lower-case hexadecimal: the GNU build-id of an ELF file, or the UUID of a
    /// Mach-O file. Empty if the module has none.
    pub build_id: String,
    /// The load bias: a module-relative address plus the bias is the address in the recorded
    /// process.
    pub load_bias: u64,
    /// The start of the mapped range, as an address in the recorded process.
    pub start: u64,
    /// The end (exclusive) of the mapped range.
    pub end: u64,
    /// The file offset of the module's first executable segment.
    pub file_offset: u64,
    /// The range of that segment in memory, relative to the module: the byte at `file_offset` of
    /// the file is mapped at `load_bias + code.start`. Absent if unknown.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
    pub code: Option<Range<u64>>,
}

impl Module {
    /// Creates a module of which only the path is known.
    pub fn named(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Converts the bytes of a build-id to the form of [`build_id`](Self::build_id).
    #[doc(hidden)]
    pub fn build_id_from_bytes(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The code addresses of frames, in columns of equal length with one row per frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Frames {
    /// Index into [`Snapshot::modules`].
    pub module: Vec<u32>,
    /// The address relative to the module, that is, in the address space of its file, which
    /// `addr2line` and `nm` use. It lies inside the call instruction and is not the return address
    /// after it.
    pub address: Vec<u64>,
    /// The start of the function that contains the address, relative to the module, or the address
    /// itself if the start is unknown. It comes from the unwind tables and needs no symbols.
    pub function: Vec<u64>,
    /// The names of the frames, if `heapdrift symbolize` has stored them. Recording does not.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
    pub symbols: Option<Symbols>,
}

/// The names of code addresses, with which a dump can be read without the binaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Symbols {
    /// The number of functions at each frame, including inlined ones; 0 if no name is known.
    pub count: Vec<u32>,
    /// Indices into `functions`, frame after frame. The innermost function of a frame is first, and
    /// each is inlined into the next.
    pub function: Vec<u32>,
    /// The distinct functions with their source locations.
    pub functions: Vec<Function>,
}

/// A function and a location in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Function {
    /// The readable name, without hashes.
    pub name: String,
    /// Its crate, or the file name of its module if it is not written in Rust.
    pub crate_name: String,
    /// The source file.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
    pub file: Option<String>,
    /// The line in `file`.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "Option::is_none"))]
    pub line: Option<u32>,
}

impl Symbols {
    /// Returns the functions of each frame, as indices into `functions`.
    pub fn of_frames(&self) -> impl Iterator<Item = &[u32]> {
        let mut rest = self.function.as_slice();
        self.count.iter().map(move |&count| {
            let (functions, later) = rest.split_at(rest.len().min(count as usize));
            rest = later;
            functions
        })
    }
}

/// A sampled stack and its estimates.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stack {
    /// Indices into [`Snapshot::frames`], the innermost function first.
    pub frames: Vec<u32>,
    /// Whether the outermost frames are missing, because of the depth limit or missing unwind
    /// information.
    #[cfg_attr(feature = "read", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub truncated: bool,
    /// The number of the call site (the stack with its labels), which is the same in all dumps of a
    /// session.
    pub site: u32,
    /// Index into [`Snapshot::label_sets`].
    pub labels: u32,
    /// The estimates of this stack with these labels.
    pub metrics: Metrics,
}

/// The live samples, in columns of equal length with one row per sample.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "read", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LiveSamples {
    /// The identity of the object, which is unique in a session. `realloc` keeps it.
    pub id: Vec<u64>,
    /// Index into [`Snapshot::stacks`].
    pub stack: Vec<u32>,
    /// The requested bytes.
    pub size: Vec<u64>,
    /// The interval `R`, in bytes, that gives the probability of this sample: `1 − exp(−size/R)`,
    /// or 1 if `R` is 1. It is below [`Sampling::interval_bytes`] if that was raised and the sample
    /// is not thinned yet, and above it if that was lowered since.
    pub interval: Vec<f32>,
    /// The time of birth, in milliseconds since recording started. `realloc` keeps it.
    pub birth_ms: Vec<u64>,
    /// The tick of the leak detector that was running at birth, from 1. `realloc` keeps it.
    pub birth_tick: Vec<u32>,
    /// How many times `realloc` has changed the size of the object.
    pub reallocs: Vec<u32>,
}

/// One row of [`LiveSamples`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LiveSample {
    /// The identity of the object; see [`LiveSamples::id`].
    pub id: u64,
    /// Index into [`Snapshot::stacks`].
    pub stack: u32,
    /// The requested bytes.
    pub size: u64,
    /// The interval that gives the probability of this sample, in bytes; see
    /// [`LiveSamples::interval`].
    pub interval: f32,
    /// The time of birth, in milliseconds since recording started.
    pub birth_ms: u64,
    /// The tick of the leak detector that was running at birth, from 1.
    pub birth_tick: u32,
    /// How many times `realloc` has changed the size of the object.
    pub reallocs: u32,
}

impl LiveSample {
    /// The probability that an object of this size is sampled: `1 − exp(−size/interval)`, or 1 if
    /// the interval is 1. A zero-sized object counts as one byte.
    pub fn probability(&self) -> f64 {
        inclusion_probability(self.size, self.interval)
    }

    /// The weight of the sample: the objects and bytes that it stands for.
    pub fn weight(&self) -> Weight {
        Weight::of(self.size, self.probability())
    }
}

impl LiveSamples {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// Iterates over the samples, row by row. Panics if the columns differ in length, which
    /// [`Snapshot::validate`] checks.
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

    /// Appends a sample.
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
    /// Checks that the columns of each table have equal length, that indices are within their
    /// tables, and that estimates are finite. The time is linear in the size of the snapshot.
    ///
    /// # Errors
    /// The first violation, in words: what was expected and what was found.
    pub fn validate(&self) -> Result<(), String> {
        // Ages are differences of ticks, and sums of ages must not overflow. At one tick per second
        // the limit is 68 years.
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
