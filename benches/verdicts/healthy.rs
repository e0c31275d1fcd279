//! Scenarios without a leak, each known to mislead some detector.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::f64::consts::TAU;
use std::hint::black_box;

use rand_distr::{Distribution, Zipf};

use crate::scenario::{Behaviour, Scenario};
use crate::sites::{Block, Site, site};
use crate::world::{INTERVAL_BYTES, World};

pub(crate) static ALL: &[Scenario] = &[
    Scenario::healthy("churn", churn),
    Scenario::healthy("long_lived", long_lived),
    Scenario::healthy("heavy_tailed", heavy_tailed),
    Scenario::healthy("one_off", one_off),
    Scenario::healthy("warm_up", warm_up),
    Scenario::healthy("ring", ring),
    Scenario::healthy("lru", lru).long(),
    Scenario::healthy("lru_random_eviction", lru_random_eviction).long(),
    Scenario::healthy("ramp_of_load", ramp_of_load),
    Scenario::healthy("step_of_load", step_of_load),
    Scenario::healthy("periodic_load", periodic_load),
    Scenario::healthy("daily_wave", daily_wave),
    Scenario::healthy("sawtooth", sawtooth),
    Scenario::healthy("batch_jobs", batch_jobs),
    Scenario::healthy("pool_high_water", pool_high_water),
    Scenario::healthy("interned_strings", interned_strings),
    Scenario::healthy("lazy_tables", lazy_tables),
    Scenario::healthy("thread_pool", thread_pool),
    Scenario::healthy("session_store", session_store),
    Scenario::healthy("growing_buffer", growing_buffer),
    Scenario::healthy("generational_cache", generational_cache),
    Scenario::healthy("retry_queue", retry_queue),
    Scenario::healthy("config_reload", config_reload),
];

/// The number of objects that make this many samples.
fn objects(samples: f64, size: usize) -> usize {
    (samples * INTERVAL_BYTES as f64 / size as f64) as usize
}

/// Allocates this many samples in this tick, with exponential lifetimes.
fn born(world: &mut World<'_>, site: Site, samples: f64, size: usize, life: f64) {
    for _ in 0..world.births(samples, size) {
        let block = world.allocate(site, size);
        let life = world.exponential(life);
        world.free_after(block, life);
    }
}

fn churn(world: &mut World<'_>) -> Behaviour {
    site!(healthy_churn);
    let (rate, size) = (world.log_between(5.0, 30.0), world.size());
    let life = world.log_between(0.3, 3.0);
    Behaviour::new(move |world| born(world, healthy_churn, rate, size, life))
}

/// The mean lifetime is a tenth of the run, so that much of it passes before the live set is
/// steady.
fn long_lived(world: &mut World<'_>) -> Behaviour {
    site!(healthy_long_lived);
    let life = world.between(8.0, 20.0);
    let (rate, size) = (world.between(60.0, 200.0) / life, world.size());
    Behaviour::new(move |world| born(world, healthy_long_lived, rate, size, life))
}

fn heavy_tailed(world: &mut World<'_>) -> Behaviour {
    site!(healthy_heavy_tailed);
    let (rate, size) = (world.between(3.0, 12.0), world.size());
    let shortest = world.between(0.3, 2.0);
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let block = world.allocate(healthy_heavy_tailed, size);
            let life = world.pareto(shortest);
            world.free_after(block, life);
        }
    })
}

/// Everything is allocated in the first ticks, and kept.
fn one_off(world: &mut World<'_>) -> Behaviour {
    site!(healthy_one_off);
    let (rate, size) = (world.between(30.0, 70.0), world.size());
    Behaviour::new(move |world| {
        if world.tick() < 3 {
            for _ in 0..world.births(rate, size) {
                let block = world.allocate(healthy_one_off, size);
                world.keep(block);
            }
        }
    })
}

/// Less is allocated in each tick, and everything is kept.
fn warm_up(world: &mut World<'_>) -> Behaviour {
    site!(healthy_warm_up);
    let total = world.between(80.0, 200.0);
    let (constant, size) = (world.between(5.0, 15.0), world.size());
    Behaviour::new(move |world| {
        let now = total / constant * (-f64::from(world.tick()) / constant).exp();
        for _ in 0..world.births(now, size) {
            let block = world.allocate(healthy_warm_up, size);
            world.keep(block);
        }
    })
}

