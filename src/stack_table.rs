//! Interned stacks and their sums: append-only, lock-free to look up, bounded.
//!
//! A *site* is a stack with a set of labels. It is written once, before its number is published in
//! the index, and never changes or moves; only its sums do.
//!
//! # The peak
//! The live profile at the highest estimate of all live bytes is kept without ever copying it as a
//! whole. Each new maximum begins an *epoch*. A site whose live sums are about to change first
//! copies them to its peak sums, if it has not done so in this epoch: until then they have not
//! changed since the maximum. So a sample pays for four stores, and the peak profile is that of
//! the highest estimate itself, with no gate and no pause. Samples that other threads add or
//! remove in the few nanoseconds between the maximum and its epoch may be on either side.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::{Budget, Table, UpTo, Zeroed};
use crate::index::Index;
use crate::sampler::{Weight, mix};
use crate::sync::{AtomicF64, AtomicFixed};

/// Index of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteId(pub(crate) u32);

impl SiteId {
    /// The site of samples whose stack could not be kept. It has no frames and no labels.
    pub(crate) const LOST: Self = Self(0);
}

/// Bytes, to a 256th: one site can allocate 2⁵⁵, or a gigabyte a second for a year.
type Bytes = AtomicFixed<8>;
/// Objects, to a 65,536th: one site can allocate 2⁴⁷, or four million a second for a year.
type Count = AtomicFixed<16>;

/// Sums over samples: estimates and their variances.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    bytes: Bytes,
    count: Count,
    bytes_variance: AtomicF64,
    count_variance: AtomicF64,
}

impl Sums {
    #[inline]
    fn add(&self, weight: Weight) {
        self.bytes.add(weight.bytes);
        self.count.add(weight.count);
        if weight.count_variance != 0.0 {
            self.count_variance.add(weight.count_variance);
            self.bytes_variance.add(weight.bytes_variance);
        }
    }

    /// Takes out what was added.
    fn subtract(&self, weight: Weight) {
        self.bytes.subtract(weight.bytes);
        self.count.subtract(weight.count);
        if weight.count_variance != 0.0 {
            self.count_variance.add(-weight.count_variance);
            self.bytes_variance.add(-weight.bytes_variance);
        }
    }

    fn store(&self, weight: Weight) {
        self.bytes.store(weight.bytes);
        self.count.store(weight.count);
        self.bytes_variance.store(weight.bytes_variance);
        self.count_variance.store(weight.count_variance);
    }

