//! The files of a module: the module itself, and its separate debug file if it has one.

use std::path::{Path, PathBuf};

use object::{Object as _, ObjectSection as _};

use super::mapped::Mapped;
use crate::snapshot::Module;

/// A module of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModuleRef<'a> {
    /// The path of the file, as the loader reports it.
    pub(crate) path: &'a str,
    /// The GNU build-id in lower-case hexadecimal, empty if there is none.
    pub(crate) build_id: &'a str,
    /// What is added to the addresses in the file to get those in memory.
    pub(crate) bias: u64,
}

/// A parsed file.
pub(super) type Elf<'data> = object::File<'data, &'data [u8]>;

/// The folder in which distributions install debug files.
const DEBUG_FILES: &str = "/usr/lib/debug/.build-id";

/// The files of a module, mapped into memory. Each has the build-id of the module.
pub(super) struct Files(Vec<Mapped>);

impl Files {
    pub(super) fn open(module: &ModuleRef<'_>) -> Self {
        Self::open_with(module, Path::new(DEBUG_FILES))
    }

    fn open_with(module: &ModuleRef<'_>, debug_files: &Path) -> Self {
        let mut candidates = Vec::new();
        if module.build_id.is_empty() {
            // Without a build-id, only the executable's file is known for certain.
            candidates.extend(running_executable(module.path));
        } else if !module.path.starts_with('[') {
            candidates.push(running_executable(module.path).unwrap_or_else(|| module.path.into()));
            candidates.push(debug_file(debug_files, module.build_id));
        }
        let same = |data: &Mapped| parse(data).is_some_and(|elf| build_id(&elf) == module.build_id);
        Self(candidates.iter().filter_map(|path| Mapped::open(path).ok()).filter(same).collect())
    }

    /// The first file that has this section, if the section is not empty.
    pub(super) fn with_section(&self, name: &str) -> Option<Elf<'_>> {
        let has = |elf: &Elf<'_>| elf.section_by_name(name).is_some_and(|s| s.size() > 0);
        self.0.iter().filter_map(|data| parse(data)).find(has)
    }
}

fn parse(data: &[u8]) -> Option<Elf<'_>> {
    object::File::parse(data).ok()
}

/// A path to the running executable, which the kernel provides even if another file took its place.
fn running_executable(path: &str) -> Option<PathBuf> {
    (cfg!(target_os = "linux") && is_executable(path)).then(|| "/proc/self/exe".into())
}

/// The build-id in hexadecimal, empty if there is none.
fn build_id(elf: &Elf<'_>) -> String {
    let id = elf.build_id().ok().flatten().unwrap_or_default();
    Module::build_id_from_bytes(id)
}

fn debug_file(debug_files: &Path, build_id: &str) -> PathBuf {
    let (folder, file) = build_id.split_at_checked(2).unwrap_or((build_id, ""));
    debug_files.join(folder).join(format!("{file}.debug"))
}

/// Whether a module is the program itself.
pub(super) fn is_executable(path: &str) -> bool {
    let executable = std::env::current_exe().ok();
    let executable = executable.as_deref().and_then(Path::to_str);
    executable.is_some_and(|executable| without_deleted(executable) == without_deleted(path))
}

/// The path without the suffix that Linux appends when the file was replaced while the program ran.
pub(super) fn without_deleted(path: &str) -> &str {
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_debug_file_is_found_by_its_build_id_and_used_only_if_its_own_matches() {
        let this = std::env::current_exe().unwrap();
        let id = build_id(&parse(&Mapped::open(&this).unwrap()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let files = |build_id| {
            let module = ModuleRef { path: "/gone/library.so", build_id, bias: 0 };
            Files::open_with(&module, folder.path())
        };
        let place = |id: &str| {
            fs::create_dir_all(folder.path().join(&id[..2])).unwrap();
            symlink(&this, folder.path().join(&id[..2]).join(format!("{}.debug", &id[2..])))
                .unwrap();
        };
        assert!(files(&id).with_section(".text").is_none());
        place(&id);
        assert!(files(&id).with_section(".text").is_some());
        let other = "0123456789abcdef";
        place(other);
        assert!(files(other).with_section(".text").is_none(), "it belongs to another build");
    }
}