/// A buffer of the last objects, first in, first out.
fn ring(world: &mut World<'_>) -> Behaviour {
    site!(healthy_ring);
    let samples = world.between(60.0, 200.0);
    let share = world.between(0.15, 0.5);
    let (fill, size) = (world.ticks_in(share), world.size());
    let capacity = objects(samples, size);
    let mut ring = VecDeque::new();
    Behaviour::new(move |world| {
        for _ in 0..world.births(samples / fill, size) {
            let block = world.allocate(healthy_ring, size);
            ring.push_back(block);
            if ring.len() > capacity {
                ring.pop_front();
                world.full();
            }
        }
    })
    .bounded()
}

/// A least-recently-used cache, with two ways to evict an entry.
struct Cache {
    entries: HashMap<u64, (Block, u64)>,
    /// Keys by the time of their last use.
    uses: BTreeMap<u64, u64>,
    now: u64,
}

impl Cache {
    fn new() -> Self {
        Self { entries: HashMap::new(), uses: BTreeMap::new(), now: 0 }
    }

    /// Uses the entry, which is made if it is missing.
    fn touch(&mut self, key: u64, make: impl FnOnce() -> Block) {
        self.now += 1;
        let entry = self.entries.entry(key).or_insert_with(|| (make(), 0));
        self.uses.remove(&entry.1);
        entry.1 = self.now;
        self.uses.insert(self.now, key);
    }

    fn evict_oldest(&mut self) {
        if let Some((_, key)) = self.uses.pop_first() {
            self.entries.remove(&key);
        }
    }

    fn evict_any(&mut self) {
        // The hasher has random keys, so the order of the entries is random.
        if let Some(key) = self.entries.keys().next().copied()
            && let Some((_, used)) = self.entries.remove(&key)
        {
            self.uses.remove(&used);
        }
    }
}

/// A cache that fills in about half of the run, under skewed accesses.
fn cache(world: &mut World<'_>, site: Site, evict: fn(&mut Cache)) -> Behaviour {
    /// The number of keys for each entry of the cache.
    const UNIVERSE: f64 = 20.0;
    let samples = world.between(80.0, 200.0);
    let share = world.between(0.25, 0.5);
    let (fill, size) = (world.ticks_in(share), world.size());
    let capacity = objects(samples, size);
    let zipf = Zipf::new(capacity as f64 * UNIVERSE, 0.8).ok();
    // Under this skew about a third of the accesses hit while it fills.
    let accesses = 1.5 * capacity as f64 / fill;
    let mut cache = Cache::new();
    Behaviour::new(move |world| {
        for _ in 0..world.poisson(accesses) {
            let key = zipf.map_or(0, |zipf| zipf.sample(&mut world.rng) as u64);
            cache.touch(key, || world.allocate(site, size));
            if cache.entries.len() > capacity {
                evict(&mut cache);
                world.full();
            }
        }
    })
    .bounded()
}

fn lru(world: &mut World<'_>) -> Behaviour {
    site!(healthy_lru);
    cache(world, healthy_lru, Cache::evict_oldest)
}

fn lru_random_eviction(world: &mut World<'_>) -> Behaviour {
    site!(healthy_lru_random);
    cache(world, healthy_lru_random, Cache::evict_any)
}

/// The load rises tenfold over the whole run.
fn ramp_of_load(world: &mut World<'_>) -> Behaviour {
    site!(healthy_ramp);
    let life = world.between(1.0, 6.0);
    let (rate, size) = (world.between(40.0, 200.0) / life, world.size());
    Behaviour::new(move |world| {
        let load = 0.1 + 0.9 * world.progress();
        born(world, healthy_ramp, rate * load, size, life);
    })
}

/// The load triples from one tick to the next.
fn step_of_load(world: &mut World<'_>) -> Behaviour {
    site!(healthy_step);
    let life = world.between(2.0, 8.0);
    let (rate, size) = (world.between(60.0, 200.0) / life, world.size());
    let step = world.between(0.3, 0.7);
    Behaviour::new(move |world| {
        let load = if world.progress() < step { 1.0 / 3.0 } else { 1.0 };
        born(world, healthy_step, rate * load, size, life);
    })
}

/// The load is on in the first half of each period, and off in the second.
fn periodic_load(world: &mut World<'_>) -> Behaviour {
    site!(healthy_periodic);
    let life = world.between(1.0, 6.0);
    let (rate, size) = (world.between(50.0, 200.0) / life, world.size());
    let period = world.between(8.0, 25.0);
    Behaviour::new(move |world| {
        if f64::from(world.tick()) % period < period / 2.0 {
            born(world, healthy_periodic, rate, size, life);
        }
    })
}

