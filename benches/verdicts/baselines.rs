//! The rules in common use today, applied to the live bytes of each stack.
//!
//! They get snapshots with full stacks at every [`SNAPSHOT_EVERY`]th tick, and give a verdict at
//! every [`VERDICT_EVERY`]th.

use std::collections::{BTreeMap, HashMap, HashSet};

use heapdrift::{Estimate, Snapshot};
use heapdrift_tools::Symbolizer;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::detector::Claim;
use heapdrift::Verdict;

/// Ticks from one snapshot to the next.
pub(crate) const SNAPSHOT_EVERY: u32 = 5;
/// Ticks from one verdict to the next.
pub(crate) const VERDICT_EVERY: u32 = 10;

/// The significance level of one test of a trend.
const SIGNIFICANCE: f64 = 0.001;
/// Fewer points than this make no trend.
const FEWEST_POINTS: usize = 6;

/// A rule: its name, and whether it calls a site a leak.
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    is_leak: fn(&Site, &History) -> bool,
}

pub(crate) const ALL: [Baseline; 5] = [
    Baseline { name: "two-dump difference", is_leak: two_dumps },
    Baseline { name: "Mann-Kendall with Sen's slope", is_leak: mann_kendall },
    Baseline { name: "least squares", is_leak: least_squares },
    Baseline { name: "older than half of the run", is_leak: older_than_half },
    Baseline { name: "largest drop (Chromium)", is_leak: largest_drop },
];

/// The content of the snapshots so far.
#[derive(Default)]
pub(crate) struct History {
    /// When the snapshots were taken.
    ticks: Vec<u32>,
    sites: Vec<Site>,
    /// Index into `sites` by the addresses of the stack.
    index: HashMap<Vec<u64>, usize>,
    /// The tick at which each live object was first seen.
    first_seen: HashMap<u64, u32>,
    /// For each rule, the sites it called leaks, by tick.
    flagged: [BTreeMap<u32, Vec<usize>>; ALL.len()],
}

/// A stack over time.
#[derive(Default)]
struct Site {
    /// Live bytes at each snapshot.
    live_bytes: Vec<Estimate>,
    live_count: f64,
    /// Growth of `live_count` since the snapshot before.
    growth: f64,
    /// The tick at which the oldest of its live objects was first seen.
    oldest: Option<u32>,
    /// Consecutive analyses in which it ranked above the largest drop.
    suspicion: u32,
}

impl History {
    /// Adds a snapshot, and applies the rules if a verdict is due.
    pub(crate) fn observe(&mut self, tick: u32, snapshot: &Snapshot) {
        self.ticks.push(tick);
        let points = self.ticks.len();
        let counts: Vec<f64> = self.sites.iter().map(|site| site.live_count).collect();
        for site in &mut self.sites {
            site.live_bytes.push(Estimate::default());
            site.live_count = 0.0;
            site.oldest = None;
        }
        let mut site_of = Vec::with_capacity(snapshot.stacks.len());
        for stack in &snapshot.stacks {
            let next = self.sites.len();
            let at = *self.index.entry(addresses(snapshot, &stack.frames)).or_insert(next);
            if at == next {
                let live_bytes = vec![Estimate::default(); points];
                self.sites.push(Site { live_bytes, ..Site::default() });
            }
            let site = &mut self.sites[at];
            if let Some(last) = site.live_bytes.last_mut() {
                *last = *last + stack.metrics.live_bytes;
            }
            site.live_count += stack.metrics.live_count.value;
            site_of.push(at);
        }
        for (at, site) in self.sites.iter_mut().enumerate() {
            site.growth = site.live_count - counts.get(at).copied().unwrap_or_default();
        }
        let live: HashSet<u64> = snapshot.live.id.iter().copied().collect();
        self.first_seen.retain(|id, _| live.contains(id));
        for sample in snapshot.live.iter() {
            let first_seen = *self.first_seen.entry(sample.id).or_insert(tick);
            let oldest = &mut self.sites[site_of[sample.stack as usize]].oldest;
            *oldest = Some(oldest.map_or(first_seen, |oldest| oldest.min(first_seen)));
        }
        self.rank();
        if tick.is_multiple_of(VERDICT_EVERY) {
            for (rule, flagged) in ALL.iter().zip(0..) {
                let sites = (0..self.sites.len())
                    .filter(|&site| (rule.is_leak)(&self.sites[site], self))
                    .collect();
                self.flagged[flagged].insert(tick, sites);
            }
        }
    }

    /// Chromium's leak detector (2015 to 2019) ranks call sites by their net allocations since the
    /// last analysis; those above the largest drop between neighbours are suspects.
    fn rank(&mut self) {
        /// How many entries are ranked.
        const RANKED: usize = 16;
        let mut order: Vec<usize> = (0..self.sites.len()).collect();
        order.sort_by(|a, b| self.sites[*b].growth.total_cmp(&self.sites[*a].growth));
        order.truncate(RANKED);
        let growth = |at: usize| self.sites[order[at]].growth.max(0.0);
        let drop = |at: usize| growth(at) - growth(at + 1);
        let largest =
            (0..order.len().saturating_sub(1)).max_by(|a, b| drop(*a).total_cmp(&drop(*b)));
        let above = largest.filter(|at| drop(*at) > 0.0).map_or(0, |at| at + 1);
        for at in 0..self.sites.len() {
            let is_suspect = order[..above].contains(&at);
            let suspicion = &mut self.sites[at].suspicion;
            *suspicion = if is_suspect { *suspicion + 1 } else { 0 };
        }
    }

