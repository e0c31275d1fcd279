//! Where the units of a module's debug information are, and roughly which code they describe.
//!
//! All functions at an address are described in one unit. Without this, finding it would mean
//! opening every unit.

use gimli::{DebugInfoOffset, Range};

use super::debug_info::{Dwarf, Unit};

/// Pieces of a unit's code that are further apart than this become separate spans. Linkers keep
/// most of a unit's code together, and place rarely called code elsewhere.
const NEAR_BYTES: u64 = 64 << 10;

/// The most spans of a unit. The last one covers all the rest.
const MAX_SPANS: usize = 8;

/// The first units of a module, as many as were surveyed.
#[derive(Debug, Default)]
pub(super) struct Units {
    /// The offsets of the units. They fit in 32 bits, as no more than a gigabyte of debug
    /// information is read.
    starts: Vec<u32>,
    spans: Vec<Span>,
    /// The offset of the next unit.
    end: usize,
}

/// A range of code that a unit describes. It may include gaps.
#[derive(Debug)]
struct Span {
    begin: u64,
    end: u64,
    unit: u32,
}

impl Span {
    fn is_near(&self, range: &Range) -> bool {
        range.begin <= self.end.saturating_add(NEAR_BYTES)
            && self.begin <= range.end.saturating_add(NEAR_BYTES)
    }
}

impl Units {
    /// Adds the next unit, which ends at `end`.
    pub(super) fn push(&mut self, dwarf: &Dwarf<'_>, unit: Option<&Unit<'_>>, end: usize) {
        let number = self.starts.len() as u32;
        let known = self.spans.len();
        self.starts.push(self.end as u32);
        self.end = end;
        let Some(Ok(mut ranges)) = unit.map(|unit| dwarf.unit_ranges(unit)) else { return };
        while let Ok(Some(range)) = ranges.next() {
            let spans = &mut self.spans[known..];
            let near = spans.iter().position(|span| span.is_near(&range));
            let is_full = spans.len() == MAX_SPANS;
            match near.or(is_full.then_some(MAX_SPANS - 1)) {
                Some(at) => {
                    spans[at].begin = spans[at].begin.min(range.begin);
                    spans[at].end = spans[at].end.max(range.end);
                }
                None => {
                    self.spans.push(Span { begin: range.begin, end: range.end, unit: number });
                }
            }
        }
    }

    /// The offset of the next unit.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The memory that is used, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.starts.len() * size_of::<u32>() + self.spans.len() * size_of::<Span>()
    }

    /// Frees the spare capacity.
    pub(super) fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    /// The offsets of all units, including those that were not surveyed yet.
    pub(super) fn starts(&self, dwarf: &Dwarf<'_>) -> Vec<usize> {
        let mut starts: Vec<usize> = self.starts.iter().map(|start| *start as usize).collect();
        let mut next = self.end;
        while let Ok(header) = dwarf.debug_info.header_from_offset(DebugInfoOffset(next)) {
            starts.push(next);
            next += header.length_including_self();
        }
        starts
    }

    /// The indices of those of the `all` units that may describe code at one of the sorted
    /// `addresses`.
    pub(super) fn candidates(&self, addresses: &[u64], all: usize) -> Vec<usize> {
        let covers = |span: &&Span| {
            let first = addresses.partition_point(|address| *address < span.begin);
            addresses.get(first).is_some_and(|address| *address < span.end)
        };
        let spans = self.spans.iter().filter(covers);
        let mut units: Vec<usize> = spans.map(|span| span.unit as usize).collect();
        units.dedup();
        units.extend(self.starts.len()..all);
        units
    }
}
