//! The 300 sites around the planted one, each with a healthy behaviour that is drawn from the seed.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use crate::sites::{Block, HANDLERS, INNOCENT, Site};
use crate::world::{INTERVAL_BYTES, World};

/// A healthy site.
pub(crate) struct Innocent {
    site: Site,
    handler: usize,
    size: usize,
    /// Samples allocated in a tick, on average.
    rate: f64,
    habit: Habit,
    /// The tick, from 1, in which a bounded structure was first full.
    full_at: Option<u32>,
}

enum Habit {
    /// Exponential lifetimes with this mean, in ticks.
    Churn { life: f64 },
    /// Short lifetimes mostly; one in ten is far longer.
    Mixed { life: f64 },
    /// Pareto lifetimes.
    HeavyTailed { shortest: f64 },
    /// Everything is allocated at the start, and kept.
    OneOff { until: u32 },
    /// The last `capacity` objects are kept.
    Ring { capacity: usize, blocks: VecDeque<Block> },
    /// Objects pile up, and are then freed at once.
    Sawtooth { period: u32, phase: u32, pile: Vec<Block> },
    /// A batch of objects once a period.
    Batch { period: u32, phase: u32, life: f64 },
    /// A load that rises and falls.
    Wave { period: f64, life: f64 },
    /// A pool that grows to its capacity, and keeps it.
    Pool { capacity: usize, blocks: Vec<Block> },
}

/// The innocent sites of a run.
pub(crate) fn draw(world: &mut World<'_>) -> Vec<Innocent> {
    INNOCENT
        .iter()
        .enumerate()
        .map(|(number, site)| Innocent::draw(world, *site, number % HANDLERS.len()))
        .collect()
}

impl Innocent {
    fn draw(world: &mut World<'_>, site: Site, handler: usize) -> Self {
        let size = world.log_between(256.0, 8192.0) as usize;
        let live = world.log_between(2.0, 150.0);
        let objects =
            |samples: f64| ((samples * INTERVAL_BYTES as f64 / size as f64) as usize).max(1);
        let (rate, habit) = match world.index(100) {
            0..30 => {
                let life = world.log_between(0.2, 3.0);
                ((live / life).min(8.0), Habit::Churn { life })
            }
            30..45 => {
                let life = world.log_between(3.0, 15.0);
                (live / life, Habit::Churn { life })
            }
            45..53 => {
                let life = world.log_between(5.0, 15.0);
                ((10.0 * live / life).min(6.0), Habit::Mixed { life })
            }
            53..60 => {
                let shortest = world.log_between(0.3, 2.0);
                ((live / (3.0 * shortest)).min(6.0), Habit::HeavyTailed { shortest })
            }
            60..75 => {
                let until = 1 + world.index(3) as u32;
                (live / f64::from(until), Habit::OneOff { until })
            }
            75..81 => {
                let fill = world.log_between(2.0, 20.0);
                let ring = Habit::Ring { capacity: objects(live), blocks: VecDeque::new() };
                (live / fill, ring)
            }
            81..86 => {
                let period = world.between(4.0, 20.0) as u32;
                let phase = world.index(period as usize) as u32;
                (live / f64::from(period), Habit::Sawtooth { period, phase, pile: Vec::new() })
            }
            86..91 => {
                let period = world.between(5.0, 25.0) as u32;
                let phase = world.index(period as usize) as u32;
                let life = world.between(0.5, 3.0);
                (live, Habit::Batch { period, phase, life })
            }
            91..96 => {
                let period = world.between(20.0, 80.0);
                let life = world.log_between(0.5, 5.0);
                ((live / life).min(8.0), Habit::Wave { period, life })
            }
            _ => {
                let fill = world.log_between(2.0, 20.0);
                let pool = Habit::Pool { capacity: objects(live), blocks: Vec::new() };
                (live / fill, pool)
            }
        };
        Self { site, handler, size, rate, habit, full_at: None }
    }

    pub(crate) fn is_bounded(&self) -> bool {
        matches!(self.habit, Habit::Ring { .. } | Habit::Sawtooth { .. } | Habit::Pool { .. })
    }

    /// The tick, from 1, in which it was first full.
    pub(crate) fn full_at(&self) -> Option<u32> {
        self.full_at
    }

    /// Does the work of one tick.
    pub(crate) fn act(&mut self, world: &mut World<'_>) {
        let handler = HANDLERS[self.handler];
        handler(&mut || self.serve(world));
    }

    fn serve(&mut self, world: &mut World<'_>) {
        let Self { site, size, .. } = *self;
        let tick = world.tick();
        let load = match &mut self.habit {
            Habit::OneOff { until } => f64::from(u8::from(tick < *until)),
            Habit::Batch { period, phase, .. } => {
                f64::from(u8::from((tick + *phase).is_multiple_of(*period)))
            }
            Habit::Wave { period, .. } => 1.0 + 0.8 * (f64::from(tick) * TAU / *period).sin(),
            Habit::Sawtooth { period, phase, pile } => {
                if (tick + *phase).is_multiple_of(*period) && !pile.is_empty() {
                    pile.clear();
                    self.full_at.get_or_insert(tick + 1);
                }
                1.0
            }
            _ => 1.0,
        };
        for _ in 0..world.births(self.rate * load, size) {
            let block = world.allocate_elsewhere(site, size);
            let life = match &mut self.habit {
                Habit::Churn { life } | Habit::Batch { life, .. } | Habit::Wave { life, .. } => {
                    world.exponential(*life)
                }
                Habit::Mixed { life } => {
                    let mean = if world.chance(0.1) { *life } else { 0.3 };
                    world.exponential(mean)
                }
                Habit::HeavyTailed { shortest } => world.pareto(*shortest),
                Habit::OneOff { .. } => f64::INFINITY,
                Habit::Ring { capacity, blocks } => {
                    blocks.push_back(block);
                    if blocks.len() > *capacity {
                        blocks.pop_front();
                        self.full_at.get_or_insert(tick + 1);
                    }
                    continue;
                }
                Habit::Sawtooth { pile, .. } => {
                    pile.push(block);
                    continue;
                }
                Habit::Pool { capacity, blocks } => {
                    if blocks.len() < *capacity {
                        blocks.push(block);
                    } else {
                        self.full_at.get_or_insert(tick + 1);
                    }
                    continue;
                }
            };
            world.free_after(block, life);
        }
    }
}
