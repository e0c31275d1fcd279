//! What the path of a source file says about the functions in it.
//!
//! If debug information has only line tables (`debug = "line-tables-only"`, rustc 1.95), an inlined
//! function is known only by its bare name: `with_capacity<u8>`. Its file supplies the rest:
//! `alloc::raw_vec::with_capacity<u8>`. The types and traits around it stay unknown, and so does
//! the name of an inlined async function, because only its body is inlined. `debug = "limited"`
//! provides both, for a fifth more bytes in the binary.

use std::collections::HashMap;

use super::{Kind, file_name, shortened};

/// The crate of each source folder, learnt from functions whose full names are known. The folder of
/// a package may have another name than its crate.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    votes: HashMap<String, HashMap<String, u32>>,
}

impl Roots {
    /// Records that `function`, of the crate `krate`, is in `file`. Only plain paths count, because
    /// `<A as B>::f` may be in the file of either.
    pub fn learn(&mut self, function: &str, krate: &str, file: &str) {
        let plain = !function.starts_with(['<', '_']) && !function.contains(" as ");
        if plain
            && function.contains("::")
            && let Some(source) = SourcePath::parse(file)
        {
            let crates = self.votes.entry(source.root.to_owned()).or_default();
            *crates.entry(krate.to_owned()).or_default() += 1;
        }
    }

    /// The full name of an inlined function of which debug information only has the bare name.
    pub fn qualified(&self, bare: &str, file: Option<&str>) -> String {
        let text = Kind::of_debug_name(bare).map_or(bare, |kind| kind.text());
        let source = file.filter(|file| file.ends_with(".rs")).and_then(SourcePath::parse);
        match source {
            // The allocator's symbols belong to no module.
            Some(source) if !bare.starts_with("__r") => {
                shortened(format!("{}::{text}", self.modules_of(&source)))
            }
            _ => shortened(text.to_owned()),
        }
    }

    fn modules_of(&self, source: &SourcePath<'_>) -> String {
        let elected = self.votes.get(source.root).and_then(|crates| {
            // Ties are decided by the name, so that every run gives the same result.
            crates.iter().max_by_key(|(name, votes)| (**votes, std::cmp::Reverse(*name)))
        });
        let mut path = match elected {
            Some((name, _)) => name.clone(),
            None => {
                let name = name_and_version(source.krate).map_or(source.krate, |(name, _)| name);
                name.replace('-', "_")
            }
        };
        let modules = source.path.strip_suffix(".rs").unwrap_or(source.path).split('/');
        for module in modules.filter(|m| !matches!(*m, "mod" | "lib" | "main" | "")) {
            path.push_str("::");
            path.push_str(module);
        }
        path
    }
}

/// The parts of a source file's path.
pub(crate) struct SourcePath<'a> {
    /// The folder, or the file, from which a crate starts.
    pub(crate) root: &'a str,
    /// The name of the crate if nothing better is known.
    pub(crate) krate: &'a str,
    /// The path of the file below the root.
    path: &'a str,
}

impl<'a> SourcePath<'a> {
    pub(crate) fn parse(file: &'a str) -> Option<Self> {
        // The last match counts: the registry has a `src` of its own, further up.
        let found = ["/src/bin/", "/src/", "/examples/", "/tests/", "/benches/"]
            .iter()
            .filter_map(|folder| file.rfind(folder).map(|at| (at, *folder)))
            // `/src/bin/` begins at the same place as its `/src/`.
            .max_by_key(|(at, folder)| (*at, folder.len()))?;
        let (at, folder) = found;
        let (root, path) = file.split_at(at + folder.len());
        if folder == "/src/" {
            return Some(Self { root, krate: file_name(&file[..at]), path });
        }
        // Each file or folder is a crate of its own.
        let name = path.split('/').next().unwrap_or(path);
        let (root, path) = file.split_at(root.len() + name.len());
        Some(Self { root, krate: name.strip_suffix(".rs").unwrap_or(name), path })
    }
}

/// Splits `axum-0.8.1`, the folder of a package in a registry, into `axum` and the version `0.8.1`.
pub fn name_and_version(folder: &str) -> Option<(&str, &str)> {
    folder.match_indices('-').map(|(at, _)| (&folder[..at], &folder[at + 1..])).find(
        |(name, version)| {
            let mut numbers = version.splitn(3, '.');
            let number = |n: Option<&str>| n.is_some_and(|n| n.parse::<u64>().is_ok());
            // The part after the second dot may contain more than a number.
            !name.is_empty()
                && number(numbers.next())
                && number(numbers.next())
                && numbers.next().is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        },
    )
}

