//! Unwind rules: how to get from a frame to its caller. The rule of a code address is read from the
//! unwind tables once and then cached.
//!
//! Nearly every frame has an ordinary rule: the caller's stack pointer (the CFA) is at a constant
//! offset from the stack or frame pointer, and the return address and the caller's frame pointer
//! are saved at constant offsets below it. Such a rule fits into 24 bits, and so a rule and its
//! address fit into one word. Every other rule is [`Rule::COMPLEX`] and left to framehop.
//!
//! All threads share one cache. Each entry is a single atomic word that contains its whole key, so
//! readers need nothing else to validate it. The cache holds only addresses of permanent modules,
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

/// What a walk does by a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go to the caller, whose stack pointer is `distance` bytes above this frame's stack or frame
    /// pointer.
    Caller { distance: u64 },
    /// Stop: this is the outermost frame.
    Outermost,
    /// Ask framehop: the rule is not ordinary.
    Complex,
}

/// A [`Step`] in 24 bits: 13 for the distance, 1 for its base register, 5 each for the offsets of
/// the return address and of the frame pointer, all in words of 8 bytes. It is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule(u32);

const RULE_BITS: u32 = 24;
const DISTANCE_BITS: u32 = 13;
const OFFSET_BITS: u32 = 5;

impl Rule {
    // The return address of an ordinary rule is at least one word below the CFA, so its offset is
    // not zero as in these two.
    const OUTERMOST: Self = Self(1);
    pub(super) const COMPLEX: Self = Self(2);

    fn ordinary(
        base_is_frame: bool,
        distance: i64,
        return_address: i64,
        frame: i64,
    ) -> Option<Self> {
        let words = |bytes: i64, bits: u32| {
            let fits = bytes >= 0 && bytes % 8 == 0 && bytes / 8 < 1 << bits;
            fits.then_some(bytes as u32 / 8)
        };
        let distance = words(distance, DISTANCE_BITS)?;
        let return_address = words(return_address, OFFSET_BITS).filter(|offset| *offset > 0)?;
        let frame = words(frame, OFFSET_BITS)?;
        let offsets = return_address | frame << OFFSET_BITS;
        Some(Self(
            distance | u32::from(base_is_frame) << DISTANCE_BITS | offsets << (DISTANCE_BITS + 1),
        ))
    }

    #[inline]
    pub(super) fn step(self) -> Step {
        match self {
            Self::OUTERMOST => Step::Outermost,
            Self::COMPLEX => Step::Complex,
            Self(word) => {
                Step::Caller { distance: u64::from(word & ((1 << DISTANCE_BITS) - 1)) * 8 }
            }
        }
    }

    /// The address at which the return address is saved, given the caller's stack pointer. `None`
    /// if the rule is not ordinary.
    #[inline]
    pub(super) fn return_address_below(self, caller_sp: u64) -> Option<u64> {
        let offset = self.0 >> (DISTANCE_BITS + 1) & ((1 << OFFSET_BITS) - 1);
        (offset != 0).then(|| caller_sp.wrapping_sub(u64::from(offset) * 8))
    }

    /// The address at which the caller's frame pointer is saved, given its stack pointer. `None` if
    /// the frame pointer register still holds it.
    #[inline]
    pub(super) fn frame_pointer_below(self, caller_sp: u64) -> Option<u64> {
        let offset = self.0 >> (DISTANCE_BITS + 1 + OFFSET_BITS);
        (offset != 0).then(|| caller_sp.wrapping_sub(u64::from(offset) * 8))
    }

    /// Whether the caller's frame pointer is restored from memory.
    #[inline]
    pub(super) fn restores_frame_pointer(self) -> bool {
        self.frame_pointer_below(0).is_some()
    }

    /// Whether the caller's stack pointer is computed from the frame pointer.
    #[inline]
    pub(super) fn uses_frame_pointer(self) -> bool {
        self.0 >> DISTANCE_BITS & 1 != 0
    }

