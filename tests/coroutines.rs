//! Label scopes of stackful coroutines may end in any order, on any thread or never, and the
//! coroutines' stacks are unmapped. Labels may then be wrong, but freed memory must not be
//! accessed.
//!
//! Each test runs in its own process, because a fault would kill the process.
#![cfg(all(feature = "profiling", unix))]
#![allow(unsafe_code)]

mod common;

use std::thread;

use common::{exact, in_child, is_child, live_labelled};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use heapdrift::{Alloc, Profiler, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

type Suspender = Yielder<(), ()>;

/// Creates a coroutine that is suspended in a label scope, on its own stack.
fn suspended_in(key: &'static str, value: &'static str) -> Coroutine<(), (), ()> {
    let mut coroutine = Coroutine::new(move |yielder: &Suspender, ()| {
        // The labels are on the coroutine's stack, too.
        let labels = [(key, value)];
        with_labels(&labels, || yielder.suspend(()));
    });
    assert!(matches!(coroutine.resume(()), CoroutineResult::Yield(())));
    coroutine
}

/// Resumes a coroutine until it leaves its scope, then unmaps its stack.
fn finish(mut coroutine: Coroutine<(), (), ()>) {
    assert!(matches!(coroutine.resume(()), CoroutineResult::Return(())));
}

/// Asserts that labels are in force inside their scope, and neither before nor after it.
fn assert_labels_work(profiler: &Profiler, site: &'static str) {
    let kept: Vec<Vec<u8>> =
        with_labels(&[("site", site)], || (0..10).map(|_| Vec::with_capacity(777)).collect());
    let outside: Vec<Vec<u8>> = (0..10).map(|_| Vec::with_capacity(778)).collect();
    let snapshot = profiler.snapshot();
    let samples = live_labelled(&snapshot, "site", site);
    assert_eq!(samples.iter().filter(|sample| sample.size == 777).count(), 10);
    assert_eq!(samples.iter().filter(|sample| sample.size == 778).count(), 0);
    drop((kept, outside));
}

fn runs_in_child(name: &str) -> bool {
    if !is_child() {
        in_child(name, &[]);
    }
    is_child()
}

#[test]
fn interleaved_scopes_leave_no_labels_of_a_freed_stack_in_force() {
    if runs_in_child("interleaved_scopes_leave_no_labels_of_a_freed_stack_in_force") {
        let profiler = exact().start().unwrap();
        let first = suspended_in("first", "1");
        let second = suspended_in("second", "2");
        finish(first);
        // The enclosing scope of this one was that of the first coroutine.
        finish(second);
        assert_labels_work(&profiler, "interleaved");
    }
}

#[test]
fn a_coroutine_dropped_in_a_scope_leaves_no_labels_of_its_stack_in_force() {
    if runs_in_child("a_coroutine_dropped_in_a_scope_leaves_no_labels_of_its_stack_in_force") {
        let profiler = exact().start().unwrap();
        let first = suspended_in("first", "1");
        let second = suspended_in("second", "2");
        drop(first);
        drop(second);
        assert_labels_work(&profiler, "dropped");
    }
}

#[test]
fn a_coroutine_reset_in_a_scope_leaves_no_labels_of_its_stack_in_force() {
    if runs_in_child("a_coroutine_reset_in_a_scope_leaves_no_labels_of_its_stack_in_force") {
        let profiler = exact().start().unwrap();
        let mut coroutine = suspended_in("first", "1");
        // SAFETY: no value on its stack has a destructor that soundness depends on.
        unsafe { coroutine.force_reset() };
        drop(coroutine);
        assert_labels_work(&profiler, "reset");
    }
}

/// The type of a coroutine binds it to its thread. Runtimes that move coroutines assert the same as
/// this type.
struct Movable(Coroutine<(), (), ()>);

// SAFETY: all values that the coroutine holds may be sent.
unsafe impl Send for Movable {}

#[test]
fn a_coroutine_that_ends_on_another_thread_leaves_no_labels_of_its_stack_in_force() {
    if runs_in_child(
        "a_coroutine_that_ends_on_another_thread_leaves_no_labels_of_its_stack_in_force",
    ) {
        let profiler = exact().start().unwrap();
        with_labels(&[("outer", "here")], || {
            let coroutine = Movable(suspended_in("first", "1"));
            let there = move || {
                let coroutine = coroutine;
                with_labels(&[("outer", "there")], || finish(coroutine.0));
                Vec::<u8>::with_capacity(5)
            };
            drop(thread::spawn(there).join().unwrap());
            // This thread has not noticed that the scope ended.
            drop(Vec::<u8>::with_capacity(6));
        });
        assert_labels_work(&profiler, "moved");
    }
}

/// Interleaves many coroutines, as a runtime does.
#[test]
fn interleaved_coroutines_in_scopes_do_not_disturb_the_session() {
    if runs_in_child("interleaved_coroutines_in_scopes_do_not_disturb_the_session") {
        let profiler = exact().start().unwrap();
        let worker = |number: usize| {
            Coroutine::new(move |yielder: &Suspender, ()| {
                for round in 0..20 {
                    let value = format!("{}", (number * 7 + round) % 50);
                    with_labels(&[("request", &value)], || {
                        let before = vec![0_u8; 100 + number];
                        yielder.suspend(());
                        with_labels(&[("step", "inner")], || {
                            let inside = vec![0_u8; 200 + number];
                            yielder.suspend(());
                            drop((before, inside));
                        });
                    });
                }
            })
        };
        let mut coroutines: Vec<Option<Coroutine<(), (), ()>>> =
            (0..16).map(|number| Some(worker(number))).collect();
        for turn in 0.. {
            let at = turn * 5 % coroutines.len() + turn % 3 % coroutines.len();
            let at = at % coroutines.len();
            if let Some(mut coroutine) = coroutines[at].take()
                && let CoroutineResult::Yield(()) = coroutine.resume(())
            {
                coroutines[at] = Some(coroutine);
            }
            if coroutines.iter().all(Option::is_none) {
                break;
            }
        }
        profiler.snapshot().validate().unwrap();
        assert_eq!(profiler.stats().dropped_labels, 0);
        assert_labels_work(&profiler, "turns");
    }
}