    /// The sums as they stand; not all at one moment.
    pub(crate) fn load(&self) -> Weight {
        Weight {
            bytes: self.bytes.load(),
            count: self.count.load(),
            bytes_variance: self.bytes_variance.load(),
            count_variance: self.count_variance.load(),
        }
    }
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
pub(crate) struct Site {
    first_frame: AtomicU32,
    depth: AtomicU32,
    labels: AtomicU32,
    truncated: AtomicU32,
    module_mark: AtomicU32,
    /// Whether the site can be read: set once everything above is written.
    ready: AtomicU32,
    /// The epoch of which `peak` holds the live sums, if they have changed since.
    peak_epoch: AtomicU64,
    alloc: Sums,
    /// Of what is not live any more; what is live is the rest. So a new sample is added once.
    gone: Sums,
    peak: Sums,
}

impl Site {
    /// The live sums: differences, which are exact but for the variances.
    fn live(&self) -> Weight {
        let (all, gone) = (&self.alloc, &self.gone);
        // Sums of other roundings may differ by less than nothing.
        let variance = |all: &AtomicF64, gone: &AtomicF64| (all.load() - gone.load()).max(0.0);
        Weight {
            bytes: all.bytes.minus(&gone.bytes),
            count: all.count.minus(&gone.count),
            bytes_variance: variance(&all.bytes_variance, &gone.bytes_variance),
            count_variance: variance(&all.count_variance, &gone.count_variance),
        }
    }
}

// SAFETY: atomics only; zero is a site without frames and samples.
unsafe impl Zeroed for Site {}

/// The table of sites.
#[derive(Debug)]
pub(crate) struct StackTable {
    sites: Table<Site>,
    frames: Table<AtomicU64>,
    index: Index,
    next_site: AtomicU32,
    next_frame: AtomicU64,
    total: Total,
}

/// What every sample changes, on a cache line of its own: all threads read what stands beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Total {
    live_bytes: Bytes,
    peak_bytes: AtomicF64,
    /// The number of maxima of `live_bytes` so far.
    epoch: AtomicU64,
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
            frames: Table::new(frames.min(u32::MAX as usize))?,
            index: Index::new(sites)?,
            next_site: AtomicU32::new(1),
            next_frame: AtomicU64::new(0),
            total: Total { epoch: AtomicU64::new(1), ..Total::default() },
        };
        table.sites.get(SiteId::LOST.0 as usize).ready.store(1, Ordering::Release);
        Ok(table)
    }

    /// Sites so far, the lost one included.
    pub(crate) fn len(&self) -> u32 {
        self.next_site.load(Ordering::Relaxed).min(self.sites.len() as u32)
    }

    /// The number of a stack with labels, new if it has not been seen. `None` when there is no room.
    pub(crate) fn intern(&self, key: &SiteKey<'_>, budget: &Budget) -> Option<SiteId> {
        let is = |site| self.is(SiteId(site), key);
        // A site that two threads made at once, and the one that stays behind is without samples:
        // snapshots leave it out.
        let make = || self.make(key, budget).map(|site| site.0);
        self.index.find_or_make(key.hash(), is, make).map(SiteId)
    }

    fn is(&self, site: SiteId, key: &SiteKey<'_>) -> bool {
        let entry = self.site(site);
        let frames = key.frames;
        if entry.depth.load(Ordering::Relaxed) as usize != frames.len()
            || entry.labels.load(Ordering::Relaxed) != key.labels
            || entry.module_mark.load(Ordering::Relaxed) != key.module_mark
            || (entry.truncated.load(Ordering::Relaxed) != 0) != key.truncated
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
    fn make(&self, key: &SiteKey<'_>, budget: &Budget) -> Option<SiteId> {
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
        for (i, frame) in key.frames.iter().enumerate() {
            self.frames.get(first as usize + i).store(*frame, Ordering::Relaxed);
        }
        let entry = self.site(site);
        entry.first_frame.store(first as u32, Ordering::Relaxed);
        entry.depth.store(key.frames.len() as u32, Ordering::Relaxed);
        entry.labels.store(key.labels, Ordering::Relaxed);
        entry.truncated.store(key.truncated.into(), Ordering::Relaxed);
        entry.module_mark.store(key.module_mark, Ordering::Relaxed);
        // Release: pairs with the acquire in `view`.
        entry.ready.store(1, Ordering::Release);
        Some(site)
    }

    fn site(&self, site: SiteId) -> &Site {
        self.sites.get(site.0 as usize)
    }

    /// Adds a new sample to what was allocated and to what is live.
    #[inline]
    pub(crate) fn allocated(&self, site: SiteId, weight: Weight) {
        let entry = self.site(site);
        self.before_change(entry);
        entry.alloc.add(weight);
        self.grow(weight);
    }

    /// Adds a sample to the live sums that was taken out of them.
    pub(crate) fn add_live(&self, site: SiteId, weight: Weight) {
        let entry = self.site(site);
        self.before_change(entry);
        entry.gone.subtract(weight);
        self.grow(weight);
    }

    #[inline]
    fn grow(&self, weight: Weight) {
        let live = self.total.live_bytes.add(weight.bytes);
        if live > self.total.peak_bytes.load() {
            self.total.peak_bytes.store(live);
            // Release: pairs with `before_change`; the live sums as they are now are the peak's.
            self.total.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Takes a sample out of the live sums.
    #[inline]
    pub(crate) fn remove_live(&self, site: SiteId, weight: Weight) {
        let entry = self.site(site);
        self.before_change(entry);
        entry.gone.add(weight);
        self.total.live_bytes.subtract(weight.bytes);
    }

    /// Keeps the live sums of the last maximum, if they still stand.
    #[inline]
    fn before_change(&self, entry: &Site) {
        let epoch = self.total.epoch.load(Ordering::Acquire);
        let kept = entry.peak_epoch.load(Ordering::Relaxed);
        if kept != epoch
            && entry
                .peak_epoch
                .compare_exchange(kept, epoch, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            entry.peak.store(entry.live());
        }
    }

    /// Adds the call addresses of a site, innermost first; none for one that was abandoned.
    pub(crate) fn frames(&self, site: u32, frames: &mut Vec<u64>) {
        let entry = self.site(SiteId(site));
        // Acquire: pairs with the release in `make`.
        if entry.ready.load(Ordering::Acquire) != 0 {
            let first = entry.first_frame.load(Ordering::Relaxed) as usize;
            let depth = entry.depth.load(Ordering::Relaxed) as usize;
            let all = first..first + depth;
            frames.extend(all.map(|frame| self.frames.get(frame).load(Ordering::Relaxed)));
        }
    }

    /// The number of a site's set of labels.
    pub(crate) fn labels(&self, site: u32) -> u32 {
        self.site(SiteId(site)).labels.load(Ordering::Relaxed)
    }

    /// The sites that have been written, by number. `None` for one that was abandoned.
    pub(crate) fn view(&self) -> Vec<Option<SiteView>> {
        let epoch = self.total.epoch.load(Ordering::Acquire);
        (0..self.len()).map(|site| self.view_site(SiteId(site), epoch)).collect()
    }

    fn view_site(&self, site: SiteId, epoch: u64) -> Option<SiteView> {
        let entry = self.site(site);
        // Acquire: pairs with the release in `make`.
        if entry.ready.load(Ordering::Acquire) == 0 {
            return None;
        }
        let alloc = entry.alloc.load();
        if alloc.count == 0.0 {
            return None;
        }
        // Kept for this epoch or, when a sample came between the two loads, for a newer one.
        let kept = entry.peak_epoch.load(Ordering::Acquire) >= epoch;
        let first = entry.first_frame.load(Ordering::Relaxed) as usize;
        let depth = entry.depth.load(Ordering::Relaxed) as usize;
        Some(SiteView {
            frames: (first..first + depth)
                .map(|frame| self.frames.get(frame).load(Ordering::Relaxed))
                .collect(),
            labels: entry.labels.load(Ordering::Relaxed),
            truncated: entry.truncated.load(Ordering::Relaxed) != 0,
            module_mark: entry.module_mark.load(Ordering::Relaxed),
            alloc,
            peak: if kept { entry.peak.load() } else { entry.live() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Interval;

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
        let a = table.intern(&key(&[1, 2, 3]), &budget).unwrap();
        assert_eq!(table.intern(&key(&[1, 2, 3]), &budget), Some(a));
        for other in [
            key(&[1, 2]),
            key(&[1, 2, 4]),
            SiteKey { labels: 1, ..key(&[1, 2, 3]) },
            SiteKey { truncated: true, ..key(&[1, 2, 3]) },
            SiteKey { module_mark: 1, ..key(&[1, 2, 3]) },
        ] {
            assert_ne!(table.intern(&other, &budget), Some(a));
        }
    }

    #[test]
    fn a_full_table_refuses_new_stacks_and_keeps_the_old() {
        let (table, budget) = table();
        let known: Vec<_> = (0..63).map(|i| table.intern(&key(&[i]), &budget).unwrap()).collect();
        assert_eq!(table.intern(&key(&[1000]), &budget), None);
        assert_eq!(table.intern(&key(&[7]), &budget), Some(known[7]));
        let poor = Budget::new(0);
        assert_eq!(StackTable::new(64, 64).unwrap().intern(&key(&[1]), &poor), None);
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
                            .map(|i| table.intern(&key(&[i, i / 2, 7]), &budget).unwrap())
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|ids| *ids == all[0]));
    }

    /// Against a naive twin that copies everything at each maximum.
    #[test]
    fn the_peak_profile_is_that_of_the_highest_sum() {
        let (table, budget) = table();
        let sites: Vec<_> = (0..20).map(|i| table.intern(&key(&[i]), &budget).unwrap()).collect();
        let mut random = crate::sampler::Random::new(11, 0);
        let mut live: Vec<(usize, u64)> = Vec::new();
        let (mut sums, mut peak, mut highest) = ([0_u64; 20], [0_u64; 20], 0);
        for step in 0..20_000 {
            if random.next() % 100 < 52 - step / 1000 || live.is_empty() {
                let (site, size) = (random.next() as usize % 20, 1 + random.next() % 1000);
                let weight = Weight::new(size, Interval::EXACT);
                table.allocated(sites[site], weight);
                live.push((site, size));
                sums[site] += size;
            } else {
                let (site, size) = live.swap_remove(random.next() as usize % live.len());
                table.remove_live(sites[site], Weight::new(size, Interval::EXACT));
                sums[site] -= size;
            }
            if sums.iter().sum::<u64>() > highest {
                (peak, highest) = (sums, sums.iter().sum());
            }
        }
        let views = table.view();
        for (i, site) in sites.iter().enumerate() {
            assert_eq!(views[site.0 as usize].as_ref().unwrap().peak.bytes, peak[i] as f64);
        }
    }
}
