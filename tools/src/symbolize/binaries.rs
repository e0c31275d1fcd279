//! Finds the files on this machine that belong to a module of a dump.
//!
//! A file is used only if its build-id is the one in the dump, because names from a wrong file are
//! worse than none. Candidates are, in this order, the recorded path, the paths given by
//! `--binary`, and separate debug files. In each debug directory those are
//! `.build-id/ab/cdef….debug`, the module's file name, with and without `.debug`, and its whole
//! path, so that the directory may be the root of a container's file system. If a matching file is
//! stripped, the debug file that it names (`.gnu_debuglink`) is looked for next to it, in `.debug`
//! next to it, and in the debug directories.
//!
//! Debug information is taken from the first matching file that has it, and the symbol table from
//! the first that has one; the two may be different files. Split debug information is found as a
//! package `NAME.dwp`, next to the file or in a debug directory; each of its units is matched by
//! its own id. If it was not packed, there is a `.dwo` file for each unit: see [`dwo`].
//!
//! Without a build-id, different builds of a module cannot be told apart. The file is then used if
//! it has the same name, has no build-id either, and was last modified before recording started. A
//! warning says so and how to get a build-id.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};

use heapdrift::names::file_name;
use heapdrift::snapshot::Module;

use crate::symbolize::dwo;
use crate::symbolize::elf::Elf;
use crate::symbolize::modules::{has_file, recorded_path};

/// The system directory for debug files, searched besides those that were given.
const SYSTEM_DEBUG_DIR: &str = "/usr/lib/debug";

/// Finds the files of modules and remembers the files that it has examined.
#[derive(Debug, Default)]
pub(crate) struct Binaries {
    given: Vec<PathBuf>,
    debug_dirs: Vec<PathBuf>,
    read: HashMap<PathBuf, Result<Elf, String>>,
    unpacked: HashMap<PathBuf, Vec<PathBuf>>,
}

/// The files that hold the names of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleFiles {
    /// The file with debug information, if there is one.
    pub(crate) debug: Option<PathBuf>,
    /// The file with the symbol table, usually the same.
    pub(crate) table: PathBuf,
    /// The package with split debug information.
    pub(crate) package: Option<PathBuf>,
    /// The `.dwo` files that a package can be made of, if there is none.
    pub(crate) unpacked: Vec<PathBuf>,
}

impl ModuleFiles {
    /// The file that is shown to the user.
    pub(crate) fn main(&self) -> &Path {
        self.debug.as_deref().unwrap_or(&self.table)
    }

    /// All of the files.
    pub(crate) fn all(&self) -> Vec<&Path> {
        let others = [self.debug.as_deref(), self.package.as_deref()];
        let files = others.into_iter().flatten().chain([&*self.table]);
        files.chain(self.unpacked.iter().map(PathBuf::as_path)).collect()
    }
}

/// The result of a search: the files of a module, or why there are none.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct SearchResult {
    /// The files to take names from.
    pub(crate) files: Option<ModuleFiles>,
    /// A line for the user, if the files are missing or unverified.
    pub(crate) warning: Option<String>,
}

impl Binaries {
    pub(crate) fn new(given: Vec<PathBuf>, debug_dirs: Vec<PathBuf>) -> Self {
        Self { given, debug_dirs, ..Self::default() }
    }

    /// The files of `module`, from a recording that started at `started_unix_ms`.
    pub(crate) fn find(&mut self, module: &Module, started_unix_ms: u64) -> SearchResult {
        if !has_file(module) {
            return SearchResult::default();
        }
        if module.build_id.is_empty() {
            return self.without_build_id(module, started_unix_ms);
        }
        let (mut first, mut debug, mut table) = (None, None, None);
        let mut candidates: VecDeque<PathBuf> = self.candidates(module).into();
        // Debuglinks can form a cycle.
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
            return SearchResult { files: None, warning: Some(self.why_not(module)) };
        };
        SearchResult { files: Some(self.files(debug, table, module)), warning: None }
    }

    /// These files together with split debug information.
    fn files(&mut self, debug: Option<PathBuf>, table: PathBuf, module: &Module) -> ModuleFiles {
        let package = debug.as_ref().and_then(|debug| self.package(debug, module));
        let has_package = package.is_some();
        let unpacked = debug.as_ref().filter(|_| !has_package).map(|debug| self.unpacked(debug));
        ModuleFiles { unpacked: unpacked.unwrap_or_default(), debug, table, package }
    }

    /// The paths at which the debug file that `file` names may be.
    fn linked(&self, file: &Path, link: &str) -> Vec<PathBuf> {
        // The section holds a file name; a path in it is ignored.
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

    /// The path of the package with the split debug information of `file`.
    fn package(&self, file: &Path, module: &Module) -> Option<PathBuf> {
        let next_to = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dwp");
            PathBuf::from(name)
        };
        let name = PathBuf::from(format!("{}.dwp", file_name(recorded_path(module))));
        let given = self.given.iter().filter(|path| path.ends_with(&name)).cloned();
        let mut candidates = std::iter::once(next_to(file))
            .chain(given)
            .chain(self.debug_dirs.iter().map(|folder| folder.join(&name)));
        candidates.find(|path| path.is_file())
    }

    /// The `.dwo` files of `file`.
    fn unpacked(&mut self, file: &Path) -> Vec<PathBuf> {
        if !self.elf(file).as_ref().is_ok_and(|elf| elf.split) {
            return Vec::new();
        }
        let found = || dwo::files(file, &self.debug_dirs);
        self.unpacked.entry(file.to_owned()).or_insert_with(found).clone()
    }

    /// A line for each given binary that is not a module of the dump.
    pub(crate) fn unused(&mut self, modules: &[Module]) -> Vec<String> {
        let known = |elf: &Elf| modules.iter().any(|m| m.build_id == elf.build_id);
        let mut lines = Vec::new();
        for path in self.given.clone() {
            // Packages of split debug information have no build-id.
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
                    let same_name = modules.iter().find(|m| file_name(&m.path) == name);
                    let expected = match same_name.or(modules.first()) {
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

    /// The address range of the first executable segment of a file.
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

    fn without_build_id(&mut self, module: &Module, started_unix_ms: u64) -> SearchResult {
        let recorded = recorded_path(module);
        let name = file_name(recorded);
        let mut candidates = vec![PathBuf::from(recorded)];
        let same_name = self.given.iter().filter(|p| p.file_name().is_some_and(|n| n == name));
        candidates.extend(same_name.cloned());
        let file = candidates.into_iter().find(|path| {
            self.elf(path)
                .as_ref()
                .is_ok_and(|elf| elf.build_id.is_empty() && elf.modified_unix_ms <= started_unix_ms)
        });
        let outcome = match &file {
            Some(path) => format!(
                "used unverified, since it has the same name and is older than the recording ({})",
                path.display()
            ),
            None => "its frames are printed as addresses".to_owned(),
        };
        let warning = format!(
            "{recorded}: expected a build-id in the dump, found none; {outcome}; \
             link with -C link-arg=-Wl,--build-id"
        );
        let files = file.map(|file| {
            let debug_info = self.elf(&file).as_ref().is_ok_and(|elf| elf.debug_info);
            self.files(debug_info.then(|| file.clone()), file, module)
        });
        SearchResult { files, warning: Some(warning) }
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
