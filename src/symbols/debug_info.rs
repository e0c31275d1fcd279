//! What the symbol table and the debug information of a file say about addresses and crates.
//!
//! Unit by unit, of which one at a time is in memory; compressed debug sections are passed over, as they
//! would have to be in memory as a whole. addr2line was tried: its list of units alone took 30 MiB of
//! a dev build's 137 MB, 52 MiB of a release build's 74 MB.

use std::collections::HashMap;

use gimli_std::{self as gimli, EndianSlice, RunTimeEndian};
use object::{CompressionFormat, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::elf::{Elf, Files};
use super::functions::{self, Function};
use crate::blame::{Packages, crate_of_main};
use crate::names::file_name;

/// Debug information above this many bytes, some three seconds of reading, is left alone: names are
/// then those of the symbol table, without lines and inlined functions.
const MAX_DEBUG_INFO_BYTES: u64 = 1 << 30;

pub(super) type Reader<'data> = EndianSlice<'data, RunTimeEndian>;
pub(super) type Dwarf<'data> = gimli::Dwarf<Reader<'data>>;

/// What one address is, before its names are made readable.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The symbol of the function that the linker sees, if it has one.
    pub(super) symbol: Option<String>,
    /// From debug information, innermost first.
    pub(super) functions: Vec<Function>,
}

/// What the files know of each of the sorted `addresses`.
pub(super) fn places(files: &Files, addresses: &[u64]) -> HashMap<u64, Place> {
    let mut places: HashMap<u64, Place> = HashMap::new();
    for_each_symbol(files, |name, address, size| {
        let first = addresses.partition_point(|a| *a < address);
        for &inside in addresses[first..].iter().take_while(|a| **a - address < size) {
            places.entry(inside).or_default().symbol.get_or_insert_with(|| name.to_owned());
        }
    });
    if let Some(elf) = files.with_section(".debug_info")
        && let Some(dwarf) = dwarf(&elf)
    {
        for (address, functions) in functions::at(&dwarf, addresses) {
            places.entry(address).or_default().functions = functions;
        }
    }
    places
}

/// Takes down the crates of a module, and which of them holds `main` if this is the program itself.
pub(super) fn learn(files: &Files, executable: Option<&str>, packages: &mut Packages) {
    let main = executable.and_then(|path| main_symbol(files, path));
    let mut directory = None;
    if let Some(elf) = files.with_section(".debug_info")
        && let Some(dwarf) = dwarf(&elf)
    {
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let Ok(unit) = dwarf.unit(header) else { continue };
            let text = |value: Option<Reader<'_>>| {
                value.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
            };
            let unit_directory = text(unit.comp_dir);
            packages.add_unit(&text(unit.name), &unit_directory);
            if let Some((_, address)) = main
                && directory.is_none()
                && covers(&dwarf, &unit, address)
            {
                directory = Some(unit_directory);
            }
        }
    }
    match (main, executable) {
        (Some((krate, _)), _) => packages.set_main(&krate, directory.as_deref()),
        (None, Some(path)) => packages.set_executable(path),
        (None, None) => {}
    }
}

/// The crate and the address of Rust's `main`. That of the crate which the executable is
/// called after, else the first.
fn main_symbol(files: &Files, executable: &str) -> Option<(String, u64)> {
    let mut best: Option<(String, u64)> = None;
    let executable = file_name(executable).replace('-', "_");
    for_each_symbol(files, |symbol, address, _| {
        if let Some(krate) = crate_of_main(symbol)
            && (best.is_none() || krate == executable)
        {
            best = Some((krate, address));
        }
    });
    best
}

fn for_each_symbol(files: &Files, mut f: impl FnMut(&str, u64, u64)) {
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

/// The debug information of a file, where it can be read in place and within bounds.
fn dwarf<'data>(elf: &Elf<'data>) -> Option<Dwarf<'data>> {
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

fn covers(dwarf: &Dwarf<'_>, unit: &gimli::Unit<Reader<'_>>, address: u64) -> bool {
    let Ok(mut ranges) = dwarf.unit_ranges(unit) else { return false };
    while let Ok(Some(range)) = ranges.next() {
        if (range.begin..range.end).contains(&address) {
            return true;
        }
    }
    false
}
