//! Stacks with names: what every table and picture is made from.
//!
//! Invariant: the indices of each stack point into [`Symbolized::frames`] and
//! [`Symbolized::label_sets`], and no stack has no frame.

use std::collections::{BTreeMap, HashMap};

use heapdrift::Snapshot;
pub(crate) use heapdrift::names::file_name;
use heapdrift::snapshot::Metrics;

/// A snapshot whose addresses have become names, inlined functions included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Symbolized {
    /// Distinct frames.
    pub frames: Vec<Frame>,
    /// Distinct sets of labels.
    pub label_sets: Vec<BTreeMap<String, String>>,
    /// The stacks, with what the allocator and the profiler put on top of them cut off.
    pub stacks: Vec<Stack>,
    /// Sums over all stacks.
    pub totals: Metrics,
    /// Where it comes from, for titles.
    pub origin: Origin,
}

/// A function at a place in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Readable name, without hashes; `module+0xaddress` where there is none.
    pub function: String,
    /// The crate of the function, or the file name of its module for other languages.
    pub krate: String,
    /// Source file, without the parts that only say where it was built.
    pub file: Option<String>,
    /// Line in `file`: of the call, or of the allocation.
    pub line: Option<u32>,
}

impl Frame {
    /// `file:line (function)`, or as much of it as is known.
    pub fn place(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line} ({})", self.function),
            (Some(file), None) => format!("{file} ({})", self.function),
            _ => self.function.clone(),
        }
    }
}

/// A stack and its estimates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stack {
    /// Indices into [`Symbolized::frames`], the innermost function first.
    pub frames: Vec<u32>,
    /// Index into [`Symbolized::label_sets`].
    pub labels: u32,
    /// Whether the outermost frames are missing.
    pub truncated: bool,
    /// The estimates.
    pub metrics: Metrics,
}

/// Where the numbers come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// File name of the executable.
    pub binary: String,
    /// Mean bytes between samples. Where several dumps are summed, the largest.
    pub interval_bytes: f64,
    /// Samples in the dump or dumps.
    pub samples: u64,
    /// How many processes are summed.
    pub processes: u32,
}

impl Origin {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            binary: file_name(&snapshot.process.executable).to_owned(),
            interval_bytes: snapshot.sampling.interval_bytes,
            samples: snapshot.stats.samples_taken,
            processes: 1,
        }
    }
}

impl Symbolized {
    /// The sum over several processes. Their samples are independent, so variances add.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self::default();
        let mut frames = HashMap::new();
        let mut label_sets = HashMap::new();
        let mut stacks = HashMap::new();
        for part in parts {
            let frame_of: Vec<u32> =
                part.frames.into_iter().map(|f| intern(&mut frames, &mut sum.frames, f)).collect();
            let labels_of: Vec<u32> = part
                .label_sets
                .into_iter()
                .map(|set| intern(&mut label_sets, &mut sum.label_sets, set))
                .collect();
            for mut stack in part.stacks {
                stack.frames.iter_mut().for_each(|frame| *frame = frame_of[*frame as usize]);
                stack.labels = labels_of[stack.labels as usize];
                let key = (stack.frames.clone(), stack.labels, stack.truncated);
                match stacks.get(&key) {
                    Some(&at) => {
                        let there: &mut Stack = &mut sum.stacks[at];
                        there.metrics = add(&there.metrics, &stack.metrics);
                    }
                    None => {
                        stacks.insert(key, sum.stacks.len());
                        sum.stacks.push(stack);
                    }
                }
            }
            sum.totals = add(&sum.totals, &part.totals);
            sum.origin.add(part.origin);
        }
        sum
    }
}

impl Origin {
    fn add(&mut self, other: Self) {
        if self.processes == 0 {
            *self = other;
            return;
        }
        if !self.binary.split(", ").any(|known| known == other.binary) {
            self.binary = format!("{}, {}", self.binary, other.binary);
        }
        self.interval_bytes = self.interval_bytes.max(other.interval_bytes);
        self.samples += other.samples;
        self.processes += other.processes;
    }
}

pub(crate) fn add(a: &Metrics, b: &Metrics) -> Metrics {
    let mut sum = Metrics::default();
    sum.live_bytes = a.live_bytes + b.live_bytes;
    sum.live_count = a.live_count + b.live_count;
    sum.alloc_bytes = a.alloc_bytes + b.alloc_bytes;
    sum.alloc_count = a.alloc_count + b.alloc_count;
    sum.peak_bytes = a.peak_bytes + b.peak_bytes;
    sum.peak_count = a.peak_count + b.peak_count;
    sum
}

/// The index of `value` in `values`, which it joins if it is new.
pub(crate) fn intern<T: Clone + Eq + std::hash::Hash>(
    index: &mut HashMap<T, u32>,
    values: &mut Vec<T>,
    value: T,
) -> u32 {
    if let Some(&at) = index.get(&value) {
        return at;
    }
    let at = u32::try_from(values.len()).expect("fewer than 2^32 distinct values fit in a dump");
    values.push(value.clone());
    index.insert(value, at);
    at
}
