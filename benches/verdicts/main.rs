//! Judges the leak detector: scenarios with and without a leak, each among 300 innocent sites.
//!
//! Everything is real except time: the allocations, their sampling, stacks and names. A tick of the
//! detector stands for a minute of the service, and is taken by hand. The lifetime of each object
//! is known, so each verdict is right or wrong ([`judge`]). The rules in common use today
//! ([`baselines`]) are judged on the same runs.
//!
//! ```text
//! cargo bench --features profiling --bench verdicts -- --set judge
//! ```
//!
//! Scenarios at even positions of the list are for tuning, with seeds from 1 on. Those at odd
//! positions are for judgement, with seeds from 9,001 on.

mod bars;
mod baselines;
mod detector;
mod healthy;
mod innocent;
mod judge;
mod leaks;
mod scenario;
mod sites;
mod suite;
mod table;
mod world;

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use heapdrift::{Alloc, Profiler};
use heapdrift_tools::{Symbolizer, symbolizer};
use serde::Serialize;

use bars::Bar;
use baselines::{History, SNAPSHOT_EVERY, VERDICT_EVERY};
use judge::{FirstFull, Judge, Judgement};
use scenario::Scenario;
use world::{INTERVAL_BYTES, Truth, World};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// Scenarios with and without a leak, and what the detector and simpler rules make of them.
#[derive(Debug, Parser)]
#[command(name = "verdicts")]
struct Options {
    /// Which scenarios to run, each half with its own seeds.
    #[arg(long, value_enum, default_value_t = Set::All)]
    set: Set,
    /// Runs of each scenario.
    #[arg(long, default_value_t = 20, value_name = "N")]
    seeds: u64,
    /// First seed, instead of the one of each half.
    #[arg(long, value_name = "N")]
    first_seed: Option<u64>,
    /// Only scenarios whose name contains this.
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Ticks of a run; some scenarios take twice as many.
    #[arg(long, default_value_t = 120, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=10_000))]
    ticks: u32,
    /// Also write a line of JSON for each run.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the baselines out, which is faster.
    #[arg(long)]
    no_baselines: bool,
    /// Name the bars that are missed on the judgement half, and exit with status 1 if one of them
    /// is missed by more than chance explains (1 in 1,000), however few the runs are.
    #[arg(long)]
    check: bool,
    /// List the scenarios and exit.
    #[arg(long)]
    list: bool,
    /// Passed to every benchmark by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Set {
    /// The half that the detector may be tuned with.
    Tune,
    /// The half that judges it.
    Judge,
    /// Both halves, each with its own seeds.
    All,
}

impl Set {
    fn has(self, scenario: &Scenario) -> bool {
        self == Self::All || (self == Self::Tune) == suite::is_for_tuning(scenario)
    }
}

/// First seed of each half.
const TUNING_SEEDS: u64 = 1;
const JUDGEMENT_SEEDS: u64 = 9001;

/// A run and its results.
#[derive(Debug, Serialize)]
struct Run {
    scenario: &'static str,
    tuning: bool,
    seed: u64,
    ticks: u32,
    /// Sites that allocated, planted ones included.
    sites: u64,
    samples: u64,
    live_samples: u64,
    elapsed_ms: u64,
    /// Longest tick of the detector.
    slowest_tick_us: u64,
    detector: Judgement,
    /// One for each rule, in the order of [`baselines::ALL`].
    baselines: Vec<Judgement>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns false if a bar was to be checked and is refuted.
fn run(options: &Options) -> Result<bool> {
    let wanted = |scenario: &&Scenario| {
        options.set.has(scenario)
            && options.scenario.as_ref().is_none_or(|part| scenario.name.contains(part))
    };
    let chosen: Vec<_> = suite::all().filter(wanted).collect();
    if options.list {
        chosen.iter().for_each(|scenario| println!("{}", scenario.name));
        return Ok(true);
    }
    if chosen.is_empty() {
        bail!(
            "expected the name of a scenario of this set (see --list), found {:?}",
            options.scenario
        );
    }
    let mut json = options.json.as_ref().map(create).transpose()?;
    let mut symbolizer = Symbolizer::new(symbolizer::Options::default());
    let mut runs = Vec::new();
    for scenario in chosen {
        let first = options.first_seed.unwrap_or_else(|| match suite::is_for_tuning(scenario) {
            true => TUNING_SEEDS,
            false => JUDGEMENT_SEEDS,
        });
        for seed in first..first + options.seeds {
            let run = run_one(scenario, seed, options, &mut symbolizer)?;
            if let Some(json) = &mut json {
                serde_json::to_writer(&mut *json, &run)?;
                writeln!(json)?;
            }
            runs.push(run);
        }
        eprintln!("{}", table::progress(scenario, &runs));
    }
    for warning in symbolizer.take_warnings() {
        eprintln!("warning: {warning}");
    }
    print!("{}", table::render(&runs));
    let bars = if options.check { bars::of(&runs) } else { Vec::new() };
    for bar in bars.iter().filter(|bar| !bar.is_met) {
        let how = if bar.is_refuted() { "beyond chance" } else { "perhaps by chance" };
        eprintln!("missed, {how}: {}", bar.text);
    }
    Ok(!bars.iter().any(Bar::is_refuted))
}

fn create(path: &PathBuf) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    Ok(BufWriter::new(file))
}

