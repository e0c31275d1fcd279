//! The symbol table and the debug information of a module's files, read in place.

use gimli::{EndianSlice, RunTimeEndian};
use object::{CompressionFormat, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::elf::Files;

/// Debug information of more bytes than this, which take some three seconds to read, is not used.
/// Names then come from the symbol table, without lines and inlined functions.
pub(super) const MAX_DEBUG_INFO_BYTES: u64 = 1 << 30;

pub(super) type Reader<'data> = EndianSlice<'data, RunTimeEndian>;
pub(super) type Dwarf<'data> = gimli::Dwarf<Reader<'data>>;
pub(super) type Unit<'data> = gimli::Unit<Reader<'data>>;

/// Calls `f` with the name, address and size of each function in the symbol table.
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

/// The debug information, if it can be read in place and is not too large. Compressed sections are
/// not used, because they would have to be held in memory as a whole.
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
