//! Runs the subjects: one process per measurement, in rounds over all cells.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tempfile::TempDir;
use workloads::{Measurement, Request, Workload};

use crate::builder::Programs;
use crate::results::Results;
use crate::subject::{Subject, Wrapper};

/// A process that takes longer counts as hung.
const LIMIT: Duration = Duration::from_secs(300);

/// How much work each process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    Quick,
    Full,
}

impl Effort {
    /// The work in the workload's units: about 0.3 s over glibc, a quarter of that if quick, and
    /// for exact recorders what they do in a few seconds.
    pub fn units(self, workload: Workload, is_exact: bool) -> u64 {
        let (full, quick, exact) = match workload {
            Workload::Pair => (24_000_000, 6_000_000, 400_000),
            Workload::Churn => (2_000_000, 500_000, 200_000),
            Workload::Larson => (4_000_000, 1_000_000, 200_000),
            Workload::Xmalloc => (2_000_000, 500_000, 100_000),
            Workload::Growth => (20, 6, 2),
            Workload::Json => (20, 20, 2),
            Workload::Deep => (2_000_000, 500_000, 100_000),
            Workload::Search => (10, 3, 1),
            Workload::Format => (4, 1, 1),
        };
        match self {
            _ if is_exact => exact,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

pub struct Runner<'a> {
    programs: &'a Programs,
    effort: Effort,
    /// The processor for workloads with one thread.
    cpu: Option<usize>,
    sources: Vec<PathBuf>,
    /// Where wrappers write their files.
    scratch: TempDir,
}

impl<'a> Runner<'a> {
    pub fn new(
        programs: &'a Programs,
        effort: Effort,
        pin: bool,
        sources: Vec<PathBuf>,
    ) -> Result<Self> {
        // The last processor, because the first one serves most interrupts.
        let cpu = thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1);
        let scratch = TempDir::new().context("a temporary folder cannot be made")?;
        Ok(Self { programs, effort, cpu: pin.then_some(cpu), sources, scratch })
    }

    /// Runs all cells in rounds. Rows with the same baseline run one after another, and every other
    /// round runs backwards, so that the two runs of a ratio are seconds apart and neither is
    /// always first.
    pub fn run_rounds(&self, rounds: u32, results: &mut Results) {
        let exact_rounds = rounds.div_ceil(3);
        let cells = results.cells();
        let runs = |is_exact: bool| if is_exact { exact_rounds } else { rounds };
        let total: u32 = cells.iter().map(|cell| runs(results.subject(cell.row).is_exact)).sum();
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta}");
        let bar = ProgressBar::new(u64::from(total)).with_style(style.expect("a template"));
        for round in 0..rounds {
            if bar.is_hidden() {
                eprintln!("round {} of {rounds}", round + 1);
            }
            let mut cells = cells.clone();
            if round % 2 == 1 {
                cells.reverse();
            }
            for cell in cells {
                let subject = results.subject(cell.row).clone();
                if subject.is_exact && round >= exact_rounds {
                    continue;
                }
                bar.set_message(format!("{}: {}", cell.workload, subject.name));
                if !results.has_failed(cell) {
                    match self.run(&subject, cell.workload) {
                        Ok(measurement) => results.add(cell, round, measurement),
                        Err(error) => {
                            let why = format!("{error:#}");
                            bar.suspend(|| {
                                eprintln!("{} under {}: {why}", cell.workload, subject.name)
                            });
                            results.fail(cell, &why);
                        }
                    }
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
    }

    fn run(&self, subject: &Subject, workload: Workload) -> Result<Measurement> {
        let request = Request {
            workload,
            units: self.effort.units(workload, subject.is_exact),
            recording: subject.recording,
            cpu: self.cpu.filter(|_| !workload.is_threaded()),
            sources: self.sources.clone(),
        };
        let program = self.programs.get(&subject.program).context("not built")?;
        let mut command = self.command(subject.wrapper, program)?;
        command.arg(serde_json::to_string(&request)?).envs(environment(subject));
        let output = output(command)?;
        // A wrapper may print lines of its own.
        let answer = output.lines().find(|line| line.starts_with('{'));
        serde_json::from_str(answer.context("no measurement")?).context("no measurement")
    }

    fn command(&self, wrapper: Option<Wrapper>, program: &PathBuf) -> Result<Command> {
        let Some(wrapper) = wrapper else { return Ok(Command::new(program)) };
        let mut command = Command::new(wrapper.command());
        match wrapper {
            Wrapper::Heaptrack => {
                command.arg("--raw").arg("-o").arg(self.scratch.path().join("heaptrack"))
            }
            Wrapper::ValgrindDhat => {
                let file = self.scratch.path().join("dhat").display().to_string();
                command.args(["--quiet", "--tool=dhat"]).arg(format!("--dhat-out-file={file}"))
            }
        };
        command.arg(program);
        Ok(command)
    }
}

/// The environment of every process of the subject.
pub fn environment(subject: &Subject) -> Vec<(&'static str, String)> {
    // Otherwise the last block decides by chance whether glibc returns the top of its heap to the
    // system, and page faults then decide the ratio.
    let mut environment = vec![("MALLOC_TRIM_THRESHOLD_", "4294967296".to_owned())];
    environment.extend(subject.environment.iter().cloned());
    environment
}

/// The standard output of a command. If the command fails, the error has the last line of its
/// standard error; if it hangs, the error says so.
fn output(mut command: Command) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be run", command.get_program().display()))?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let words = thread::spawn(move || read(&mut stderr));
    let answer = thread::spawn(move || read(&mut stdout));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            bail!("hangs: not done after {} s", LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(2));
    };
    let answer = answer.join().unwrap_or_default();
    if !status.success() {
        let words = words.join().unwrap_or_default();
        let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("{status}: {last}");
    }
    Ok(answer)
}

fn read(from: &mut Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // After an error, what was read so far is returned.
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