    /// The claims of each rule at each of its verdicts, with names from the last snapshot.
    pub(crate) fn claims(
        mut self,
        last: &Snapshot,
        symbolizer: &mut Symbolizer,
    ) -> [Vec<(u32, Vec<Claim>)>; ALL.len()] {
        let named = symbolizer.symbolize(last);
        let mut stacks = vec![Vec::new(); self.sites.len()];
        for (stack, names) in last.stacks.iter().zip(&named.stacks) {
            if let Some(&site) = self.index.get(&addresses(last, &stack.frames)) {
                let name = |frame: &u32| named.frames[*frame as usize].function.clone();
                stacks[site] = names.frames.iter().map(name).collect();
            }
        }
        std::mem::take(&mut self.flagged).map(|by_tick| {
            let claim = |site: usize| Claim {
                verdict: Verdict::Confirmed,
                function: stacks[site].first().cloned().unwrap_or_default(),
                stack: stacks[site].clone(),
                labels: BTreeMap::new(),
            };
            by_tick
                .into_iter()
                .map(|(t, sites)| (t, sites.into_iter().map(claim).collect()))
                .collect()
        })
    }
}

fn addresses(snapshot: &Snapshot, frames: &[u32]) -> Vec<u64> {
    frames.iter().map(|frame| snapshot.frames.address[*frame as usize]).collect()
}

/// Live bytes have grown since the first quarter of the run, by more than a fifth and by more than
/// the sampling error explains.
fn two_dumps(site: &Site, _: &History) -> bool {
    let points = &site.live_bytes;
    let (Some(first), Some(last)) = (points.get(points.len() / 4), points.last()) else {
        return false;
    };
    let change = last.value - first.value;
    change > 0.2 * first.value && change > 3.0 * first.std_error.hypot(last.std_error)
}

fn mann_kendall(site: &Site, _: &History) -> bool {
    let values: Vec<f64> = site.live_bytes.iter().map(|estimate| estimate.value).collect();
    let n = values.len() as f64;
    if values.len() < FEWEST_POINTS {
        return false;
    }
    let pairs = || (0..values.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
    // Equal values count as 0; `signum` would make them 1.
    let sign = |d: f64| f64::from(u8::from(d > 0.0)) - f64::from(u8::from(d < 0.0));
    let s: f64 = pairs().map(|(i, j)| sign(values[j] - values[i])).sum();
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let ties: f64 = sorted
        .chunk_by(|a, b| a == b)
        .map(|tied| tied.len() as f64)
        .map(|t| t * (t - 1.0) * (2.0 * t + 5.0))
        .sum();
    let variance = (n * (n - 1.0) * (2.0 * n + 5.0) - ties) / 18.0;
    if s <= 1.0 || variance <= 0.0 {
        return false;
    }
    let is_significant = Normal::standard().sf((s - 1.0) / variance.sqrt()) < SIGNIFICANCE;
    is_significant && {
        let mut slopes: Vec<f64> =
            pairs().map(|(i, j)| (values[j] - values[i]) / (j - i) as f64).collect();
        slopes.sort_by(f64::total_cmp);
        slopes[slopes.len() / 2] > 0.0
    }
}

fn least_squares(site: &Site, history: &History) -> bool {
    let n = site.live_bytes.len() as f64;
    if site.live_bytes.len() < FEWEST_POINTS {
        return false;
    }
    let points =
        || history.ticks.iter().map(|t| f64::from(*t)).zip(site.live_bytes.iter().map(|e| e.value));
    let (mean_x, mean_y) =
        (points().map(|p| p.0).sum::<f64>() / n, points().map(|p| p.1).sum::<f64>() / n);
    let sxx: f64 = points().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let sxy: f64 = points().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let slope = sxy / sxx;
    let residual: f64 = points().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
    let error = (residual / (n - 2.0) / sxx).sqrt();
    if slope <= 0.0 || error <= 0.0 {
        // Without a residual all points are on the line.
        return slope > 0.0;
    }
    StudentsT::new(0.0, 1.0, n - 2.0).is_ok_and(|t| t.sf(slope / error) < SIGNIFICANCE)
}

fn older_than_half(site: &Site, history: &History) -> bool {
    let now = history.ticks.last().copied().unwrap_or_default();
    site.oldest.is_some_and(|first_seen| first_seen * 2 <= now)
}

fn largest_drop(site: &Site, _: &History) -> bool {
    /// Consecutive suspicions that make a report, as in Chromium.
    const ENOUGH: u32 = 4;
    site.suspicion >= ENOUGH
}
