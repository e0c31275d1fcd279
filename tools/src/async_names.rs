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
use object::{Object as _, ObjectSection as _, ReadCache};

use crate::names::{Closures, Kind};

/// Debug information above this many bytes is not searched: closures then keep their names. At
/// about 200 MB/s it would take longer than people wait.
const MAX_DEBUG_INFO_BYTES: u64 = 2 << 30;

type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

/// What each of `symbols` is, by the debug information in `file`, and in its `package` where that was
/// split off. What cannot be read tells nothing, and counts as a plain closure.
///
/// The units that have code at one of `addresses` (sorted) are searched first: they have nearly
/// all of the symbols, and then nothing else is read. Only functions that were inlined across
/// units are elsewhere.
pub(crate) fn closures(
    file: &Path,
    package: Option<&Path>,
    symbols: HashSet<String>,
    addresses: &[u64],
) -> Closures {
    let mut search = Search { missing: symbols, found: Closures::default() };
    let _ = search.file(file, package, addresses);
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
    fn file(&mut self, file: &Path, package: Option<&Path>, addresses: &[u64]) -> Option<()> {
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
        let cache = package.and_then(|path| Some(ReadCache::new(File::open(path).ok()?)));
        let sections = cache.as_ref().and_then(package_sections);
        let empty = EndianSlice::new(&[], endian);
        let package = sections.as_ref().and_then(|sections| {
            sections.borrow(|data| EndianSlice::new(data, endian), empty).ok()
        });
        let mut others = Vec::new();
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let Ok(unit) = dwarf.unit(header) else { continue };
            if covers(&dwarf, &unit, addresses) {
                let _ = self.whole_unit(&dwarf, package.as_ref(), &unit);
            } else {
                others.push(header);
            }
        }
        for header in others {
            if self.missing.is_empty() {
                break;
            }
            if let Ok(unit) = dwarf.unit(header) {
                let _ = self.whole_unit(&dwarf, package.as_ref(), &unit);
            }
        }
        Some(())
    }

    /// Searches a unit, or the one in the package that it stands for.
    fn whole_unit<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        package: Option<&gimli::DwarfPackage<Reader<'a>>>,
        unit: &gimli::Unit<Reader<'a>>,
    ) -> gimli::Result<()> {
        let Some((package, id)) = package.zip(unit.dwo_id) else {
            return self.unit(dwarf, unit);
        };
        let Some(split) = package.find_cu(id, dwarf)? else { return Ok(()) };
        let mut headers = split.units();
        while let Some(header) = headers.next()? {
            self.unit(&split, &split.unit(header)?)?;
        }
        Ok(())
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

/// The sections of a package, as far as names are in them.
fn package_sections(cache: &ReadCache<File>) -> Option<gimli::DwarfPackageSections<Cow<'_, [u8]>>> {
    let object = object::File::parse(cache).ok()?;
    if object.section_by_name(".debug_info.dwo")?.size() > MAX_DEBUG_INFO_BYTES {
        return None;
    }
    gimli::DwarfPackageSections::load(|id| -> gimli::Result<Cow<'_, [u8]>> {
        let section = id.dwo_name().and_then(|name| object.section_by_name(name));
        // What cannot be unpacked is as what is not there.
        Ok(section.and_then(|section| section.uncompressed_data().ok()).unwrap_or_default())
    })
    .ok()
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
