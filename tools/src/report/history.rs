//! A series of dumps in the form that the page needs: the totals of each, and the live set as runs.
//!
//! A *run* is the sum over the samples of one call site that were live and unchanged in all dumps
//! from `from` to `to`, and in none before or after. The live heap at a dump is the sum of the runs
//! that cover it. A difference between two dumps and its variance come from the runs that cover
//! exactly one of them: as in [`diff`](crate::diff), objects in both dumps add no uncertainty.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use heapdrift::Snapshot;
use heapdrift::snapshot::{LiveSample, Metrics};

use crate::numbers::sum::Sum;

/// The most dumps with a profile, between which the page can show differences.
const MAX_PROFILES: usize = 120;

/// The most runs before every second profile is dropped; they take less than 2 MB of the page.
const MAX_RUNS: usize = 50_000;

/// A dump of the series, as a point in time.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) path: PathBuf,
    pub(super) unix_ms: u64,
    pub(super) uptime_ms: u64,
    pub(super) tick: u32,
    pub(super) reason: String,
    pub(super) interval_bytes: f64,
    pub(super) totals: Metrics,
}

/// The call site of a run and the profiles that it extends over, as indices of profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) site: u32,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// The sums over the samples of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunSums {
    pub(super) bytes: Sum,
    pub(super) count: Sum,
}

impl RunSums {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.count += other.count;
    }
}

/// A live sample and the profile since which it is live.
#[derive(Clone, Copy, Debug)]
struct OpenRun {
    sample: LiveSample,
    site: u32,
    from: u32,
}

/// A series of dumps of one session, added in the order in which they were taken.
#[derive(Clone, Debug)]
pub struct History {
    pub(super) moments: Vec<Moment>,
    /// The indices of the moments that have a profile.
    pub(super) profiles: Vec<u32>,
    /// One moment in `stride` has a profile.
    stride: usize,
    ended: HashMap<Run, RunSums>,
    open: HashMap<u64, OpenRun>,
    /// The samples that are live at the last moment, with their call sites.
    live: Vec<(LiveSample, u32)>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            moments: Vec::new(),
            profiles: Vec::new(),
            stride: 1,
            ended: HashMap::new(),
            open: HashMap::new(),
            live: Vec::new(),
        }
    }
}

impl History {
    /// Adds the next dump. The page shows `path` as its name.
    pub fn add(&mut self, path: &Path, dump: &Snapshot) {
        let number = self.moments.len();
        self.moments.push(Moment {
            path: path.to_owned(),
            unix_ms: dump.taken.unix_ms,
            uptime_ms: dump.taken.uptime_ms,
            tick: dump.taken.tick,
            reason: dump.taken.reason.clone(),
            interval_bytes: dump.sampling.interval_bytes,
            totals: dump.totals,
        });
        let site = |sample: &LiveSample| dump.stacks[sample.stack as usize].site;
        self.live = dump.live.iter().map(|sample| (sample, site(&sample))).collect();
        if number.is_multiple_of(self.stride) {
            self.add_profile();
        }
    }

    /// The moments with a profile, including the first and the last, and the runs.
    pub(super) fn runs(&self) -> (Vec<u32>, Vec<(Run, RunSums)>) {
        let mut whole = self.clone();
        loop {
            if whole.profiles.last() != self.last().as_ref() {
                whole.add_profile();
            }
            let end = whole.profiles.len() as u32;
            let mut ended = whole.ended.clone();
            whole.open.values().for_each(|open| end_run(&mut ended, open, end));
            if ended.len() > MAX_RUNS && whole.profiles.len() > 2 {
                whole.halve();
                continue;
            }
            let mut runs: Vec<(Run, RunSums)> = ended.into_iter().collect();
            runs.sort_by_key(|(run, _)| *run);
            return (whole.profiles, runs);
        }
    }

    fn last(&self) -> Option<u32> {
        self.moments.len().checked_sub(1).map(|last| last as u32)
    }

