//! Addresses of this program get the names of the functions in this file.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use heapdrift_tools::symbolizer::Options;
use heapdrift_tools::{Symbolized, Symbolizer};

use crate::recorded::{Addresses, Recording, stack};

#[inline(never)]
fn plain() -> Addresses {
    black_box(inlined())
}

#[inline(always)]
fn inlined() -> Addresses {
    black_box(stack())
}

struct Shelf<T>(T);

impl<T> Shelf<T> {
    #[inline(never)]
    fn generic(&self) -> Addresses {
        black_box(stack())
    }
}

trait Stacked {
    fn of_trait(&self) -> Addresses;
}

impl Stacked for Shelf<u8> {
    #[inline(never)]
    fn of_trait(&self) -> Addresses {
        black_box(self.generic())
    }
}

#[inline(never)]
async fn handler() -> Addresses {
    let block = async { black_box(stack()) };
    black_box(block.await)
}

#[inline(never)]
fn closure() -> Addresses {
    let closure = || black_box(stack());
    black_box(closure())
}

#[inline(never)]
pub(crate) fn recursive(depth: u32) -> Addresses {
    if depth == 0 { black_box(stack()) } else { black_box(recursive(depth - 1)) }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn symbolized(stack: &[u64]) -> Symbolized {
    let mut recording = Recording::new();
    recording.add(stack, &[], 100.0, 0.0);
    let mut symbolizer = Symbolizer::new(Options::default());
    let heap = symbolizer.symbolize(&recording.snapshot);
    let warnings = symbolizer.take_warnings();
    assert!(warnings.iter().all(|w| !w.contains("tools-")), "{warnings:?}");
    heap
}

/// The functions of a stack, innermost first, up to the test that called, whose name begins with
/// `the_`.
fn names_of(stack: &[u64]) -> Vec<String> {
    let heap = symbolized(stack);
    let names = heap.stacks[0].frames.iter().map(|&f| heap.frames[f as usize].function.clone());
    names.take_while(|name| !name.contains("::names::the_") && !name.contains("::ready")).collect()
}

#[test]
fn the_inlined_function_comes_before_its_caller() {
    assert_eq!(names_of(&plain()), ["tools::names::inlined", "tools::names::plain"]);
}

#[test]
fn the_name_of_a_generic_function_contains_its_type() {
    let names = names_of(&Shelf(1_u8).of_trait());
    // The legacy mangling contains the parameter, v0 the argument.
    assert!(
        ["tools::names::Shelf<T>::generic", "<tools::names::Shelf<u8>>::generic"]
            .contains(&&*names[0]),
        "{names:?}"
    );
    assert_eq!(names[1], "<tools::names::Shelf<u8> as tools::names::Stacked>::of_trait");
}

#[test]
fn the_body_of_an_async_function_is_distinguished_from_a_closure() {
    let names = names_of(&ready(handler()));
    assert_eq!(
        names,
        ["tools::names::handler::{async}::{async block}", "tools::names::handler::{async}"]
    );
    let names = names_of(&closure());
    assert!(
        ["tools::names::closure::{closure}", "tools::names::closure::{closure#0}"]
            .contains(&&*names[0]),
        "{names:?}"
    );
    assert_eq!(names[1], "tools::names::closure");
}

#[test]
fn no_name_has_a_hash() {
    let heap = symbolized(&recursive(3));
    let hash = |name: &str| {
        name.rsplit("::").next().is_some_and(|last| {
            last.len() == 17
                && last.starts_with('h')
                && last[1..].bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    assert!(heap.frames.iter().all(|frame| !hash(&frame.function)));
    assert!(
        heap.frames
            .iter()
            .all(|frame| frame.file.as_deref().is_none_or(|f| !f.contains("/rustc/")))
    );
}

#[test]
fn frames_have_the_line_of_the_call() {
    let heap = symbolized(&plain());
    let frame = &heap.frames[heap.stacks[0].frames[1] as usize];
    let source = include_str!("names.rs");
    let line = 1 + source.lines().position(|line| line.contains("black_box(inlined())")).unwrap();
    assert_eq!(frame.line, Some(line as u32));
    assert!(frame.file.as_deref().unwrap().ends_with("tools/tests/tools/names.rs"));
    assert_eq!(frame.krate, "tools");
}

#[test]
fn a_stack_without_frames_and_an_address_without_a_name_are_kept() {
    let mut recording = Recording::new();
    recording.add(&[], &[], 1.0, 0.0);
    recording.add(&[0xffff_ffff_0000], &[], 2.0, 0.0);
    let heap = Symbolizer::new(Options::default()).symbolize(&recording.snapshot);
    let name = |stack: usize| &*heap.frames[heap.stacks[stack].frames[0] as usize].function;
    assert_eq!(name(0), "[no stack]");
    assert!(name(1).starts_with("tools-") && name(1).ends_with("+0xffffffff0000"), "{}", name(1));
}

#[test]
fn a_series_of_dumps_looks_each_address_up_once() {
    let mut recording = Recording::new();
    recording.add(&plain(), &[], 1.0, 0.0);
    let mut symbolizer = Symbolizer::new(Options::default());
    let first = symbolizer.symbolize(&recording.snapshot);
    let again = symbolizer.symbolize(&recording.snapshot);
    assert_eq!(first, again);
}
