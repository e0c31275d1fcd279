//! Split debug information that was not packed, which is a `.dwo` file for each unit.
//!
//! For each unit, the binary has the name of its file, relative to the folder in which the compiler
//! ran, and its id. rustc leaves such files with `-C split-debuginfo=unpacked`. blazesym needs a
//! package, so one is made of the files that are found.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use heapdrift::names::file_name;
use object::ReadCache;

use crate::symbolize::dwarf;

/// The `.dwo` files of a binary. They are looked for where the compiler put them, next to the
/// binary, and in the debug directories by name and by path. A file without the id of the unit is
/// of another build and is left out.
pub(crate) fn files(binary: &Path, debug_dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for reference in references(binary).unwrap_or_default() {
        let mut candidates = reference.candidates(binary, debug_dirs).into_iter();
        found.extend(candidates.find(|path| has_unit(path, reference.id) == Some(true)));
    }
    found
}

/// A reference of a binary to one of its split units.
struct DwoReference {
    /// The path of the file, as the compiler was given it.
    name: PathBuf,
    /// The folder in which the compiler ran.
    folder: PathBuf,
    id: gimli::DwoId,
}

impl DwoReference {
    fn candidates(&self, binary: &Path, debug_dirs: &[PathBuf]) -> Vec<PathBuf> {
        let whole = self.folder.join(&self.name);
        let name = file_name(self.name.to_str().unwrap_or_default());
        let mut paths = vec![whole.clone(), binary.with_file_name(name)];
        for folder in debug_dirs {
            paths.push(folder.join(name));
            // A debug directory may stand for the compiler's folder or for the root of its file
            // system.
            paths.push(folder.join(self.name.strip_prefix("/").unwrap_or(&self.name)));
            paths.push(folder.join(whole.strip_prefix("/").unwrap_or(&whole)));
        }
        paths
    }
}

/// The split units of a binary, or `None` if the file cannot be read.
fn references(binary: &Path) -> Option<Vec<DwoReference>> {
    let cache = ReadCache::new(File::open(binary).ok()?);
    let object = object::File::parse(&cache).ok()?;
    let sections = dwarf::sections(&object)?;
    let dwarf = dwarf::borrowed(&sections, &object);
    let mut references = Vec::new();
    dwarf::each_unit(&dwarf, |_, unit| {
        let (Some(id), Ok(Some(name))) = (unit.dwo_id, unit.dwo_name()) else { return };
        let Ok(name) = dwarf.attr_string(unit, name) else { return };
        let path = |text: dwarf::Reader<'_>| PathBuf::from(&*text.to_string_lossy());
        let folder = unit.comp_dir.map(path).unwrap_or_default();
        references.push(DwoReference { name: path(name), folder, id });
    });
    Some(references)
}

/// Whether a file has the unit with this id, or `None` if it cannot be read.
fn has_unit(path: &Path, id: gimli::DwoId) -> Option<bool> {
    // The path comes from the binary, and opening a pipe could block forever.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let cache = ReadCache::new(File::open(path).ok()?);
    let object = object::File::parse(&cache).ok()?;
    let sections = dwarf::split_sections(&object)?;
    let dwarf = dwarf::borrowed(&sections, &object);
    let mut found = false;
    dwarf::each_unit(&dwarf, |_, unit| found |= unit.dwo_id == Some(id));
    Some(found)
}

#[cfg(feature = "dwo")]
pub(crate) use packer::pack;

/// Replaces the packer where it is compiled out.
#[cfg(not(feature = "dwo"))]
pub(crate) fn pack(_files: &[PathBuf], _package: &Path) -> io::Result<()> {
    Err(io::Error::other("cannot read .dwo files: built without the feature `dwo`"))
}

#[cfg(feature = "dwo")]
mod packer {
    use std::fs;

    use elsa::FrozenVec;

    use super::*;

    /// Packs `.dwo` files into a package.
    pub(crate) fn pack(files: &[PathBuf], package: &Path) -> io::Result<()> {
        let session = PackerSession::default();
        let mut packer = thorin::DwarfPackage::new(&session);
        for file in files {
            let named = |error| io::Error::other(format!("{}: {error}", file.display()));
            packer.add_input_object(file).map_err(named)?;
        }
        let packed = packer.finish().map_err(io::Error::other)?;
        fs::write(package, packed.write().map_err(io::Error::other)?)
    }

    /// Owns the data that the packer reads, for as long as it works.
    struct PackerSession<Relocations> {
        data: FrozenVec<Vec<u8>>,
        relocations: FrozenVec<Box<Relocations>>,
    }

    impl<Relocations> Default for PackerSession<Relocations> {
        fn default() -> Self {
            Self { data: FrozenVec::new(), relocations: FrozenVec::new() }
        }
    }

    impl<Relocations> thorin::Session<Relocations> for PackerSession<Relocations> {
        fn alloc_data(&self, data: Vec<u8>) -> &[u8] {
            self.data.push_get(data)
        }

        fn alloc_relocation(&self, data: Relocations) -> &Relocations {
            self.relocations.push_get(Box::new(data))
        }

        fn read_input<'session>(&'session self, path: &Path) -> io::Result<&'session [u8]> {
            Ok(self.data.push_get(fs::read(path)?))
        }
    }
}
