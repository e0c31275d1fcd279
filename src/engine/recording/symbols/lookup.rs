//! Looks addresses up in the files of a module: symbols, and functions with their source lines.
//!
//! Debug information is read unit by unit, with at most two units in memory. addr2line was tried:
//! its list of units alone took 30 MiB for a dev build of 137 MB and 52 MiB for a release build of
//! 74 MB.

use std::collections::HashMap;

use super::debug_info::{dwarf, for_each_symbol};
use super::elf::Files;
use super::functions::{self, Function};
use super::survey::Survey;
use super::units::Units;

/// What the files of a module say about one address, before names are made readable.
#[derive(Debug, Default, PartialEq)]
pub(super) struct CodeLocation {
    /// The symbol of the function that the linker sees, if it has one.
    pub(super) symbol: Option<String>,
    /// The functions from debug information, innermost first.
    pub(super) functions: Vec<Function>,
}

/// The location of each of the sorted `addresses`, as far as the files know it. Only the units that
/// may describe one of the addresses, according to the survey, are opened.
pub(super) fn locations(
    files: &Files,
    survey: &Survey,
    addresses: &[u64],
) -> HashMap<u64, CodeLocation> {
    let mut locations: HashMap<u64, CodeLocation> = HashMap::new();
    for_each_symbol(files, |name, address, size| {
        let first = addresses.partition_point(|a| *a < address);
        for &inside in addresses[first..].iter().take_while(|a| **a - address < size) {
            locations.entry(inside).or_default().symbol.get_or_insert_with(|| name.to_owned());
        }
    });
    if let Some(dwarf) = dwarf(files) {
        let unknown = Units::default();
        let units = survey.units(&dwarf).unwrap_or(&unknown);
        for (address, functions) in functions::at(&dwarf, units, addresses) {
            locations.entry(address).or_default().functions = functions;
        }
    }
    locations
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::engine::recording::symbols::debug_info::MAX_DEBUG_INFO_BYTES;
    use crate::engine::recording::symbols::elf::{Elf, ModuleRef};
    use crate::snapshot::Module;
    use object::{Object as _, ObjectSection as _};

    #[test]
    fn debug_information_above_one_gibibyte_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        let data = fs::read(&path).unwrap();
        let elf = Elf::parse(&*data).unwrap();
        let (offset, size) = elf.section_by_name(".debug_info").unwrap().file_range().unwrap();
        let build_id = Module::build_id_from_bytes(elf.build_id().unwrap().unwrap());
        // The offset and the size are adjacent in the section table.
        let entry = [offset.to_ne_bytes(), size.to_ne_bytes()].concat();
        let table = u64::from_ne_bytes(data[0x28..0x30].try_into().unwrap()) as usize;
        let at = table + data[table..].windows(16).position(|bytes| bytes == entry).unwrap();
        let look_up = |size: u64| {
            // The bytes that follow are no debug information, and are read as far as they make
            // sense.
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&size.to_ne_bytes(), at as u64 + 8).unwrap();
            file.set_len(offset + size.max(data.len() as u64)).unwrap();
            let module = ModuleRef { path: path.to_str().unwrap(), build_id: &build_id, bias: 0 };
            let files = Files::open(&module);
            let mut address = None;
            for_each_symbol(&files, |name, start, size| {
                if name.contains("heapdrift") && size > 1000 {
                    address.get_or_insert(start);
                }
            });
            let address = address.expect("a long function of this crate has a symbol");
            locations(&files, &Survey::default(), &[address]).remove(&address).unwrap()
        };
        for (size, read) in
            [(size, true), (MAX_DEBUG_INFO_BYTES, true), (MAX_DEBUG_INFO_BYTES + 1, false)]
        {
            let location = look_up(size);
            assert!(location.symbol.is_some());
            assert_eq!(!location.functions.is_empty(), read, "{size}");
        }
    }
}
