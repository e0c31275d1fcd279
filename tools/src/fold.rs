//! Folded stacks: one line a stack, the outermost function first.
//!
//! Read by inferno, flamegraph.pl, speedscope and the Firefox Profiler. The format has no escapes,
//! so what would be read as something else is replaced: see [`escape`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use heapdrift::Estimate;

use crate::Metric;
use crate::symbolized::{Stack, Symbolized};

/// The frame that stands for missing outermost frames.
pub const TRUNCATED: &str = "[truncated]";

/// A folded stack and its estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Labels, then functions, root first, `;` between.
    pub stack: String,
    /// The estimate of all stacks that fold to this one.
    pub estimate: Estimate,
}

/// The folded stacks, sorted as text, each once.
///
/// Labels come first, as frames of their own: `route=/api/upload`.
pub fn lines(heap: &Symbolized, metric: Metric) -> Vec<Line> {
    let names: Vec<Cow<'_, str>> = heap.frames.iter().map(|f| escape(&f.function)).collect();
    let labels: Vec<String> = heap.label_sets.iter().map(label_frames).collect();
    let mut sums: BTreeMap<String, Vec<Estimate>> = BTreeMap::new();
    for stack in &heap.stacks {
        let estimate = metric.of(&stack.metrics);
        sums.entry(fold(stack, &names, &labels)).or_default().push(estimate);
    }
    sums.into_iter()
        .map(|(stack, estimates)| Line { stack, estimate: estimates.into_iter().sum() })
        .collect()
}

/// Writes the lines with values rounded to integers, leaving out those that round to 0.
///
/// # Errors
/// Those of the writer.
pub fn write(heap: &Symbolized, metric: Metric, out: &mut dyn Write) -> io::Result<()> {
    for line in lines(heap, metric) {
        let value = rounded(line.estimate);
        if value > 0 {
            writeln!(out, "{} {value}", line.stack)?;
        }
    }
    Ok(())
}

/// The value of a line: folded stacks are whole numbers.
pub(crate) fn rounded(estimate: Estimate) -> u64 {
    estimate.value.round() as u64
}

/// The folded form of one stack: `names` and `labels` are escaped already.
pub(crate) fn fold(stack: &Stack, names: &[Cow<'_, str>], labels: &[String]) -> String {
    let mut folded = labels[stack.labels as usize].clone();
    if stack.truncated {
        push(&mut folded, TRUNCATED);
    }
    for &frame in stack.frames.iter().rev() {
        push(&mut folded, &names[frame as usize]);
    }
    folded
}

/// A set of labels as frames.
pub(crate) fn label_frames(labels: &BTreeMap<String, String>) -> String {
    let mut folded = String::new();
    for (key, value) in labels {
        push(&mut folded, &escape(&format!("{key}={value}")));
    }
    folded
}

fn push(folded: &mut String, frame: &str) {
    if !folded.is_empty() {
        folded.push(';');
    }
    folded.push_str(frame);
}

/// Makes a name safe as a frame.
///
/// `;` would end the frame and becomes `:` (`[u8; 4]` is `[u8: 4]`, as flamegraph.pl's collapsers
/// write it). Control characters, line ends among them, become blanks. Blanks at either end go.
/// A name that ends in a blank and digits would be read as a value, so that blank becomes `_`; and
/// a leading `#`, which would make the line a comment, `_#`.
pub fn escape(name: &str) -> Cow<'_, str> {
    let ambiguous = |name: &str| {
        name.rsplit_once(' ')
            .is_some_and(|(_, end)| end.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    let trimmed = name.trim();
    if !trimmed.is_empty()
        && !trimmed.contains(|c: char| c == ';' || c.is_control())
        && !trimmed.starts_with('#')
        && !ambiguous(trimmed)
    {
        return Cow::Borrowed(trimmed);
    }
    let mut safe: String = trimmed
        .chars()
        .map(|c| match c {
            ';' => ':',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect();
    if ambiguous(&safe)
        && let Some(at) = safe.rfind(' ')
    {
        safe.replace_range(at..=at, "_");
    }
    if safe.is_empty() || safe.starts_with('#') {
        safe.insert(0, '_');
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_be_read_as_something_else() {
        assert_eq!(escape("a::<[u8; 4]>::b"), "a::<[u8: 4]>::b");
        assert_eq!(escape("two\nlines"), "two lines");
        assert_eq!(escape(" trailing "), "trailing");
        assert_eq!(escape("tenant=number 42"), "tenant=number_42");
        assert_eq!(escape("x 1 2"), "x 1_2");
        assert_eq!(escape("# no comment"), "_# no comment");
        assert_eq!(escape(""), "_");
        assert!(matches!(escape("plain::name"), Cow::Borrowed(_)));
    }
}
