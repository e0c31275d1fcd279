//! The leak detector through its public API: verdicts at ticks taken by hand, the reporting thread,
//! baselines, callbacks and log messages.

mod common;

use heapdrift::Alloc;

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

#[cfg(all(feature = "profiling", target_os = "linux"))]
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

    mod reports;
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
