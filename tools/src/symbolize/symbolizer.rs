//! From addresses to names, out of the recorded process, by build-id.
//!
//! Each distinct address of a module is looked up once, module by module, and each dump of a series
//! profits from the ones before. Inlined functions become frames of their own.

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
use crate::symbolize::binaries::{Binaries, Files};
use crate::symbolize::cache::{self, Cache};
use crate::symbolize::embedded::{embedded_frames, symbol_table};
use crate::symbolize::locate::locate;
use crate::symbolize::lookup;
use crate::symbolize::modules::has_file;

/// Where to look for binaries, and what to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Executables and libraries besides the recorded paths. Used only where the build-id matches.
    pub binaries: Vec<PathBuf>,
    /// Directories with separate debug files, besides `/usr/lib/debug`.
    pub debug_dirs: Vec<PathBuf>,
    /// Keep the frames of allocator and profiler at the innermost end.
    pub full_stacks: bool,
    /// Folder for names that were looked up, so that the next time is quicker; see
    /// [`cache::default_folder`]. None: every time is the first.
    pub cache: Option<PathBuf>,
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
        self.locate(snapshot).into_symbolized()
    }

    /// The stacks of a snapshot as addresses with names beside them, cut and named as in
    /// [`symbolize`](Self::symbolize).
    pub fn locate(&mut self, snapshot: &Snapshot) -> Located {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        self.look_up(snapshot);
        let mappings = snapshot.modules.iter().map(|m| self.mapping(m, snapshot)).collect();
        locate(snapshot, self.functions_of(snapshot), mappings, self.options.full_stacks)
    }

    /// The functions at each address of the snapshot as far as they are known, innermost first.
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

    /// Where the code of a module was mapped.
    ///
    /// Dumps say where, but for older ones, where the file itself does. Without either, the
    /// module's whole range is taken to be one mapping of the file from its start: true of what GNU ld
    /// links, not of lld.
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

    /// The names of all addresses that a stack of the snapshot has, to be put into its frames.
    pub fn symbols(&mut self, snapshot: &Snapshot) -> Symbols {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        self.look_up(snapshot);
        let functions: Vec<Vec<Frame>> = self.functions_of(snapshot).collect();
        symbol_table(functions.iter().map(Vec::as_slice))
    }

    /// The functions at some addresses, innermost first; none where there is no name. An address is
    /// given with its module, an index into those of the snapshot, and relative to it.
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

    /// The files of the modules of a snapshot, without reading names from them. What has no file,
    /// such as `[vdso]`, is left out.
    pub fn match_modules(&mut self, snapshot: &Snapshot) -> Vec<ModuleFile> {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        // What has names in the dump needs no file.
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

    /// The names of the sorted addresses of a module, from the cache as far as they are there.
    fn names(
        &mut self,
        files: &Files,
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
                // That there is no name is worth knowing, too.
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
