//! Merges the dumps of many processes, hosts or builds into one.
//!
//! What is added up and what is kept:
//! - The estimates of equal stacks add up, and so do their variances, because processes are
//!   independent. Stacks are equal if they have the same labels and the same addresses in modules
//!   of the same build-id, wherever those were loaded.
//! - Each live sample keeps its own interval and so its weight: dumps of different intervals mix.
//!   Its id becomes a hash of the session and the id, so two merges of the same processes at two
//!   times can be compared object by object, like two dumps of one process.
//! - Beyond [`MAX_LIVE_SAMPLES`] live samples are thinned by raising the interval: a sample is kept
//!   if a uniform number derived from its id is below its new probability. The sums of the stacks
//!   were taken before and lose nothing.
//! - The peak is the sum of the peaks. Processes peak at different times, so it is an upper bound
//!   on what they held at once.
//! - The merged recording begins with the first process and is taken with the last dump. Birth
//!   ticks stay those of each process and do not form a series, so leak reports are left out.
//! - Sites are numbered anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use heapdrift::snapshot::{Function, LiveSample, Module, Stack, Symbols};
use heapdrift::{Snapshot, Stats};

use crate::intern::intern;
use crate::numbers::sum;

/// The most live samples in a merged dump: about 30 MB of the 100 MB that a dump may unpack to.
pub const MAX_LIVE_SAMPLES: usize = 500_000;

/// Adds dumps up, one at a time.
#[derive(Debug, Default)]
pub struct Merge {
    merged: Snapshot,
    dumps: u64,
    sessions: BTreeSet<u64>,
    modules: HashMap<(String, String), u32>,
    frames: HashMap<(u32, u64), u32>,
    names: FrameNames,
    label_sets: HashMap<BTreeMap<String, String>, u32>,
    stacks: HashMap<(Vec<u32>, u32, bool), u32>,
    live: Vec<MergedSample>,
    /// The smallest interval of the live samples.
    interval: f64,
    thinned: u64,
}

/// A live sample and the number that decides whether it is kept.
#[derive(Clone, Copy, Debug)]
struct MergedSample {
    sample: LiveSample,
    /// Time of birth in milliseconds since the Unix epoch.
    born_unix_ms: u64,
    /// Uniform between 0 and the probability with which the sample was taken.
    draw: f64,
}

/// The names of the frames, as far as dumps have them.
#[derive(Debug, Default)]
struct FrameNames {
    of_frame: Vec<Vec<u32>>,
    functions: Vec<Function>,
    index: HashMap<Function, u32>,
}

impl Merge {
    /// Adds a dump. `origin` is a label for its stacks, and replaces a label of the same key.
    pub fn add(&mut self, dump: &Snapshot, origin: Option<(&str, &str)>) {
        self.add_process(dump);
        let modules: Vec<u32> = dump.modules.iter().map(|module| self.module(module)).collect();
        let frames = self.frames(dump, &modules);
        let label_sets = MergedLabels { dump, origin, known: vec![None; dump.label_sets.len()] };
        let stacks = self.stacks(dump, &frames, label_sets);
        let first = self.live.len();
        for mut sample in dump.live.iter() {
            sample.id = hash_pair(dump.process.session, sample.id);
            sample.stack = stacks[sample.stack as usize];
            let draw = uniform_of(sample.id) * sample.probability();
            let born_unix_ms = dump.process.started_unix_ms.saturating_add(sample.birth_ms);
            self.live.push(MergedSample { sample, born_unix_ms, draw });
        }
        self.thin(first);
        // A damaged dump may have absurd intervals, with which the loop would never end.
        while self.live.len() > MAX_LIVE_SAMPLES && self.interval < 1e30 {
            self.interval = self.interval.max(512.0) * 2.0;
            self.thin(0);
        }
    }

    /// The merged dump.
    pub fn finish(mut self) -> Snapshot {
        let started = self.merged.process.started_unix_ms;
        self.merged.taken.uptime_ms = self.merged.taken.unix_ms.saturating_sub(started);
        self.merged.taken.reason = "merge".to_owned();
        if self.sessions.len() > 1 {
            self.merged.process.session = self.sessions.iter().fold(0, |a, &b| hash_pair(a, b));
        }
        for MergedSample { mut sample, born_unix_ms, .. } in self.live {
            sample.birth_ms = born_unix_ms.saturating_sub(started);
            self.merged.live.push(sample);
        }
        let stats = &mut self.merged.stats;
        stats.samples_live = self.merged.live.len() as u64;
        stats.samples_thinned += self.thinned;
        stats.stacks = self.merged.stacks.len() as u64;
        self.merged.frames.symbols = self.names.finish();
        if self.dumps > 1 {
            separate_ranges(&mut self.merged.modules);
        }
        self.merged
    }

