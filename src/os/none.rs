//! The twin for builds that do not record. Its signals, locks and descriptors are nobody's concern.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::Lock;

pub(crate) fn without_signals<R>(work: impl FnOnce() -> R) -> R {
    work()
}

pub(crate) fn admit_signal(_signal: i32) {}

pub(crate) fn without_write_signals<R>(work: impl FnOnce() -> R) -> R {
    work()
}

pub(crate) fn try_lock(_file: &File) -> Lock {
    Lock::Unsupported
}

pub(crate) fn open_in_place(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

pub(crate) fn say_unless_to_file(line: &str) {
    say(line);
}

pub(crate) fn say(line: &str) {
    // `eprintln!` would panic if standard error is full or closed.
    let _ = writeln!(io::stderr(), "{line}");
}
