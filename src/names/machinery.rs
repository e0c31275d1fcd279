//! Which frames at the innermost end of a stack say nothing about where memory went.

use super::{crate_of_path, crate_of_type, is_std, split_qualified};

/// What a frame is to someone who asks where memory went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The profiler: its hook at the innermost end, label scopes in between. Cut everywhere.
    Profiler,
    /// Part of the allocator, or of a container that grows; below it no code of interest runs.
    Machinery,
    /// The rest of the standard library, cut where machinery is on both sides.
    Std,
    /// All the rest.
    Other,
}

/// Beginnings of Rust paths. Each ends with its crate or module, so that no other crate whose name
/// begins alike is meant.
const PATHS: &[&str] = &[
    "__rustc::",
    "core::alloc::",
    "std::alloc::",
    "std::sys::alloc::",
    "std::collections::",
    "backtrace::",
    "framehop::",
    "hashbrown::",
    "mimalloc::",
    "libmimalloc_sys::",
    "tikv_jemallocator::",
    "jemallocator::",
];

/// Beginnings of C symbols, and of C++ ones as the linker has them.
const SYMBOL_PREFIXES: &[&str] = &[
    "__rust_alloc",
    "__rust_realloc",
    "__rdl_",
    "__rg_",
    "mi_",
    "_mi_",
    "je_",
    "_rjem_",
    "_Znw",
    "_Zna",
    "_int_malloc",
    "_int_realloc",
    "_int_memalign",
];

const SYMBOLS: &[&str] = &[
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

/// What a function by this name is.
pub fn role(function: &str) -> Role {
    // Demangled C++: the parameters may have paths in them.
    let is_operator_new = function.starts_with("operator new");
    if is_operator_new || (is_symbol(function) && is_allocator_symbol(function)) {
        return Role::Machinery;
    }
    let (own, of_trait) = match function.strip_prefix('<') {
        Some(inside) => split_qualified(inside),
        None => (function, None),
    };
    let own = own.trim_start_matches(['<', '&']);
    let is_foreign = of_trait.is_some_and(|path| is_foreign(own, path));
    // An allocator of the user's own, and calls through one, are machinery whatever their type.
    let is_allocator =
        of_trait.is_some_and(|path| is_below(path, &["core::alloc::", "alloc::alloc::"]));
    if !is_foreign && own.starts_with("heapdrift::") {
        Role::Profiler
    } else if is_allocator || !is_foreign && (is_container(own, function) || is_below(own, PATHS)) {
        Role::Machinery
    } else if crate_of_path(function).is_some_and(is_std) {
        Role::Std
    } else {
        Role::Other
    }
}

/// Whether a name is that of a symbol without a path: C's, or one that is not demangled. Crates may
/// be called like anything that C symbols begin with, but their functions have paths.
fn is_symbol(function: &str) -> bool {
    function.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'$' | b'@'))
}

fn is_allocator_symbol(symbol: &str) -> bool {
    SYMBOLS.contains(&symbol) || is_below(symbol, SYMBOL_PREFIXES)
}

