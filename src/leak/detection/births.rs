//! Birth times of the live objects: do more of them keep coming?
//!
//! Initialisation, a warm-up and a cache that fills to its bound also leave objects that never die,
//! but the births of those objects dry up. The objects that a leak leaves behind keep being born,
//! so their birth times are spread over the whole time since the leak began. The only requirement
//! on their rate is that it does not fade: a leak may follow the load, come in bursts or grow
//! worse.
//!
//! The birth times are kept as a histogram with a fixed number of bins, so that the histograms of
//! several sites can be added up.

use std::ops::Range;

/// The most bins that the uptime is divided into. No bin is shorter than a tick.
const BINS: usize = 64;

/// Number of bins in use at this uptime.
fn bins(uptime: u32) -> usize {
    BINS.min(uptime as usize).max(1)
}

/// Number of bins in the warm-up, the first tenth of the uptime, in which services initialise.
fn warm_up(uptime: u32) -> usize {
    bins(uptime) / 10
}

/// Births with a [`dispersion`] above this come in bursts.
const BURSTY_DISPERSION: f64 = 4.0;

/// Quantiles of the standard normal distribution for one-sided tests at 10% and 1%.
const Z90: f64 = 1.281_6;
const Z99: f64 = 2.326_3;

/// Number of live objects by time of birth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BirthHistogram {
    counts: [u32; BINS],
}

impl Default for BirthHistogram {
    fn default() -> Self {
        Self { counts: [0; BINS] }
    }
}

/// Since when, and how steadily, the live mature objects have accumulated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct BirthSpread {
    /// The first tick of birth of the objects counted, and the tick after the last one.
    pub(super) ticks: (u32, u32),
    /// Number of objects counted: mature, and born after the warm-up.
    pub(super) objects: u32,
    /// Number of objects born in each quarter of `ticks`.
    pub(super) quarters: [f64; 4],
    /// Whether births go on: they are spread over `ticks` and have not become fewer.
    pub(super) is_ongoing: bool,
    /// Whether births have stopped, beyond reasonable doubt.
    pub(super) has_stopped: bool,
}

/// The bin that a tick of birth falls into.
fn bin(birth: u32, uptime: u32) -> usize {
    let bins = bins(uptime);
    let at = u64::from(birth.saturating_sub(1)) * bins as u64 / u64::from(uptime.max(1));
    (at as usize).min(bins - 1)
}

/// The end (exclusive) of the bins of objects that are at least `mature_age` ticks old.
fn mature_end(uptime: u32, mature_age: u32) -> usize {
    bin(uptime.saturating_sub(mature_age) + 1, uptime)
}

/// The mean age in ticks of the objects in a bin.
fn age(bin: usize, uptime: u32) -> f64 {
    let bins = bins(uptime) as f64;
    f64::from(uptime) / bins * (bins - 0.5 - bin as f64)
}

impl BirthSpread {
    /// Mature objects born per tick in the last quarter of `ticks`.
    pub(super) fn recent_rate(&self) -> f64 {
        let quarter = f64::from(self.ticks.1.saturating_sub(self.ticks.0)) / 4.0;
        self.quarters[3] / quarter.max(0.25)
    }
}

