//! Interned stacks and their sums: append-only, bounded, and lock-free to look up.
//!
//! A *site* is a stack with a set of labels. It is written once, before its number is published in
//! the index, and never changes or moves afterwards; only its sums do.
//!
//! The lane that saw a site first owns a shard of the site's sums, and adds to it without atomic
//! read-modify-write operations. Where only one thread allocates, and mostly elsewhere too, the
//! same lane comes again. When there are many sites, only the first ones have such a shard.

mod peak;
mod sums;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::engine::recording::arena::{Budget, Table, UpTo, Zeroed};
use crate::engine::recording::index::Index;
use crate::engine::recording::sampler::Weight;
use crate::engine::recording::sync::Lane;
use crate::hash::mix;
use peak::Peak;
use sums::SumsShard;

pub(crate) use sums::Addend;

/// The index of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteId(pub(crate) u32);

impl SiteId {
    /// The site of samples whose stack could not be stored. It has no frames and no labels.
    pub(crate) const LOST: Self = Self(0);
}

/// What identifies a site.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SiteKey<'a> {
    /// The call addresses, innermost first.
    pub(crate) frames: &'a [u64],
    /// A hash of the frames.
    pub(crate) frames_hash: u64,
    /// The newest of the loaded modules that the frames lie in, see `unwind::modules`. The same
    /// addresses mean other code after a library was unloaded and another one was loaded in its
    /// place.
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

/// One site. Loads and stores of its fields are Relaxed: the site is published with Release by
/// `ready`, to snapshots, and by the index, to threads that intern the same stack.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Site {
    first_frame: AtomicU32,
    depth: AtomicU32,
    labels: AtomicU32,
    module_mark: AtomicU32,
    truncated: AtomicBool,
    /// Whether the site can be read. It is set once everything above is written.
    ready: AtomicBool,
    /// The number of the lane that owns a shard of the sums, or [`NO_OWNER`].
    owner: AtomicU32,
    /// The shard of all lanes that do not own one.
    shared: SumsShard,
}

const _: () = assert!(size_of::<Site>() == 128);

/// The owner of a site whose sums are all shared.
const NO_OWNER: u32 = u32::MAX;

// SAFETY: all fields are atomic, and zero is a site without frames and samples.
unsafe impl Zeroed for Site {}

/// The shard of the lane that owns a site, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnerShard(SumsShard);

// SAFETY: all fields are atomic, and zero is an empty sum.
unsafe impl Zeroed for OwnerShard {}

/// New sites get owners while less than the cap divided by this is held: in a program with very
/// many sites, room for stacks is worth more.
const OWNER_SHARDS_BUDGET_DIVISOR: u64 = 4;

/// The table of sites.
#[derive(Debug)]
pub(crate) struct StackTable {
    sites: Table<Site>,
    /// The shards of owners, by the index of the site.
    owner_shards: Table<OwnerShard>,
    frames: Table<AtomicU64>,
    index: Index,
    next_site: AtomicU32,
    next_frame: AtomicU64,
    peak: Peak,
}

