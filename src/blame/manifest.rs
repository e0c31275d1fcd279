//! The few facts that a `Cargo.toml` gives about sources that are on this machine.
//!
//! This is not a TOML parser: it finds keys on lines of their own below the header of their
//! section, as cargo and people write them. A version that is written in another way is not found,
//! and is then missing.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Only this much of a manifest is read.
const MAX_BYTES: u64 = 256 << 10;

/// The number of folders above a source file in which its package and its workspace are looked for.
const MAX_LEVELS: usize = 16;

/// How a package names itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The name of the library, as it is written in code.
    pub(super) crate_name: Option<String>,
    pub(super) version: Option<String>,
}

impl Manifest {
    /// The manifest of the package that a source file belongs to.
    pub(super) fn nearest(source: &Path) -> Option<Self> {
        let mut above = source.ancestors().skip(1).take(MAX_LEVELS).filter_map(text_in);
        let text = above.find(|text| value(text, "package", "name").is_some())?;
        let version = match value(&text, "package", "version") {
            Some(version) => string(version),
            // `version.workspace = true`: the workspace may be in the same file.
            None => {
                let of = |text: &str| value(text, "workspace.package", "version").and_then(string);
                of(&text).or_else(|| above.find_map(|text| of(&text)))
            }
        };
        let name = value(&text, "lib", "name").or_else(|| value(&text, "package", "name"));
        Some(Self { crate_name: name.and_then(string).map(|n| n.replace('-', "_")), version })
    }
}

/// The folders that the workspace at `root` excludes.
pub(super) fn excluded_folders(root: &Path) -> Vec<PathBuf> {
    let Some(text) = text_in(root) else { return Vec::new() };
    let Some(list) = value(&text, "workspace", "exclude") else { return Vec::new() };
    let list = list.strip_prefix('[').and_then(|list| list.split(']').next()).unwrap_or_default();
    list.split(',').filter_map(|folder| string(folder.trim())).map(PathBuf::from).collect()
}

fn text_in(folder: &Path) -> Option<String> {
    let path = folder.join("Cargo.toml");
    // The path comes from a binary: opening a pipe could block forever.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The text after `key =` in `[section]`, to the end of the file.
fn value<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut inside = false;
    let mut rest = text;
    while let Some(line) = rest.lines().next() {
        if let Some(header) = line.trim().strip_prefix('[') {
            inside = header.strip_suffix(']').is_some_and(|name| name.trim() == section);
        } else if inside
            && let Some(after) = rest.trim_start().strip_prefix(key)
            && let Some(value) = after.trim_start().strip_prefix('=')
        {
            return Some(value.trim_start());
        }
        rest = rest.get(line.len()..)?.trim_start();
    }
    None
}

/// The string that a value is, or begins with.
fn string(value: &str) -> Option<String> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_nearest_package_names_the_crate_and_its_version() {
        let folder = written(&[
            ("Cargo.toml", "[package]\nname = \"outer\"\nversion = \"9.0.0\"\n"),
            (
                "a/Cargo.toml",
                "# a comment\n[package]\nname = \"my-auth\"\nversion = \"1.2.0\" # so\n\
                 [dependencies]\nversion = \"7\"\n",
            ),
            ("b/Cargo.toml", "[lib]\nname='other'\n[package]\nname = \"b\"\nversion='0.1.0'\n"),
        ]);
        let of = |file: &str| Manifest::nearest(&folder.path().join(file)).unwrap();
        let manifest = of("a/src/deep/lib.rs");
        assert_eq!(manifest.crate_name.as_deref(), Some("my_auth"));
        assert_eq!(manifest.version.as_deref(), Some("1.2.0"));
        assert_eq!(of("b/src/lib.rs").crate_name.as_deref(), Some("other"));
        assert_eq!(of("src/main.rs").crate_name.as_deref(), Some("outer"));
    }

    #[test]
    fn a_version_may_be_inherited_from_the_workspace() {
        let folder = written(&[
            ("Cargo.toml", "[workspace]\n\n[workspace.package]\nversion = \"2.5.0\"\n"),
            ("a/Cargo.toml", "[package]\nname = \"a\"\nversion.workspace = true\n"),
        ]);
        let manifest = Manifest::nearest(&folder.path().join("a/src/lib.rs")).unwrap();
        assert_eq!(manifest.version.as_deref(), Some("2.5.0"));
    }

    #[test]
    fn excluded_folders_are_read_from_the_workspace() {
        let text = "[workspace]\nmembers = [\"a\"]\nexclude = [\n  \"libs/auth\",\n  'old',\n]\n";
        let folder = written(&[("Cargo.toml", text)]);
        assert_eq!(excluded_folders(folder.path()), [Path::new("libs/auth"), Path::new("old")]);
        assert!(excluded_folders(&folder.path().join("nowhere")).is_empty());
    }
}
