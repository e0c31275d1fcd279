//! Stacks of code locations: addresses together with the functions at them.
//!
//! Formats with addresses (pprof, DHAT, jeprof) are written from these stacks. Everything else is
//! made from the names alone, which [`Located::into_symbolized`] returns.
//!
//! Invariant: the indices of each stack point into [`Located::locations`] and
//! [`Located::label_sets`], those of each location into [`Located::frames`] and
//! [`Located::mappings`]; every stack has at least one location and every location one frame.

use std::collections::BTreeMap;

use heapdrift::snapshot::Metrics;

use crate::heap::symbolized::{Frame, Origin, Stack, Symbolized};

/// A snapshot with addresses and names, inlined functions included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Located {
    /// The modules of the snapshot, in its order.
    pub mappings: Vec<Mapping>,
    /// Distinct frames.
    pub frames: Vec<Frame>,
    /// Distinct code locations. One address can have several locations, if allocator frames that
    /// were inlined there are removed from some stacks only.
    pub locations: Vec<Location>,
    /// Distinct sets of labels.
    pub label_sets: Vec<BTreeMap<String, String>>,
    /// The stacks, without the frames of the allocator and the profiler at their innermost end.
    pub stacks: Vec<LocatedStack>,
    /// Sums over all stacks.
    pub totals: Metrics,
    /// The origin of the numbers, for titles.
    pub origin: Origin,
}

/// A code address and the functions at it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// Index into [`Located::mappings`]; `None` for the frame that stands for a missing stack.
    pub mapping: Option<u32>,
    /// The address in the recorded process.
    pub address: u64,
    /// The functions as indices into [`Located::frames`], the innermost first, each inlined into
    /// the next.
    pub frames: Vec<u32>,
    /// Whether names are known. If not, there is one frame, `module+0xaddress`.
    pub named: bool,
}

/// A stack and its estimates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocatedStack {
    /// Indices into [`Located::locations`], the innermost first.
    pub locations: Vec<u32>,
    /// Index into [`Located::label_sets`].
    pub labels: u32,
    /// Whether the outermost frames are missing.
    pub truncated: bool,
    /// The estimates.
    pub metrics: Metrics,
    /// The size of the live objects, if all samples of them have the same size.
    pub object_bytes: Option<u64>,
}

/// Where the code of a module was mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Path as the recorded process saw it.
    pub path: String,
    /// The build-id, empty if the module has none.
    pub build_id: String,
    /// Start of the range, as an address in the recorded process.
    pub start: u64,
    /// End (exclusive) of the range.
    pub end: u64,
    /// Offset in the file of the byte that is mapped at `start`.
    pub offset: u64,
}

impl Located {
    /// The same stacks with names alone.
    pub fn into_symbolized(self) -> Symbolized {
        let locations = self.locations;
        let stacks = self.stacks.into_iter().map(|stack| Stack {
            frames: stack
                .locations
                .iter()
                .flat_map(|&location| locations[location as usize].frames.iter().copied())
                .collect(),
            labels: stack.labels,
            truncated: stack.truncated,
            metrics: stack.metrics,
        });
        Symbolized {
            stacks: stacks.collect(),
            frames: self.frames,
            label_sets: self.label_sets,
            totals: self.totals,
            origin: self.origin,
        }
    }
}
