//! Finds out which package a crate comes from, by the folder in which it was compiled.
//!
//! rustc names a compilation unit `src/lib.rs/@/KRATE.HASH-cgu.N` (`DW_AT_name`). Cargo runs rustc
//! (`DW_AT_comp_dir`) in the root of the workspace for crates that lie in it, and in the package's
//! own folder for others: `…/registry/src/INDEX/NAME-VERSION`, `…/git/checkouts/NAME-HASH/REV`, or
//! a path. So the crates that were compiled in the same folder as `main` are the service's own.
//! This was observed with cargo and rustc 1.95, in `dev` and `release`, with `debug` of 2,
//! `limited` and `line-tables-only`, with these exceptions:
//!
//! - Incremental units (`dev`) have no crate in their name,
//!   `src/lib.rs/@/3as2ankn06mhrp9nh8gsfmxaa`. Then the file decides, and a `Cargo.toml` if it can
//!   be read.
//! - Crates that were inlined as a whole, as with fat LTO, have no unit. The files decide about
//!   them too.
//! - Path dependencies that the workspace excludes are compiled in its root nevertheless. They are
//!   recognised by the `exclude` of a readable `Cargo.toml` there; and, so that the machine where a
//!   service runs needs no sources, by a folder called `vendor`, `third_party` or `third-party`
//!   above them.
//! - The standard library's own dependencies are in `/rust/deps`.
//!
//! Without debug information there are only names: the crate of `main` and the configured ones are
//! own, the standard library is recognised by its names, and everything else counts as a
//! dependency.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, excluded_folders};
use super::{Frame, Kind};
use crate::names::{
    SourcePath, crate_of_path, demangled, file_name, is_std, name_and_version, rust_source,
    short_file,
};

/// Folders in a workspace that hold other people's code.
const VENDOR_FOLDERS: &[&str] = &["vendor", "third_party", "third-party"];

/// The origin of a crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// The crate, as it is written in code; for C code the file name of its module.
    pub name: Option<String>,
    /// The version, if a path or a readable `Cargo.toml` gives it.
    pub version: Option<String>,
    /// Where the code comes from.
    pub kind: Kind,
}

/// What is known about the crates of a program.
#[derive(Clone, Debug, Default)]
pub struct Packages {
    own_crates: BTreeSet<String>,
    main: Option<String>,
    /// The folder in which `main` was compiled.
    workspace: Option<String>,
    /// Folders in the workspace that are not part of it.
    excluded: Vec<PathBuf>,
    /// All folders in which crates were compiled.
    directories: BTreeSet<String>,
    /// The root files of each crate, one for each of its versions.
    roots: BTreeMap<String, BTreeSet<String>>,
}

impl Packages {
    /// Knows nothing yet, except that these crates are the service's own.
    pub fn new(own_crates: impl IntoIterator<Item = impl Into<String>>) -> Self {
        // Crates are named as in code, but people write the name of the package.
        let own_crates = own_crates.into_iter().map(|name| name.into().replace('-', "_"));
        Self { own_crates: own_crates.collect(), ..Self::default() }
    }

    /// Records a compilation unit, by its `DW_AT_name` and `DW_AT_comp_dir`. Units of other
    /// languages are ignored.
    pub fn add_unit(&mut self, name: &str, directory: &str) {
        let Some((root, unit)) = name.rsplit_once("/@/") else { return };
        let root = if root.starts_with('/') || directory.is_empty() {
            root.to_owned()
        } else {
            format!("{directory}/{root}")
        };
        if !self.directories.contains(directory) {
            self.directories.insert(directory.to_owned());
        }
        let krate = match unit.split_once('.') {
            Some((krate, rest)) if rest.contains("-cgu.") => krate,
            // This is one of hundreds of units of a crate that is known already.
            _ if self.roots.values().any(|roots| roots.contains(&root)) => return,
            _ => match &crate_at(&root) {
                Some(krate) => return self.add_root(krate, root),
                None => return,
            },
        };
        self.add_root(krate, root);
    }

    fn add_root(&mut self, krate: &str, root: String) {
        match self.roots.get_mut(krate) {
            Some(roots) => drop(roots.insert(root)),
            None => drop(self.roots.insert(krate.to_owned(), BTreeSet::from([root]))),
        }
    }

