//! The results as Markdown.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use heapdrift_tools::units;

use crate::baselines;
use crate::judge::{Judgement, LeakOutcome};
use crate::scenario::Scenario;
use crate::sites::INNOCENT;
use crate::{Run, suite};

/// A leak with at least this many samples and this share of its site's births should be found.
const ENOUGH_SAMPLES: f64 = 32.0;
const ENOUGH_SHARE: f64 = 0.10;

/// A line about a scenario whose seeds are all done.
pub(crate) fn progress(scenario: &Scenario, runs: &[Run]) -> String {
    let of: Vec<_> = runs.iter().filter(|run| run.scenario == scenario.name).collect();
    let mean = |value: fn(&Run) -> u64| {
        of.iter().map(|run| value(run)).sum::<u64>() / of.len().max(1) as u64
    };
    format!(
        "{:22} {} runs of {} ms, {} samples, {} live, {} stacks, slowest tick {} us",
        scenario.name,
        of.len(),
        mean(|run| run.elapsed_ms),
        mean(|run| run.samples),
        mean(|run| run.live_samples),
        mean(|run| run.sites),
        of.iter().map(|run| run.slowest_tick_us).max().unwrap_or_default(),
    )
}

/// All tables about the runs.
pub(crate) fn render(runs: &[Run]) -> String {
    let now_ms =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    let mut text = format!("{}, heapdrift {}\n", units::unix_ms(now_ms), env!("CARGO_PKG_VERSION"));
    for (title, tuning) in [("Tuning", true), ("Judgement", false)] {
        let half: Vec<_> = runs.iter().filter(|run| run.tuning == tuning).collect();
        if !half.is_empty() {
            text += &summary(title, &half);
            text += &curve(&half);
            text += &scenarios(&half);
        }
    }
    text
}

fn summary(title: &str, runs: &[&Run]) -> String {
    let mut text = format!(
        "\n## {title}: {} runs, {:.0} site-hours at one tick a minute\n\n\
         | rule | precision | recall | false confirmations per 10,000 site-hours | early, withdrawn in time | \
         fill times to withdrawal, median | leaked samples at detection, median: no churn | at 10% share |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        runs.len(),
        site_hours(runs),
    );
    text += &row("**heapdrift**", runs, |run| Some(&run.detector));
    for (number, baseline) in baselines::ALL.iter().enumerate() {
        text += &row(baseline.name, runs, |run| run.baselines.get(number));
    }
    text
}

/// The figures of one rule.
pub(crate) struct Score {
    /// Leaks that were confirmed, and healthy sites that were confirmed.
    pub(crate) right: usize,
    pub(crate) false_sites: usize,
    /// Leaks that should be found: those confirmed at the end, and all of them.
    pub(crate) held: usize,
    pub(crate) due: usize,
    pub(crate) false_alarms: usize,
    pub(crate) site_hours: f64,
    early: usize,
    fill_times: Option<f64>,
    /// Leaked samples at the confirmation of each leak without churn, and of each leak that is a
    /// tenth of the births of its site.
    pub(crate) at_detection: Vec<f64>,
    pub(crate) at_detection_of_a_tenth: Vec<f64>,
}

impl Score {
    pub(crate) fn new<'a>(runs: &[&'a Run], of: impl Fn(&'a Run) -> Option<&'a Judgement>) -> Self {
        let judged: Vec<_> = runs.iter().filter_map(|run| of(run)).collect();
        let found = || judged.iter().flat_map(|judgement| &judgement.leaks);
        let alarms = || judged.iter().flat_map(|judgement| &judgement.alarms);
        let due = || found().filter(|leak| is_due(leak));
        let detection = |low: f64, high: f64| {
            let of_share = found().filter(|leak| (low..=high).contains(&leak.share));
            of_share.filter_map(|leak| leak.confirmed_after_samples).collect()
        };
        Self {
            right: found().filter(|leak| leak.confirmed_at.is_some()).count(),
            false_sites: judged.iter().map(|judgement| false_sites(judgement)).sum(),
            held: due().filter(|leak| leak.is_confirmed_at_end).count(),
            due: due().count(),
            false_alarms: alarms().filter(|alarm| !alarm.early).count(),
            site_hours: site_hours(runs),
            early: alarms().filter(|alarm| alarm.early).count(),
            fill_times: median(alarms().filter_map(|alarm| alarm.fill_times())),
            at_detection: detection(0.9, 1.0),
            at_detection_of_a_tenth: detection(0.085, 0.13),
        }
    }
}