fn is_below(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether an implementation of a trait belongs to neither the standard library nor the crate of
/// the type: `<alloc::vec::Vec<T> as shop::Basket>::add` is code of `shop`.
fn is_foreign(of_type: &str, of_trait: &str) -> bool {
    let Some(of_trait) = crate_of_path(of_trait) else { return false };
    !is_std(of_trait) && crate_of_type(of_type) != Some(of_trait)
}

/// Whether a function belongs to a container of the crate `alloc`: a box, vector, string or map.
/// Calls through a boxed closure are excluded, because they occur far out in the stacks of threads
/// and executors.
fn is_container(own: &str, function: &str) -> bool {
    own.starts_with("alloc::")
        && !function.contains("call_once")
        && !function.contains("::ops::function::")
}

/// How many of the innermost frames are machinery: the longest run that ends in machinery and has
/// nothing but the standard library in between. At least one frame stays.
pub fn depth(roles: impl ExactSizeIterator<Item = Role>) -> usize {
    let length = roles.len();
    let mut depth = 0;
    for (at, role) in roles.enumerate() {
        match role {
            Role::Machinery | Role::Profiler => depth = at + 1,
            Role::Std => {}
            Role::Other => break,
        }
    }
    depth.min(length.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Machinery, Other, Std};

    #[test]
    fn machinery_is_told_from_code_of_interest() {
        for machinery in [
            "__rustc::__rust_alloc",
            "alloc::alloc::exchange_malloc",
            "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
            "<my::MyAlloc as core::alloc::global::GlobalAlloc>::realloc",
            "<alloc::raw_vec::RawVecInner>::try_allocate_in",
            "malloc",
            "mi_heap_malloc_aligned",
            "<alloc::vec::Vec<u8>>::with_capacity",
            "alloc::vec::spec_from_elem::from_elem<alloc::alloc::Global>",
            "hashbrown::raw::RawTable<T>::reserve_rehash",
        ] {
            assert_eq!(role(machinery), Role::Machinery, "{machinery}");
        }
        for profiler in [
            "heapdrift::engine::recording::hook::alloc",
            "<heapdrift::alloc::Alloc<std::alloc::System> as core::alloc::global::GlobalAlloc>::alloc",
            "heapdrift::labels::with_labels::<(), my::f>",
            "<heapdrift::labels::Labeled<F> as core::future::future::Future>::poll",
        ] {
            assert_eq!(role(profiler), Role::Profiler, "{profiler}");
        }
        for other in ["malloc_everything", "my::malloc", "heapdrift_tools::top::table"] {
            assert_eq!(role(other), Role::Other, "{other}");
        }
        for std in [
            "std::fs::read<&str>",
            "<alloc::boxed::Box<F, A> as core::ops::function::FnOnce<Args>>::call_once",
        ] {
            assert_eq!(role(std), Role::Std, "{std}");
        }
    }

    /// Names of crates that begin like symbols and crates of allocators.
    #[test]
    fn crates_called_like_machinery_are_code_of_interest() {
        for krate in [
            "mi_service",
            "_mi_service",
            "je_parser",
            "_rjem_ext",
            "__rg_ext",
            "__rdl_ext",
            "__rust_allocations",
            "__rust_reallocations",
            "_Znw_ext",
            "_Zna_ext",
            "_int_malloc_ext",
            "_int_realloc_ext",
            "_int_memalign_ext",
            "__rustc_ext",
            "malloc",
            "calloc_ext",
            "core_ext",
            "std_ext",
            "alloc_ext",
            "backtrace_ext",
            "framehop_ext",
            "hashbrown_ext",
            "mimalloc_ext",
            "libmimalloc_sys_ext",
            "jemallocator_ext",
            "tikv_jemallocator_ext",
            "heapdrift_ext",
            "tokio_ext",
        ] {
            for function in [
                format!("{krate}::load"),
                format!("{krate}::cache::load::<alloc::vec::Vec<u8>>::{{closure#0}}"),
                format!("<{krate}::Cache>::load"),
                format!("<{krate}::Cache as {krate}::Load>::load"),
                format!("<{krate}::Cache as core::iter::traits::iterator::Iterator>::next"),
                format!("<&mut {krate}::Cache as core::fmt::Debug>::fmt"),
            ] {
                assert_eq!(role(&function), Role::Other, "{function}");
            }
        }
    }

    #[test]
    fn symbols_of_allocators_are_machinery() {
        for symbol in [
            "mi_malloc",
            "mi_heap_malloc_aligned",
            "_mi_page_malloc",
            "_mi_page_malloc.part.0",
            "je_malloc",
            "je_arena_malloc_hard",
            "_rjem_malloc",
            "_rjem_je_arena_malloc_hard",
            "__rust_alloc",
            "__rust_alloc_zeroed",
            "__rust_realloc",
            "__rdl_alloc",
            "__rg_realloc",
            "malloc",
            "__libc_calloc",
            "_int_malloc",
            "_int_realloc",
            "_int_memalign",
            "_Znwm",
            "_ZnamRKSt9nothrow_t",
            "operator new(unsigned long)",
            "operator new[](unsigned long, std::align_val_t)",
        ] {
            assert_eq!(role(symbol), Role::Machinery, "{symbol}");
        }
    }

    /// Who implements a trait of its own for somebody else's type has written the code.
    #[test]
    fn a_trait_for_a_container_is_code_of_the_crate_of_the_trait() {
        for function in [
            "<alloc::vec::Vec<shop::Item> as shop::Basket>::add",
            "<&alloc::vec::Vec<shop::Item> as shop::Basket>::add",
            "<std::collections::hash::map::HashMap<K, V> as shop::Cache<V>>::load",
            "<hashbrown::map::HashMap<K, V> as shop::Cache<V>>::load::{closure#0}",
            "<heapdrift::snapshot::Snapshot as shop::Export>::export",
            "shop::load::<<shop::Pool as core::alloc::Allocator>::Error>",
        ] {
            assert_eq!(role(function), Role::Other, "{function}");
        }
        for function in [
            "<alloc::vec::Vec<shop::Item> as core::iter::traits::collect::Extend<T>>::extend",
            "<hashbrown::map::HashMap<K, V> as hashbrown::Own>::grow",
            "<std::collections::hash::map::HashMap<K, V>>::insert",
            "<shop::Pool as alloc::alloc::Allocator>::allocate",
        ] {
            assert_eq!(role(function), Role::Machinery, "{function}");
        }
    }

    #[test]
    fn machinery_is_cut_only_at_the_innermost_end() {
        let cut = |roles: &[Role]| depth(roles.iter().copied());
        assert_eq!(cut(&[]), 0);
        assert_eq!(cut(&[Other, Machinery]), 0);
        assert_eq!(cut(&[Std, Other, Machinery]), 0);
        assert_eq!(cut(&[Machinery, Std, Machinery, Std, Other, Machinery]), 3);
        assert_eq!(cut(&[Machinery, Machinery]), 1, "something is left");
    }
}
