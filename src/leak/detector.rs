//! The detector: one tick after the other, from live sets to findings.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::container::{Blocks, Containers, Growth, Owner};
use super::naming::{self, Names};
use super::observation::{Observation, Observed};
use super::survival;
use super::survival::Deaths;
use super::tally::Tally;
use super::track::{Tracks, Verdict};
use super::tree::{self, Item, Judge, Node};
use crate::Estimate;
use crate::blame::Frame;
use crate::diff::{self, Cohorts};
use crate::names::machinery::{self, Role};
use crate::snapshot::inclusion_probability;

/// The first tick with an opinion: before, there is no age to speak of.
const FIRST_TICK: u32 = 20;

/// The first tick that counts toward certainty. What fills up within a few ticks is full by then.
const FIRST_CERTAIN_TICK: u32 = 22;

/// The chance of a false certainty in a session in which nothing leaks, over all sites and ticks;
/// and of a false suspicion.
const CONFIRM_LEVEL: f64 = 0.002;
const SUSPECT_LEVEL: f64 = 0.2;

/// The share of old objects that may have gone lately, of as many as came.
const GOING: f64 = 0.1;

/// The same of the last few ticks, for a certainty: what is full has begun to let go.
const GOING_NOW: f64 = 0.25;

/// Old objects that a verdict needs; a certain one needs more, unless they hold a large share of all
/// live bytes.
const FEWEST_OBJECTS: u32 = 5;
const FEWEST_CERTAIN: u32 = 12;
const LARGE_SHARE: f64 = 0.1;

/// Sites whose places in the call tree are searched: those with most old objects.
const MAX_SEARCHED: usize = 2048;

/// How many functions may be between one that a leak is named by and those that allocate.
const NEAR: usize = 4;

/// Sites that are looked at to see that.
const MAX_NAMED: usize = 16;

/// What holds less than this share of all live bytes is below the floor.
const FLOOR: f64 = 0.001;

/// Addresses whose function is remembered.
const MAX_FUNCTIONS: usize = 1 << 16;

/// A block this many intervals large is in the sample for certain (but for one in 150).
const CERTAIN: f64 = 5.0;

/// Marks in paths what is no function: a set of labels, a site.
const LABELS: u64 = 1 << 63;
const SITE: u64 = 1 << 62;

/// The state of a session: what was seen up to the last tick.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    cohorts: Cohorts,
    last_tick: u32,
    deaths: Vec<Deaths>,
    born: Vec<u32>,
    containers: Containers,
    tracks: Tracks,
    functions: RefCell<HashMap<u64, u64>>,
}

/// Something that leaks, or was believed to.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) first_seen_tick: u32,
    /// All of its sites.
    pub(crate) sites: Vec<u32>,
    /// Code addresses of the site with most of it, innermost first; where the finding is all that happens below a
    /// function, from that function outward.
    pub(crate) frames: Vec<u64>,
    /// How many of them all of its sites share.
    pub(crate) shared_frames: usize,
    /// Of a finding below a function: the addresses that some of its sites have just inside of it,
    /// that of the main site first.
    pub(crate) inner: Vec<u64>,
    /// The labels that all of its sites have.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) live_bytes: Estimate,
    pub(crate) live_count: Estimate,
    pub(crate) bytes_per_tick: Estimate,
    pub(crate) facts: Facts,
}

/// What a finding rests on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// A container: the ticks at which it had grown by a step, and its bytes then.
    pub(crate) steps: Vec<(u32, u64)>,
    /// Logarithm of the e-value, and what it had to exceed.
    pub(crate) log_e: f64,
    pub(crate) threshold: f64,
    pub(crate) mature_age: u32,
    pub(crate) mature_alive: u32,
    pub(crate) mature_deaths: f64,
    pub(crate) born: f64,
    pub(crate) ticks: (u32, u32),
    pub(crate) quarters: [f64; 4],
    /// Alive objects by time of birth, in equal parts of the uptime.
    pub(crate) births: Vec<u32>,
    /// Of each octave, by the age in ticks at which it begins: objects alive, and ever died.
    pub(crate) ages: Vec<(u32, u32, f64)>,
    /// Live bytes at ticks since the finding was first seen.
    pub(crate) curve: Vec<(u32, f64)>,
}

