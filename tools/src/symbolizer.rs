//! From addresses to names, out of the recorded process, by build-id.
//!
//! Each distinct address of a module is looked up once, module by module, and each dump of a series
//! profits from the ones before. Inlined functions become frames of their own.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym};
use heapdrift::Snapshot;
use heapdrift::names::machinery::{self, Role};
use heapdrift::names::{self, Closures, Kind, Roots, is_closure, short_file};
use heapdrift::snapshot::Module;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::async_names;
use crate::binary::{Binaries, recorded_path};
use crate::cpp;
use crate::symbolized::{Frame, Origin, Stack, Symbolized, file_name, intern};

/// Addresses that are looked up at a time; between batches the progress bar moves.
const BATCH: usize = 256;

/// Frames of a stack, outer ones beyond which count as missing. Twice what any recording has; a
/// damaged dump could have millions.
const MAX_FRAMES: usize = 4096;

/// Where to look for binaries, and what to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Executables and libraries besides the recorded paths. Used only where the build-id matches.
    pub binaries: Vec<PathBuf>,
    /// Directories with separate debug files, besides `/usr/lib/debug`.
    pub debug_dirs: Vec<PathBuf>,
    /// Keep the frames of allocator and profiler at the innermost end.
    pub full_stacks: bool,
    /// Show a progress bar on standard error, if that is a terminal.
    pub progress: bool,
}

/// Turns snapshots into stacks of names.
pub struct Symbolizer {
    options: Options,
    binaries: Binaries,
    /// Of the addresses of each module: the functions there, innermost first.
    known: HashMap<ModuleKey, HashMap<u64, Vec<Frame>>>,
    warnings: Vec<String>,
}

/// A module of a dump, and the file on this machine that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleFile {
    /// The recorded path.
    pub path: String,
    /// The recorded build-id, empty where the module has none.
    pub build_id: String,
    /// The file that names are taken from.
    pub file: Option<PathBuf>,
    /// Why there is none, or why it should not be trusted blindly.
    pub problem: Option<String>,
}

/// What makes two modules of different dumps the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ModuleKey {
    path: String,
    build_id: String,
}

impl Symbolizer {
    /// A symbolizer that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            binaries: Binaries::new(options.binaries.clone(), options.debug_dirs.clone()),
            options,
            known: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    /// The stacks of a snapshot with names. What has no name is `module+0xaddress`; why it has
    /// none is in [`take_warnings`](Self::take_warnings).
    ///
    /// Frames of the allocator and the profiler are cut off the innermost end by name, unless the
    /// options say otherwise, and never so that nothing is left. A stack that was recorded without
    /// any frame is `[no stack]`.
    pub fn symbolize(&mut self, snapshot: &Snapshot) -> Symbolized {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        self.look_up(snapshot);
        let mut heap = Symbolized {
            totals: snapshot.totals,
            origin: Origin::of(snapshot),
            ..Symbolized::default()
        };
        let mut index = HashMap::new();
        // Only sets that a stack has: a damaged dump could have millions of others.
        let mut label_index = HashMap::new();
        // Of each frame of the snapshot: its frames with inlined ones, as indices into `heap`.
        let expanded: Vec<Vec<u32>> = snapshot
            .frames
            .module
            .iter()
            .zip(&snapshot.frames.address)
            .map(|(&module, address)| {
                let module = &snapshot.modules[module as usize];
                match self.known.get(&ModuleKey::of(module)).and_then(|known| known.get(address)) {
                    Some(frames) => frames
                        .iter()
                        .map(|frame| intern(&mut index, &mut heap.frames, frame.clone()))
                        .collect(),
                    None => {
                        vec![intern(&mut index, &mut heap.frames, nameless(module, *address))]
                    }
                }
            })
            .collect();
        let roles_of: Vec<Role> =
            heap.frames.iter().map(|f| machinery::role(&f.function)).collect();
        for stack in &snapshot.stacks {
            let all = stack.frames.iter().flat_map(|&f| expanded[f as usize].iter().copied());
            let mut frames: Vec<u32> = all.take(MAX_FRAMES + 1).collect();
            let too_deep = frames.len() > MAX_FRAMES;
            frames.truncate(MAX_FRAMES);
            if !self.options.full_stacks {
                let roles = frames.iter().map(|&frame| roles_of[frame as usize]);
                let depth = machinery::depth(roles);
                frames.drain(..depth);
                frames.retain(|&frame| roles_of[frame as usize] != Role::Profiler);
            }
            if frames.is_empty() {
                let none = Frame {
                    function: "[no stack]".into(),
                    krate: "[no stack]".into(),
                    ..Frame::default()
                };
                frames.push(intern(&mut index, &mut heap.frames, none));
            }
            let labels = snapshot.label_sets[stack.labels as usize].clone();
            heap.stacks.push(Stack {
                frames,
                labels: intern(&mut label_index, &mut heap.label_sets, labels),
                truncated: stack.truncated || too_deep,
                metrics: stack.metrics,
            });
        }
        heap
    }

    /// The files of the modules of a snapshot, without reading names from them. What has no file,
    /// such as `[vdso]`, is left out.
    pub fn match_modules(&mut self, snapshot: &Snapshot) -> Vec<ModuleFile> {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        let files = snapshot.modules.iter().filter(|module| crate::binary::has_file(module));
        files
            .map(|module| {
                let found = self.binaries.find(module, snapshot.process.started_unix_ms);
                ModuleFile {
                    path: module.path.clone(),
                    build_id: module.build_id.clone(),
                    file: found.file,
                    problem: found.warning,
                }
            })
            .collect()
    }

