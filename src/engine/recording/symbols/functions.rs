//! The functions at an address, inlined ones included, from debug information.

use std::collections::HashMap;

use gimli::{AttributeValue, DebugInfoOffset, DebuggingInformationEntry, UnitOffset};

use super::debug_info::{Dwarf, Reader, Unit};
use super::units::Units;
use crate::names::Kind;

/// How often a function may refer to where its name is: an inlined call to the function, that to its
/// declaration.
const MAX_REFERENCES: usize = 4;

/// A function at a place in its source.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Function {
    /// The symbol, or with line tables only a bare name.
    pub(super) name: String,
    /// What kind of closure it is, if it is one.
    pub(super) kind: Option<Kind>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

/// The functions at each of the sorted `addresses`, innermost first. What cannot be read is left out.
pub(super) fn at(
    dwarf: &Dwarf<'_>,
    units: &Units,
    addresses: &[u64],
) -> HashMap<u64, Vec<Function>> {
    let starts = units.starts(dwarf);
    let mut search = Search { dwarf, units: starts, names: HashMap::new(), other: None };
    let mut found = HashMap::new();
    for at in units.near(addresses, search.units.len()) {
        let Some(unit) = search.unit(DebugInfoOffset(search.units[at])) else { continue };
        let inside = covered(dwarf.unit_ranges(&unit), addresses);
        if !inside.is_empty() {
            let _ = search.read(&unit, &inside, &mut found);
        }
    }
    found
}

struct Search<'a, 'data> {
    dwarf: &'a Dwarf<'data>,
    /// Where the units begin.
    units: Vec<usize>,
    /// Names of inlined functions, by where they are described.
    names: HashMap<usize, (String, Option<Kind>)>,
    /// The one that a name was found in last, other than where it was looked for.
    other: Option<Unit<'data>>,
}

/// A function that covers an address: where it is described, and where it was called from if it was
/// inlined.
struct Cover {
    entry: usize,
    call: Option<(u64, Option<u32>)>,
}

impl<'data> Search<'_, 'data> {
    fn unit(&self, offset: DebugInfoOffset) -> Option<Unit<'data>> {
        self.dwarf.unit(self.dwarf.debug_info.header_from_offset(offset).ok()?).ok()
    }

    /// Adds the functions at those of `addresses` that a unit describes.
    fn read(
        &mut self,
        unit: &Unit<'data>,
        addresses: &[u64],
        found: &mut HashMap<u64, Vec<Function>>,
    ) -> gimli::Result<()> {
        // Outermost first: an entry comes after the one that it is in.
        let mut covers: HashMap<u64, Vec<Cover>> = HashMap::new();
        let mut entries = unit.entries_raw(None)?;
        let mut entry = DebuggingInformationEntry::null();
        // How deep a function is that covers nothing. Nor does what is inlined into it.
        let mut elsewhere = isize::MAX;
        while !entries.is_empty() {
            let (here, depth) = (entries.clone(), entries.next_depth());
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            if depth <= elsewhere {
                elsewhere = isize::MAX;
            }
            let inlined = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine;
            let wanted = match abbreviation.tag() {
                gimli::DW_TAG_subprogram => true,
                _ => inlined && elsewhere == isize::MAX,
            };
            // It is quicker to pass over an entry than to read it, and most are of types and variables.
            if !wanted {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            entries = here;
            entries.read_entry(&mut entry)?;
            let inside = covered(self.dwarf.die_ranges(unit, &entry), addresses);
            if inside.is_empty() {
                elsewhere = elsewhere.min(depth);
                continue;
            }
            elsewhere = isize::MAX;
            let call = inlined.then(|| {
                let file = match entry.attr_value(gimli::DW_AT_call_file) {
                    Some(AttributeValue::FileIndex(file)) => file,
                    _ => 0,
                };
                let line = entry.attr_value(gimli::DW_AT_call_line);
                let line = line.and_then(|line| line.udata_value()?.try_into().ok());
                // What the compiler made up is in line 0.
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

    /// The symbol of the function that is described at `offset`, else its bare name.
    fn name(&mut self, here: &Unit<'data>, offset: usize) -> (String, Option<Kind>) {
        if let Some(name) = self.names.get(&offset) {
            return name.clone();
        }
        let (mut symbol, mut bare, mut next) = (None, None, Some(offset));
        for _ in 0..MAX_REFERENCES {
            let Some(at) = next.take() else { break };
            let dwarf = self.dwarf;
            let Some((unit, within)) = self.place(here, DebugInfoOffset(at)) else { break };
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
        // What a bare name tells about a closure is needed where there is no symbol.
        let name = (symbol.or(bare).unwrap_or_default(), kind);
        self.names.insert(offset, name.clone());
        name
    }

    /// The unit that has the entry at `offset`: `here`, most often, but with link-time optimisation functions
    /// are described in other units than they were inlined into.
    fn place<'s>(
        &'s mut self,
        here: &'s Unit<'data>,
        offset: DebugInfoOffset,
    ) -> Option<(&'s Unit<'data>, UnitOffset)> {
        if let Some(within) = offset.to_unit_offset(&here.header) {
            return Some((here, within));
        }
        let has = |unit: &Unit<'data>| offset.to_unit_offset(&unit.header).is_some();
        if !self.other.as_ref().is_some_and(has) {
            let after = self.units.partition_point(|unit| *unit <= offset.0);
            self.other = self.unit(DebugInfoOffset(self.units[after.checked_sub(1)?]));
        }
        let unit = self.other.as_ref()?;
        Some((unit, offset.to_unit_offset(&unit.header)?))
    }

    /// The path of a file of a unit's line table.
    fn path(&self, unit: &Unit<'data>, file: u64) -> Option<String> {
        let header = unit.line_program.as_ref()?.header();
        let file = header.file(file)?;
        let text = |value| {
            let text = self.dwarf.attr_string(unit, value).ok()?;
            Some(text.to_string_lossy().into_owned())
        };
        let mut path = unit.comp_dir.map(|d| d.to_string_lossy().into_owned()).unwrap_or_default();
        // Each part is relative to what is before it, or absolute.
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
        // Code that the linker dropped is at address 0.
        let keep = !row.end_sequence() && row.address() != 0;
        before = keep.then(|| (row.address(), row.file_index(), line));
    }
    Ok(found)
}

/// Those of the sorted `addresses` that are in one of the ranges.
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
