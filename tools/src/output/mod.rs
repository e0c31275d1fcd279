//! Where results go: files, standard output, and messages on standard error.

pub(crate) mod file;
pub(crate) mod progress;
pub(crate) mod shell;
pub(crate) mod terminal;
