//! The profiler runs code of the service: `log` loggers, `on_report`, and destructors of captured
//! values. Such code may call the profiler, because the profiler then holds none of its locks.
#![cfg(all(feature = "profiling", target_os = "linux"))]
#![allow(unsafe_code)]

mod common;

use std::hint::black_box;
use std::io::{self, Write};
use std::panic;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use common::{exact, one_at_a_time};
use heapdrift::{Alloc, LeakReport, Profiler, StartError};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// The time limit of a test. These tests look for deadlocks, and a test that hangs reports nothing.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Aborts the process unless it is dropped before the time limit.
struct Watchdog {
    is_done: Arc<AtomicBool>,
}

impl Watchdog {
    fn start(what: &'static str) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&is_done);
        thread::spawn(move || {
            let begin = Instant::now();
            while !watched.load(Ordering::SeqCst) {
                if begin.elapsed() > TIME_LIMIT {
                    // `eprintln!` would not do: the test harness captures its output, which the
                    // abort would lose.
                    let _ = writeln!(io::stderr(), "{what} has not returned for {TIME_LIMIT:?}");
                    process::abort();
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { is_done }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::SeqCst);
    }
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < TIME_LIMIT / 2, "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What the logger does with each event of heapdrift.
type Reaction = Box<dyn Fn() + Send + Sync>;

struct Logger(Mutex<Option<Arc<Reaction>>>);

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "heapdrift"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let reaction = self.0.lock().unwrap().clone();
            if let Some(react) = reaction {
                react();
            }
        }
    }

    fn flush(&self) {}
}

static LOGGER: Logger = Logger(Mutex::new(None));

/// While this value exists, each event of heapdrift calls `react`.
struct Listening;

impl Listening {
    fn with(react: impl Fn() + Send + Sync + 'static) -> Self {
        static SET: Once = Once::new();
        SET.call_once(|| log::set_logger(&LOGGER).unwrap());
        log::set_max_level(log::LevelFilter::Info);
        *LOGGER.0.lock().unwrap() = Some(Arc::new(Box::new(react)));
        Self
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        log::set_max_level(log::LevelFilter::Off);
        *LOGGER.0.lock().unwrap() = None;
    }
}

/// Gives callbacks access to the profiler, without keeping it alive.
#[derive(Clone, Default)]
struct Current(Arc<OnceLock<Weak<Profiler>>>);

impl Current {
    fn set(&self, profiler: Profiler) -> Arc<Profiler> {
        let profiler = Arc::new(profiler);
        self.0.set(Arc::downgrade(&profiler)).expect("one profiler");
        profiler
    }

    fn get(&self) -> Option<Arc<Profiler>> {
        self.0.get()?.upgrade()
    }
}

/// Drops a profiler, and waits for the end of its session: a callback on the reporting thread may
/// be the last to hold it.
fn end(profiler: Arc<Profiler>) {
    drop(profiler);
    wait_until("the end of the session", || exact().diff_every(Duration::ZERO).start().is_ok());
}

/// Calls every method of the profiler and returns the report of `diff_now`.
fn call_everything(profiler: &Profiler, dump: &Path) -> LeakReport {
    let snapshot = profiler.snapshot();
    assert!(profiler.stats().samples_taken > 0);
    profiler.pause();
    assert!(!profiler.is_active());
    profiler.resume();
    profiler.set_sample_interval_bytes(2).unwrap();
    profiler.set_sample_interval_bytes(1).unwrap();
    profiler.dump(dump).unwrap();
    let report = profiler.diff_now();
    assert_eq!(
        snapshot.leaks.as_ref(),
        Some(&report),
        "the report is available before callbacks run"
    );
    report
}

#[inline(never)]
fn remember() -> Box<[u8; 160]> {
    black_box(Box::new([1; 160]))
}

/// Leaks and calls `diff_now` until `done`, at most 40 times. Returns the last tick.
fn leak_until(profiler: &Profiler, done: impl Fn() -> bool) -> u64 {
    let mut kept = Vec::with_capacity(1000);
    for tick in 1..=40 {
        (0..3).for_each(|_| kept.push(remember()));
        profiler.diff_now();
        if done() {
            return tick;
        }
    }
    panic!("expected an event within 40 ticks");
}

#[test]
fn a_logger_may_call_the_profiler_during_diff_now() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("diff_now");
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("from-logger.heap.json.gz");
    let (current, heard) = (Current::default(), Arc::new(Mutex::new(Vec::new())));
    let _listening = Listening::with({
        let (current, heard) = (current.clone(), Arc::clone(&heard));
        move || {
            let profiler = current.get().expect("a session");
            let report = call_everything(&profiler, &dump);
            heard.lock().unwrap().push(report.tick);
        }
    });
    let profiler = current.set(exact().diff_every(Duration::ZERO).start().unwrap());
    let tick = leak_until(&profiler, || !heard.lock().unwrap().is_empty());
    assert_eq!(heard.lock().unwrap()[0], tick, "the report of the tick that was logged");
    assert_eq!(profiler.diff_now().tick, tick + 1, "the logger's calls did not advance the tick");
}

