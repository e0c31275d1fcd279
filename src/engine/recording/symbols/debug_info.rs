//! What the symbol table and the debug information of a file say about addresses.
//!
//! Unit by unit, of which two at most are in memory; compressed debug sections are passed over, as they
//! would have to be in memory as a whole. addr2line was tried: its list of units alone took 30 MiB of
//! a dev build's 137 MB, 52 MiB of a release build's 74 MB.

use std::collections::HashMap;

use gimli_std::{self as gimli, EndianSlice, RunTimeEndian};
use object::{CompressionFormat, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::elf::Files;
use super::functions::{self, Function};
use super::survey::Survey;
use super::units::Units;

/// Debug information above this many bytes, some three seconds of reading, is left alone: names are
/// then those of the symbol table, without lines and inlined functions.
const MAX_DEBUG_INFO_BYTES: u64 = 1 << 30;

pub(super) type Reader<'data> = EndianSlice<'data, RunTimeEndian>;
pub(super) type Dwarf<'data> = gimli::Dwarf<Reader<'data>>;
pub(super) type Unit<'data> = gimli::Unit<Reader<'data>>;

/// What one address is, before its names are made readable.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Place {
    /// The symbol of the function that the linker sees, if it has one.
    pub(super) symbol: Option<String>,
    /// From debug information, innermost first.
    pub(super) functions: Vec<Function>,
}

/// What the files know of each of the sorted `addresses`. Only those units are opened in which, by what
/// the survey has seen, something may be.
pub(super) fn places(files: &Files, survey: &Survey, addresses: &[u64]) -> HashMap<u64, Place> {
    let mut places: HashMap<u64, Place> = HashMap::new();
    for_each_symbol(files, |name, address, size| {
        let first = addresses.partition_point(|a| *a < address);
        for &inside in addresses[first..].iter().take_while(|a| **a - address < size) {
            places.entry(inside).or_default().symbol.get_or_insert_with(|| name.to_owned());
        }
    });
    if let Some(dwarf) = dwarf(files) {
        let unknown = Units::default();
        let units = survey.units(&dwarf).unwrap_or(&unknown);
        for (address, functions) in functions::at(&dwarf, units, addresses) {
            places.entry(address).or_default().functions = functions;
        }
    }
    places
}

pub(super) fn for_each_symbol(files: &Files, mut f: impl FnMut(&str, u64, u64)) {
    let elf = files.with_section(".symtab").or_else(|| files.with_section(".dynsym"));
    let Some(elf) = elf else { return };
    let mut each = |symbol: object::Symbol<'_, '_, &[u8]>| {
        if symbol.kind() == SymbolKind::Text
            && symbol.is_definition()
            && let Ok(name) = symbol.name()
        {
            f(name, symbol.address(), symbol.size());
        }
    };
    if elf.symbol_table().is_some() {
        elf.symbols().for_each(&mut each);
    } else {
        elf.dynamic_symbols().for_each(&mut each);
    }
}

/// The debug information, where it can be read in place and within bounds.
pub(super) fn dwarf(files: &Files) -> Option<Dwarf<'_>> {
    let elf = files.with_section(".debug_info")?;
    if elf.section_by_name(".debug_info")?.size() > MAX_DEBUG_INFO_BYTES {
        return None;
    }
    let endian = if elf.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let load = |id: gimli::SectionId| {
        let section = elf.section_by_name(id.name());
        let data = match section {
            Some(section) => {
                let plain = section.compressed_file_range().ok()?.format == CompressionFormat::None;
                plain.then(|| section.data().ok()).flatten()?
            }
            None => &[],
        };
        Some(EndianSlice::new(data, endian))
    };
    gimli::Dwarf::load(|id| load(id).ok_or(())).ok()
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::engine::recording::symbols::ModuleRef;
    use crate::engine::recording::symbols::elf::Elf;

    #[test]
    fn more_debug_information_than_a_gigabyte_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        let data = fs::read(&path).unwrap();
        let elf = Elf::parse(&*data).unwrap();
        let (offset, size) = elf.section_by_name(".debug_info").unwrap().file_range().unwrap();
        let build_id: String =
            elf.build_id().unwrap().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        // Offset and size stand beside each other in the table of sections.
        let entry = [offset.to_ne_bytes(), size.to_ne_bytes()].concat();
        let table = u64::from_ne_bytes(data[0x28..0x30].try_into().unwrap()) as usize;
        let at = table + data[table..].windows(16).position(|bytes| bytes == entry).unwrap();
        let place = |size: u64| {
            // What follows is no debug information, and read as far as it makes sense.
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&size.to_ne_bytes(), at as u64 + 8).unwrap();
            file.set_len(offset + size.max(data.len() as u64)).unwrap();
            let module = ModuleRef { path: path.to_str().unwrap(), build_id: &build_id, bias: 0 };
            let files = Files::open(&module);
            let mut address = None;
            for_each_symbol(&files, |name, start, _| {
                if name.contains("more_debug_information_than_a_gigabyte_is_left_alone") {
                    address = Some(start);
                }
            });
            let address = address.expect("this function has a symbol");
            places(&files, &Survey::default(), &[address]).remove(&address).unwrap()
        };
        for (size, read) in
            [(size, true), (MAX_DEBUG_INFO_BYTES, true), (MAX_DEBUG_INFO_BYTES + 1, false)]
        {
            let place = place(size);
            assert!(place.symbol.is_some());
            assert_eq!(!place.functions.is_empty(), read, "{size}");
        }
    }
}
