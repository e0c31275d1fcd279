//! Two dumps compared: which sites changed, by how much, and whether that can be chance.
//!
//! A site is what holds memory itself: the innermost function of a stack (or its crate, its line,
//! the whole stack, or a label), so that the sites add up to the heap. Sites are matched by name,
//! which lets dumps of different builds be compared.
//!
//! # The error of a change
//! The change `d = new − base` of two unbiased sums is itself unbiased. Its variance:
//! - of different recordings, the sum of both variances: their samples are independent;
//! - of one recording at two times, that of the samples that are not in both. An object that is
//!   in both dumps, unchanged, stands for the same bytes in both and adds neither change nor error:
//!   so a leak of few bytes shows beside a cache of many. An object whose size or interval changed
//!   counts as one that went and one that came;
//! - of what was allocated since the start, in one recording, the difference of both variances: what
//!   is sampled later is independent of what was sampled before;
//! - of the peak, the sum of both variances, which is too much rather than too little.
//!
//! # Significance
//! `z = d / se(d)` is compared with the normal distribution, `p = erfc(|z|/√2)`. The approximation is
//! rough below about ten samples. Thousands of sites are tested at once, so the 5% are a bound on
//! the share of false ones among those called significant, by the procedure of Benjamini and Hochberg
//! (1995): sorted by `p`, all up to the last with `p(i) ≤ 0.05·i/m`. It holds for the
//! independent sites that the innermost functions are. Where everything was recorded, a change is
//! what it is and has no error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use heapdrift::snapshot::LiveSample;
use heapdrift::{Estimate, Snapshot};
use serde::Serialize;

use crate::dumps::sessions;
use crate::heap::symbolized::Symbolized;
use crate::numbers::metric::Metric;
use crate::numbers::rate::Rate;
use crate::numbers::sum::Sum;
use crate::numbers::units;
use crate::output::terminal;
use crate::views::by::{self, By};

/// The share of false ones among the changes that are called significant.
pub const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// Changes below this are rounding: dumps have thousandths.
const ROUNDING: f64 = 0.5;

/// A dump and its names, from [`Symbolizer::symbolize`](crate::Symbolizer::symbolize).
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The dump.
    pub snapshot: &'a Snapshot,
    /// The same stacks, in the same order, by name.
    pub heap: &'a Symbolized,
}

/// How a site stands to what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was there before.
    New,
    /// Nothing is there any more.
    Gone,
    /// There is more.
    Grew,
    /// There is less.
    Shrank,
    /// There is as much.
    Same,
}

/// A site in both dumps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// How it changed. Whether that is more than chance, `significant` tells.
    pub state: State,
    /// What was there.
    pub base: Estimate,
    /// What is there.
    pub new: Estimate,
    /// The difference.
    pub change: Estimate,
    /// The smallest false discovery rate at which the change is significant.
    pub q_value: f64,
    /// Whether that is at most [`FALSE_DISCOVERY_RATE`].
    pub significant: bool,
}

/// The document of `diff --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// As on the command line.
    pub metric: String,
    /// Hours from the one dump to the other; negative if the new one is older.
    pub elapsed_hours: f64,
    /// The whole heap.
    pub total: Row,
    /// The sites: significant ones first, then by how much they changed.
    pub rows: Vec<Row>,
}

