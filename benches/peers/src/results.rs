//! The measurements, and the ratios of rows to their baselines: one for each round, and their
//! median.

use std::collections::{BTreeMap, BTreeSet};

use workloads::{Measurement, Workload};

use crate::subject::{Program, Subject};

/// A row under a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub row: usize,
    pub workload: Workload,
}

/// A figure of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// User and system time, which does not include other processes.
    ProcessorTime,
    WallTime,
    PeakMemory,
}

impl Quantity {
    fn of(self, measurement: &Measurement) -> f64 {
        match self {
            Self::ProcessorTime => measurement.cpu_ns as f64,
            Self::WallTime => measurement.wall_ns as f64,
            Self::PeakMemory => measurement.peak_rss_bytes as f64,
        }
    }
}

/// The median of several values, and their median absolute deviation from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub deviation: f64,
}

impl Spread {
    /// Returns `None` if there are no values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        let median = median(&mut values)?;
        let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        Some(Self { median, deviation: median_or_zero(&mut distances) })
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    Some(match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    })
}

fn median_or_zero(values: &mut [f64]) -> f64 {
    median(values).unwrap_or(0.0)
}

pub struct Results {
    subjects: Vec<Subject>,
    workloads: Vec<Workload>,
    /// The measurements of each cell, by round.
    measurements: BTreeMap<Cell, BTreeMap<u32, Measurement>>,
    failures: BTreeMap<Cell, String>,
    /// Instructions of an allocate-free pair, by row.
    instructions: BTreeMap<usize, f64>,
    notes: Vec<String>,
}