    /// Sets the crate that holds `main`, and the `DW_AT_comp_dir` of the unit in which it was
    /// found. Without a directory it is that of the crate, provided that its units were added
    /// before.
    pub fn set_main(&mut self, crate_name: &str, directory: Option<&str>) {
        self.main = Some(crate_name.to_owned());
        self.workspace = directory.map(str::to_owned).or_else(|| {
            let roots = self.roots.get(crate_name)?;
            // The innermost folder counts: a workspace may lie inside the folder of another.
            let holds = |directory: &&String| {
                roots.iter().any(|root| relative_to(directory, root).is_some())
            };
            self.directories.iter().filter(holds).max_by_key(|directory| directory.len()).cloned()
        });
        self.excluded = self
            .workspace
            .as_deref()
            .map(|root| excluded_folders(Path::new(root)))
            .unwrap_or_default();
    }

    /// Sets the crate that holds `main` from the path of the executable: `target/debug/my-shop`, or
    /// `deps/my_shop-0123456789abcdef` for tests.
    pub fn set_executable(&mut self, path: &str) {
        let name = file_name(path);
        let hash = |hash: &str| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let name =
            name.rsplit_once('-').filter(|(_, last)| hash(last)).map_or(name, |(name, _)| name);
        self.set_main(&name.replace('-', "_"), None);
    }

    /// Makes the frame of `function`, which is in `file` according to debug information.
    pub fn frame(
        &self,
        function: String,
        file: Option<&str>,
        line: Option<u32>,
        module: &str,
        address: u64,
    ) -> Frame {
        let krate = crate_of_path(&function);
        let own = krate.is_some_and(|krate| self.is_own(krate, file));
        let crate_name = match krate {
            Some(krate) => Some(krate.to_owned()),
            None if is_nameless(&function, module) => None,
            None => Some(file_name(module).to_owned()),
        };
        Frame {
            file: file.map(|file| self.short_file(file).to_owned()),
            line,
            crate_name,
            own,
            module: module.to_owned(),
            address,
            function,
        }
    }

    /// The package that a frame belongs to.
    pub fn package_of(&self, frame: &Frame) -> Package {
        let name = frame.crate_name.clone();
        let Some(krate) = crate_of_path(&frame.function) else {
            let kind = if name.is_some() { Kind::C } else { Kind::Unknown };
            return Package { name, version: None, kind };
        };
        let roots = self.roots.get(krate);
        // The file distinguishes several versions of one crate.
        let folder = frame.file.as_deref().and_then(package_folder);
        let root = roots.and_then(|roots| {
            let same = |root: &&String| package_folder(root) == folder && folder.is_some();
            let only = || roots.iter().filter(|root| self.kind_at(root) != Kind::Std);
            let only = || only().next().filter(|_| only().count() == 1);
            roots
                .iter()
                .find(same)
                .or_else(only)
                .or_else(|| roots.first().filter(|_| roots.len() == 1))
        });
        let kind = if frame.own || self.own_crates.contains(krate) {
            Kind::Own
        } else if let Some(root) = root {
            self.kind_at(root)
        } else if roots.is_some() {
            Kind::Dependency
        } else {
            self.kind_by_name(krate)
        };
        let version = match (kind, root) {
            (Kind::Std, _) => None,
            (_, Some(root)) => version_at(root),
            // The file may be that of another package, which appears in the name as a generic
            // argument.
            (_, None) => frame.file.as_deref().and_then(|file| {
                let (folder, version) = package_folder(file).and_then(name_and_version).unzip();
                version
                    .filter(|_| folder.is_some_and(|folder| folder.replace('-', "_") == krate))
                    .map(str::to_owned)
                    .or_else(|| {
                        Manifest::nearest(Path::new(file))
                            .filter(|m| m.crate_name.as_deref() == Some(krate))?
                            .version
                    })
            }),
        };
        Package { name, version, kind }
    }

