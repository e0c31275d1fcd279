//! Ratios of short workloads to their baseline.
//!
//! Criterion measures one workload after another, while the load of a shared machine changes. Here
//! the workloads take turns of a millisecond or so. The result is the median over all rounds of the
//! ratio of processor times within a round.

use crate::clock::process_ns;

/// Workloads to compare; the first one is the baseline.
pub(crate) struct Comparison<'a> {
    workloads: Vec<Workload<'a>>,
}

struct Workload<'a> {
    name: &'a str,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new() -> Self {
        Self { workloads: Vec::new() }
    }

    /// Adds a workload. `run` does a few milliseconds of work, the same amount for all.
    pub(crate) fn with(mut self, name: &'a str, run: impl FnMut() + 'a) -> Self {
        self.workloads.push(Workload { name, run: Box::new(run) });
        self
    }

    /// Runs all workloads `rounds` times and prints a line: the baseline in nanoseconds per
    /// operation, and the others as ratios ± their median absolute deviation.
    pub(crate) fn run(mut self, name: &str, rounds: usize, operations: usize) {
        let mut times = vec![Vec::with_capacity(rounds); self.workloads.len()];
        // The first round warms up.
        for round in 0..=rounds {
            let mut order: Vec<usize> = (0..self.workloads.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let begin = process_ns();
                (self.workloads[index].run)();
                let elapsed = process_ns() - begin;
                if round > 0 {
                    times[index].push(elapsed as f64);
                }
            }
        }
        let baseline = &times[0];
        let (typical, _) = median_and_deviation(baseline.clone());
        let bare = self.workloads[0].name;
        let mut line = format!("ratios, {name}: {bare} {:.2} ns", typical / operations as f64);
        for (Workload { name, .. }, times) in self.workloads.iter().zip(&times).skip(1) {
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
