//! From addresses to names, out of the recorded process, by build-id.
//!
//! Each distinct address of a module is looked up once, module by module, and each dump of a series
//! profits from the ones before. Inlined functions become frames of their own.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use heapdrift::Snapshot;
use heapdrift::names::machinery::{self, Role};
use heapdrift::snapshot::{Module, Stack, Symbols};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::heap::located::{Located, LocatedStack, Location, Mapping};
use crate::heap::symbolized::{Frame, Origin, Symbolized, file_name, intern};
use crate::output::progress;
use crate::symbolize::binaries::{Binaries, Files, recorded_path};
use crate::symbolize::cache::{self, Cache};
use crate::symbolize::lookup;

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

/// Of each frame of a snapshot, the names that the dump itself has.
pub(crate) fn embedded(snapshot: &Snapshot) -> impl Iterator<Item = Option<Vec<Frame>>> {
    let symbols = snapshot.frames.symbols.as_ref();
    let mut of_frames = symbols.map(|symbols| (symbols, symbols.of_frames()));
    (0..snapshot.frames.address.len()).map(move |_| {
        let (symbols, of_frames) = of_frames.as_mut()?;
        let functions = of_frames.next().filter(|functions| !functions.is_empty())?;
        Some(functions.iter().map(|&f| Frame::from(&symbols.functions[f as usize])).collect())
    })
}

/// The functions at one address of a snapshot.
struct Expanded {
    /// Innermost first.
    frames: Vec<u32>,
    named: bool,
}