/// All findings of a tick, and what they were chosen from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) tick: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) tested: usize,
    pub(crate) findings: Vec<Finding>,
}

impl Detector {
    /// Looks at the live set at the end of a tick. Ticks must come in order; a gap costs evidence,
    /// not soundness.
    pub(crate) fn tick(&mut self, live: &dyn Observation, names: &mut dyn Names) -> Findings {
        let tick = live.tick();
        // Some more than last time: a live set that doubles its room by itself would take twice that.
        let mut cohorts = Cohorts::with_capacity(self.cohorts.samples() * 9 / 8 + 1024);
        let mut bytes = vec![0.0_f32; live.sites() as usize];
        let mut blocks: HashMap<Owner, Blocks> = HashMap::new();
        live.for_each(&mut |sample: Observed| {
            // Born while this tick was being ended.
            if sample.birth > tick || sample.site as usize >= bytes.len() {
                return;
            }
            cohorts.push(sample.site, sample.birth, sample.interval);
            let probability = inclusion_probability(sample.size, sample.interval);
            bytes[sample.site as usize] += (sample.size as f64 / probability) as f32;
            if sample.size as f64 >= CERTAIN * f64::from(sample.interval) {
                let blocks = blocks.entry(Owner::of(&sample)).or_default();
                blocks.site = sample.site;
                blocks.objects += 1;
                blocks.bytes += sample.size;
            }
        });
        cohorts.sort();
        self.take_down(tick, cohorts, bytes.len());
        self.containers.observe(tick, &blocks);
        let mut findings = Findings { tick, uptime_ms: live.uptime_ms(), ..Findings::default() };
        if tick >= FIRST_TICK {
            let mut tracks = std::mem::take(&mut self.tracks);
            let scene = Scene::new(self, live, names, &bytes);
            findings.tested = scene.items.len();
            tracks.update(tick, scene.nodes(), scene.growing(), &scene);
            findings.findings = tracks.findings(&scene);
            self.tracks = tracks;
        }
        findings
    }

    /// Adds what happened since the last tick to the evidence of each site.
    fn take_down(&mut self, tick: u32, cohorts: Cohorts, sites: usize) {
        if self.deaths.len() < sites {
            self.deaths.resize(sites, Deaths::default());
            self.born.resize(sites, 0);
        }
        let passed = tick.saturating_sub(self.last_tick);
        self.deaths.iter_mut().for_each(|deaths| deaths.age(passed, tick));
        for change in diff::diff(&self.cohorts, &cohorts) {
            let site = change.site as usize;
            if change.birth > self.last_tick {
                self.born[site] += change.after;
            } else if !change.resampled && change.before > change.after {
                // Born in the middle of its tick, on average.
                let age = (self.last_tick - change.birth) as f32 + 0.5;
                self.deaths[site].add(age, change.before - change.after, tick);
            }
        }
        self.cohorts = cohorts;
        self.last_tick = tick;
    }
}

/// The live set of a tick with all evidence so far.
pub(super) struct Scene<'a> {
    detector: &'a Detector,
    live: &'a dyn Observation,
    names: RefCell<&'a mut dyn Names>,
    bytes: &'a [f32],
    all_bytes: f64,
    uptime: u32,
    /// Sites that have mature objects, or had.
    items: Vec<u32>,
    /// Samples alive at each site.
    alive: Vec<u32>,
    /// Sites that have samples born in this tick.
    fresh: Vec<u32>,
}

impl<'a> Scene<'a> {
    fn new(
        detector: &'a Detector,
        live: &'a dyn Observation,
        names: &'a mut dyn Names,
        bytes: &'a [f32],
    ) -> Self {
        let uptime = live.tick();
        let mut items: Vec<u32> = (0..bytes.len() as u32)
            .filter(|site| detector.deaths[*site as usize].mature(uptime) > 0.0)
            .collect();
        let mut alive = vec![0; bytes.len()];
        let mut fresh = Vec::new();
        for cohort in detector.cohorts.iter() {
            alive[cohort.site as usize] += cohort.alive;
            if cohort.birth == uptime {
                fresh.push(cohort.site);
            }
            let is_old = cohort.birth + uptime / 16 <= uptime;
            if is_old && items.last() != Some(&cohort.site) {
                items.push(cohort.site);
            }
        }
        items.sort_unstable();
        items.dedup();
        Self {
            detector,
            live,
            names: RefCell::new(names),
            bytes,
            all_bytes: bytes.iter().map(|bytes| f64::from(*bytes)).sum::<f64>().max(1.0),
            uptime,
            items,
            alive,
            fresh,
        }
    }