fn row<'a>(name: &str, runs: &[&'a Run], of: impl Fn(&'a Run) -> Option<&'a Judgement>) -> String {
    let score = Score::new(runs, of);
    format!(
        "| {name} | {} | {} | {:.2} | {} | {} | {} | {} |\n",
        ratio(score.right, score.right + score.false_sites),
        ratio(score.held, score.due),
        score.false_alarms as f64 / score.site_hours * 1e4,
        score.early,
        or_dash(score.fill_times, 2),
        or_dash(median(score.at_detection.iter().copied()), 0),
        or_dash(median(score.at_detection_of_a_tenth.iter().copied()), 0),
    )
}

/// Healthy sites that were confirmed, without the early ones.
fn false_sites(judgement: &Judgement) -> usize {
    let mut functions: Vec<_> =
        judgement.alarms.iter().filter(|alarm| !alarm.early).map(|alarm| &alarm.function).collect();
    functions.sort_unstable();
    functions.dedup();
    functions.len()
}

/// Recall of the detector against leaked samples, by the leak's share of its site's births.
fn curve(runs: &[&Run]) -> String {
    const SHARES: [(f64, f64, &str); 5] = [
        (0.0, 0.035, "below 3.5%"),
        (0.035, 0.085, "3.5% to 8.5%"),
        (0.085, 0.15, "8.5% to 15%"),
        (0.15, 0.6, "15% to 60%"),
        (0.6, 1.1, "above 60%"),
    ];
    const SAMPLES: [f64; 6] = [16.0, 32.0, 64.0, 96.0, 128.0, 160.0];
    let mut text =
        String::from("\nRecall by leaked samples so far:\n\n| share of births | leaks |");
    SAMPLES.iter().for_each(|samples| text += &format!(" {samples} |"));
    text += "\n| --- | --- |";
    SAMPLES.iter().for_each(|_| text += " --- |");
    text.push('\n');
    for (low, high, name) in SHARES {
        let leaks: Vec<_> = runs
            .iter()
            .flat_map(|run| &run.detector.leaks)
            .filter(|leak| (low..high).contains(&leak.share))
            .collect();
        if leaks.is_empty() {
            continue;
        }
        let _ = write!(text, "| {name} | {} |", leaks.len());
        for samples in SAMPLES {
            let reached: Vec<_> =
                leaks.iter().filter(|leak| leak.leaked_samples >= samples).collect();
            let by_then = |leak: &&&&LeakOutcome| {
                leak.confirmed_after_samples.is_some_and(|after| after <= samples)
            };
            let found = reached.iter().filter(by_then).count();
            let _ = write!(text, " {} |", ratio(found, reached.len()));
        }
        text.push('\n');
    }
    text
}

fn scenarios(runs: &[&Run]) -> String {
    let mut text = String::from(
        "\n| scenario | leaks confirmed at the end | of | leaked samples at detection, median | duplicates | \
         false on the planted site | false elsewhere | early |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for scenario in suite::all() {
        let of: Vec<_> = runs.iter().filter(|run| run.scenario == scenario.name).collect();
        if of.is_empty() {
            continue;
        }
        let leaks = || of.iter().flat_map(|run| &run.detector.leaks);
        let alarms = || of.iter().flat_map(|run| &run.detector.alarms);
        let on_planted = |function: &str| !function.contains("::innocent_");
        let count = |planted: bool| {
            alarms().filter(|a| !a.early && on_planted(&a.function) == planted).count()
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            scenario.name,
            leaks().filter(|leak| leak.is_confirmed_at_end).count(),
            leaks().count(),
            or_dash(median(leaks().filter_map(|leak| leak.confirmed_after_samples)), 0),
            leaks().map(|leak| leak.duplicates).sum::<usize>(),
            count(true),
            count(false),
            alarms().filter(|alarm| alarm.early).count(),
        );
    }
    text
}

fn is_due(leak: &LeakOutcome) -> bool {
    leak.leaked_samples >= ENOUGH_SAMPLES && leak.share >= ENOUGH_SHARE
}

fn site_hours(runs: &[&Run]) -> f64 {
    let ticks: f64 = runs.iter().map(|run| f64::from(run.ticks)).sum();
    (INNOCENT.len() + 1) as f64 * ticks / 60.0
}

fn ratio(part: usize, whole: usize) -> String {
    if whole == 0 { "-".into() } else { format!("{:.3}", part as f64 / whole as f64) }
}

fn or_dash(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