/// The path of a source file of Rust itself, relative to the root of the Rust sources.
///
/// The compiler's own builds say `/rustc/HASH/library/std/src/…`, a sysroot with sources
/// `…/rustlib/src/rust/library/…`, and those of distributions say where they unpacked the sources:
/// `/usr/src/rustc-1.96.0/library/…` (Debian), `/build/rustc-1.96.0-src/library/…` (Nix).
pub(crate) fn rust_source(file: &str) -> Option<&str> {
    if let Some(rest) = file.strip_prefix("/rustc/") {
        return rest.split_once('/').map(|(_, path)| path);
    }
    if let Some((_, path)) = file.split_once("/rustlib/src/rust/") {
        return Some(path);
    }
    let root = file.find("/library/")?;
    let (_, folder) = file[..root].rsplit_once('/')?;
    let version = folder.strip_prefix("rustc-").or_else(|| folder.strip_prefix("rust-"))?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| &file[root + 1..])
}

/// The path of a source file without the part that only says where it was built, and without the
/// compiler's hash: `library/alloc/src/vec/mod.rs`, `axum-0.8.1/src/lib.rs`, or
/// `shop-0a1b2c3d/4e5f6a7/src/lib.rs` in a git checkout. Other paths are unchanged.
pub fn short_file(file: &str) -> &str {
    if let Some(path) = rust_source(file) {
        return path;
    }
    if let Some((_, inside)) = file.split_once("/registry/src/")
        && let Some((_, path)) = inside.split_once('/')
    {
        return path;
    }
    file.split_once("/git/checkouts/").map_or(file, |(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW_VEC: &str =
        "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/alloc/src/raw_vec/mod.rs";
    const AXUM: &str =
        "/home/x/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/axum-core-0.5.2/src/ext.rs";

    #[test]
    fn a_bare_name_gets_its_modules_from_its_file() {
        let of = |bare, file| Roots::default().qualified(bare, Some(file));
        assert_eq!(of("with_capacity<u8>", RAW_VEC), "alloc::raw_vec::with_capacity<u8>");
        assert_eq!(of("call", AXUM), "axum_core::ext::call");
        assert_eq!(of("f", "/build/shop/examples/load/http.rs"), "load::http::f");
        assert_eq!(of("f", "/build/shop/examples/load.rs"), "load::f");
        assert_eq!(of("f", "/build/shop/src/bin/tool.rs"), "tool::f");
        assert_eq!(of("__rust_alloc", "/build/shop/src/main.rs"), "__rust_alloc");
        assert_eq!(of("compress", "/build/zlib/src/deflate.c"), "compress");
    }

    #[test]
    fn the_crate_of_a_folder_is_learnt_from_whole_names() {
        let mut roots = Roots::default();
        for _ in 0..2 {
            roots.learn("shop::http::get", "shop", "/build/main/src/http.rs");
        }
        roots.learn("<other::T as shop::U>::f", "other", "/build/main/src/http.rs");
        roots.learn("other::f", "other", "/build/main/src/lib.rs");
        let of = |bare, file| roots.qualified(bare, Some(file));
        assert_eq!(of("{async_fn#0}", "/build/main/src/http/cart.rs"), "shop::http::cart::{async}");
        assert_eq!(of("f", "/build/main/src/main.rs"), "shop::f");
        assert_eq!(of("f", "/build/main/examples/load/main.rs"), "load::f", "a crate of its own");
    }

    #[test]
    fn short_file_drops_the_build_location() {
        assert_eq!(short_file(RAW_VEC), "library/alloc/src/raw_vec/mod.rs");
        let debian = "/usr/src/rustc-1.96.0/library/std/src/panicking.rs";
        assert_eq!(short_file(debian), "library/std/src/panicking.rs");
        let nix = "/build/rustc-1.96.0-src/library/core/src/iter/mod.rs";
        assert_eq!(short_file(nix), "library/core/src/iter/mod.rs");
        let own = "/build/rustc-driver/library/core/src/lib.rs";
        assert_eq!(short_file(own), own, "a folder without a version");
        assert_eq!(short_file(AXUM), "axum-core-0.5.2/src/ext.rs");
        let git = "/home/x/.cargo/git/checkouts/shop-0a1b2c3d/4e5f6a7/src/lib.rs";
        assert_eq!(short_file(git), "shop-0a1b2c3d/4e5f6a7/src/lib.rs");
        assert_eq!(short_file("src/main.rs"), "src/main.rs");
    }

    #[test]
    fn the_version_is_what_follows_the_name() {
        assert_eq!(name_and_version("axum-0.8.1"), Some(("axum", "0.8.1")));
        assert_eq!(name_and_version("sha-1-0.10.0-rc.1"), Some(("sha-1", "0.10.0-rc.1")));
        assert_eq!(name_and_version("wasi-0.11.1+wasi-1"), Some(("wasi", "0.11.1+wasi-1")));
        assert_eq!(name_and_version("shop-2"), None);
        assert_eq!(name_and_version("src"), None);
    }
}
