//! Panics in what the service gives the profiler: loggers and callbacks.

use std::hint::black_box;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{exact, is_child};
use crate::{child, dumps, own_threads, succeed, wait_until};

static LOGGED: AtomicUsize = AtomicUsize::new(0);

struct PanickingLogger;

impl log::Log for PanickingLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "heapdrift"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOGGED.fetch_add(1, Ordering::SeqCst);
            panic!("the disk of the log is full");
        }
    }

    fn flush(&self) {}
}

#[inline(never)]
fn remember() -> Box<[u8; 160]> {
    black_box(Box::new([1; 160]))
}

#[test]
fn a_logger_that_panics_ends_neither_ticks_nor_dumps() {
    const NAME: &str = "panics::a_logger_that_panics_ends_neither_ticks_nor_dumps";
    if !is_child() {
        succeed(&mut child(NAME));
        return;
    }
    panic::set_hook(Box::new(|_| ()));
    log::set_logger(&PanickingLogger).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let folder = tempfile::tempdir().unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ticks);
    let profiler = exact()
        .dump_dir(folder.path())
        .diff_every(Duration::from_millis(5))
        .dump_every(Duration::from_millis(10))
        .on_report(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .start()
        .unwrap();
    let mut kept = Vec::with_capacity(100_000);
    while LOGGED.load(Ordering::SeqCst) == 0 && ticks.load(Ordering::SeqCst) < 2000 {
        kept.push(remember());
        thread::sleep(Duration::from_millis(1));
    }
    assert!(LOGGED.load(Ordering::SeqCst) > 0, "a leak is logged");
    let before = ticks.load(Ordering::SeqCst);
    wait_until("more ticks", || ticks.load(Ordering::SeqCst) >= before + 5);
    assert_eq!(own_threads().len(), 1);
    // On the service's own threads the logger's panic is contained as well.
    let logged = LOGGED.load(Ordering::SeqCst);
    (0..200).for_each(|_| {
        kept.extend((0..20).map(|_| remember()));
        if LOGGED.load(Ordering::SeqCst) == logged {
            profiler.diff_now();
        }
    });
    drop(profiler);
    let last = dumps(folder.path()).pop().unwrap();
    assert_eq!(heapdrift::dump::read(&last).unwrap().taken.reason, "end");
}

/// What `on_report` panics with: a value whose destructor panics, too.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("once more");
    }
}

#[test]
fn a_panic_of_on_report_whose_payload_panics_does_not_end_the_reporting_thread() {
    const NAME: &str =
        "panics::a_panic_of_on_report_whose_payload_panics_does_not_end_the_reporting_thread";
    if !is_child() {
        succeed(&mut child(NAME));
        return;
    }
    panic::set_hook(Box::new(|_| ()));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let captured = PanicsWhenDropped;
    let profiler = exact()
        .diff_every(Duration::from_millis(5))
        .on_report(move |_| {
            black_box(&captured);
            counted.fetch_add(1, Ordering::SeqCst);
            panic::panic_any(PanicsWhenDropped);
        })
        .start()
        .unwrap();
    wait_until("five calls", || calls.load(Ordering::SeqCst) >= 5);
    // Its destructor runs here.
    drop(profiler);
    drop(exact().diff_every(Duration::ZERO).start().expect("the session has ended"));
}
