//! Symbols as people wrote them, and what a name says about its function: the crate, and whether it
//! is machinery of the allocator.
//!
//! What [`readable`] does to a symbol:
//! - demangles both Rust manglings, and leaves out hashes and compiler suffixes; symbols of other
//!   languages stay as they are;
//! - the body of an `async fn` is `my::handler::{async}`, of an async block `my::f::{async block}`
//!   ([`Kind`]); other closures are `my::f::{closure#0}`, `{closure}` in the legacy mangling;
//! - generic arguments stay, unless the name is longer than [`LONG`] characters: then each list of
//!   them is `<…>`. What follows them always stays.

use std::collections::HashMap;

pub mod machinery;
mod source;

pub use machinery::Role;
pub(crate) use source::Place;
pub use source::{Roots, name_and_version, short_file};

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

    /// How a name has it: `{async}`.
    pub fn text(self) -> &'static str {
        match self {
            Self::AsyncFn => "{async}",
            Self::AsyncBlock => "{async block}",
            Self::AsyncClosure => "{async closure}",
        }
    }
}

/// What is known about the closures of a module.
#[derive(Clone, Debug, Default)]
pub struct Closures {
    by_symbol: HashMap<String, Kind>,
    /// By demangled name. `None`: the legacy mangling gives closures of different kinds one name.
    by_name: HashMap<String, Option<Kind>>,
}

impl Closures {
    /// Takes down that the closure with this symbol is of this kind; `None` is a plain closure.
    pub fn insert(&mut self, symbol: String, kind: Option<Kind>) {
        if let Some(name) = demangled(&symbol) {
            let known = self.by_name.entry(name).or_insert(kind);
            if *known != kind {
                *known = None;
            }
        }
        if let Some(kind) = kind {
            self.by_symbol.insert(symbol, kind);
        }
    }
}

/// The readable form of a symbol of either Rust mangling, or of C. `kind` is what this very
/// function is, where the caller knows better than `closures`.
pub fn readable(symbol: &str, kind: Option<Kind>, closures: &Closures) -> String {
    let Some(name) = demangled(symbol) else { return shortened(symbol.to_owned()) };
    let kind = kind.or_else(|| closures.by_symbol.get(symbol).copied());
    shortened(with_kinds(&name, kind, closures))
}

/// The demangled symbol, if it is mangled the way of Rust.
pub fn demangled(symbol: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(symbol).ok()?;
    // The alternate form leaves out hashes. What a linker or LLVM appended (`.cold`, `.llvm.123`)
    // names no function.
    let name = format!("{name:#}");
    let end = name.rfind(['>', '}', ':']).map_or(0, |at| at + 1);
    let end = name[end..].find('.').map_or(name.len(), |dot| end + dot);
    Some(name[..end].replace("{{closure}}", "{closure}"))
}

/// Whether a symbol is that of a closure, in either mangling. Bodies of async functions are.
pub fn is_closure(symbol: &str) -> bool {
    (symbol.starts_with("_R") && symbol.contains("NC"))
        || (symbol.starts_with("_ZN") && symbol.contains("closure$u7d$"))
}

/// Names the closures in a path after what they are: the last one by `kind`, those around it by
/// what is known of their names.
fn with_kinds(name: &str, kind: Option<Kind>, closures: &Closures) -> String {
    let mut readable = String::with_capacity(name.len());
    let mut done = 0;
    for (at, _) in name.match_indices("::{closure") {
        let Some(end) = name[at..].find('}').map(|length| at + length + 1) else { break };
        let kind = match kind {
            // A plain closure may have the legacy name of an async one.
            kind if end == name.len() => kind,
            _ => closures.by_name.get(&name[..end]).copied().flatten(),
        };
        readable.push_str(&name[done..at]);
        match kind {
            Some(kind) => {
                // The first block of a function is block 0; numbers tell the others from it.
                let text = kind.text().trim_end_matches('}');
                let number = name[at..end - 1].split_once('#').map_or("0", |(_, number)| number);
                readable.push_str("::");
                readable.push_str(text);
                if kind != Kind::AsyncFn && number != "0" {
                    readable.push('#');
                    readable.push_str(number);
                }
                readable.push('}');
            }
            None => readable.push_str(&name[at..end]),
        }
        done = end;
    }
    readable.push_str(&name[done..]);
    readable
}