    /// Adds what a dump says of its process as a whole.
    fn add_process(&mut self, dump: &Snapshot) {
        let merged = &mut self.merged;
        self.dumps += 1;
        self.sessions.insert(dump.process.session);
        if self.dumps == 1 {
            merged.process = dump.process.clone();
            merged.taken = dump.taken.clone();
            merged.sampling = dump.sampling.clone();
            merged.unwinder = dump.unwinder.clone();
            merged.stats = dump.stats;
            merged.totals = dump.totals;
            return;
        }
        let (process, other) = (&mut merged.process, &dump.process);
        process.started_unix_ms = process.started_unix_ms.min(other.started_unix_ms);
        if process.id != other.id {
            process.id = 0;
        }
        if process.host != other.host {
            process.host.clear();
        }
        let others = " and others";
        if process.executable.trim_end_matches(others) != other.executable
            && !process.executable.ends_with(others)
        {
            process.executable.push_str(others);
        }
        merged.taken.unix_ms = merged.taken.unix_ms.max(dump.taken.unix_ms);
        merged.taken.sequence = merged.taken.sequence.max(dump.taken.sequence);
        merged.taken.tick = merged.taken.tick.max(dump.taken.tick);
        let (sampling, other) = (&mut merged.sampling, &dump.sampling);
        sampling.interval_bytes = sampling.interval_bytes.max(other.interval_bytes);
        sampling.initial_interval_bytes =
            sampling.initial_interval_bytes.max(other.initial_interval_bytes);
        sampling.seed = sampling.seed.filter(|_| sampling.seed == other.seed);
        for part in dump.unwinder.split('+') {
            if !merged.unwinder.split('+').any(|known| known == part) {
                merged.unwinder = format!("{}+{part}", merged.unwinder);
            }
        }
        merged.stats = sum_stats(&merged.stats, &dump.stats);
        merged.totals = sum::metrics(&merged.totals, &dump.totals);
    }

    fn module(&mut self, module: &Module) -> u32 {
        // Another container may have the same file at another path.
        let key = match module.build_id.as_str() {
            "" => (module.path.clone(), String::new()),
            id => (String::new(), id.to_owned()),
        };
        let modules = &mut self.merged.modules;
        *self.modules.entry(key).or_insert_with(|| {
            modules.push(module.clone());
            modules.len() as u32 - 1
        })
    }

    /// For each frame of `dump`, its index in the merged dump.
    fn frames(&mut self, dump: &Snapshot, modules: &[u32]) -> Vec<u32> {
        let columns = dump.frames.module.iter().zip(&dump.frames.address);
        let frames: Vec<u32> = columns
            .zip(&dump.frames.function)
            .map(|((&module, &address), &function)| {
                let module = modules[module as usize];
                let merged = &mut self.merged.frames;
                *self.frames.entry((module, address)).or_insert_with(|| {
                    merged.module.push(module);
                    merged.address.push(address);
                    merged.function.push(function);
                    merged.address.len() as u32 - 1
                })
            })
            .collect();
        self.names.of_frame.resize(self.merged.frames.address.len(), Vec::new());
        if let Some(symbols) = &dump.frames.symbols {
            self.names.add(symbols, &frames);
        }
        frames
    }

    /// Adds the stacks of `dump`. Returns for each its index in the merged dump.
    fn stacks(
        &mut self,
        dump: &Snapshot,
        frames: &[u32],
        mut label_sets: MergedLabels<'_>,
    ) -> Vec<u32> {
        let mut stacks = Vec::with_capacity(dump.stacks.len());
        for stack in &dump.stacks {
            let labels = label_sets.of(stack.labels, |set| {
                intern(&mut self.label_sets, &mut self.merged.label_sets, set)
            });
            let path: Vec<u32> = stack.frames.iter().map(|&f| frames[f as usize]).collect();
            let merged = &mut self.merged.stacks;
            let next = merged.len() as u32;
            let at = *self.stacks.entry((path, labels, stack.truncated)).or_insert_with_key(
                |(path, ..)| {
                    let mut new = Stack::default();
                    (new.frames, new.labels) = (path.clone(), labels);
                    (new.truncated, new.site) = (stack.truncated, next);
                    merged.push(new);
                    next
                },
            );
            let sum = &mut merged[at as usize].metrics;
            *sum = sum::metrics(sum, &stack.metrics);
            stacks.push(at);
        }
        stacks
    }

