//! Where the units of a module's debug information are, and roughly which code they describe.
//!
//! The functions at an address are in one unit; to find it without this takes a look at all of them.

use gimli::{DebugInfoOffset, Range};

use super::debug_info::{Dwarf, Unit};

/// Code of a unit that is further apart than this is told apart. Linkers leave most of a unit's code
/// together, and put what is seldom called elsewhere.
const NEAR_BYTES: u64 = 64 << 10;

/// The most spans of a unit: the last one has what is left.
const MAX_SPANS: usize = 8;

/// The first units of a module, as many as were looked at.
#[derive(Debug, Default)]
pub(super) struct Units {
    /// Where each begins: there are no more than four gigabytes of them.
    starts: Vec<u32>,
    spans: Vec<Span>,
    /// Where the next one begins.
    end: usize,
}

/// Code that a unit describes, with what may be between.
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

    /// Where the next one begins.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.starts.len() * size_of::<u32>() + self.spans.len() * size_of::<Span>()
    }

    /// Gives back what was taken for more.
    pub(super) fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    /// Where all units begin, also those that were not looked at yet.
    pub(super) fn starts(&self, dwarf: &Dwarf<'_>) -> Vec<usize> {
        let mut starts: Vec<usize> = self.starts.iter().map(|start| *start as usize).collect();
        let mut next = self.end;
        while let Ok(header) = dwarf.debug_info.header_from_offset(DebugInfoOffset(next)) {
            starts.push(next);
            next += header.length_including_self();
        }
        starts
    }

    /// The numbers of those, of `all`, that may describe code at one of the sorted `addresses`.
    pub(super) fn near(&self, addresses: &[u64], all: usize) -> Vec<usize> {
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
