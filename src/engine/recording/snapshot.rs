//! Turns the tables of the session into plain data.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use super::live::Live;
use crate::config::Config;
use crate::engine::recording::live_set::SampledObject;
use crate::engine::recording::sampler::{Interval, Weight};
use crate::engine::recording::stack_table::{SiteId, SiteView};
use crate::engine::recording::sys;
use crate::engine::recording::unwind::{ModuleInfo, Modules};
use crate::hash::{NumberMap, mix};
use crate::snapshot::{
    Frames, LiveSamples, Metrics, Module, Process, Sampling, Snapshot, Stack, Taken,
};
use crate::{Estimate, Stats};

/// What does not change during a session.
#[derive(Debug)]
pub(super) struct SessionInfo {
    /// A random number that identifies the session, and seeds it when no seed was configured.
    pub(super) session: u64,
    executable: String,
    started_unix_ms: u64,
    initial_interval: Interval,
    seed: Option<u64>,
}

impl SessionInfo {
    pub(super) fn new(config: &Config) -> Self {
        let executable = std::env::current_exe().unwrap_or_default();
        Self {
            session: random_number(),
            executable: executable.to_string_lossy().into_owned(),
            started_unix_ms: unix_ms(),
            initial_interval: Interval::from_bytes(config.sample_interval_bytes),
            seed: config.seed,
        }
    }
}

/// A number that differs between sessions: the standard library's hasher keys are random, and the
/// time and the process id are mixed in.
fn random_number() -> u64 {
    use std::hash::BuildHasher;
    let random = std::hash::RandomState::new().hash_one(unix_ms());
    mix(random ^ u64::from(std::process::id()))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

impl Live<'_> {
    /// Takes a snapshot. Threads go on sampling meanwhile.
    pub(super) fn snapshot(
        &self,
        session_info: &SessionInfo,
        sequence: u64,
        reason: &str,
    ) -> Snapshot {
        let mut live = LiveSamples::default();
        let mut sums: Vec<Weight> = Vec::new();
        let mut stack_of_site: Vec<u32> = Vec::new();
        for sample in (0..self.records.created()).filter_map(|record| self.records.read(record)) {
            let SampledObject { site, size, interval, .. } = sample.object;
            let site = site as usize;
            if sums.len() <= site {
                sums.resize(site + 1, Weight::default());
            }
            add(&mut sums[site], Weight::new(size, interval));
            // This holds the site for now; it is replaced by the index of the stack once that is
            // known.
            live.push(sample.to_live(self.started_ms));
        }
        // The sites are read after the samples, because a site is written before any sample of it.
        let views = self.stacks.view();
        self.unwinder.modules().refresh();
        let mut resolver = Resolver::new(self.unwinder.modules());
        let mut label_sets = Interner::new(BTreeMap::new());
        let mut stacks = Vec::new();
        for (site, view) in views.iter().enumerate() {
            stack_of_site.push(stacks.len() as u32);
            let Some(view) = view else { continue };
            stacks.push(Stack {
                frames: resolver.resolve(view),
                site: site as u32,
                truncated: view.truncated || site == SiteId::LOST.0 as usize,
                labels: label_sets.intern(view.labels, |set| self.labels.view(set)),
                metrics: metrics(sums.get(site).copied().unwrap_or_default(), view),
            });
        }
        live.stack.iter_mut().for_each(|stack| *stack = stack_of_site[*stack as usize]);
        let stats = self.stats();
        let control = self.control();
        let (modules, frames) = resolver.finish();
        Snapshot {
            process: Process {
                id: std::process::id(),
                host: sys::host_name(),
                executable: session_info.executable.clone(),
                session: session_info.session,
                started_unix_ms: session_info.started_unix_ms,
                heapdrift_version: env!("CARGO_PKG_VERSION").into(),
            },
            taken: Taken {
                unix_ms: unix_ms(),
                uptime_ms: sys::monotonic_ms().saturating_sub(self.started_ms),
                sequence,
                // The running tick has not ended.
                tick: control.tick() - 1,
                reason: reason.into(),
            },
            sampling: Sampling {
                interval_bytes: control.interval().bytes().into(),
                initial_interval_bytes: session_info.initial_interval.bytes().into(),
                seed: session_info.seed,
                state: if control.is_paused() { "paused" } else { "active" }.into(),
            },
            unwinder: unwinder(&stats).into(),
            stats,
            totals: totals(&stacks),
            modules,
            frames,
            label_sets: label_sets.values,
            stacks,
            live,
            leaks: None,
        }
    }
}

