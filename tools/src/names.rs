//! Symbols as people wrote them.
//!
//! What [`readable`] does to a symbol:
//! - demangles both Rust manglings and C++, and leaves out hashes and compiler suffixes;
//! - the body of an `async fn` is `my::handler::{async}`, of an async block `my::f::{async block}`
//!   ([`Kind`]); other closures are `my::f::{closure#0}`, `{closure}` in the legacy mangling;
//! - generic arguments stay, unless the name is longer than [`LONG`] characters: then each list of
//!   them is `<…>`. What follows them always stays.

use crate::symbolized::file_name;

/// Above this many characters the generic arguments of a name are left out.
pub const LONG: usize = 120;

/// What a closure is, where debug information tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The body of an `async fn`.
    AsyncFn,
    /// The body of an `async` block.
    AsyncBlock,
    /// The body of an `async` closure.
    AsyncClosure,
}

impl Kind {
    /// From the name that rustc gives the function in debug information: `{async_fn#0}<T>`.
    pub fn of_debug_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("{async_")?;
        if name.starts_with("fn#") {
            Some(Self::AsyncFn)
        } else if name.starts_with("block#") {
            Some(Self::AsyncBlock)
        } else if name.starts_with("closure_body#") || name.starts_with("closure#") {
            Some(Self::AsyncClosure)
        } else {
            None
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::AsyncFn => "{async}",
            Self::AsyncBlock => "{async block}",
            Self::AsyncClosure => "{async closure}",
        }
    }
}

/// The readable form of a symbol of either Rust mangling, of C++ or C.
pub fn readable(symbol: &str, kind: Option<Kind>) -> String {
    let name = demangled(symbol).unwrap_or_else(|| symbol.to_owned());
    shortened(with_kind(name.replace("{{closure}}", "{closure}"), kind))
}

/// The demangled symbol, if it is mangled at all.
pub fn demangled(symbol: &str) -> Option<String> {
    if let Ok(name) = rustc_demangle::try_demangle(symbol) {
        // The alternate form leaves out hashes. What a linker or LLVM appended (`.cold`,
        // `.llvm.123`) names no function.
        let name = format!("{name:#}");
        let end = name.rfind(['>', '}', ':']).map_or(0, |at| at + 1);
        let end = name[end..].find('.').map_or(name.len(), |dot| end + dot);
        return Some(name[..end].to_owned());
    }
    if symbol.starts_with("_Z") {
        let options = cpp_demangle::DemangleOptions::new().no_return_type();
        let symbol = cpp_demangle::Symbol::new(symbol).ok()?;
        return symbol.demangle_with_options(&options).ok();
    }
    None
}

/// Where debug information has only line tables, an inlined function is known by its bare name
/// (`with_capacity<u8>`). Its source file tells crate and modules: `alloc::raw_vec::with_capacity<u8>`.
///
/// `own` is the crate and the file of the function it was inlined into: a package's folder may be
/// called otherwise than its crate.
pub fn qualified(bare: &str, file: Option<&str>, own: Option<(&str, &str)>) -> String {
    let kind = Kind::of_debug_name(bare);
    let bare = match kind {
        Some(kind) => kind.text(),
        None => bare,
    };
    let Some(modules) = file.and_then(|file| modules_of(file, own)) else {
        return shortened(bare.to_owned());
    };
    shortened(format!("{modules}::{bare}"))
}

/// `…/registry/src/index/axum-0.8.1/src/routing/mod.rs` is `axum::routing`.
fn modules_of(file: &str, own: Option<(&str, &str)>) -> Option<String> {
    let (package, path) = split_package(file)?;
    let path = path.strip_suffix(".rs")?;
    let mut modules = match own {
        Some((krate, own_file)) if split_package(own_file).is_some_and(|(p, _)| p == package) => {
            krate.to_owned()
        }
        _ => without_version(file_name(package)).replace('-', "_"),
    };
    for module in path.split('/').filter(|m| !matches!(*m, "mod" | "lib" | "main" | "")) {
        modules.push_str("::");
        modules.push_str(module);
    }
    Some(modules)
}

/// The folder of the package and the path below its `src`.
fn split_package(file: &str) -> Option<(&str, &str)> {
    // The registry has a `src` of its own, further up: the last one counts.
    for folder in ["/src/", "/examples/", "/tests/", "/benches/"] {
        if let Some(at) = file.rfind(folder) {
            return Some((&file[..at], &file[at + folder.len()..]));
        }
    }
    None
}

/// `axum-0.8.1` is `axum`.
fn without_version(package: &str) -> &str {
    match package.rsplit_once('-') {
        Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => name,
        _ => package,
    }
}

