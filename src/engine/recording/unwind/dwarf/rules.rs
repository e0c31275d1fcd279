//! How to get from a frame to its caller: the rule of each code address, read from the unwind
//! tables once and then kept.
//!
//! Nearly every frame has an ordinary rule: the caller's stack pointer is a constant away from the
//! stack or frame pointer, and the return address and the caller's frame pointer are stored at
//! constant distances below it. That fits into 24 bits, and so a rule and its address into one
//! word. Whatever is not ordinary is [`Rule::FOREIGN`], and framehop's business.
//!
//! One cache for all threads: entries are single atomic words that each carry their whole key, so
//! that readers need nothing else to believe them. It holds addresses of permanent modules only,
//! whose rules never change.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use gimli::{BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry};
use gimli::{NativeEndian, Register, RegisterRule, UnwindContext, UnwindSection as _};

use super::tables::UnwindTables;
use crate::engine::recording::arena::Table;

#[cfg(target_arch = "x86_64")]
mod registers {
    use gimli::{Register, X86_64};
    pub(super) const STACK: Register = X86_64::RSP;
    pub(super) const FRAME: Register = X86_64::RBP;
    pub(super) const RETURN_ADDRESS: Register = X86_64::RA;
}

#[cfg(target_arch = "aarch64")]
mod registers {
    use gimli::{AArch64, Register};
    pub(super) const STACK: Register = AArch64::SP;
    pub(super) const FRAME: Register = AArch64::X29;
    pub(super) const RETURN_ADDRESS: Register = AArch64::X30;
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To the caller, whose stack pointer is `distance` bytes above this frame's stack or frame
    /// pointer.
    Out { distance: u64 },
    /// This is the outermost frame.
    End,
    /// Not ordinary.
    Foreign,
}

/// A [`Step`] in 24 bits: 13 of distance, 1 of its base, 5 each of the return address and the frame
/// pointer, all in words of 8 bytes. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule(u32);

const RULE_BITS: u32 = 24;
const DISTANCE_BITS: u32 = 13;
const PLACE_BITS: u32 = 5;

impl Rule {
    // A return address is at least one word down, so these two are no steps.
    const END: Self = Self(1);
    pub(super) const FOREIGN: Self = Self(2);

    fn out(base_is_frame: bool, distance: i64, return_address: i64, frame: i64) -> Option<Self> {
        let words = |bytes: i64, bits: u32| {
            let fits = bytes >= 0 && bytes % 8 == 0 && bytes / 8 < 1 << bits;
            fits.then_some(bytes as u32 / 8)
        };
        let distance = words(distance, DISTANCE_BITS)?;
        let return_address = words(return_address, PLACE_BITS).filter(|place| *place > 0)?;
        let frame = words(frame, PLACE_BITS)?;
        let places = return_address | frame << PLACE_BITS;
        Some(Self(
            distance | u32::from(base_is_frame) << DISTANCE_BITS | places << (DISTANCE_BITS + 1),
        ))
    }

    #[inline]
    pub(super) fn step(self) -> Step {
        match self {
            Self::END => Step::End,
            Self::FOREIGN => Step::Foreign,
            Self(word) => Step::Out { distance: u64::from(word & ((1 << DISTANCE_BITS) - 1)) * 8 },
        }
    }

    /// Where the return address is, below the caller's stack pointer; `None` if this is no step.
    #[inline]
    pub(super) fn return_address_below(self, caller_sp: u64) -> Option<u64> {
        let place = self.0 >> (DISTANCE_BITS + 1) & ((1 << PLACE_BITS) - 1);
        (place != 0).then(|| caller_sp.wrapping_sub(u64::from(place) * 8))
    }

    /// Where the caller's frame pointer is, below its stack pointer; `None`: where it was.
    #[inline]
    pub(super) fn frame_pointer_below(self, caller_sp: u64) -> Option<u64> {
        let place = self.0 >> (DISTANCE_BITS + 1 + PLACE_BITS);
        (place != 0).then(|| caller_sp.wrapping_sub(u64::from(place) * 8))
    }

    /// Whether the caller's frame pointer is read from memory.
    #[inline]
    pub(super) fn restores_frame_pointer(self) -> bool {
        self.frame_pointer_below(0).is_some()
    }

    /// Whether the caller's stack pointer is told from the frame pointer.
    #[inline]
    pub(super) fn uses_frame_pointer(self) -> bool {
        self.0 >> DISTANCE_BITS & 1 != 0
    }

