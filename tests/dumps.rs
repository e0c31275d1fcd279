//! Dumps: when they are written, that a reader never sees half of one, and what happens when
//! writing fails.
#![cfg(all(feature = "profiling", unix))]
#![allow(unsafe_code)]

mod common;
#[path = "common/encoded.rs"]
mod encoded;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{blocks, exact, in_child, is_child, live_labelled, one_at_a_time};
use encoded::bytes;
use heapdrift::dump::{self, ReadError};
use heapdrift::{Alloc, Profiler, Snapshot, StartError, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// The files of a folder, sorted by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn reasons(folder: &Path) -> Vec<String> {
    files(folder).iter().map(|file| dump::read(file).unwrap().taken.reason).collect()
}

/// Waits until another thread has done something.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(10), "timed out waiting for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_dump_reads_back_as_the_snapshot_that_was_written() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.heap.json.gz");
    for interval in [1, 512] {
        let profiler = Profiler::builder().sample_interval_bytes(interval).start().unwrap();
        let _blocks = blocks();
        let snapshot = profiler.snapshot();
        assert!(snapshot.live.len() > 10);
        dump::write(&snapshot, &path).unwrap();
        let read = dump::read(&path).unwrap();
        if interval == 1 {
            assert_eq!(read, snapshot);
        }
        // Estimates are rounded to a thousandth when written; writing them again changes nothing.
        assert_eq!(bytes(&read), bytes(&snapshot));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_dump_names_its_host_and_where_the_code_of_each_module_is_mapped() {
    let _one = one_at_a_time();
    let profiler = exact().start().unwrap();
    let blocks = blocks();
    let snapshot = profiler.snapshot();
    drop(blocks);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(snapshot.process.host, host.trim_end());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let page = |address: u64| address / 4096 * 4096;
    let files = snapshot.modules.iter().filter(|module| module.path.starts_with('/'));
    for module in files {
        let code = module.code.clone().expect("it has code");
        // The kernel's line for the mapping that starts there: `start-end perms offset …`.
        let start = page(module.load_bias + code.start);
        let mapping = maps.lines().find(|line| number(line.split('-').next().unwrap()) == start);
        let facts: Vec<&str> = mapping.expect(&module.path).split_whitespace().collect();
        assert_eq!((facts[1], number(facts[2])), ("r-xp", page(module.file_offset)));
        let end = number(facts[0].split('-').nth(1).unwrap());
        assert_eq!(end, (module.load_bias + code.end).next_multiple_of(4096));
    }
    assert!(snapshot.modules.iter().any(|module| module.path == snapshot.process.executable));
}

#[test]
fn a_dump_on_request_is_private_and_replaces_an_existing_file() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("now.heap.json.gz");
    fs::write(&path, "something else").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let profiler = exact().start().unwrap();
    let _kept = with_labels(&[("site", "kept")], || Vec::<u8>::with_capacity(77));
    // SAFETY: the mask is restored below, and no other test runs meanwhile.
    let mask = unsafe { libc::umask(0) };
    profiler.dump(&path).unwrap();
    // SAFETY: as above.
    unsafe { libc::umask(mask) };
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = dump::read(&path).unwrap();
    assert_eq!(live_labelled(&read, "site", "kept").len(), 1);
    assert_eq!((read.taken.reason.as_str(), read.process.id), ("call", std::process::id()));
    assert_eq!(files(folder.path()), [path]);
    for bad in [folder.path().join("missing/x.heap.json.gz"), folder.path().to_owned()] {
        let error = profiler.dump(&bad).unwrap_err();
        assert!(error.to_string().contains(&bad.display().to_string()), "{error}");
    }
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn dropping_the_profiler_writes_a_dump() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("made/if/needed");
    let profiler = exact().dump_dir(&inner).start().unwrap();
    assert_eq!(files(&inner).len(), 0);
    drop(profiler);
    assert_eq!(reasons(&inner), ["end"]);
    let mode = fs::metadata(&files(&inner)[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn periodic_dumps_are_written_and_only_the_newest_are_kept() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine.txt"), "").unwrap();
    fs::write(folder.path().join("baseline.heap.json.gz"), "").unwrap();
    let profiler = exact()
        .dump_dir(folder.path())
        .dump_keep(3)
        .dump_every(Duration::from_millis(50))
        .start()
        .unwrap();
    let begin = Instant::now();
    let dumps = || -> Vec<PathBuf> {
        let own = |file: &PathBuf| {
            let name = file.file_name().unwrap().to_string_lossy();
            name.starts_with("dumps-") && name.ends_with(dump::EXTENSION)
        };
        files(folder.path()).into_iter().filter(own).collect()
    };
    let sequence = |file: &PathBuf| dump::read(file).unwrap().taken.sequence;
    wait_until("the seventh dump", || {
        let dumps = dumps();
        // A new dump is there for a moment before the oldest is removed.
        assert!(dumps.len() <= 4, "{dumps:?}");
        dumps.last().is_some_and(|file| file.to_string_lossy().contains("-000007."))
    });
    assert!(begin.elapsed() >= Duration::from_millis(7 * 50));
    drop(profiler);
    let sequences: Vec<u64> = dumps().iter().map(sequence).collect();
    assert_eq!(sequences.len(), 3);
    assert!(sequences[2] >= 8 && sequences.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    let reasons: Vec<_> = dumps().iter().map(|f| dump::read(f).unwrap().taken.reason).collect();
    assert_eq!(reasons, ["periodic", "periodic", "end"]);
    assert_eq!(files(folder.path()).len(), 5, "other files stay");
}

/// The dumps of a folder by the order in which they were taken.
fn dumps(folder: &Path) -> Vec<Snapshot> {
    let mut dumps: Vec<_> = files(folder).iter().map(|file| dump::read(file).unwrap()).collect();
    dumps.sort_by_key(|dump| dump.taken.sequence);
    dumps
}

/// How many dumps of a folder are complete.
fn complete(folder: &Path) -> usize {
    let is_complete = |file: &&PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.ends_with(dump::EXTENSION) && !name.starts_with('.')
    };
    files(folder).iter().filter(is_complete).count()
}

#[test]
fn dumps_that_are_rarer_than_ticks_hold_the_report_of_the_last_tick() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler = exact()
        .dump_dir(folder.path())
        .diff_every(Duration::from_millis(10))
        .dump_every(Duration::from_millis(200))
        .start()
        .unwrap();
    wait_until("three dumps", || complete(folder.path()) >= 3);
    drop(profiler);
    let dumps = dumps(folder.path());
    for dump in &dumps {
        let report = dump.leaks.as_ref().expect("there were ticks");
        assert_eq!(report.tick, u64::from(dump.taken.tick));
    }
    let ticks: Vec<u32> = dumps.iter().map(|dump| dump.taken.tick).collect();
    // Twenty by the clock; on a busy machine some are skipped.
    assert!(ticks[..3].windows(2).all(|pair| pair[1] - pair[0] >= 3), "{ticks:?}");
    assert_eq!(dumps[0].taken.reason, "periodic");
}

#[test]
fn a_period_of_zero_ends_either_ticks_or_dumps_and_leaves_the_other() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler = exact()
        .dump_dir(folder.path())
        .diff_every(Duration::ZERO)
        .dump_every(Duration::from_millis(10))
        .start()
        .unwrap();
    wait_until("three dumps", || complete(folder.path()) >= 3);
    drop(profiler);
    let no_tick = |dump: &Snapshot| dump.taken.tick == 0 && dump.leaks.is_none();
    assert!(dumps(folder.path()).iter().all(no_tick));

    let folder = tempfile::tempdir().unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ticks);
    let profiler = exact()
        .dump_dir(folder.path())
        .diff_every(Duration::from_millis(5))
        .dump_every(Duration::ZERO)
        .on_report(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .start()
        .unwrap();
    wait_until("five ticks", || ticks.load(Ordering::SeqCst) >= 5);
    drop(profiler);
    let dumps = dumps(folder.path());
    assert_eq!(dumps.len(), 1, "only that of the end");
    assert_eq!(dumps[0].taken.reason, "end");
    assert!(dumps[0].leaks.as_ref().expect("the last report").tick >= 5);
}