    /// The file relative to the workspace if it lies in it, otherwise as [`short_file`] returns it.
    fn short_file<'a>(&self, file: &'a str) -> &'a str {
        let short = short_file(file);
        if short.len() < file.len() {
            return short;
        }
        self.workspace.as_deref().and_then(|root| relative_to(root, file)).unwrap_or(file)
    }

    fn is_own(&self, krate: &str, file: Option<&str>) -> bool {
        let named = self.own_crates.contains(krate) || self.main.as_deref() == Some(krate);
        match file.map(|file| self.kind_at(file)) {
            // A method that a trait of the standard library provides has the name of the service's
            // type, but its line is of no help.
            Some(Kind::Std) => false,
            Some(Kind::Own) => true,
            Some(_) => named,
            None => {
                let mut roots = self.roots.get(krate).into_iter().flatten();
                named || roots.any(|root| self.kind_at(root) == Kind::Own)
            }
        }
    }

    fn kind_by_name(&self, krate: &str) -> Kind {
        if self.main.as_deref() == Some(krate) {
            Kind::Own
        } else if is_std(krate) {
            Kind::Std
        } else {
            Kind::Dependency
        }
    }

    /// Where the code of a source file comes from.
    fn kind_at(&self, file: &str) -> Kind {
        // `/rust/deps/` are the crates that the standard library is built with.
        if ["/rust/deps/", "library/"].iter().any(|start| file.starts_with(start))
            || rust_source(file).is_some()
        {
            return Kind::Std;
        }
        let Some(relative) = self.workspace.as_deref().and_then(|root| relative_to(root, file))
        else {
            return Kind::Dependency;
        };
        let workspace = self.workspace.as_deref().unwrap_or_default();
        let other = |directory: &String| {
            directory.len() > workspace.len() && relative_to(directory, file).is_some()
        };
        let relative = Path::new(relative);
        let vendored = relative.components().any(|part| {
            part.as_os_str().to_str().is_some_and(|part| VENDOR_FOLDERS.contains(&part))
        });
        let foreign = vendored
            || package_folder(file).is_some()
            || self.directories.iter().any(other)
            || self.excluded.iter().any(|folder| relative.starts_with(folder));
        if foreign { Kind::Dependency } else { Kind::Own }
    }
}

/// The crate whose `main` a symbol is.
///
/// A program may have several functions of that name; the one in the crate that the executable is
/// named after should be preferred.
pub fn crate_of_main(symbol: &str) -> Option<String> {
    // Hardly any of a hundred thousand symbols is worth demangling.
    let name = symbol.contains("4main").then(|| demangled(symbol))??;
    let krate = name.strip_suffix("::main")?;
    (!krate.contains(':')).then(|| krate.to_owned())
}

/// The part of `path` below `directory`. A directory that was remapped to nothing is relative, and
/// so are the paths in it.
fn relative_to<'a>(directory: &str, path: &'a str) -> Option<&'a str> {
    match directory {
        "" | "." => (!path.starts_with('/')).then(|| path.strip_prefix("./").unwrap_or(path)),
        _ => path.strip_prefix(directory)?.strip_prefix('/'),
    }
}

/// The folder of a package in a registry, which contains its version: `axum-0.8.1`.
fn package_folder(file: &str) -> Option<&str> {
    let short = short_file(file).strip_prefix("/rust/deps/").unwrap_or(short_file(file));
    short.split('/').next().filter(|folder| name_and_version(folder).is_some())
}

fn version_at(root: &str) -> Option<String> {
    match package_folder(root).and_then(name_and_version) {
        Some((_, version)) => Some(version.to_owned()),
        None => Manifest::nearest(Path::new(root))?.version,
    }
}

/// The name of the crate that starts from this file.
fn crate_at(root: &str) -> Option<String> {
    let source = SourcePath::parse(root)?;
    let of_package = source.root.ends_with("/src/");
    let manifest = of_package.then(|| Manifest::nearest(Path::new(root))).flatten();
    let name = manifest.and_then(|manifest| manifest.crate_name);
    Some(name.unwrap_or_else(|| source.krate.replace('-', "_")))
}

