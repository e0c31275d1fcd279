//! Reports as text that fits on one screen.

use std::fmt;

use super::candidate::{BaselineStatus, EvidenceKind, LeakCandidate};
use super::frame::{Frame, Kind};
use super::leak_report::LeakReport;
use super::verdict::Verdict;
use crate::estimate::Estimate;
use crate::units::binary_unit;

/// The number of candidates that are printed if the format has no precision. The others are only
/// counted.
const SHOWN: usize = 3;

/// The number of frames of each candidate's stack that are printed.
const FRAMES: usize = 4;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Suspect => "suspect",
            Self::Confirmed => "confirmed",
            Self::Retracted => "retracted",
        })
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |verdict| self.with_verdict(verdict).count();
        writeln!(
            f,
            "leaks at tick {} (up {}): {} confirmed, {} suspect, {} retracted, of {}",
            self.tick,
            time(self.uptime_ms),
            count(Verdict::Confirmed),
            count(Verdict::Suspect),
            count(Verdict::Retracted),
            plural(self.tested_sites, "call site")
        )?;
        if let Some(problem) = &self.baseline_problem {
            writeln!(f, "no comparison with the baseline: {problem}")?;
        }
        let shown = f.precision().unwrap_or(SHOWN);
        for candidate in self.candidates.iter().take(shown) {
            writeln!(f)?;
            candidate.fmt(f)?;
        }
        let more = self.candidates.len().saturating_sub(shown) as u64;
        let more = more.saturating_add(self.omitted);
        if more > 0 {
            writeln!(f, "\n… and {more} more")?;
        }
        Ok(())
    }
}

impl fmt::Display for LeakCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = Bytes(self.leaked_bytes_per_hour);
        writeln!(f, "{}: {rate}/h kept by {} under {}", self.verdict, Crate(self), self.function)?;
        let live = self.live_count;
        writeln!(
            f,
            "  live      {} in {:.0} ± {:.0} objects",
            Bytes(self.live_bytes),
            live.value,
            live.std_error
        )?;
        if let Some(frame) = &self.blame.own_frame {
            writeln!(f, "  your code {}", SourceLine(frame))?;
        }
        if !self.labels.is_empty() {
            let labels: Vec<String> =
                self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            writeln!(f, "  labels    {}", labels.join(" "))?;
        }
        match self.baseline {
            None => {}
            Some(BaselineStatus::New) => writeln!(f, "  baseline  new since the baseline")?,
            Some(BaselineStatus::Worse) => {
                writeln!(f, "  baseline  in the baseline too, and worse now")?
            }
            Some(BaselineStatus::Known) => writeln!(f, "  baseline  in the baseline too: not new")?,
        }
        self.write_evidence(f)?;
        for (at, frame) in self.stack.iter().take(FRAMES).enumerate() {
            writeln!(
                f,
                "  {}{}",
                if at == 0 { "stack     " } else { "          " },
                SourceLine(frame)
            )?;
        }
        if self.stack.len() > FRAMES {
            let more = (self.stack.len() - FRAMES) as u64;
            writeln!(f, "            … {}", plural(more, "more frame"))?;
        }
        Ok(())
    }
}

impl LeakCandidate {
    fn write_evidence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let evidence = &self.evidence;
        if evidence.kind == EvidenceKind::Container {
            let steps = evidence.steps.len();
            let ticks: Vec<String> =
                evidence.steps.iter().map(|(tick, _)| tick.to_string()).collect();
            let (steps, ticks) = (plural(steps as u64, "step"), ticks.join(", "));
            return writeln!(
                f,
                "  evidence  a container that only grows: {steps}, at ticks {ticks}"
            );
        }
        let (alive, age) = (evidence.mature_alive, plural(evidence.mature_age, "tick"));
        f.write_str("  evidence  ")?;
        match evidence.mature_deaths {
            0 => write!(f, "none of {alive} sampled objects older than {age} has been freed")?,
            freed => {
                write!(f, "{alive} sampled objects older than {age} are live, {freed} were freed")?
            }
        }
        // The e-value of a healthy call site exceeds 10^n with a probability of at most 1 in 10^n
        // (Ville's inequality). Rounding the exponent down keeps the sentence true.
        let odds = evidence.log10_e.floor();
        if odds < 1.0 {
            writeln!(f, "; a healthy call site may look like that")?;
        } else {
            let needed = evidence.log10_threshold;
            writeln!(
                f,
                "; the odds of that at a healthy call site are below 1 in 10^{odds:.0} \
                 (1 in 10^{needed:.1} confirms)"
            )?;
        }
        writeln!(
            f,
            "  births    {} of live objects, from the start to now, at {}; suspected since tick {}",
            sparkline(&evidence.cohorts),
            plural(evidence.sites, "call site"),
            self.first_seen_tick
        )
    }
}

/// Prints a crate as `authlib 0.3.1 (dependency)`.
struct Crate<'a>(&'a LeakCandidate);

impl fmt::Display for Crate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blame = &self.0.blame;
        f.write_str(blame.crate_name.as_deref().unwrap_or("an unknown crate"))?;
        if let Some(version) = &blame.version {
            write!(f, " {version}")?;
        }
        match blame.kind {
            Kind::Own => f.write_str(" (own)"),
            Kind::Dependency => f.write_str(" (dependency)"),
            Kind::Std => f.write_str(" (std)"),
            Kind::C => f.write_str(" (C)"),
            _ => Ok(()),
        }
    }
}

/// Prints a frame as `login::refresh (src/login.rs:88)`.
struct SourceLine<'a>(&'a Frame);

impl fmt::Display for SourceLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        f.write_str(&frame.function)?;
        match (&frame.file, frame.line) {
            (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
            (Some(file), None) => write!(f, " ({file})"),
            _ => Ok(()),
        }
    }
}

/// Prints bytes as `41.0 ± 6.0 MiB`. The error has the unit of the value.
struct Bytes(Estimate);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scale, unit) = binary_unit(self.0.value, 0);
        let (value, error) = (self.0.value / scale, self.0.std_error / scale);
        let digits = if scale == 1.0 || value >= 100.0 { 0 } else { 1 };
        write!(f, "{value:.digits$} ± {error:.digits$} {unit}")
    }
}

/// Returns `1 tick` or `2 ticks`.
fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Draws a curve like `▁▂▄█`, with one character for each number.
fn sparkline(numbers: &[u64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = numbers.iter().copied().max().unwrap_or(0).max(1);
    // A damaged dump may contain any numbers, so the product must not overflow.
    let level = |number: &u64| (u128::from(*number) * 7).div_ceil(highest.into());
    numbers.iter().map(|number| LEVELS[level(number) as usize]).collect()
}

/// Returns a duration as `2 d 3 h`, `3 h 20 min`, `20 min 5 s` or `45.0 s`.
fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{:.1} s", ms as f64 / 1e3),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