/// A source file without what only tells where it was built, and without the compiler's hash:
/// `library/alloc/src/vec/mod.rs`, `axum-0.8.1/src/lib.rs`. Other paths stay whole.
pub fn short_file(file: &str) -> &str {
    if let Some(rest) = file.strip_prefix("/rustc/")
        && let Some((_, path)) = rest.split_once('/')
    {
        return path;
    }
    if let Some(at) = file.find("/rustlib/src/rust/") {
        return &file[at + "/rustlib/src/rust/".len()..];
    }
    for folder in ["/registry/src/", "/git/checkouts/"] {
        if let Some(at) = file.find(folder)
            && let Some((_, path)) = file[at + folder.len()..].split_once('/')
        {
            return path;
        }
    }
    file
}

fn with_kind(name: String, kind: Option<Kind>) -> String {
    let Some(kind) = kind else { return name };
    // `f::<T>::{closure#0}` in v0, `f::{closure}` in legacy; a second async block is `{closure#1}`.
    match name.rfind("::{closure") {
        Some(at) if name.ends_with('}') => {
            let number = name[at..].trim_end_matches('}').rsplit('#').next().unwrap_or_default();
            match (kind, number.parse::<u32>()) {
                (Kind::AsyncBlock | Kind::AsyncClosure, Ok(n)) if n > 0 => {
                    let text = kind.text().trim_end_matches('}');
                    format!("{}::{text}#{n}}}", &name[..at])
                }
                _ => format!("{}::{}", &name[..at], kind.text()),
            }
        }
        _ => name,
    }
}

/// Collapses generic arguments where the name is long.
fn shortened(name: String) -> String {
    if name.chars().count() <= LONG { name } else { without_generics(&name) }
}

/// Each list of generic arguments becomes `<…>`. The brackets of `<T as Trait>::f` are none; in
/// them the same rule holds.
fn without_generics(name: &str) -> String {
    let mut short = String::with_capacity(LONG);
    // How deep in a list that is left out; and the `<T as …>` that are open outside of it.
    let (mut omitted, mut qualified) = (0_u32, 0_u32);
    let mut previous = ' ';
    for c in name.chars() {
        match c {
            '<' if omitted > 0 => omitted += 1,
            '<' if previous.is_alphanumeric() || matches!(previous, '_' | ':' | '}') => {
                omitted = 1;
                short.push_str("<…>");
            }
            '<' => {
                qualified += 1;
                short.push(c);
            }
            // Of an arrow, `fn() -> T`.
            '>' if previous == '-' => {
                if omitted == 0 {
                    short.push(c);
                }
            }
            '>' if omitted > 0 => omitted -= 1,
            '>' => {
                qualified = qualified.saturating_sub(1);
                short.push(c);
            }
            _ if omitted > 0 => {}
            _ => short.push(c),
        }
        previous = c;
    }
    short
}

/// The crate of a function.
///
/// Of a path, its first segment. Of `<T as Trait>::f`, the crate of `T`, or of `Trait` where `T` is
/// a type of the standard library, a primitive, or a generic's reference to one. Of what is no
/// Rust path, the file name of the module: C symbols have no crate.
pub fn crate_of(function: &str, module: &str) -> String {
    crate_of_path(function).map_or_else(|| file_name(module).to_owned(), str::to_owned)
}

fn crate_of_path(function: &str) -> Option<&str> {
    if let Some(inside) = function.strip_prefix('<') {
        let (of_type, of_trait) = split_qualified(inside);
        let of_type = crate_of_type(of_type);
        let of_trait = of_trait.and_then(crate_of_path);
        return match (of_type, of_trait) {
            (Some(krate), _) if !is_std(krate) => Some(krate),
            (_, Some(krate)) => Some(krate),
            (krate, None) => krate.or(Some("core")),
        };
    }
    let (first, rest) = function.split_once("::")?;
    let identifier = |c: char| c.is_alphanumeric() || c == '_';
    (!first.is_empty() && !rest.is_empty() && first.chars().all(identifier)).then_some(first)
}

/// `T` and `Trait` of `T as Trait>::f`.
fn split_qualified(inside: &str) -> (&str, Option<&str>) {
    let (mut depth, mut as_at) = (0_u32, None);
    let bytes = inside.as_bytes();
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'<' | b'(' | b'[' => depth += 1,
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' if depth == 0 => {
                return match as_at {
                    Some(a) => (&inside[..a], Some(&inside[a + " as ".len()..at])),
                    None => (&inside[..at], None),
                };
            }
            b'>' | b')' | b']' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 && as_at.is_none() && inside[at..].starts_with(" as ") => {
                as_at = Some(at);
            }
            _ => {}
        }
    }
    (inside, None)
}