#[test]
fn dumps_that_take_longer_than_their_period_are_skipped_and_counted() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler = exact()
        .dump_dir(folder.path())
        .diff_every(Duration::ZERO)
        .dump_every(Duration::from_nanos(1))
        .start()
        .unwrap();
    wait_until("three dumps", || complete(folder.path()) >= 3);
    let stats = profiler.stats();
    // A dump takes longer than a microsecond, in which a thousand periods go by.
    assert!(stats.skipped_dumps > 3_000, "{stats:?}");
    assert_eq!(stats.skipped_ticks, 0);
    assert!(profiler.snapshot().stats.skipped_dumps >= stats.skipped_dumps);
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn previous_handler(_signal: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_signal_writes_a_dump_and_the_previous_handler_still_runs() {
    let _one = one_at_a_time();
    let handler = previous_handler as extern "C" fn(libc::c_int);
    // SAFETY: the handler only adds to an atomic.
    unsafe { libc::signal(libc::SIGUSR2, handler as libc::sighandler_t) };
    let raise = || {
        // SAFETY: the signal has a handler.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
    };
    for session in 0..2 {
        let before = HANDLED.load(Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let profiler = exact()
            .dump_dir(folder.path())
            .dump_every(Duration::ZERO)
            .dump_on_signal(libc::SIGUSR2)
            .start()
            .unwrap();
        for dumps in 1..=3 {
            raise();
            wait_until("a dump", || complete(folder.path()) == dumps);
        }
        assert_eq!(HANDLED.load(Ordering::Relaxed), before + 3, "session {session}");
        assert_eq!(reasons(folder.path()), ["signal"; 3]);
        drop(profiler);
        raise();
        assert_eq!(HANDLED.load(Ordering::Relaxed), before + 4);
        assert_eq!(files(folder.path()).len(), 4, "three by signal, and the one at the end");
    }
}

#[test]
fn a_reader_never_sees_half_a_dump() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler = exact()
        .dump_dir(folder.path())
        .dump_keep(2)
        .dump_every(Duration::from_millis(1))
        .start()
        .unwrap();
    let _blocks = blocks();
    let one = folder.path().join("same-name.heap.json.gz");
    profiler.dump(&one).unwrap();
    let end = AtomicBool::new(false);
    let (mut read, mut gone) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                profiler.dump(&one).unwrap();
            }
        });
        let begin = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while read < 40 && begin.elapsed() < Duration::from_secs(4) {
                let dumps = files(folder.path());
                for file in dumps.iter().filter(|file| {
                    file.file_name().unwrap().to_string_lossy().ends_with(dump::EXTENSION)
                }) {
                    match dump::read(file) {
                        Ok(snapshot) => {
                            snapshot.validate().unwrap();
                            read += 1;
                        }
                        // Removed after it was listed, because of `dump_keep`.
                        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                            assert_ne!(*file, one);
                            gone += 1;
                        }
                        Err(error) => panic!("{}: {error}", file.display()),
                    }
                }
            }
        }));
        end.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    println!("read {read} dumps, {gone} were gone");
    assert!(read >= 10, "{read}");
}