    pub(super) fn uptime(&self) -> u32 {
        self.uptime
    }

    pub(super) fn tally(&self, site: u32) -> Tally {
        let mut tally = Tally::default();
        let at = site as usize;
        if at < self.bytes.len() {
            tally.deaths = self.detector.deaths[at];
            tally.born = self.detector.born[at] as f32;
            tally.live_bytes = self.bytes[at].into();
            for cohort in self.detector.cohorts.of_site(site) {
                tally.births.add(cohort.birth, self.uptime, cohort.alive);
            }
        }
        tally
    }

    pub(super) fn sum(&self, sites: &[u32]) -> Tally {
        let mut sum = Tally::default();
        sites.iter().for_each(|site| sum.add(&self.tally(*site)));
        sum
    }

    pub(super) fn container(&self, site: u32) -> Option<&super::container::Container> {
        self.detector.containers.at(site)
    }

    /// What the logarithm of an e-value must exceed. The level is divided among the sites, one half
    /// evenly, the other by live bytes: what holds much memory is looked at with less suspicion of
    /// chance (a weighted Bonferroni correction: Genovese, Roeder, Wasserman, 2006).
    pub(super) fn threshold(&self, tally: &Tally, level: f64) -> f64 {
        let evenly = 0.5 / self.items.len().max(1) as f64;
        let by_bytes = 0.5 * (tally.live_bytes / self.all_bytes).clamp(0.0, 1.0);
        -(level * (evenly + by_bytes)).ln()
    }

    pub(super) fn is_certain(&self, tally: &Tally) -> bool {
        let is_large = tally.live_bytes > LARGE_SHARE * self.all_bytes;
        self.uptime >= FIRST_CERTAIN_TICK
            && (is_large || tally.births.old(self.uptime) >= FEWEST_CERTAIN)
            && self.exceeds(tally, CONFIRM_LEVEL)
            && tally.deaths.old_lately()
                < GOING_NOW * tally.births.rate(self.uptime) * survival::LATELY
    }

    /// Whether more of it came in this tick; of few large ones, whether the next is not overdue. New
    /// callers of a node have no evidence yet, but they count here.
    pub(super) fn goes_on(&self, found: &Found) -> bool {
        let births = &found.tally.births;
        let is_part = |site: &u32| {
            found.sites.contains(site)
                || found.sites.len() > 1 && self.is_below(*site, found.is_inward, &found.prefix)
        };
        self.fresh.iter().any(is_part)
            || births.old(self.uptime) < FEWEST_CERTAIN && births.missing(self.uptime) < 1.0
    }

    fn exceeds(&self, tally: &Tally, level: f64) -> bool {
        let evidence = tally.evidence(self.uptime);
        if evidence.log_e < self.threshold(tally, level)
            || tally.live_bytes < FLOOR * self.all_bytes
        {
            return false;
        }
        let spread = tally.births.spread(self.uptime, evidence.mature_age);
        // As many old objects as come must not go.
        let coming = spread.rate() * survival::memory(self.uptime);
        spread.lasts && spread.objects >= FEWEST_OBJECTS && evidence.recent_deaths < GOING * coming
    }

    /// Whether a node that once leaked does not: its objects die after all, or no more are born.
    pub(super) fn is_refuted(&self, tally: &Tally) -> bool {
        let evidence = tally.evidence(self.uptime);
        let threshold = self.threshold(tally, SUSPECT_LEVEL);
        let spread = tally.births.spread(self.uptime, evidence.mature_age.max(1));
        evidence.log_e < threshold / 2.0 || spread.stopped
    }

