//! Turns symbols into names as people wrote them, and says what a name reveals about its function:
//! the crate, and whether it is allocator machinery.
//!
//! [`readable`] changes a symbol as follows:
//! - It demangles both Rust manglings, and removes hashes and compiler suffixes. Symbols of other
//!   languages are unchanged.
//! - The body of an `async fn` becomes `my::handler::{async}`, that of an async block
//!   `my::f::{async block}` ([`Kind`]). Other closures are `my::f::{closure#0}`, or `{closure}` in
//!   the legacy mangling.
//! - Generic arguments stay, unless the name is longer than [`LONG`] characters: then each list of
//!   them becomes `<…>`. What follows a list always stays.

use std::collections::HashMap;

pub mod machinery;
mod source;

pub use machinery::Role;
pub use source::{Roots, name_and_version, short_file};
pub(crate) use source::{SourcePath, rust_source};

/// Generic arguments are left out of names that are longer than this many characters.
pub const LONG: usize = 120;

/// The kind of a closure, as debug information gives it.
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
    /// Parses the name that rustc gives the function in debug information: `{async_fn#0}<T>`.
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

    /// How the kind appears in a readable name: `{async}`.
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
    /// By demangled name. `None` if the name is ambiguous: the legacy mangling gives closures of
    /// different kinds one name.
    by_name: HashMap<String, Option<Kind>>,
}

impl Closures {
    /// Records the kind of the closure with this symbol; `None` is a plain closure.
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

/// The readable form of a symbol of either Rust mangling, or of C. `kind` is the kind of this very
/// function, for callers that know it better than `closures`.
pub fn readable(symbol: &str, kind: Option<Kind>, closures: &Closures) -> String {
    let Some(name) = demangled(symbol) else { return shortened(symbol.to_owned()) };
    let kind = kind.or_else(|| closures.by_symbol.get(symbol).copied());
    shortened(with_kinds(&name, kind, closures))
}

/// The demangled symbol, if it is a Rust symbol.
pub fn demangled(symbol: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(symbol).ok()?;
    // The alternate form leaves out hashes. A suffix that a linker or LLVM appended (`.cold`,
    // `.llvm.123`) is not part of the function's name.
    let name = format!("{name:#}");
    let end = name.rfind(['>', '}', ':']).map_or(0, |at| at + 1);
    let end = name[end..].find('.').map_or(name.len(), |dot| end + dot);
    Some(name[..end].replace("{{closure}}", "{closure}"))
}

/// Whether a symbol is that of a closure, in either mangling. Bodies of async functions are
/// closures too.
pub fn is_closure(symbol: &str) -> bool {
    (symbol.starts_with("_R") && symbol.contains("NC"))
        || (symbol.starts_with("_ZN") && symbol.contains("closure$u7d$"))
}

/// Names the closures in a path after their kinds: the last one after `kind`, the ones around it
/// after what is known of their names.
fn with_kinds(name: &str, kind: Option<Kind>, closures: &Closures) -> String {
    let mut readable = String::with_capacity(name.len());
    let mut done = 0;
    for (at, _) in name.match_indices("::{closure") {
        let Some(end) = name[at..].find('}').map(|length| at + length + 1) else { break };
        let kind = match kind {
            // The legacy name of a plain closure may be that of an async one too, so `kind` alone
            // decides.
            kind if end == name.len() => kind,
            _ => closures.by_name.get(&name[..end]).copied().flatten(),
        };
        readable.push_str(&name[done..at]);
        match kind {
            Some(kind) => {
                // The first block of a function has number 0; only the others get their number.
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

/// Collapses the generic arguments of a name that is longer than [`LONG`] characters.
pub fn shortened(name: String) -> String {
    if name.chars().count() <= LONG { name } else { without_generics(&name) }
}

/// Replaces each list of generic arguments by `<…>`. The brackets of `<T as Trait>::f` are no such
/// list; inside them the same rule holds.
fn without_generics(name: &str) -> String {
    let mut short = String::with_capacity(LONG);
    // The depth inside a list that is left out, and the number of open `<T as …>` outside of it.
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
            // The end of an arrow, `fn() -> T`.
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
/// For a path it is the first segment. For `<T as Trait>::f` it is the crate of `T`, or of `Trait`
/// if `T` is a type of the standard library, a primitive, or a reference of a generic to one. Other
/// names, such as C symbols, belong to no crate: the result is the file name of the module.
pub fn crate_of(function: &str, module: &str) -> String {
    crate_of_path(function).map_or_else(|| file_name(module).to_owned(), str::to_owned)
}

/// The crate of a function whose name is a Rust path, by the rules of [`crate_of`].
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

/// Splits `T as Trait>::f` into `T` and `Trait`.
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

/// Whether a crate of this name is part of the standard library.
pub fn is_std(krate: &str) -> bool {
    matches!(krate, "core" | "alloc" | "std" | "proc_macro" | "test")
}

/// The part of a path after the last `/`.
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
    fn async_bodies_are_named_after_their_kind() {
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
    fn a_legacy_name_shared_by_two_kinds_of_closure_stays_plain() {
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
