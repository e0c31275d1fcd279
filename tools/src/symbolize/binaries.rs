//! Which file on this machine is a module of a dump. Names from a wrong file are worse than none.
//!
//! A file is believed only if its build-id equals the one in the dump. Candidates are, in this
//! order, the recorded path, the paths given by `--binary`, and separate debug files: in each debug
//! directory `.build-id/ab/cdef….debug`, the module's file name, with and without `.debug`, and its
//! whole path, so that the file system of a container serves as well. What a file that matches, but is
//! stripped, names as its debug file (`.gnu_debuglink`) is looked for beside it, in `.debug` beside it,
//! and in the debug directories.
//!
//! Of those that match, debug information is taken from the first that has it, the symbol table
//! from the first that has one: both may be in different files. Split debug information is found as
//! a package `NAME.dwp`, beside the file or in a directory that was given; each of its units
//! is believed by its own id. Unpacked it is a `.dwo` file for each unit: see [`dwo`].
//!
//! A module without a build-id cannot be told from an older or newer one. The file is used if it
//! has the same file name, has no build-id either, and was last changed before recording started;
//! and a warning says how to do better.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};

use heapdrift::names::file_name;
use heapdrift::snapshot::Module;

use crate::symbolize::dwo;
use crate::symbolize::elf::Elf;
use crate::symbolize::modules::{has_file, recorded_path};

/// Where debug files are looked for besides the directories that were given.
const SYSTEM_DEBUG_DIR: &str = "/usr/lib/debug";

/// Finds the files of modules, and remembers what it has looked at.
#[derive(Debug, Default)]
pub(crate) struct Binaries {
    given: Vec<PathBuf>,
    debug_dirs: Vec<PathBuf>,
    read: HashMap<PathBuf, Result<Elf, String>>,
    unpacked: HashMap<PathBuf, Vec<PathBuf>>,
}

/// The files that have the names of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// The one with debug information, if there is one.
    pub(crate) debug: Option<PathBuf>,
    /// The one with the symbol table, most often the same.
    pub(crate) table: PathBuf,
    /// The package with split debug information.
    pub(crate) package: Option<PathBuf>,
    /// Where there is no package: what one can be made of.
    pub(crate) unpacked: Vec<PathBuf>,
}

impl Files {
    /// The one that is shown.
    pub(crate) fn main(&self) -> &Path {
        self.debug.as_deref().unwrap_or(&self.table)
    }

    /// Each of them.
    pub(crate) fn all(&self) -> Vec<&Path> {
        let others = [self.debug.as_deref(), self.package.as_deref()];
        let files = others.into_iter().flatten().chain([&*self.table]);
        files.chain(self.unpacked.iter().map(PathBuf::as_path)).collect()
    }
}

/// A module's files, or why there are none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// The files to take names from.
    pub(crate) files: Option<Files>,
    /// One line for the user, if something is not as it should be.
    pub(crate) warning: Option<String>,
}

impl Binaries {
    pub(crate) fn new(given: Vec<PathBuf>, debug_dirs: Vec<PathBuf>) -> Self {
        Self { given, debug_dirs, ..Self::default() }
    }

    /// The file of `module`, recorded by a process whose recording started at `started_unix_ms`.
    pub(crate) fn find(&mut self, module: &Module, started_unix_ms: u64) -> Found {
        if !has_file(module) {
            return Found::default();
        }
        if module.build_id.is_empty() {
            return self.without_build_id(module, started_unix_ms);
        }
        let (mut first, mut debug, mut table) = (None, None, None);
        let mut candidates: VecDeque<PathBuf> = self.candidates(module).into();
        // Debuglinks may lead in a circle.
        let mut seen = HashSet::new();
        while let Some(candidate) = candidates.pop_front() {
            if !seen.insert(candidate.clone()) {
                continue;
            }
            let elf = match self.elf(&candidate) {
                Ok(elf) if elf.build_id == module.build_id => elf.clone(),
                _ => continue,
            };
            first = first.or_else(|| Some(candidate.clone()));
            if elf.symbols && table.is_none() {
                table = Some(candidate.clone());
            }
            if elf.debug_info {
                debug = debug.or(Some(candidate));
            } else if let Some(link) = elf.debug_link {
                for linked in self.linked(&candidate, &link).into_iter().rev() {
                    candidates.push_front(linked);
                }
            }
            if debug.is_some() && table.is_some() {
                break;
            }
        }
        let Some(table) = table.or_else(|| debug.clone()).or(first) else {
            return Found { files: None, warning: Some(self.why_not(module)) };
        };
        Found { files: Some(self.files(debug, table, module)), warning: None }
    }

    /// These files with what was split off them.
    fn files(&mut self, debug: Option<PathBuf>, table: PathBuf, module: &Module) -> Files {
        let package = debug.as_ref().and_then(|debug| self.package(debug, module));
        let whole = package.is_some();
        let unpacked = debug.as_ref().filter(|_| !whole).map(|debug| self.unpacked(debug));
        Files { unpacked: unpacked.unwrap_or_default(), debug, table, package }
    }

    /// Where the debug file that `file` names could be.
    fn linked(&self, file: &Path, link: &str) -> Vec<PathBuf> {
        // A name with a path in it is not what the section is for.
        let link = file_name(link);
        let canonical = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let Some(folder) = canonical.parent() else { return Vec::new() };
        let mut paths = vec![folder.join(link), folder.join(".debug").join(link)];
        let below = folder.strip_prefix("/").unwrap_or(folder);
        for debug in self.debug_dirs.iter().map(PathBuf::as_path).chain([SYSTEM_DEBUG_DIR.as_ref()])
        {
            paths.extend([debug.join(link), debug.join(below).join(link)]);
        }
        paths.retain(|path| *path != canonical);
        paths
    }

    /// The package of split debug information of a file.
    fn package(&self, file: &Path, module: &Module) -> Option<PathBuf> {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dwp");
            PathBuf::from(name)
        };
        let name = PathBuf::from(format!("{}.dwp", file_name(recorded_path(module))));
        let given = self.given.iter().filter(|path| path.ends_with(&name)).cloned();
        let mut candidates = std::iter::once(beside(file))
            .chain(given)
            .chain(self.debug_dirs.iter().map(|folder| folder.join(&name)));
        candidates.find(|path| path.is_file())
    }

    /// The `.dwo` files of a file.
    fn unpacked(&mut self, file: &Path) -> Vec<PathBuf> {
        if !self.elf(file).as_ref().is_ok_and(|elf| elf.split) {
            return Vec::new();
        }
        let found = || dwo::files(file, &self.debug_dirs);
        self.unpacked.entry(file.to_owned()).or_insert_with(found).clone()
    }

    /// One line for each given binary that is no module of the dump.
    pub(crate) fn unused(&mut self, modules: &[Module]) -> Vec<String> {
        let known = |elf: &Elf| modules.iter().any(|m| m.build_id == elf.build_id);
        let mut lines = Vec::new();
        for path in self.given.clone() {
            // A package of split debug information has no build-id.
            if path.is_file() && path.extension().is_some_and(|end| end == "dwp") {
                continue;
            }
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
            candidates.extend(recorded.strip_prefix('/').map(|path| folder.join(path)));
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
        let files = file.map(|file| {
            let debug_info = self.elf(&file).as_ref().is_ok_and(|elf| elf.debug_info);
            self.files(debug_info.then(|| file.clone()), file, module)
        });
        Found { files, warning: Some(warning) }
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
