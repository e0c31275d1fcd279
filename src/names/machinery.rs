//! Which frames at the innermost end of a stack say nothing about where memory went.

use super::{crate_of_path, is_std};

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

/// What a function by this name is.
pub fn role(function: &str) -> Role {
    const PREFIXES: &[&str] = &[
        "__rust_alloc",
        "__rust_realloc",
        "__rustc::",
        "__rdl_",
        "__rg_",
        "core::alloc::",
        "<core::alloc::",
        "std::alloc::",
        "<std::alloc::",
        "std::sys::alloc::",
        "backtrace::",
        "framehop::",
        "<framehop::",
        "hashbrown::",
        "<hashbrown::",
        "std::collections::",
        "<std::collections::",
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
        // The C++ ones, and as the linker has them.
        "operator new",
        "_Znw",
        "_Zna",
        "_int_malloc",
        "_int_realloc",
        "_int_memalign",
    ];
    const WHOLE: &[&str] = &[
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
    if function.trim_start_matches(['<', '&']).starts_with("heapdrift::") {
        Role::Profiler
    } else if is_container(function)
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

/// Of the crate `alloc`: boxes, vectors, strings, maps. A call through a boxed closure is not meant:
/// it stands far out in the stacks of threads and executors.
fn is_container(function: &str) -> bool {
    function.trim_start_matches(['<', '&']).starts_with("alloc::")
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