#[test]
fn a_logger_may_call_the_profiler_on_the_reporting_thread() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("a tick of the reporting thread");
    let folder = tempfile::tempdir().unwrap();
    for dump_dir in [None, Some(folder.path().join("dumps"))] {
        let dump = folder.path().join("from-logger.heap.json.gz");
        let (current, heard) = (Current::default(), Arc::new(AtomicUsize::new(0)));
        let _listening = Listening::with({
            let (current, heard) = (current.clone(), Arc::clone(&heard));
            move || {
                let Some(profiler) = current.get() else { return };
                assert!(call_everything(&profiler, &dump).tick >= 20);
                heard.fetch_add(1, Ordering::SeqCst);
            }
        });
        let period = Duration::from_millis(10);
        let mut builder = exact().diff_every(period).dump_every(period);
        if let Some(folder) = dump_dir {
            builder = builder.dump_dir(folder);
        }
        let profiler = current.set(builder.start().unwrap());
        let mut kept = Vec::with_capacity(100_000);
        let begin = Instant::now();
        while heard.load(Ordering::SeqCst) == 0 {
            assert!(begin.elapsed() < TIME_LIMIT / 2, "timed out waiting for an event");
            kept.push(remember());
            thread::sleep(Duration::from_millis(1));
        }
        end(profiler);
    }
}

/// Starts a profiler whose `on_report` calls `react` with the profiler and the report.
fn start_with_on_report(
    period: Duration,
    react: impl Fn(&Arc<Profiler>, &LeakReport) + Send + Sync + 'static,
) -> Arc<Profiler> {
    let current = Current::default();
    let callback = current.clone();
    let builder = exact().diff_every(period).on_report(move |report| {
        if let Some(profiler) = callback.get() {
            react(&profiler, report);
        }
    });
    current.set(builder.start().unwrap())
}

#[test]
fn on_report_may_call_the_profiler_and_gets_its_own_report_from_diff_now() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("on_report");
    for period in [Duration::ZERO, Duration::from_millis(4)] {
        let folder = tempfile::tempdir().unwrap();
        let dump = folder.path().join("from-on-report.heap.json.gz");
        let heard = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&heard);
        let profiler = start_with_on_report(period, move |profiler, report| {
            assert_eq!(call_everything(profiler, &dump), *report);
            counted.fetch_add(1, Ordering::SeqCst);
        });
        if period.is_zero() {
            (1..=5).for_each(|tick| assert_eq!(profiler.diff_now().tick, tick));
        }
        wait_until("five reports", || heard.load(Ordering::SeqCst) >= 5);
        end(profiler);
    }
}

#[test]
fn on_report_may_wait_for_a_thread_that_ticks() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("a tick of another thread");
    let (nested, is_first) = (Arc::new(Mutex::new(0)), AtomicBool::new(true));
    let of_other = Arc::clone(&nested);
    let profiler = start_with_on_report(Duration::ZERO, move |profiler, _| {
        // The tick of the other thread is reported, too, so only the first report starts a thread.
        if is_first.swap(false, Ordering::SeqCst) {
            let tick = thread::scope(|s| s.spawn(|| profiler.diff_now().tick).join().unwrap());
            *of_other.lock().unwrap() = tick;
        }
    });
    assert_eq!(profiler.diff_now().tick, 1);
    assert_eq!(*nested.lock().unwrap(), 2);
}