    /// Thins the samples from index `first` on to the common interval.
    fn thin(&mut self, first: usize) {
        let (interval, before) = (self.interval, self.live.len());
        let mut kept = first;
        for at in first..before {
            let mut drawn = self.live[at];
            if f64::from(drawn.sample.interval) < interval {
                drawn.sample.interval = interval as f32;
                if drawn.draw >= drawn.sample.probability() {
                    continue;
                }
            }
            self.live[kept] = drawn;
            kept += 1;
        }
        self.live.truncate(kept);
        self.thinned += (before - kept) as u64;
    }
}

/// The label sets of one dump and their indices in the merged dump.
struct MergedLabels<'a> {
    dump: &'a Snapshot,
    origin: Option<(&'a str, &'a str)>,
    /// The merged index of each set that a stack has used so far.
    known: Vec<Option<u32>>,
}

impl MergedLabels<'_> {
    fn of(&mut self, set: u32, intern: impl FnOnce(BTreeMap<String, String>) -> u32) -> u32 {
        let known = &mut self.known[set as usize];
        *known.get_or_insert_with(|| {
            let mut labels = self.dump.label_sets[set as usize].clone();
            if let Some((key, value)) = self.origin {
                labels.insert(key.to_owned(), value.to_owned());
            }
            intern(labels)
        })
    }
}

impl FrameNames {
    /// Adds the names of those frames that have none yet.
    fn add(&mut self, symbols: &Symbols, frames: &[u32]) {
        for (&frame, functions) in frames.iter().zip(symbols.of_frames()) {
            if self.of_frame[frame as usize].is_empty() {
                self.of_frame[frame as usize] = functions
                    .iter()
                    .map(|&function| {
                        let function = symbols.functions[function as usize].clone();
                        intern(&mut self.index, &mut self.functions, function)
                    })
                    .collect();
            }
        }
    }

    fn finish(self) -> Option<Symbols> {
        if self.functions.is_empty() {
            return None;
        }
        let mut symbols = Symbols::default();
        symbols.count = self.of_frame.iter().map(|functions| functions.len() as u32).collect();
        symbols.function = self.of_frame.concat();
        symbols.functions = self.functions;
        Some(symbols)
    }
}

/// A hash of two numbers by the finalizer of splitmix64. It must stay the same on every machine and
/// in every release, so that merges made on different days can be compared.
fn hash_pair(a: u64, b: u64) -> u64 {
    let spread = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    spread(spread(a) ^ b)
}