    /// Whether functions are such that a leak can be in them; `None` of one without a name.
    fn are_places(&self, functions: &[u64]) -> Vec<Option<bool>> {
        let named = naming::resolve(self.live, &mut **self.names.borrow_mut(), functions);
        let is_place = |frames: Vec<Frame>| {
            // The function itself is the outermost of those inlined into it.
            let frame = frames.last().filter(|frame| frame.crate_name.is_some())?;
            Some(machinery::role(&frame.function) == Role::Other)
        };
        named.into_iter().map(is_place).collect()
    }

    /// The functions that allocate at these sites: the innermost of each that is one a leak can be
    /// in, by name.
    fn allocating_functions(&self, sites: &[u32]) -> Vec<Option<String>> {
        let stacks: Vec<Vec<u64>> = sites
            .iter()
            .map(|site| {
                let mut frames = Vec::new();
                self.live.frames(*site, &mut frames);
                frames
            })
            .collect();
        let addresses: Vec<u64> = stacks.iter().flatten().copied().collect();
        let named = naming::resolve(self.live, &mut **self.names.borrow_mut(), &addresses);
        let mut named = named.into_iter();
        let function = |stack: &Vec<u64>| {
            let frames: Vec<Frame> = named.by_ref().take(stack.len()).flatten().collect();
            let roles = frames.iter().map(|frame| machinery::role(&frame.function));
            frames.get(machinery::depth(roles)).map(|frame| frame.function.clone())
        };
        stacks.iter().map(function).collect()
    }

    fn has_stopped(&self, site: u32) -> bool {
        let births = self.tally(site).births;
        births.old(self.uptime) > 0 && births.have_stopped(self.uptime, (self.uptime / 8).max(1))
    }

    fn function(&self, address: u64) -> u64 {
        let mut known = self.detector.functions.borrow_mut();
        if known.len() >= MAX_FUNCTIONS {
            known.clear();
        }
        *known.entry(address).or_insert_with(|| self.live.function(address))
    }

    /// The frames of a finding's main site, and how many of them all of its sites share.
    pub(super) fn frames(&self, found: &Found) -> (Vec<u64>, usize) {
        let mut frames = Vec::new();
        self.live.frames(found.main_site, &mut frames);
        if let Some(function) = found.below {
            let at = frames.iter().position(|address| self.function(*address) == function);
            frames.drain(..at.unwrap_or(0));
            let shared = frames.len();
            return (frames, shared);
        }
        let is_shared = |address: &&u64| match &found.shared {
            Some(functions) => functions.contains(&self.function(**address)),
            None => true,
        };
        let shared = frames.iter().take_while(is_shared).count();
        (frames, shared)
    }

    /// What is called by the function that a finding is below, at some of its sites.
    pub(super) fn inner(&self, found: &Found) -> Vec<u64> {
        let Some(function) = found.below else { return Vec::new() };
        let mut frames = Vec::new();
        let others = found.sites.iter().filter(|site| **site != found.main_site);
        std::iter::once(&found.main_site)
            .chain(others)
            .take(8)
            .filter_map(|site| {
                self.live.frames(*site, &mut frames);
                let at = frames.iter().position(|address| self.function(*address) == function)?;
                frames.get(at.checked_sub(1)?).copied()
            })
            .collect()
    }

    /// The labels that all of these sites have.
    pub(super) fn labels(&self, sites: &[u32]) -> BTreeMap<String, String> {
        let sets: HashSet<u32> = sites.iter().map(|site| self.live.label_set(*site)).collect();
        let mut sets = sets.into_iter().map(|set| self.live.labels(set));
        let mut shared = sets.next().unwrap_or_default();
        for other in sets {
            shared.retain(|key, value| other.get(key) == Some(value));
        }
        shared
    }

    /// The functions of a site, each once, from the innermost outward or from the outermost inward;
    /// then labels and site. Each is shown to `go_on` as it comes, which may end it.
    fn walk(&self, site: u32, is_inward: bool, mut go_on: impl FnMut(u64) -> bool) {
        let mut frames = Vec::new();
        self.live.frames(site, &mut frames);
        if is_inward {
            frames.reverse();
        }
        let mut seen: Vec<u64> = Vec::with_capacity(frames.len());
        for address in frames {
            let function = self.function(address);
            if !seen.contains(&function) {
                seen.push(function);
                if !go_on(function) {
                    return;
                }
            }
        }
        let _ =
            go_on(LABELS | u64::from(self.live.label_set(site))) && go_on(SITE | u64::from(site));
    }