fn run_one(
    scenario: &'static Scenario,
    seed: u64,
    options: &Options,
    symbolizer: &mut Symbolizer,
) -> Result<Run> {
    let started = Instant::now();
    let profiler = Profiler::builder()
        .sample_interval_bytes(INTERVAL_BYTES)
        .seed(seed)
        .diff_every(Duration::ZERO)
        .start()?;
    if !profiler.is_active() {
        bail!("nothing is recorded: expected a build with --features profiling");
    }
    let ticks = options.ticks * scenario.length;
    // The name is hashed too, so that equal seeds of different scenarios are independent.
    let mut hasher = DefaultHasher::new();
    (scenario.name, seed).hash(&mut hasher);
    let mut world = World::new(&profiler, hasher.finish(), ticks, scenario.leaks.len().max(1));
    let mut innocents = innocent::draw(&mut world);
    let mut planted = (scenario.begin)(&mut world);
    let mut of_detector = Judge::new(scenario);
    let mut of_baselines: Vec<_> = baselines::ALL.iter().map(|_| Judge::new(scenario)).collect();
    let mut history = History::default();
    let mut slowest_tick = Duration::ZERO;
    for tick in 1..=ticks {
        world.free_due();
        for innocent in &mut innocents {
            innocent.act(&mut world);
        }
        (planted.act)(&mut world);
        world.advance();
        let began = Instant::now();
        let claims = detector::tick(&profiler);
        slowest_tick = slowest_tick.max(began.elapsed());
        of_detector.observe(tick, &claims);
        if !options.no_baselines && tick.is_multiple_of(SNAPSHOT_EVERY) {
            history.observe(tick, &profiler.snapshot());
        }
    }
    let truths: Vec<Truth> = world.truths().collect();
    let last = profiler.snapshot();
    if !options.no_baselines {
        for (judge, claims) in of_baselines.iter_mut().zip(history.claims(&last, symbolizer)) {
            claims.iter().for_each(|(tick, claims)| judge.observe(*tick, claims));
        }
    }
    debug_assert!(VERDICT_EVERY.is_multiple_of(SNAPSHOT_EVERY));
    let first_full = FirstFull {
        planted: planted.is_bounded.then(|| world.full_at().unwrap_or(ticks)),
        innocent: innocents
            .iter()
            .map(|innocent| innocent.is_bounded().then(|| innocent.full_at().unwrap_or(ticks)))
            .collect(),
    };
    let baselines =
        of_baselines.into_iter().map(|judge| judge.finish(&truths, &first_full)).collect();
    Ok(Run {
        scenario: scenario.name,
        tuning: suite::is_for_tuning(scenario),
        seed,
        ticks,
        sites: last.stats.stacks,
        samples: last.stats.samples_taken,
        live_samples: last.stats.samples_live,
        elapsed_ms: started.elapsed().as_millis() as u64,
        slowest_tick_us: slowest_tick.as_micros() as u64,
        detector: of_detector.finish(&truths, &first_full),
        baselines,
    })
}
