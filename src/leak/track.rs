//! Findings from tick to tick: suspected, confirmed, retracted.

use super::container::Growth;
use super::finding::{Facts, Finding};
use super::nodes::LeakingNode;
use super::path::Paths;
use super::verdict::Verdict;
use super::view::TickView;
use crate::Estimate;
use crate::hash::NumberMap;

/// Ticks with certainty, each with more of it than the one before, that make a suspicion a certainty.
/// Where it is seen without certainty, one is taken away; a pause between two bursts says nothing.
const REPEATS: u32 = 3;

/// Findings that are followed at most.
const MAX_TRACKS: usize = 64;

/// Points of a growth curve at most; then every other one goes.
const MAX_POINTS: usize = 64;

/// A finding that is followed.
#[derive(Clone, Debug)]
struct Track {
    found: Followed,
    verdict: Verdict,
    first_seen: u32,
    last_seen: u32,
    certainty: u32,
    /// The last tick that counted toward certainty.
    counted: u32,
    retracted: u32,
    curve: Vec<(u32, f64)>,
}

#[derive(Clone, Debug)]
enum Followed {
    Node(Box<LeakingNode>),
    Container(u32),
}

impl Track {
    fn new(found: Followed, tick: u32) -> Self {
        Self {
            found,
            verdict: Verdict::Suspect,
            first_seen: tick,
            last_seen: tick,
            certainty: 0,
            counted: 0,
            retracted: 0,
            curve: Vec::new(),
        }
    }

    fn has(&self, site: u32) -> bool {
        match &self.found {
            Followed::Node(found) => found.sites.contains(&site),
            Followed::Container(own) => *own == site,
        }
    }

    /// Seen at this tick, with certainty or not, and with more of it or not since the last that counted.
    fn see(&mut self, tick: u32, certain: bool, more: bool) {
        self.last_seen = tick;
        if !certain {
            self.certainty = self.certainty.min(REPEATS).saturating_sub(1);
        } else if more {
            self.counted = tick;
            self.certainty += 1;
            if self.certainty >= REPEATS {
                self.verdict = Verdict::Confirmed;
            }
        }
    }

    fn retract(&mut self, tick: u32) {
        self.verdict = Verdict::Retracted;
        self.retracted = tick;
        self.certainty = 0;
    }

    fn is_retracted(&self) -> bool {
        self.verdict == Verdict::Retracted
    }
}

/// What is followed, over a session.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    tracks: Vec<Track>,
}

/// Ticks for which something that was retracted is shown as such, and not suspected again.
fn cooldown(tick: u32) -> u32 {
    (tick / 8).max(10)
}

impl Tracks {
    /// Goes on with what was found at a tick.
    pub(super) fn update(
        &mut self,
        tick: u32,
        nodes: Vec<LeakingNode>,
        growing: Vec<(u32, Growth)>,
        view: &TickView<'_>,
        paths: &Paths,
    ) {
        self.tracks
            .retain(|track| !track.is_retracted() || tick - track.retracted <= cooldown(tick));
        for found in nodes {
            let certain = view.is_certain(&found.tally, found.main_site);
            let same = self.tracks.iter_mut().find(|track| {
                let overlaps = |own: &LeakingNode| found.sites.contains(&own.main_site);
                track.has(found.main_site)
                    || matches!(&track.found, Followed::Node(own) if overlaps(own))
            });
            match same {
                Some(track) if track.is_retracted() => {}
                Some(track) => {
                    let more = found.goes_on(track.counted, view, paths);
                    if let Followed::Node(_) = track.found {
                        track.found = Followed::Node(Box::new(found));
                    }
                    track.see(tick, certain, more);
                }
                None => {
                    let more = found.goes_on(0, view, paths);
                    self.follow(Track::new(Followed::Node(Box::new(found)), tick), certain, more);
                }
            }
        }
        for (site, growth) in growing {
            let certain = growth == Growth::Confirmed;
            match self.tracks.iter_mut().find(|track| track.has(site)) {
                Some(track) if track.is_retracted() => {}
                Some(track) => track.see(tick, certain, true),
                None => self.follow(Track::new(Followed::Container(site), tick), certain, true),
            }
        }
        for track in self.tracks.iter_mut().filter(|track| track.last_seen < tick) {
            if !track.is_retracted() && Self::is_refuted(track, tick, view) {
                track.retract(tick);
            }
        }
        self.merge();
    }

