//! What was seen up to the last tick, of each call site.

use super::container::Containers;
use super::survival::Deaths;
use crate::diff::{self, Cohorts};

/// Ticks that an object must have lived, and objects that must go in one tick, for a site to count
/// as emptied if they were most of it.
const HELD_TICKS: u32 = 3;
const MIN_GONE: u32 = 4;

/// Births and deaths so far.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The live set of the last tick.
    pub(super) cohorts: Cohorts,
    last_tick: u32,
    /// By site, as all that follows.
    pub(super) deaths: Vec<Deaths>,
    pub(super) born: Vec<u32>,
    /// The last tick in which most of what a site had held for a while went at once.
    pub(super) emptied_at: Vec<u32>,
    pub(super) containers: Containers,
}

impl History {
    /// Adds what happened since the last tick to the evidence of each site.
    pub(super) fn record(&mut self, tick: u32, cohorts: Cohorts, sites: usize) {
        if self.deaths.len() < sites {
            self.deaths.resize(sites, Deaths::default());
            self.born.resize(sites, 0);
            self.emptied_at.resize(sites, 0);
        }
        let passed = tick.saturating_sub(self.last_tick);
        self.deaths.iter_mut().for_each(|deaths| deaths.decay(passed, tick));
        let mut held = HeldObjects::default();
        for change in diff::diff(&self.cohorts, &cohorts) {
            let site = change.site as usize;
            if held.site != site {
                held.record(tick, &mut self.emptied_at);
                held = HeldObjects { site, ..HeldObjects::default() };
            }
            if change.birth > self.last_tick {
                self.born[site] += change.after;
            } else if !change.resampled && change.before > change.after {
                // Born in the middle of its tick, on average.
                let age = (self.last_tick - change.birth) as f32 + 0.5;
                self.deaths[site].record(age, change.before - change.after, tick);
            }
            if change.birth + HELD_TICKS <= self.last_tick && !change.resampled {
                held.before += change.before;
                held.gone += change.before.saturating_sub(change.after);
            }
        }
        held.record(tick, &mut self.emptied_at);
        self.cohorts = cohorts;
        self.last_tick = tick;
    }
}

/// What a site had held for a while at the last tick, and how much of it is gone.
#[derive(Default)]
struct HeldObjects {
    site: usize,
    before: u32,
    gone: u32,
}

impl HeldObjects {
    fn record(&self, tick: u32, emptied_at: &mut [u32]) {
        if self.gone >= MIN_GONE && 2 * self.gone >= self.before {
            emptied_at[self.site] = tick;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Site 0 after each tick, by how many of each birth are alive.
    fn emptied(ticks: &[&[(u32, u32)]]) -> u32 {
        let mut history = History::default();
        for (tick, alive) in ticks.iter().enumerate() {
            let mut cohorts = Cohorts::with_capacity(64);
            for (birth, alive) in *alive {
                (0..*alive).for_each(|_| cohorts.push(0, *birth, 1.0));
            }
            cohorts.sort();
            history.record(tick as u32 + 1, cohorts, 1);
        }
        history.emptied_at[0]
    }

    #[test]
    fn a_site_is_emptied_when_most_of_what_it_held_goes_at_once() {
        let held: &[(u32, u32)] = &[(1, 6), (2, 2)];
        assert_eq!(emptied(&[&[(1, 6)], held, held, held, held, &[(1, 2), (2, 1)]]), 6);
        assert_eq!(emptied(&[&[(1, 6)], held, held, held, held, &[(1, 4), (2, 1)]]), 0, "fewer");
        assert_eq!(emptied(&[&[(1, 9)], &[(2, 9)], &[(3, 9)], &[(4, 9)]]), 0, "churn");
    }

    #[test]
    fn old_objects_may_come_from_another_site() {
        // As `realloc` moves them: they keep the tick of their birth.
        let held: &[(u32, u32)] = &[(1, 6)];
        assert_eq!(emptied(&[held, held, held, held, held, &[(1, 9)]]), 0);
    }
}