impl BirthHistogram {
    /// Adds live objects that were born in the tick `birth`.
    pub(super) fn add(&mut self, birth: u32, uptime: u32, objects: u32) {
        self.counts[bin(birth, uptime)] += objects;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, more)| *sum += more);
    }

    /// Live objects born per tick since the warm-up.
    pub(super) fn rate(&self, uptime: u32) -> f64 {
        let since = f64::from(uptime) * (1.0 - warm_up(uptime) as f64 / bins(uptime) as f64);
        let objects: u32 = self.counts[warm_up(uptime)..].iter().sum();
        f64::from(objects) / since
    }

    /// Whether births come in bursts.
    pub(super) fn is_bursty(&self, uptime: u32) -> bool {
        let alive = &self.counts[..bins(uptime)];
        occupied(alive).is_some_and(|span| dispersion(&alive[span]) > BURSTY_DISPERSION)
    }

    /// Number of births to be expected, at the rate so far, in the time since the last birth.
    ///
    /// A burst counts as one birth. The warm-up is included, because objects that were suspected
    /// early were born then. Infinite if there are no objects.
    pub(super) fn missing_births(&self, uptime: u32) -> f64 {
        let alive = &self.counts[..bins(uptime)];
        match occupied(alive) {
            None => f64::INFINITY,
            Some(span) => {
                let quiet = (alive.len() - span.end) as f64;
                let objects: u32 = alive[span.clone()].iter().sum();
                let rate = f64::from(objects) / span.len() as f64;
                rate / dispersion(&alive[span]) * quiet
            }
        }
    }

    /// Whether fewer than a tenth of the objects in the bins before `end` were born in the last
    /// third of the time since the first of them, by the upper confidence bound at 1%.
    fn has_faded(&self, end: usize) -> bool {
        let alive = &self.counts[..end];
        let Some(span) = occupied(alive) else { return false };
        let third = end - (end - span.start) / 3;
        let bursts = dispersion(&alive[span]);
        let sum = |bins: &[u32]| f64::from(bins.iter().sum::<u32>()) / bursts;
        wilson(sum(&alive[third..]), sum(alive), Z99) < 0.1
    }

    /// Whether births have stopped, beyond reasonable doubt.
    pub(super) fn have_stopped(&self, uptime: u32, mature_age: u32) -> bool {
        let alive = &self.counts[..bins(uptime)];
        let quiet = occupied(alive).map_or(0, |span| alive.len() - span.end);
        // A service may pause: a few ticks without births prove nothing, however many births are
        // missing.
        let is_long = quiet >= (alive.len() / 8).max(4);
        self.has_faded(mature_end(uptime, mature_age))
            || is_long && self.missing_births(uptime) > 8.0
    }

    /// Number of objects that are older than an eighth of the uptime and were not born in the
    /// warm-up.
    pub(super) fn old_objects(&self, uptime: u32) -> u32 {
        self.counts[warm_up(uptime)..bins(uptime) - bins(uptime) / 8].iter().sum()
    }

    /// The exposure of the [survival test](super::survival): the sum of `ln(age / from_age)` over
    /// the objects that are older than `from_age` ticks and were born after the warm-up.
    pub(super) fn exposure(&self, uptime: u32, from_age: u32) -> f64 {
        let from_age = f64::from(from_age);
        (warm_up(uptime)..bins(uptime))
            .filter(|bin| self.counts[*bin] > 0)
            .map(|bin| f64::from(self.counts[bin]) * (age(bin, uptime) / from_age).max(1.0).ln())
            .sum()
    }

    /// Number of live objects with an age in `from..to` ticks, to the precision of a bin.
    pub(super) fn alive_at_ages(&self, uptime: u32, from: u32, to: u32) -> u32 {
        let ages = f64::from(from)..f64::from(to);
        (0..bins(uptime))
            .filter(|bin| ages.contains(&age(*bin, uptime)))
            .map(|bin| self.counts[bin])
            .sum()
    }

    /// Number of live objects by time of birth, in sixteen equal parts of the uptime.
    pub(super) fn sixteenths(&self, uptime: u32) -> Vec<u32> {
        let mut parts = vec![0; 16];
        for (bin, alive) in self.counts[..bins(uptime)].iter().enumerate() {
            parts[bin * 16 / bins(uptime)] += alive;
        }
        parts
    }

    /// How the births of the objects that are at least `mature_age` ticks old, and were born after
    /// the warm-up, are spread over time.
    pub(super) fn spread(&self, uptime: u32, mature_age: u32) -> BirthSpread {
        let (warm_up, end) = (warm_up(uptime), mature_end(uptime, mature_age));
        let counted = &self.counts[..end.max(warm_up)][warm_up..];
        let objects: u32 = counted.iter().sum();
        // A leak that starts late is preceded by a stray survivor or two: the first twelfth of the
        // objects does not set the onset.
        let mut before = 0;
        let onset = counted.iter().position(|alive| {
            before += alive;
            before > objects / 12
        });
        let Some(onset) = onset else {
            return BirthSpread { has_stopped: true, ..BirthSpread::default() };
        };
        let counted = &counted[onset..];
        let length = counted.len() as f64;
        let mut quarters = [0.0; 4];
        for (at, alive) in counted.iter().enumerate() {
            // A bin that straddles the border of two quarters is divided between them.
            let (from, to) = (at as f64 / length * 4.0, (at + 1) as f64 / length * 4.0);
            for (number, quarter) in quarters.iter_mut().enumerate() {
                let number = number as f64;
                let share = (to.min(number + 1.0) - from.max(number)).max(0.0) / (to - from);
                *quarter += f64::from(*alive) * share;
            }
        }
        let tick = |bin: usize| (bin as u64 * u64::from(uptime) / bins(uptime) as u64) as u32 + 1;
        let ticks = (tick(warm_up + onset), tick(end));
        let (n, second_half) = (quarters.iter().sum::<f64>(), quarters[2] + quarters[3]);
        let occupied_bins = counted.iter().filter(|alive| **alive > 0).count();
        let is_long = ticks.1 - ticks.0 >= (uptime / 4).max(8);
        // No quarter may be empty; with fewer than sixteen bursts in all, one may.
        let is_spread = occupied_bins >= 5
            && quarters[3] >= 1.0
            && quarters.iter().filter(|quarter| **quarter < 0.5).count()
                <= usize::from(n / dispersion(counted) < 16.0);
        // A steady leak has half of its births in the second half of the time; a population that
        // saturates has a fifth or less there.
        let has_not_faded = wilson(second_half, n, -Z90) > 0.3 && quarters[3] > 0.1 * n;
        BirthSpread {
            ticks,
            objects,
            quarters,
            is_ongoing: is_long && is_spread && has_not_faded && self.missing_births(uptime) < 2.0,
            has_stopped: self.have_stopped(uptime, mature_age),
        }
    }
}

