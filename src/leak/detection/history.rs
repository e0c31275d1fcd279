//! What has been observed of each call site up to the last tick.

use super::container::Containers;
use super::survival::Deaths;
use crate::diff::{self, Cohorts};

/// A site counts as emptied if at least half of the objects that were [`HELD_TICKS`] old died in
/// one tick, and at least [`MIN_GONE`] objects.
const HELD_TICKS: u32 = 3;

/// See [`HELD_TICKS`].
const MIN_GONE: u32 = 4;

/// Births and deaths so far, by site.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The live set of the last tick.
    pub(super) cohorts: Cohorts,
    last_tick: u32,
    /// Deaths at each site.
    pub(super) deaths: Vec<Deaths>,
    /// Number of births seen at each site.
    pub(super) born: Vec<u32>,
    /// For each site the last tick in which it was emptied: most of the objects that it had held
    /// for a while died at once. 0 if there was none.
    pub(super) emptied_at: Vec<u32>,
    pub(super) containers: Containers,
}

impl History {
    /// Adds the births and deaths since the last tick. `cohorts` is the live set at the end of this
    /// tick, and `sites` the number of sites.
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
                // On average an object is born in the middle of its tick.
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

/// The objects that a site had held for [`HELD_TICKS`] at the last tick, and how many have died
/// since.
#[derive(Default)]
struct HeldObjects {
    site: usize,
    before: u32,
    gone: u32,
}

impl HeldObjects {
    /// Notes the tick if the site was emptied in it.
    fn record(&self, tick: u32, emptied_at: &mut [u32]) {
        if self.gone >= MIN_GONE && 2 * self.gone >= self.before {
            emptied_at[self.site] = tick;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last tick in which site 0 was emptied. For each tick the input lists the cohorts that
    /// are alive: tick of birth and number of objects.
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
    fn a_site_is_emptied_when_most_of_what_it_held_dies_in_one_tick() {
        let held: &[(u32, u32)] = &[(1, 6), (2, 2)];
        assert_eq!(emptied(&[&[(1, 6)], held, held, held, held, &[(1, 2), (2, 1)]]), 6);
        assert_eq!(
            emptied(&[&[(1, 6)], held, held, held, held, &[(1, 4), (2, 1)]]),
            0,
            "fewer than half died"
        );
        assert_eq!(
            emptied(&[&[(1, 9)], &[(2, 9)], &[(3, 9)], &[(4, 9)]]),
            0,
            "short-lived objects"
        );
    }

    #[test]
    fn old_objects_that_move_in_from_another_site_do_not_empty_a_site() {
        // `realloc` moves an object to another site, and keeps its tick of birth.
        let held: &[(u32, u32)] = &[(1, 6)];
        assert_eq!(emptied(&[held, held, held, held, held, &[(1, 9)]]), 0);
    }
}