fn daily_wave(world: &mut World<'_>) -> Behaviour {
    site!(healthy_daily_wave);
    let life = world.between(2.0, 8.0);
    let (rate, size) = (world.between(40.0, 120.0) / life, world.size());
    let period = world.between(40.0, 90.0);
    Behaviour::new(move |world| {
        let load = 1.0 - 0.9 * (f64::from(world.tick()) * TAU / period).cos();
        born(world, healthy_daily_wave, rate * load, size, life);
    })
}

/// Objects pile up, and are then all freed at once.
fn sawtooth(world: &mut World<'_>) -> Behaviour {
    site!(healthy_sawtooth);
    let period = world.between(8.0, 40.0) as u32;
    let (rate, size) = (world.between(60.0, 200.0) / f64::from(period), world.size());
    let mut pile = Vec::new();
    Behaviour::new(move |world| {
        if world.tick().is_multiple_of(period) && !pile.is_empty() {
            pile.clear();
            world.full();
        }
        for _ in 0..world.births(rate, size) {
            pile.push(world.allocate(healthy_sawtooth, size));
        }
    })
    .bounded()
}

/// After long pauses, a job needs much memory for a few ticks.
fn batch_jobs(world: &mut World<'_>) -> Behaviour {
    site!(healthy_batch);
    let period = world.between(15.0, 40.0) as u32;
    let length = world.between(3.0, 8.0) as u32;
    let (rate, size) = (world.between(80.0, 200.0) / f64::from(length), world.size());
    let mut job = Vec::new();
    Behaviour::new(move |world| match world.tick() % period {
        phase if phase < length => {
            for _ in 0..world.births(rate, size) {
                job.push(world.allocate(healthy_batch, size));
            }
        }
        phase if phase == length => job.clear(),
        _ => {}
    })
}

/// Objects are given back to the pool, which keeps as many as were ever needed at once.
fn pool_high_water(world: &mut World<'_>) -> Behaviour {
    site!(healthy_pool);
    let size = world.size();
    let mean = objects(world.between(60.0, 160.0), size) as f64 / 2.0;
    let period = world.between(20.0, 50.0);
    let mut pool = Vec::new();
    Behaviour::new(move |world| {
        let load = 1.0 - 0.9 * (f64::from(world.tick()) * TAU / period).cos();
        let needed = world.poisson(mean * load) as usize;
        while pool.len() < needed {
            pool.push(world.allocate(healthy_pool, size));
        }
        // The pool is full after the first peak; later peaks exceed it only by little.
        if f64::from(world.tick()) > period / 2.0 + 2.0 {
            world.full();
        }
    })
    .bounded()
}

/// Each of a fixed number of strings is kept when it first occurs.
fn interned_strings(world: &mut World<'_>) -> Behaviour {
    site!(healthy_interned);
    let size = world.size();
    let strings = objects(world.between(80.0, 200.0), size);
    let share = world.between(0.06, 0.15);
    let constant = world.ticks_in(share);
    let mut interned = vec![false; strings];
    let mut missing = strings;
    Behaviour::new(move |world| {
        for _ in 0..world.poisson(strings as f64 / constant) {
            let string = world.index(strings);
            if !std::mem::replace(&mut interned[string], true) {
                let block = world.allocate(healthy_interned, size);
                world.keep(block);
                missing -= 1;
            }
        }
        // All but a twentieth are interned.
        if missing * 20 <= strings {
            world.full();
        }
    })
    .bounded()
}

/// Tables that are built at their first use.
fn lazy_tables(world: &mut World<'_>) -> Behaviour {
    site!(healthy_lazy_table);
    let (size, latest) = (world.size(), world.between(0.2, 0.5));
    let tables = 10 + world.index(30);
    let parts = objects(world.between(100.0, 200.0) / tables as f64, size).max(1);
    let last = world.ticks_in(latest);
    let mut first_uses: Vec<f64> = (0..tables).map(|_| world.between(0.0, last)).collect();
    Behaviour::new(move |world| {
        let now = f64::from(world.tick());
        let due = first_uses.extract_if(.., |first_use| *first_use < now).count();
        for _ in 0..due * parts {
            let block = world.allocate(healthy_lazy_table, size);
            world.keep(block);
        }
        if first_uses.is_empty() {
            world.full();
        }
    })
    .bounded()
}

