//! A report as a text that fits on one screen.

use std::fmt;

use super::candidate::{BaselineStatus, EvidenceKind, LeakCandidate};
use super::frame::{Frame, Kind};
use super::leak_report::LeakReport;
use super::verdict::Verdict;
use crate::estimate::Estimate;

/// Candidates that are printed unless a precision says how many; the rest are counted.
const SHOWN: usize = 3;

/// Frames of a candidate's stack that are printed.
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
            "leaks at tick {} (up {}): {} confirmed, {} suspect, {} retracted, of {} call sites",
            self.tick,
            time(self.uptime_ms),
            count(Verdict::Confirmed),
            count(Verdict::Suspect),
            count(Verdict::Retracted),
            self.tested_sites
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
            writeln!(f, "  your code {}", Place(frame))?;
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
        self.evidence(f)?;
        for (at, frame) in self.stack.iter().take(FRAMES).enumerate() {
            writeln!(f, "  {}{}", if at == 0 { "stack     " } else { "          " }, Place(frame))?;
        }
        if self.stack.len() > FRAMES {
            writeln!(f, "            … {} more frames", self.stack.len() - FRAMES)?;
        }
        Ok(())
    }
}

impl LeakCandidate {
    fn evidence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let evidence = &self.evidence;
        if evidence.kind == EvidenceKind::Container {
            let steps = evidence.steps.len();
            let ticks: Vec<String> =
                evidence.steps.iter().map(|(tick, _)| tick.to_string()).collect();
            return writeln!(
                f,
                "  evidence  a container that only grows: {steps} steps, at ticks {}",
                ticks.join(", ")
            );
        }
        writeln!(
            f,
            "  evidence  {} sampled objects older than {} ticks alive, {} such died; e-value 10^{:.1} (needs 10^{:.1})",
            evidence.mature_alive,
            evidence.mature_age,
            evidence.mature_deaths,
            evidence.log10_e,
            evidence.log10_threshold
        )?;
        writeln!(
            f,
            "  births    {} of those alive, from the start to now, at {} call {}; suspected since tick {}",
            sparkline(&evidence.cohorts),
            evidence.sites,
            if evidence.sites == 1 { "site" } else { "sites" },
            self.first_seen_tick
        )
    }
}

/// `authlib 0.3.1 (dependency)`.
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

/// `login::refresh (src/login.rs:88)`.
struct Place<'a>(&'a Frame);

impl fmt::Display for Place<'_> {
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

/// `41.0 ± 6.0 MiB`, both in the unit of the value.
struct Bytes(Estimate);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let (mut scale, mut unit) = (1.0, 0);
        while self.0.value.abs() / scale >= 1024.0 && unit + 1 < UNITS.len() {
            scale *= 1024.0;
            unit += 1;
        }
        let digits = if unit == 0 || self.0.value / scale >= 100.0 { 0 } else { 1 };
        let (value, error) = (self.0.value / scale, self.0.std_error / scale);
        write!(f, "{value:.digits$} ± {error:.digits$} {}", UNITS[unit])
    }
}

/// `▁▂▄█`, one character a number.
fn sparkline(numbers: &[u64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = numbers.iter().copied().max().unwrap_or(0).max(1);
    // In a damaged dump they may be of any size.
    let level = |number: &u64| (u128::from(*number) * 7).div_ceil(highest.into());
    numbers.iter().map(|number| LEVELS[level(number) as usize]).collect()
}

/// `2 d 3 h`, `3 h 20 min`, `45 s`.
fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{:.1} s", ms as f64 / 1e3),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