fn is_nameless(function: &str, module: &str) -> bool {
    function.strip_prefix(file_name(module)).is_some_and(|rest| rest.starts_with("+0x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "/home/x/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
    const RUSTC: &str = "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860";

    /// A release build, as rustc 1.95 describes it.
    fn release() -> Packages {
        let mut packages = Packages::default();
        packages.add_unit("svc/src/main.rs/@/my_svc.34f209cc1906a0ce-cgu.0", "/build/shop");
        packages.add_unit("member/src/lib.rs/@/member.baaa6a31e388ffb8-cgu.0", "/build/shop");
        packages.add_unit("vendor/third/src/lib.rs/@/third.2e4ec0f8760cca45-cgu.0", "/build/shop");
        packages.add_unit("/build/near/src/lib.rs/@/near.f9bf9e617987b48c-cgu.0", "/build/near");
        for (name, version) in [("gimli", "0.33.0"), ("gimli", "0.34.0"), ("memchr", "2.8.3")] {
            let folder = format!("{REGISTRY}/{name}-{version}");
            packages.add_unit(&format!("{folder}/src/lib.rs/@/{name}.1a2b-cgu.12"), &folder);
        }
        let std = format!("{RUSTC}/library/std/src/lib.rs/@/std.e28293b1aa0f68bd-cgu.0");
        packages.add_unit(&std, RUSTC);
        let deps = "/rust/deps/memchr-2.7.6";
        packages.add_unit(&format!("{deps}/src/lib.rs/@/memchr.9642f0ce76a98c65-cgu.0"), deps);
        let git = "/home/x/.cargo/git/checkouts/auth-0a1b2c3d4e5f6071/4e5f6a7";
        packages.add_unit(&format!("{git}/src/lib.rs/@/auth.1a2b-cgu.0"), git);
        packages.add_unit("deflate.c", "/build/zlib");
        packages.set_main("my_svc", None);
        packages
    }

    fn package(packages: &Packages, function: &str, file: Option<&str>) -> Package {
        let frame = packages.frame(function.to_owned(), file, Some(1), "/usr/bin/my-svc", 1);
        let package = packages.package_of(&frame);
        assert_eq!(frame.own, package.kind == Kind::Own, "{function}");
        package
    }

    #[test]
    fn crates_compiled_in_the_folder_of_main_are_own() {
        let packages = release();
        let kind = |function: &str| package(&packages, function, None).kind;
        assert_eq!(kind("my_svc::main"), Kind::Own);
        assert_eq!(kind("member::f"), Kind::Own);
        assert_eq!(kind("<member::T as core::fmt::Debug>::fmt"), Kind::Own);
        assert_eq!(kind("third::f"), Kind::Dependency);
        assert_eq!(kind("near::f"), Kind::Dependency);
        assert_eq!(kind("auth::f"), Kind::Dependency);
        assert_eq!(kind("gimli::f"), Kind::Dependency);
        assert_eq!(kind("std::fs::read"), Kind::Std);
        assert_eq!(kind("deflate"), Kind::C);
        assert_eq!(kind("my-svc+0x12"), Kind::Unknown);
    }

    #[test]
    fn versions_come_from_registry_folders_and_the_file_distinguishes_two() {
        let packages = release();
        let version = |function: &str, file: Option<String>| {
            package(&packages, function, file.as_deref()).version
        };
        assert_eq!(version("memchr::f", None).as_deref(), Some("2.8.3"), "std has another");
        assert_eq!(version("gimli::f", None), None, "which one?");
        let file = |folder: &str| Some(format!("{REGISTRY}/{folder}/src/read/mod.rs"));
        assert_eq!(version("gimli::f", file("gimli-0.33.0")).as_deref(), Some("0.33.0"));
        assert_eq!(version("gimli::f", file("gimli-0.34.0")).as_deref(), Some("0.34.0"));
        let std = package(&packages, "memchr::f", Some("/rust/deps/memchr-2.7.6/src/memchr.rs"));
        assert_eq!((std.kind, std.version), (Kind::Std, None));
        assert_eq!(version("near::f", None), None, "its sources are not here");
    }

    #[test]
    fn crates_that_have_no_unit_are_known_by_their_files() {
        let packages = release();
        let of = |function, file: &str| package(&packages, function, Some(file));
        assert_eq!(of("inlined::f", "/build/shop/inlined/src/lib.rs").kind, Kind::Own);
        assert_eq!(of("far::f", "/build/far/src/lib.rs").kind, Kind::Dependency);
        let axum = of("axum_core::f", &format!("{REGISTRY}/axum-core-0.5.2/src/lib.rs"));
        assert_eq!((axum.kind, axum.version.as_deref()), (Kind::Dependency, Some("0.5.2")));
    }

    #[test]
    fn incremental_units_are_known_by_their_files() {
        let mut packages = Packages::default();
        packages.add_unit("svc/src/main.rs/@/dzj9wy218qbnxxy8mzhgnkdre", "/build/shop");
        packages.add_unit("member/src/lib.rs/@/efx5g4pnr9dh5t9gxolstlqoj", "/build/shop");
        packages.add_unit("tests/load.rs/@/akpjowryvodsywizn3parosgd", "/build/shop");
        packages.set_main("svc", Some("/build/shop"));
        for function in ["svc::main", "member::f", "load::f"] {
            assert_eq!(package(&packages, function, None).kind, Kind::Own, "{function}");
        }
        let file = Some("/build/shop/member/src/lib.rs");
        assert_eq!(package(&packages, "renamed::f", file).kind, Kind::Own);
    }

    #[test]
    fn a_registry_inside_the_workspace_is_not_own_code() {
        let mut packages = Packages::default();
        packages.add_unit("src/main.rs/@/shop.1a-cgu.0", "/build");
        packages.add_unit("/build/vendor/serde/src/lib.rs/@/serde.1b-cgu.0", "/build/vendor/serde");
        packages.set_main("shop", None);
        assert_eq!(package(&packages, "serde::f", None).kind, Kind::Dependency);
        let file = "/build/.cargo/registry/src/index-1a2b/axum-0.8.9/src/lib.rs";
        assert_eq!(package(&packages, "axum::f", Some(file)).kind, Kind::Dependency);
    }

    #[test]
    fn what_the_workspace_excludes_is_a_dependency_with_a_version() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        std::fs::create_dir_all(folder.path().join("libs/auth")).unwrap();
        let write = |path: &str, text| std::fs::write(folder.path().join(path), text).unwrap();
        write("Cargo.toml", "[workspace]\nexclude = [\"libs/auth\"]\n");
        write("libs/auth/Cargo.toml", "[package]\nname = \"auth\"\nversion = \"1.2.3\"\n");
        let mut packages = Packages::default();
        packages.add_unit("src/main.rs/@/shop.1a-cgu.0", root);
        packages.add_unit("libs/auth/src/lib.rs/@/auth.1b-cgu.0", root);
        packages.set_main("shop", None);
        let auth = package(&packages, "auth::f", None);
        assert_eq!((auth.kind, auth.version.as_deref()), (Kind::Dependency, Some("1.2.3")));
        assert_eq!(package(&packages, "shop::f", None).kind, Kind::Own);
    }

    #[test]
    fn main_is_distinguished_from_other_functions() {
        let of = |symbol| crate_of_main(symbol);
        assert_eq!(of("_ZN4shop4main17h0123456789abcdefE").as_deref(), Some("shop"));
        assert_eq!(of("_RNvCs6xxl1lAjzDf_4shop4main").as_deref(), Some("shop"));
        assert_eq!(of("_ZN4shop3cli4main17h0123456789abcdefE"), None);
        assert_eq!(of("main"), None);
    }

    #[test]
    fn without_debug_information_names_decide() {
        let mut packages = Packages::new(["our-lib"]);
        packages.set_executable("/srv/deps/my-svc-0123456789abcdef");
        let kind = |function: &str| package(&packages, function, None).kind;
        assert_eq!(kind("my_svc::f"), Kind::Own);
        assert_eq!(kind("our_lib::f"), Kind::Own);
        assert_eq!(kind("alloc::vec::f"), Kind::Std);
        assert_eq!(kind("axum::f"), Kind::Dependency);
        assert_eq!(kind("sqlite3_open"), Kind::C);
    }

    #[test]
    fn files_of_the_workspace_are_relative_to_it() {
        let packages = release();
        let file =
            |file: &str| packages.frame("a::f".into(), Some(file), None, "m", 1).file.unwrap();
        assert_eq!(file("/build/shop/svc/src/main.rs"), "svc/src/main.rs");
        assert_eq!(file("/build/shopping/src/main.rs"), "/build/shopping/src/main.rs");
        assert_eq!(
            file(&format!("{RUSTC}/library/alloc/src/vec/mod.rs")),
            "library/alloc/src/vec/mod.rs"
        );
        assert_eq!(file(&format!("{REGISTRY}/axum-0.8.9/src/lib.rs")), "axum-0.8.9/src/lib.rs");
    }
}
