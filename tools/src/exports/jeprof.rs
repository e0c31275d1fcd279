//! jeprof: the text format that `jeprof` and `google-pprof` read.
//!
//! In the format `heap_v2/INTERVAL`, readers scale counts up by the interval and the mean size of a
//! stack's objects, which is biased if sizes are mixed. Our estimates are scaled already, each
//! sample by its own size, so the interval is 1. Even then readers scale objects of a few bytes, so
//! `unscaled` applies the inverse beforehand.
//!
//! Names are in a symbol section, so no binary is needed: `jeprof --text FILE`. If no name is
//! known, there is no such section, and the readers look names up: `jeprof --text BINARY FILE`.
//! Both readers omit generic arguments when they print. The format has no labels. Addresses and
//! `MAPPED_LIBRARIES` are those of the recorded process.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use heapdrift::snapshot::Metrics;

use crate::heap::located::{Located, Location};
use crate::numbers::metric::Metric;
use crate::numbers::sum;

/// Live objects, live bytes, allocated objects and allocated bytes.
type Counts = [u64; 4];

/// Writes a heap.
///
/// # Errors
/// The errors of the writer.
pub fn write(heap: &Located, out: &mut dyn Write) -> io::Result<()> {
    let addresses = Addresses::new(heap);
    if heap.locations.iter().any(|location| location.named) {
        symbols(heap, &addresses, out)?;
    }
    let stacks = sums(heap, &addresses);
    let mut totals: Counts = [0; 4];
    for (counts, _) in &stacks {
        totals.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
    }
    // jeprof itself writes a line `--- heap` first, which google-pprof does not accept.
    writeln!(out, "heap profile: {} @ heap_v2/1", text(&totals))?;
    for (counts, stack) in &stacks {
        writeln!(out, "{} @{stack}", text(counts))?;
    }
    writeln!(out, "\nMAPPED_LIBRARIES:")?;
    for mapping in &heap.mappings {
        let path = printable(&mapping.path);
        let (start, end, offset) = (mapping.start, mapping.end, mapping.offset);
        writeln!(out, "{start:08x}-{end:08x} r-xp {offset:08x} 00:00 0 {path}")?;
    }
    Ok(())
}

/// Writes the section with the names. Inlined functions of one address are separated by `--`, the
/// innermost last.
fn symbols(heap: &Located, addresses: &Addresses, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "--- symbol")?;
    if let Some(executable) = heap.mappings.first() {
        writeln!(out, "binary={}", printable(&executable.path))?;
    }
    let mut named: Vec<(u64, &Location)> =
        addresses.0.iter().copied().zip(&heap.locations).collect();
    named.sort_unstable_by_key(|(address, _)| *address);
    for (address, location) in named {
        let names =
            location.frames.iter().rev().map(|&frame| {
                printable(&heap.frames[frame as usize].function).replace("--", "- -")
            });
        writeln!(out, "{address:#x} {}", names.collect::<Vec<_>>().join("--"))?;
    }
    writeln!(out, "---")
}

/// The stacks, the largest first. Those that differ only in their labels are added up.
fn sums(heap: &Located, addresses: &Addresses) -> Vec<(Counts, String)> {
    let mut sums: BTreeMap<String, Metrics> = BTreeMap::new();
    for stack in &heap.stacks {
        let mut text = String::new();
        for (depth, &location) in stack.locations.iter().enumerate() {
            // Readers expect callers as return addresses and subtract one from them.
            let address = addresses.0[location as usize].wrapping_add(u64::from(depth > 0));
            text.push_str(&format!(" {address:#x}"));
        }
        let sum = sums.entry(text).or_default();
        *sum = sum::metrics(sum, &stack.metrics);
    }
    let mut stacks: Vec<(Counts, String)> =
        sums.into_iter().map(|(stack, metrics)| (counts(&metrics), stack)).collect();
    stacks.retain(|(counts, _)| counts.iter().any(|&count| count > 0));
    stacks.sort_by(|a, b| b.0[1].cmp(&a.0[1]).then_with(|| a.1.cmp(&b.1)));
    stacks
}

fn counts(metrics: &Metrics) -> Counts {
    let whole = |count: Metric, bytes: Metric| {
        unscaled(count.of(metrics).value, bytes.of(metrics).value).map(|value| value.round() as u64)
    };
    let [live_count, live_bytes] = whole(Metric::LiveCount, Metric::LiveBytes);
    let [alloc_count, alloc_bytes] = whole(Metric::AllocCount, Metric::AllocBytes);
    [live_count, live_bytes, alloc_count, alloc_bytes]
}

/// The numbers that become `count` and `bytes` when a reader divides both by `1 −
/// exp(−bytes/count)`.
fn unscaled(count: f64, bytes: f64) -> [f64; 2] {
    if count <= 0.0 || bytes <= 0.0 {
        return [count, bytes];
    }
    let sampled = -(-bytes / count).exp_m1();
    [count * sampled, bytes * sampled]
}

fn text([live_count, live_bytes, alloc_count, alloc_bytes]: &Counts) -> String {
    format!("{live_count}: {live_bytes} [{alloc_count}: {alloc_bytes}]")
}

/// The address of each location, made unique.
///
/// The format has one name for each address, but locations can share an address if inlined
/// allocator frames were removed from some stacks only. All but the first of them are moved down by
/// a byte each. That is still inside the call instruction, because recorded addresses are its last
/// byte.
struct Addresses(Vec<u64>);

impl Addresses {
    fn new(heap: &Located) -> Self {
        let mut used = HashSet::with_capacity(heap.locations.len());
        let addresses = heap.locations.iter().map(|location| {
            let mut address = location.address;
            while !used.insert(address) {
                address = address.wrapping_sub(1);
            }
            address
        });
        Self(addresses.collect())
    }
}

/// Text without control characters, which would break the line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_scale_the_numbers_up_to_the_estimates() {
        for (count, bytes) in [(1e6, 1e6), (1e6, 3e6), (10.0, 1e9)] {
            let [n, s] = unscaled(count, bytes);
            let scale = 1.0 / (1.0 - (-s / n).exp());
            assert!((n * scale - count).abs() < 1e-6 * count, "{count} {bytes}");
            assert!((s * scale - bytes).abs() < 1e-6 * bytes, "{count} {bytes}");
        }
        assert_eq!(unscaled(0.0, 0.0), [0.0, 0.0]);
    }
}
