//! The paths of recorded modules.

use heapdrift::snapshot::Module;

/// The path of a module without the suffix that Linux appends if the file was replaced while the
/// program ran.
pub(crate) fn recorded_path(module: &Module) -> &str {
    module.path.strip_suffix(" (deleted)").unwrap_or(&module.path)
}

/// Whether a module is a file; `[vdso]` and `[unknown]` are not.
pub(crate) fn has_file(module: &Module) -> bool {
    !module.path.is_empty() && !module.path.starts_with('[')
}
