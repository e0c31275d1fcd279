//! Runs every allocator and profiler under every workload, interleaved, and prints ratios to the
//! bare allocator.
//!
//! ```text
//!   subject ─► builder ─► runner (rounds) ─► results (ratios of pairs) ─► report: Markdown, JSON
//!                            └──────────────► instructions (callgrind)  ─┘
//! ```

mod bars;
mod builder;
mod instructions;
mod machine;
mod report;
mod results;
mod runner;
mod subject;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use workloads::Workload;

use builder::Builder;
use machine::Machine;
use results::Results;
use runner::{Effort, Runner};
use subject::Subject;

/// Compares heapdrift with bare allocators and other profilers: ratios of time, instructions and
/// memory, by workload.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Options {
    /// A quarter of the work and five rounds: some five minutes after the build
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains one of these, and their bare allocators
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only workloads whose name contains one of these
    #[arg(long, value_name = "TEXT")]
    workload: Vec<String>,
    /// Number of rounds; exact recorders run in a third of them [default: 9, quick: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Let single-threaded workloads move between processors
    #[arg(long)]
    no_pin: bool,
    /// Do not count instructions, even if valgrind is installed
    #[arg(long)]
    no_instructions: bool,
    /// Also write every measurement to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// List the rows and workloads, and exit
    #[arg(long)]
    list: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release --manifest-path benches/peers/Cargo.toml -- --quick
  … -- --only jemalloc --workload pair --workload churn --rounds 21
  … -- --only 'heapdrift exact' --only dhat --no-instructions
  … -- --json peers.json > peers.md

The table goes to standard output, progress and failures to standard error. The first run builds the
subjects, jemalloc twice: some ten minutes.";

fn main() -> Result<()> {
    let options = Options::parse();
    let subjects = subject::selected(&options.only);
    let contains = |texts: &[String], name: &str| {
        texts.is_empty() || texts.iter().any(|text| name.contains(text.as_str()))
    };
    let workloads: Vec<Workload> = Workload::ALL
        .into_iter()
        .filter(|workload| contains(&options.workload, &workload.to_string()))
        .collect();
    ensure!(!subjects.is_empty(), "--only {:?}: no such row; --list shows them", options.only);
    ensure!(
        !workloads.is_empty(),
        "--workload {:?}: no such workload; --list shows them",
        options.workload
    );
    if options.list {
        list(&subjects, &workloads);
        return Ok(());
    }

    let builder = Builder::new()?;
    let mut results = Results::new(subjects, workloads);
    let programs = builder.build_all(&mut results);
    let machine = Machine::now(&builder);
    let rounds = options.rounds.unwrap_or(if options.quick { 5 } else { 9 });
    let effort = if options.quick { Effort::Quick } else { Effort::Full };
    let runner = Runner::new(&programs, effort, !options.no_pin, builder.sources()?)?;
    runner.run_rounds(rounds, &mut results);
    if !options.no_instructions {
        instructions::count(&programs, &mut results);
    }
    let load_at_end = machine::load();
    print!("{}", report::markdown(&results, &machine, &load_at_end, rounds, effort));
    if let Some(path) = &options.json {
        let text = report::json(&results, &machine, &load_at_end, rounds, effort)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn list(subjects: &[Subject], workloads: &[Workload]) {
    for subject in subjects {
        println!("{}", subject.name);
    }
    println!();
    for workload in workloads {
        println!("{workload}");
    }
}
