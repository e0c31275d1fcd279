//! Looks up the names of addresses in the files of a module.
//!
//! blazesym reads debug information and symbol tables. Here their names become readable frames,
//! with what [`names`] and [`async_names`] add to them.

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
use crate::symbolize::binaries::ModuleFiles;
use crate::symbolize::cpp;
use crate::symbolize::dwo;
use crate::symbolize::modules::recorded_path;
use crate::symbolize::threads::{join, threads};

/// How many addresses are looked up at a time. The progress bar moves between batches.
const BATCH: usize = 256;

/// What the files say about one address.
struct AddressInfo {
    /// The symbol of the function that the linker sees, if it has one.
    symbol: Option<String>,
    /// The functions in debug information, outermost first, each with its name, file and line.
    functions: Vec<(String, Option<String>, Option<u32>)>,
}

/// The functions at each of the sorted `addresses` of a module, innermost first. Addresses without
/// a name are left out.
pub(crate) fn names(
    files: &ModuleFiles,
    module: &Module,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, Vec<Frame>>, String> {
    let file = files.main();
    let failed = |error: &dyn fmt::Display| {
        format!("{}: cannot be read for symbols: {error}", file.display())
    };
    let pair = DebugFilePair::new(files).map_err(|error| failed(&error))?;
    let infos = look_up_all(pair.debug.as_deref(), &files.table, addresses, bar);
    let infos = infos.map_err(|error| failed(&error))?;
    let closures: HashSet<String> = infos
        .values()
        .flat_map(|info| info.functions.iter().map(|f| &f.0).chain(&info.symbol))
        .filter(|name| is_closure(name))
        .cloned()
        .collect();
    let closures = if closures.is_empty() {
        Closures::default()
    } else {
        async_names::closures(file, pair.package.as_deref(), closures, addresses)
    };
    let namer = Namer::new(&infos, closures, module);
    Ok(infos.iter().map(|(&address, info)| (address, namer.frames(info))).collect())
}

/// A file with debug information and the package of its split units next to it, where blazesym
/// looks for it.
struct DebugFilePair {
    debug: Option<PathBuf>,
    package: Option<PathBuf>,
    /// The folder in which both are linked or the package is made. It must outlive the paths.
    _folder: Option<tempfile::TempDir>,
}

impl DebugFilePair {
    fn new(files: &ModuleFiles) -> io::Result<Self> {
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

/// Looks up the sorted addresses in several threads. Each takes a contiguous chunk, so that it
/// parses other debug information than the others.
fn look_up_all(
    debug: Option<&Path>,
    table: &Path,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, AddressInfo>, String> {
    let chunk_size = addresses.len().div_ceil(threads()).max(BATCH);
    thread::scope(|scope| {
        let start = |chunk| scope.spawn(move || look_up_chunk(debug, table, chunk, bar));
        let chunks: Vec<_> = addresses.chunks(chunk_size).map(start).collect();
        let mut infos = HashMap::with_capacity(addresses.len());
        for chunk in chunks {
            infos.extend(join(chunk).map_err(|error| error.to_string())?);
        }
        Ok(infos)
    })
}

fn look_up_chunk(
    debug: Option<&Path>,
    table: &Path,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, AddressInfo>, blazesym::Error> {
    let blaze = blazesym::symbolize::Symbolizer::builder().enable_demangling(false).build();
    let source = |file: &Path, debug_syms| {
        let mut elf = Elf::new(file);
        elf.debug_syms = debug_syms;
        Source::Elf(elf)
    };
    // Debug information has lines and inlined functions. The symbol table has full names, whereas
    // debug information with line tables only has names without their path.
    // When asked for debug information, blazesym follows a `.gnu_debuglink` without comparing
    // build-ids, so it is asked only for files that contain debug information.
    let (debug, table) = (debug.map(|debug| source(debug, true)), source(table, false));
    let mut infos = HashMap::with_capacity(addresses.len());
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
                infos.insert(*address, AddressInfo { symbol, functions });
            }
        }
        bar.inc(batch.len() as u64);
    }
    Ok(infos)
}

fn functions_of(sym: &Sym<'_>) -> Vec<(String, Option<String>, Option<u32>)> {
    let location = |info: Option<&CodeInfo<'_>>| {
        (info.map(|i| i.to_path().to_string_lossy().into_owned()), info.and_then(|i| i.line))
    };
    let (file, line) = location(sym.code_info.as_deref());
    let mut functions = vec![(sym.name.to_string(), file, line)];
    for inlined in &sym.inlined {
        let (file, line) = location(inlined.code_info.as_ref());
        functions.push((inlined.name.to_string(), file, line));
    }
    functions
}

/// Names the functions of a module by what is known about the module as a whole.
struct Namer<'a> {
    module: &'a str,
    closures: Closures,
    /// The readable form of each mangled name in debug information. Most names are at many
    /// addresses, so each is demangled once.
    known: HashMap<&'a str, Option<String>>,
    roots: Roots,
}

