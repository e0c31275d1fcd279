//! Call sites, each with a name and machine code of its own.
//!
//! `black_box` of its number keeps a function from being merged with its equals, and a function that
//! does something after its call keeps its frame. They are numbered by name and not by a constant
//! parameter, because a symbol does not tell one instance from another in the default mangling.

use std::hint::black_box;

use seq_macro::seq;

/// A piece of heap as a service holds it. The bytes are asked for and never touched: what counts is
/// that they were asked for.
pub(crate) type Block = Vec<u8>;

/// A function that allocates a block of so many bytes.
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
    /// Sites that do nothing wrong.
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
    /// What the service does, as its stacks show it: innocent and planted sites lie under these.
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

/// A site that only allocates. A macro, because each must be a function with code of its own.
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