    /// Adds a profile of the last moment.
    fn add_profile(&mut self) {
        if self.profiles.len() >= MAX_PROFILES || self.ended.len() > MAX_RUNS {
            self.halve();
        }
        let now = self.profiles.len() as u32;
        self.profiles.extend(self.last());
        let mut before = std::mem::take(&mut self.open);
        for &(sample, site) in &self.live {
            // A sample that has changed counts as a freed and a new one.
            let from = match before.remove(&sample.id) {
                Some(open) if is_same(&open.sample, &sample) => open.from,
                Some(open) => {
                    end_run(&mut self.ended, &open, now);
                    now
                }
                None => now,
            };
            self.open.insert(sample.id, OpenRun { sample, site, from });
        }
        before.into_values().for_each(|open| end_run(&mut self.ended, &open, now));
    }

    /// Drops every second profile.
    fn halve(&mut self) {
        self.stride *= 2;
        let kept = self.profiles.iter().copied().step_by(2).collect();
        self.profiles = kept;
        for (run, sums) in std::mem::take(&mut self.ended) {
            let run = Run { from: run.from.div_ceil(2), to: run.to / 2, ..run };
            if run.from <= run.to {
                self.ended.entry(run).or_default().add(sums);
            }
        }
        self.open.values_mut().for_each(|open| open.from = open.from.div_ceil(2));
    }
}

fn is_same(a: &LiveSample, b: &LiveSample) -> bool {
    a.size == b.size && a.interval == b.interval
}

/// Ends the run of a sample that is no longer live in the profile `end`.
fn end_run(ended: &mut HashMap<Run, RunSums>, open: &OpenRun, end: u32) {
    // The sample was live only in profiles that were dropped.
    if open.from >= end {
        return;
    }
    let run = Run { site: open.site, from: open.from, to: end - 1 };
    let weight = open.sample.weight();
    ended.entry(run).or_default().add(RunSums {
        bytes: Sum { value: weight.bytes, variance: weight.bytes_variance },
        count: Sum { value: weight.count, variance: weight.count_variance },
    });
}

#[cfg(test)]
mod tests {
    use heapdrift::snapshot::Stack;

    use super::*;

    /// A dump with these live objects, each an id and a size.
    fn dump(live: &[(u64, u64)]) -> Snapshot {
        let mut dump = Snapshot::default();
        let mut stack = Stack::default();
        stack.site = 7;
        dump.stacks.push(stack);
        for &(id, size) in live {
            let mut sample = LiveSample::default();
            (sample.id, sample.size, sample.interval) = (id, size, 1.0);
            dump.live.push(sample);
        }
        dump
    }

    fn history(dumps: &[&[(u64, u64)]]) -> History {
        let mut history = History::default();
        dumps.iter().for_each(|live| history.add(Path::new("x"), &dump(live)));
        history
    }

    #[test]
    fn a_run_covers_the_dumps_in_which_its_objects_are_live() {
        let history = history(&[&[(1, 10), (2, 20)], &[(1, 10), (3, 5)], &[(1, 10), (3, 6)]]);
        let (profiles, runs) = history.runs();
        assert_eq!(profiles, [0, 1, 2]);
        let runs: Vec<_> =
            runs.iter().map(|(run, sums)| (run.from, run.to, sums.bytes.value)).collect();
        assert_eq!(runs, [(0, 0, 20.0), (0, 2, 10.0), (1, 1, 5.0), (2, 2, 6.0)]);
    }

    #[test]
    fn a_long_series_keeps_its_ends_and_the_live_set_of_each_profile() {
        let live = |moment: u64| -> Vec<(u64, u64)> {
            (0..moment).filter(|id| id % 3 != 0 || moment < id + 5).map(|id| (id, 8)).collect()
        };
        let moments = 3 * MAX_PROFILES as u64 + 18;
        let dumps: Vec<_> = (1..=moments).map(live).collect();
        let dumps: Vec<&[(u64, u64)]> = dumps.iter().map(Vec::as_slice).collect();
        let (profiles, runs) = history(&dumps).runs();
        assert!(profiles.len() <= MAX_PROFILES && profiles.len() > MAX_PROFILES / 2);
        assert_eq!((profiles[0], profiles[profiles.len() - 1] as usize), (0, dumps.len() - 1));
        for (profile, moment) in (0..).zip(&profiles) {
            let covers = |run: &Run| (run.from..=run.to).contains(&profile);
            let found: f64 =
                runs.iter().filter(|(run, _)| covers(run)).map(|(_, sums)| sums.count.value).sum();
            assert_eq!(found, dumps[*moment as usize].len() as f64, "at {moment}");
        }
    }
}
