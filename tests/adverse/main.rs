//! A service under conditions that break profilers: blocked signals, limits, full and frozen disks,
//! closed descriptors, small stacks, and forks. The profiler must not end it, make it hang, or
//! write to its files.
//!
//! Each condition holds for a whole process, so each test runs in a child process of its own.
#![cfg(all(feature = "profiling", target_os = "linux"))]
#![allow(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod daemon;
mod descriptors;
mod disk;
mod folder;
mod panics;
mod signals;
mod stack;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use common::exact;
use heapdrift::{Alloc, Builder};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// A child that takes longer counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that runs the test `name` in a child process, in which `common::is_child` is true.
fn child(name: &str) -> Command {
    let mut command = common::this_program();
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env_remove("HEAPDRIFT")
        .env("HEAPDRIFT_TEST_CHILD", name);
    command
}

/// Runs a command, and panics with its output unless it succeeds in time.
#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let mut running =
        command.stdout(std::process::Stdio::piped()).spawn().expect("a child process");
    let begin = Instant::now();
    while running.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            let _ = running.kill();
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "after {:?}: {output:?}", begin.elapsed());
    output
}

/// Waits until another thread or process has done something.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE / 3, "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The files of a folder, sorted by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A builder of sessions that dump to a folder on SIGUSR2 and at the end, and at no other time.
fn dumping_on_signal(folder: &Path) -> Builder {
    exact()
        .dump_dir(folder)
        .dump_every(Duration::ZERO)
        .diff_every(Duration::ZERO)
        .dump_on_signal(libc::SIGUSR2)
}

/// The complete dumps of a folder.
fn dumps(folder: &Path) -> Vec<PathBuf> {
    let is_dump = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.ends_with(heapdrift::dump::EXTENSION) && !name.starts_with('.')
    };
    files(folder).into_iter().filter(is_dump).collect()
}

/// The folder in `/proc` of the reporting thread.
fn reporting_thread() -> PathBuf {
    // A thread gives itself its name.
    wait_until("the thread to begin", || own_threads().len() == 1);
    own_threads().remove(0)
}

/// The folders in `/proc` of this process's threads that the profiler has started.
fn own_threads() -> Vec<PathBuf> {
    let is_own = |thread: &PathBuf| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == "heapdrift")
    };
    files(Path::new("/proc/self/task")).into_iter().filter(is_own).collect()
}
