//! Instructions of an allocate-free pair, counted by valgrind's callgrind, which is repeatable
//! where times are not.
//!
//! Each program runs twice, once with twice as many pairs, so that the difference is pairs only.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use workloads::{Recording, Request, Workload};

use crate::builder::Programs;
use crate::results::{Cell, Results};
use crate::runner::environment;
use crate::subject::Subject;

const PAIRS: u64 = 200_000;

/// Counts for all rows, except the exact ones and those that need live samples first.
pub fn count(programs: &Programs, results: &mut Results) {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        results.note("Instructions were not counted: there is no valgrind.");
        return;
    }
    if !results.workloads().contains(&Workload::Pair) {
        return;
    }
    let rows: Vec<Subject> = results.subjects().cloned().collect();
    for (row, subject) in rows.iter().enumerate() {
        let has_state = matches!(subject.recording, Recording::AmongLive { .. });
        let cell = Cell { row, workload: Workload::Pair };
        if subject.is_exact || has_state || results.has_failed(cell) {
            continue;
        }
        match of_a_pair(programs, subject) {
            Ok(pair) => results.add_instructions(row, pair),
            Err(error) => {
                results.note(format!("No instructions of {}: {error:#}.", subject.name));
            }
        }
    }
}

fn of_a_pair(programs: &Programs, subject: &Subject) -> Result<f64> {
    let program = programs.get(&subject.program).context("not built")?;
    let run = |pairs: u64| -> Result<u64> {
        let request = Request {
            workload: Workload::Pair,
            units: pairs,
            recording: subject.recording,
            cpu: None,
            sources: Vec::new(),
        };
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .arg(serde_json::to_string(&request)?)
            .envs(environment(subject))
            .output()
            .context("valgrind cannot be run")?;
        ensure!(output.status.success(), "under callgrind: {}", output.status);
        collected(&String::from_utf8_lossy(&output.stderr))
    };
    Ok((run(2 * PAIRS)? as f64 - run(PAIRS)? as f64) / PAIRS as f64)
}

/// `==7== Collected : 1234`
fn collected(words: &str) -> Result<u64> {
    let count = words.lines().find_map(|line| line.split_once("Collected : "));
    let (_, count) = count.context("callgrind has not said what it collected")?;
    count
        .trim()
        .parse()
        .with_context(|| format!("expected a number of instructions, found {count}"))
}