impl Results {
    pub fn new(subjects: Vec<Subject>, workloads: Vec<Workload>) -> Self {
        Self {
            subjects,
            workloads,
            measurements: BTreeMap::new(),
            failures: BTreeMap::new(),
            instructions: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.subjects.iter()
    }

    pub fn subject(&self, row: usize) -> &Subject {
        &self.subjects[row]
    }

    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// All cells to measure, by workload, with rows of the same baseline next to each other.
    pub fn cells(&self) -> Vec<Cell> {
        let mut baselines: Vec<&str> = Vec::new();
        for subject in &self.subjects {
            if !baselines.contains(&subject.baseline.as_str()) {
                baselines.push(&subject.baseline);
            }
        }
        let mut cells = Vec::new();
        for &workload in &self.workloads {
            for baseline in &baselines {
                let rows = self.subjects.iter().enumerate();
                let rows = rows.filter(|(_, s)| s.baseline == *baseline && s.runs(workload));
                cells.extend(rows.map(|(row, _)| Cell { row, workload }));
            }
        }
        cells
    }

    pub fn add(&mut self, cell: Cell, round: u32, measurement: Measurement) {
        self.measurements.entry(cell).or_default().insert(round, measurement);
    }

    pub fn add_instructions(&mut self, row: usize, pair: f64) {
        self.instructions.insert(row, pair);
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Marks a cell as failed: it is not run again, and its earlier rounds do not count.
    pub fn fail(&mut self, cell: Cell, why: &str) {
        self.measurements.remove(&cell);
        self.failures.insert(cell, why.to_owned());
    }

    /// Marks all cells of a program as failed.
    pub fn fail_program(&mut self, program: Program, why: &str) {
        for cell in self.cells() {
            if self.subjects[cell.row].program == program {
                self.fail(cell, why);
            }
        }
    }

    pub fn has_failed(&self, cell: Cell) -> bool {
        self.failures.contains_key(&cell)
    }

    /// Rows that failed, why, and under which workloads.
    pub fn failures(&self) -> BTreeMap<(&str, &str), Vec<Workload>> {
        let mut failures: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (cell, why) in &self.failures {
            let row = self.subjects[cell.row].name.as_str();
            failures.entry((row, why.as_str())).or_default().push(cell.workload);
        }
        failures
    }

    /// The losses that profilers reported in the last round.
    pub fn losses(&self) -> impl Iterator<Item = (&str, Workload, &str)> {
        self.measurements.iter().filter_map(|(cell, rounds)| {
            let losses = rounds.values().next_back()?.losses.as_deref()?;
            Some((self.subjects[cell.row].name.as_str(), cell.workload, losses))
        })
    }

    /// The rows whose profiler has threads of its own.
    pub fn threaded(&self) -> BTreeSet<&str> {
        let measured = self.measurements.iter();
        measured
            .filter(|(_, rounds)| rounds.values().any(|measurement| measurement.threads > 1))
            .map(|(cell, _)| self.subjects[cell.row].name.as_str())
            .collect()
    }

    pub fn measurements(&self, cell: Cell) -> impl Iterator<Item = (u32, &Measurement)> {
        self.measurements.get(&cell).into_iter().flatten().map(|(round, found)| (*round, found))
    }

    pub fn row(&self, name: &str) -> Option<usize> {
        self.subjects.iter().position(|subject| subject.name == name)
    }

    pub fn value(&self, cell: Cell, quantity: Quantity) -> Option<Spread> {
        Spread::of(self.measurements(cell).map(|(_, found)| quantity.of(found)).collect())
    }

    /// The ratio to the bare allocator.
    pub fn ratio(&self, cell: Cell, quantity: Quantity) -> Option<Spread> {
        let baseline = self.row(&self.subjects[cell.row].baseline)?;
        self.ratio_to(cell, baseline, quantity)
    }

    /// The ratio to any other row, over the rounds that both have.
    pub fn ratio_to(&self, cell: Cell, other: usize, quantity: Quantity) -> Option<Spread> {
        let others = self.measurements.get(&Cell { row: other, ..cell })?;
        let pairs = self.measurements(cell).filter_map(|(round, found)| {
            Some(quantity.of(found) / quantity.of(others.get(&round)?))
        });
        Spread::of(pairs.collect())
    }

    pub fn instructions(&self, row: usize) -> Option<f64> {
        self.instructions.get(&row).copied()
    }

    /// The instructions of a pair beyond those of the bare allocator.
    pub fn extra_instructions(&self, row: usize) -> Option<f64> {
        let baseline = self.row(&self.subjects[row].baseline)?;
        Some(self.instructions(row)? - self.instructions(baseline)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::selected;

    fn measurement(cpu_ns: u64) -> Measurement {
        Measurement {
            wall_ns: 0,
            cpu_ns,
            minor_faults: 0,
            peak_rss_bytes: 0,
            threads: 1,
            losses: None,
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_pairs_not_a_ratio_of_medians() {
        let mut results = Results::new(selected(&["dhat".into()]), vec![Workload::Pair]);
        let [bare, dhat] = [0, 1].map(|row| Cell { row, workload: Workload::Pair });
        for (round, (of_bare, of_dhat)) in [(10, 20), (100, 300), (20, 80)].into_iter().enumerate()
        {
            results.add(bare, round as u32, measurement(of_bare));
            results.add(dhat, round as u32, measurement(of_dhat));
        }
        // The baseline did not run in this round.
        results.add(dhat, 7, measurement(1_000_000));
        let ratio = results.ratio(dhat, Quantity::ProcessorTime);
        assert_eq!(ratio, Some(Spread { median: 3.0, deviation: 1.0 }));
    }

    #[test]
    fn a_cell_that_failed_once_has_no_ratio() {
        let mut results = Results::new(selected(&["dhat".into()]), vec![Workload::Pair]);
        let [bare, dhat] = [0, 1].map(|row| Cell { row, workload: Workload::Pair });
        results.add(bare, 0, measurement(1));
        results.add(dhat, 0, measurement(1));
        results.fail(dhat, "killed");
        assert!(results.has_failed(dhat));
        assert_eq!(results.ratio(dhat, Quantity::ProcessorTime), None);
        assert_eq!(results.failures()[&("dhat, exact", "killed")], [Workload::Pair]);
    }
}
