//! The debug information of a file, for what blazesym does not give.

use std::borrow::Cow;

use gimli::{DwarfPackage, DwarfPackageSections, DwarfSections, EndianSlice, RunTimeEndian};
use object::{Object, ObjectSection as _};

/// Debug information above this many bytes is not searched. At about 200 MB/s it would take longer
/// than people wait.
const MAX_DEBUG_INFO_BYTES: u64 = 2 << 30;

pub(crate) type Reader<'a> = EndianSlice<'a, RunTimeEndian>;

/// The sections that units, functions and names are in, decompressed.
pub(crate) fn sections<'data>(
    object: &impl Object<'data>,
) -> Option<DwarfSections<Cow<'data, [u8]>>> {
    if object.section_by_name(".debug_info")?.size() > MAX_DEBUG_INFO_BYTES {
        return None;
    }
    DwarfSections::load(|id| -> Result<Cow<'_, [u8]>, object::Error> {
        // All but the large ones that no name is in. Of line programs the headers are needed:
        // gimli gives no unit without.
        match id {
            gimli::SectionId::DebugLoc | gimli::SectionId::DebugLocLists => Ok(Cow::Borrowed(&[])),
            _ => object
                .section_by_name(id.name())
                .map_or(Ok(Cow::Borrowed(&[][..])), |section| section.uncompressed_data()),
        }
    })
    .ok()
}

/// The sections as gimli reads them.
pub(crate) fn borrowed<'a, 'data>(
    sections: &'a DwarfSections<Cow<'data, [u8]>>,
    object: &impl Object<'data>,
) -> gimli::Dwarf<Reader<'a>> {
    let endian = endian(object);
    sections.borrow(|data| EndianSlice::new(data, endian))
}

/// The sections of a `.dwo` file that units and their ids are in.
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

/// The sections of a package of split debug information, as far as names are in them.
pub(crate) fn package_sections<'data>(
    object: &impl Object<'data>,
) -> Option<DwarfPackageSections<Cow<'data, [u8]>>> {
    if object.section_by_name(".debug_info.dwo")?.size() > MAX_DEBUG_INFO_BYTES {
        return None;
    }
    DwarfPackageSections::load(|id| -> gimli::Result<Cow<'_, [u8]>> {
        let section = id.dwo_name().and_then(|name| object.section_by_name(name));
        // What cannot be unpacked is as what is not there.
        Ok(section.and_then(|section| section.uncompressed_data().ok()).unwrap_or_default())
    })
    .ok()
}

/// The package as gimli reads it.
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

/// Calls `each` with every unit that can be read.
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
