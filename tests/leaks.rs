//! The leak detector through its public API: verdicts at ticks taken by hand, the reporting thread,
//! baselines, callbacks and log messages.

mod common;

use heapdrift::Alloc;

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

#[cfg(all(feature = "profiling", feature = "read", target_os = "linux"))]
mod verdicts {
    use std::collections::HashMap;
    use std::fs;
    use std::hint::black_box;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
    use std::thread;
    use std::time::{Duration, Instant};

    use heapdrift::dump;
    use heapdrift::leak::Kind;
    use heapdrift::leak::{BaselineStatus, EvidenceKind};
    use heapdrift::{
        Builder, Estimate, LeakCandidate, LeakReport, Profiler, StartError, Verdict, with_labels,
    };
    use serde_json::Value;

    use crate::common::{one_at_a_time, this_program};

    type Block = Box<[u8; 160]>;

    /// One of many healthy call sites.
    #[inline(never)]
    fn healthy<const SITE: usize>() -> Block {
        black_box(Box::new([SITE as u8; 160]))
    }

    const HEALTHY: [fn() -> Block; 12] = [
        healthy::<0>,
        healthy::<1>,
        healthy::<2>,
        healthy::<3>,
        healthy::<4>,
        healthy::<5>,
        healthy::<6>,
        healthy::<7>,
        healthy::<8>,
        healthy::<9>,
        healthy::<10>,
        healthy::<11>,
    ];

    /// The line of the allocation in [`remember`].
    const REMEMBERED_AT: u32 = line!() + 4;

    #[inline(never)]
    fn remember() -> Block {
        black_box(Box::new([1; 160]))
    }

    #[inline(never)]
    fn remember_too() -> Block {
        black_box(Box::new([2; 160]))
    }

    /// A healthy service: its blocks live for a few ticks, and none for more than nine.
    struct Service {
        dying_at: Vec<Vec<Block>>,
        tick: usize,
        random: u64,
    }

    impl Service {
        fn new() -> Self {
            let dying_at = (0..10).map(|_| Vec::with_capacity(1000)).collect();
            Self { dying_at, tick: 0, random: 7 }
        }

        fn run(&mut self) {
            self.tick += 1;
            self.dying_at[self.tick % 10].clear();
            for site in HEALTHY.iter().cycle().take(40) {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                // Short lifetimes are common and long ones rare.
                let life = 1 + (self.random % 10).min(self.random / 16 % 10) as usize;
                if life < 10 {
                    self.dying_at[(self.tick + life) % 10].push(site());
                }
            }
        }
    }

    fn by_hand() -> Builder {
        Profiler::builder().sample_interval_bytes(1).diff_every(Duration::ZERO)
    }

    /// Runs the healthy service for some ticks, from 1, and calls `work` in each.
    fn run(profiler: &Profiler, ticks: usize, mut work: impl FnMut(usize)) -> Vec<LeakReport> {
        let mut service = Service::new();
        let mut reports = Vec::with_capacity(ticks);
        for tick in 1..=ticks {
            service.run();
            work(tick);
            reports.push(profiler.diff_now());
        }
        reports
    }

