//! What a source file tells about the functions in it.
//!
//! Where debug information has only line tables (`debug = "line-tables-only"`, rustc 1.95), an
//! inlined function is known by its bare name: `with_capacity<u8>`. Its file gives the rest:
//! `alloc::raw_vec::with_capacity<u8>`. Types and traits around it stay unknown, and so does the
//! name of an inlined async function, whose body is all that is inlined: `debug = "limited"` has
//! them, for a fifth more bytes in the binary.

use std::collections::HashMap;

use super::{Kind, file_name, shortened};

/// Which crate each folder of sources is, learnt from functions whose whole names are known: a
/// package's folder may be called otherwise than its crate.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    votes: HashMap<String, HashMap<String, u32>>,
}

impl Roots {
    /// Takes down that `function`, of the crate `krate`, is in `file`. Only plain paths count: an
    /// `<A as B>::f` is in the file of one or the other.
    pub fn learn(&mut self, function: &str, krate: &str, file: &str) {
        let plain = !function.starts_with(['<', '_']) && !function.contains(" as ");
        if plain
            && function.contains("::")
            && let Some(place) = Place::of(file)
        {
            let crates = self.votes.entry(place.root.to_owned()).or_default();
            *crates.entry(krate.to_owned()).or_default() += 1;
        }
    }

    /// The name of an inlined function that debug information only has by its bare name.
    pub fn qualified(&self, bare: &str, file: Option<&str>) -> String {
        let text = Kind::of_debug_name(bare).map_or(bare, |kind| kind.text());
        let place = file.filter(|file| file.ends_with(".rs")).and_then(Place::of);
        match place {
            // The allocator's symbols are of no module.
            Some(place) if !bare.starts_with("__r") => {
                shortened(format!("{}::{text}", self.modules_of(&place)))
            }
            _ => shortened(text.to_owned()),
        }
    }

    fn modules_of(&self, place: &Place<'_>) -> String {
        let elected = self.votes.get(place.root).and_then(|crates| {
            // The name decides between equals, so that every run says the same.
            crates.iter().max_by_key(|(name, votes)| (**votes, std::cmp::Reverse(*name)))
        });
        let mut path = match elected {
            Some((name, _)) => name.clone(),
            None => {
                let name = name_and_version(place.krate).map_or(place.krate, |(name, _)| name);
                name.replace('-', "_")
            }
        };
        let modules = place.path.strip_suffix(".rs").unwrap_or(place.path).split('/');
        for module in modules.filter(|m| !matches!(*m, "mod" | "lib" | "main" | "")) {
            path.push_str("::");
            path.push_str(module);
        }
        path
    }
}

/// A file's place in a package.
pub(crate) struct Place<'a> {
    /// The folder, or the file, that a crate starts from.
    pub(crate) root: &'a str,
    /// What the crate is called if nobody knows better.
    pub(crate) krate: &'a str,
    /// The file below the root.
    path: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn of(file: &'a str) -> Option<Self> {
        // The last one counts: the registry has a `src` of its own, further up.
        let found = ["/src/bin/", "/src/", "/examples/", "/tests/", "/benches/"]
            .iter()
            .filter_map(|folder| file.rfind(folder).map(|at| (at, *folder)))
            // `/src/bin/` is at the same place as its `/src/`.
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

/// `axum-0.8.1` is `axum` in version `0.8.1`: the folder of a package in a registry.
pub fn name_and_version(folder: &str) -> Option<(&str, &str)> {
    folder.match_indices('-').map(|(at, _)| (&folder[..at], &folder[at + 1..])).find(
        |(name, version)| {
            let mut numbers = version.splitn(3, '.');
            let number = |n: Option<&str>| n.is_some_and(|n| n.parse::<u64>().is_ok());
            // What follows the second dot may have more than a number in it.
            !name.is_empty()
                && number(numbers.next())
                && number(numbers.next())
                && numbers.next().is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        },
    )
}

/// A source file without what only tells where it was built, and without the compiler's hash:
/// `library/alloc/src/vec/mod.rs`, `axum-0.8.1/src/lib.rs`, `shop-0a1b2c3d/4e5f6a7/src/lib.rs` of a
/// git checkout. Other paths stay whole.
pub fn short_file(file: &str) -> &str {
    if let Some(rest) = file.strip_prefix("/rustc/")
        && let Some((_, path)) = rest.split_once('/')
    {
        return path;
    }
    if let Some((_, path)) = file.split_once("/rustlib/src/rust/") {
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
    fn files_do_not_tell_where_they_were_built() {
        assert_eq!(short_file(RAW_VEC), "library/alloc/src/raw_vec/mod.rs");
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
