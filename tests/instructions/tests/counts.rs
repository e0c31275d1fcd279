//! The number of instructions of the hook, compared with the numbers that are written here.
//!
//! callgrind counts two runs of each program, one twice as long as the other, so that the
//! difference is the operations alone. The instructions of the bare allocator are subtracted, which
//! leaves those of the hook, on any machine. They are not whole numbers: a thread checks every 64
//! KiB of allocations whether a session is running, and takes a sample every 512 KiB on average.
//!
//! If this machine cannot run the programs directly, `HEAPDRIFT_TEST_RUNNER` names qemu-user and
//! its arguments. In this case qemu counts: it translates one instruction at a time and logs each
//! one that runs.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Fewer under qemu, which logs every instruction.
const OPERATIONS: usize = if cfg!(target_arch = "aarch64") { 10_000 } else { 100_000 };

/// A change of the hook adds or removes whole instructions, so half of one tells it from noise.
const TOLERANCE: f64 = 0.5;

/// Instructions that the hook adds to an operation: the recording, the operation, the count over
/// the system allocator, and the count over mimalloc.
///
/// A lower count is an improvement, and is to be written here; a higher one needs a reason. Over
/// glibc only pairs are compared. What glibc needs for other operations depends on the neighbours
/// of a block, which a session changes: the same hook counted −167 to +10 for zeroed blocks. Over
/// mimalloc, what a session allocates at its start moves `grown` by some four instructions of
/// mimalloc's own functions.
#[cfg(not(target_arch = "aarch64"))]
const EXPECTED: [(&str, &str, Option<f64>, f64); 7] = [
    ("stopped", "pair", Some(6.1), 8.1),
    ("stopped", "zeroed", None, 8.1),
    ("stopped", "grown", None, 19.8),
    ("512KiB", "pair", Some(6.3), 8.6),
    ("512KiB", "zeroed", None, 8.6),
    ("512KiB", "grown", None, 17.9),
    ("512KiB+live", "pair", Some(6.3), 8.6),
];

/// Without a session: starting one takes a hundred million instructions, which are minutes of
/// qemu's log.
#[cfg(target_arch = "aarch64")]
const EXPECTED: [(&str, &str, Option<f64>, f64); 3] = [
    ("stopped", "pair", Some(9.1), 11.1),
    ("stopped", "zeroed", None, 11.1),
    ("stopped", "grown", None, 22.9),
];

const INNER: [(&str, &str, &str); 2] = [
    ("System", env!("CARGO_BIN_EXE_bare_system"), env!("CARGO_BIN_EXE_heapdrift_system")),
    ("mimalloc", env!("CARGO_BIN_EXE_bare_mimalloc"), env!("CARGO_BIN_EXE_heapdrift_mimalloc")),
];

#[test]
fn the_hook_costs_the_expected_number_of_instructions() {
    if cfg!(debug_assertions) {
        panic!("expected an optimised build: cargo test --release");
    }
    let bare: Vec<_> = INNER
        .iter()
        .flat_map(|(_, bare, _)| ["pair", "zeroed", "grown"].map(|what| (*bare, "bare", what)))
        .collect();
    let hooked = EXPECTED.iter().flat_map(|(recording, what, ..)| {
        INNER.iter().map(move |(_, _, hooked)| (*hooked, *recording, *what))
    });
    let jobs: Vec<_> = bare.into_iter().chain(hooked).collect();
    let counts = count_all(&jobs);
    let count = |program: &str, recording: &str, what: &str| {
        let job = jobs.iter().position(|job| *job == (program, recording, what));
        counts[job.expect("all were counted")]
    };

    let mut changed = Vec::new();
    println!("{:12} {:7} {:9} {:>8} {:>8}", "recording", "", "over", "expected", "found");
    for (recording, what, over_system, over_mimalloc) in EXPECTED {
        for ((inner, bare, hooked), expected) in
            INNER.iter().zip([over_system, Some(over_mimalloc)])
        {
            let Some(expected) = expected else { continue };
            let found = count(hooked, recording, what) - count(bare, "bare", what);
            println!("{recording:12} {what:7} {inner:9} {expected:8.1} {found:8.2}");
            if (found - expected).abs() > TOLERANCE {
                let kind =
                    if found > expected { "a regression" } else { "an improvement: lower it" };
                changed.push(format!(
                    "{recording}, {what}, over {inner}: expected {expected:.1} instructions, found {found:.2}, {kind}"
                ));
            }
        }
    }
    assert!(changed.is_empty(), "\n{}", changed.join("\n"));
}

/// Counts the instructions of one operation of each job, on all processors.
fn count_all(jobs: &[(&str, &str, &str)]) -> Vec<f64> {
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(vec![0.0; jobs.len()]));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Relaxed: each index is handed out once, and no other data depends on it.
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let index =
                        jobs.iter().position(|other| other == job).expect("the job is in the list");
                    let per_operation = count(*job);
                    counts.lock().expect("no thread panics")[index] = per_operation;
                }
            });
        }
    });
    counts.into_inner().expect("no thread panics")
}

/// Of a run of twice as many operations less a run of as many, so without start and end.
fn count((program, recording, what): (&str, &str, &str)) -> f64 {
    let run = |operations: usize| {
        let operations = operations.to_string();
        let arguments = [program, recording, what, &operations];
        match std::env::var("HEAPDRIFT_TEST_RUNNER") {
            Ok(emulator) => by_qemu(&emulator, arguments),
            Err(_) => by_callgrind(arguments),
        }
    };
    (run(2 * OPERATIONS) - run(OPERATIONS)) / OPERATIONS as f64
}

/// Otherwise glibc returns the top of its heap to the system, or not, by chance.
const NO_TRIMMING: (&str, &str) = ("MALLOC_TRIM_THRESHOLD_", "4294967296");

fn by_callgrind(arguments: [&str; 4]) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(arguments)
        .env(NO_TRIMMING.0, NO_TRIMMING.1)
        .output()
        .unwrap_or_else(|error| panic!("valgrind cannot be run ({error}): install it"));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {words}");
    let count = words.lines().find_map(|line| Some(line.split_once("Collected : ")?.1.trim()));
    let count = count.unwrap_or_else(|| panic!("callgrind has not counted: {words}"));
    count.parse::<u64>().expect("a count is a number") as f64
}

/// Counts the lines of qemu's log, each of which is an instruction.
fn by_qemu(emulator: &str, arguments: [&str; 4]) -> f64 {
    let mut words = emulator.split_whitespace();
    let mut qemu = Command::new(words.next().expect("an emulator"))
        .args(words)
        // Without `nochain`, blocks that jump to the next one directly are not logged.
        .args(["-singlestep", "-d", "exec,nochain"])
        .args(arguments)
        .env(NO_TRIMMING.0, NO_TRIMMING.1)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{emulator} cannot be run: {error}"));
    let mut log = BufReader::with_capacity(1 << 20, qemu.stderr.take().expect("it is piped"));
    let (mut count, mut line) = (0_u64, Vec::new());
    while log.read_until(b'\n', &mut line).expect("a log") > 0 {
        if line.starts_with(b"Trace ") {
            count += 1;
        } else if line.starts_with(b"Stopped execution of TB chain ") {
            // The instruction was interrupted after it was logged; it is logged again when it runs.
            count -= 1;
        } else {
            // The program's own output.
            eprint!("{}", String::from_utf8_lossy(&line));
        }
        line.clear();
    }
    let status = qemu.wait().expect("it has been started");
    assert!(status.success(), "{arguments:?}: {status}");
    count as f64
}
