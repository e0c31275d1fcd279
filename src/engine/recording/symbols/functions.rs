//! Finds the functions at an address, inlined ones included, in debug information.

use std::collections::HashMap;

use gimli::{AttributeValue, DebugInfoOffset, DebuggingInformationEntry, UnitOffset};

use super::debug_info::{Dwarf, Reader, Unit};
use super::units::Units;
use crate::names::Kind;

/// The most references that are followed from a function to its name: from an inlined call to the
/// function, and from there to its declaration.
const MAX_REFERENCES: usize = 4;

/// A function at a place in its source.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Function {
    /// The symbol, or only a bare name if there are only line tables.
    pub(super) name: String,
    /// The kind of closure that it is, if it is one.
    pub(super) kind: Option<Kind>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

/// The functions at each of the sorted `addresses`, innermost first. What cannot be read is left
/// out.
pub(super) fn at(
    dwarf: &Dwarf<'_>,
    units: &Units,
    addresses: &[u64],
) -> HashMap<u64, Vec<Function>> {
    let starts = units.starts(dwarf);
    let mut search = Search { dwarf, unit_starts: starts, names: HashMap::new(), other_unit: None };
    let mut found = HashMap::new();
    for at in units.candidates(addresses, search.unit_starts.len()) {
        let Some(unit) = search.unit(DebugInfoOffset(search.unit_starts[at])) else { continue };
        let inside = covered(dwarf.unit_ranges(&unit), addresses);
        if !inside.is_empty() {
            let _ = search.read_unit(&unit, &inside, &mut found);
        }
    }
    found
}

struct Search<'a, 'data> {
    dwarf: &'a Dwarf<'data>,
    /// The offsets of the units.
    unit_starts: Vec<usize>,
    /// The names of functions that were found so far, by the offset of their entry.
    names: HashMap<usize, (String, Option<Kind>)>,
    /// The last unit in which a name was found, other than the unit that referred to it.
    other_unit: Option<Unit<'data>>,
}

/// A function that covers an address: the offset of its entry, and where it was called from if it
/// was inlined.
struct Cover {
    entry: usize,
    call: Option<(u64, Option<u32>)>,
}

