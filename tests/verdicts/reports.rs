//! Reports: in dumps, against a baseline, from the reporting thread.

use super::*;

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
            .args(["--exact", "verdicts::reports::the_environment_names_a_baseline", "--nocapture"])
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
    let panics = logged().iter().filter(|(_, text)| text.contains("on_report panicked")).count();
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
