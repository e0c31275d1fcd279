//! Stacks with names, from which every table and picture is made.
//!
//! Invariant: the indices of each stack point into [`Symbolized::frames`] and
//! [`Symbolized::label_sets`], and every stack has at least one frame.

use std::collections::{BTreeMap, HashMap};

use heapdrift::Snapshot;
use heapdrift::names::file_name;
use heapdrift::snapshot::Metrics;

use crate::intern::intern;
use crate::numbers::sum;

/// A snapshot whose addresses have become names, inlined functions included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Symbolized {
    /// Distinct frames.
    pub frames: Vec<Frame>,
    /// Distinct sets of labels.
    pub label_sets: Vec<BTreeMap<String, String>>,
    /// The stacks, without the frames of the allocator and the profiler at their innermost end.
    pub stacks: Vec<Stack>,
    /// Sums over all stacks.
    pub totals: Metrics,
    /// The origin of the numbers, for titles.
    pub origin: Origin,
}

/// A function and a line of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Readable name, without hashes; `module+0xaddress` if no name is known.
    pub function: String,
    /// The crate of the function; for other languages the file name of its module.
    pub krate: String,
    /// Source file, without the folders that only say where it was built.
    pub file: Option<String>,
    /// Line in `file` of the call or, in the innermost frame, of the allocation.
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

/// The recording or recordings that the numbers are from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// File name of the executable.
    pub binary: String,
    /// Mean bytes between samples; the largest, if several dumps were added up.
    pub interval_bytes: f64,
    /// Samples in the dump or dumps.
    pub samples: u64,
    /// How many processes were added up.
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
    /// Adds up several processes. Their samples are independent, so variances add up too.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut whole = Self::default();
        let mut frames = HashMap::new();
        let mut label_sets = HashMap::new();
        let mut stacks = HashMap::new();
        for part in parts {
            let frame_of: Vec<u32> = part
                .frames
                .into_iter()
                .map(|f| intern(&mut frames, &mut whole.frames, f))
                .collect();
            let labels_of: Vec<u32> = part
                .label_sets
                .into_iter()
                .map(|set| intern(&mut label_sets, &mut whole.label_sets, set))
                .collect();
            for mut stack in part.stacks {
                stack.frames.iter_mut().for_each(|frame| *frame = frame_of[*frame as usize]);
                stack.labels = labels_of[stack.labels as usize];
                let key = (stack.frames.clone(), stack.labels, stack.truncated);
                match stacks.get(&key) {
                    Some(&at) => {
                        let there: &mut Stack = &mut whole.stacks[at];
                        there.metrics = sum::metrics(&there.metrics, &stack.metrics);
                    }
                    None => {
                        stacks.insert(key, whole.stacks.len());
                        whole.stacks.push(stack);
                    }
                }
            }
            whole.totals = sum::metrics(&whole.totals, &part.totals);
            whole.origin.add(part.origin);
        }
        whole
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
