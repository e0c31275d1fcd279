//! Walks with a memo against walks without one.

use std::hint::black_box;
use std::ops::Range;

use super::super::modules::Modules;
use super::super::walker::Walker;
use super::*;
use crate::engine::recording::sampler::Random;
use crate::engine::recording::sys;
use crate::engine::recording::unwind::captured::{Captured, hash_frames};
use crate::engine::recording::unwind::size::Size;

const DEPTH: usize = 64;

fn dwarf(modules: &Modules) -> Walker {
    Walker::new(&Size { engines: 1, rules: 1 << 12, memos: 0, depth: DEPTH }, modules).unwrap()
}

/// Walks with the memo and, as a naive twin, without it. Returns how many frames came from the
/// memo, and whether the stack was the same as the last one.
fn agree(
    dwarf: &Walker,
    memo: &mut Memo,
    modules: &Modules,
    frame: Frame,
    stack_end: u64,
) -> (usize, bool) {
    let walk = |memo: &mut Memo, knows_last| {
        let mut captured = Captured::new(knows_last);
        captured.limit = DEPTH;
        dwarf.walk_with(memo, &mut captured, frame, stack_end, 0, modules);
        captured
    };
    let expected = walk(&mut Memo::new(0), false);
    memo.visited.fill(MemoFrame::UNKNOWN);
    let last = memo.addresses.get(memo.first + 1..).unwrap_or_default().to_vec();
    let mut found = walk(memo, true);
    let is_last = found.is_last;
    if is_last {
        assert_eq!(expected.frames(), last);
        found = walk(memo, false);
    }
    assert_eq!(found.frames(), expected.frames());
    assert_eq!(found.truncated, expected.truncated);
    assert_eq!(found.module_mark, expected.module_mark);
    assert_eq!(found.hash(), hash_frames(expected.frames()));
    // Frames that were cached before have a hash.
    let visited = memo.visited.iter().skip(1).filter(|cached| cached.sp != 0 && cached.hash == 0);
    (found.frames().len() - visited.count().min(found.frames().len()), is_last)
}

/// A random stack word: a code address, a stack address or any value.
fn word(random: &mut Random, code: &Range<u64>, stack: &Range<u64>) -> u64 {
    match random.next() % 16 {
        0 => random.next(),
        1 => 0,
        2..8 => stack.start + random.next() % (stack.end - stack.start) / 8 * 8,
        _ => code.start + random.next() % (code.end - code.start),
    }
}

/// Applies arbitrary rules of this program to a stack that changes in random words between
/// walks.
#[test]
fn walks_of_random_stacks_are_equal_with_and_without_a_memo() {
    let modules = Modules::new().unwrap();
    let dwarf = dwarf(&modules);
    let (start, end) = modules.tables(0).range;
    let code = start..end;
    let mut random = Random::new(23, 0);
    let mut memory = vec![0_u64; 96];
    let stack = memory.as_ptr_range();
    let stack = stack.start as u64..stack.end as u64;
    let mut memo = Memo::new(DEPTH);
    let (mut replayed, mut repeats) = (0, 0);
    for _ in 0..20_000 {
        memory.fill_with(|| word(&mut random, &code, &stack));
        let sp = stack.start + random.next() % 32 * 8;
        let fp = sp + random.next() % 64 * 8;
        let mut frame = Frame { ip: code.start + random.next() % (end - start), sp, fp };
        for _ in 0..24 {
            match random.next() % 8 {
                0 => frame.fp = word(&mut random, &code, &stack),
                1 => frame.sp += 8,
                2 => frame.ip = code.start + random.next() % (end - start),
                3 | 4 => {
                    let at = random.next() as usize % memory.len();
                    memory[at] = word(&mut random, &code, &stack);
                }
                _ => {}
            }
            // The compiler does not see that the walk reads the memory.
            black_box(&mut memory);
            if frame.sp < stack.end {
                let (by_memo, is_last) = agree(&dwarf, &mut memo, &modules, frame, stack.end);
                replayed += by_memo;
                repeats += usize::from(is_last);
            }
        }
    }
    assert!(repeats > 1_000, "expected more repeated stacks than {repeats}");
    // On aarch64 the rules of random addresses follow random memory less far: it finds 6,629.
    let least = if cfg!(target_arch = "x86_64") { 10_000 } else { 5_000 };
    assert!(replayed > least, "expected more frames from the memo than {replayed}");
}

struct Calls<'a> {
    random: Random,
    memo: &'a mut Memo,
    dwarf: &'a Walker,
    modules: &'a Modules,
    left: u32,
    replayed: usize,
}

/// Calls and returns at random, with frames of several sizes, deeper than the depth limit.
fn wander(calls: &mut Calls<'_>, depth: u64) {
    #[inline(never)]
    fn small(calls: &mut Calls<'_>, depth: u64) {
        wander(calls, depth + 1);
        black_box(depth);
    }
    #[inline(never)]
    fn large(calls: &mut Calls<'_>, depth: u64) {
        let mut room = [depth; 40];
        black_box(&mut room);
        wander(calls, depth + 1);
        black_box(&room);
    }
    #[inline(never)]
    fn any_size(calls: &mut Calls<'_>, depth: u64) {
        let room: Vec<u64> = (0..depth).collect();
        room.iter().take(1).for_each(|_| wander(calls, depth + 1));
        wander(calls, depth + 1);
    }
    while calls.left > 0 && !calls.random.next().is_multiple_of(8 + depth) {
        match calls.random.next() % 4 {
            0 if depth < 90 => small(calls, depth),
            1 if depth < 90 => large(calls, depth),
            2 if depth < 90 => any_size(calls, depth),
            _ => {
                calls.left -= 1;
                let (ip, sp, fp) = arch::current_registers();
                let end = sys::own_stack().unwrap().end as u64;
                let frame = Frame { ip, sp, fp };
                calls.replayed += agree(calls.dwarf, calls.memo, calls.modules, frame, end).0;
            }
        }
    }
}

/// Uses one memo for the stacks of many threads, of which later ones reuse the addresses of
/// earlier ones.
#[test]
fn walks_of_real_stacks_are_equal_with_and_without_a_memo() {
    let modules = Modules::new().unwrap();
    let dwarf = dwarf(&modules);
    let mut memo = Memo::new(DEPTH);
    let mut replayed = 0;
    for stream in 0..20 {
        let memo = &mut memo;
        let (dwarf, modules) = (&dwarf, &modules);
        let walk = move || {
            let random = Random::new(29, stream);
            let mut calls = Calls { random, memo, dwarf, modules, left: 2_000, replayed: 0 };
            while calls.left > 0 {
                wander(&mut calls, 0);
            }
            calls.replayed
        };
        replayed += std::thread::scope(|scope| scope.spawn(walk).join().unwrap());
    }
    // On aarch64 the rules of random addresses follow random memory less far: it finds 6,629.
    let least = if cfg!(target_arch = "x86_64") { 10_000 } else { 5_000 };
    assert!(replayed > least, "expected more frames from the memo than {replayed}");
}