/// Compares two dumps.
pub fn diff(base: Side<'_>, new: Side<'_>, by: &By, metric: Metric) -> Diff {
    let mut sites: BTreeMap<String, SiteSums> = BTreeMap::new();
    let names = [base, new].map(|side| by::sites(side.heap, by));
    for (stack, name) in base.heap.stacks.iter().zip(&names[0]) {
        let sums = sites.entry(name.clone().into_owned()).or_default();
        sums.base += metric.of(&stack.metrics).into();
    }
    for (stack, name) in new.heap.stacks.iter().zip(&names[1]) {
        let sums = sites.entry(name.clone().into_owned()).or_default();
        sums.new += metric.of(&stack.metrics).into();
    }
    let of_one_recording = sessions::session(base.snapshot) == sessions::session(new.snapshot);
    match metric {
        Metric::LiveBytes | Metric::LiveCount if of_one_recording => {
            let came_and_went = Unshared::new(base.snapshot, new.snapshot);
            for (samples, names) in [came_and_went.base, came_and_went.new].iter().zip(&names) {
                for sample in samples {
                    if let Some(sums) = sites.get_mut(&*names[sample.stack as usize]) {
                        sums.change_variance += variance(sample, metric);
                    }
                }
            }
        }
        Metric::AllocBytes | Metric::AllocCount if of_one_recording => {
            for sums in sites.values_mut() {
                sums.change_variance = (sums.new.variance - sums.base.variance).abs();
            }
        }
        _ => {
            for sums in sites.values_mut() {
                sums.change_variance = sums.new.variance + sums.base.variance;
            }
        }
    }
    let total = sites.values().fold(SiteSums::default(), |sum, site| sum.and(site));
    let mut rows: Vec<Row> = sites
        .into_iter()
        .map(|(name, sums)| sums.row(name))
        .filter(|row| row.base.value >= ROUNDING || row.new.value >= ROUNDING)
        .collect();
    correct(&mut rows);
    rows.sort_by(|a, b| {
        let by_size = b.change.value.abs().total_cmp(&a.change.value.abs());
        b.significant.cmp(&a.significant).then(by_size).then_with(|| a.name.cmp(&b.name))
    });
    let mut total = [total.row("total".to_owned())];
    correct(&mut total);
    let [total] = total;
    let elapsed_hours = elapsed_hours(base.snapshot, new.snapshot, of_one_recording);
    Diff { metric: metric.to_string(), elapsed_hours, total, rows }
}

/// The sums of one site in both dumps.
#[derive(Clone, Copy, Debug, Default)]
struct SiteSums {
    base: Sum,
    new: Sum,
    /// The variance of the change.
    change_variance: f64,
}

impl SiteSums {
    fn and(self, other: &Self) -> Self {
        Self {
            base: self.base + other.base,
            new: self.new + other.new,
            change_variance: self.change_variance + other.change_variance,
        }
    }

    /// As a row whose `q_value` is the `p` of this site alone.
    fn row(self, name: String) -> Row {
        let value = self.new.value - self.base.value;
        let change = Sum { value, variance: self.change_variance }.estimate();
        let state = match (self.base.value >= ROUNDING, self.new.value >= ROUNDING) {
            (false, true) => State::New,
            (true, false) => State::Gone,
            _ if change.value >= ROUNDING => State::Grew,
            _ if change.value <= -ROUNDING => State::Shrank,
            _ => State::Same,
        };
        let (base, new) = (self.base.estimate(), self.new.estimate());
        Row { name, state, base, new, change, q_value: p_value(change), significant: false }
    }
}

/// The probability of a change as large as this, or larger, if there was none.
fn p_value(change: Estimate) -> f64 {
    if change.value.abs() < ROUNDING {
        1.0
    } else if change.std_error > 0.0 {
        libm::erfc((change.value / change.std_error).abs() / std::f64::consts::SQRT_2)
    } else {
        0.0
    }
}

/// Turns the `p` of each row into the `q` of Benjamini and Hochberg: `min over j ≥ i of p(j)·m/j`.
fn correct(rows: &mut [Row]) {
    rows.sort_by(|a, b| a.q_value.total_cmp(&b.q_value));
    let (tests, mut least) = (rows.len() as f64, 1.0_f64);
    for (at, row) in rows.iter_mut().enumerate().rev() {
        least = least.min(row.q_value * tests / (at + 1) as f64);
        row.q_value = least;
        row.significant = least <= FALSE_DISCOVERY_RATE;
    }
}

/// The live samples of each of two dumps that are not, unchanged, in the other one.
struct Unshared {
    base: Vec<LiveSample>,
    new: Vec<LiveSample>,
}

impl Unshared {
    fn new(base: &Snapshot, new: &Snapshot) -> Self {
        let before: HashMap<u64, LiveSample> =
            base.live.iter().map(|sample| (sample.id, sample)).collect();
        let same = |a: &LiveSample, b: &LiveSample| a.size == b.size && a.interval == b.interval;
        let mut shared = HashSet::new();
        let mut came = Vec::new();
        for sample in new.live.iter() {
            match before.get(&sample.id) {
                Some(old) if same(old, &sample) => {
                    shared.insert(sample.id);
                }
                _ => came.push(sample),
            }
        }
        let went = base.live.iter().filter(|sample| !shared.contains(&sample.id)).collect();
        Self { base: went, new: came }
    }
}

/// What a sample adds to the variance of a sum.
fn variance(sample: &LiveSample, metric: Metric) -> f64 {
    let weight = sample.weight();
    if metric.is_bytes() { weight.bytes_variance } else { weight.count_variance }
}