/// The bins from the first to the last that holds an object.
fn occupied(alive: &[u32]) -> Option<Range<usize>> {
    let is_occupied = |alive: &u32| *alive > 0;
    Some(alive.iter().position(is_occupied)?..alive.iter().rposition(is_occupied)? + 1)
}

/// The index of dispersion of the births in a bin (variance over mean), and at least 1.
///
/// It is 1 for independent births (a Poisson process), and about the size of a burst where births
/// come in bursts. Dividing a number of births by it gives the number of independent events.
fn dispersion(alive: &[u32]) -> f64 {
    let n = alive.len() as f64;
    let mean = alive.iter().map(|alive| f64::from(*alive)).sum::<f64>() / n;
    let square = |alive: &u32| (f64::from(*alive) - mean).powi(2);
    (alive.iter().map(square).sum::<f64>() / n / mean).max(1.0)
}

/// The bound of Wilson's score interval for a probability of which `k` successes in `n` trials were
/// seen: the upper one for a positive quantile `z`, the lower one for a negative `z`.
///
/// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
fn wilson(k: f64, n: f64, z: f64) -> f64 {
    if n == 0.0 {
        return 0.0;
    }
    let (share, z2) = (k / n, z * z);
    let middle = share + z2 / (2.0 * n);
    (middle + z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt()) / (1.0 + z2 / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn births(rate: impl Fn(u32) -> u32, uptime: u32) -> BirthHistogram {
        let mut births = BirthHistogram::default();
        (1..=uptime).for_each(|tick| births.add(tick, uptime, rate(tick)));
        births
    }

    #[test]
    fn births_of_a_leak_are_ongoing_whatever_their_rate() {
        let steady = births(|_| 2, 100).spread(100, 16);
        assert!(steady.is_ongoing && !steady.has_stopped, "{steady:?}");
        assert!(births(|tick| tick / 20, 100).spread(100, 16).is_ongoing, "growing worse");
        assert!(births(|tick| u32::from(tick > 60) * 2, 120).spread(120, 8).is_ongoing, "late");
        assert!(
            births(|tick| u32::from(tick % 7 == 0) * 9, 100).spread(100, 16).is_ongoing,
            "bursts"
        );
    }

    #[test]
    fn births_that_dry_up_are_not_ongoing() {
        for (what, births) in [
            ("at the start", births(|tick| u32::from(tick < 8) * 20, 100)),
            ("warming up", births(|tick| 60 / tick, 100)),
            ("one step", births(|tick| u32::from(tick == 50) * 60, 100)),
            ("saturating", births(|tick| (20.0 * (-f64::from(tick) / 25.0).exp()) as u32, 100)),
            ("stopped", births(|tick| u32::from(tick < 50) * 2, 100)),
        ] {
            assert!(!births.spread(100, 8).is_ongoing, "{what}");
        }
        assert!(births(|tick| u32::from(tick < 50) * 2, 100).spread(100, 8).has_stopped);
        let pause = births(|tick| u32::from(tick < 96) * 99, 100).spread(100, 8);
        assert!(!pause.is_ongoing && !pause.has_stopped, "a pause does not stop a leak: {pause:?}");
        assert!(births(|_| 0, 100).spread(100, 8).has_stopped);
    }
}
