//! Stacks of code locations: addresses together with the functions that are there.
//!
//! Formats that keep addresses (pprof, DHAT, jeprof) are written from this; everything else from
//! the plain names that [`Located::into_symbolized`] leaves.
//!
//! Invariant: the indices of each stack point into [`Located::locations`] and
//! [`Located::label_sets`], those of each location into [`Located::frames`] and
//! [`Located::mappings`]; no stack is without a location and no location without a frame.

use std::collections::BTreeMap;

use heapdrift::snapshot::Metrics;

use crate::heap::symbolized::{Frame, Origin, Stack, Symbolized};

/// A snapshot whose addresses have names beside them, inlined functions included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Located {
    /// The modules of the snapshot, in its order.
    pub mappings: Vec<Mapping>,
    /// Distinct functions at places in their source.
    pub frames: Vec<Frame>,
    /// Distinct code addresses. One address may be in several, where frames of the allocator that
    /// were inlined there have been cut off.
    pub locations: Vec<Location>,
    /// Distinct sets of labels.
    pub label_sets: Vec<BTreeMap<String, String>>,
    /// The stacks, with what the allocator and the profiler put on top of them cut off.
    pub stacks: Vec<LocatedStack>,
    /// Sums over all stacks.
    pub totals: Metrics,
    /// Where it comes from, for titles.
    pub origin: Origin,
}

/// What one code address is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// Index into [`Located::mappings`]; none for the frame that stands for no stack at all.
    pub mapping: Option<u32>,
    /// The address in the recorded process.
    pub address: u64,
    /// The functions there as indices into [`Located::frames`]: the innermost first, each inlined
    /// into the next.
    pub frames: Vec<u32>,
    /// Whether names are known. Otherwise the one frame is `module+0xaddress`.
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
    /// The size of the live objects, where all samples of them have the same.
    pub object_bytes: Option<u64>,
}

/// Where the code of a module was mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Path as the recorded process saw it.
    pub path: String,
    /// The build-id, empty where the module has none.
    pub build_id: String,
    /// Start of the range, as an address in the recorded process.
    pub start: u64,
    /// End (exclusive) of the range.
    pub end: u64,
    /// Offset in the file of what is mapped at `start`.
    pub offset: u64,
}

impl Located {
    /// The same stacks as names alone.
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
