//! Which frames at the innermost end of a stack say nothing about where memory went.

use crate::names::{crate_of_path, is_std};

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
    const PREFIXES: [&str; 32] = [
        "__rust_alloc",
        "__rust_realloc",
        "__rustc::",
        "__rdl_",
        "__rg_",
        "alloc::alloc::",
        "alloc::boxed::box_new",
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

/// How many of the innermost frames are machinery: the longest run that ends in machinery and has
/// nothing but the standard library in between. At least one frame stays.
pub(crate) fn depth(roles: impl ExactSizeIterator<Item = Role>) -> usize {
    let length = roles.len();
    let mut depth = 0;
    for (at, role) in roles.enumerate() {
        match role {
            Role::Machinery => depth = at + 1,
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
