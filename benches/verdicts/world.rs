//! The service that a scenario runs in: its clock, its random numbers, its objects, and the truth.
//!
//! Invariant: recording is paused except while a site allocates, so that the suite's own
//! bookkeeping is not in the profile.

use heapdrift::Profiler;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, Pareto, Poisson};

use crate::sites::{Block, CALLERS, HANDLERS, Site};

/// Mean bytes between samples. It is small, so that objects of a few hundred bytes need few
/// allocations per sample.
pub(crate) const INTERVAL_BYTES: u64 = 4096;

/// A service in which the lifetime of every object is known.
pub(crate) struct World<'a> {
    profiler: &'a Profiler,
    pub(crate) rng: StdRng,
    tick: u32,
    ticks: u32,
    /// The blocks to free at the beginning of each tick.
    calendar: Vec<Vec<Block>>,
    /// The blocks that live to the end of the run.
    kept: Vec<Block>,
    plants: Vec<Plant>,
    /// The plant that is allocating.
    plant: usize,
    /// The tick, from 1, in which a bounded plant was first full.
    full_at: Option<u32>,
}

/// The counts of a planted site, or of a group of sites that leak as one.
#[derive(Clone, Debug)]
struct Plant {
    handler: usize,
    births: u64,
    leaked: u64,
    leaked_bytes: f64,
    /// Leaked samples at the end of each tick so far.
    curve: Vec<f64>,
}

/// The truth about a plant at the end.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    /// Leaked bytes divided by the sampling interval, at the end of each tick.
    pub(crate) leaked_samples: Vec<f64>,
    /// Leaked objects over all objects of the site.
    pub(crate) share: f64,
}

impl<'a> World<'a> {
    pub(crate) fn new(profiler: &'a Profiler, seed: u64, ticks: u32, plants: usize) -> Self {
        profiler.pause();
        let mut rng = StdRng::seed_from_u64(seed);
        let plants = (0..plants)
            .map(|_| Plant {
                handler: rng.random_range(0..HANDLERS.len()),
                births: 0,
                leaked: 0,
                leaked_bytes: 0.0,
                curve: Vec::new(),
            })
            .collect();
        Self {
            profiler,
            rng,
            tick: 0,
            ticks,
            calendar: (0..=ticks).map(|_| Vec::new()).collect(),
            kept: Vec::new(),
            plants,
            plant: 0,
            full_at: None,
        }
    }

    /// The current tick, from 0.
    pub(crate) fn tick(&self) -> u32 {
        self.tick
    }