/// What a snapshot reads of a site.
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
    /// The bytes that a table of `sites` sites, a power of two, takes at once: those of its index.
    pub(crate) const fn fixed_bytes(sites: usize) -> u64 {
        Index::bytes(sites)
    }

    /// Creates a table of at most `sites` sites, which must be a power of two, and `frames` frames.
    pub(crate) fn new(sites: usize, frames: usize) -> io::Result<Self> {
        let table = Self {
            sites: Table::new(sites)?,
            owner_shards: Table::new(sites)?,
            frames: Table::new(frames.min(u32::MAX as usize))?,
            index: Index::new(sites)?,
            next_site: AtomicU32::new(1),
            next_frame: AtomicU64::new(0),
            peak: Peak::new(),
        };
        let lost = table.site(SiteId::LOST);
        lost.owner.store(NO_OWNER, Ordering::Relaxed);
        lost.ready.store(true, Ordering::Release);
        Ok(table)
    }

    /// The number of sites so far, including the lost one.
    pub(crate) fn len(&self) -> u32 {
        self.next_site.load(Ordering::Relaxed).min(self.sites.len() as u32)
    }

    /// Returns the site of a stack with labels, and appends it if it is new. `None` when there is
    /// no room.
    pub(crate) fn intern(&self, key: &SiteKey<'_>, lane: Lane, budget: &Budget) -> Option<SiteId> {
        let matches = |site| self.matches(SiteId(site), key);
        // If two threads append the same site at once, the one that loses the race has no samples,
        // and snapshots leave it out.
        let create = || self.append(key, lane, budget).map(|site| site.0);
        self.index.find_or_insert_with(key.hash(), matches, create).map(SiteId)
    }

    fn matches(&self, site: SiteId, key: &SiteKey<'_>) -> bool {
        let entry = self.site(site);
        let frames = key.frames;
        if entry.depth.load(Ordering::Relaxed) as usize != frames.len()
            || entry.labels.load(Ordering::Relaxed) != key.labels
            || entry.module_mark.load(Ordering::Relaxed) != key.module_mark
            || entry.truncated.load(Ordering::Relaxed) != key.truncated
        {
            return false;
        }
        let first = entry.first_frame.load(Ordering::Relaxed) as usize;
        let known = self.frames.slice(first, frames.len());
        // There is no early exit, which is faster: sites whose hashes agree are nearly always
        // equal.
        let differing = known
            .iter()
            .zip(frames)
            .fold(0, |bits, (known, frame)| bits | known.load(Ordering::Relaxed) ^ frame);
        differing == 0
    }

    /// Appends a new site, which is not in the index yet.
    fn append(&self, key: &SiteKey<'_>, lane: Lane, budget: &Budget) -> Option<SiteId> {
        let frames = key.frames.len() as u64;
        let bytes = Table::<Site>::entry_bytes() + 8 * frames;
        if !budget.try_charge(bytes, UpTo::Soft) {
            return None;
        }
        let end_within = |next: u64, count: u64, len: usize| {
            (next + count <= len as u64).then_some(next + count)
        };
        // Relaxed: the indices only need to be unique.
        let reserved = self
            .next_frame
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                end_within(next, frames, self.frames.len())
            })
            .and_then(|first| {
                let next =
                    self.next_site.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                        end_within(next.into(), 1, self.sites.len()).map(|next| next as u32)
                    });
                next.map(|site| (first, SiteId(site))).map_err(u64::from)
            });
        let Ok((first, site)) = reserved else {
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
        entry.truncated.store(key.truncated, Ordering::Relaxed);
        entry.module_mark.store(key.module_mark, Ordering::Relaxed);
        let has_owner = lane != Lane::SHARED
            && budget.held() < budget.cap() / OWNER_SHARDS_BUDGET_DIVISOR
            && budget.try_charge(Table::<OwnerShard>::entry_bytes(), UpTo::Soft);
        let owner = if has_owner { lane.number() as u32 } else { NO_OWNER };
        entry.owner.store(owner, Ordering::Relaxed);
        // Release: pairs with the Acquire in `frames` and in `view_site`.
        entry.ready.store(true, Ordering::Release);
        Some(site)
    }

    fn site(&self, site: SiteId) -> &Site {
        self.sites.get(site.0 as usize)
    }

    /// Adds a new sample to the sums of allocated and of live samples.
    #[inline]
    pub(crate) fn record_allocation(&self, site: SiteId, addend: Addend, lane: Lane) {
        let (shard, shard_lane) = self.shard_to_change(site, lane);
        shard.add_allocated(addend, shard_lane);
        self.peak.grow(addend.bytes, lane);
    }

    /// Adds a sample to the live sums again, after it was removed from them.
    pub(crate) fn add_live(&self, site: SiteId, addend: Addend, lane: Lane) {
        let (shard, shard_lane) = self.shard_to_change(site, lane);
        shard.subtract_freed(addend, shard_lane);
        self.peak.grow(addend.bytes, lane);
    }

    /// Removes a sample from the live sums.
    #[inline]
    pub(crate) fn remove_live(&self, site: SiteId, addend: Addend, lane: Lane) {
        let (shard, shard_lane) = self.shard_to_change(site, lane);
        shard.add_freed(addend, shard_lane);
        self.peak.shrink(addend.bytes, lane);
    }

    /// The shard of a site that `lane` is about to change, after its sums at the maximum were
    /// preserved; and the lane in which to change it.
    #[inline]
    fn shard_to_change(&self, site: SiteId, lane: Lane) -> (&SumsShard, Lane) {
        let entry = self.site(site);
        // Relaxed: the owner was stored before the site was published, and never changes. The check
        // against `SHARED` is redundant, since that lane owns no site, but it lets LLVM emit plain
        // additions (14 instructions a pair).
        let is_owner = entry.owner.load(Ordering::Relaxed) as usize == lane.number();
        let (shard, shard_lane) = if is_owner && lane != Lane::SHARED {
            (&self.owner_shards.get(site.0 as usize).0, lane)
        } else {
            (&entry.shared, Lane::SHARED)
        };
        shard.preserve_peak(self.peak.epoch(), shard_lane);
        (shard, shard_lane)
    }

    /// The sums of all lanes together.
    fn sum(&self, site: SiteId, of: impl Fn(&SumsShard) -> Addend) -> Weight {
        let entry = self.site(site);
        let shared = of(&entry.shared);
        if entry.owner.load(Ordering::Relaxed) == NO_OWNER {
            return shared.to_weight();
        }
        of(&self.owner_shards.get(site.0 as usize).0).plus(shared).to_weight()
    }

    /// Adds the call addresses of a site to `frames`, innermost first. An abandoned site has none.
    pub(crate) fn frames(&self, site: u32, frames: &mut Vec<u64>) {
        let entry = self.site(SiteId(site));
        // Acquire: pairs with the Release in `append`.
        if entry.ready.load(Ordering::Acquire) {
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

    /// The sites that have been written, by index; `None` for an abandoned one.
    pub(crate) fn view(&self) -> Vec<Option<SiteView>> {
        let epoch = self.peak.epoch();
        (0..self.len()).map(|site| self.view_site(SiteId(site), epoch)).collect()
    }

    fn view_site(&self, site: SiteId, epoch: u64) -> Option<SiteView> {
        let entry = self.site(site);
        // Acquire: pairs with the Release in `append`.
        if !entry.ready.load(Ordering::Acquire) {
            return None;
        }
        let alloc = self.sum(site, SumsShard::allocated);
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
            peak: self.sum(site, |shard| shard.at_peak(epoch)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recording::sampler::Interval;

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

    /// The owner, other lanes and threads in the shared lane all add to one site; then again to a
    /// site without an owner.
    #[test]
    fn additions_of_all_lanes_are_summed() {
        let (table, budget) = table();
        let owned = table.intern(&key(&[1]), LANE, &budget).unwrap();
        budget.adjust(budget.cap() as i64 / 2);
        let unowned = table.intern(&key(&[2]), LANE, &budget).unwrap();
        assert_eq!(table.site(unowned).owner.load(Ordering::Relaxed), NO_OWNER);
        assert_ne!(table.site(owned).owner.load(Ordering::Relaxed), NO_OWNER);
        [owned, unowned].into_iter().for_each(|site| assert_additions_are_summed_at(&table, site));
    }

    fn assert_additions_are_summed_at(table: &StackTable, site: SiteId) {
        let one = Addend::of(100, Interval::EXACT);
        std::thread::scope(|scope| {
            for lane in [LANE, Lane::of(1), Lane::of(2), Lane::SHARED, Lane::SHARED] {
                scope.spawn(move || {
                    for step in 0..10_000 {
                        table.record_allocation(site, one, lane);
                        if step % 2 == 0 {
                            table.remove_live(site, one, lane);
                        }
                    }
                });
            }
        });
        let view = table.view().swap_remove(site.0 as usize).unwrap();
        assert_eq!((view.alloc.count, view.alloc.bytes), (50_000.0, 5_000_000.0));
        // Nearly everything that is live at the end was live at the maximum.
        let highest = 2_500_000.0;
        assert!((view.peak.bytes - highest).abs() <= highest / 100.0, "{:?}", view.peak);
    }

    /// Compares with a copy of all sums that is taken at each maximum.
    #[test]
    fn the_peak_profile_is_that_of_the_highest_sum() {
        // The sites belong to the lane that works and to others.
        for lane in [LANE, Lane::SHARED] {
            let (found, peak) = peaks(|_| lane);
            assert_eq!(found, peak);
        }
    }

    #[test]
    fn each_other_lane_hides_at_most_a_thousandth_of_the_peak() {
        let lanes = [Lane::of(0), Lane::of(1), Lane::of(2), Lane::SHARED];
        let (found, peak) = peaks(|random| lanes[random as usize % lanes.len()]);
        let [found, peak] = [found, peak].map(|sites| sites.iter().sum::<f64>());
        assert!((found - peak).abs() <= 3.0 * peak / 1024.0, "{found} is not {peak}");
    }

    /// The bytes of each of twenty sites at the peak, as found and as expected. `lane` chooses the
    /// lane of each step, given a random number.
    fn peaks(lane: impl Fn(u64) -> Lane) -> (Vec<f64>, Vec<f64>) {
        let (table, budget) = table();
        let intern = |i: u64| table.intern(&key(&[i]), Lane::of(i as u32 % 3), &budget).unwrap();
        let sites: Vec<_> = (0..20).map(intern).collect();
        let mut random = crate::engine::recording::sampler::Random::new(11, 0);
        let mut live: Vec<(usize, u64)> = Vec::new();
        let (mut sums, mut peak, mut highest) = ([0_u64; 20], [0_u64; 20], 0);
        for step in 0..20_000 {
            let lane = lane(random.next());
            if random.next() % 100 < 52 - step / 1000 || live.is_empty() {
                let (site, size) = (random.next() as usize % 20, 1 + random.next() % 1000);
                table.record_allocation(sites[site], Addend::of(size, Interval::EXACT), lane);
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