fn crate_of_type(mut of: &str) -> Option<&str> {
    loop {
        let before = of;
        of = of.trim_start_matches(['&', '*', '[', '(', ' ']);
        for word in ["mut ", "const ", "dyn "] {
            of = of.strip_prefix(word).unwrap_or(of);
        }
        if of == before {
            break;
        }
    }
    crate_of_path(of)
}

fn is_std(krate: &str) -> bool {
    matches!(krate, "core" | "alloc" | "std" | "proc_macro" | "test")
}

/// What a frame at the innermost end of a stack is to someone who asks where memory went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Part of the allocator or the profiler, below which no code of interest runs.
    Machinery,
    /// The standard library's helpers, cut where machinery is on both sides of them.
    Std,
    /// All the rest.
    Other,
}

/// What a function by this name is.
pub(crate) fn role(function: &str) -> Role {
    const PREFIXES: [&str; 31] = [
        "__rust_alloc",
        "__rust_realloc",
        "__rustc::",
        "__rdl_",
        "__rg_",
        "alloc::alloc::",
        "<alloc::alloc::Global",
        "alloc::raw_vec::",
        "<alloc::raw_vec::",
        "core::alloc::",
        "<core::alloc::",
        "std::alloc::",
        "<std::alloc::",
        "std::sys::alloc::",
        "backtrace::",
        "framehop::",
        "<framehop::",
        "mi_",
        "_mi_",
        "je_",
        "_rjem_",
        "mimalloc::",
        "<mimalloc::",
        "libmimalloc_sys::",
        "tikv_jemallocator::",
        "<tikv_jemallocator::",
        "jemallocator::",
        "operator new",
        "_int_malloc",
        "_int_realloc",
        "_int_memalign",
    ];
    const WHOLE: [&str; 24] = [
        "malloc",
        "calloc",
        "realloc",
        "reallocarray",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "pvalloc",
        "mallocx",
        "rallocx",
        "xallocx",
        "__libc_malloc",
        "__libc_calloc",
        "__libc_realloc",
        "__libc_memalign",
        "__GI___libc_malloc",
        "__GI___libc_realloc",
        "__posix_memalign",
        "_mid_memalign",
        "sysmalloc",
        "tcache_init",
        "do_rallocx",
        "ialloc",
    ];
    if is_profiler(function)
        || PREFIXES.iter().any(|prefix| function.starts_with(prefix))
        || function.contains(" as core::alloc::")
        || function.contains(" as alloc::alloc::")
        || WHOLE.contains(&function)
    {
        Role::Machinery
    } else if crate_of_path(function).is_some_and(is_std) {
        Role::Std
    } else {
        Role::Other
    }
}

