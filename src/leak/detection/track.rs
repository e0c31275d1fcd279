//! Tracks: findings followed from tick to tick, from suspicion to confirmation or retraction.
//!
//! ```text
//!                    3 ticks confirm it, each with new births
//!   (found) ─► suspect ────────────────────────────────────► confirmed
//!                 │  refuted, or not seen for long                │  refuted
//!                 └─────────────────► retracted ◄─────────────────┘
//!                                         │  after the cooldown
//!                                         ▼
//!                                     (forgotten)
//! ```

use super::container::Growth;
use super::finding::{Facts, Finding};
use super::nodes::LeakingNode;
use super::path::Paths;
use super::view::TickView;
use crate::Estimate;
use crate::hash::NumberMap;
use crate::report::Verdict;

/// Number of ticks with sufficient evidence that confirm a suspect, each with new births since the
/// one before. A tick in which it is found with insufficient evidence takes one away. A tick in
/// which it is not found changes nothing, because it may be a pause between two bursts.
const CONFIRMATIONS_NEEDED: u32 = 3;

/// The most findings that are followed.
const MAX_TRACKS: usize = 64;

/// The most points of a growth curve. When there are more, every other one is dropped.
const MAX_CURVE_POINTS: usize = 64;

/// A finding that is followed.
#[derive(Clone, Debug)]
struct Track {
    subject: Subject,
    verdict: Verdict,
    first_seen: u32,
    last_seen: u32,
    /// Number of ticks that counted toward a confirmation.
    confirmations: u32,
    /// The last tick that counted toward a confirmation.
    last_counted: u32,
    /// The tick at which it was retracted, or 0.
    retracted_at: u32,
    /// Ticks, and the live bytes at each.
    curve: Vec<(u32, f64)>,
}

/// What is followed.
#[derive(Clone, Debug)]
enum Subject {
    /// A node of the call tree.
    Node(Box<LeakingNode>),
    /// A container, by the site that allocates it.
    Container(u32),
}

impl Track {
    fn new(subject: Subject, tick: u32) -> Self {
        Self {
            subject,
            verdict: Verdict::Suspect,
            first_seen: tick,
            last_seen: tick,
            confirmations: 0,
            last_counted: 0,
            retracted_at: 0,
            curve: Vec::new(),
        }
    }

    fn covers(&self, site: u32) -> bool {
        match &self.subject {
            Subject::Node(node) => node.sites.contains(&site),
            Subject::Container(own) => *own == site,
        }
    }

    /// Records that it was found at this tick: whether the evidence suffices for a confirmation,
    /// and whether it has grown since the last tick that counted.
    fn observe(&mut self, tick: u32, is_sufficient: bool, has_continued: bool) {
        self.last_seen = tick;
        if !is_sufficient {
            self.confirmations = self.confirmations.min(CONFIRMATIONS_NEEDED).saturating_sub(1);
        } else if has_continued {
            self.last_counted = tick;
            self.confirmations += 1;
            if self.confirmations >= CONFIRMATIONS_NEEDED {
                self.verdict = Verdict::Confirmed;
            }
        }
    }

    fn retract(&mut self, tick: u32) {
        self.verdict = Verdict::Retracted;
        self.retracted_at = tick;
        self.confirmations = 0;
    }

    fn is_retracted(&self) -> bool {
        self.verdict == Verdict::Retracted
    }
}

/// All tracks of a session.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    tracks: Vec<Track>,
}

/// Number of ticks for which a retracted finding is shown as retracted and not suspected again.
fn cooldown_ticks(tick: u32) -> u32 {
    (tick / 8).max(10)
}

impl Tracks {
    /// Advances all tracks by the leaking nodes and growing containers found at a tick.
    pub(super) fn update(
        &mut self,
        tick: u32,
        nodes: Vec<LeakingNode>,
        growing: Vec<(u32, Growth)>,
        view: &TickView<'_>,
        paths: &Paths,
    ) {
        self.tracks.retain(|track| {
            !track.is_retracted() || tick - track.retracted_at <= cooldown_ticks(tick)
        });
        for node in nodes {
            let is_sufficient = view.supports_confirmation(&node.tally, node.main_site);
            let same = self.tracks.iter_mut().find(|track| {
                let overlaps = |own: &LeakingNode| node.sites.contains(&own.main_site);
                track.covers(node.main_site)
                    || matches!(&track.subject, Subject::Node(own) if overlaps(own))
            });
            match same {
                Some(track) if track.is_retracted() => {}
                Some(track) => {
                    let has_continued = node.has_continued_since(track.last_counted, view, paths);
                    if let Subject::Node(_) = track.subject {
                        track.subject = Subject::Node(Box::new(node));
                    }
                    track.observe(tick, is_sufficient, has_continued);
                }
                None => {
                    let has_continued = node.has_continued_since(0, view, paths);
                    self.add(
                        Track::new(Subject::Node(Box::new(node)), tick),
                        is_sufficient,
                        has_continued,
                    );
                }
            }
        }
        for (site, growth) in growing {
            let is_sufficient = growth == Growth::Confirmed;
            match self.tracks.iter_mut().find(|track| track.covers(site)) {
                Some(track) if track.is_retracted() => {}
                Some(track) => track.observe(tick, is_sufficient, true),
                None => self.add(Track::new(Subject::Container(site), tick), is_sufficient, true),
            }
        }
        for track in self.tracks.iter_mut().filter(|track| track.last_seen < tick) {
            if !track.is_retracted() && Self::is_refuted(track, tick, view) {
                track.retract(tick);
            }
        }
        self.merge();
    }

