//! The results as Markdown, to be read, and as JSON, with every measurement.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};
use workloads::Workload;

use crate::bars::{Bar, bars};
use crate::machine::Machine;
use crate::results::{Cell, Quantity, Results, Spread};
use crate::runner::Effort;

pub fn markdown(
    results: &Results,
    machine: &Machine,
    load_at_end: &str,
    rounds: u32,
    effort: Effort,
) -> String {
    let mut text = heading(machine, load_at_end, rounds, effort);
    text.push_str(&ratios(
        results,
        "Processor time",
        "User and system time of all threads, as a ratio to the bare allocator of the same part of the table in \
         the same round: median ± median absolute deviation. *Once more* is the program above it again, so \
         its distance from 1 is noise. The last column is the instructions of an allocate-free pair beyond the \
         bare allocator's, counted by callgrind.",
        Quantity::ProcessorTime,
    ));
    text.push_str(&ratios(
        results,
        "Wall time",
        "The same for wall-clock time.",
        Quantity::WallTime,
    ));
    text.push_str(&memory(results));
    text.push_str(&bare(results, effort));
    text.push_str(&bars_section(&bars(results)));
    text.push_str(&remarks(results));
    text
}

fn heading(machine: &Machine, load_at_end: &str, rounds: u32, effort: Effort) -> String {
    let Machine { date, processor, cores, kernel, libc, rustc, load, versions } = machine;
    let versions: Vec<String> =
        versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let effort = if effort == Effort::Quick { "quick; " } else { "" };
    format!(
        "# heapdrift and its peers\n\n{date}; {processor}, {cores} cores; Linux {kernel}; {libc}; {rustc}; load {load} at the \
         start, {load_at_end} at the end; {effort}{rounds} interleaved rounds, {} of exact recorders.\n\n{}.\n",
        rounds.div_ceil(3),
        versions.join(", "),
    )
}