impl<'a> Namer<'a> {
    fn new(infos: &'a HashMap<u64, AddressInfo>, closures: Closures, module: &'a Module) -> Self {
        let (module, known, roots) = (recorded_path(module), HashMap::new(), Roots::default());
        let mut names = Self { module, closures, known, roots };
        names.known = names.demangle_all(infos);
        let mut roots = Roots::default();
        for info in infos.values() {
            for (depth, (name, file, _)) in info.functions.iter().enumerate() {
                if let Some(function) = names.full_name(info, depth, name)
                    && let Some(file) = file
                {
                    roots.learn(&function, &names::crate_of(&function, names.module), file);
                }
            }
        }
        names.roots = roots;
        names
    }

    fn demangle_all(
        &self,
        infos: &'a HashMap<u64, AddressInfo>,
    ) -> HashMap<&'a str, Option<String>> {
        let functions = infos.values().flat_map(|info| &info.functions);
        let distinct: HashSet<&str> = functions.map(|(name, ..)| name.as_str()).collect();
        let distinct: Vec<&str> = distinct.into_iter().collect();
        let chunk_size = distinct.len().div_ceil(threads()).max(BATCH);
        let demangle_chunk = |chunk: &[&'a str]| -> Vec<_> {
            chunk.iter().map(|&name| (name, self.demangled(name, None))).collect()
        };
        thread::scope(|scope| {
            let start = |chunk| scope.spawn(move || demangle_chunk(chunk));
            let chunks: Vec<_> = distinct.chunks(chunk_size).map(start).collect();
            chunks.into_iter().flat_map(join).collect()
        })
    }

    /// The full name of the function at `depth` in `info`, or `None` if only a name without its
    /// path is known.
    fn full_name(&self, info: &AddressInfo, depth: usize, name: &str) -> Option<Cow<'_, str>> {
        if let Some(known) = self.known.get(name).and_then(Option::as_deref) {
            return Some(known.into());
        }
        // The outermost function is the one that the linker sees.
        let symbol = info.symbol.as_ref().filter(|_| depth == 0)?;
        Some(self.readable(symbol, Kind::of_debug_name(name)).into())
    }

    fn readable(&self, symbol: &str, kind: Option<Kind>) -> String {
        self.demangled(symbol, kind).unwrap_or_else(|| names::shortened(symbol.to_owned()))
    }

    /// The readable form of a symbol, or `None` if it is not mangled.
    fn demangled(&self, symbol: &str, kind: Option<Kind>) -> Option<String> {
        match names::demangled(symbol) {
            Some(_) => Some(names::readable(symbol, kind, &self.closures)),
            None => cpp::readable(symbol),
        }
    }

    /// The frames of an address, innermost first.
    fn frames(&self, info: &AddressInfo) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::with_capacity(info.functions.len().max(1));
        for (depth, (name, file, line)) in info.functions.iter().enumerate() {
            let function = match self.full_name(info, depth, name) {
                Some(function) => function.into_owned(),
                None if name.is_empty() => continue,
                None => self.roots.qualified(name, file.as_deref()),
            };
            let file = file.as_deref().map(|file| short_file(file).to_owned());
            frames.push(self.frame(function, file, *line));
        }
        if frames.is_empty()
            && let Some(symbol) = &info.symbol
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
