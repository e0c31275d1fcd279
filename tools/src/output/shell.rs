//! Paths as they are typed in a shell.

use std::path::Path;

/// A path quoted as one word of a command line. Only a path with a NUL byte cannot be quoted; it is
/// returned as it is.
pub(crate) fn word(path: &Path) -> String {
    let path = path.to_string_lossy();
    // A leading dash would be taken for an option.
    let path = if path.starts_with('-') { format!("./{path}") } else { path.into_owned() };
    shlex::try_quote(&path).map_or_else(|_| path.clone(), |word| word.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        let word = |path: &str| word(Path::new(path));
        assert_eq!(word("a/b-1.heap.json.gz"), "a/b-1.heap.json.gz");
        assert_eq!(word("-rf"), "./-rf");
        for evil in ["a b", "it's", "$(reboot)", "a\nb", "`x`", "*"] {
            assert_eq!(shlex::split(&word(evil)), Some(vec![evil.to_owned()]), "{evil}");
        }
    }
}
