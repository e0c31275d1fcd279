//! Which file on this machine is a module of a dump. Names from a wrong file are worse than none.
//!
//! A file is believed only if its build-id equals the one in the dump. Candidates are, in this
//! order, the recorded path, the paths given by `--binary`, and separate debug files: in each debug
//! directory `.build-id/ab/cdef….debug` and the module's file name, with and without `.debug`.
//! Among those that match, the first with debug information is taken, else the first with a symbol
//! table, else the first.
//!
//! A module without a build-id cannot be told from an older or newer one. The file is used if it
//! has the same file name, has no build-id either, and was last changed before recording started;
//! and a warning says how to do better.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use heapdrift::snapshot::Module;
use object::{Object as _, ObjectSegment as _, ReadCache, SegmentFlags};

use crate::symbolized::file_name;

/// Where debug files are looked for besides the directories that were given.
const SYSTEM_DEBUG_DIR: &str = "/usr/lib/debug";

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Elf {
    build_id: String,
    debug_info: bool,
    symbols: bool,
    /// The addresses of its first executable segment.
    code: Option<Range<u64>>,
    modified_unix_ms: u64,
}

/// Finds the files of modules, and remembers what it has looked at.
#[derive(Debug, Default)]
pub(crate) struct Binaries {
    given: Vec<PathBuf>,
    debug_dirs: Vec<PathBuf>,
    read: HashMap<PathBuf, Result<Elf, String>>,
}

/// A module's file, or why there is none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// The file to take names from.
    pub(crate) file: Option<PathBuf>,
    /// One line for the user, if something is not as it should be.
    pub(crate) warning: Option<String>,
}

impl Binaries {
    pub(crate) fn new(given: Vec<PathBuf>, debug_dirs: Vec<PathBuf>) -> Self {
        Self { given, debug_dirs, read: HashMap::new() }
    }

