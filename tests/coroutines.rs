//! Label scopes of stackful coroutines, which end in any order, on any thread or never, and whose
//! stacks are unmapped. Labels may be wrong then; memory must not be touched that is gone.
//!
//! Each test runs in a process of its own, which would die by a signal.
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

/// A coroutine that is suspended in a scope, on a stack of its own.
fn suspended_in(key: &'static str, value: &'static str) -> Coroutine<(), (), ()> {
    let mut coroutine = Coroutine::new(move |yielder: &Suspender, ()| {
        // The labels are on the coroutine's stack too.
        let labels = [(key, value)];
        with_labels(&labels, || yielder.suspend(()));
    });
    assert!(matches!(coroutine.resume(()), CoroutineResult::Yield(())));
    coroutine
}

/// Lets a coroutine leave its scope, and unmaps its stack.
fn finish(mut coroutine: Coroutine<(), (), ()>) {
    assert!(matches!(coroutine.resume(()), CoroutineResult::Return(())));
}

/// Labels that are in force nowhere else, before and after.
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

fn child(name: &str) -> bool {
    if !is_child() {
        in_child(name, &[]);
    }
    is_child()
}

#[test]
fn scopes_that_interleave_leave_nothing_of_a_freed_stack_in_force() {
    if child("scopes_that_interleave_leave_nothing_of_a_freed_stack_in_force") {
        let profiler = exact().start().unwrap();
        let first = suspended_in("first", "1");
        let second = suspended_in("second", "2");
        finish(first);
        // The scope outside of this one was the first.
        finish(second);
        assert_labels_work(&profiler, "interleaved");
    }
}

#[test]
fn a_coroutine_that_is_dropped_in_a_scope_leaves_nothing_of_its_stack_in_force() {
    if child("a_coroutine_that_is_dropped_in_a_scope_leaves_nothing_of_its_stack_in_force") {
        let profiler = exact().start().unwrap();
        let first = suspended_in("first", "1");
        let second = suspended_in("second", "2");
        drop(first);
        drop(second);
        assert_labels_work(&profiler, "dropped");
    }
}

#[test]
fn a_coroutine_that_is_reset_in_a_scope_leaves_nothing_of_its_stack_in_force() {
    if child("a_coroutine_that_is_reset_in_a_scope_leaves_nothing_of_its_stack_in_force") {
        let profiler = exact().start().unwrap();
        let mut coroutine = suspended_in("first", "1");
        // SAFETY: nothing on its stack has to be dropped for soundness.
        unsafe { coroutine.force_reset() };
        drop(coroutine);
        assert_labels_work(&profiler, "reset");
    }
}

/// Coroutines are bound to their thread by their type; runtimes that move them say what this says.
struct Movable(Coroutine<(), (), ()>);

// SAFETY: what the coroutine holds may be sent.
unsafe impl Send for Movable {}

#[test]
fn a_coroutine_that_ends_on_another_thread_leaves_nothing_of_its_stack_in_force() {
    if child("a_coroutine_that_ends_on_another_thread_leaves_nothing_of_its_stack_in_force") {
        let profiler = exact().start().unwrap();
        with_labels(&[("outer", "here")], || {
            let coroutine = Movable(suspended_in("first", "1"));
            let there = move || {
                let coroutine = coroutine;
                with_labels(&[("outer", "there")], || finish(coroutine.0));
                Vec::<u8>::with_capacity(5)
            };
            drop(thread::spawn(there).join().unwrap());
            // This thread was never told that the scope has ended.
            drop(Vec::<u8>::with_capacity(6));
        });
        assert_labels_work(&profiler, "moved");
    }
}

/// Many coroutines that take turns, as in a runtime of them.
#[test]
fn coroutines_that_take_turns_in_scopes_do_not_disturb_the_session() {
    if child("coroutines_that_take_turns_in_scopes_do_not_disturb_the_session") {
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
