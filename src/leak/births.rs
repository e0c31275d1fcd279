//! When the objects that are alive were born: the evidence that a site keeps leaking.
//!
//! What is set up once, warms up or fills to a bound also leaves objects that never die; but then
//! their births dry up. The births of a leak's survivors go on, so they are spread over the whole
//! time since it began. Nothing is asked of their rate but that it does not fade: a leak may follow
//! the load, come in bursts or grow worse.

/// Bins of the time since recording started.
pub(super) const BINS: usize = 64;

/// The bins of the first tenth of the uptime: services set themselves up then.
const WARM_UP: usize = 6;

/// Normal quantiles of one-sided tests at 10% and 1%.
const Z90: f64 = 1.281_6;
const Z99: f64 = 2.326_3;

/// Objects alive by time of birth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Births {
    alive: [u32; BINS],
}

impl Default for Births {
    fn default() -> Self {
        Self { alive: [0; BINS] }
    }
}

/// Since when, and how steadily, mature objects have accumulated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    /// First and last (exclusive) tick of birth of those counted.
    pub(super) ticks: (u32, u32),
    /// Objects counted.
    pub(super) objects: u32,
    /// Those born in each quarter of that time.
    pub(super) quarters: [f64; 4],
    /// Whether births go on: spread over the time, and not fewer lately than before.
    pub(super) lasts: bool,
    /// Whether births have stopped, beyond doubt.
    pub(super) stopped: bool,
}

/// The bin of a tick of birth.
fn bin(birth: u32, uptime: u32) -> usize {
    (u64::from(birth.saturating_sub(1)) * BINS as u64 / u64::from(uptime.max(1)))
        .min(BINS as u64 - 1) as usize
}

impl Births {
    pub(super) fn add(&mut self, birth: u32, uptime: u32, objects: u32) {
        self.alive[bin(birth, uptime)] += objects;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.alive.iter_mut().zip(other.alive).for_each(|(sum, more)| *sum += more);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.alive.iter_mut().zip(other.alive).for_each(|(sum, less)| *sum -= less);
    }

    /// Objects that have lived through an eighth of the uptime and were not born in the warm-up.
    pub(super) fn old(&self) -> u32 {
        self.alive[WARM_UP..BINS - BINS / 8].iter().sum()
    }

    /// Alive objects in each bin.
    pub(super) fn bins(&self) -> &[u32; BINS] {
        &self.alive
    }

    /// How those at least `mature_age` ticks old, and born after the warm-up, are spread.
    pub(super) fn spread(&self, uptime: u32, mature_age: u32) -> Spread {
        let end = bin(uptime.saturating_sub(mature_age) + 1, uptime);
        let counted = &self.alive[..end.max(WARM_UP)][WARM_UP..];
        let objects: u32 = counted.iter().sum();
        // A leak that starts late has a stray survivor or two before it.
        let mut before = 0;
        let onset = counted.iter().position(|alive| {
            before += alive;
            before > objects / 32
        });
        let Some(onset) = onset else {
            return Spread { stopped: true, ..Spread::default() };
        };
        let counted = &counted[onset..];
        let length = counted.len() as f64;
        let mut quarters = [0.0; 4];
        for (at, alive) in counted.iter().enumerate() {
            // A bin on a border counts in part on both sides.
            let (from, to) = (at as f64 / length * 4.0, (at + 1) as f64 / length * 4.0);
            for (number, quarter) in quarters.iter_mut().enumerate() {
                let number = number as f64;
                let share = (to.min(number + 1.0) - from.max(number)).max(0.0) / (to - from);
                *quarter += f64::from(*alive) * share;
            }
        }
        let tick = |bin: usize| (bin as u64 * u64::from(uptime) / BINS as u64) as u32 + 1;
        let ticks = (tick(WARM_UP + onset), tick(end));
        let (n, late) = (quarters.iter().sum::<f64>(), quarters[2] + quarters[3]);
        let births = counted.iter().filter(|alive| **alive > 0).count();
        let long_enough = ticks.1 - ticks.0 >= (uptime / 10).max(6);
        let spread = births >= 5
            && quarters[3] >= 1.0
            && quarters.iter().filter(|quarter| **quarter < 0.5).count() <= usize::from(n < 16.0);
        // A steady leak has half of them in the second half; what saturates, a fifth and less.
        let going_on = wilson(late, n, -Z90) > 0.25 && quarters[3] > 0.08 * n;
        Spread {
            ticks,
            objects,
            quarters,
            lasts: long_enough && spread && going_on,
            stopped: wilson(late, n, Z99) < 0.2 || wilson(quarters[3], n, Z99) < 0.08,
        }
    }
}

/// A bound of the 'success' probability of which `k` in `n` were seen (E. B. Wilson, 1927).
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

    fn births(rate: impl Fn(u32) -> u32, uptime: u32) -> Births {
        let mut births = Births::default();
        (1..=uptime).for_each(|tick| births.add(tick, uptime, rate(tick)));
        births
    }

    #[test]
    fn a_leak_goes_on_whatever_its_rate() {
        let steady = births(|_| 2, 100).spread(100, 16);
        assert!(steady.lasts && !steady.stopped, "{steady:?}");
        assert!(births(|tick| tick / 20, 100).spread(100, 16).lasts, "growing worse");
        assert!(births(|tick| u32::from(tick > 60) * 2, 120).spread(120, 8).lasts, "late");
        assert!(births(|tick| u32::from(tick % 7 == 0) * 9, 100).spread(100, 16).lasts, "bursts");
    }

    #[test]
    fn what_was_set_up_once_does_not() {
        for (what, births) in [
            ("at the start", births(|tick| u32::from(tick < 8) * 20, 100)),
            ("warming up", births(|tick| 60 / tick, 100)),
            ("one step", births(|tick| u32::from(tick == 50) * 60, 100)),
            ("saturating", births(|tick| (20.0 * (-f64::from(tick) / 25.0).exp()) as u32, 100)),
            ("stopped", births(|tick| u32::from(tick < 50) * 2, 100)),
        ] {
            assert!(!births.spread(100, 8).lasts, "{what}");
        }
        assert!(births(|tick| u32::from(tick < 50) * 2, 100).spread(100, 8).stopped);
        assert!(births(|_| 0, 100).spread(100, 8).stopped);
    }
}
