//! Interned stacks and their sums: append-only, lock-free to look up, bounded.
//!
//! A *site* is a stack with a set of labels. It is written once, before its number is published in
//! the index, and never changes or moves; only its sums do.
//!
//! The lane that saw a site first has a part of the sums for itself, and adds to it without an atomic
//! operation: where one thread allocates, and mostly otherwise, that is who comes again. Of many sites only
//! the first have such a part.

mod peak;
mod sums;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::arena::{Budget, Table, UpTo, Zeroed};
use crate::hash::mix;
use crate::index::Index;
use crate::sampler::Weight;
use crate::sync::Lane;
use peak::Peak;
use sums::Part;

pub(crate) use sums::Addend;

/// Index of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteId(pub(crate) u32);

impl SiteId {
    /// The site of samples whose stack could not be kept. It has no frames and no labels.
    pub(crate) const LOST: Self = Self(0);
}

/// What identifies a site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SiteKey<'a> {
    /// Call addresses, innermost first.
    pub(crate) frames: &'a [u64],
    /// A hash of the frames.
    pub(crate) frames_hash: u64,
    /// The newest of the loaded modules that the frames lie in, see `unwind::modules`: the same
    /// addresses mean other code after a library was unloaded and another one put in its place.
    pub(crate) module_mark: u32,
    pub(crate) labels: u32,
    pub(crate) truncated: bool,
}

impl SiteKey<'_> {
    fn hash(&self) -> u64 {
        let meta = u64::from(self.module_mark) << 32
            | u64::from(self.labels) << 1
            | u64::from(self.truncated);
        mix(self.frames_hash ^ mix(meta ^ self.frames.len() as u64))
    }
}

/// One site.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Site {
    first_frame: AtomicU32,
    depth: AtomicU32,
    labels: AtomicU32,
    module_mark: AtomicU32,
    truncated: AtomicBool,
    /// Whether the site can be read: set once everything above is written.
    ready: AtomicBool,
    /// The number of the lane that has a part for itself, or [`NOBODY`].
    owner: AtomicU32,
    /// What all other lanes add.
    shared: Part,
}

const _: () = assert!(size_of::<Site>() == 128);

/// No lane.
const NOBODY: u32 = u32::MAX;

// SAFETY: atomics only; zero is a site without frames and samples.
unsafe impl Zeroed for Site {}

/// What the owner of a site adds, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Own(Part);

// SAFETY: atomics only; zero is no sum.
unsafe impl Zeroed for Own {}

/// Sites have owners as long as less than this part of the cap is held: in a program with very many, room
/// for stacks is worth more.
const OWNED: u64 = 4;

/// The table of sites.
#[derive(Debug)]
pub(crate) struct StackTable {
    sites: Table<Site>,
    /// By number of the site.
    owns: Table<Own>,
    frames: Table<AtomicU64>,
    index: Index,
    next_site: AtomicU32,
    next_frame: AtomicU64,
    peak: Peak,
}

/// What is kept of a site, as seen by a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct SiteView {
    pub(crate) frames: Vec<u64>,
    pub(crate) labels: u32,
    pub(crate) truncated: bool,
    pub(crate) module_mark: u32,
    pub(crate) alloc: Weight,
    pub(crate) peak: Weight,
}

impl StackTable {
    /// Bytes taken at once by a table of `sites` sites, a power of two: its index.
    pub(crate) const fn fixed_bytes(sites: usize) -> u64 {
        Index::bytes(sites)
    }

    /// At most `sites` sites, a power of two, and `frames` frames.
    pub(crate) fn new(sites: usize, frames: usize) -> io::Result<Self> {
        let table = Self {
            sites: Table::new(sites)?,
            owns: Table::new(sites)?,
            frames: Table::new(frames.min(u32::MAX as usize))?,
            index: Index::new(sites)?,
            next_site: AtomicU32::new(1),
            next_frame: AtomicU64::new(0),
            peak: Peak::new(),
        };
        let lost = table.site(SiteId::LOST);
        lost.owner.store(NOBODY, Ordering::Relaxed);
        // Nobody else has the table yet; the release is that of every site.
        lost.ready.store(true, Ordering::Release);
        Ok(table)
    }

    /// Sites so far, the lost one included.
    pub(crate) fn len(&self) -> u32 {
        // Relaxed: `ready` says of each whether it can be read.
        self.next_site.load(Ordering::Relaxed).min(self.sites.len() as u32)
    }

