//! Folded stacks: one line per stack, the outermost function first.
//!
//! Read by inferno, flamegraph.pl, speedscope and the Firefox Profiler. The format has no escapes,
//! so [`escape`] replaces what would be read as something else.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;

use heapdrift::Estimate;

use crate::heap::symbolized::{Stack, Symbolized};
use crate::numbers::metric::Metric;

/// The name of the frame that stands for missing outermost frames.
pub const TRUNCATED: &str = "[truncated]";

/// A folded stack and its estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Labels, then functions, root first, separated by `;`.
    pub stack: String,
    /// The sum over all stacks that fold to this text.
    pub estimate: Estimate,
}

/// The folded stacks, each once, sorted frame by frame.
///
/// Labels come first, as frames of their own: `route=/api/upload`.
pub fn lines(heap: &Symbolized, metric: Metric) -> Vec<Line> {
    Folded::new(heap, metric).lines()
}

/// Folded stacks, each once, sorted. Names are numbers here: comparing stacks of numbers takes a
/// tenth of the time of comparing text.
pub(crate) struct Folded<'a> {
    /// The distinct names, sorted.
    names: Vec<Cow<'a, str>>,
    /// Indices into `names`, root first, and the sum over all stacks that fold to them.
    stacks: Vec<(Vec<u32>, Estimate)>,
}

impl<'a> Folded<'a> {
    pub(crate) fn new(heap: &'a Symbolized, metric: Metric) -> Self {
        let frames: Vec<Cow<'_, str>> = heap.frames.iter().map(|f| escape(&f.function)).collect();
        let labels: Vec<Vec<String>> = heap.label_sets.iter().map(label_names).collect();
        let mut names = frames.clone();
        names.extend(labels.iter().flatten().cloned().map(Cow::Owned));
        names.push(TRUNCATED.into());
        names.sort_unstable();
        names.dedup();
        let number: HashMap<&str, u32> = names.iter().map(|name| &**name).zip(0..).collect();
        let frames: Vec<u32> = frames.iter().map(|name| number[&**name]).collect();
        let of_set = |set: &Vec<String>| set.iter().map(|name| number[name.as_str()]).collect();
        let labels: Vec<Vec<u32>> = labels.iter().map(of_set).collect();
        let numbered = |stack: &Stack| {
            let mut numbers = labels[stack.labels as usize].clone();
            numbers.reserve_exact(stack.frames.len() + 1);
            numbers.extend(stack.truncated.then(|| number[TRUNCATED]));
            numbers.extend(stack.frames.iter().rev().map(|&frame| frames[frame as usize]));
            (numbers, metric.of(&stack.metrics))
        };
        let mut stacks: Vec<(Vec<u32>, Estimate)> = heap.stacks.iter().map(numbered).collect();
        stacks.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut folded = Self { names, stacks };
        folded.add_up();
        folded
    }

    /// Adds up equal stacks, which are neighbours because `stacks` is sorted.
    fn add_up(&mut self) {
        self.stacks.dedup_by(|(stack, estimate), (kept, sum)| {
            let same = stack == kept;
            if same {
                *sum = *sum + *estimate;
            }
            same
        });
    }

    /// Cuts stacks where their frames become too narrow, so that about `max_frames` frames remain.
    /// A caller keeps what the removed frames below it held. Returns the width of the widest frame
    /// that was removed, if any was.
    pub(crate) fn prune(&mut self, max_frames: usize) -> Option<u64> {
        let mut widths = Vec::new();
        self.each_frame(|_, _, width| widths.push(width));
        if widths.len() <= max_frames {
            return None;
        }
        let (_, &mut widest, _) = widths.select_nth_unstable_by(max_frames, |a, b| b.cmp(a));
        // The outermost frames stay, because a stack has at least one frame.
        let mut depths = vec![usize::MAX; self.stacks.len()];
        self.each_frame(|stacks, depth, width| {
            if width <= widest {
                depths[stacks].iter_mut().for_each(|least| *least = depth.min(*least).max(1));
            }
        });
        for ((stack, _), depth) in self.stacks.iter_mut().zip(depths) {
            stack.truncate(depth);
        }
        self.add_up();
        Some(widest)
    }

