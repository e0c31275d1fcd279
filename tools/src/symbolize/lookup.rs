//! The names of addresses, from the files that have them.
//!
//! blazesym tells what debug information and symbol tables say of an address; here it becomes
//! readable frames: [`names`] and [`async_names`] add what those leave out.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fmt, io, thread};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym};
use heapdrift::names::{self, Closures, Kind, Roots, is_closure, short_file};
use heapdrift::snapshot::Module;
use indicatif::ProgressBar;

use crate::heap::symbolized::Frame;
use crate::symbolize::async_names;
use crate::symbolize::binaries::Files;
use crate::symbolize::cpp;
use crate::symbolize::dwo;
use crate::symbolize::modules::recorded_path;
use crate::symbolize::threads::{joined, threads};

/// Addresses that are looked up at a time; between batches the progress bar moves.
const BATCH: usize = 256;

/// What one address is, before its names are made readable.
struct Place {
    /// The symbol of the function that the linker sees, if it has one.
    symbol: Option<String>,
    /// From debug information, outermost first: names and where in each.
    functions: Vec<(String, Option<String>, Option<u32>)>,
}

/// The functions at each of the sorted `addresses` of a module, innermost first. What has no name is
/// left out.
pub(crate) fn names(
    files: &Files,
    module: &Module,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, Vec<Frame>>, String> {
    let file = files.main();
    let failed = |error: &dyn fmt::Display| {
        format!("{}: cannot be read for symbols: {error}", file.display())
    };
    let beside = Beside::new(files).map_err(|error| failed(&error))?;
    let places = places_of(beside.debug.as_deref(), &files.table, addresses, bar);
    let places = places.map_err(|error| failed(&error))?;
    let closures: HashSet<String> = places
        .values()
        .flat_map(|place| place.functions.iter().map(|f| &f.0).chain(&place.symbol))
        .filter(|name| is_closure(name))
        .cloned()
        .collect();
    let closures = if closures.is_empty() {
        Closures::default()
    } else {
        async_names::closures(file, beside.package.as_deref(), closures, addresses)
    };
    let names = Names::new(&places, closures, module);
    Ok(places.iter().map(|(&address, place)| (address, names.frames(place))).collect())
}

/// Debug information with its package beside it, which is where readers look.
struct Beside {
    debug: Option<PathBuf>,
    package: Option<PathBuf>,
    /// Both, linked or made in one place.
    _folder: Option<tempfile::TempDir>,
}

impl Beside {
    fn new(files: &Files) -> io::Result<Self> {
        #[cfg(unix)]
        if let Some(debug) = &files.debug
            && (files.package.is_some() || !files.unpacked.is_empty())
        {
            use std::os::unix::fs::symlink;
            let folder = tempfile::tempdir()?;
            let linked = folder.path().join("binary");
            let package = folder.path().join("binary.dwp");
            symlink(debug.canonicalize()?, &linked)?;
            match &files.package {
                Some(there) => symlink(there.canonicalize()?, &package)?,
                None => dwo::pack(&files.unpacked, &package)?,
            }
            return Ok(Self { debug: Some(linked), package: Some(package), _folder: Some(folder) });
        }
        Ok(Self { debug: files.debug.clone(), package: None, _folder: None })
    }
}

/// What is at each of the sorted addresses, each part of them by a thread: parts are far apart, and
/// so their debug information is.
fn places_of(
    debug: Option<&Path>,
    table: &Path,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, Place>, String> {
    let part = addresses.len().div_ceil(threads()).max(BATCH);
    thread::scope(|scope| {
        let part_of = |part| scope.spawn(move || places_of_part(debug, table, part, bar));
        let parts: Vec<_> = addresses.chunks(part).map(part_of).collect();
        let mut places = HashMap::with_capacity(addresses.len());
        for part in parts {
            places.extend(joined(part).map_err(|error| error.to_string())?);
        }
        Ok(places)
    })
}

fn places_of_part(
    debug: Option<&Path>,
    table: &Path,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, Place>, blazesym::Error> {
    let blaze = blazesym::symbolize::Symbolizer::builder().enable_demangling(false).build();
    let source = |file: &Path, debug_syms| {
        let mut elf = Elf::new(file);
        elf.debug_syms = debug_syms;
        Source::Elf(elf)
    };
    // Debug information knows lines and inlined functions, the symbol table knows whole names:
    // with line tables only, debug information has bare ones.
    // Asked for debug information, blazesym would follow a `.gnu_debuglink` by itself, without a look
    // at the build-id: so it is asked only where there is some.
    let (debug, table) = (debug.map(|debug| source(debug, true)), source(table, false));
    let mut places = HashMap::with_capacity(addresses.len());
    for batch in addresses.chunks(BATCH) {
        let by_debug = match &debug {
            Some(debug) => blaze.symbolize(debug, Input::VirtOffset(batch))?,
            None => Vec::new(),
        };
        let by_table = blaze.symbolize(&table, Input::VirtOffset(batch));
        let by_table = match by_table {
            Err(error) if debug.is_none() => return Err(error),
            found => found.unwrap_or_default(),
        };
        for (at, address) in batch.iter().enumerate() {
            let symbol = by_table.get(at).and_then(|s| s.as_sym()).map(|s| s.name.to_string());
            let functions = by_debug.get(at).and_then(|s| s.as_sym()).map(functions_of);
            let functions = functions.unwrap_or_default();
            if symbol.is_some() || !functions.is_empty() {
                places.insert(*address, Place { symbol, functions });
            }
        }
        bar.inc(batch.len() as u64);
    }
    Ok(places)
}

fn functions_of(sym: &Sym<'_>) -> Vec<(String, Option<String>, Option<u32>)> {
    let place = |info: Option<&CodeInfo<'_>>| {
        (info.map(|i| i.to_path().to_string_lossy().into_owned()), info.and_then(|i| i.line))
    };
    let (file, line) = place(sym.code_info.as_deref());
    let mut functions = vec![(sym.name.to_string(), file, line)];
    for inlined in &sym.inlined {
        let (file, line) = place(inlined.code_info.as_ref());
        functions.push((inlined.name.to_string(), file, line));
    }
    functions
}

/// What is known about a module as a whole, to name its functions by.
struct Names<'a> {
    module: &'a str,
    closures: Closures,
    /// Of each name that debug information has, the readable form if it is mangled: most are at many
    /// addresses.
    known: HashMap<&'a str, Option<String>>,
    roots: Roots,
}

impl<'a> Names<'a> {
    fn new(places: &'a HashMap<u64, Place>, closures: Closures, module: &'a Module) -> Self {
        let (module, known, roots) = (recorded_path(module), HashMap::new(), Roots::default());
        let mut names = Self { module, closures, known, roots };
        names.known = names.known_of(places);
        let mut roots = Roots::default();
        for place in places.values() {
            for (depth, (name, file, _)) in place.functions.iter().enumerate() {
                if let Some(function) = names.whole(place, depth, name)
                    && let Some(file) = file
                {
                    roots.learn(&function, &names::crate_of(&function, names.module), file);
                }
            }
        }
        names.roots = roots;
        names
    }

    fn known_of(&self, places: &'a HashMap<u64, Place>) -> HashMap<&'a str, Option<String>> {
        let functions = places.values().flat_map(|place| &place.functions);
        let distinct: HashSet<&str> = functions.map(|(name, ..)| name.as_str()).collect();
        let distinct: Vec<&str> = distinct.into_iter().collect();
        let part = distinct.len().div_ceil(threads()).max(BATCH);
        let known_of_part = |part: &[&'a str]| -> Vec<_> {
            part.iter().map(|&name| (name, self.demangled(name, None))).collect()
        };
        thread::scope(|scope| {
            let part_of = |part| scope.spawn(move || known_of_part(part));
            let parts: Vec<_> = distinct.chunks(part).map(part_of).collect();
            parts.into_iter().flat_map(joined).collect()
        })
    }

    /// The name of a function of `place` that is not just a bare one.
    fn whole(&self, place: &Place, depth: usize, name: &str) -> Option<Cow<'_, str>> {
        if let Some(known) = self.known.get(name).and_then(Option::as_deref) {
            return Some(known.into());
        }
        // The outermost is the one that the linker sees.
        let symbol = place.symbol.as_ref().filter(|_| depth == 0)?;
        Some(self.readable(symbol, Kind::of_debug_name(name)).into())
    }

    fn readable(&self, symbol: &str, kind: Option<Kind>) -> String {
        self.demangled(symbol, kind).unwrap_or_else(|| names::shortened(symbol.to_owned()))
    }

    /// The readable form of a mangled name.
    fn demangled(&self, symbol: &str, kind: Option<Kind>) -> Option<String> {
        match names::demangled(symbol) {
            Some(_) => Some(names::readable(symbol, kind, &self.closures)),
            None => cpp::readable(symbol),
        }
    }

    /// The frames of an address, innermost first.
    fn frames(&self, place: &Place) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::with_capacity(place.functions.len().max(1));
        for (depth, (name, file, line)) in place.functions.iter().enumerate() {
            let function = match self.whole(place, depth, name) {
                Some(function) => function.into_owned(),
                None if name.is_empty() => continue,
                None => self.roots.qualified(name, file.as_deref()),
            };
            let file = file.as_deref().map(|file| short_file(file).to_owned());
            frames.push(self.frame(function, file, *line));
        }
        if frames.is_empty()
            && let Some(symbol) = &place.symbol
        {
            frames.push(self.frame(self.readable(symbol, None), None, None));
        }
        frames.reverse();
        frames
    }

    fn frame(&self, function: String, file: Option<String>, line: Option<u32>) -> Frame {
        Frame { krate: names::crate_of(&function, self.module), function, file, line }
    }
}
