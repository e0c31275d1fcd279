//! Call sites, each with its own name and machine code.
//!
//! `black_box` of its number keeps a function from being merged with equal ones, and a function
//! that does something after its call keeps its frame. The number is in the name and is not a const
//! parameter, because symbols of the default mangling do not tell instances apart.

use std::hint::black_box;

use seq_macro::seq;

/// A block of memory that a service holds. Its bytes are allocated and never touched, because only
/// the allocation matters.
pub(crate) type Block = Vec<u8>;

/// A function that allocates a block of this many bytes.
pub(crate) type Site = fn(usize) -> Block;

/// A function that calls another.
pub(crate) type Caller = fn(&mut dyn FnMut());

seq!(N in 0..300 {
    #(
        #[inline(never)]
        fn innocent_~N(size: usize) -> Block {
            black_box(N);
            Vec::with_capacity(size)
        }
    )*
    /// The healthy sites.
    pub(crate) static INNOCENT: [Site; 300] = [#(innocent_~N,)*];
});

seq!(N in 0..24 {
    #(
        #[inline(never)]
        fn handler_~N(work: &mut dyn FnMut()) {
            work();
            black_box(N);
        }
    )*
    /// The request handlers of the service, which call the innocent and the planted sites.
    pub(crate) static HANDLERS: [Caller; 24] = [#(handler_~N,)*];
});

seq!(N in 0..60 {
    #(
        #[inline(never)]
        fn caller_~N(work: &mut dyn FnMut()) {
            work();
            black_box(N);
        }
    )*
    /// The many callers of one function.
    pub(crate) static CALLERS: [Caller; 60] = [#(caller_~N,)*];
});

/// A site that only allocates. It is a macro, because each site must be a function of its own.
macro_rules! site {
    ($name:ident) => {
        #[inline(never)]
        fn $name(size: usize) -> Block {
            black_box(stringify!($name));
            Vec::with_capacity(size)
        }
    };
}

pub(crate) use site;