fn elapsed_hours(base: &Snapshot, new: &Snapshot, of_one_recording: bool) -> f64 {
    // Of one recording by its own clock, which nobody sets.
    let ms = |snapshot: &Snapshot| match of_one_recording {
        true => snapshot.taken.uptime_ms as f64,
        false => snapshot.taken.unix_ms as f64,
    };
    (ms(new) - ms(base)) / 3_600_000.0
}

impl Diff {
    /// The first row, or else the whole heap, of which it is certain to 95% that it grows faster than
    /// `rate`.
    ///
    /// # Errors
    /// When the dumps are not in order: there is no rate then.
    pub fn faster_than(&self, rate: Rate) -> Result<Option<&Row>, String> {
        if self.elapsed_hours <= 0.0 {
            return Err(format!(
                "expected a new dump that was taken after the base, found one taken {} before it",
                units::duration_ms((-self.elapsed_hours * 3_600_000.0) as u64)
            ));
        }
        let rows = self.rows.iter().chain(std::iter::once(&self.total));
        let mut faster = rows.filter(|row| {
            row.significant && row.change.ci95().0 / self.elapsed_hours > rate.per_hour
        });
        Ok(faster.next())
    }

    /// A line that says what grew faster than `rate`, for those who set the bound.
    pub fn crossing(&self, row: &Row, rate: Rate, metric: Metric) -> String {
        let per_hour = Estimate::new(
            row.change.value / self.elapsed_hours,
            row.change.std_error / self.elapsed_hours,
        );
        format!(
            "{}: {} grew by {}/h, at least {}/h (95%), expected at most {rate}",
            row.name,
            metric.title().to_lowercase(),
            signed(per_hour, metric.is_bytes()),
            units::amount(per_hour.ci95().0, metric.is_bytes()),
        )
    }

    /// The first `limit` rows as text with ANSI colours, below a line with the whole heap.
    pub fn render_styled(&self, by: &By, metric: Metric, limit: usize) -> String {
        let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
        let bytes = metric.is_bytes();
        let found = self.rows.iter().filter(|row| row.significant).count();
        let mut text = format!(
            "{bold}{}{bold:#}: {}, was {}: {bold}{}{bold:#}\n{dim}{} sites, {} changed significantly \
             (false discovery rate {}%){dim:#}\n",
            metric.title(),
            units::estimate(self.total.new, bytes),
            units::estimate(self.total.base, bytes),
            signed(self.total.change, bytes),
            units::count(self.rows.len() as f64),
            units::count(found as f64),
            FALSE_DISCOVERY_RATE * 100.0,
        );
        let shown = &self.rows[..limit.min(self.rows.len())];
        let cells: Vec<[String; 3]> = shown
            .iter()
            .map(|row| {
                let error = units::amount(row.change.std_error, bytes);
                [sign(row.change.value, bytes), error, units::amount(row.new.value, bytes)]
            })
            .collect();
        let width = |column: usize, least: usize| {
            cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(least)
        };
        let [change, error, new] = [width(0, 6), width(1, 1), width(2, 3)];
        let _ = writeln!(
            text,
            "{bold}{:>change$}   {:error$}  {:>new$}  state   {}{bold:#}",
            "change",
            "",
            "now",
            by.title()
        );
        for (row, cells) in shown.iter().zip(&cells) {
            // The sign says it too: nothing hangs on telling colours apart.
            let color = match (row.significant, row.change.value > 0.0) {
                (true, true) => Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
                (true, false) => Style::new().fg_color(Some(AnsiColor::Blue.into())).bold(),
                _ => dim,
            };
            let mark = if row.significant { '*' } else { ' ' };
            let _ = writeln!(
                text,
                "{color}{:>change$}{color:#} {dim}± {:<error$}{dim:#}  {:>new$}  {:6}{mark} {}",
                cells[0],
                cells[1],
                cells[2],
                format!("{:?}", row.state).to_lowercase(),
                terminal::printable(&row.name)
            );
        }
        if shown.len() < self.rows.len() {
            let _ = writeln!(text, "{dim}… and {} more{dim:#}", self.rows.len() - shown.len());
        }
        let _ = writeln!(text, "{dim}* significant; ± one standard error of the change{dim:#}");
        text
    }
}

fn signed(change: Estimate, bytes: bool) -> String {
    format!("{} ± {}", sign(change.value, bytes), units::amount(change.std_error, bytes))
}

fn sign(value: f64, bytes: bool) -> String {
    let text = units::amount(value, bytes);
    if value >= ROUNDING { format!("+{text}") } else { text }
}
