//! Helpers shared by the test programs. Each program includes this file and uses some of them.
#![allow(dead_code, unreachable_pub)]

use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use heapdrift::snapshot::{LiveSample, Metrics};
use heapdrift::{Builder, Estimate, Profiler, Snapshot, with_labels};

/// A process can have one session, so the tests of one program run one at a time.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sums over all stacks labelled `key=value`.
pub fn labelled(snapshot: &Snapshot, key: &str, value: &str) -> Metrics {
    let sum = |of: fn(&Metrics) -> Estimate| {
        let stacks = snapshot.stacks.iter().filter(|stack| {
            snapshot.label_sets[stack.labels as usize].get(key).is_some_and(|v| v == value)
        });
        stacks.map(|stack| of(&stack.metrics)).sum()
    };
    let mut sums = Metrics::default();
    sums.live_bytes = sum(|m| m.live_bytes);
    sums.live_count = sum(|m| m.live_count);
    sums.alloc_bytes = sum(|m| m.alloc_bytes);
    sums.alloc_count = sum(|m| m.alloc_count);
    sums.peak_bytes = sum(|m| m.peak_bytes);
    sums.peak_count = sum(|m| m.peak_count);
    sums
}

/// The live samples whose stack is labelled `key=value`.
pub fn live_labelled(snapshot: &Snapshot, key: &str, value: &str) -> Vec<LiveSample> {
    let of_site = |sample: &LiveSample| {
        let labels = snapshot.stacks[sample.stack as usize].labels;
        snapshot.label_sets[labels as usize].get(key).is_some_and(|v| v == value)
    };
    snapshot.live.iter().filter(of_site).collect()
}

/// Asserts that an estimate is within `sigmas` of its standard errors of the truth.
#[track_caller]
pub fn assert_within(what: &str, estimate: Estimate, truth: f64, sigmas: f64) {
    assert!(
        (estimate.value - truth).abs() <= sigmas * estimate.std_error,
        "{what}: {} ± {} is more than {sigmas} standard errors from {truth}",
        estimate.value,
        estimate.std_error
    );
}

/// A builder of sessions that record every allocation.
pub fn exact() -> Builder {
    Profiler::builder().sample_interval_bytes(1)
}

/// Allocates a few blocks of different sizes, with and without labels.
pub fn blocks() -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = (1..30).map(|i| Vec::with_capacity(i * 100)).collect();
    with_labels(&[("route", "/api/\"quoted\"")], || blocks.push(vec![0; 70_000]));
    blocks
}

/// A command that runs this program again. `HEAPDRIFT_TEST_RUNNER` names an emulator and its
/// arguments, for programs that this machine cannot run directly.
pub fn this_program() -> Command {
    let program = std::env::current_exe().unwrap();
    let runner = std::env::var("HEAPDRIFT_TEST_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    match words.next() {
        None => Command::new(program),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.args(words).arg(program);
            command
        }
    }
}

/// Runs the test `name` of this program in a child process, in which [`is_child`] is true.
pub fn in_child(name: &str, environment: &[(&str, &str)]) -> Output {
    let output = this_program()
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env_remove("HEAPDRIFT")
        .env("HEAPDRIFT_TEST_CHILD", name)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

pub fn is_child() -> bool {
    std::env::var_os("HEAPDRIFT_TEST_CHILD").is_some()
}