    fn follow(&mut self, mut track: Track, certain: bool, more: bool) {
        if self.tracks.len() < MAX_TRACKS {
            let tick = track.first_seen;
            track.see(tick, certain, more);
            self.tracks.push(track);
        }
    }

    fn is_refuted(track: &Track, tick: u32, view: &TickView<'_>) -> bool {
        // A suspicion that nothing supports any more fades, though not between two bursts.
        let faded = track.verdict == Verdict::Suspect && tick - track.last_seen > (tick / 8).max(5);
        match &track.found {
            Followed::Node(found) => {
                let tally = view.sum(&found.sites);
                view.is_refuted(&tally) || faded && !view.is_pausing(&tally)
            }
            Followed::Container(site) => {
                faded
                    || view
                        .container(*site)
                        .is_none_or(|container| container.growth(tick) == Growth::No)
            }
        }
    }

    /// Two tracks that have come to mean the same become the older one.
    fn merge(&mut self) {
        let mut at = 0;
        while at < self.tracks.len() {
            let main = match &self.tracks[at].found {
                Followed::Node(found) => found.main_site,
                Followed::Container(site) => *site,
            };
            let verdict = self.tracks[at].verdict;
            if self.tracks[..at].iter().any(|older| {
                older.has(main)
                    && (older.verdict >= verdict || older.last_seen >= self.tracks[at].last_seen)
            }) {
                self.tracks.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// All that is followed, measured at this tick: the most certain first, then by how much is lost
    /// for certain.
    pub(super) fn findings(&mut self, view: &TickView<'_>, paths: &Paths) -> Vec<Finding> {
        let mut of_site = NumberMap::default();
        let mut facts = Vec::new();
        for (number, track) in self.tracks.iter().enumerate() {
            match &track.found {
                Followed::Node(found) => {
                    of_site.extend(found.sites.iter().map(|site| (*site, number)));
                    facts.push(view.facts(&view.sum(&found.sites)));
                }
                Followed::Container(site) => {
                    of_site.insert(*site, number);
                    let steps = view.container(*site).map(|c| c.steps.clone());
                    facts.push(Facts { steps: steps.unwrap_or_default(), ..Facts::default() });
                }
            }
        }
        let ticks: Vec<(u32, u32)> = facts.iter().map(|facts| facts.ticks).collect();
        let measures = view.measure(&of_site, &ticks);
        let mut findings: Vec<Finding> = self
            .tracks
            .iter_mut()
            .zip(facts)
            .zip(measures)
            .map(|((track, mut facts), measure)| {
                track.curve.push((view.uptime(), measure.live_bytes.value));
                if track.curve.len() > MAX_POINTS {
                    let mut keep = false;
                    track.curve.retain(|_| {
                        keep = !keep;
                        keep
                    });
                }
                facts.curve.clone_from(&track.curve);
                let found = match &track.found {
                    Followed::Node(found) => (**found).clone(),
                    Followed::Container(site) => LeakingNode::site(*site),
                };
                let (frames, shared_frames) = found.frames(view.live(), paths);
                let bytes_per_tick = match &track.found {
                    Followed::Node(_) => {
                        let length = f64::from((facts.ticks.1 - facts.ticks.0).max(1));
                        let leaked = measure.leaked_bytes;
                        Estimate::new(leaked.value / length, leaked.std_error / length)
                    }
                    Followed::Container(site) => {
                        let rate = view
                            .container(*site)
                            .map_or(0.0, |container| container.bytes_per_tick(view.uptime()));
                        // What it has grown by is known; how far it is into its next step is not.
                        Estimate::new(rate, rate / 4.0)
                    }
                };
                Finding {
                    verdict: track.verdict,
                    first_seen_tick: track.first_seen,
                    labels: found.labels(view.live()),
                    inner: found.inner(view.live(), paths),
                    sites: found.sites,
                    frames,
                    shared_frames,
                    live_bytes: measure.live_bytes,
                    live_count: measure.live_count,
                    bytes_per_tick,
                    facts,
                }
            })
            .collect();
        findings.sort_by(|a, b| {
            let surely = |finding: &Finding| finding.bytes_per_tick.ci95().0;
            b.verdict.cmp(&a.verdict).then(surely(b).total_cmp(&surely(a)))
        });
        findings
    }
}