    /// How much of the run is over: 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        f64::from(self.tick) / f64::from(self.ticks)
    }

    /// The number of ticks in this share of the run.
    pub(crate) fn ticks_in(&self, share: f64) -> f64 {
        share * f64::from(self.ticks)
    }

    /// Selects the plant that allocates from now on.
    pub(crate) fn select(&mut self, plant: usize) {
        self.plant = plant;
    }

    /// Notes that the plant has freed something because it is full, or has all it will ever have.
    pub(crate) fn full(&mut self) {
        self.full_at.get_or_insert(self.tick + 1);
    }

    /// The tick, from 1, in which the plant was first full.
    pub(crate) fn full_at(&self) -> Option<u32> {
        self.full_at
    }

    /// Frees the blocks that are due in this tick; called before anything is allocated in it.
    pub(crate) fn free_due(&mut self) {
        self.calendar[self.tick as usize].clear();
    }

    /// Ends the tick.
    pub(crate) fn advance(&mut self) {
        for plant in &mut self.plants {
            plant.curve.push(plant.leaked_bytes / INTERVAL_BYTES as f64);
        }
        self.tick += 1;
    }

    pub(crate) fn truths(&self) -> impl Iterator<Item = Truth> {
        self.plants.iter().map(|plant| Truth {
            leaked_samples: plant.curve.clone(),
            share: plant.leaked as f64 / plant.births.max(1) as f64,
        })
    }

    /// Runs `work` with recording on, below the plant's handler.
    pub(crate) fn serve<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let mut work = Some(work);
        let mut result = None;
        self.profiler.resume();
        HANDLERS[self.plants[self.plant].handler](&mut || result = work.take().map(|work| work()));
        self.profiler.pause();
        result.expect("a handler calls its work once")
    }

    /// Like [`serve`](Self::serve), with one of the many callers in between.
    pub(crate) fn serve_through<T>(&mut self, caller: usize, work: impl FnOnce() -> T) -> T {
        let mut work = Some(work);
        let mut result = None;
        self.serve(|| CALLERS[caller](&mut || result = work.take().map(|work| work())));
        result.expect("a caller calls its work once")
    }

    /// Runs a site that belongs to no plant, with recording on.
    pub(crate) fn allocate_elsewhere(&self, site: Site, size: usize) -> Block {
        self.profiler.resume();
        let block = site(size);
        self.profiler.pause();
        block
    }

    /// Allocates one object of the plant at this site.
    pub(crate) fn allocate(&mut self, site: Site, size: usize) -> Block {
        self.born(1);
        self.serve(|| site(size))
    }

    /// Notes that the plant allocated this many objects.
    pub(crate) fn born(&mut self, objects: u64) {
        self.plants[self.plant].births += objects;
    }

    /// Notes that this many objects and bytes of the plant will never be freed.
    pub(crate) fn leaked(&mut self, objects: u64, bytes: usize) {
        let plant = &mut self.plants[self.plant];
        plant.leaked += objects;
        plant.leaked_bytes += bytes as f64;
    }

    /// Notes that the plant is one container, which now holds this many bytes and will only grow.
    pub(crate) fn container_holds(&mut self, bytes: usize) {
        let plant = &mut self.plants[self.plant];
        (plant.births, plant.leaked, plant.leaked_bytes) = (1, 1, bytes as f64);
    }

    /// Leaks the block: it is never used again, and never freed during the run.
    pub(crate) fn leak(&mut self, block: Block) {
        self.leaked(1, block.capacity());
        self.keep(block);
    }

    /// Keeps the block in use to the end of the run.
    pub(crate) fn keep(&mut self, block: Block) {
        self.kept.push(block);
    }

    /// Frees the block after this many ticks, from a random moment within the current one.
    pub(crate) fn free_after(&mut self, block: Block, ticks: f64) {
        let death = f64::from(self.tick) + self.rng.random::<f64>() + ticks;
        if death >= f64::from(self.ticks) {
            self.keep(block);
        } else if death as u32 > self.tick {
            self.calendar[death as usize].push(block);
        }
    }

    /// Draws how many objects of this size are allocated in a tick, at a rate of `samples` per
    /// tick.
    pub(crate) fn births(&mut self, samples: f64, size: usize) -> u64 {
        self.poisson(samples * INTERVAL_BYTES as f64 / size as f64)
    }

    /// A Poisson-distributed number with this mean.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        Poisson::new(mean).map_or(0, |poisson| poisson.sample(&mut self.rng) as u64)
    }

    /// An exponentially distributed time with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        Exp::new(1.0 / mean).map_or(0.0, |exponential| exponential.sample(&mut self.rng))
    }

    /// A heavy-tailed time with a finite mean (three times the shortest) and an infinite variance.
    pub(crate) fn pareto(&mut self, shortest: f64) -> f64 {
        Pareto::new(shortest, 1.5).map_or(0.0, |pareto| pareto.sample(&mut self.rng))
    }

    /// A uniformly distributed number.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        self.rng.random_range(low..high)
    }

    /// A log-uniformly distributed number.
    pub(crate) fn log_between(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// A size of which few objects make a sample.
    pub(crate) fn size(&mut self) -> usize {
        self.log_between(256.0, 4096.0) as usize
    }

    /// An index below `count`.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count)
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }
}
