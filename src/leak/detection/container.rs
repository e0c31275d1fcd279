//! Containers that only grow: vectors and maps that nobody empties.
//!
//! Such a container is a handful of objects. Their number stays the same while their size goes up,
//! by `realloc` or by moving into a larger block, so ages and counts say nothing about it. But its
//! blocks are large enough to be sampled with near certainty, so their sizes are known exactly. And
//! a container that grows in proportion to time doubles again and again, each time after at most as
//! long as it has existed.

use crate::hash::NumberMap;
use crate::snapshot::LiveSample;

/// More objects than this are not treated as a container: their number can be tested.
const MAX_OBJECTS: u32 = 64;

/// The most containers that are watched: the largest ones.
const MAX_WATCHED: usize = 1024;

/// Growth by this factor counts as a step. Vectors and maps grow by doubling.
const STEP_FACTOR: f64 = 1.4;

/// Number of steps that a suspicion needs, and a confirmation.
const SUSPECT_STEPS: usize = 4;
const CONFIRM_STEPS: usize = 5;

/// What blocks belong to. A block that `realloc` has grown stays one object, wherever `realloc` was
/// called from. A container that moves into larger blocks allocates them at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Object(u64),
    Site(u32),
}

impl Owner {
    pub(super) fn of(sample: &LiveSample) -> Self {
        if sample.reallocs > 0 { Self::Object(sample.id) } else { Self::Site(sample.stack) }
    }
}

/// The large blocks of one owner at one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Blocks {
    pub(super) site: u32,
    pub(super) objects: u32,
    pub(super) bytes: u64,
}

/// The growth of the blocks of one owner.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Container {
    /// Mean size of a block in bytes at the last step.
    last_step_size: f64,
    /// The blocks at the last tick.
    pub(super) blocks: Blocks,
    /// The tick at which each step was seen, and the total bytes at that tick.
    pub(super) steps: Vec<(u32, u64)>,
}

/// What the steps of a container prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Growth {
    /// It does not grow, or has not grown for long.
    None,
    /// It has grown repeatedly.
    Suspect,
    /// It has grown for most of the time, and still grows.
    Confirmed,
}

impl Container {
    fn new(blocks: Blocks) -> Self {
        Self { last_step_size: mean_size(blocks), blocks, steps: Vec::new() }
    }

    fn observe(&mut self, tick: u32, blocks: Blocks) {
        let size = mean_size(blocks);
        if blocks.objects > 2 * self.blocks.objects || size < self.last_step_size * 0.6 {
            // The container was emptied, or these are the blocks of another one.
            *self = Self::new(blocks);
            return;
        }
        self.blocks = blocks;
        if size >= self.last_step_size * STEP_FACTOR {
            self.last_step_size = size;
            // Several doublings within one tick count as one step.
            self.steps.push((tick, blocks.bytes));
        }
    }

    /// Judges the steps so far.
    ///
    /// A container that grows in proportion to time takes its last step in the second half of the
    /// uptime, with a sixteenth of tolerance, and its steps span more than half of the time up to
    /// the last one.
    pub(super) fn growth(&self, uptime: u32) -> Growth {
        let (Some((first, _)), Some((last, _))) = (self.steps.first(), self.steps.last()) else {
            return Growth::None;
        };
        let is_sustained = *last > uptime / 2 - uptime / 16 && last - first >= last / 2;
        match self.steps.len() {
            _ if !is_sustained => Growth::None,
            CONFIRM_STEPS.. => Growth::Confirmed,
            SUSPECT_STEPS.. => Growth::Suspect,
            _ => Growth::None,
        }
    }

    /// Bytes gained per tick since the first step.
    pub(super) fn bytes_per_tick(&self, uptime: u32) -> f64 {
        self.steps.first().map_or(0.0, |(tick, bytes)| {
            self.blocks.bytes.saturating_sub(*bytes) as f64 / f64::from((uptime - tick).max(1))
        })
    }
}

fn mean_size(blocks: Blocks) -> f64 {
    blocks.bytes as f64 / f64::from(blocks.objects.max(1))
}

/// The containers of a session.
#[derive(Debug, Default)]
pub(super) struct Containers {
    watched: NumberMap<Owner, Container>,
}

impl Containers {
    /// Records all large blocks at the end of a tick.
    pub(super) fn observe(&mut self, tick: u32, blocks: &NumberMap<Owner, Blocks>) {
        let few = |blocks: &Blocks| (1..=MAX_OBJECTS).contains(&blocks.objects);
        self.watched.retain(|owner, _| blocks.get(owner).is_some_and(few));
        for (owner, blocks) in blocks.iter().filter(|(_, blocks)| few(blocks)) {
            match self.watched.get_mut(owner) {
                Some(container) => container.observe(tick, *blocks),
                None => drop(self.watched.insert(*owner, Container::new(*blocks))),
            }
        }
        if self.watched.len() > MAX_WATCHED {
            let mut sizes: Vec<u64> = self.watched.values().map(|c| c.blocks.bytes).collect();
            let (_, smallest, _) =
                sizes.select_nth_unstable_by_key(MAX_WATCHED - 1, |size| std::cmp::Reverse(*size));
            let smallest = *smallest;
            self.watched.retain(|_, container| container.blocks.bytes >= smallest);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Container> {
        self.watched.values()
    }

    /// The container allocated at this site that has grown most often.
    pub(super) fn of_site(&self, site: u32) -> Option<&Container> {
        self.iter().filter(|c| c.blocks.site == site).max_by_key(|c| c.steps.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(size: impl Fn(u32) -> u64, ticks: u32) -> Growth {
        let mut containers = Containers::default();
        for tick in 1..=ticks {
            let blocks = Blocks { site: 7, objects: 1, bytes: size(tick) };
            containers.observe(tick, &NumberMap::from_iter([(Owner::Object(3), blocks)]));
        }
        containers.of_site(7).unwrap().growth(ticks)
    }

    #[test]
    fn a_vector_that_only_grows_is_distinguished_from_one_that_has_reached_its_size() {
        let linear = |tick: u32| u64::from(tick * 1000).next_power_of_two();
        assert_eq!(growth(linear, 100), Growth::Confirmed);
        assert_eq!(
            growth(|tick| linear(tick.min(20)), 100),
            Growth::None,
            "it has reached its size"
        );
        assert_eq!(growth(|_| 1 << 20, 100), Growth::None);
        assert_eq!(
            growth(|tick| linear(tick % 25 + 1), 100),
            Growth::None,
            "it is emptied now and then"
        );
        let outage = |tick: u32| linear(tick.clamp(50, 70) - 40);
        assert_eq!(growth(outage, 100), Growth::None, "a queue during an outage");
    }
}
