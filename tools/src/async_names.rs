//! Which closures are bodies of async functions.
//!
//! Symbols do not tell: the body of `async fn f` is `f::{closure#0}` in both manglings. Debug
//! information does: it has such a function both as `{async_fn#0}` (`DW_AT_name`) and by its symbol
//! (`DW_AT_linkage_name`). blazesym and addr2line give the second only, so this reads the pairs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use gimli::{AttributeValue, EndianSlice, RunTimeEndian};
use object::{Object as _, ObjectSection as _, ReadCache};

use crate::names::{Closures, Kind};

/// Debug information above this many bytes is not searched: closures then keep their names. At
/// about 200 MB/s it would take longer than people wait.
const MAX_DEBUG_INFO_BYTES: u64 = 2 << 30;

type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

/// The kind of each of `symbols` that is an async body, by the debug information in `file`. What
/// cannot be read tells nothing: the result is then empty or incomplete.
pub(crate) fn kinds(file: &Path, symbols: &HashSet<String>) -> Closures {
    let mut kinds = Closures::default();
    let _ = collect(file, symbols, &mut kinds);
    for symbol in symbols {
        if !kinds.knows(symbol) {
            kinds.insert(symbol.clone(), None);
        }
    }
    kinds
}

fn collect(file: &Path, symbols: &HashSet<String>, kinds: &mut Closures) -> Option<()> {
    let cache = ReadCache::new(File::open(file).ok()?);
    let object = object::File::parse(&cache).ok()?;
    if object.section_by_name(".debug_info")?.size() > MAX_DEBUG_INFO_BYTES {
        return None;
    }
    let endian = if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let sections = gimli::DwarfSections::load(|id| -> Result<Cow<'_, [u8]>, object::Error> {
        use gimli::SectionId as Id;
        match id {
            Id::DebugInfo
            | Id::DebugAbbrev
            | Id::DebugStr
            // Only its headers, without which gimli gives no unit.
            | Id::DebugLine
            | Id::DebugLineStr
            | Id::DebugStrOffsets => object
                .section_by_name(id.name())
                .map_or(Ok(Cow::Borrowed(&[][..])), |section| section.uncompressed_data()),
            _ => Ok(Cow::Borrowed(&[])),
        }
    })
    .ok()?;
    let dwarf = sections.borrow(|data| EndianSlice::new(data, endian));
    let mut units = dwarf.units();
    while let Ok(Some(header)) = units.next() {
        if kinds.len() == symbols.len() {
            break;
        }
        if let Ok(unit) = dwarf.unit(header) {
            let _ = of_unit(&dwarf, &unit, symbols, kinds);
        }
    }
    Some(())
}

fn of_unit<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
    symbols: &HashSet<String>,
    kinds: &mut Closures,
) -> gimli::Result<()> {
    let mut entries = unit.entries();
    while let Some(entry) = entries.next_dfs()? {
        if entry.tag() != gimli::DW_TAG_subprogram {
            continue;
        }
        let text = |value: Option<AttributeValue<Reader<'a>>>| {
            value.and_then(|v| dwarf.attr_string(unit, v).ok()).map(|s| s.slice())
        };
        let Some(name) = text(entry.attr_value(gimli::DW_AT_name)) else { continue };
        let Some(kind) = std::str::from_utf8(name).ok().and_then(Kind::of_debug_name) else {
            continue;
        };
        if let Some(symbol) = text(entry.attr_value(gimli::DW_AT_linkage_name))
            && let Ok(symbol) = std::str::from_utf8(symbol)
            && symbols.contains(symbol)
        {
            kinds.insert(symbol.to_owned(), Some(kind));
        }
    }
    Ok(())
}
