//! How the cost grows with live samples, stacks, threads, depth and modules, as Markdown tables.
//!
//! ```console
//! $ cargo bench --features profiling --bench growth              # all tables, some minutes
//! $ cargo bench --features profiling --bench growth -- depth     # one of them
//! ```
//! Each row runs in its own process, so that it does not inherit tables and caches from the one
//! before. Times are medians of processor time.

#[path = "../common/clock.rs"]
mod clock;
#[path = "../common/stacks.rs"]
mod stacks;

mod depth;
mod live;
mod measure;
mod modules;
mod threads;

use std::env;
use std::process::{Command, ExitCode};

use heapdrift::Alloc;

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

struct Table {
    name: &'static str,
    /// The titles of the columns, separated by `|`.
    head: &'static str,
    rows: &'static [usize],
    /// Measures a row and returns all columns but the first.
    measure: fn(usize) -> Vec<String>,
}

const TABLES: [Table; 5] = [
    Table {
        name: "live",
        head: "live samples | sampled pair, ns | pair at 512 KiB, ns | snapshot, ms | tick, ms | profiler, B per sample",
        rows: &[1_000, 10_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000],
        measure: live::by_samples,
    },
    Table {
        name: "stacks",
        head: "stacks | sampled pair, ns | pair at 512 KiB, ns | snapshot, ms | tick, ms | profiler, B per stack",
        rows: &[100, 1_000, 10_000, 100_000, 1_000_000],
        measure: live::by_stacks,
    },
    Table {
        name: "threads",
        head: "threads | pair before the session, ns | pair at 512 KiB, ns | sampled pair, ns",
        rows: &[1, 2, 4, 8, 16, 32, 64],
        measure: threads::row,
    },
    Table {
        name: "depth",
        head: "depth | sampled pair, ns | while the 10 innermost frames change, ns",
        rows: &[10, 20, 40, 60, 80, 100, 120],
        measure: depth::row,
    },
    Table {
        name: "modules",
        head: "modules | start, ms | sampled pair under 80 frames, 40 of them in the modules, ns | snapshot, ms",
        rows: &[1, 2, 5, 10, 20, 50, 100, 200],
        measure: modules::row,
    },
];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.as_slice() {
        [name, row] => {
            let Some(table) = TABLES.iter().find(|table| table.name == name) else {
                return unknown(name);
            };
            let row: usize = row.parse().expect("a row is a number");
            println!("| {row} | {} |", (table.measure)(row).join(" | "));
        }
        [name] => match TABLES.iter().find(|table| table.name == name) {
            Some(table) => print(table),
            None => return unknown(name),
        },
        [] => TABLES.iter().for_each(print),
        _ => return unknown(&arguments.join(" ")),
    }
    ExitCode::SUCCESS
}

fn unknown(name: &str) -> ExitCode {
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    eprintln!("error: expected one of {}, found {name}", names.join(", "));
    ExitCode::from(2)
}

fn print(table: &Table) {
    let columns = table.head.matches('|').count() + 1;
    println!("\n| {} |\n|{}", table.head, " --- |".repeat(columns));
    let program = env::current_exe().expect("a program has a path");
    for row in table.rows {
        let status = Command::new(&program).args([table.name, &row.to_string()]).status();
        let status = status.expect("this program can be run");
        assert!(status.success(), "{} {row}: {status}", table.name);
    }
}
