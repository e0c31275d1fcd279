//! Access to the debug information of a file, for what blazesym does not return.

use std::borrow::Cow;

use gimli::{DwarfPackage, DwarfPackageSections, DwarfSections, EndianSlice, RunTimeEndian};
use object::{Object, ObjectSection as _};

/// Debug information with more bytes than this is not searched. At about 200 MB/s that would take
/// more than ten seconds.
const MAX_DEBUG_INFO_BYTES: u64 = 2 << 30;

pub(crate) type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

/// The sections with units, functions and names, decompressed.
pub(crate) fn sections<'data>(
    object: &impl Object<'data>,
) -> Option<DwarfSections<Cow<'data, [u8]>>> {
    if object.section_by_name(".debug_info")?.size() > MAX_DEBUG_INFO_BYTES {
        return None;
    }
    DwarfSections::load(|id| -> Result<Cow<'_, [u8]>, object::Error> {
        // The large sections without names are left out. Line programs have no names either, but
        // gimli needs their headers to parse a unit.
        match id {
            gimli::SectionId::DebugLoc | gimli::SectionId::DebugLocLists => Ok(Cow::Borrowed(&[])),
            _ => object
                .section_by_name(id.name())
                .map_or(Ok(Cow::Borrowed(&[][..])), |section| section.uncompressed_data()),
        }
    })
    .ok()
}

/// The sections in the form that gimli reads.
pub(crate) fn borrowed<'a, 'data>(
    sections: &'a DwarfSections<Cow<'data, [u8]>>,
    object: &impl Object<'data>,
) -> gimli::Dwarf<Reader<'a>> {
    let endian = endian(object);
    sections.borrow(|data| EndianSlice::new(data, endian))
}

/// The sections of a `.dwo` file with units and their ids.
pub(crate) fn split_sections<'data>(
    object: &impl Object<'data>,
) -> Option<DwarfSections<Cow<'data, [u8]>>> {
    let size = object.section_by_name(".debug_info.dwo")?.size();
    (size <= MAX_DEBUG_INFO_BYTES).then_some(())?;
    DwarfSections::load(|id| -> Result<Cow<'_, [u8]>, object::Error> {
        use gimli::SectionId::{DebugAbbrev, DebugInfo, DebugLine, DebugStr, DebugStrOffsets};
        let named = matches!(id, DebugAbbrev | DebugInfo | DebugLine | DebugStr | DebugStrOffsets);
        let name = id.dwo_name().filter(|_| named);
        name.and_then(|name| object.section_by_name(name))
            .map_or(Ok(Cow::Borrowed(&[][..])), |section| section.uncompressed_data())
    })
    .ok()
}

/// The sections of a package of split debug information.
pub(crate) fn package_sections<'data>(
    object: &impl Object<'data>,
) -> Option<DwarfPackageSections<Cow<'data, [u8]>>> {
    if object.section_by_name(".debug_info.dwo")?.size() > MAX_DEBUG_INFO_BYTES {
        return None;
    }
    DwarfPackageSections::load(|id| -> gimli::Result<Cow<'_, [u8]>> {
        let section = id.dwo_name().and_then(|name| object.section_by_name(name));
        // A section that cannot be decompressed counts as missing.
        Ok(section.and_then(|section| section.uncompressed_data().ok()).unwrap_or_default())
    })
    .ok()
}

/// The package in the form that gimli reads.
pub(crate) fn borrowed_package<'a, 'data>(
    sections: &'a DwarfPackageSections<Cow<'data, [u8]>>,
    object: &impl Object<'data>,
) -> Option<DwarfPackage<Reader<'a>>> {
    let endian = endian(object);
    sections.borrow(|data| EndianSlice::new(data, endian), EndianSlice::new(&[], endian)).ok()
}

fn endian<'data>(object: &impl Object<'data>) -> RunTimeEndian {
    if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big }
}

/// Calls `each` with every unit that can be parsed.
pub(crate) fn each_unit<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    mut each: impl FnMut(gimli::UnitHeader<Reader<'a>>, &gimli::Unit<Reader<'a>>),
) {
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        if let Ok(unit) = dwarf.unit(header) {
            each(header, &unit);
        }
    }
}

/// Whether a unit has code at one of the sorted `addresses`.
pub(crate) fn covers<'a>(
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