    /// The rule of an address as its module's tables have it. Some hundred nanoseconds, no
    /// allocation.
    #[inline(never)]
    pub(super) fn read(tables: &UnwindTables, address: u64) -> Self {
        Self::try_read(tables, address).unwrap_or(Self::FOREIGN)
    }

    fn try_read(tables: &UnwindTables, address: u64) -> Option<Self> {
        let (section, bases, entry) = entry(tables, address)?;
        // In a signal's frame registers are where the kernel put them, and its caller's address is
        // not behind a call.
        if entry.is_signal_trampoline() {
            return None;
        }
        let mut context = UnwindContext::<usize, OnTheStack>::new_in();
        let row = entry.unwind_info_for_address(&section, &bases, &mut context, address).ok()?;
        let return_address = match row.register(registers::RETURN_ADDRESS) {
            Some(RegisterRule::Offset(offset)) => -offset,
            // The psABI's mark of the outermost frame (System V AMD64, 6.2).
            None | Some(RegisterRule::Undefined) if cfg!(target_arch = "x86_64") => {
                return Some(Self::END);
            }
            _ => return None,
        };
        let frame = match row.register(registers::FRAME) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => 0,
            Some(RegisterRule::Offset(offset)) if offset < 0 => -offset,
            _ => return None,
        };
        match *row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                let from_frame = from_frame_pointer(register)?;
                Self::out(from_frame, offset, return_address, frame)
            }
            CfaRule::Expression(_) => None,
        }
    }
}

type Bytes = EndianSlice<'static, NativeEndian>;

/// The entry of an address in its module's unwind table, and what it takes to evaluate it.
fn entry(
    tables: &UnwindTables,
    address: u64,
) -> Option<(EhFrame<Bytes>, BaseAddresses, FrameDescriptionEntry<Bytes>)> {
    let header = EhFrameHdr::new(tables.eh_frame_hdr.bytes()?, NativeEndian);
    // As they are mapped, so that what is relative to them comes out as it is in memory.
    let bases = BaseAddresses::default()
        .set_eh_frame_hdr(tables.eh_frame_hdr.start)
        .set_eh_frame(tables.eh_frame.start);
    let header = header.parse(&bases, size_of::<usize>() as u8).ok()?;
    let index = header.table()?;
    let offset = index.pointer_to_offset(index.lookup(address, &bases).ok()?).ok()?;
    let section = EhFrame::new(tables.eh_frame.bytes()?, NativeEndian);
    let entry = section.fde_from_offset(&bases, offset, EhFrame::cie_from_offset).ok()?;
    entry.contains(address).then_some((section, bases, entry))
}

/// Where the function at an address begins.
pub(super) fn function_start(tables: &UnwindTables, address: u64) -> Option<u64> {
    entry(tables, address).map(|(.., entry)| entry.initial_address())
}

/// The length of an `.eh_frame` up to its terminator, of bytes that go on behind it.
pub(super) fn eh_frame_len(bytes: &[u8]) -> usize {
    let mut at = 0_usize;
    while let Some([a, b, c, d]) = bytes.get(at..at.saturating_add(4)) {
        let length = u32::from_ne_bytes([*a, *b, *c, *d]);
        at += 4;
        // What is longer than 4 GiB is marked so, and never was written.
        if length == 0 || length == u32::MAX {
            return at;
        }
        at += length as usize;
    }
    bytes.len()
}

fn from_frame_pointer(register: Register) -> Option<bool> {
    match register {
        registers::FRAME => Some(true),
        registers::STACK => Some(false),
        _ => None,
    }
}

/// Room for evaluating an entry of the tables; one that needs more is foreign.
struct OnTheStack;

impl gimli::UnwindContextStorage<usize> for OnTheStack {
    type Rules = [(Register, RegisterRule<usize>); 32];
    type Stack = [gimli::UnwindTableRow<usize, Self>; 4];
}

/// The rules of addresses that were met, as many as fit.
#[derive(Debug)]
pub(super) struct Rules {
    /// Sets of [`WAYS`] entries. An entry is the low bits of the mixed address, then the rule;
    /// those bits and the set's number are the whole mixed address, and mixing loses nothing.
    entries: Table<AtomicU64>,
    set_bits: u32,
}

const WAYS: usize = 4;
const ADDRESS_BITS: u32 = 48;

