//! Snapshots of stacks of this process, and ways to run the command on them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use heapdrift::snapshot::{Metrics, Module, Stack};
use heapdrift::{Estimate, Snapshot};
use object::{Object as _, ObjectSegment as _};

/// A stack of this process, innermost first, as addresses of call instructions relative to the
/// program.
pub(crate) type Addresses = Vec<u64>;

/// The stack of the caller.
#[inline(never)]
pub(crate) fn stack() -> Addresses {
    let bias = load_bias();
    let mut addresses = Vec::new();
    let mut own = true;
    backtrace::trace(|frame| {
        // The frames of the unwinder and of this function are left out.
        let start = frame.symbol_address() as u64;
        if own && start == stack as *const () as u64 {
            own = false;
        } else if !own {
            addresses.push((frame.ip() as u64).wrapping_sub(bias).wrapping_sub(1));
        }
        true
    });
    addresses
}

/// What must be added to addresses of the program's file. It is 0 if the program is not
/// position-independent, as those for musl may be.
fn load_bias() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = executable();
    let line = maps.lines().find(|line| line.ends_with(path.to_str().unwrap())).unwrap();
    let mapped = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    mapped - elf.segments().next().unwrap().address()
}

pub(crate) fn executable() -> PathBuf {
    std::env::current_exe().unwrap().canonicalize().unwrap()
}

pub(crate) fn build_id(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let id = elf.build_id().unwrap().expect("tests are linked with a build-id");
    heapdrift::snapshot::Module::build_id_from_bytes(id)
}

/// Builds a snapshot stack by stack.
pub(crate) struct Recording {
    pub(crate) snapshot: Snapshot,
}

impl Recording {
    pub(crate) fn new() -> Self {
        let mut snapshot = Snapshot::default();
        let path = executable().to_str().unwrap().to_owned();
        let mut module = Module::named(&path);
        module.build_id = build_id(Path::new(&path));
        module.end = u64::MAX;
        snapshot.modules.push(module);
        snapshot.process.executable = path;
        snapshot.process.id = 4711;
        snapshot.process.session = 1;
        snapshot.process.started_unix_ms = 1_800_000_000_000;
        snapshot.process.heapdrift_version = "0.1.0".into();
        snapshot.taken.unix_ms = 1_800_000_060_000;
        snapshot.taken.uptime_ms = 60_000;
        snapshot.taken.sequence = 1;
        snapshot.taken.reason = "call".into();
        snapshot.sampling.interval_bytes = 65_536.0;
        snapshot.sampling.initial_interval_bytes = 65_536.0;
        snapshot.sampling.state = "active".into();
        snapshot.unwinder = "framehop".into();
        snapshot.label_sets.push(BTreeMap::new());
        Self { snapshot }
    }

    /// Adds a stack with `live_bytes` ± `error`.
    pub(crate) fn add(
        &mut self,
        stack: &[u64],
        labels: &[(&str, &str)],
        live_bytes: f64,
        error: f64,
    ) {
        let frames = stack.iter().map(|&address| self.frame(0, address)).collect();
        self.add_frames(frames, labels, live_bytes, error);
    }

    pub(crate) fn add_frames(
        &mut self,
        frames: Vec<u32>,
        labels: &[(&str, &str)],
        live_bytes: f64,
        error: f64,
    ) {
        let set: BTreeMap<String, String> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let sets = &mut self.snapshot.label_sets;
        let labels = sets.iter().position(|other| *other == set).unwrap_or_else(|| {
            sets.push(set);
            sets.len() - 1
        });
        let mut metrics = Metrics::default();
        metrics.live_bytes = Estimate::new(live_bytes, error);
        metrics.live_count = Estimate::new(live_bytes / 100.0, error / 100.0);
        metrics.alloc_bytes = Estimate::new(live_bytes * 2.0, error);
        metrics.alloc_count = Estimate::new(live_bytes / 50.0, error / 100.0);
        metrics.peak_bytes = Estimate::new(live_bytes * 1.5, error);
        let totals = &mut self.snapshot.totals;
        totals.live_bytes = totals.live_bytes + metrics.live_bytes;
        totals.live_count = totals.live_count + metrics.live_count;
        totals.alloc_bytes = totals.alloc_bytes + metrics.alloc_bytes;
        totals.alloc_count = totals.alloc_count + metrics.alloc_count;
        totals.peak_bytes = totals.peak_bytes + metrics.peak_bytes;
        let mut stack = Stack::default();
        stack.frames = frames;
        stack.site = self.snapshot.stacks.len() as u32;
        stack.labels = labels as u32;
        stack.metrics = metrics;
        self.snapshot.stacks.push(stack);
        self.snapshot.stats.samples_taken += 1;
    }

    /// Adds a live sample of a stack.
    pub(crate) fn live(&mut self, stack: u32, size: u64, interval: f32, birth_ms: u64) {
        let live = &mut self.snapshot.live;
        live.id.push(live.id.len() as u64 + 1);
        live.stack.push(stack);
        live.size.push(size);
        live.interval.push(interval);
        live.birth_ms.push(birth_ms);
        live.birth_tick.push(1);
        live.reallocs.push(0);
        self.snapshot.stats.samples_live += 1;
    }

    /// Adds a frame to the snapshot.
    pub(crate) fn frame(&mut self, module: u32, address: u64) -> u32 {
        self.snapshot.frames.module.push(module);
        self.snapshot.frames.address.push(address);
        self.snapshot.frames.function.push(address);
        self.snapshot.frames.address.len() as u32 - 1
    }

    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        heapdrift::dump::write(&self.snapshot, &path).unwrap();
        path
    }
}

/// The result of a command.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the command.
pub(crate) fn heapdrift<I>(args: I) -> Ran
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    ran(command().args(args).output().unwrap())
}

/// The command, with a cache folder for these tests.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapdrift"));
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        status: output.status.code().expect("the command is not ended by a signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command that must succeed without messages, and returns its output.
pub(crate) fn output_of(args: &[&str]) -> String {
    let ran = heapdrift(args);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
    ran.out
}
