//! Compares two dumps: which call sites changed, by how much, and whether that can be chance.
//!
//! A site is the innermost function of a stack, or its crate, its line, the whole stack, or a
//! label. So each stack belongs to one site, and the sites add up to the heap. Sites are matched by
//! name, so the dumps may be of different builds.
//!
//! # The error of a change
//! The change `d = new − base` of two unbiased sums is itself unbiased. Its variance is
//! - for different recordings, the sum of both variances, because their samples are independent;
//! - for live metrics of one recording, the variance of the samples that are not in both dumps. An
//!   object that is unchanged in both stands for the same bytes in both and adds neither change nor
//!   error, so a small leak is visible next to a large cache. An object whose size or interval
//!   changed counts as a freed and a new one;
//! - for allocation metrics of one recording, the difference of both variances, because later
//!   samples are independent of earlier ones;
//! - for the peak, the sum of both variances, which errs on the large side.
//!
//! # Significance
//! `z = d / se(d)` is compared with the normal distribution: `p = erfc(|z|/√2)`. The approximation
//! is rough below about ten samples. Because thousands of sites are tested at once, the 5% bound
//! the false discovery rate, by the procedure of Benjamini and Hochberg (1995): of the changes
//! sorted by `p`, all up to the last with `p(i) ≤ 0.05·i/m` are significant. The procedure assumes
//! independent tests, and sites are independent because no stack belongs to two. If every
//! allocation was recorded, a change has no error and is always significant.

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

/// The bound on the share of changes called significant that are due to chance.
pub const FALSE_DISCOVERY_RATE: f64 = 0.05;

/// Smaller changes are rounding errors: dumps store thousandths.
const ROUNDING: f64 = 0.5;

/// One of the two dumps, with its names from
/// [`Symbolizer::symbolize`](crate::Symbolizer::symbolize).
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The dump.
    pub snapshot: &'a Snapshot,
    /// The same stacks with names, in the same order.
    pub heap: &'a Symbolized,
}

/// How a site changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It held nothing before.
    New,
    /// It holds nothing any more.
    Gone,
    /// It holds more.
    Grew,
    /// It holds less.
    Shrank,
    /// It holds as much.
    Same,
}

/// A site in both dumps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The name of the site.
    pub name: String,
    /// How it changed, be that significant or not.
    pub state: State,
    /// What it held in the base dump.
    pub base: Estimate,
    /// What it holds in the new dump.
    pub new: Estimate,
    /// The difference of the two.
    pub change: Estimate,
    /// The smallest false discovery rate at which the change is significant.
    pub q_value: f64,
    /// Whether `q_value` is at most [`FALSE_DISCOVERY_RATE`].
    pub significant: bool,
}

/// The document of `diff --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The name of the metric on the command line.
    pub metric: String,
    /// Hours from the base to the new dump, negative if the new one is older.
    pub elapsed_hours: f64,
    /// The whole heap.
    pub total: Row,
    /// The sites, the significant ones first, then by the size of their change.
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
            let unshared = Unshared::new(base.snapshot, new.snapshot);
            for (samples, names) in [unshared.base, unshared.new].iter().zip(&names) {
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

    /// A row whose `q_value` is still the `p` of this site alone.
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

/// The probability of a change at least this large if nothing changed.
fn p_value(change: Estimate) -> f64 {
    if change.value.abs() < ROUNDING {
        1.0
    } else if change.std_error > 0.0 {
        libm::erfc((change.value / change.std_error).abs() / std::f64::consts::SQRT_2)
    } else {
        0.0
    }
}

/// Replaces the `p` of each row by the `q` of Benjamini and Hochberg: `min over j ≥ i of p(j)·m/j`.
fn correct(rows: &mut [Row]) {
    rows.sort_by(|a, b| a.q_value.total_cmp(&b.q_value));
    let (tests, mut least) = (rows.len() as f64, 1.0_f64);
    for (at, row) in rows.iter_mut().enumerate().rev() {
        least = least.min(row.q_value * tests / (at + 1) as f64);
        row.q_value = least;
        row.significant = least <= FALSE_DISCOVERY_RATE;
    }
}

/// The live samples of two dumps that are not unchanged in the other dump.
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
        let mut added = Vec::new();
        for sample in new.live.iter() {
            match before.get(&sample.id) {
                Some(old) if same(old, &sample) => {
                    shared.insert(sample.id);
                }
                _ => added.push(sample),
            }
        }
        let removed = base.live.iter().filter(|sample| !shared.contains(&sample.id)).collect();
        Self { base: removed, new: added }
    }
}

/// The variance that a sample adds to a sum.
fn variance(sample: &LiveSample, metric: Metric) -> f64 {
    let weight = sample.weight();
    if metric.is_bytes() { weight.bytes_variance } else { weight.count_variance }
}

fn elapsed_hours(base: &Snapshot, new: &Snapshot, of_one_recording: bool) -> f64 {
    // The uptime of one recording comes from a monotonic clock, unlike the time of day.
    let ms = |snapshot: &Snapshot| match of_one_recording {
        true => snapshot.taken.uptime_ms as f64,
        false => snapshot.taken.unix_ms as f64,
    };
    (ms(new) - ms(base)) / 3_600_000.0
}

impl Diff {
    /// The first row, or else the whole heap, that grew significantly and faster than `rate` at the
    /// lower end of its 95% interval.
    ///
    /// # Errors
    /// The new dump was not taken after the base, so that there is no rate.
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

    /// A line that says how fast `row` grew and that it exceeds `rate`.
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

    /// A line about the whole heap and the first `limit` rows, as text with ANSI colours.
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
            // The sign says the same, for readers who cannot tell the colours apart.
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