impl Rules {
    /// With room for `capacity` rules, a power of two and at least [`Self::LEAST`].
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        let capacity = capacity.next_power_of_two().max(Self::LEAST);
        Ok(Self { entries: Table::new(capacity)?, set_bits: (capacity / WAYS).ilog2() })
    }

    /// With fewer sets an entry has no room for the rest of the address.
    const LEAST: usize = WAYS << (ADDRESS_BITS + RULE_BITS - u64::BITS);

    /// The first entry of an address's set, and the key there.
    #[inline]
    fn place(&self, address: u64) -> (usize, u64) {
        // Odd, so that no two addresses are mixed to the same; the golden ratio of 2^48.
        let mixed = address.wrapping_mul(0x9e37_79b9_7f4b) & ((1 << ADDRESS_BITS) - 1);
        let key_bits = ADDRESS_BITS - self.set_bits;
        ((mixed >> key_bits) as usize * WAYS, mixed & ((1 << key_bits) - 1))
    }

    #[inline]
    pub(super) fn get(&self, address: u64) -> Option<Rule> {
        let (set, key) = self.place(address);
        (set..set + WAYS).find_map(|entry| {
            // Relaxed: the entry is all there is to it.
            let entry = self.entries.get(entry).load(Ordering::Relaxed);
            let rule = entry & ((1 << RULE_BITS) - 1);
            (entry >> RULE_BITS == key && rule != 0).then_some(Rule(rule as u32))
        })
    }

    /// Keeps a rule, in place of the oldest of its set.
    pub(super) fn insert(&self, address: u64, rule: Rule) {
        if address >> ADDRESS_BITS != 0 {
            return;
        }
        let (set, key) = self.place(address);
        let mut newcomer = key << RULE_BITS | u64::from(rule.0);
        for entry in set..set + WAYS {
            // Relaxed, and not atomic as a whole: two threads at once may lose an entry, which is
            // then learned again.
            newcomer = self.entries.get(entry).swap(newcomer, Ordering::Relaxed);
            if newcomer == 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recording::sampler::Random;

    #[test]
    fn a_rule_says_what_it_was_made_of() {
        let rule = Rule::out(true, 65_528, 8, 16).unwrap();
        assert_eq!(rule.step(), Step::Out { distance: 65_528 });
        assert!(rule.uses_frame_pointer());
        assert_eq!(rule.return_address_below(100), Some(92));
        assert_eq!(rule.frame_pointer_below(100), Some(84));
        let leaf = Rule::out(false, 8, 8, 0).unwrap();
        assert!(!leaf.uses_frame_pointer() && !leaf.restores_frame_pointer());
        for none in [Rule::END, Rule::FOREIGN] {
            assert!(!none.uses_frame_pointer() && !none.restores_frame_pointer());
            assert_eq!(none.return_address_below(100), None);
        }
        assert_eq!(Rule::END.step(), Step::End);
        assert_eq!(Rule::FOREIGN.step(), Step::Foreign);
        for (distance, return_address, frame) in
            [(65_536, 8, 0), (12, 8, 0), (-8, 8, 0), (16, 0, 0), (16, 256, 0), (16, 8, 256)]
        {
            assert_eq!(Rule::out(false, distance, return_address, frame), None);
        }
    }

    /// In the smallest cache, where sets are shared by many: what is found is what was put there.
    #[test]
    fn a_full_cache_never_gives_the_rule_of_another_address() {
        let rules = Rules::new(1).unwrap();
        let rule_of = |address: u64| {
            Rule::out(false, (address % 1000) as i64 * 8, 8, (address % 7) as i64 * 8).unwrap()
        };
        let mut random = Random::new(3, 0);
        let addresses: Vec<u64> = (0..20_000).map(|_| random.next() >> 16).collect();
        let mut found = 0;
        for (at, address) in addresses.iter().enumerate() {
            rules.insert(*address, rule_of(*address));
            assert_eq!(rules.get(*address), Some(rule_of(*address)));
            for earlier in addresses[..at].iter().rev().take(500) {
                if let Some(rule) = rules.get(*earlier) {
                    assert_eq!(rule, rule_of(*earlier));
                    found += 1;
                }
            }
        }
        assert!(found > 1_000_000, "the cache keeps what it can: {found}");
        // An address that does not fit into the key is not kept.
        rules.insert(1 << 50, Rule::END);
        assert_eq!(rules.get(1 << 50 & ((1 << 48) - 1)), None);
    }
}