/// Of each stack, the size that all sampled live objects have, if they have one size.
fn object_sizes(snapshot: &Snapshot) -> Vec<Option<u64>> {
    let mut sizes: Vec<Option<Option<u64>>> = vec![None; snapshot.stacks.len()];
    for sample in snapshot.live.iter() {
        let size = &mut sizes[sample.stack as usize];
        *size = match *size {
            None => Some(Some(sample.size)),
            Some(known) => Some(known.filter(|&known| known == sample.size)),
        };
    }
    sizes.into_iter().map(Option::flatten).collect()
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
        let mut heap = Located {
            mappings: snapshot.modules.iter().map(|m| self.mapping(m, snapshot)).collect(),
            totals: snapshot.totals,
            origin: Origin::of(snapshot),
            ..Located::default()
        };
        let mut frame_index = HashMap::new();
        let expanded = self.expanded(snapshot, &mut heap.frames, &mut frame_index);
        let roles_of: Vec<Role> =
            heap.frames.iter().map(|f| machinery::role(&f.function)).collect();
        // Only sets that a stack has: a damaged dump could have millions of others.
        let mut label_index = HashMap::new();
        let mut location_index = HashMap::new();
        let mut whole: Vec<Option<u32>> = vec![None; expanded.len()];
        for (stack, object_bytes) in snapshot.stacks.iter().zip(object_sizes(snapshot)) {
            // Frames with the position in the stack of the address that each belongs to.
            let mut frames: Vec<(usize, u32)> = stack
                .frames
                .iter()
                .enumerate()
                .flat_map(|(at, &f)| expanded[f as usize].frames.iter().map(move |&f| (at, f)))
                .take(MAX_FRAMES + 1)
                .collect();
            let too_deep = frames.len() > MAX_FRAMES;
            frames.truncate(MAX_FRAMES);
            if !self.options.full_stacks {
                let roles = frames.iter().map(|&(_, frame)| roles_of[frame as usize]);
                let depth = machinery::depth(roles);
                frames.drain(..depth);
                frames.retain(|&(_, frame)| roles_of[frame as usize] != Role::Profiler);
            }
            let mut locations: Vec<u32> = frames
                .chunk_by(|(a, _), (b, _)| a == b)
                .map(|there| {
                    let frame = stack.frames[there[0].0] as usize;
                    // Most are not cut, and have been seen before.
                    let uncut = there.len() == expanded[frame].frames.len();
                    if let Some(at) = whole[frame].filter(|_| uncut) {
                        return at;
                    }
                    let module = snapshot.frames.module[frame];
                    let bias = snapshot.modules[module as usize].load_bias;
                    let location = Location {
                        mapping: Some(module),
                        address: snapshot.frames.address[frame].wrapping_add(bias),
                        frames: there.iter().map(|&(_, frame)| frame).collect(),
                        named: expanded[frame].named,
                    };
                    let at = intern(&mut location_index, &mut heap.locations, location);
                    if uncut {
                        whole[frame] = Some(at);
                    }
                    at
                })
                .collect();
            if locations.is_empty() {
                let none = Frame {
                    function: "[no stack]".into(),
                    krate: "[no stack]".into(),
                    ..Frame::default()
                };
                let frames = vec![intern(&mut frame_index, &mut heap.frames, none)];
                let none = Location { mapping: None, address: 0, frames, named: true };
                locations.push(intern(&mut location_index, &mut heap.locations, none));
            }
            let labels = snapshot.label_sets[stack.labels as usize].clone();
            heap.stacks.push(LocatedStack {
                locations,
                labels: intern(&mut label_index, &mut heap.label_sets, labels),
                truncated: stack.truncated || too_deep,
                metrics: stack.metrics,
                object_bytes,
            });
        }
        heap
    }

    /// The frames at each address of the snapshot, which join `frames`.
    fn expanded(
        &self,
        snapshot: &Snapshot,
        frames: &mut Vec<Frame>,
        index: &mut HashMap<Frame, u32>,
    ) -> Vec<Expanded> {
        let addresses = snapshot.frames.module.iter().zip(&snapshot.frames.address);
        addresses
            .zip(embedded(snapshot))
            .map(|((&module, address), embedded)| {
                let module = &snapshot.modules[module as usize];
                let known = || self.known.get(&ModuleKey::of(module))?.get(address).cloned();
                match embedded.or_else(known).filter(|frames| !frames.is_empty()) {
                    Some(there) => Expanded {
                        frames: there
                            .into_iter()
                            .map(|frame| intern(index, frames, frame))
                            .collect(),
                        named: true,
                    },
                    None => Expanded {
                        frames: vec![intern(index, frames, nameless(module, *address))],
                        named: false,
                    },
                }
            })
            .collect()
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
        let addresses = snapshot.frames.module.iter().zip(&snapshot.frames.address);
        let frames: Vec<Vec<Frame>> = addresses
            .zip(embedded(snapshot))
            .map(|((&module, address), embedded)| {
                let module = &snapshot.modules[module as usize];
                let known = || self.known.get(&ModuleKey::of(module))?.get(address).cloned();
                embedded.or_else(known).unwrap_or_default()
            })
            .collect();
        cache::symbols(frames.iter().map(Vec::as_slice))
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
        let known = |(module, address): &(u32, u64)| {
            let module = &snapshot.modules[*module as usize];
            self.known.get(&ModuleKey::of(module))?.get(address).cloned()
        };
        addresses.iter().map(|place| known(place).unwrap_or_default()).collect()
    }

    /// The files of the modules of a snapshot, without reading names from them. What has no file,
    /// such as `[vdso]`, is left out.
    pub fn match_modules(&mut self, snapshot: &Snapshot) -> Vec<ModuleFile> {
        for warning in self.binaries.unused(&snapshot.modules) {
            self.warn(warning);
        }
        // What has names in the dump needs no file.
        let mut needed = vec![false; snapshot.modules.len()];
        for (&module, names) in snapshot.frames.module.iter().zip(embedded(snapshot)) {
            needed[module as usize] |= names.is_none();
        }
        let modules = snapshot.modules.iter().zip(needed);
        modules
            .filter(|(module, _)| crate::symbolize::binaries::has_file(module))
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
        let named: Vec<bool> = embedded(snapshot).map(|frames| frames.is_some()).collect();
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

/// The frame of an address without a name.
fn nameless(module: &Module, address: u64) -> Frame {
    let name = file_name(recorded_path(module));
    Frame { function: format!("{name}+{address:#x}"), krate: name.to_owned(), ..Frame::default() }
}
