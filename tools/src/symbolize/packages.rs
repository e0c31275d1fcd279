//! What [`heapdrift::blame`] needs to know to tell whose code a frame is, from files on this
//! machine.

use std::fs::File;
use std::path::Path;

use heapdrift::Snapshot;
use heapdrift::blame::{self, Packages, crate_of_main};
use heapdrift::names::{crate_of_path, file_name};
use object::{ObjectSymbol as _, ReadCache};

use crate::heap::symbolized::Frame;
use crate::symbolize::dwarf::{self, Reader, covers};
use crate::symbolize::symbolizer::Symbolizer;

/// The crates of a dump, from its binaries. `own_crates` count as the service's own, besides those
/// that are recognised.
pub fn of_dump(
    symbolizer: &mut Symbolizer,
    snapshot: &Snapshot,
    own_crates: impl IntoIterator<Item = impl Into<String>>,
) -> Packages {
    let mut packages = Packages::new(own_crates);
    let executable = snapshot.process.executable.as_str();
    packages.set_executable(executable);
    for module in symbolizer.match_modules(snapshot) {
        if let Some(file) = &module.file {
            let executable = (module.path == executable).then_some(executable);
            let _ = learn(file, executable, &mut packages);
        }
    }
    packages
}

/// A named frame in the form that [`blame::blame`] takes. The module of a Rust function is no
/// longer known.
pub fn frame(packages: &Packages, frame: &Frame) -> blame::Frame {
    let module = match crate_of_path(&frame.function) {
        Some(_) => "",
        None => &frame.krate,
    };
    packages.frame(frame.function.clone(), frame.file.as_deref(), frame.line, module, 0)
}

/// Adds the crates of a file to `packages`. If the file is the executable, also says which crate
/// holds `main`. `None` if the file cannot be read.
fn learn(file: &Path, executable: Option<&str>, packages: &mut Packages) -> Option<()> {
    let cache = ReadCache::new(File::open(file).ok()?);
    let object = object::File::parse(&cache).ok()?;
    let main = executable.and_then(|path| main_symbol(&object, path));
    let mut directory = None;
    if let Some(sections) = dwarf::sections(&object) {
        let dwarf = dwarf::borrowed(&sections, &object);
        dwarf::each_unit(&dwarf, |_, unit| {
            let text = |text: Option<Reader<'_>>| {
                text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
            };
            let unit_directory = text(unit.comp_dir);
            packages.add_unit(&text(unit.name), &unit_directory);
            if let Some((_, address)) = main
                && directory.is_none()
                && covers(&dwarf, unit, &[address])
            {
                directory = Some(unit_directory);
            }
        });
    }
    if let Some((krate, _)) = main {
        packages.set_main(&krate, directory.as_deref());
    } else if let Some(executable) = executable {
        packages.set_executable(executable);
    }
    Some(())
}

/// The crate and the address of Rust's `main`. If there are several, the one in the crate with the
/// name of the executable is preferred, otherwise the first.
fn main_symbol<'data>(
    object: &impl object::Object<'data>,
    executable: &str,
) -> Option<(String, u64)> {
    let executable = file_name(executable).replace('-', "_");
    let mut best = None;
    for symbol in object.symbols().filter(|symbol| symbol.is_definition()) {
        if let Some(krate) = symbol.name().ok().and_then(crate_of_main)
            && (best.is_none() || krate == executable)
        {
            best = Some((krate, symbol.address()));
        }
    }
    best
}