    /// What was not as it should be since the last call: each a line that names a file. The same
    /// line is given once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn warn(&mut self, line: String) {
        // A handful of modules: a set would be more than it is worth.
        if !self.warnings.contains(&line) {
            self.warnings.push(line);
        }
    }

    /// Fills `known` for every address in a stack of the snapshot.
    fn look_up(&mut self, snapshot: &Snapshot) {
        let mut wanted: Vec<Vec<u64>> = vec![Vec::new(); snapshot.modules.len()];
        let used: HashSet<u32> =
            snapshot.stacks.iter().flat_map(|stack| stack.frames.iter().copied()).collect();
        for frame in used {
            let module = snapshot.frames.module[frame as usize] as usize;
            let address = snapshot.frames.address[frame as usize];
            let known = self.known.get(&ModuleKey::of(&snapshot.modules[module]));
            if known.is_none_or(|known| !known.contains_key(&address)) {
                wanted[module].push(address);
            }
        }
        let bar = self.progress_bar(wanted.iter().map(Vec::len).sum());
        for (module, mut addresses) in snapshot.modules.iter().zip(wanted) {
            if addresses.is_empty() {
                continue;
            }
            addresses.sort_unstable();
            addresses.dedup();
            bar.set_message(file_name(&module.path).to_owned());
            let found = self.binaries.find(module, snapshot.process.started_unix_ms);
            found.warning.into_iter().for_each(|warning| self.warn(warning));
            let frames = found.file.map(|file| symbols_of(&file, module, &addresses, &bar));
            let frames = match frames {
                Some(Ok(frames)) => frames,
                Some(Err(warning)) => {
                    self.warn(warning);
                    HashMap::new()
                }
                None => HashMap::new(),
            };
            self.known.entry(ModuleKey::of(module)).or_default().extend(frames);
        }
        bar.finish_and_clear();
    }

    fn progress_bar(&self, length: usize) -> ProgressBar {
        if !self.options.progress {
            return ProgressBar::hidden();
        }
        // Draws to standard error, and only to a terminal.
        let template = "{msg} {wide_bar} {pos}/{len} addresses {elapsed}";
        let style = indicatif::ProgressStyle::with_template(template)
            .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
        ProgressBar::new(length as u64).with_style(style)
    }
}

impl ModuleKey {
    fn of(module: &Module) -> Self {
        Self { path: module.path.clone(), build_id: module.build_id.clone() }
    }
}

/// The frame of an address without a name.
fn nameless(module: &Module, address: u64) -> Frame {
    let name = file_name(recorded_path(module));
    Frame { function: format!("{name}+{address:#x}"), krate: name.to_owned(), ..Frame::default() }
}

/// What one address is, before its names are made readable.
struct Place {
    /// The symbol of the function that the linker sees, if it has one.
    symbol: Option<String>,
    /// From debug information, outermost first: names and where in each.
    functions: Vec<(String, Option<String>, Option<u32>)>,
}

fn symbols_of(
    file: &Path,
    module: &Module,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, Vec<Frame>>, String> {
    let places = places_of(file, addresses, bar)
        .map_err(|error| format!("{}: cannot be read for symbols: {error}", file.display()))?;
    let closures: HashSet<String> = places
        .values()
        .flat_map(|place| place.functions.iter().map(|f| &f.0).chain(&place.symbol))
        .filter(|name| is_closure(name))
        .cloned()
        .collect();
    let closures = if closures.is_empty() {
        Closures::default()
    } else {
        async_names::closures(file, closures, addresses)
    };
    let names = Names::new(&places, closures, module);
    Ok(places.iter().map(|(&address, place)| (address, names.frames(place))).collect())
}

fn places_of(
    file: &Path,
    addresses: &[u64],
    bar: &ProgressBar,
) -> Result<HashMap<u64, Place>, blazesym::Error> {
    let blaze = blazesym::symbolize::Symbolizer::builder().enable_demangling(false).build();
    let source = |debug_syms| {
        let mut elf = Elf::new(file);
        elf.debug_syms = debug_syms;
        Source::Elf(elf)
    };
    // Debug information knows lines and inlined functions, the symbol table knows whole names:
    // with line tables only, debug information has bare ones.
    let (debug, table) = (source(true), source(false));
    let mut places = HashMap::with_capacity(addresses.len());
    for batch in addresses.chunks(BATCH) {
        let by_debug = blaze.symbolize(&debug, Input::VirtOffset(batch))?;
        let by_table = blaze.symbolize(&table, Input::VirtOffset(batch)).unwrap_or_default();
        for (at, (address, found)) in batch.iter().zip(by_debug).enumerate() {
            let symbol = by_table.get(at).and_then(|s| s.as_sym()).map(|s| s.name.to_string());
            let functions = found.as_sym().map(functions_of).unwrap_or_default();
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
    roots: Roots,
}

impl<'a> Names<'a> {
    fn new(places: &HashMap<u64, Place>, closures: Closures, module: &'a Module) -> Self {
        let mut names = Self { module: recorded_path(module), closures, roots: Roots::default() };
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

    /// The name of a function of `place` that is not just a bare one.
    fn whole(&self, place: &Place, depth: usize, name: &str) -> Option<String> {
        self.demangled(name, None).or_else(|| {
            // The outermost is the one that the linker sees.
            let symbol = place.symbol.as_ref().filter(|_| depth == 0)?;
            Some(self.readable(symbol, Kind::of_debug_name(name)))
        })
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
                Some(function) => function,
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