    /// Calls `each` with every frame of the flamegraph: the range of stacks that it is in, its
    /// depth, and its width.
    fn each_frame(&self, mut each: impl FnMut(Range<usize>, usize, u64)) {
        let stacks = self.stacks.iter().map(|(stack, estimate)| (&**stack, rounded(*estimate)));
        // For each open frame, the first stack that it is in and the position where it begins.
        let mut open: Vec<(usize, u64)> = Vec::new();
        let (mut before, mut end): (&[u32], u64) = (&[], 0);
        for (at, (stack, width)) in stacks.chain([(&[][..], 0)]).enumerate() {
            let common = before.iter().zip(stack).take_while(|(a, b)| a == b).count();
            for (depth, (first, start)) in open.drain(common..).enumerate() {
                each(first..at, common + depth, end - start);
            }
            open.resize(stack.len(), (at, end));
            (before, end) = (stack, end.saturating_add(width));
        }
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        let line = |(stack, estimate): &(Vec<u32>, Estimate)| {
            let frames: Vec<&str> = stack.iter().map(|&name| &*self.names[name as usize]).collect();
            Line { stack: frames.join(";"), estimate: *estimate }
        };
        self.stacks.iter().map(line).collect()
    }
}

/// Writes the lines with values rounded to integers, and leaves out values that round to 0.
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

/// The value of a line, which the format wants as a whole number.
pub(crate) fn rounded(estimate: Estimate) -> u64 {
    estimate.value.round() as u64
}

/// The folded form of one stack, from `names` and `labels` that are escaped already.
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

/// A set of labels as frames, separated by `;`.
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

/// Makes a name safe to use as a frame.
///
/// `;` would end the frame, so it becomes `:`; flamegraph.pl's collapsers also write `[u8; 4]` as
/// `[u8: 4]`. Control characters, including line ends, become spaces. Spaces at either end are
/// removed. A name that ends in a space and digits would be read as a value, so that space becomes
/// `_`. A leading `#` would start a comment, so it becomes `_#`.
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
    fn escaped_names_cannot_be_read_as_values_or_comments() {
        assert_eq!(escape("a::<[u8; 4]>::b"), "a::<[u8: 4]>::b");
        assert_eq!(escape("two\nlines"), "two lines");
        assert_eq!(escape(" trailing "), "trailing");
        assert_eq!(escape("tenant=number 42"), "tenant=number_42");
        assert_eq!(escape("x 1 2"), "x 1_2");
        assert_eq!(escape("# no comment"), "_# no comment");
        assert_eq!(escape(""), "_");
        assert!(matches!(escape("plain::name"), Cow::Borrowed(_)));
    }

    #[test]
    fn pruning_keeps_the_widest_frames_and_adds_the_others_to_their_callers() {
        let folded = |stacks: &[(&[u32], f64)]| Folded {
            names: ["a", "b", "c", "d"].map(Cow::from).into(),
            stacks: stacks.iter().map(|(s, v)| (s.to_vec(), Estimate::new(*v, 3.0))).collect(),
        };
        // Widths: a 60, a;b 30, a;b;c 20, a;b;d 10, a;c 25, a;c;d 25, b 4.
        let stacks: [(&[u32], f64); 5] =
            [(&[0], 5.0), (&[0, 1, 2], 20.0), (&[0, 1, 3], 10.0), (&[0, 2, 3], 25.0), (&[1], 4.0)];
        let lines = |max| {
            let mut folded = folded(&stacks);
            let widest = folded.prune(max);
            let line = |line: Line| (line.stack, line.estimate.value, line.estimate.std_error);
            (widest, folded.lines().into_iter().map(line).collect::<Vec<_>>())
        };
        let line = |stack: &str, value, std_error| (stack.to_owned(), value, std_error);
        assert_eq!(lines(7).0, None);
        let all = lines(7).1;
        assert_eq!(all, lines(usize::MAX).1);
        assert_eq!(lines(6), (Some(4), all), "an outermost frame is kept");
        let two = 18.0_f64.sqrt();
        let rest = [line("a;c;d", 25.0, 3.0), line("b", 4.0, 3.0)];
        let pruned = [&[line("a", 5.0, 3.0), line("a;b", 30.0, two)], &rest[..]].concat();
        assert_eq!(lines(4), (Some(20), pruned));
    }
}