    /// Reads the rule of an address from its module's unwind tables. This takes some hundred
    /// nanoseconds and does not allocate.
    #[inline(never)]
    pub(super) fn read(tables: &UnwindTables, address: u64) -> Self {
        Self::try_read(tables, address).unwrap_or(Self::COMPLEX)
    }

    fn try_read(tables: &UnwindTables, address: u64) -> Option<Self> {
        let Some((section, bases, entry)) = find_fde(tables, address) else {
            // musl is compiled without unwind tables, and the first functions of every thread are
            // in it. Its few other functions that call back, like `qsort`, end stacks as well.
            return cfg!(target_env = "musl").then_some(Self::OUTERMOST);
        };
        // In a signal frame the registers are where the kernel saved them, and the return address
        // does not follow a call instruction.
        if entry.is_signal_trampoline() {
            return None;
        }
        let mut context = UnwindContext::<usize, StackStorage>::new_in();
        let row = entry.unwind_info_for_address(&section, &bases, &mut context, address).ok()?;
        let return_address = match row.register(registers::RETURN_ADDRESS) {
            Some(RegisterRule::Offset(offset)) => -offset,
            // The psABI marks the outermost frame so (System V AMD64, 6.2).
            None | Some(RegisterRule::Undefined) if cfg!(target_arch = "x86_64") => {
                return Some(Self::OUTERMOST);
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
                Self::ordinary(from_frame, offset, return_address, frame)
            }
            CfaRule::Expression(_) => None,
        }
    }
}

type Bytes = EndianSlice<'static, NativeEndian>;