/// Threads start as the load rises, and stay; each real thread allocates buffers of its own.
fn thread_pool(world: &mut World<'_>) -> Behaviour {
    site!(healthy_thread_buffer);
    let (size, latest) = (world.size(), world.between(0.2, 0.5));
    let threads = 8 + world.index(16);
    let buffers = objects(world.between(80.0, 200.0) / threads as f64, size).max(1);
    let last = world.ticks_in(latest);
    let mut starts: Vec<f64> = (0..threads).map(|_| world.between(0.0, last)).collect();
    Behaviour::new(move |world| {
        let now = f64::from(world.tick());
        let due = starts.extract_if(.., |start| *start < now).count();
        for _ in 0..due {
            let start = || (0..buffers).map(|_| healthy_thread_buffer(size)).collect::<Vec<_>>();
            let held = world.serve(|| std::thread::scope(|scope| scope.spawn(start).join()));
            // A thread that panics prints a message itself.
            held.into_iter().flatten().for_each(|buffer| world.keep(buffer));
        }
        if starts.is_empty() {
            world.full();
        }
    })
    .bounded()
}

/// Sessions that expire some time after their last use.
fn session_store(world: &mut World<'_>) -> Behaviour {
    site!(healthy_session);
    let timeout = world.between(4.0, 12.0);
    let (rate, size) = (world.between(50.0, 150.0) / (1.5 * timeout), world.size());
    Behaviour::new(move |world| {
        for _ in 0..world.births(rate, size) {
            let block = world.allocate(healthy_session, size);
            // Half of the users come back once or more, each time before the timeout.
            let mut life = timeout;
            while world.chance(0.5) {
                life += world.between(0.0, timeout);
            }
            world.free_after(block, life);
        }
    })
}

/// One buffer that grows to the size of the largest message, and is reused.
fn growing_buffer(world: &mut World<'_>) -> Behaviour {
    #[inline(never)]
    fn healthy_growing_buffer(buffer: &mut Vec<u8>, message: usize) {
        buffer.clear();
        buffer.reserve(message);
        black_box(buffer.capacity());
    }
    let largest = world.log_between(200e3, 2e6);
    let share = world.between(0.15, 0.4);
    let fill = world.ticks_in(share);
    let mut buffer = Vec::new();
    Behaviour::new(move |world| {
        let share = (f64::from(world.tick() + 1) / fill).min(1.0);
        world.serve(|| healthy_growing_buffer(&mut buffer, (share * largest) as usize));
        if share == 1.0 {
            world.full();
        }
    })
    .bounded()
}

/// A cache of two generations, of which the old one is dropped as a whole.
fn generational_cache(world: &mut World<'_>) -> Behaviour {
    site!(healthy_generation);
    let period = world.between(10.0, 30.0) as u32;
    let (rate, size) = (world.between(40.0, 100.0) / f64::from(period), world.size());
    let (mut young, mut old) = (Vec::new(), Vec::new());
    Behaviour::new(move |world| {
        if world.tick().is_multiple_of(period) {
            if !old.is_empty() {
                world.full();
            }
            old = std::mem::take(&mut young);
        }
        for _ in 0..world.births(rate, size) {
            young.push(world.allocate(healthy_generation, size));
        }
    })
    .bounded()
}

/// A queue that is drained at once, except during an outage in the middle of the run; its backlog
/// is drained afterwards.
fn retry_queue(world: &mut World<'_>) -> Behaviour {
    site!(healthy_retry);
    let begin = world.between(0.35, 0.5);
    let end = begin + world.between(0.1, 0.2);
    let outage = world.ticks_in(end - begin);
    let (rate, size) = (world.between(80.0, 200.0) / outage, world.size());
    let mut queue = VecDeque::new();
    Behaviour::new(move |world| {
        let is_down = (begin..end).contains(&world.progress());
        for _ in 0..world.births(rate, size) {
            queue.push_back(world.allocate(healthy_retry, size));
        }
        if !is_down {
            // It is drained three times as fast as it is filled.
            for _ in 0..world.births(3.0 * rate, size) {
                queue.pop_front();
            }
        }
    })
}

/// A large structure that is built again now and then, and replaces the old one.
fn config_reload(world: &mut World<'_>) -> Behaviour {
    site!(healthy_config);
    let size = world.size();
    let entries = objects(world.between(60.0, 180.0), size);
    let chance = world.between(0.02, 0.08);
    let mut config = Vec::new();
    Behaviour::new(move |world| {
        if world.tick() == 0 || world.chance(chance) {
            // The new one may be larger or smaller by a tenth.
            let entries = (entries as f64 * world.between(0.9, 1.1)) as usize;
            config = (0..entries).map(|_| world.allocate(healthy_config, size)).collect::<Vec<_>>();
        }
        black_box(&config);
    })
}