    /// The only candidate for a function, if there is one.
    fn candidate_in<'a>(report: &'a LeakReport, function: &str) -> Option<&'a LeakCandidate> {
        let mut found = report.candidates.iter().filter(|c| c.function == function);
        let first = found.next();
        assert!(found.next().is_none(), "more than one candidate: {report}");
        first
    }

    fn verdict(report: &LeakReport, function: &str) -> Option<Verdict> {
        candidate_in(report, function).map(|candidate| candidate.verdict)
    }

    /// The functions that a report confirms as leaks.
    fn confirmed(report: &LeakReport) -> Vec<&str> {
        report
            .with_verdict(Verdict::Confirmed)
            .map(|candidate| candidate.function.as_str())
            .collect()
    }

    const REMEMBER: &str = "leaks::verdicts::remember";
    const REMEMBER_TOO: &str = "leaks::verdicts::remember_too";

    /// A logger that keeps its messages.
    struct LogCapture(Mutex<Vec<(log::Level, String)>>);

    impl log::Log for LogCapture {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target() == "heapdrift"
        }

        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                self.0.lock().unwrap().push((record.level(), record.args().to_string()));
            }
        }

        fn flush(&self) {}
    }

    /// Installs the logger at the first call, and returns the messages so far.
    fn logged() -> MutexGuard<'static, Vec<(log::Level, String)>> {
        static CAPTURE: OnceLock<LogCapture> = OnceLock::new();
        let capture = CAPTURE.get_or_init(|| LogCapture(Mutex::new(Vec::with_capacity(100))));
        if log::set_logger(capture).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
        capture.0.lock().unwrap()
    }

    #[test]
    fn a_leak_is_suspected_then_confirmed_at_its_line_and_retracted_when_it_is_freed() {
        let _one = one_at_a_time();
        logged().clear();
        let profiler = by_hand().start().unwrap();
        let mut kept = Vec::with_capacity(1000);
        let mut service = Service::new();
        let mut verdicts = Vec::with_capacity(100);
        let mut last = LeakReport::default();
        for tick in 1..=60 {
            service.run();
            with_labels(&[("route", "/api/upload")], || {
                (0..2).for_each(|_| kept.push(remember()));
            });
            last = profiler.diff_now();
            assert_eq!(last.tick, tick);
            verdicts.push(verdict(&last, REMEMBER));
            assert!(confirmed(&last).iter().all(|function| *function == REMEMBER), "{last}");
        }
        let first = |wanted| verdicts.iter().position(|verdict| *verdict == Some(wanted));
        let suspected_at = first(Verdict::Suspect).expect("it is suspected");
        let confirmed_at = first(Verdict::Confirmed).expect("it is confirmed");
        assert!(suspected_at < confirmed_at, "{verdicts:?}");
        let mut later = verdicts[confirmed_at..].iter();
        assert!(later.all(|verdict| *verdict == Some(Verdict::Confirmed)), "{verdicts:?}");

        let candidate = &last.candidates[0];
        assert_eq!(candidate.function, REMEMBER);
        assert_eq!(candidate.first_seen_tick, suspected_at as u64 + 1);
        assert_eq!((candidate.crate_name.as_deref(), candidate.own), (Some("leaks"), true));
        assert_eq!(candidate.blame.kind, Kind::Own);
        let own = candidate.blame.own_frame.as_ref().unwrap();
        assert_eq!(own.file.as_deref(), Some("tests/leaks.rs"));
        assert_eq!(own.line, Some(REMEMBERED_AT));
        assert_eq!(candidate.stack[0], *own);
        assert_eq!(candidate.labels["route"], "/api/upload");
        assert_eq!(candidate.live_bytes.value, 160.0 * kept.len() as f64);
        assert_eq!(candidate.live_count.value, kept.len() as f64);
        assert_eq!(candidate.evidence.mature_deaths, 0);
        let per_tick = candidate.leaked_bytes_per_hour.value * last.uptime_ms as f64 / 3.6e6 / 60.0;
        assert!((per_tick / 320.0 - 1.0).abs() < 0.15, "{per_tick} of 320 bytes a tick");

        // The leaked blocks are freed after all.
        kept.clear();
        let verdicts: Vec<_> = (0..6)
            .map(|_| {
                service.run();
                verdict(&profiler.diff_now(), REMEMBER)
            })
            .collect();
        assert_eq!(verdicts.last(), Some(&Some(Verdict::Retracted)), "{verdicts:?}");

        let logged = logged();
        let count = |level, word: &str| {
            let begin = format!("leak {word}:");
            logged.iter().filter(|(l, text)| *l == level && text.starts_with(&begin)).count()
        };
        assert_eq!(count(log::Level::Warn, "confirmed"), 1, "{logged:#?}");
        assert_eq!(count(log::Level::Info, "retracted"), 1, "{logged:#?}");
        assert_eq!(count(log::Level::Info, "suspect"), 1, "{logged:#?}");
        assert_eq!(logged.len(), 3, "{logged:#?}");
    }

    #[test]
    fn a_bounded_cache_that_fills_is_at_most_retracted() {
        let _one = one_at_a_time();
        let profiler = by_hand().start().unwrap();
        let mut cache: Vec<Block> = Vec::with_capacity(1000);
        let reports = run(&profiler, 90, |tick| {
            for number in 0..3 {
                let at = (3 * tick + number) % 90;
                let block = remember();
                if cache.len() < 90 { cache.push(block) } else { cache[at] = block }
            }
        });
        // The cache is full at tick 30. After one more fill time no suspicion may be left.
        for report in &reports[60..] {
            let verdict = verdict(report, REMEMBER);
            assert!(matches!(verdict, None | Some(Verdict::Retracted)), "{report}");
            assert_eq!(confirmed(report), [""; 0], "{report}");
        }
    }

    #[test]
    fn a_pile_that_is_freed_at_once_is_not_confirmed_while_it_grows_again() {
        let _one = one_at_a_time();
        let profiler = by_hand().start().unwrap();
        let mut pile = Vec::with_capacity(1000);
        let reports = run(&profiler, 44, |tick| {
            // It is freed early at first, as if it were older than the recording, then every 18
            // ticks.
            if tick % 18 == 8 {
                pile.clear();
            }
            pile.extend((0..12).map(|_| remember()));
        });
        for report in &reports {
            assert_eq!(confirmed(report), [""; 0], "{report}");
        }
    }

    #[test]
    fn a_leak_that_comes_in_bursts_is_confirmed_and_not_dropped_in_between() {
        let _one = one_at_a_time();
        let profiler = by_hand().start().unwrap();
        let mut kept = Vec::with_capacity(2000);
        let reports = run(&profiler, 110, |tick| {
            if [4, 12, 19, 22, 36, 38, 52, 60, 64, 80, 86, 98].contains(&tick) {
                kept.extend((0..15).map(|_| remember()));
            }
        });
        let at = |tick: usize| verdict(&reports[tick - 1], REMEMBER);
        assert_eq!(at(110), Some(Verdict::Confirmed), "{}", reports[109]);
        let first = (1..=110).find(|tick| at(*tick).is_some()).unwrap();
        assert!((first..=110).all(|tick| at(tick) > Some(Verdict::Retracted)));
    }

    #[inline(never)]
    fn push_for_ever(list: &mut Vec<u64>, items: usize) {
        for item in 0..items {
            list.push(item as u64);
        }
    }

    #[inline(never)]
    fn insert_for_ever(map: &mut HashMap<u64, u64>, items: usize) {
        let begin = map.len() as u64;
        for item in 0..items as u64 {
            map.insert(begin + item, item);
        }
    }

    #[test]
    fn containers_that_only_grow_are_confirmed_as_containers() {
        let _one = one_at_a_time();
        let profiler = by_hand().start().unwrap();
        let (mut list, mut map) = (Vec::new(), HashMap::new());
        let reports = run(&profiler, 80, |_| {
            push_for_ever(&mut list, 100);
            insert_for_ever(&mut map, 100);
        });
        let report = &reports[79];
        for function in ["leaks::verdicts::push_for_ever", "leaks::verdicts::insert_for_ever"] {
            let candidate = candidate_in(report, function);
            let candidate = candidate.unwrap_or_else(|| panic!("{function}: {report}"));
            assert_eq!(candidate.verdict, Verdict::Confirmed, "{report}");
            assert_eq!(candidate.evidence.kind, EvidenceKind::Container);
            assert!(candidate.evidence.steps.len() >= 5, "{:?}", candidate.evidence.steps);
        }
        let bytes = (list.capacity() * 8) as f64;
        let found = candidate_in(report, "leaks::verdicts::push_for_ever").unwrap();
        assert_eq!(found.live_bytes, Estimate::new(bytes, 0.0));
    }

    #[inline(never)]
    fn shared() -> Block {
        black_box(Box::new([3; 160]))
    }

    #[inline(never)]
    fn caller<const NUMBER: usize>() -> Block {
        let block = shared();
        black_box(NUMBER);
        block
    }

    const CALLERS: [fn() -> Block; 8] = [
        caller::<0>,
        caller::<1>,
        caller::<2>,
        caller::<3>,
        caller::<4>,
        caller::<5>,
        caller::<6>,
        caller::<7>,
    ];

    #[test]
    fn a_leak_spread_over_callers_is_one_candidate_at_their_common_function() {
        let _one = one_at_a_time();
        let profiler = by_hand().start().unwrap();
        let mut kept = Vec::with_capacity(1000);
        let reports = run(&profiler, 60, |tick| {
            (0..2).for_each(|number| kept.push(CALLERS[(2 * tick + number) % 8]()));
        });
        let report = &reports[59];
        assert_eq!(confirmed(report), ["leaks::verdicts::shared"], "{report}");
        assert_eq!(report.with_verdict(Verdict::Suspect).count(), 0, "{report}");
        assert_eq!(report.candidates[0].evidence.sites, 8);
        assert_eq!(report.candidates[0].live_count.value, kept.len() as f64);
    }

    #[test]
    fn a_pause_and_changed_intervals_cause_no_verdict_and_lose_none() {
        let _one = one_at_a_time();
        let profiler = by_hand().sample_interval_bytes(64).seed(3).start().unwrap();
        let mut kept = Vec::with_capacity(2000);
        let reports = run(&profiler, 80, |tick| {
            match tick {
                15 => profiler.set_sample_interval_bytes(256).unwrap(),
                30 => profiler.pause(),
                36 => profiler.resume(),
                45 => profiler.set_sample_interval_bytes(16).unwrap(),
                55 => profiler.set_sample_interval_bytes(512).unwrap(),
                _ => {}
            }
            (0..8).for_each(|_| kept.push(remember()));
        });
        for report in &reports {
            assert!(confirmed(report).iter().all(|function| *function == REMEMBER), "{report}");
        }
        assert_eq!(verdict(&reports[79], REMEMBER), Some(Verdict::Confirmed), "{}", reports[79]);
    }

    #[test]
    fn thinning_causes_no_verdict_and_loses_none() {
        let _one = one_at_a_time();
        let profiler = by_hand().max_profiler_bytes(4 << 20).seed(4).start().unwrap();
        let mut kept = Vec::with_capacity(100_000);
        let reports = run(&profiler, 80, |_| {
            (0..600).for_each(|_| kept.push(remember()));
        });
        let stats = profiler.stats();
        assert!(stats.thinnings > 0 && stats.samples_thinned > 0, "{stats:?}");
        for report in &reports {
            assert!(confirmed(report).iter().all(|function| *function == REMEMBER), "{report}");
        }
        let found = candidate_in(&reports[79], REMEMBER);
        let found = found.unwrap_or_else(|| panic!("{}", reports[79]));
        assert_eq!(found.verdict, Verdict::Confirmed, "{}", reports[79]);
        crate::common::assert_within("live", found.live_count, kept.len() as f64, 4.0);
    }

    /// Runs a service with a leak, writes a dump, and returns the last report.
    fn leaky(profiler: &Profiler, dump: &Path) -> LeakReport {
        let mut kept = Vec::with_capacity(1000);
        let reports = run(profiler, 40, |_| (0..3).for_each(|_| kept.push(remember())));
        profiler.dump(dump).unwrap();
        reports.into_iter().next_back().unwrap()
    }

    #[test]
    fn the_last_report_is_in_the_dump_and_its_json_has_the_keys_that_scripts_read() {
        let _one = one_at_a_time();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.heap.json.gz");
        let profiler = by_hand().start().unwrap();
        assert_eq!(profiler.snapshot().leaks, None, "before the first tick");
        let report = leaky(&profiler, &path);
        assert_eq!(profiler.snapshot().leaks.as_ref(), Some(&report));
        let json = report.to_json();
        // Estimates are written with three decimals; everything else reads back as it was.
        assert_eq!(serde_json::from_str::<LeakReport>(&json).unwrap().to_json(), json);
        let read = dump::read(&path).unwrap().leaks.unwrap();
        assert_eq!(read.to_json(), json);
        let candidate = |report: &LeakReport| {
            let mut candidate = report.candidates[0].clone();
            candidate.leaked_bytes_per_hour = Estimate::default();
            candidate
        };
        assert_eq!(candidate(&read), candidate(&report));

        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["tick"], 40);
        let candidate = &json["candidates"][0];
        assert_eq!(candidate["verdict"], "confirmed");
        assert_eq!(candidate["function"], REMEMBER);
        assert_eq!(candidate["crate"], "leaks");
        assert_eq!(candidate["own"], true);
        assert!(candidate["first_seen_tick"].is_u64());
        assert_eq!(candidate["labels"], serde_json::json!({}));
        for estimate in ["leaked_bytes_per_hour", "live_bytes", "live_count"] {
            assert!(candidate[estimate]["value"].is_number(), "{candidate:#}");
            assert!(candidate[estimate]["std_error"].is_number(), "{candidate:#}");
        }
        let leaf = &candidate["frames"][0];
        assert_eq!(leaf["function"], REMEMBER);
        assert_eq!(leaf["file"], "tests/leaks.rs");
        assert_eq!(leaf["line"], REMEMBERED_AT);
        assert_eq!(leaf["crate"], "leaks");
        assert_eq!(leaf["own"], true);

        let text = report.to_string();
        assert!(text.lines().count() <= 24 && text.contains(REMEMBER), "{text}");
    }

    #[test]
    fn a_baseline_shows_what_is_new_known_or_worse() {
        let _one = one_at_a_time();
        let folder = tempfile::tempdir().unwrap();
        let before = folder.path().join("before.heap.json.gz");
        leaky(&by_hand().start().unwrap(), &before);

        // The rate per hour depends on the load of the machine, so the baseline's rate is scaled.
        let statuses = |factor: f64| {
            let mut snapshot = dump::read(&before).unwrap();
            for candidate in &mut snapshot.leaks.as_mut().unwrap().candidates {
                let rate = &mut candidate.leaked_bytes_per_hour;
                *rate = Estimate::new(rate.value * factor, rate.std_error * factor);
            }
            let path = folder.path().join("changed.heap.json.gz");
            dump::write(&snapshot, &path).unwrap();
            let profiler = by_hand().baseline(&path).start().unwrap();
            let mut kept = Vec::with_capacity(1000);
            let reports = run(&profiler, 40, |_| {
                (0..3).for_each(|_| kept.extend([remember(), remember_too()]));
            });
            let report = &reports[39];
            assert_eq!(report.baseline_problem, None);
            let status = |function| candidate_in(report, function).expect("a candidate").baseline;
            (status(REMEMBER), status(REMEMBER_TOO))
        };
        assert_eq!(statuses(1000.0), (Some(BaselineStatus::Known), Some(BaselineStatus::New)));
        assert_eq!(statuses(0.001), (Some(BaselineStatus::Worse), Some(BaselineStatus::New)));

        // A baseline without a report is named as a problem, and the session runs.
        let profiler = by_hand().start().unwrap();
        profiler.dump(&before).unwrap();
        drop(profiler);
        let profiler = by_hand().baseline(&before).start().unwrap();
        let problem = profiler.diff_now().baseline_problem.unwrap();
        assert!(problem.contains(before.to_str().unwrap()), "{problem}");
    }

    #[test]
    fn a_baseline_that_is_unreadable_or_of_another_program_is_refused_by_name() {
        let _one = one_at_a_time();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.heap.json.gz");
        let mut snapshot = by_hand().start().unwrap().snapshot();
        let own = Path::new(&snapshot.process.executable).file_name().unwrap().to_owned();
        snapshot.process.executable = "/usr/bin/webshop".into();
        dump::write(&snapshot, &path).unwrap();
        let refused = |path: &Path| {
            let error = by_hand().baseline(path).start().unwrap_err();
            assert!(matches!(error, StartError::Baseline { .. }), "{error:?}");
            let error = error.to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            error
        };
        let error = refused(&path);
        assert!(error.contains("one of webshop") && error.contains(own.to_str().unwrap()));
        fs::write(&path, "no dump").unwrap();
        refused(&path);
        refused(&folder.path().join("missing.heap.json.gz"));
        // A refused start leaves no session behind.
        drop(by_hand().start().unwrap());
    }

    #[test]
    fn the_environment_names_a_baseline() {
        const CHILD: &str = "HEAPDRIFT_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            match Profiler::from_env() {
                Ok(profiler) => {
                    let report = profiler.unwrap().diff_now();
                    println!("<problem: {:?}>", report.baseline_problem);
                }
                Err(error) => println!("<error: {error}>"),
            }
            return;
        }
        let _one = one_at_a_time();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("before.heap.json.gz");
        let profiler = by_hand().start().unwrap();
        profiler.diff_now();
        profiler.dump(&path).unwrap();
        let said = || {
            let output = this_program()
                .args(["--exact", "verdicts::the_environment_names_a_baseline", "--nocapture"])
                .env(CHILD, "1")
                .env("HEAPDRIFT", format!("interval=1,diff=0,baseline={}", path.display()))
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(said().contains("<problem: None>"), "{}", said());
        fs::remove_file(&path).unwrap();
        let refused = said();
        assert!(refused.contains("<error: cannot use the baseline"), "{refused}");
        assert!(refused.contains("before.heap.json.gz"), "{refused}");
    }

    /// Waits until the reporting thread has done something.
    #[track_caller]
    fn wait_until(what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(10), "timed out waiting for {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn on_report_is_called_at_every_tick_and_may_panic() {
        let _one = one_at_a_time();
        logged().clear();
        let ticks = Arc::new(Mutex::new(Vec::with_capacity(10_000)));
        let profiler = Profiler::builder()
            .diff_every(Duration::from_millis(4))
            .on_report({
                let ticks = Arc::clone(&ticks);
                move |report| {
                    ticks.lock().unwrap().push(report.tick);
                    assert!(!(3..6).contains(&report.tick), "a fault of the service");
                }
            })
            .start()
            .unwrap();
        wait_until("ticks after a panic", || ticks.lock().unwrap().len() > 10);
        let by_hand = profiler.diff_now();
        drop(profiler);
        let ticks = ticks.lock().unwrap();
        let mut sorted = ticks.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=ticks.len() as u64).collect::<Vec<_>>(), "each once");
        assert!(ticks.contains(&by_hand.tick), "a tick taken by hand counts too");
        let panics =
            logged().iter().filter(|(_, text)| text.contains("on_report panicked")).count();
        assert_eq!(panics, 1, "logged once");
    }

    #[test]
    fn ticks_that_fall_due_during_a_slow_report_are_skipped_and_counted() {
        let _one = one_at_a_time();
        let reports = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let profiler = Profiler::builder()
            .diff_every(Duration::from_millis(5))
            .on_report({
                let reports = Arc::clone(&reports);
                move |_| {
                    thread::sleep(Duration::from_millis(52));
                    reports.fetch_add(1, Ordering::Relaxed);
                }
            })
            .start()
            .unwrap();
        wait_until("five slow reports", || reports.load(Ordering::Relaxed) >= 5);
        let (skipped, took) = (profiler.stats().skipped_ticks, begin.elapsed());
        // Ten periods pass during each report, and one of them is that of the report's own tick.
        assert!(skipped >= 4 * 9, "{skipped}");
        assert!(skipped < took.as_millis() as u64 / 5, "{skipped} in {took:?}");
        assert!(profiler.snapshot().stats.skipped_ticks >= skipped);
        drop(profiler);
        // No tick was queued: at most the report that was running has finished.
        assert!(reports.load(Ordering::Relaxed) <= took.as_millis() as usize / 52 + 2);
    }
}

#[cfg(not(feature = "profiling"))]
#[test]
fn without_the_feature_there_is_nothing_to_report() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let reports = Arc::new(AtomicUsize::new(0));
    let on_report = {
        let reports = Arc::clone(&reports);
        move |report: &heapdrift::LeakReport| {
            assert_eq!(*report, heapdrift::LeakReport::default());
            reports.fetch_add(1, Ordering::Relaxed);
        }
    };
    let profiler = heapdrift::Profiler::builder().on_report(on_report).start().unwrap();
    for _ in 0..40 {
        assert_eq!(profiler.diff_now(), heapdrift::LeakReport::default());
    }
    assert_eq!(reports.load(Ordering::Relaxed), 40);
    assert_eq!(profiler.snapshot().leaks, None);
    assert_eq!(profiler.stats().skipped_ticks, 0);
}