    fn path(&self, site: u32, is_inward: bool) -> Vec<u64> {
        let mut path = Vec::new();
        self.walk(site, is_inward, |step| {
            path.push(step);
            true
        });
        path
    }

    fn is_below(&self, site: u32, is_inward: bool, prefix: &[u64]) -> bool {
        let mut left = prefix;
        self.walk(site, is_inward, |step| match left.split_first() {
            Some((first, rest)) if *first == step => {
                left = rest;
                !left.is_empty()
            }
            _ => false,
        });
        left.is_empty()
    }

    /// The sites with most old objects, of those whose births go on: where they have stopped,
    /// nothing is explained, whatever is held. That those without old objects may be left out does
    /// not flatter the nodes above them: what died there is looked at before a node is believed.
    fn searched(&self) -> Vec<u32> {
        let old = |site: u32| {
            let births = self.tally(site).births;
            let old = births.old(self.uptime);
            let stopped = old > 0 && births.have_stopped(self.uptime, (self.uptime / 8).max(1));
            (!stopped).then_some((old, site))
        };
        let mut sites: Vec<(u32, u32)> = self.items.iter().filter_map(|site| old(*site)).collect();
        if sites.len() > MAX_SEARCHED {
            sites.select_nth_unstable_by_key(MAX_SEARCHED, |(old, _)| std::cmp::Reverse(*old));
            sites.truncate(MAX_SEARCHED);
        }
        sites.into_iter().map(|(_, site)| site).collect()
    }

    /// The nodes that leak by the survival of their objects.
    fn nodes(&self) -> Vec<Found> {
        let item = |site: &u32, is_inward: bool| Item {
            site: *site,
            path: self.path(*site, is_inward),
            tally: self.tally(*site),
        };
        let searched = self.searched();
        let items: Vec<Item> = searched.iter().map(|site| item(site, false)).collect();
        let outward = Direction { scene: self, is_inward: false, others: None };
        let nodes = self.of_one_function(tree::explain(items, &outward));
        // What is left, by where it is called from.
        let explained: HashSet<u32> = nodes.iter().flat_map(|node| node.sites.clone()).collect();
        let rest: Vec<Item> = searched
            .iter()
            .filter(|site| !explained.contains(site))
            .map(|site| item(site, true))
            .collect();
        let inward = Direction { scene: self, is_inward: true, others: None };
        let mut below = tree::explain(rest, &inward);
        // What is enough by itself may still be a part of what is not.
        let mut nodes = nodes;
        for node in &mut below {
            let is_part = |other: &mut Node| {
                other.sites.iter().all(|site| self.is_below(*site, true, &node.prefix))
            };
            for part in nodes.extract_if(.., is_part).collect::<Vec<_>>() {
                node.sites.extend(part.sites);
                node.tally.add(&part.tally);
            }
        }
        let mut found: Vec<Found> = self.together(nodes, &explained);
        found.extend(below.into_iter().map(|node| Found::inward(node, self)));
        found
    }

    /// Nodes of one function, with the same labels, become one: it leaks several things at a time.
    fn of_one_function(&self, nodes: Vec<Node>) -> Vec<Node> {
        let main: Vec<u32> = nodes.iter().map(|node| main_site(&node.sites, self)).collect();
        let functions = self.allocating_functions(&main);
        let mut merged: Vec<(Option<String>, u32, Node)> = Vec::new();
        for ((node, main), function) in nodes.into_iter().zip(main).zip(functions) {
            let labels = self.live.label_set(main);
            let same = |(other, set, _): &&mut (Option<String>, u32, Node)| {
                function.is_some() && *other == function && *set == labels
            };
            match merged.iter_mut().find(same) {
                None => merged.push((function, labels, node)),
                Some((.., together)) => {
                    together.sites.extend(node.sites);
                    together.tally.add(&node.tally);
                    // What they share from the innermost function on does not end in that function.
                    // They are named by the site with most of it.
                    together.prefix = self.path(main_site(&together.sites, self), false);
                }
            }
        }
        merged.into_iter().map(|(.., node)| node).collect()
    }

