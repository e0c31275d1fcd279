//! Turns addresses into names, outside of the recorded process.
//!
//! Each distinct address of a module is looked up once, so later dumps of a series reuse the names
//! of earlier ones. Inlined functions become frames of their own.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use heapdrift::Snapshot;
use heapdrift::names::file_name;
use heapdrift::snapshot::{Module, Stack, Symbols};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::heap::located::{Located, Mapping};
use crate::heap::symbolized::{Frame, Symbolized};
use crate::output::progress;
use crate::symbolize::binaries::{Binaries, ModuleFiles};
use crate::symbolize::cache::{self, Cache};
use crate::symbolize::embedded::{embedded_frames, symbol_table};
use crate::symbolize::locate::locate;
use crate::symbolize::lookup;
use crate::symbolize::modules::has_file;

/// Where binaries are looked for, and which frames are kept.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Executables and libraries besides the recorded paths. Only those with a recorded build-id
    /// are used.
    pub binaries: Vec<PathBuf>,
    /// Directories with separate debug files, besides `/usr/lib/debug`.
    pub debug_dirs: Vec<PathBuf>,
    /// Keep the frames of the allocator and the profiler at the innermost end of each stack.
    pub full_stacks: bool,
    /// The folder of the cache of names, for example [`cache::default_folder`]. `None` disables the
    /// cache.
    pub cache: Option<PathBuf>,
    /// Show a progress bar on standard error if that is a terminal.
    pub progress: bool,
}

/// Turns snapshots into stacks of names.
pub struct Symbolizer {
    options: Options,
    binaries: Binaries,
    /// The functions at the addresses of each module, innermost first.
    known: HashMap<ModuleKey, HashMap<u64, Vec<Frame>>>,
    warnings: Vec<String>,
}

/// A module of a dump and the file on this machine that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleFile {
    /// The recorded path.
    pub path: String,
    /// The recorded build-id, empty if the module has none.
    pub build_id: String,
    /// The file that names are taken from.
    pub file: Option<PathBuf>,
    /// Why there is no file, or why it may be the wrong one.
    pub problem: Option<String>,
}

/// Two modules of different dumps are the same if their keys are equal.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ModuleKey {
    path: String,
    build_id: String,
}

