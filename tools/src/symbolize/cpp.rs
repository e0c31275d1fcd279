//! Names of C++ functions.

use heapdrift::names;

/// The demangled form of a C++ symbol, or `None` if it is not one. The caller must rule out Rust's
/// legacy mangling first, which also begins with `_ZN`.
pub(crate) fn readable(symbol: &str) -> Option<String> {
    if !symbol.starts_with("_Z") {
        return None;
    }
    let options = cpp_demangle::DemangleOptions::new().no_return_type();
    let name = cpp_demangle::Symbol::new(symbol).ok()?.demangle_with_options(&options).ok()?;
    Some(names::shortened(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpp_names_are_readable() {
        assert_eq!(readable("_ZN3foo3barEi").as_deref(), Some("foo::bar(int)"));
        assert_eq!(readable("sqlite3_open"), None);
        assert_eq!(readable("_Znot_mangled"), None);
    }
}