/// Finds the FDE (frame description entry) of an address in its module's unwind table, and returns
/// it with what its evaluation needs.
fn find_fde(
    tables: &UnwindTables,
    address: u64,
) -> Option<(EhFrame<Bytes>, BaseAddresses, FrameDescriptionEntry<Bytes>)> {
    let header = EhFrameHdr::new(tables.eh_frame_hdr.bytes()?, NativeEndian);
    // Base addresses are those of the mapped sections, so that relative pointers decode to
    // addresses in memory even if the bytes are a copy.
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

/// The start of the function that contains an address.
pub(super) fn function_start(tables: &UnwindTables, address: u64) -> Option<u64> {
    find_fde(tables, address).map(|(.., entry)| entry.initial_address())
}

/// The length of an `.eh_frame` up to and including its terminator, which other bytes may follow.
pub(super) fn eh_frame_len(bytes: &[u8]) -> usize {
    let mut at = 0_usize;
    while let Some([a, b, c, d]) = bytes.get(at..at.saturating_add(4)) {
        let length = u32::from_ne_bytes([*a, *b, *c, *d]);
        at += 4;
        // `u32::MAX` announces a 64-bit length, for entries above 4 GiB. No compiler writes such
        // entries.
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

/// Storage on the stack for evaluating an FDE. The rule of an FDE that needs more is complex.
struct StackStorage;

impl gimli::UnwindContextStorage<usize> for StackStorage {
    type Rules = [(Register, RegisterRule<usize>); 32];
    type Stack = [gimli::UnwindTableRow<usize, Self>; 4];
}

/// The cached rules of the code addresses that walks have met. A set keeps its newest rules.
#[derive(Debug)]
pub(super) struct Rules {
    /// Sets of [`WAYS`] entries. An entry consists of the low bits of the mixed address and the
    /// rule. Those bits and the index of the set are the whole mixed address, and mixing is
    /// bijective.
    entries: Table<AtomicU64>,
    set_bits: u32,
}

const WAYS: usize = 4;
const ADDRESS_BITS: u32 = 48;

impl Rules {
    /// Creates a cache for `capacity` rules, rounded up to a power of two and to at least
    /// [`Self::MIN_CAPACITY`].
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        let capacity = capacity.next_power_of_two().max(Self::MIN_CAPACITY);
        Ok(Self { entries: Table::new(capacity)?, set_bits: (capacity / WAYS).ilog2() })
    }

    /// With fewer sets an entry would have no room for the rest of the address.
    const MIN_CAPACITY: usize = WAYS << (ADDRESS_BITS + RULE_BITS - u64::BITS);

    /// The first entry of the address's set, and the address's key within the set.
    #[inline]
    fn set_and_key(&self, address: u64) -> (usize, u64) {
        // The factor is odd, so no two addresses are mixed to the same value. It is the golden
        // ratio of 2^48.
        let mixed = address.wrapping_mul(0x9e37_79b9_7f4b) & ((1 << ADDRESS_BITS) - 1);
        let key_bits = ADDRESS_BITS - self.set_bits;
        ((mixed >> key_bits) as usize * WAYS, mixed & ((1 << key_bits) - 1))
    }

    #[inline]
    pub(super) fn get(&self, address: u64) -> Option<Rule> {
        let (set, key) = self.set_and_key(address);
        (set..set + WAYS).find_map(|entry| {
            // Relaxed: the entry is self-contained and publishes no other memory.
            let entry = self.entries.get(entry).load(Ordering::Relaxed);
            let rule = entry & ((1 << RULE_BITS) - 1);
            (entry >> RULE_BITS == key && rule != 0).then_some(Rule(rule as u32))
        })
    }

    /// Caches a rule and evicts the oldest one of its set.
    pub(super) fn insert(&self, address: u64, rule: Rule) {
        if address >> ADDRESS_BITS != 0 {
            return;
        }
        let (set, key) = self.set_and_key(address);
        let mut displaced = key << RULE_BITS | u64::from(rule.0);
        for entry in set..set + WAYS {
            // Relaxed: entries are self-contained. The rotation is not atomic as a whole: two
            // concurrent inserts may lose an entry, which is then read from the tables again.
            displaced = self.entries.get(entry).swap(displaced, Ordering::Relaxed);
            if displaced == 0 {
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
    fn a_rule_returns_the_offsets_it_was_encoded_from() {
        let rule = Rule::ordinary(true, 65_528, 8, 16).unwrap();
        assert_eq!(rule.step(), Step::Caller { distance: 65_528 });
        assert!(rule.uses_frame_pointer());
        assert_eq!(rule.return_address_below(100), Some(92));
        assert_eq!(rule.frame_pointer_below(100), Some(84));
        let leaf = Rule::ordinary(false, 8, 8, 0).unwrap();
        assert!(!leaf.uses_frame_pointer() && !leaf.restores_frame_pointer());
        for none in [Rule::OUTERMOST, Rule::COMPLEX] {
            assert!(!none.uses_frame_pointer() && !none.restores_frame_pointer());
            assert_eq!(none.return_address_below(100), None);
        }
        assert_eq!(Rule::OUTERMOST.step(), Step::Outermost);
        assert_eq!(Rule::COMPLEX.step(), Step::Complex);
        for (distance, return_address, frame) in
            [(65_536, 8, 0), (12, 8, 0), (-8, 8, 0), (16, 0, 0), (16, 256, 0), (16, 8, 256)]
        {
            assert_eq!(Rule::ordinary(false, distance, return_address, frame), None);
        }
    }

    /// Uses the smallest cache, in which many addresses share a set.
    #[test]
    fn a_full_cache_never_gives_the_rule_of_another_address() {
        let rules = Rules::new(1).unwrap();
        let rule_of = |address: u64| {
            Rule::ordinary(false, (address % 1000) as i64 * 8, 8, (address % 7) as i64 * 8).unwrap()
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
        assert!(found > 1_000_000, "expected more cache hits than {found}");
        // An address that does not fit into the key is not cached.
        rules.insert(1 << 50, Rule::OUTERMOST);
        assert_eq!(rules.get(1 << 50 & ((1 << 48) - 1)), None);
    }
}