    /// The number of a stack with labels, new if it has not been seen. `None` when there is no room.
    pub(crate) fn intern(&self, key: &SiteKey<'_>, lane: Lane, budget: &Budget) -> Option<SiteId> {
        let is = |site| self.is(SiteId(site), key);
        // A site that two threads made at once, and the one that stays behind is without samples:
        // snapshots leave it out.
        let make = || self.make(key, lane, budget).map(|site| site.0);
        self.index.find_or_make(key.hash(), is, make).map(SiteId)
    }

    fn is(&self, site: SiteId, key: &SiteKey<'_>) -> bool {
        let entry = self.site(site);
        let frames = key.frames;
        // Relaxed: the number came from the index, which publishes it.
        if entry.depth.load(Ordering::Relaxed) as usize != frames.len()
            || entry.labels.load(Ordering::Relaxed) != key.labels
            || entry.module_mark.load(Ordering::Relaxed) != key.module_mark
            || entry.truncated.load(Ordering::Relaxed) != key.truncated
        {
            return false;
        }
        let first = entry.first_frame.load(Ordering::Relaxed) as usize;
        let known = self.frames.some(first, frames.len());
        // Without a way out in between, which is faster: hashes that agree are nearly always right.
        let differing = known
            .iter()
            .zip(frames)
            .fold(0, |bits, (known, frame)| bits | known.load(Ordering::Relaxed) ^ frame);
        differing == 0
    }

