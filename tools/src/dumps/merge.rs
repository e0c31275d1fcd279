//! Many dumps as one: processes, hosts, builds.
//!
//! What is summed and what is kept:
//! - estimates of equal stacks add up, and so do their variances: processes are independent. Stacks are
//!   equal if they have the same addresses in modules of the same build-id, wherever those were loaded,
//!   and the same labels;
//! - each live sample keeps its own interval, and with it its weight, so dumps of different intervals
//!   mix. Its identity becomes a hash of session and identity: two merges of the same processes,
//!   taken at two times, can be compared object by object like two dumps of one process;
//! - beyond [`MAX_LIVE_SAMPLES`] live samples are thinned, by raising the interval: a sample is kept
//!   if a number that is drawn from its identity is below its new probability. The sums of the stacks
//!   were taken before, and lose nothing;
//! - the peak is the sum of peaks: processes reach theirs at different times, so it is a bound on what
//!   all had at once;
//! - times are those of a recording that began with the first and was taken with the last. Ticks of
//!   births stay those of each process, and so are no series: leak reports are left out;
//! - sites are numbered anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use heapdrift::snapshot::{Function, LiveSample, Module, Stack, Symbols};
use heapdrift::{Snapshot, Stats};

use crate::intern::intern;
use crate::numbers::sum;

/// The most live samples that a merged dump has: about 30 MB of the 100 that a dump may unpack to.
pub const MAX_LIVE_SAMPLES: usize = 500_000;

/// Adds dumps up, one at a time.
#[derive(Debug, Default)]
pub struct Merge {
    merged: Snapshot,
    dumps: u64,
    sessions: BTreeSet<u64>,
    modules: HashMap<(String, String), u32>,
    frames: HashMap<(u32, u64), u32>,
    names: Names,
    label_sets: HashMap<BTreeMap<String, String>, u32>,
    stacks: HashMap<(Vec<u32>, u32, bool), u32>,
    live: Vec<Drawn>,
    /// Samples are kept at this interval at least.
    interval: f64,
    thinned: u64,
}

/// A live sample, with what decides whether it is kept.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    sample: LiveSample,
    /// Birth in milliseconds since the Unix epoch.
    born_unix_ms: u64,
    /// Uniform below the probability with which the sample was taken.
    draw: f64,
}

/// The names of the frames, where dumps have them.
#[derive(Debug, Default)]
struct Names {
    of_frame: Vec<Vec<u32>>,
    functions: Vec<Function>,
    index: HashMap<Function, u32>,
}