/// A uniform number from 0 (inclusive) to 1 (exclusive), derived from an id.
fn uniform_of(id: u64) -> f64 {
    (hash_pair(0, id) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Moves modules so that their address ranges do not overlap. Different processes had different
/// modules at the same addresses, but formats with absolute addresses need them to be distinct.
fn separate_ranges(modules: &mut [Module]) {
    const STEP: u64 = 1 << 21;
    let mut occupied: Vec<(u64, u64)> = Vec::new();
    let mut highest = 0_u64;
    for module in modules.iter_mut().filter(|module| module.start < module.end) {
        let overlaps = |&(start, end): &(u64, u64)| module.start < end && start < module.end;
        if occupied.iter().any(overlaps)
            && let Some(start) = highest.checked_next_multiple_of(STEP)
            && let Some(end) = start.checked_add(module.end - module.start)
        {
            let up = start.wrapping_sub(module.start);
            module.load_bias = module.load_bias.wrapping_add(up);
            (module.start, module.end) = (start, end);
        }
        occupied.push((module.start, module.end));
        highest = highest.max(module.end);
    }
}

fn sum_stats(a: &Stats, b: &Stats) -> Stats {
    let mut sum = *a;
    let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
    add(&mut sum.samples_taken, b.samples_taken);
    add(&mut sum.samples_live, b.samples_live);
    add(&mut sum.samples_thinned, b.samples_thinned);
    add(&mut sum.thinnings, b.thinnings);
    add(&mut sum.dropped_records, b.dropped_records);
    add(&mut sum.dropped_slots, b.dropped_slots);
    add(&mut sum.dropped_stacks, b.dropped_stacks);
    add(&mut sum.dropped_unwinds, b.dropped_unwinds);
    add(&mut sum.dropped_labels, b.dropped_labels);
    add(&mut sum.dropped_dumps, b.dropped_dumps);
    add(&mut sum.skipped_ticks, b.skipped_ticks);
    add(&mut sum.skipped_dumps, b.skipped_dumps);
    add(&mut sum.unwound_framehop, b.unwound_framehop);
    add(&mut sum.unwound_backtrace, b.unwound_backtrace);
    add(&mut sum.truncated_stacks, b.truncated_stacks);
    add(&mut sum.profiler_bytes, b.profiler_bytes);
    add(&mut sum.max_profiler_bytes, b.max_profiler_bytes);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(build_id: &str, start: u64, end: u64) -> Module {
        let mut module = Module::named("/app");
        module.build_id = build_id.to_owned();
        (module.start, module.end, module.load_bias) = (start, end, start);
        module
    }

    #[test]
    fn modules_of_different_builds_get_distinct_ranges() {
        let mut modules =
            [module("a", 0x1000, 0x9000), module("b", 0x1000, 0x5000), module("c", 0xa000, 0xb000)];
        separate_ranges(&mut modules);
        assert_eq!((modules[0].start, modules[2].start), (0x1000, 0xa000));
        assert_eq!((modules[1].start, modules[1].end), (0x20_0000, 0x20_4000));
        assert_eq!(modules[1].load_bias, 0x20_0000);
        let mut absurd = [module("a", 0, u64::MAX), module("b", 0, u64::MAX)];
        separate_ranges(&mut absurd);
        assert_eq!(absurd[1].end, u64::MAX, "a module that cannot be moved stays");
    }

    #[test]
    fn absurd_intervals_end_in_a_dump_that_can_be_read() {
        let mut dump = Snapshot::default();
        dump.label_sets.push(BTreeMap::new());
        dump.stacks.push(Stack::default());
        let many = MAX_LIVE_SAMPLES + 1;
        dump.live.id = (0..many as u64).collect();
        (dump.live.stack, dump.live.reallocs) = (vec![0; many], vec![0; many]);
        (dump.live.size, dump.live.birth_ms) = (vec![u64::MAX; many], vec![u64::MAX; many]);
        dump.live.birth_tick = vec![u32::MAX; many];
        dump.live.interval = vec![f32::MAX; many];
        let mut merge = Merge::default();
        merge.add(&dump, None);
        assert_eq!(merge.finish().validate(), Ok(()));
    }

    /// 200,000 objects of 100 bytes and 200,000 of 10,000 bytes are sampled at an interval of 64:
    /// 79% of the former and all of the latter. Thinning must keep their sum within four standard
    /// errors.
    #[test]
    fn thinning_does_not_bias_sums() {
        let mut dump = Snapshot::default();
        dump.label_sets.push(BTreeMap::new());
        dump.stacks.push(Stack::default());
        let mut merge = Merge::default();
        merge.add(&dump, None);
        let mut id = 0;
        let mut given = 0.0;
        for size in [100_u64, 10_000] {
            let mut sample = LiveSample::default();
            (sample.size, sample.interval) = (size, 64.0);
            for _ in 0..200_000 {
                id += 1;
                sample.id = id;
                if uniform_of(hash_pair(7, id)) < sample.probability() {
                    given += size as f64 / sample.probability();
                    dump.live.push(sample);
                }
            }
        }
        for session in 1..=4 {
            dump.process.session = session;
            merge.add(&dump, None);
        }
        let thinned = merge.finish();
        assert!(thinned.live.len() <= MAX_LIVE_SAMPLES, "{}", thinned.live.len());
        assert!(thinned.live.len() > MAX_LIVE_SAMPLES / 8, "{}", thinned.live.len());
        let (mut sum, mut variance) = (0.0, 0.0);
        for sample in thinned.live.iter() {
            let p = sample.probability();
            sum += sample.size as f64 / p;
            variance += (sample.size as f64 / p).powi(2) * (1.0 - p);
        }
        let sigmas = (sum - 4.0 * given) / variance.sqrt();
        println!("{} samples, off by {sigmas:.2} standard errors", thinned.live.len());
        assert!(sigmas.abs() < 4.0, "{sigmas}");
    }
}