    /// Writes a new site. It is not in the index yet.
    fn make(&self, key: &SiteKey<'_>, lane: Lane, budget: &Budget) -> Option<SiteId> {
        let frames = key.frames.len() as u64;
        let bytes = Table::<Site>::entry_bytes() + 8 * frames;
        if !budget.try_charge(bytes, UpTo::Soft) {
            return None;
        }
        let room = |next: u64, count: u64, len: usize| {
            (next + count <= len as u64).then_some(next + count)
        };
        let made = self
            .next_frame
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                room(next, frames, self.frames.len())
            })
            .and_then(|first| {
                let next =
                    self.next_site.try_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                        room(next.into(), 1, self.sites.len()).map(|next| next as u32)
                    });
                next.map(|site| (first, SiteId(site))).map_err(u64::from)
            });
        let Ok((first, site)) = made else {
            budget.adjust(-(bytes as i64));
            return None;
        };
        // Relaxed: published by `ready`, and by the release in `Index::find_or_make`.
        for (i, frame) in key.frames.iter().enumerate() {
            self.frames.get(first as usize + i).store(*frame, Ordering::Relaxed);
        }
        let entry = self.site(site);
        entry.first_frame.store(first as u32, Ordering::Relaxed);
        entry.depth.store(key.frames.len() as u32, Ordering::Relaxed);
        entry.labels.store(key.labels, Ordering::Relaxed);
        entry.truncated.store(key.truncated, Ordering::Relaxed);
        entry.module_mark.store(key.module_mark, Ordering::Relaxed);
        let has_owner = lane != Lane::SHARED
            && budget.held() < budget.cap() / OWNED
            && budget.try_charge(Table::<Own>::entry_bytes(), UpTo::Soft);
        let owner = if has_owner { lane.number() as u32 } else { NOBODY };
        entry.owner.store(owner, Ordering::Relaxed);
        // Release: pairs with the acquire in `view`.
        entry.ready.store(true, Ordering::Release);
        Some(site)
    }

    fn site(&self, site: SiteId) -> &Site {
        self.sites.get(site.0 as usize)
    }

    /// Adds a new sample to what was allocated and to what is live.
    #[inline]
    pub(crate) fn allocated(&self, site: SiteId, addend: Addend, lane: Lane) {
        let (part, in_lane) = self.changing(site, lane);
        part.allocate(addend, in_lane);
        self.peak.grow(addend.bytes, lane);
    }

    /// Adds a sample to the live sums that was taken out of them.
    pub(crate) fn add_live(&self, site: SiteId, addend: Addend, lane: Lane) {
        let (part, in_lane) = self.changing(site, lane);
        part.restore(addend, in_lane);
        self.peak.grow(addend.bytes, lane);
    }

    /// Takes a sample out of the live sums.
    #[inline]
    pub(crate) fn remove_live(&self, site: SiteId, addend: Addend, lane: Lane) {
        let (part, in_lane) = self.changing(site, lane);
        part.free(addend, in_lane);
        self.peak.shrink(addend.bytes, lane);
    }

    /// The part of a site that a lane is about to change; what it was at the maximum is kept.
    #[inline]
    fn changing(&self, site: SiteId, lane: Lane) -> (&Part, Lane) {
        let entry = self.site(site);
        // Relaxed: stored before the site was published, and never again. That the shared lane owns none is
        // said to the compiler: it then knows which additions are plain (14 instructions a pair).
        let is_owner = entry.owner.load(Ordering::Relaxed) as usize == lane.number();
        let (part, in_lane) = if is_owner && lane != Lane::SHARED {
            (&self.owns.get(site.0 as usize).0, lane)
        } else {
            (&entry.shared, Lane::SHARED)
        };
        part.before_change(self.peak.epoch(), in_lane);
        (part, in_lane)
    }

    /// Of all lanes together.
    fn sum(&self, site: SiteId, of: impl Fn(&Part) -> Addend) -> Weight {
        let entry = self.site(site);
        let shared = of(&entry.shared);
        // Relaxed: `ready` was acquired.
        if entry.owner.load(Ordering::Relaxed) == NOBODY {
            return shared.to_weight();
        }
        of(&self.owns.get(site.0 as usize).0).plus(shared).to_weight()
    }

    /// Adds the call addresses of a site, innermost first; none for one that was abandoned.
    pub(crate) fn frames(&self, site: u32, frames: &mut Vec<u64>) {
        let entry = self.site(SiteId(site));
        // Acquire: pairs with the release in `make`.
        if entry.ready.load(Ordering::Acquire) {
            let first = entry.first_frame.load(Ordering::Relaxed) as usize;
            let depth = entry.depth.load(Ordering::Relaxed) as usize;
            let all = first..first + depth;
            frames.extend(all.map(|frame| self.frames.get(frame).load(Ordering::Relaxed)));
        }
    }

    /// The number of a site's set of labels.
    pub(crate) fn labels(&self, site: u32) -> u32 {
        // Relaxed: the number came with a sample, whose state was acquired.
        self.site(SiteId(site)).labels.load(Ordering::Relaxed)
    }

    /// The sites that have been written, by number. `None` for one that was abandoned.
    pub(crate) fn view(&self) -> Vec<Option<SiteView>> {
        let epoch = self.peak.epoch();
        (0..self.len()).map(|site| self.view_site(SiteId(site), epoch)).collect()
    }

    fn view_site(&self, site: SiteId, epoch: u64) -> Option<SiteView> {
        let entry = self.site(site);
        // Acquire: pairs with the release in `make`.
        if !entry.ready.load(Ordering::Acquire) {
            return None;
        }
        let alloc = self.sum(site, Part::all);
        if alloc.count == 0.0 {
            return None;
        }
        let first = entry.first_frame.load(Ordering::Relaxed) as usize;
        let depth = entry.depth.load(Ordering::Relaxed) as usize;
        Some(SiteView {
            frames: (first..first + depth)
                .map(|frame| self.frames.get(frame).load(Ordering::Relaxed))
                .collect(),
            labels: entry.labels.load(Ordering::Relaxed),
            truncated: entry.truncated.load(Ordering::Relaxed),
            module_mark: entry.module_mark.load(Ordering::Relaxed),
            alloc,
            peak: self.sum(site, |part| part.at_peak(epoch)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Interval;

    const LANE: Lane = Lane::of(0);

    fn table() -> (StackTable, Budget) {
        (StackTable::new(64, 1024).unwrap(), Budget::new(1 << 20))
    }

    fn key(frames: &[u64]) -> SiteKey<'_> {
        let frames_hash = frames.iter().fold(0, |hash, frame| mix(hash ^ frame));
        SiteKey { frames, frames_hash, module_mark: 0, labels: 0, truncated: false }
    }

    #[test]
    fn equal_stacks_share_a_site_and_others_do_not() {
        let (table, budget) = table();
        let a = table.intern(&key(&[1, 2, 3]), LANE, &budget).unwrap();
        assert_eq!(table.intern(&key(&[1, 2, 3]), LANE, &budget), Some(a));
        for other in [
            key(&[1, 2]),
            key(&[1, 2, 4]),
            SiteKey { labels: 1, ..key(&[1, 2, 3]) },
            SiteKey { truncated: true, ..key(&[1, 2, 3]) },
            SiteKey { module_mark: 1, ..key(&[1, 2, 3]) },
        ] {
            assert_ne!(table.intern(&other, LANE, &budget), Some(a));
        }
    }

    #[test]
    fn a_full_table_refuses_new_stacks_and_keeps_the_old() {
        let (table, budget) = table();
        let known: Vec<_> =
            (0..63).map(|i| table.intern(&key(&[i]), LANE, &budget).unwrap()).collect();
        assert_eq!(table.intern(&key(&[1000]), LANE, &budget), None);
        assert_eq!(table.intern(&key(&[7]), LANE, &budget), Some(known[7]));
        let poor = Budget::new(0);
        assert_eq!(StackTable::new(64, 64).unwrap().intern(&key(&[1]), LANE, &poor), None);
    }

    #[test]
    fn threads_that_intern_the_same_stacks_agree() {
        let table = StackTable::new(1 << 12, 1 << 16).unwrap();
        let budget = Budget::new(64 << 20);
        let all: Vec<Vec<SiteId>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..500_u64)
                            .map(|i| table.intern(&key(&[i, i / 2, 7]), LANE, &budget).unwrap())
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|ids| *ids == all[0]));
    }

    /// The owner, others and those that share, all at one site; and at one that nobody owns.
    #[test]
    fn what_all_lanes_add_is_the_sum() {
        let (table, budget) = table();
        let owned = table.intern(&key(&[1]), LANE, &budget).unwrap();
        budget.adjust(budget.cap() as i64 / 2);
        let unowned = table.intern(&key(&[2]), LANE, &budget).unwrap();
        assert_eq!(table.site(unowned).owner.load(Ordering::Relaxed), NOBODY);
        assert_ne!(table.site(owned).owner.load(Ordering::Relaxed), NOBODY);
        [owned, unowned].into_iter().for_each(|site| adds_up_at(&table, site));
    }

    fn adds_up_at(table: &StackTable, site: SiteId) {
        let one = Addend::of(100, Interval::EXACT);
        std::thread::scope(|scope| {
            for lane in [LANE, Lane::of(1), Lane::of(2), Lane::SHARED, Lane::SHARED] {
                scope.spawn(move || {
                    for step in 0..10_000 {
                        table.allocated(site, one, lane);
                        if step % 2 == 0 {
                            table.remove_live(site, one, lane);
                        }
                    }
                });
            }
        });
        let view = table.view().swap_remove(site.0 as usize).unwrap();
        assert_eq!((view.alloc.count, view.alloc.bytes), (50_000.0, 5_000_000.0));
        // Nearly all of what is live at the end was the maximum.
        let highest = 2_500_000.0;
        assert!((view.peak.bytes - highest).abs() <= highest / 100.0, "{:?}", view.peak);
    }

    /// Against a naive twin that copies everything at each maximum.
    #[test]
    fn the_peak_profile_is_that_of_the_highest_sum() {
        // Sites of the lane that works and of others, and those that share.
        for lane in [LANE, Lane::SHARED] {
            let (found, peak) = peaks(|_| lane);
            assert_eq!(found, peak);
        }
    }

    #[test]
    fn lanes_hide_a_thousandth_of_the_peak_each() {
        let lanes = [Lane::of(0), Lane::of(1), Lane::of(2), Lane::SHARED];
        let (found, peak) = peaks(|random| lanes[random as usize % lanes.len()]);
        let [found, peak] = [found, peak].map(|sites| sites.iter().sum::<f64>());
        assert!((found - peak).abs() <= 3.0 * peak / 1024.0, "{found} is not {peak}");
    }

    /// The bytes of each of twenty sites at the peak, as found and as they should be, where each step is
    /// taken in a lane that may be chosen by a random number.
    fn peaks(lane: impl Fn(u64) -> Lane) -> (Vec<f64>, Vec<f64>) {
        let (table, budget) = table();
        let intern = |i: u64| table.intern(&key(&[i]), Lane::of(i as u32 % 3), &budget).unwrap();
        let sites: Vec<_> = (0..20).map(intern).collect();
        let mut random = crate::sampler::Random::new(11, 0);
        let mut live: Vec<(usize, u64)> = Vec::new();
        let (mut sums, mut peak, mut highest) = ([0_u64; 20], [0_u64; 20], 0);
        for step in 0..20_000 {
            let lane = lane(random.next());
            if random.next() % 100 < 52 - step / 1000 || live.is_empty() {
                let (site, size) = (random.next() as usize % 20, 1 + random.next() % 1000);
                table.allocated(sites[site], Addend::of(size, Interval::EXACT), lane);
                live.push((site, size));
                sums[site] += size;
            } else {
                let (site, size) = live.swap_remove(random.next() as usize % live.len());
                table.remove_live(sites[site], Addend::of(size, Interval::EXACT), lane);
                sums[site] -= size;
            }
            if sums.iter().sum::<u64>() > highest {
                (peak, highest) = (sums, sums.iter().sum());
            }
        }
        let views = table.view();
        let found = sites.iter().map(|site| views[site.0 as usize].as_ref().unwrap().peak.bytes);
        (found.collect(), peak.iter().map(|bytes| *bytes as f64).collect())
    }
}