#[test]
fn the_panic_hook_may_call_the_profiler_when_on_report_panics() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("the panic hook");
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("from-panic-hook.heap.json.gz");
    let (hooked, heard) = (Current::default(), Arc::new(AtomicUsize::new(0)));
    let profiler = exact()
        .diff_every(Duration::ZERO)
        .on_report(|_| panic!("a fault of the service"))
        .start()
        .unwrap();
    let profiler = hooked.set(profiler);
    let hook = panic::take_hook();
    panic::set_hook({
        let heard = Arc::clone(&heard);
        Box::new(move |_| {
            if let Some(profiler) = hooked.get() {
                call_everything(&profiler, &dump);
                heard.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let report = profiler.diff_now();
    panic::set_hook(hook);
    assert_eq!((report.tick, heard.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn on_report_may_drop_the_profiler() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("a drop in on_report");
    let folder = tempfile::tempdir().unwrap();
    let owner: Arc<Mutex<Option<Profiler>>> = Arc::default();
    let (taken, panicked) = (Arc::clone(&owner), Arc::new(AtomicBool::new(false)));
    let flag = Arc::clone(&panicked);
    let profiler = exact()
        .diff_every(Duration::from_millis(5))
        .dump_dir(folder.path())
        .on_report(move |_| {
            let profiler = taken.lock().unwrap().take();
            let dropped = panic::catch_unwind(panic::AssertUnwindSafe(|| drop(profiler)));
            flag.fetch_or(dropped.is_err(), Ordering::SeqCst);
        })
        .start()
        .unwrap();
    *owner.lock().unwrap() = Some(profiler);
    // The thread that drops the profiler ends the session after its call has returned.
    wait_until("the end of the session", || exact().start().is_ok());
    assert!(!panicked.load(Ordering::SeqCst), "dropping it panicked");
    let dumps = std::fs::read_dir(folder.path()).unwrap();
    let reasons: Vec<_> = dumps
        .map(|dump| heapdrift::dump::read(&dump.unwrap().path()).unwrap().taken.reason)
        .collect();
    assert!(reasons.iter().any(|reason| reason == "end"), "{reasons:?}");
}

/// Starts a session when it is dropped, and stores the result.
struct StartsWhenDropped(Arc<Mutex<Option<Result<Profiler, StartError>>>>);

impl Drop for StartsWhenDropped {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = Some(exact().diff_every(Duration::ZERO).start());
    }
}

#[test]
fn values_captured_by_on_report_are_dropped_after_the_session_has_ended() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("a destructor");
    let next = Arc::default();
    let captured = StartsWhenDropped(Arc::clone(&next));
    let profiler = exact()
        .diff_every(Duration::ZERO)
        .on_report(move |_| {
            black_box(&captured);
        })
        .start()
        .unwrap();
    profiler.diff_now();
    drop(profiler);
    let next = next.lock().unwrap().take().expect("it was dropped").expect("a session");
    assert_eq!(next.diff_now().tick, 1);
}

/// Forks and takes a snapshot in the child. Returns whether the child succeeded.
fn snapshot_in_child(profiler: &Profiler) -> bool {
    // SAFETY: the child is single-threaded, and calls only the function under test and `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let live = profiler.snapshot().live.len();
        // SAFETY: ends the child without running the test harness's exit handlers.
        unsafe { libc::_exit(i32::from(live == 0)) };
    }
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    let begin = Instant::now();
    let mut status = 0;
    // SAFETY: `pid` is a child of this process, and `status` may be written.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } == 0 {
        if begin.elapsed() > Duration::from_secs(10) {
            // SAFETY: `pid` is the child, which has not been reaped, so the number has not been
            // reused.
            let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(1));
    }
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn a_child_forked_while_a_logger_runs_may_take_a_snapshot() {
    let _one = one_at_a_time();
    let _watchdog = Watchdog::start("a snapshot after fork");
    let (inside, may_continue) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let _listening = Listening::with({
        let (inside, may_continue) = (Arc::clone(&inside), Arc::clone(&may_continue));
        move || {
            inside.store(true, Ordering::SeqCst);
            wait_until("the fork", || may_continue.load(Ordering::SeqCst));
        }
    });
    let profiler = exact().diff_every(Duration::ZERO).start().unwrap();
    thread::scope(|scope| {
        let ticking = scope.spawn(|| leak_until(&profiler, || inside.load(Ordering::SeqCst)));
        wait_until("an event", || inside.load(Ordering::SeqCst));
        let child_succeeded = snapshot_in_child(&profiler);
        may_continue.store(true, Ordering::SeqCst);
        ticking.join().unwrap();
        assert!(child_succeeded, "the child hung or saw nothing");
    });
}