fn unwinder(stats: &Stats) -> &'static str {
    match (stats.unwound_framehop > 0, stats.unwound_backtrace > 0) {
        (true, true) => "framehop+backtrace",
        (true, false) => "framehop",
        (false, true) => "backtrace",
        (false, false) => "none",
    }
}

fn add(sum: &mut Weight, weight: Weight) {
    sum.count += weight.count;
    sum.bytes += weight.bytes;
    sum.count_variance += weight.count_variance;
    sum.bytes_variance += weight.bytes_variance;
}

fn metrics(live: Weight, view: &SiteView) -> Metrics {
    let bytes = |w: Weight| Estimate::from_sums(w.bytes, w.bytes_variance);
    let count = |w: Weight| Estimate::from_sums(w.count, w.count_variance);
    Metrics {
        live_bytes: bytes(live),
        live_count: count(live),
        alloc_bytes: bytes(view.alloc),
        alloc_count: count(view.alloc),
        peak_bytes: bytes(view.peak),
        peak_count: count(view.peak),
    }
}

fn totals(stacks: &[Stack]) -> Metrics {
    let sum = |of: fn(&Metrics) -> Estimate| stacks.iter().map(|s| of(&s.metrics)).sum();
    Metrics {
        live_bytes: sum(|m| m.live_bytes),
        live_count: sum(|m| m.live_count),
        alloc_bytes: sum(|m| m.alloc_bytes),
        alloc_count: sum(|m| m.alloc_count),
        peak_bytes: sum(|m| m.peak_bytes),
        peak_count: sum(|m| m.peak_count),
    }
}

/// Numbers items in the order in which they are first seen.
struct Interner<T> {
    numbers: HashMap<u32, u32>,
    values: Vec<T>,
}

impl<T> Interner<T> {
    /// Creates an interner in which key 0 has number 0 and the value `first`.
    fn new(first: T) -> Self {
        Self { numbers: HashMap::from([(0, 0)]), values: vec![first] }
    }

    fn intern(&mut self, key: u32, value: impl FnOnce(u32) -> T) -> u32 {
        *self.numbers.entry(key).or_insert_with(|| {
            self.values.push(value(key));
            self.values.len() as u32 - 1
        })
    }
}

/// Turns addresses into modules and relative addresses, each of them once.
struct Resolver<'a> {
    modules: &'a Modules,
    resolved: NumberMap<(u64, u32), u32>,
    frames: Frames,
    modules_seen: Interner<Module>,
}

/// The key of code outside every module in `Resolver::modules_seen`.
const UNKNOWN: u32 = u32::MAX;

impl<'a> Resolver<'a> {
    fn new(modules: &'a Modules) -> Self {
        // The executable is module 0 in the registry and in the snapshot.
        let executable = module(modules.info(0));
        Self {
            modules,
            resolved: NumberMap::default(),
            frames: Frames::default(),
            modules_seen: Interner::new(executable),
        }
    }

    fn resolve(&mut self, view: &SiteView) -> Vec<u32> {
        view.frames.iter().map(|address| self.frame(*address, view.module_mark)).collect()
    }

    fn frame(&mut self, address: u64, mark: u32) -> u32 {
        if let Some(frame) = self.resolved.get(&(address, mark)) {
            return *frame;
        }
        // Without a mark, no frame of the stack lies in a dynamic module, or that could not be
        // determined.
        let limit = if mark == 0 { u32::MAX } else { mark + 1 };
        let found = self.modules.newest_at(address, limit);
        let bias = found.map_or(0, |found| self.modules.bias(found));
        let number = self.modules_seen.intern(found.unwrap_or(UNKNOWN), |found| match found {
            UNKNOWN => Module::named("[unknown]"),
            found => module(self.modules.info(found)),
        });
        let frame = self.frames.address.len() as u32;
        self.frames.module.push(number);
        self.frames.address.push(address.wrapping_sub(bias));
        let function = found.and_then(|found| self.modules.function_start(found, address));
        let function = function.unwrap_or(address);
        self.frames.function.push(function.wrapping_sub(bias));
        self.resolved.insert((address, mark), frame);
        frame
    }

    fn finish(self) -> (Vec<Module>, Frames) {
        (self.modules_seen.values, self.frames)
    }
}

pub(super) fn module(info: ModuleInfo) -> Module {
    Module {
        path: String::from_utf8_lossy(&info.path).into_owned(),
        build_id: Module::build_id_from_bytes(&info.build_id),
        load_bias: info.bias,
        start: info.range.start,
        end: info.range.end,
        file_offset: info.file_offset,
        code: (!info.code.is_empty()).then_some(info.code),
    }
}