/// Collapses generic arguments where the name is longer than [`LONG`].
pub fn shortened(name: String) -> String {
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

/// The crate of a function whose name is a Rust path, as [`crate_of`] has it.
pub fn crate_of_path(function: &str) -> Option<&str> {
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

/// Whether a crate by this name is part of the standard library.
pub fn is_std(krate: &str) -> bool {
    matches!(krate, "core" | "alloc" | "std" | "proc_macro" | "test")
}

/// What follows the last `/` of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(symbol: &str) -> String {
        readable(symbol, None, &Closures::default())
    }

    #[test]
    fn both_manglings_lose_their_hashes() {
        let legacy = "_ZN4core3ptr85drop_in_place$LT$std..rt..lang_start$LT$$LP$$RP$$GT$..$u7b$$u7b$closure$u7d$$u7d$$GT$17h0123456789abcdefE";
        assert_eq!(plain(legacy), "core::ptr::drop_in_place<std::rt::lang_start<()>::{closure}>");
        let v0 = "_RNCNCINvCs6xxl1lAjzDf_1a5outerjE00B5_";
        assert_eq!(plain(v0), "a::outer::<usize>::{closure#0}::{closure#0}");
        assert_eq!(plain("_ZN2my7handler17h0123456789abcdefE.llvm.123"), "my::handler");
        assert_eq!(plain("_ZN2my7handler17h0123456789abcdefE.cold"), "my::handler");
    }

    #[test]
    fn names_of_other_languages_stay() {
        assert_eq!(plain("_ZN3foo3barEi"), "_ZN3foo3barEi");
        assert_eq!(plain("sqlite3_open"), "sqlite3_open");
        assert_eq!(plain("_Znot_mangled"), "_Znot_mangled");
    }

    #[test]
    fn async_bodies_are_named_after_what_they_are() {
        let of =
            |symbol: &str, kind| readable(symbol, Kind::of_debug_name(kind), &Closures::default());
        let outer = "_RNCINvCs6xxl1lAjzDf_1a5outerjE0B3_";
        assert_eq!(of(outer, "{async_fn#0}<usize>"), "a::outer::<usize>::{async}");
        let block = "_RNCNCINvCs6xxl1lAjzDf_1a5outerjE00B5_";
        assert_eq!(
            of(block, "{async_block#0}<usize>"),
            "a::outer::<usize>::{closure#0}::{async block}"
        );
        let legacy = "_ZN2my1f28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE";
        assert_eq!(of(legacy, "{async_fn#0}"), "my::f::{async}");
    }

    #[test]
    fn the_closures_around_a_closure_are_named_too() {
        let outer = "_RNCINvCs6xxl1lAjzDf_1a5outerjE0B3_";
        let block = "_RNCNCINvCs6xxl1lAjzDf_1a5outerjE00B5_";
        let mut closures = Closures::default();
        closures.insert(outer.into(), Some(Kind::AsyncFn));
        assert_eq!(readable(block, None, &closures), "a::outer::<usize>::{async}::{closure#0}");
        closures.insert(block.into(), Some(Kind::AsyncBlock));
        assert_eq!(readable(block, None, &closures), "a::outer::<usize>::{async}::{async block}");
    }

    #[test]
    fn one_legacy_name_for_two_kinds_of_closures_names_neither() {
        let symbol = |hash| format!("_ZN2my1f28_$u7b$$u7b$closure$u7d$$u7d$17h{hash}E");
        let (one, two) = (symbol("0123456789abcdef"), symbol("fedcba9876543210"));
        let inner = "_ZN2my1f28_$u7b$$u7b$closure$u7d$$u7d$1g17h0123456789abcdefE";
        let mut closures = Closures::default();
        closures.insert(one.clone(), Some(Kind::AsyncFn));
        assert_eq!(readable(inner, None, &closures), "my::f::{async}::g");
        closures.insert(two.clone(), None);
        assert_eq!(readable(inner, None, &closures), "my::f::{closure}::g");
        assert_eq!(readable(&one, None, &closures), "my::f::{async}", "its symbol is its own");
        assert_eq!(readable(&two, None, &closures), "my::f::{closure}", "and so is this one's");
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
}
