//! One run of an outage: a service under load, recorded, and the results at the end.
//!
//! The examples share this module. Each of them brings a faulty service, its healthy twin and its
//! traffic. This module has the command line, the recording and the results:
//!
//! ```text
//! main ── Run (options) ── record ──> Recording ─────────────── end ──> tables, leaks, files
//!                 └─────── serve_under_load (routes, Traffic) ──┘
//! ```

pub mod client;
mod leaks;
mod options;
mod recording;
mod server;
pub mod traffic;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use options::Options;
pub use server::serve_under_load;

/// Exit status for bad usage and for a file, folder or port that cannot be used.
const EXIT_UNUSABLE: u8 = 2;

/// Reads the command line, runs the outage called `name`, and turns an error into one line.
pub fn main(
    name: &'static str,
    about: &'static str,
    outage: impl FnOnce(&Run) -> Result<()>,
) -> ExitCode {
    let options = Options::parse_as(name, about);
    let output = if options.json { Output::Stderr } else { Output::Stdout };
    let run = Run { name, options, output };
    run.say(run.headline());
    match outage(&run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

/// One run, as configured by the command line.
#[derive(Debug)]
pub struct Run {
    name: &'static str,
    options: Options,
    output: Output,
}

/// Where lines for people go. With `--json`, standard output has the document only.
#[derive(Clone, Copy, Debug)]
enum Output {
    Stdout,
    Stderr,
}

impl Output {
    fn say(self, line: impl Display) {
        match self {
            Self::Stdout => println!("{line}"),
            Self::Stderr => eprintln!("{line}"),
        }
    }
}

impl Run {
    /// Whether the healthy twin runs instead of the faulty service.
    pub fn fixed(&self) -> bool {
        self.options.fixed
    }

    /// How long the load runs.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.options.seconds)
    }

    /// Prints a line for people.
    pub fn say(&self, line: impl Display) {
        self.output.say(line);
    }

    fn headline(&self) -> String {
        let version = if self.options.fixed { "fixed" } else { "faulty" };
        let recorded = if cfg!(feature = "profiling") {
            format!(
                "recorded at a mean of one sample every {} KiB, a tick every {:.1} s",
                self.options.interval as f64 / 1024.0,
                self.tick().as_secs_f64()
            )
        } else {
            "not recorded (built without --features profiling)".to_owned()
        };
        format!("{}: {version} service, {} s of load, {recorded}", self.name, self.options.seconds)
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(self.options.tick)
    }

    fn out(&self) -> PathBuf {
        self.options.out.clone().unwrap_or_else(|| PathBuf::from("heapdrift-out").join(self.name))
    }
}
