//! Ratios of short things to their baseline.
//!
//! Criterion measures one thing after another, and a shared machine is another one by then. Here all take
//! turns of a millisecond or so, and what is reported is the median of the ratios within a round, of
//! processor time.

use crate::clock::process_ns;

/// Things that are compared; the first is what the others are compared with.
pub(crate) struct Race<'a> {
    runners: Vec<Runner<'a>>,
}

struct Runner<'a> {
    name: &'a str,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Race<'a> {
    pub(crate) fn new() -> Self {
        Self { runners: Vec::new() }
    }

    /// `run` does some milliseconds of work, the same amount in all.
    pub(crate) fn with(mut self, name: &'a str, run: impl FnMut() + 'a) -> Self {
        self.runners.push(Runner { name, run: Box::new(run) });
        self
    }

    /// Runs all `rounds` times and prints a line: the baseline in nanoseconds for each of `operations`, and
    /// the others as ratios ± their median deviation.
    pub(crate) fn run(mut self, name: &str, rounds: usize, operations: usize) {
        let mut times = vec![Vec::with_capacity(rounds); self.runners.len()];
        // The first round warms up.
        for round in 0..=rounds {
            let mut order: Vec<usize> = (0..self.runners.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for runner in order {
                let begin = process_ns();
                (self.runners[runner].run)();
                let elapsed = process_ns() - begin;
                if round > 0 {
                    times[runner].push(elapsed as f64);
                }
            }
        }
        let baseline = &times[0];
        let (typical, _) = median_and_deviation(baseline.clone());
        let bare = self.runners[0].name;
        let mut line = format!("ratios, {name}: {bare} {:.2} ns", typical / operations as f64);
        for (Runner { name, .. }, times) in self.runners.iter().zip(&times).skip(1) {
            let ratios = times.iter().zip(baseline).map(|(time, baseline)| time / baseline);
            let (ratio, deviation) = median_and_deviation(ratios.collect());
            line.push_str(&format!("; {name} {ratio:.3} ±{deviation:.3}"));
        }
        println!("{line}");
    }
}

fn median_and_deviation(mut values: Vec<f64>) -> (f64, f64) {
    let median = median(&mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    (median, self::median(&mut values))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