    /// Nodes that are all that happens below a common function become one.
    fn together(&self, nodes: Vec<Node>, explained: &HashSet<u32>) -> Vec<Found> {
        if nodes.len() < 2 {
            return nodes.into_iter().map(|node| Found::outward(node, self)).collect();
        }
        let items = nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                let mut path = self.path(node.sites[0], true);
                for site in &node.sites[1..] {
                    let other = self.path(*site, true);
                    let shared = path.iter().zip(&other).take_while(|(a, b)| a == b).count();
                    path.truncate(shared);
                }
                path.push(SITE | number as u64);
                Item { site: number as u32, path, tally: node.tally }
            })
            .collect();
        let inward = Direction { scene: self, is_inward: true, others: Some(explained) };
        tree::explain(items, &inward)
            .into_iter()
            .map(|group| match group.sites[..] {
                [number] => Found::outward(nodes[number as usize].clone(), self),
                _ => {
                    let of = |number: &u32| nodes[*number as usize].sites.clone();
                    let sites = group.sites.iter().flat_map(of).collect();
                    Found::inward(Node { sites, ..group }, self)
                }
            })
            .collect()
    }

    /// Containers that grow and grow.
    fn growing(&self) -> Vec<(u32, Growth)> {
        self.detector
            .containers
            .iter()
            .map(|container| (container.blocks.site, container.growth(self.uptime)))
            .filter(|(site, growth)| *growth > Growth::No && (*site as usize) < self.bytes.len())
            .collect()
    }

    /// Estimates over the live samples of sites, each with the number it is to be added to; of all
    /// samples, and of those born in the ticks given for that number.
    pub(super) fn measure(
        &self,
        of_site: &HashMap<u32, usize>,
        ticks: &[(u32, u32)],
    ) -> Vec<Measure> {
        let mut sums = vec![Measure::default(); ticks.len()];
        self.live.for_each(&mut |sample| {
            let Some(number) = of_site.get(&sample.site) else { return };
            let p = inclusion_probability(sample.size, sample.interval);
            let (size, sum) = (sample.size as f64, &mut sums[*number]);
            sum.live_bytes = sum.live_bytes + Estimate::new(size / p, size * (1.0 - p).sqrt() / p);
            sum.live_count = sum.live_count + Estimate::new(1.0 / p, (1.0 - p).sqrt() / p);
            let (from, to) = ticks[*number];
            if (from..to).contains(&sample.birth) {
                // Births are random too: each adds its square, not only what sampling adds.
                sum.leaked_bytes = sum.leaked_bytes + Estimate::new(size / p, size / p);
            }
        });
        sums
    }

    pub(super) fn facts(&self, tally: &Tally) -> Facts {
        let evidence = tally.evidence(self.uptime);
        let spread = tally.births.spread(self.uptime, evidence.mature_age.max(1));
        let age_group = |octave: usize| {
            let from = survival::begin(octave);
            let alive = tally.births.of_age(self.uptime, from, 2 * from);
            (from, alive, tally.deaths.octave(octave))
        };
        Facts {
            log_e: evidence.log_e,
            threshold: self.threshold(tally, CONFIRM_LEVEL),
            mature_age: evidence.mature_age,
            mature_alive: spread.objects,
            mature_deaths: evidence.mature_deaths,
            born: tally.born.into(),
            ticks: spread.ticks,
            quarters: spread.quarters,
            births: tally.births.sixteenths(self.uptime),
            ages: (0..survival::OCTAVES)
                .map(age_group)
                .filter(|(_, alive, died)| *alive > 0 || *died > 0.0)
                .collect(),
            ..Facts::default()
        }
    }
}

/// Estimates of one finding.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    pub(super) live_bytes: Estimate,
    pub(super) live_count: Estimate,
    pub(super) leaked_bytes: Estimate,
}

/// A node that leaks, as it is followed from tick to tick.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) sites: Vec<u32>,
    pub(super) main_site: u32,
    pub(super) below: Option<u64>,
    pub(super) shared: Option<Vec<u64>>,
    /// The path that all of its sites share, from the innermost function or from the outermost.
    prefix: Vec<u64>,
    is_inward: bool,
    pub(super) tally: Tally,
}

impl Found {
    /// A single site.
    pub(super) fn site(site: u32) -> Self {
        let tally = Tally::default();
        let (prefix, is_inward) = (Vec::new(), false);
        Self {
            sites: vec![site],
            main_site: site,
            below: None,
            shared: None,
            prefix,
            is_inward,
            tally,
        }
    }