impl Symbolizer {
    /// A symbolizer that has not looked anything up yet.
    pub fn new(options: Options) -> Self {
        Self {
            binaries: Binaries::new(options.binaries.clone(), options.debug_dirs.clone()),
            options,
            known: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    /// The stacks of a snapshot with names. An address without a name becomes `module+0xaddress`,
    /// and [`take_warnings`](Self::take_warnings) explains why it has none.
    ///
    /// Frames of the allocator and the profiler are recognised by name and removed from the
    /// innermost end, unless the options say otherwise; at least one frame is always kept. A stack
    /// that was recorded without any frame becomes `[no stack]`.
    pub fn symbolize(&mut self, snapshot: &Snapshot) -> Symbolized {
        self.locate(snapshot).into_symbolized()
    }

    /// The stacks of a snapshot with both addresses and names. The same frames are removed as in
    /// [`symbolize`](Self::symbolize).
    pub fn locate(&mut self, snapshot: &Snapshot) -> Located {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        self.look_up(snapshot);
        let mappings = snapshot.modules.iter().map(|m| self.mapping(m, snapshot)).collect();
        locate(snapshot, self.functions_of(snapshot), mappings, self.options.full_stacks)
    }

    /// The functions at each address of the snapshot, innermost first; none if no name is known.
    fn functions_of(&self, snapshot: &Snapshot) -> impl Iterator<Item = Vec<Frame>> {
        let addresses = snapshot.frames.module.iter().zip(&snapshot.frames.address);
        addresses.zip(embedded_frames(snapshot)).map(|((&module, &address), embedded)| {
            let module = &snapshot.modules[module as usize];
            embedded.unwrap_or_else(|| self.known(module, address))
        })
    }

    /// The functions at an address that was looked up.
    fn known(&self, module: &Module, address: u64) -> Vec<Frame> {
        let known = self.known.get(&ModuleKey::of(module)).and_then(|known| known.get(&address));
        known.cloned().unwrap_or_default()
    }

    /// The mapping of a module's code.
    ///
    /// Recent dumps contain it; for older ones it is read from the file. Without either, the whole
    /// range of the module is assumed to be one mapping of the file from its start, which is true
    /// of files linked by GNU ld, but not by lld.
    fn mapping(&mut self, module: &Module, snapshot: &Snapshot) -> Mapping {
        const PAGE: u64 = 4096;
        let code = module.code.clone().or_else(|| {
            let found = self.binaries.find(module, snapshot.process.started_unix_ms);
            found.files.and_then(|files| self.binaries.code(files.main()))
        });
        let (start, end, offset) = match code {
            Some(code) => {
                let into_page = code.start % PAGE;
                (
                    module.load_bias.wrapping_add(code.start - into_page),
                    module
                        .load_bias
                        .wrapping_add(code.end.checked_next_multiple_of(PAGE).unwrap_or(code.end)),
                    module.file_offset.saturating_sub(into_page),
                )
            }
            None => (module.start, module.end, 0),
        };
        let (path, build_id) = (module.path.clone(), module.build_id.clone());
        Mapping { path, build_id, start, end, offset }
    }

    /// The names of all addresses in the stacks of the snapshot, as a table to be stored in its
    /// frames.
    pub fn symbols(&mut self, snapshot: &Snapshot) -> Symbols {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        self.look_up(snapshot);
        let functions: Vec<Vec<Frame>> = self.functions_of(snapshot).collect();
        symbol_table(functions.iter().map(Vec::as_slice))
    }

    /// The functions at the given addresses, innermost first; none if there is no name. An address
    /// is relative to its module, which is given as an index into the modules of the snapshot.
    pub fn functions(&mut self, snapshot: &Snapshot, addresses: &[(u32, u64)]) -> Vec<Vec<Frame>> {
        let mut asked = Snapshot::default();
        asked.process = snapshot.process.clone();
        asked.modules = snapshot.modules.clone();
        (asked.frames.module, asked.frames.address) = addresses.iter().copied().unzip();
        let mut all = Stack::default();
        all.frames = (0..addresses.len() as u32).collect();
        asked.stacks.push(all);
        self.look_up(&asked);
        let modules = &snapshot.modules;
        let known = |&(module, address)| self.known(&modules[module as usize], address);
        addresses.iter().map(known).collect()
    }

    /// The files of the modules of a snapshot; no names are read from them. Modules that are not
    /// files, such as `[vdso]`, are left out.
    pub fn match_modules(&mut self, snapshot: &Snapshot) -> Vec<ModuleFile> {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        // A module needs no file if the dump names all of its addresses.
        let mut needed = vec![false; snapshot.modules.len()];
        for (&module, names) in snapshot.frames.module.iter().zip(embedded_frames(snapshot)) {
            needed[module as usize] |= names.is_none();
        }
        let modules = snapshot.modules.iter().zip(needed);
        modules
            .filter(|(module, _)| has_file(module))
            .map(|(module, needed)| {
                let found = self.binaries.find(module, snapshot.process.started_unix_ms);
                ModuleFile {
                    path: module.path.clone(),
                    build_id: module.build_id.clone(),
                    file: found.files.map(|files| files.main().to_owned()),
                    problem: found.warning.filter(|_| needed),
                }
            })
            .collect()
    }

    /// The warnings since the last call. Each is a line that names a file, and no line is repeated.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn warn(&mut self, line: String) {
        // There are only a few warnings, so a linear search is enough.
        if !self.warnings.contains(&line) {
            self.warnings.push(line);
        }
    }

    /// Adds every address in a stack of the snapshot to `known`.
    fn look_up(&mut self, snapshot: &Snapshot) {
        let mut wanted: Vec<Vec<u64>> = vec![Vec::new(); snapshot.modules.len()];
        let used: HashSet<u32> =
            snapshot.stacks.iter().flat_map(|stack| stack.frames.iter().copied()).collect();
        let named: Vec<bool> = embedded_frames(snapshot).map(|frames| frames.is_some()).collect();
        for frame in used {
            if named[frame as usize] {
                continue;
            }
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
            let frames = found.files.map(|files| self.names(&files, module, &addresses, &bar));
            self.known.entry(ModuleKey::of(module)).or_default().extend(frames.unwrap_or_default());
        }
        bar.finish_and_clear();
    }

    /// The names of the sorted addresses of a module. Those that the cache has are not looked up.
    fn names(
        &mut self,
        files: &ModuleFiles,
        module: &Module,
        addresses: &[u64],
        bar: &ProgressBar,
    ) -> HashMap<u64, Vec<Frame>> {
        let cache = self.options.cache.clone().map(Cache::new);
        let source = cache::Source::of(&files.all());
        let mut known = match (&cache, &source) {
            (Some(cache), Some(source)) => cache.read(&module.build_id, source),
            _ => HashMap::new(),
        };
        let missing: Vec<u64> =
            addresses.iter().copied().filter(|address| !known.contains_key(address)).collect();
        bar.inc((addresses.len() - missing.len()) as u64);
        if missing.is_empty() {
            return known;
        }
        match lookup::names(files, module, &missing, bar) {
            Ok(found) => {
                // That an address has no name is cached as well.
                known.extend(missing.iter().map(|&address| (address, Vec::new())));
                known.extend(found);
                if let (Some(cache), Some(source)) = (cache, source) {
                    cache.write(&module.build_id, source, &known);
                }
            }
            Err(warning) => self.warn(warning),
        }
        known
    }

    fn progress_bar(&self, length: usize) -> ProgressBar {
        if !self.options.progress {
            return ProgressBar::hidden();
        }
        progress::bar(length, "addresses")
    }
}

impl ModuleKey {
    fn of(module: &Module) -> Self {
        Self { path: module.path.clone(), build_id: module.build_id.clone() }
    }
}
