//! The service that a scenario runs in: its clock, its random numbers, what it holds, and the truth.
//!
//! Invariant: recording is paused but while a site allocates, so that nothing of the suite's own
//! bookkeeping is in the profile.

use heapdrift::Profiler;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp, Pareto, Poisson};

use crate::sites::{Block, CALLERS, HANDLERS, Site};

/// Mean bytes between samples. Objects of a few hundred bytes up to about this need few allocations
/// for a sample.
pub(crate) const INTERVAL_BYTES: u64 = 4096;

/// A service of which every object's fate is known.
pub(crate) struct World<'a> {
    profiler: &'a Profiler,
    pub(crate) rng: StdRng,
    tick: u32,
    ticks: u32,
    /// What dies at the beginning of each tick.
    calendar: Vec<Vec<Block>>,
    /// What nobody lets go of before the end of the run.
    kept: Vec<Block>,
    plants: Vec<Plant>,
    /// The plant that allocates now.
    plant: usize,
    /// The tick, from 1, in which a bounded plant was first full.
    full_at: Option<u32>,
}

/// What is known of a planted site, or of a group of them that leak as one.
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
    /// Leaked bytes over the sampling interval, at the end of each tick.
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

    /// The tick that is going on, from 0.
    pub(crate) fn tick(&self) -> u32 {
        self.tick
    }

    /// How much of the run is over: 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        f64::from(self.tick) / f64::from(self.ticks)
    }

    /// Ticks that are this share of the run.
    pub(crate) fn part(&self, share: f64) -> f64 {
        share * f64::from(self.ticks)
    }

    /// The plant that allocates from now on.
    pub(crate) fn select(&mut self, plant: usize) {
        self.plant = plant;
    }

    /// Notes that the plant has let go of something because it is full, or has all it will ever have.
    pub(crate) fn full(&mut self) {
        self.full_at.get_or_insert(self.tick + 1);
    }

    /// The tick, from 1, in which the plant was first full.
    pub(crate) fn full_at(&self) -> Option<u32> {
        self.full_at
    }

    /// What dies in this tick dies; called before anything is born in it.
    pub(crate) fn bury(&mut self) {
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

    /// Runs `work` recorded, under the plant's handler.
    pub(crate) fn serve<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let mut work = Some(work);
        let mut result = None;
        self.profiler.resume();
        HANDLERS[self.plants[self.plant].handler](&mut || result = work.take().map(|work| work()));
        self.profiler.pause();
        result.expect("a handler calls its work once")
    }

    /// As [`serve`](Self::serve), with one of the many callers in between.
    pub(crate) fn serve_through<T>(&mut self, caller: usize, work: impl FnOnce() -> T) -> T {
        let mut work = Some(work);
        let mut result = None;
        self.serve(|| CALLERS[caller](&mut || result = work.take().map(|work| work())));
        result.expect("a caller calls its work once")
    }

    /// Runs the site of someone else: recorded, and in nobody's truth.
    pub(crate) fn allocate_elsewhere(&self, site: Site, size: usize) -> Block {
        self.profiler.resume();
        let block = site(size);
        self.profiler.pause();
        block
    }

    /// One object of the plant, from this site.
    pub(crate) fn allocate(&mut self, site: Site, size: usize) -> Block {
        self.born(1);
        self.serve(|| site(size))
    }

    /// Notes that the plant allocated this many objects.
    pub(crate) fn born(&mut self, objects: u64) {
        self.plants[self.plant].births += objects;
    }

    /// Notes that the plant's objects of so many bytes will never be let go of.
    pub(crate) fn leaked(&mut self, objects: u64, bytes: usize) {
        let plant = &mut self.plants[self.plant];
        plant.leaked += objects;
        plant.leaked_bytes += bytes as f64;
    }

    /// Notes that one container of the plant now holds so many bytes and will hold ever more.
    pub(crate) fn container_holds(&mut self, bytes: usize) {
        let plant = &mut self.plants[self.plant];
        (plant.births, plant.leaked, plant.leaked_bytes) = (1, 1, bytes as f64);
    }

    /// The block is forgotten: never used again and never freed.
    pub(crate) fn leak(&mut self, block: Block) {
        self.leaked(1, block.capacity());
        self.keep(block);
    }

    /// The block is in use to the end.
    pub(crate) fn keep(&mut self, block: Block) {
        self.kept.push(block);
    }

    /// The block lives for so many ticks from a moment within this one.
    pub(crate) fn free_after(&mut self, block: Block, ticks: f64) {
        let death = f64::from(self.tick) + self.rng.random::<f64>() + ticks;
        if death >= f64::from(self.ticks) {
            self.keep(block);
        } else if death as u32 > self.tick {
            self.calendar[death as usize].push(block);
        }
    }

    /// How many objects of this size are born in a tick at a rate of so many samples a tick.
    pub(crate) fn births(&mut self, samples: f64, size: usize) -> u64 {
        self.poisson(samples * INTERVAL_BYTES as f64 / size as f64)
    }

    /// A Poisson number with this mean.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        Poisson::new(mean).map_or(0, |poisson| poisson.sample(&mut self.rng) as u64)
    }

    /// An exponentially distributed time with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        Exp::new(1.0 / mean).map_or(0.0, |exponential| exponential.sample(&mut self.rng))
    }

    /// A heavy-tailed time: of finite mean (three times the shortest) and infinite variance.
    pub(crate) fn pareto(&mut self, shortest: f64) -> f64 {
        Pareto::new(shortest, 1.5).map_or(0.0, |pareto| pareto.sample(&mut self.rng))
    }

    /// A number between, evenly.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        self.rng.random_range(low..high)
    }

    /// A number between, evenly on a logarithmic scale.
    pub(crate) fn log_between(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// A size of which a sample needs few objects.
    pub(crate) fn size(&mut self) -> usize {
        self.log_between(256.0, 4096.0) as usize
    }

    /// An index below `count`.
    pub(crate) fn index(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count)
    }

    /// Whether a coin falls on this side.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }
}