    fn outward(node: Node, scene: &Scene<'_>) -> Self {
        let main_site = main_site(&node.sites, scene);
        let functions =
            node.prefix.iter().copied().filter(|key| key & (LABELS | SITE) == 0).collect();
        let shared = (node.sites.len() > 1).then_some(functions);
        let Node { sites, prefix, tally } = node;
        Self { main_site, sites, below: None, shared, prefix, is_inward: false, tally }
    }

    fn inward(node: Node, scene: &Scene<'_>) -> Self {
        let below = node.prefix.iter().rev().find(|key| *key & (LABELS | SITE) == 0).copied();
        let main_site = main_site(&node.sites, scene);
        let Node { sites, prefix, tally } = node;
        Self { main_site, sites, below, shared: None, prefix, is_inward: true, tally }
    }
}

fn main_site(sites: &[u32], scene: &Scene<'_>) -> u32 {
    let old = |site: &u32| scene.tally(*site).births.old(scene.uptime);
    sites.iter().copied().max_by_key(old).unwrap_or_default()
}

/// One of the two ways to look at stacks.
struct Direction<'s, 'a> {
    scene: &'s Scene<'a>,
    is_inward: bool,
    /// Sites that leak, when all others count as clean.
    others: Option<&'s HashSet<u32>>,
}

impl Judge for Direction<'_, '_> {
    fn leaks(&self, tally: &Tally) -> bool {
        self.others.is_some() || self.scene.exceeds(tally, SUSPECT_LEVEL)
    }

    fn clean_deaths(&self, prefix: &[u64]) -> f64 {
        let scene = self.scene;
        // What is alive may leak yet.
        let dead = |site: usize| scene.detector.born[site].saturating_sub(scene.alive[site]);
        (0..scene.bytes.len())
            .filter(|site| dead(*site) > 0)
            .filter(|site| !self.others.is_some_and(|leaking| leaking.contains(&(*site as u32))))
            .filter(|site| scene.is_below(*site as u32, self.is_inward, prefix))
            // One that leaks too, but of which there is too little to tell, is not clean.
            .filter(|site| {
                let evidence = scene.tally(*site as u32).evidence(scene.uptime);
                evidence.best <= 0.0 || scene.has_stopped(*site as u32)
            })
            .map(|site| f64::from(dead(site)))
            .sum()
    }

    fn fewest(&self) -> usize {
        // Two functions called by one that has nothing else to do may still be two leaks.
        if self.is_inward { 3 } else { 2 }
    }

    fn all(&self, items: &[Item]) -> usize {
        if self.others.is_some() { usize::MAX } else { items.len() }
    }

    fn is_place(&self, prefix: &[u64], items: &[Item], is_root: bool) -> bool {
        let is_function = |key: &&u64| *key & (LABELS | SITE) == 0;
        let Some(function) = prefix.iter().rev().find(is_function) else { return false };
        if !self.is_inward {
            // Named by the innermost of them that is one.
            let functions: Vec<u64> = prefix.iter().filter(is_function).copied().collect();
            let are_places = self.scene.are_places(&functions);
            return are_places.into_iter().any(|is_place| is_place.unwrap_or(!is_root));
        }
        // From far outside one sees too much: what runs all requests, not what one of them does.
        let inside = |item: &Item| -> Vec<u64> {
            item.path[prefix.len()..].iter().filter(is_function).copied().collect()
        };
        let inside: Vec<Vec<u64>> = items.iter().take(MAX_NAMED).map(inside).collect();
        let mut all = inside.concat();
        all.push(*function);
        let are_places = self.scene.are_places(&all);
        let mut rest = are_places.as_slice();
        let is_near = |functions: &Vec<u64>| {
            let these;
            (these, rest) = rest.split_at(functions.len());
            these.iter().filter(|is_place| is_place.unwrap_or(true)).count() <= NEAR
        };
        are_places[all.len() - 1].unwrap_or(!is_root) && inside.iter().all(is_near)
    }

    fn mass(&self, tally: &Tally) -> f64 {
        tally.births.old(self.scene.uptime).into()
    }
}
