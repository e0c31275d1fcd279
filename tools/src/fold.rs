//! Folded stacks: one line a stack, the outermost function first.
//!
//! Read by inferno, flamegraph.pl, speedscope and the Firefox Profiler. The format has no escapes,
//! so what would be read as something else is replaced: see [`escape`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
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

/// The folded stacks, sorted frame by frame, each once.
///
/// Labels come first, as frames of their own: `route=/api/upload`.
pub fn lines(heap: &Symbolized, metric: Metric) -> Vec<Line> {
    let names: Vec<Cow<'_, str>> = heap.frames.iter().map(|f| escape(&f.function)).collect();
    let labels: Vec<Vec<String>> = heap.label_sets.iter().map(label_names).collect();
    // Numbers in the order of names: stacks of numbers are compared in a tenth of the time.
    let mut order: Vec<&str> = names.iter().map(|name| &**name).collect();
    order.extend(labels.iter().flatten().map(String::as_str));
    order.push(TRUNCATED);
    order.sort_unstable();
    order.dedup();
    let number: HashMap<&str, u32> = order.iter().copied().zip(0..).collect();
    let names: Vec<u32> = names.iter().map(|name| number[&**name]).collect();
    let of_set = |set: &Vec<String>| set.iter().map(|name| number[name.as_str()]).collect();
    let labels: Vec<Vec<u32>> = labels.iter().map(of_set).collect();
    let numbered = |stack: &Stack| {
        let mut frames = labels[stack.labels as usize].clone();
        frames.reserve_exact(stack.frames.len() + 1);
        frames.extend(stack.truncated.then(|| number[TRUNCATED]));
        frames.extend(stack.frames.iter().rev().map(|&frame| names[frame as usize]));
        (frames, metric.of(&stack.metrics))
    };
    let mut stacks: Vec<(Vec<u32>, Estimate)> = heap.stacks.iter().map(numbered).collect();
    stacks.sort_by(|(a, _), (b, _)| a.cmp(b));
    let line = |same: &[(Vec<u32>, Estimate)]| {
        let frames: Vec<&str> = same[0].0.iter().map(|&name| order[name as usize]).collect();
        Line { stack: frames.join(";"), estimate: same.iter().map(|(_, estimate)| *estimate).sum() }
    };
    stacks.chunk_by(|(a, _), (b, _)| a == b).map(line).collect()
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
    label_names(labels).join(";")
}

fn label_names(labels: &BTreeMap<String, String>) -> Vec<String> {
    labels.iter().map(|(key, value)| escape(&format!("{key}={value}")).into_owned()).collect()
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