impl Merge {
    /// Adds a dump. `origin` is a label for its stacks; where a stack has that label already, this
    /// one takes its place.
    pub fn add(&mut self, dump: &Snapshot, origin: Option<(&str, &str)>) {
        self.add_facts(dump);
        let modules: Vec<u32> = dump.modules.iter().map(|module| self.module(module)).collect();
        let frames = self.frames(dump, &modules);
        let label_sets = LabelSets { dump, origin, known: vec![None; dump.label_sets.len()] };
        let stacks = self.stacks(dump, &frames, label_sets);
        let first = self.live.len();
        for mut sample in dump.live.iter() {
            sample.id = mixed(dump.process.session, sample.id);
            sample.stack = stacks[sample.stack as usize];
            let draw = uniform(sample.id) * sample.probability();
            let born_unix_ms = dump.process.started_unix_ms.saturating_add(sample.birth_ms);
            self.live.push(Drawn { sample, born_unix_ms, draw });
        }
        self.thin(first);
        // Intervals beyond all measure, as a damaged dump may have, would have no end.
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
            self.merged.process.session = self.sessions.iter().fold(0, |a, &b| mixed(a, b));
        }
        for Drawn { mut sample, born_unix_ms, .. } in self.live {
            sample.birth_ms = born_unix_ms.saturating_sub(started);
            self.merged.live.push(sample);
        }
        let stats = &mut self.merged.stats;
        stats.samples_live = self.merged.live.len() as u64;
        stats.samples_thinned += self.thinned;
        stats.stacks = self.merged.stacks.len() as u64;
        self.merged.frames.symbols = self.names.finish();
        if self.dumps > 1 {
            set_apart(&mut self.merged.modules);
        }
        self.merged
    }

    /// What is known of the processes as a whole.
    fn add_facts(&mut self, dump: &Snapshot) {
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
        merged.stats = sum(&merged.stats, &dump.stats);
        merged.totals = sum::metrics(&merged.totals, &dump.totals);
    }

    fn module(&mut self, module: &Module) -> u32 {
        // The same file may be elsewhere in another container.
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

    /// Of each frame of the dump, that of the merged one.
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

    /// Of each stack of the dump, that of the merged one, which has the sum of both.
    fn stacks(
        &mut self,
        dump: &Snapshot,
        frames: &[u32],
        mut label_sets: LabelSets<'_>,
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

    /// Brings the samples from `first` on to the interval of all.
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

/// The sets of labels of one dump, as they are in the merged one.
struct LabelSets<'a> {
    dump: &'a Snapshot,
    origin: Option<(&'a str, &'a str)>,
    /// Those that a stack has had so far.
    known: Vec<Option<u32>>,
}

impl LabelSets<'_> {
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

impl Names {
    /// Takes over names for frames that have none yet.
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

/// A number for two, spread evenly (the finalizer of splitmix64): the same on every machine and in
/// every release, so that merges of different days can be compared.
fn mixed(a: u64, b: u64) -> u64 {
    let spread = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    spread(spread(a) ^ b)
}

/// A number from 0 up to 1 that goes with an identity.
fn uniform(id: u64) -> f64 {
    (mixed(0, id) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Modules of different builds were mapped at the same addresses, in different processes. Formats
/// with absolute addresses need them apart: what overlaps moves up, as a whole.
fn set_apart(modules: &mut [Module]) {
    const STEP: u64 = 1 << 21;
    let mut taken: Vec<(u64, u64)> = Vec::new();
    let mut highest = 0_u64;
    for module in modules.iter_mut().filter(|module| module.start < module.end) {
        let overlaps = |&(start, end): &(u64, u64)| module.start < end && start < module.end;
        if taken.iter().any(overlaps)
            && let Some(start) = highest.checked_next_multiple_of(STEP)
            && let Some(end) = start.checked_add(module.end - module.start)
        {
            let up = start.wrapping_sub(module.start);
            module.load_bias = module.load_bias.wrapping_add(up);
            (module.start, module.end) = (start, end);
        }
        taken.push((module.start, module.end));
        highest = highest.max(module.end);
    }
}

fn sum(a: &Stats, b: &Stats) -> Stats {
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
    fn modules_of_different_builds_are_set_apart() {
        let mut modules =
            [module("a", 0x1000, 0x9000), module("b", 0x1000, 0x5000), module("c", 0xa000, 0xb000)];
        set_apart(&mut modules);
        assert_eq!((modules[0].start, modules[2].start), (0x1000, 0xa000));
        assert_eq!((modules[1].start, modules[1].end), (0x20_0000, 0x20_4000));
        assert_eq!(modules[1].load_bias, 0x20_0000);
        let mut absurd = [module("a", 0, u64::MAX), module("b", 0, u64::MAX)];
        set_apart(&mut absurd);
        assert_eq!(absurd[1].end, u64::MAX, "what cannot be moved stays");
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

    /// 200,000 objects of 100 bytes and as many of 10,000, all sampled with an interval of 64: 79%
    /// and all of them. Thinning must leave their sum as it is, within four standard errors.
    #[test]
    fn thinning_leaves_sums_without_bias() {
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
                if uniform(mixed(7, id)) < sample.probability() {
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
        println!("{} samples, {sigmas:.2} standard errors off", thinned.live.len());
        assert!(sigmas.abs() < 4.0, "{sigmas}");
    }
}
