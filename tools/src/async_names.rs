//! Which closures are bodies of async functions.
//!
//! Symbols do not tell: the body of `async fn f` is `f::{closure#0}` in both manglings. Debug
//! information does: it has such a function both as `{async_fn#0}` (`DW_AT_name`) and by its symbol
//! (`DW_AT_linkage_name`). blazesym and addr2line give the second only, so this reads the pairs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use gimli::{EndianSlice, RunTimeEndian};
use heapdrift::names::{Closures, Kind};
use object::{Object as _, ObjectSection as _, ReadCache};

/// Debug information above this many bytes is not searched: closures then keep their names. At
/// about 200 MB/s it would take longer than people wait.
const MAX_DEBUG_INFO_BYTES: u64 = 2 << 30;

type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

/// What each of `symbols` is, by the debug information in `file`. What cannot be read tells
/// nothing, and counts as a plain closure.
///
/// The units that have code at one of `addresses` (sorted) are searched first: they have nearly
/// all of the symbols, and then nothing else is read. Only functions that were inlined across
/// units are elsewhere.
pub(crate) fn closures(file: &Path, symbols: HashSet<String>, addresses: &[u64]) -> Closures {
    let mut search = Search { missing: symbols, found: Closures::default() };
    let _ = search.file(file, addresses);
    for symbol in search.missing {
        search.found.insert(symbol, None);
    }
    search.found
}

struct Search {
    missing: HashSet<String>,
    found: Closures,
}

impl Search {
    fn file(&mut self, file: &Path, addresses: &[u64]) -> Option<()> {
        let cache = ReadCache::new(File::open(file).ok()?);
        let object = object::File::parse(&cache).ok()?;
        if object.section_by_name(".debug_info")?.size() > MAX_DEBUG_INFO_BYTES {
            return None;
        }
        let endian =
            if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
        let sections = gimli::DwarfSections::load(|id| -> Result<Cow<'_, [u8]>, object::Error> {
            // All but the large ones that no name is in. Of line programs the headers are needed:
            // gimli gives no unit without.
            match id {
                gimli::SectionId::DebugLoc | gimli::SectionId::DebugLocLists => {
                    Ok(Cow::Borrowed(&[]))
                }
                _ => object
                    .section_by_name(id.name())
                    .map_or(Ok(Cow::Borrowed(&[][..])), |section| section.uncompressed_data()),
            }
        })
        .ok()?;
        let dwarf = sections.borrow(|data| EndianSlice::new(data, endian));
        let mut others = Vec::new();
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let Ok(unit) = dwarf.unit(header) else { continue };
            if covers(&dwarf, &unit, addresses) {
                let _ = self.unit(&dwarf, &unit);
            } else {
                others.push(header);
            }
        }
        for header in others {
            if self.missing.is_empty() {
                break;
            }
            if let Ok(unit) = dwarf.unit(header) {
                let _ = self.unit(&dwarf, &unit);
            }
        }
        Some(())
    }

    fn unit<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        unit: &gimli::Unit<Reader<'a>>,
    ) -> gimli::Result<()> {
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if entry.tag() != gimli::DW_TAG_subprogram {
                continue;
            }
            let text = |attribute| {
                let value = entry.attr_value(attribute)?;
                let text = dwarf.attr_string(unit, value).ok()?;
                std::str::from_utf8(text.slice()).ok()
            };
            if let Some(symbol) = text(gimli::DW_AT_linkage_name)
                && let Some(symbol) = self.missing.take(symbol)
            {
                let kind = text(gimli::DW_AT_name).and_then(Kind::of_debug_name);
                self.found.insert(symbol, kind);
            }
        }
        Ok(())
    }
}

/// Whether a unit has code at one of the sorted `addresses`.
fn covers<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
    addresses: &[u64],
) -> bool {
    let Ok(mut ranges) = dwarf.unit_ranges(unit) else { return false };
    while let Ok(Some(range)) = ranges.next() {
        let next = addresses.partition_point(|address| *address < range.begin);
        if addresses.get(next).is_some_and(|address| *address < range.end) {
            return true;
        }
    }
    false
}