#[test]
fn an_unwritable_dump_dir_is_an_error_that_names_it() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    for bad in [file.join("below"), file, PathBuf::from("/proc/heapdrift/dumps")] {
        let error = exact().dump_dir(&bad).start().unwrap_err();
        assert!(matches!(&error, StartError::DumpDir { path, .. } if *path == bad), "{error}");
        assert!(error.to_string().contains(&bad.display().to_string()), "{error}");
    }
    assert_eq!(files(folder.path()).len(), 1, "nothing is left behind");
    // No session is left behind either.
    assert!(exact().start().is_ok());
}

#[test]
fn invalid_settings_are_errors_that_name_them() {
    let _one = one_at_a_time();
    let builder = Profiler::builder;
    for (builder, name, value) in [
        (builder().sample_interval_bytes(0), "sample_interval_bytes", "0"),
        (
            builder().sample_interval_bytes(u64::MAX),
            "sample_interval_bytes",
            "18446744073709551615",
        ),
        (builder().max_profiler_bytes(0), "max_profiler_bytes", "0"),
        (builder().max_profiler_bytes(65_536), "max_profiler_bytes", "65536"),
        (builder().max_stack_depth(0), "max_stack_depth", "0"),
        (builder().max_stack_depth(100_000), "max_stack_depth", "100000"),
        (builder().dump_keep(0), "dump_keep", "0"),
        (builder().dump_on_signal(libc::SIGUSR2), "dump_on_signal", &libc::SIGUSR2.to_string()),
        (builder().dump_on_signal(libc::SIGKILL).dump_dir("/tmp"), "dump_on_signal", "9"),
        (builder().dump_on_signal(-1).dump_dir("/tmp"), "dump_on_signal", "-1"),
        (builder().dump_on_signal(1000).dump_dir("/tmp"), "dump_on_signal", "1000"),
    ] {
        let message = match builder.start().unwrap_err() {
            StartError::BadValue(error) => {
                assert_eq!((error.name(), error.found()), (name, value));
                error.to_string()
            }
            error => panic!("{error:?}"),
        };
        assert!(message.contains(name) && message.contains(&format!("{value:?}")), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    // The bounds themselves are valid.
    drop(builder().max_profiler_bytes(1 << 20).max_stack_depth(1).start().unwrap());
    drop(builder().sample_interval_bytes(1 << 40).max_stack_depth(512).start().unwrap());
}

#[test]
fn the_environment_starts_a_session_or_says_what_is_wrong() {
    const NAME: &str = "the_environment_starts_a_session_or_says_what_is_wrong";
    if is_child() {
        match Profiler::from_env() {
            Ok(None) => println!("<none>"),
            Ok(Some(profiler)) => {
                let sampling = profiler.snapshot().sampling;
                let cap = profiler.stats().max_profiler_bytes;
                println!("<{} {:?} {cap}>", sampling.interval_bytes, sampling.seed);
            }
            Err(error) => println!("<error: {error}>"),
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dumps = folder.path().display();
    let said = |value: Option<&str>| {
        let environment: Vec<_> = value.map(|value| ("HEAPDRIFT", value)).into_iter().collect();
        let output = String::from_utf8(in_child(NAME, &environment).stdout).unwrap();
        let begin = output.find('<').expect("an answer");
        output[begin + 1..output.rfind('>').unwrap()].to_owned()
    };
    assert_eq!(said(None), "none");
    assert_eq!(said(Some("")), "524288 None 67108864");
    let full = format!(
        "interval=64KiB, seed=9,diff=30s,dump_dir={dumps},keep=20,signal=SIGUSR2,max_profiler_bytes=2MiB"
    );
    assert_eq!(said(Some(&full)), "65536 Some(9) 2097152");
    assert_eq!(reasons(folder.path()), ["end"]);
    for (value, expected) in [
        ("intervall=1", r#"unknown key "intervall""#),
        ("interval=12XB", r#"for interval, found "12XB""#),
        ("interval=0", r#"for sample_interval_bytes, found "0""#),
        ("keep=0", r#"for dump_keep, found "0""#),
        ("signal=SIGUSR2", "a dump_dir along with it for dump_on_signal"),
        ("max_profiler_bytes=1", r#"for max_profiler_bytes, found "1""#),
        ("keep=1,dump_keep=2", r#"found "keep" and "dump_keep", which are the same setting"#),
        ("dump_dir=/proc/heapdrift", "cannot write to dump_dir /proc/heapdrift"),
    ] {
        let said = said(Some(value));
        assert!(said.starts_with("error: ") && said.contains(expected), "{value}: {said}");
    }
}

/// A limit on the size of files stands for a full disk: no file can grow beyond 4096 bytes.
#[test]
fn a_full_disk_fails_the_dump_and_nothing_else() {
    const NAME: &str = "a_full_disk_fails_the_dump_and_nothing_else";
    let limit_files_to = |bytes: libc::rlim_t| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: sets a limit of this process, which is the child.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
    };
    if !is_child() {
        let output = in_child(NAME, &[]);
        let errors = String::from_utf8(output.stderr).unwrap();
        let said = errors.matches("cannot write dump").count();
        assert_eq!(said, 1, "logged once, not for each dump: {errors}");
        return;
    }
    // SAFETY: ignores a signal, so that a write beyond the limit returns an error.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let folder = tempfile::tempdir().unwrap();
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("now.heap.json.gz");
    let profiler =
        exact().dump_dir(folder.path()).dump_every(Duration::from_millis(20)).start().unwrap();
    profiler.dump(&path).unwrap();
    let old = fs::read(&path).unwrap();
    let kept: Vec<Vec<u8>> = (0..4000).map(|i| vec![1; 1 + i * 7919 % 1000]).collect();

    limit_files_to(4096);
    let dumps_before = files(folder.path());
    let failed_before = profiler.stats().dropped_dumps;
    let error = profiler.dump(&path).unwrap_err();
    assert_eq!(error.path(), path);
    assert!(error.to_string().contains("now.heap.json.gz"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), old, "the old dump is intact");
    assert_eq!(files(own.path()), std::slice::from_ref(&path), "no temporary file is left");
    wait_until("failures", || profiler.stats().dropped_dumps >= failed_before + 3);
    // The service continues, and so does recording.
    let taken = profiler.stats().samples_taken;
    drop(kept);
    drop(blocks());
    assert!(profiler.stats().samples_taken >= taken + 30);

    limit_files_to(libc::RLIM_INFINITY);
    profiler.dump(&path).unwrap();
    assert_ne!(fs::read(&path).unwrap(), old);
    dump::read(&path).unwrap();
    let complete =
        |file: &&PathBuf| dump::read(file).is_ok_and(|snapshot| snapshot.validate().is_ok());
    drop(profiler);
    let dumps = files(folder.path());
    assert_eq!(dumps.iter().filter(complete).count(), dumps.len(), "{dumps:?}");
    assert!(dumps_before.iter().filter(|file| file.exists()).all(|file| dumps.contains(file)));
}
