//! A series of dumps, one per tick: replaying them offline gives the verdicts of the service.
#![cfg(target_os = "linux")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heapdrift::leak::{LeakCandidate, LeakReport, Replay, Verdict};
use heapdrift::{Alloc, Profiler, Snapshot, dump, with_labels};
use heapdrift_tools::leaks::{DumpNames, embedded};
use heapdrift_tools::{Symbolizer, symbolizer};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

const TICKS: u64 = 48;

#[inline(never)]
fn kept(kept: &mut Vec<Vec<u8>>) {
    kept.push(black_box(Vec::with_capacity(3000)));
}

#[inline(never)]
fn short_lived(window: &mut [Vec<u8>], at: usize) {
    let at = at % window.len();
    window[at] = black_box(Vec::with_capacity(2000));
}

/// Runs a service with a leak until [`TICKS`] ticks are over.
fn work(ticks: &AtomicU64) {
    let begin = Instant::now();
    let (mut leaked, mut window) = (Vec::with_capacity(1 << 16), vec![Vec::new(); 64]);
    let mut at = 0;
    while ticks.load(Ordering::SeqCst) < TICKS {
        assert!(begin.elapsed() < Duration::from_secs(60), "timed out waiting for {TICKS} ticks");
        with_labels(&[("route", "/leaky")], || kept(&mut leaked));
        (0..8).for_each(|i| short_lived(&mut window, at + i));
        at += 8;
        thread::sleep(Duration::from_millis(2));
    }
}

/// The periodic dumps, in the order of their ticks.
fn dumps(folder: &Path) -> Vec<Snapshot> {
    let read = |entry: std::io::Result<fs::DirEntry>| dump::read(&entry.unwrap().path()).unwrap();
    let mut dumps: Vec<Snapshot> = fs::read_dir(folder).unwrap().map(read).collect();
    dumps.retain(|dump| dump.taken.reason == "periodic");
    dumps.sort_by_key(|dump| dump.taken.tick);
    dumps
}

fn replayed(symbolizer: &mut Symbolizer, dumps: &[Snapshot]) -> LeakReport {
    let mut names = DumpNames::new(symbolizer, dumps.last().unwrap(), &[]);
    let mut replay = Replay::new();
    dumps.iter().map(|dump| replay.tick(dump, &mut names)).last().unwrap()
}

#[test]
fn replaying_the_dumps_of_all_ticks_gives_the_verdicts_of_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let ticks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&ticks);
    let profiler = Profiler::builder()
        .sample_interval_bytes(1)
        .diff_every(Duration::from_millis(20))
        .dump_every(Duration::from_millis(20))
        .dump_dir(folder.path())
        .dump_keep(1_000_000)
        .on_report(move |report| counted.store(report.tick, Ordering::SeqCst))
        .start()
        .unwrap();
    work(&ticks);
    drop(profiler);
    let dumps = dumps(folder.path());
    let ticks: Vec<u32> = dumps.iter().map(|dump| dump.taken.tick).collect();
    let all: Vec<u32> = (1..=dumps.len() as u32).collect();
    assert_eq!(ticks, all, "each tick has a dump");
    let last = dumps.last().unwrap();
    let own = last.leaks.as_ref().unwrap();
    let mut symbolizer = Symbolizer::new(symbolizer::Options::default());
    let offline = replayed(&mut symbolizer, &dumps);
    println!("{own}\n{offline}");
    let confirmed = &own.with_verdict(Verdict::Confirmed).next().expect("the leak was found");
    assert_eq!(confirmed.function, "series::kept");
    assert_eq!(confirmed.labels["route"], "/leaky");
    assert_eq!((offline.tick, offline.tested_sites), (own.tick, own.tested_sites));
    assert_eq!(offline.candidates.len(), own.candidates.len());
    for (offline, own) in offline.candidates.iter().zip(&own.candidates) {
        assert_eq!(offline.verdict, own.verdict);
        assert_eq!(offline.function, own.function);
        assert_eq!(offline.first_seen_tick, own.first_seen_tick);
        assert_eq!(offline.evidence, own.evidence);
        assert_eq!(offline.labels, own.labels);
        assert_eq!(offline.blame.crate_name, own.blame.crate_name);
        assert_eq!((offline.blame.kind, offline.own), (own.blame.kind, own.own));
        // The tools may know more about system libraries, because they look for debug files.
        let own_frames = |of: &LeakCandidate| {
            of.stack.iter().filter(|frame| frame.own).cloned().collect::<Vec<_>>()
        };
        assert_eq!(own_frames(offline), own_frames(own));
    }
    // The report in the dump is symbolized already.
    assert_eq!(embedded(&mut symbolizer, last, &[]).as_ref(), Some(own));
    // The first part of the series gives the verdicts of that time.
    let half = &dumps[..dumps.len() * 3 / 4];
    let then = half.last().unwrap().leaks.as_ref().unwrap();
    let offline = replayed(&mut symbolizer, half);
    let verdicts = |report: &LeakReport| -> Vec<_> {
        report
            .candidates
            .iter()
            .map(|c| (c.verdict, c.function.clone(), c.first_seen_tick))
            .collect()
    };
    assert_eq!(verdicts(&offline), verdicts(then));
}