/// Of the recorder. Label scopes and adaptors run the program's own code and are none of it.
fn is_profiler(function: &str) -> bool {
    let Some(path) = function.trim_start_matches(['<', '&']).strip_prefix("heapdrift::") else {
        return false;
    };
    !(path.starts_with("labels::")
        || path.starts_with("with_labels")
        || path.contains("LabelScope")
        || path.contains("Labeled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_manglings_lose_their_hashes() {
        let legacy = "_ZN4core3ptr85drop_in_place$LT$std..rt..lang_start$LT$$LP$$RP$$GT$..$u7b$$u7b$closure$u7d$$u7d$$GT$17h0123456789abcdefE";
        assert_eq!(
            readable(legacy, None),
            "core::ptr::drop_in_place<std::rt::lang_start<()>::{closure}>"
        );
        let v0 = "_RNCNCINvCs6xxl1lAjzDf_1a5outerjE00B5_";
        assert_eq!(readable(v0, None), "a::outer::<usize>::{closure#0}::{closure#0}");
        assert_eq!(readable("_ZN2my7handler17h0123456789abcdefE.llvm.123", None), "my::handler");
        assert_eq!(readable("_ZN2my7handler17h0123456789abcdefE.cold", None), "my::handler");
    }

    #[test]
    fn cpp_and_c_names_are_readable() {
        assert_eq!(readable("_ZN3foo3barEi", None), "foo::bar(int)");
        assert_eq!(readable("sqlite3_open", None), "sqlite3_open");
        assert_eq!(readable("_Znot_mangled", None), "_Znot_mangled");
    }

    #[test]
    fn async_bodies_are_named_after_what_they_are() {
        let outer = "_RNCINvCs6xxl1lAjzDf_1a5outerjE0B3_";
        assert_eq!(
            readable(outer, Kind::of_debug_name("{async_fn#0}<usize>")),
            "a::outer::<usize>::{async}"
        );
        let block = "_RNCNCINvCs6xxl1lAjzDf_1a5outerjE00B5_";
        assert_eq!(
            readable(block, Kind::of_debug_name("{async_block#0}<usize>")),
            "a::outer::<usize>::{closure#0}::{async block}"
        );
        let second = "_ZN2my1f28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE";
        assert_eq!(readable(second, Some(Kind::AsyncFn)), "my::f::{async}");
    }

    #[test]
    fn long_names_keep_everything_but_generic_arguments() {
        let long = format!(
            "<my::Service<{0}> as tower::Service<{0}>>::call::<{0}>::{{closure#0}}",
            "very::long::Type<fn() -> u8>, ".repeat(5)
        );
        assert_eq!(
            shortened(long),
            "<my::Service<…> as tower::Service<…>>::call::<…>::{closure#0}"
        );
        let short = "my::f::<alloc::vec::Vec<u8>>";
        assert_eq!(shortened(short.to_owned()), short);
    }

    #[test]
    fn the_crate_of_an_impl_is_that_of_its_own_type() {
        let of = |name| crate_of(name, "/lib/libc.so.6");
        assert_eq!(of("image::decode"), "image");
        assert_eq!(of("<my::Foo<T> as core::future::future::Future>::poll"), "my");
        assert_eq!(of("<alloc::vec::Vec<my::Foo> as tower::Layer<my::X>>::layer"), "tower");
        assert_eq!(of("<&mut dyn std::io::Read as std::io::Read>::read"), "std");
        assert_eq!(of("<&[my::Foo] as core::fmt::Debug>::fmt"), "my");
        assert_eq!(of("<alloc::raw_vec::RawVec<u8>>::grow"), "alloc");
        assert_eq!(of("<u8 as my::Trait>::f"), "my");
        assert_eq!(of("<<my::A as my::B>::C as core::fmt::Debug>::fmt"), "my");
        assert_eq!(of("<fn() -> u8 as hyper::Service>::call"), "hyper");
        assert_eq!(of("malloc"), "libc.so.6");
        assert_eq!(of("libc.so.6+0x1234"), "libc.so.6");
    }

    #[test]
    fn a_bare_name_gets_its_modules_from_its_file() {
        let raw_vec =
            "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/alloc/src/raw_vec/mod.rs";
        assert_eq!(
            qualified("with_capacity<u8>", Some(raw_vec), None),
            "alloc::raw_vec::with_capacity<u8>"
        );
        let axum = "/home/x/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/axum-core-0.5.2/src/ext.rs";
        assert_eq!(qualified("call", Some(axum), None), "axum_core::ext::call");
        let own = Some(("shop", "/build/main/src/main.rs"));
        assert_eq!(
            qualified("{async_fn#0}", Some("/build/main/src/http/cart.rs"), own),
            "shop::http::cart::{async}"
        );
        assert_eq!(qualified("f", None, own), "f");
        assert_eq!(short_file(raw_vec), "library/alloc/src/raw_vec/mod.rs");
        assert_eq!(short_file(axum), "axum-core-0.5.2/src/ext.rs");
        assert_eq!(short_file("src/main.rs"), "src/main.rs");
    }

    #[test]
    fn machinery_is_told_from_code_that_runs_inside_a_label_scope() {
        for machinery in [
            "heapdrift::recorder::enabled::alloc",
            "<heapdrift::alloc::Alloc<std::alloc::System> as core::alloc::global::GlobalAlloc>::alloc",
            "__rustc::__rust_alloc",
            "alloc::alloc::exchange_malloc",
            "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
            "<my::MyAlloc as core::alloc::global::GlobalAlloc>::realloc",
            "<alloc::raw_vec::RawVecInner>::try_allocate_in",
            "malloc",
            "mi_heap_malloc_aligned",
        ] {
            assert_eq!(role(machinery), Role::Machinery, "{machinery}");
        }
        for other in [
            "heapdrift::labels::with_labels::<(), my::f>",
            "heapdrift::with_labels::<(), my::f>",
            "<heapdrift::labels::Labeled<F> as core::future::future::Future>::poll",
            "malloc_everything",
            "my::malloc",
        ] {
            assert_eq!(role(other), Role::Other, "{other}");
        }
        assert_eq!(role("<alloc::vec::Vec<u8>>::with_capacity"), Role::Std);
    }
}