fn ratios(results: &Results, title: &str, explanation: &str, quantity: Quantity) -> String {
    let with_instructions = quantity == Quantity::ProcessorTime;
    let mut text = format!("\n## {title}\n\n{explanation}\n\n");
    text.push_str(&header(results, if with_instructions { &["instructions"] } else { &[] }));
    for (row, subject) in results.subjects().enumerate() {
        let is_bare = subject.is_bare();
        let mut line = format!("| {} |", emphasised(&subject.name));
        for &workload in results.workloads() {
            let ratio = results.ratio(Cell { row, workload }, quantity);
            let cell = match ratio {
                Some(_) if is_bare => "1".to_owned(),
                Some(ratio) => spread(ratio),
                None if subject.runs(workload) => "failed".to_owned(),
                None => String::new(),
            };
            let _ = write!(line, " {cell} |");
        }
        if with_instructions {
            let instructions = match (is_bare, results.instructions(row)) {
                (true, Some(pair)) => format!("({pair:.1})"),
                _ => results
                    .extra_instructions(row)
                    .map_or(String::new(), |more| format!("{more:.1}")),
            };
            let _ = write!(line, " {instructions} |");
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Formats a spread; such a figure has at most three significant digits.
fn spread(Spread { median, deviation }: Spread) -> String {
    if median < 10.0 {
        format!("{median:.2} ±{deviation:.2}")
    } else {
        format!("{median:.1} ±{deviation:.1}")
    }
}

fn emphasised(name: &str) -> String {
    if name.starts_with("heapdrift") { format!("**{name}**") } else { name.to_owned() }
}

fn header(results: &Results, more: &[&str]) -> String {
    let names = results.workloads().iter().map(Workload::to_string);
    let names: Vec<String> = names.chain(more.iter().map(|&name| name.to_owned())).collect();
    format!("| | {} |\n|{}\n", names.join(" | "), " --- |".repeat(names.len() + 1))
}

fn memory(results: &Results) -> String {
    let mut text = "\n## Memory\n\nPeak resident memory of the process in MiB, median. It includes what valgrind and \
                    heaptrack need within the process.\n\n"
        .to_owned();
    text.push_str(&header(results, &[]));
    for (row, subject) in results.subjects().enumerate() {
        let mut line = format!("| {} |", emphasised(&subject.name));
        for &workload in results.workloads() {
            let found = results.value(Cell { row, workload }, Quantity::PeakMemory);
            let cell = found
                .map_or(String::new(), |bytes| format!("{:.1}", bytes.median / f64::from(1 << 20)));
            let _ = write!(line, " {cell} |");
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The absolute times of the bare allocators.
fn bare(results: &Results, effort: Effort) -> String {
    let mut text =
        "\n## Bare allocators\n\nProcessor time per unit, median ± median absolute deviation.\n\n"
            .to_owned();
    text.push_str(&header(results, &[]));
    let units: Vec<&str> = results.workloads().iter().map(|workload| workload.unit()).collect();
    let _ = writeln!(text, "| *a unit is a* | {} |", units.join(" | "));
    for (row, subject) in results.subjects().enumerate() {
        if !subject.is_bare() || subject.is_exact {
            continue;
        }
        let mut line = format!("| {} |", subject.name);
        for &workload in results.workloads() {
            let units = effort.units(workload, subject.is_exact) as f64;
            let found = results.value(Cell { row, workload }, Quantity::ProcessorTime);
            let cell = found.map_or(String::new(), |time| {
                duration(Spread { median: time.median / units, deviation: time.deviation / units })
            });
            let _ = write!(line, " {cell} |");
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Formats nanoseconds in a readable unit.
fn duration(Spread { median, deviation }: Spread) -> String {
    let (unit, ns) = match median {
        ..1e4 => ("ns", 1.0),
        ..1e7 => ("µs", 1e3),
        _ => ("ms", 1e6),
    };
    format!("{:.1} ±{:.1} {unit}", median / ns, deviation / ns)
}

/// How many bars are met, and a table of the missed ones, the worst first.
fn bars_section(bars: &[Bar]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    let met = bars.iter().filter(|bar| bar.is_met()).count();
    let mut text = format!("\n## Bars\n\n{met} of {} are met. Missed:\n\n", bars.len());
    let mut missed: Vec<&Bar> = bars.iter().filter(|bar| !bar.is_met()).collect();
    missed.sort_by(|a, b| (b.found.median / b.limit).total_cmp(&(a.found.median / a.limit)));
    text.push_str("| row | of | bar | found | |\n| --- | --- | --- | --- | --- |\n");
    for bar in missed {
        let remark = if bar.is_missed_clearly() { "" } else { "within twice the deviation" };
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {} | {remark} |",
            bar.row,
            bar.what,
            bar.limit,
            spread(bar.found)
        );
    }
    text
}

fn remarks(results: &Results) -> String {
    let mut text = "\n## Remarks\n\n".to_owned();
    let threaded: Vec<&str> = results.threaded().into_iter().collect();
    if !threaded.is_empty() {
        let _ = writeln!(
            text,
            "- These rows have a thread of their own, with which glibc takes locks that it otherwise skips; \
             compare them with the row *with an idle thread*: {}.",
            threaded.join("; ")
        );
    }
    if results.subjects().any(|subject| subject.name.starts_with("heaptrack")) {
        text.push_str("- heaptrack's processor time does not include its other process.\n");
    }
    for (row, workload, losses) in results.losses() {
        let _ = writeln!(text, "- {row}, {workload}: {losses}.");
    }
    for ((row, why), workloads) in results.failures() {
        let workloads: Vec<String> = workloads.iter().map(Workload::to_string).collect();
        let _ = writeln!(text, "- **Failed**: {row} ({}): {why}.", workloads.join(", "));
    }
    for note in results.notes() {
        let _ = writeln!(text, "- {note}");
    }
    text
}

pub fn json(
    results: &Results,
    machine: &Machine,
    load_at_end: &str,
    rounds: u32,
    effort: Effort,
) -> Result<String> {
    let spread = |spread: Option<Spread>| {
        spread
            .map(|Spread { median, deviation }| json!({ "median": median, "deviation": deviation }))
    };
    let rows = results.subjects().enumerate().map(|(row, subject)| {
        let workloads = results.workloads().iter().map(|&workload| {
            let cell = Cell { row, workload };
            let measured: Vec<Value> = results
                .measurements(cell)
                .map(|(round, found)| json!({ "round": round, "measurement": found }))
                .collect();
            json!({
                "workload": workload,
                "units": effort.units(workload, subject.is_exact),
                "cpu_ratio": spread(results.ratio(cell, Quantity::ProcessorTime)),
                "wall_ratio": spread(results.ratio(cell, Quantity::WallTime)),
                "measurements": measured,
            })
        });
        json!({
            "name": subject.name,
            "baseline": subject.baseline,
            "recording": subject.recording,
            "instructions_a_pair": results.instructions(row),
            "workloads": workloads.collect::<Vec<_>>(),
        })
    });
    let failures = results
        .failures()
        .into_iter()
        .map(|((row, why), workloads)| json!({ "row": row, "why": why, "workloads": workloads }));
    let document = json!({
        "machine": machine,
        "load_at_end": load_at_end,
        "rounds": rounds,
        "effort": effort,
        "rows": rows.collect::<Vec<_>>(),
        "failures": failures.collect::<Vec<_>>(),
        "notes": results.notes(),
    });
    Ok(serde_json::to_string_pretty(&document)?)
}
