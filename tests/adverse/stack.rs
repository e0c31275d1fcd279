//! How much stack the profiler's own work needs.

use std::cell::Cell;
use std::fs;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use heapdrift::{LeakReport, Profiler};

use crate::common::{exact, is_child, one_at_a_time};
use crate::{child, dumps, succeed, wait_until};

const PAINT: u8 = 0xA5;

/// What is left alone below the frame that paints, which is for its own calls.
const OWN_FRAMES: usize = 4 << 10;

/// What is left alone at the end of the stack, where guard pages may be.
const GUARD: usize = 32 << 10;

/// The bounds of this thread's stack.
fn stack() -> Range<usize> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
    // SAFETY: cannot fail.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: the call initialises the attributes.
    assert_eq!(unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) }, 0);
    let (mut low, mut size) = (ptr::null_mut(), 0);
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the attributes are initialised, and both values may be written.
    assert_eq!(unsafe { libc::pthread_attr_getstack(attributes, &raw mut low, &raw mut size) }, 0);
    // SAFETY: the attributes are initialised and not used again.
    let _ = unsafe { libc::pthread_attr_destroy(attributes) };
    low as usize..low as usize + size
}

/// The part of this thread's stack that no frame uses now.
fn unused() -> Range<usize> {
    let here = 0_u8;
    let here = &raw const here as usize;
    stack().start + GUARD..here - OWN_FRAMES
}

/// Paints the unused part of the stack.
fn paint() {
    for at in unused() {
        // SAFETY: the byte lies in this thread's stack, far below all frames.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(PAINT) };
    }
}

/// The bytes of stack that have been in use since it was painted, from its beginning.
fn used() -> usize {
    let is_painted = |at: &usize| {
        // SAFETY: the byte lies in this thread's stack and was written when it was painted.
        unsafe { ptr::with_exposed_provenance::<u8>(*at).read_volatile() == PAINT }
    };
    stack().end - unused().find(|at| !is_painted(at)).unwrap_or(unused().end)
}

#[inline(never)]
fn remember() -> Box<[u8; 160]> {
    black_box(Box::new([1; 160]))
}

/// Runs `work` on a painted stack and returns the bytes that it used, rounded up to KiB.
fn kib_of(work: impl FnOnce()) -> usize {
    paint();
    work();
    used().div_ceil(1024)
}

/// The most that the profiler's work may take of any thread's stack, in a debug build.
const MOST_KIB: usize = 128;

#[test]
fn a_tick_a_dump_and_a_resolution_need_less_than_a_sixteenth_of_the_reporting_threads_stack() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let painted = Arc::new(Mutex::new(Vec::new()));
    let results = Arc::clone(&painted);
    thread_local!(static IS_PAINTED: Cell<bool> = const { Cell::new(false) });
    // The function is called at the end of each tick, before its dump is written. Between two calls
    // lie a dump and a tick.
    let profiler = exact()
        .dump_dir(folder.path())
        .diff_every(Duration::from_millis(20))
        .dump_every(Duration::from_millis(20))
        .on_report(move |report: &LeakReport| {
            let size = stack().end - stack().start;
            if IS_PAINTED.replace(true) {
                results.lock().unwrap().push((size, used(), !report.candidates.is_empty()));
            }
            paint();
        })
        .start()
        .unwrap();
    let mut kept = Vec::with_capacity(100_000);
    let mut resolved = || {
        (0..3).for_each(|_| kept.push(remember()));
        painted.lock().unwrap().iter().filter(|(.., has_candidates)| *has_candidates).count() >= 3
    };
    wait_until("a candidate", &mut resolved);
    drop(profiler);
    let painted = painted.lock().unwrap();
    let (size, most) = (painted[0].0, painted.iter().map(|(_, used, _)| *used).max().unwrap());
    println!("reporting thread: {} of {} KiB", most.div_ceil(1024), size / 1024);
    assert!(size >= 2 << 20, "{size}");
    assert!(most <= MOST_KIB << 10, "{most}");
    assert!(most <= size / 16, "{most} of {size}");
}

#[test]
fn the_need_of_each_call_is_as_documented() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("now.heap.json.gz");
    let profiler = exact().diff_every(Duration::ZERO).start().unwrap();
    let on_a_thread = |work: &(dyn Fn(&Profiler) + Sync)| {
        thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(4 << 20);
            let measured = builder.spawn_scoped(scope, || kib_of(|| work(&profiler))).unwrap();
            measured.join().unwrap()
        })
    };
    let nothing = on_a_thread(&|_| ());
    let snapshot = on_a_thread(&|profiler| drop(black_box(profiler.snapshot())));
    let dump = on_a_thread(&|profiler| profiler.dump(&path).unwrap());
    let mut kept = Vec::with_capacity(10_000);
    let (mut tick, mut resolution) = (0, 0);
    for _ in 0..40 {
        (0..20).for_each(|_| kept.push(remember()));
        let has_candidates = AtomicUsize::new(0);
        let need = on_a_thread(&|profiler| {
            has_candidates.store(profiler.diff_now().candidates.len(), Ordering::SeqCst);
        });
        let most = if has_candidates.into_inner() > 0 { &mut resolution } else { &mut tick };
        *most = need.max(*most);
    }
    println!(
        "KiB of stack: nothing {nothing}, snapshot {snapshot}, dump {dump}, tick {tick}, with \
         names {resolution}"
    );
    assert!(resolution > 0, "a candidate");
    for need in [snapshot, dump, tick, resolution] {
        assert!(need <= MOST_KIB, "{need}");
    }
}

#[test]
fn a_small_default_for_stacks_is_not_the_reporting_threads() {
    const NAME: &str = "stack::a_small_default_for_stacks_is_not_the_reporting_threads";
    if !is_child() {
        for size in ["16384", "65536", "262144"] {
            succeed(child(NAME).env("RUST_MIN_STACK", size));
        }
        return;
    }
    // The test itself needs more as well.
    let service = || {
        let folder = tempfile::tempdir().unwrap();
        let profiler = exact()
            .dump_dir(folder.path())
            .diff_every(Duration::from_millis(10))
            .dump_every(Duration::from_millis(20))
            .start()
            .unwrap();
        let mut kept = Vec::with_capacity(100_000);
        wait_until("a candidate", || {
            (0..3).for_each(|_| kept.push(remember()));
            let report = profiler.snapshot().leaks;
            report.is_some_and(|report| !report.candidates.is_empty())
        });
        wait_until("a dump", || dumps(folder.path()).len() > 1);
        drop(profiler);
        assert!(fs::read_dir(folder.path()).unwrap().count() > 1);
    };
    thread::Builder::new().stack_size(8 << 20).spawn(service).unwrap().join().unwrap();
}