    /// The file of `module`, recorded by a process whose recording started at `started_unix_ms`.
    pub(crate) fn find(&mut self, module: &Module, started_unix_ms: u64) -> Found {
        if !has_file(module) {
            return Found::default();
        }
        if module.build_id.is_empty() {
            return self.without_build_id(module, started_unix_ms);
        }
        let mut best: Option<(u8, PathBuf)> = None;
        for candidate in self.candidates(module) {
            let Ok(elf) = self.elf(&candidate) else { continue };
            if elf.build_id != module.build_id {
                continue;
            }
            let rank = if elf.debug_info { 2 } else { u8::from(elf.symbols) };
            if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                best = Some((rank, candidate));
            }
            if rank == 2 {
                break;
            }
        }
        match best {
            Some((_, file)) => Found { file: Some(file), warning: None },
            None => Found { file: None, warning: Some(self.why_not(module)) },
        }
    }

    /// One line for each given binary that is no module of the dump.
    pub(crate) fn unused(&mut self, modules: &[Module]) -> Vec<String> {
        let known = |elf: &Elf| modules.iter().any(|m| m.build_id == elf.build_id);
        let mut lines = Vec::new();
        for path in self.given.clone() {
            match self.elf(&path) {
                Err(why) => lines.push(format!("{}: {why}, not used", path.display())),
                Ok(elf) if known(elf) => {}
                Ok(elf) if elf.build_id.is_empty() => lines.push(format!(
                    "{}: expected a build-id, found none, so it cannot be matched to the dump; \
                     link it with -C link-arg=-Wl,--build-id; not used",
                    path.display()
                )),
                Ok(elf) => {
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let namesake = modules.iter().find(|m| file_name(&m.path) == name);
                    let expected = match namesake.or(modules.first()) {
                        Some(m) if !m.build_id.is_empty() => m.build_id.as_str(),
                        _ => "of a module in the dump",
                    };
                    lines.push(format!(
                        "{}: expected build-id {expected}, found {}; not used",
                        path.display(),
                        elf.build_id
                    ));
                }
            }
        }
        lines
    }

    /// The addresses of the first executable segment of a file.
    pub(crate) fn code(&mut self, file: &Path) -> Option<Range<u64>> {
        self.elf(file).as_ref().ok()?.code.clone()
    }

    fn candidates(&self, module: &Module) -> Vec<PathBuf> {
        let recorded = recorded_path(module);
        let mut candidates = vec![PathBuf::from(recorded)];
        candidates.extend(self.given.iter().cloned());
        let id = &module.build_id;
        let by_id = (id.len() > 2 && id.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| format!(".build-id/{}/{}.debug", &id[..2], &id[2..]));
        let name = file_name(recorded);
        let with_suffix = format!("{name}.debug");
        for folder in &self.debug_dirs {
            candidates.extend(by_id.iter().map(|path| folder.join(path)));
            candidates.extend([folder.join(name), folder.join(&with_suffix)]);
        }
        candidates.extend(by_id.iter().map(|path| Path::new(SYSTEM_DEBUG_DIR).join(path)));
        candidates
    }

    fn without_build_id(&mut self, module: &Module, started_unix_ms: u64) -> Found {
        let recorded = recorded_path(module);
        let name = file_name(recorded);
        let mut candidates = vec![PathBuf::from(recorded)];
        let namesakes = self.given.iter().filter(|p| p.file_name().is_some_and(|n| n == name));
        candidates.extend(namesakes.cloned());
        let file = candidates.into_iter().find(|path| {
            self.elf(path)
                .as_ref()
                .is_ok_and(|elf| elf.build_id.is_empty() && elf.modified_unix_ms <= started_unix_ms)
        });
        let verdict = match &file {
            Some(path) => format!(
                "used unverified: it has the name, and is older than the recording ({})",
                path.display()
            ),
            None => "its frames are printed as addresses".to_owned(),
        };
        let warning = format!(
            "{recorded}: expected a build-id in the dump, found none; {verdict}; \
             link with -C link-arg=-Wl,--build-id"
        );
        Found { file, warning: Some(warning) }
    }

    fn why_not(&mut self, module: &Module) -> String {
        let recorded = recorded_path(module);
        let found = match self.elf(Path::new(recorded)) {
            Ok(elf) if elf.build_id.is_empty() => "a file without one".to_owned(),
            Ok(elf) => elf.build_id.clone(),
            Err(why) => why.clone(),
        };
        format!(
            "{recorded}: expected build-id {}, found {found}; not used, its frames are printed as \
             addresses; name the right file with --binary or --debug-dir",
            module.build_id
        )
    }

    fn elf(&mut self, path: &Path) -> &Result<Elf, String> {
        self.read.entry(path.to_owned()).or_insert_with(|| Elf::read(path))
    }
}

impl Elf {
    fn read(path: &Path) -> Result<Self, String> {
        let found = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            _ => error.to_string(),
        })?;
        // The path comes from the dump: opening a pipe or a terminal could block for ever.
        if !found.is_file() {
            return Err("no regular file".to_owned());
        }
        let file = File::open(path).map_err(|error| error.to_string())?;
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).map_err(|_| "no ELF file".to_owned())?;
        let id = elf.build_id().ok().flatten().unwrap_or_default();
        let modified = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let has_data = |section: &str| elf.section_by_name_bytes(section.as_bytes()).is_some();
        Ok(Self {
            build_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            debug_info: has_data(".debug_info") || has_data(".zdebug_info"),
            symbols: has_data(".symtab"),
            code: elf.segments().find_map(|segment| match segment.flags() {
                SegmentFlags::Elf { p_flags, .. } if p_flags.contains(object::elf::PF_X) => {
                    Some(segment.address()..segment.address().checked_add(segment.size())?)
                }
                _ => None,
            }),
            modified_unix_ms: modified
                .unwrap_or(Duration::MAX)
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
        })
    }
}

/// The path without what Linux appends when the file was replaced while the program ran.
pub(crate) fn recorded_path(module: &Module) -> &str {
    module.path.strip_suffix(" (deleted)").unwrap_or(&module.path)
}

/// Whether a module is a file at all: `[vdso]` and `[unknown]` are not.
pub(crate) fn has_file(module: &Module) -> bool {
    !module.path.is_empty() && !module.path.starts_with('[')
}