    fn add(&mut self, mut track: Track, is_sufficient: bool, has_continued: bool) {
        if self.tracks.len() < MAX_TRACKS {
            let tick = track.first_seen;
            track.observe(tick, is_sufficient, has_continued);
            self.tracks.push(track);
        }
    }

    fn is_refuted(track: &Track, tick: u32, view: &TickView<'_>) -> bool {
        // A suspicion lapses if it is not supported any longer, but not between two bursts.
        let faded = track.verdict == Verdict::Suspect && tick - track.last_seen > (tick / 8).max(5);
        match &track.subject {
            Subject::Node(node) => {
                let tally = view.tally_of(&node.sites);
                view.is_refuted(&tally) || faded && !view.is_pausing(&tally)
            }
            Subject::Container(site) => {
                faded
                    || view
                        .container(*site)
                        .is_none_or(|container| container.growth(tick) == Growth::None)
            }
        }
    }

    /// Drops a track whose main site is covered by an older one, unless the newer is the more
    /// certain one and was seen more recently.
    fn merge(&mut self) {
        let mut at = 0;
        while at < self.tracks.len() {
            let main = match &self.tracks[at].subject {
                Subject::Node(node) => node.main_site,
                Subject::Container(site) => *site,
            };
            let verdict = self.tracks[at].verdict;
            if self.tracks[..at].iter().any(|older| {
                older.covers(main)
                    && (older.verdict >= verdict || older.last_seen >= self.tracks[at].last_seen)
            }) {
                self.tracks.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// The findings at this tick, with estimates: confirmed before suspected before retracted, then
    /// by the lower bound of the 95% interval of the rate.
    pub(super) fn findings(&mut self, view: &TickView<'_>, paths: &Paths) -> Vec<Finding> {
        let mut of_site = NumberMap::default();
        let mut facts = Vec::new();
        for (number, track) in self.tracks.iter().enumerate() {
            match &track.subject {
                Subject::Node(node) => {
                    of_site.extend(node.sites.iter().map(|site| (*site, number)));
                    facts.push(view.facts(&view.tally_of(&node.sites)));
                }
                Subject::Container(site) => {
                    of_site.insert(*site, number);
                    let steps = view.container(*site).map(|c| c.steps.clone());
                    facts.push(Facts { steps: steps.unwrap_or_default(), ..Facts::default() });
                }
            }
        }
        let ticks: Vec<(u32, u32)> = facts.iter().map(|facts| facts.ticks).collect();
        let estimates = view.estimate(&of_site, &ticks);
        let mut findings: Vec<Finding> = self
            .tracks
            .iter_mut()
            .zip(facts)
            .zip(estimates)
            .map(|((track, mut facts), estimate)| {
                track.curve.push((view.uptime(), estimate.live_bytes.value));
                if track.curve.len() > MAX_CURVE_POINTS {
                    let mut keep = false;
                    track.curve.retain(|_| {
                        keep = !keep;
                        keep
                    });
                }
                facts.curve.clone_from(&track.curve);
                let node = match &track.subject {
                    Subject::Node(node) => (**node).clone(),
                    Subject::Container(site) => LeakingNode::of_site(*site),
                };
                let (frames, shared_frames) = node.frames(view.live(), paths);
                let bytes_per_tick = match &track.subject {
                    Subject::Node(_) => {
                        let length = f64::from((facts.ticks.1 - facts.ticks.0).max(1));
                        let leaked = estimate.leaked_bytes;
                        Estimate::new(leaked.value / length, leaked.std_error / length)
                    }
                    Subject::Container(site) => {
                        let rate = view
                            .container(*site)
                            .map_or(0.0, |container| container.bytes_per_tick(view.uptime()));
                        // The sizes are known exactly, but not how much of the last step is in use.
                        Estimate::new(rate, rate / 4.0)
                    }
                };
                Finding {
                    verdict: track.verdict,
                    first_seen_tick: track.first_seen,
                    labels: node.labels(view.live()),
                    callees: node.callees(view.live(), paths),
                    sites: node.sites,
                    frames,
                    shared_frames,
                    live_bytes: estimate.live_bytes,
                    live_count: estimate.live_count,
                    bytes_per_tick,
                    facts,
                }
            })
            .collect();
        findings.sort_by(|a, b| {
            let rate_lower_bound = |finding: &Finding| finding.bytes_per_tick.ci95().0;
            b.verdict.cmp(&a.verdict).then(rate_lower_bound(b).total_cmp(&rate_lower_bound(a)))
        });
        findings
    }
}