impl<'data> Search<'_, 'data> {
    fn unit(&self, offset: DebugInfoOffset) -> Option<Unit<'data>> {
        self.dwarf.unit(self.dwarf.debug_info.header_from_offset(offset).ok()?).ok()
    }

    /// Adds the functions that a unit describes at its part of `addresses`.
    fn read_unit(
        &mut self,
        unit: &Unit<'data>,
        addresses: &[u64],
        found: &mut HashMap<u64, Vec<Function>>,
    ) -> gimli::Result<()> {
        // Outermost first, since an entry comes after the one that contains it.
        let mut covers: HashMap<u64, Vec<Cover>> = HashMap::new();
        let mut entries = unit.entries_raw(None)?;
        let mut entry = DebuggingInformationEntry::null();
        // The depth of a function that covers no address. What is inlined into it covers none
        // either.
        let mut skipped_depth = isize::MAX;
        while !entries.is_empty() {
            let (here, depth) = (entries.clone(), entries.next_depth());
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            if depth <= skipped_depth {
                skipped_depth = isize::MAX;
            }
            let inlined = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine;
            let wanted = match abbreviation.tag() {
                gimli::DW_TAG_subprogram => true,
                _ => inlined && skipped_depth == isize::MAX,
            };
            // Skipping an entry is quicker than reading it, and most entries describe types and
            // variables.
            if !wanted {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            entries = here;
            entries.read_entry(&mut entry)?;
            let inside = covered(self.dwarf.die_ranges(unit, &entry), addresses);
            if inside.is_empty() {
                skipped_depth = skipped_depth.min(depth);
                continue;
            }
            skipped_depth = isize::MAX;
            let call = inlined.then(|| {
                let file = match entry.attr_value(gimli::DW_AT_call_file) {
                    Some(AttributeValue::FileIndex(file)) => file,
                    _ => 0,
                };
                let line = entry.attr_value(gimli::DW_AT_call_line);
                let line = line.and_then(|line| line.udata_value()?.try_into().ok());
                // Code that the compiler generated is in line 0.
                (file, line.filter(|line| *line > 0))
            });
            let Some(at) = entry.offset().to_debug_info_offset(&unit.header) else { continue };
            for address in inside {
                covers.entry(address).or_default().push(Cover { entry: at.0, call });
            }
        }
        let mut lines = lines(unit, covers.keys().copied())?;
        for (address, covers) in covers {
            let (mut file, mut line) = lines.remove(&address).unwrap_or_default();
            let mut functions = Vec::with_capacity(covers.len());
            for cover in covers.iter().rev() {
                let (name, kind) = self.name(unit, cover.entry);
                let path = file.and_then(|file| self.path(unit, file));
                functions.push(Function { name, kind, file: path, line });
                (file, line) = match cover.call {
                    Some((file, line)) => (Some(file), line),
                    None => break,
                };
            }
            found.entry(address).or_insert(functions);
        }
        Ok(())
    }

    /// The symbol of the function that is described at `offset`, or its bare name if it has none.
    fn name(&mut self, here: &Unit<'data>, offset: usize) -> (String, Option<Kind>) {
        if let Some(name) = self.names.get(&offset) {
            return name.clone();
        }
        let (mut symbol, mut bare, mut next) = (None, None, Some(offset));
        for _ in 0..MAX_REFERENCES {
            let Some(at) = next.take() else { break };
            let dwarf = self.dwarf;
            let Some((unit, within)) = self.unit_at(here, DebugInfoOffset(at)) else { break };
            let Ok(entry) = unit.entry(within) else { break };
            let text = |name| {
                let text = dwarf.attr_string(unit, entry.attr_value(name)?).ok()?;
                Some(text.to_string_lossy().into_owned())
            };
            symbol = symbol.or_else(|| {
                text(gimli::DW_AT_linkage_name).or_else(|| text(gimli::DW_AT_MIPS_linkage_name))
            });
            bare = bare.or_else(|| text(gimli::DW_AT_name));
            if symbol.is_some() && bare.is_some() {
                break;
            }
            next = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification]
                .iter()
                .find_map(|name| entry.attr_value(*name))
                .and_then(|origin| match origin {
                    AttributeValue::UnitRef(origin) => {
                        Some(origin.to_debug_info_offset(&unit.header)?.0)
                    }
                    AttributeValue::DebugInfoRef(origin) => Some(origin.0),
                    _ => None,
                });
        }
        let kind = bare.as_deref().and_then(Kind::of_debug_name);
        // The bare name says what kind of closure it is, which is needed when there is no symbol.
        let name = (symbol.or(bare).unwrap_or_default(), kind);
        self.names.insert(offset, name.clone());
        name
    }

    /// The unit that contains the entry at `offset`. It is usually `here`, but with link-time
    /// optimisation functions may be described in another unit than the one they were inlined into.
    fn unit_at<'s>(
        &'s mut self,
        here: &'s Unit<'data>,
        offset: DebugInfoOffset,
    ) -> Option<(&'s Unit<'data>, UnitOffset)> {
        if let Some(within) = offset.to_unit_offset(&here.header) {
            return Some((here, within));
        }
        let has = |unit: &Unit<'data>| offset.to_unit_offset(&unit.header).is_some();
        if !self.other_unit.as_ref().is_some_and(has) {
            let after = self.unit_starts.partition_point(|unit| *unit <= offset.0);
            self.other_unit = self.unit(DebugInfoOffset(self.unit_starts[after.checked_sub(1)?]));
        }
        let unit = self.other_unit.as_ref()?;
        Some((unit, offset.to_unit_offset(&unit.header)?))
    }

    /// The path of a file in a unit's line table.
    fn path(&self, unit: &Unit<'data>, file: u64) -> Option<String> {
        let header = unit.line_program.as_ref()?.header();
        let file = header.file(file)?;
        let text = |value| {
            let text = self.dwarf.attr_string(unit, value).ok()?;
            Some(text.to_string_lossy().into_owned())
        };
        let mut path = unit.comp_dir.map(|d| d.to_string_lossy().into_owned()).unwrap_or_default();
        // Each part is absolute, or relative to the path before it.
        for part in [file.directory(header).and_then(text), text(file.path_name())] {
            match part {
                Some(part) if part.starts_with('/') => path = part,
                Some(part) if !part.is_empty() && part != path => {
                    if !path.is_empty() && !path.ends_with('/') {
                        path.push('/');
                    }
                    path.push_str(&part);
                }
                _ => {}
            }
        }
        Some(path)
    }
}

/// A file of the unit's line table, and a line in it.
type FileLine = (Option<u64>, Option<u32>);

/// The file and the line at each address.
fn lines(
    unit: &Unit<'_>,
    addresses: impl Iterator<Item = u64>,
) -> gimli::Result<HashMap<u64, FileLine>> {
    let mut addresses: Vec<u64> = addresses.collect();
    addresses.sort_unstable();
    let mut found = HashMap::new();
    let Some(program) = unit.line_program.clone() else { return Ok(found) };
    let mut rows = program.rows();
    let mut before: Option<(u64, u64, Option<u32>)> = None;
    while let Some((_, row)) = rows.next_row()? {
        if let Some((start, file, line)) = before {
            let first = addresses.partition_point(|address| *address < start);
            for &address in addresses[first..].iter().take_while(|a| **a < row.address()) {
                found.insert(address, (Some(file), line));
            }
        }
        let line = row.line().and_then(|line| line.get().try_into().ok());
        // Code that the linker dropped has address 0.
        let keep = !row.end_sequence() && row.address() != 0;
        before = keep.then(|| (row.address(), row.file_index(), line));
    }
    Ok(found)
}

/// Those of the sorted `addresses` that lie in one of the ranges.
fn covered(ranges: gimli::Result<gimli::RangeIter<Reader<'_>>>, addresses: &[u64]) -> Vec<u64> {
    let mut inside = Vec::new();
    let Ok(mut ranges) = ranges else { return inside };
    while let Ok(Some(range)) = ranges.next() {
        let first = addresses.partition_point(|address| *address < range.begin);
        inside.extend(addresses[first..].iter().take_while(|address| **address < range.end));
    }
    inside.sort_unstable();
    inside.dedup();
    inside
}
