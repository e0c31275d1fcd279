//! What the leak detector says about a run: each verdict as it changes, and the report at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use heapdrift::{Builder, LeakCandidate, LeakReport, Verdict};

use super::Run;

impl Run {
    /// Sets the baseline of the detector, and prints each verdict that changes.
    pub(super) fn follow_leaks(&self, mut builder: Builder) -> Builder {
        if let Some(baseline) = &self.options.baseline {
            builder = builder.baseline(baseline);
        }
        let (output, before) = (self.output, Mutex::new(Vec::new()));
        builder.on_report(move |report| {
            let now = verdicts(report);
            let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
            for (verdict, function) in now.iter().filter(|given| !before.contains(*given)) {
                let seconds = report.uptime_ms as f64 / 1e3;
                output.say(format_args!(
                    "  tick {} ({seconds:.1} s): {verdict} {function}",
                    report.tick
                ));
            }
            *before = now;
        })
    }

    /// Prints a report and writes it into the folder `out`.
    pub(super) fn show_leaks(&self, report: &LeakReport, out: &Path) -> Result<PathBuf> {
        self.say(format_args!("\n{}", report.to_string().trim_end()));
        let file = out.join("leaks.json");
        fs::write(&file, report.to_json() + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

/// The verdict on each candidate, by function and labels.
fn verdicts(report: &LeakReport) -> Vec<(Verdict, String)> {
    let verdict = |candidate: &LeakCandidate| {
        let labels = candidate.labels.iter().map(|(key, value)| format!(", {key}={value}"));
        (candidate.verdict, candidate.function.clone() + &labels.collect::<String>())
    };
    report.candidates.iter().map(verdict).collect()
}
