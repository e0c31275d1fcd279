//! The table of self and total.
//!
//! *self* is what the innermost function of a stack allocated, *total* what a function and all it
//! called did. A name that occurs twice in a stack (recursion, or two inlined functions of one
//! line) counts once, so no total is above the sum of all stacks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::str::FromStr;

use anstyle::{AnsiColor, Style};
use heapdrift::Estimate;
use serde::Serialize;

use crate::heap::fold;
use crate::heap::symbolized::{Frame, Stack, Symbolized};
use crate::numbers::metric::Metric;
use crate::numbers::units;

/// What a row of the table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// A function, whatever line of it.
    #[default]
    Function,
    /// A crate, or a module of another language.
    Crate,
    /// A line of source.
    Line,
    /// A whole stack, with its labels, in folded form: root first, `;` between.
    Stack,
    /// A value of the label with this key. Self and total are the same then.
    Label(String),
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "function" => Ok(Self::Function),
            "crate" => Ok(Self::Crate),
            "line" => Ok(Self::Line),
            "stack" => Ok(Self::Stack),
            _ => match text.strip_prefix("label:") {
                Some(key) if !key.is_empty() => Ok(Self::Label(key.to_owned())),
                _ => Err("expected function, crate, line, stack or label:KEY".into()),
            },
        }
    }
}

impl By {
    /// The heading of the names.
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Function => "function",
            Self::Crate => "crate",
            Self::Line => "line",
            Self::Stack => "stack",
            Self::Label(key) => key,
        }
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What it is about.
    pub name: String,
    /// Of the innermost function alone.
    #[serde(rename = "self")]
    pub own: Estimate,
    /// With everything it called.
    pub total: Estimate,
}

/// The rows, the largest self first, then the largest total, then by name. Rows of which nothing
/// was allocated are left out.
pub fn table(heap: &Symbolized, by: &By, metric: Metric) -> Vec<Row> {
    let mut groups = Groups::default();
    match by {
        By::Function | By::Crate | By::Line => by_frame(&mut groups, heap, by, metric),
        By::Stack | By::Label(_) => whole_stacks(&mut groups, heap, by, metric),
    }
    groups.rows()
}

/// Of each stack, the name of the row that it is the self of.
pub(crate) fn sites<'a>(heap: &'a Symbolized, by: &By) -> Vec<Cow<'a, str>> {
    match by {
        By::Function | By::Crate | By::Line => {
            let names: Vec<Cow<'a, str>> = heap.frames.iter().map(|f| of_frame(f, by)).collect();
            let leaf = |stack: &Stack| stack.frames.first().copied();
            let stacks = heap.stacks.iter();
            stacks.map(|s| leaf(s).map_or("".into(), |f| names[f as usize].clone())).collect()
        }
        By::Stack => {
            let names: Vec<Cow<'_, str>> =
                heap.frames.iter().map(|f| fold::escape(&f.function)).collect();
            let labels: Vec<String> = heap.label_sets.iter().map(fold::label_frames).collect();
            heap.stacks.iter().map(|stack| fold::fold(stack, &names, &labels).into()).collect()
        }
        By::Label(key) => {
            let value = |stack: &Stack| heap.label_sets[stack.labels as usize].get(key);
            let stacks = heap.stacks.iter();
            stacks
                .map(|s| value(s).map_or_else(|| format!("(no {key})").into(), |v| v.into()))
                .collect()
        }
    }
}

/// The name of the row that a frame counts for.
fn of_frame<'a>(frame: &'a Frame, by: &By) -> Cow<'a, str> {
    match by {
        By::Crate => frame.krate.as_str().into(),
        By::Line => frame.place().into(),
        _ => frame.function.as_str().into(),
    }
}

/// Sums of one name. Standard errors are kept squared: stacks are independent, variances add.
#[derive(Clone, Debug, Default)]
struct Sums {
    own: Estimate,
    total: Estimate,
    /// The last stack that was added to `total`, counted from 1.
    seen_in: usize,
}

#[derive(Default)]
struct Groups {
    index: HashMap<String, usize>,
    names: Vec<String>,
    sums: Vec<Sums>,
}

impl Groups {
    fn id(&mut self, name: Cow<'_, str>) -> usize {
        if let Some(&id) = self.index.get(&*name) {
            return id;
        }
        let (id, name) = (self.names.len(), name.into_owned());
        self.names.push(name.clone());
        self.sums.push(Sums::default());
        self.index.insert(name, id);
        id
    }

    fn rows(self) -> Vec<Row> {
        let root = |e: Estimate| Estimate::new(e.value, e.std_error.sqrt());
        let mut rows: Vec<Row> = self
            .names
            .into_iter()
            .zip(self.sums)
            .map(|(name, sums)| Row { name, own: root(sums.own), total: root(sums.total) })
            .filter(|row| row.total.value != 0.0 || row.total.std_error != 0.0)
            .collect();
        rows.sort_by(|a, b| {
            let by_own = b.own.value.total_cmp(&a.own.value);
            let by_total = b.total.value.total_cmp(&a.total.value);
            by_own.then(by_total).then_with(|| a.name.cmp(&b.name))
        });
        rows
    }
}

fn accumulate(sum: &mut Estimate, estimate: Estimate) {
    sum.value += estimate.value;
    sum.std_error += estimate.std_error * estimate.std_error;
}

fn by_frame(groups: &mut Groups, heap: &Symbolized, by: &By, metric: Metric) {
    let group_of: Vec<usize> =
        heap.frames.iter().map(|frame| groups.id(of_frame(frame, by))).collect();
    for (number, stack) in (1..).zip(&heap.stacks) {
        let estimate = metric.of(&stack.metrics);
        if let Some(&leaf) = stack.frames.first() {
            accumulate(&mut groups.sums[group_of[leaf as usize]].own, estimate);
        }
        for &frame in &stack.frames {
            let sums = &mut groups.sums[group_of[frame as usize]];
            if sums.seen_in != number {
                sums.seen_in = number;
                accumulate(&mut sums.total, estimate);
            }
        }
    }
}

fn whole_stacks(groups: &mut Groups, heap: &Symbolized, by: &By, metric: Metric) {
    for (stack, name) in heap.stacks.iter().zip(sites(heap, by)) {
        let id = groups.id(name);
        let estimate = metric.of(&stack.metrics);
        accumulate(&mut groups.sums[id].own, estimate);
        accumulate(&mut groups.sums[id].total, estimate);
    }
}

/// The first `limit` rows as text with ANSI colours; [`anstream`] takes them out where they do not
/// belong, [`render`] always.
pub fn render_styled(
    heap: &Symbolized,
    by: &By,
    metric: Metric,
    rows: &[Row],
    limit: usize,
) -> String {
    let bold = Style::new().bold();
    let dim = Style::new().dimmed();
    let number = Style::new().fg_color(Some(AnsiColor::Yellow.into()));
    let bytes = metric.is_bytes();
    let whole = metric.of(&heap.totals);
    let mut text = format!(
        "{bold}{}{bold:#}: {number}{}{number:#}{dim}, sampling interval {}, {} rows{dim:#}\n",
        metric.title(),
        units::estimate(whole, bytes),
        units::bytes(heap.origin.interval_bytes),
        units::count(rows.len() as f64),
    );
    let shown = &rows[..limit.min(rows.len())];
    let cell = |estimate: Estimate| {
        [
            units::amount(estimate.value, bytes),
            units::amount(estimate.std_error, bytes),
            units::percent(estimate.value, whole.value),
        ]
    };
    let cells: Vec<[[String; 3]; 2]> =
        shown.iter().map(|row| [cell(row.own), cell(row.total)]).collect();
    let width = |side: usize, part: usize, least: usize| {
        cells.iter().map(|row| row[side][part].chars().count()).max().unwrap_or(0).max(least)
    };
    let widths = [0, 1].map(|side| [width(side, 0, 5), width(side, 1, 1), width(side, 2, 4)]);
    let heading = |side: usize, title: &str| {
        let [value, error, share] = widths[side];
        format!("{title:>value$}   {:error$}  {:>share$}", "", "%")
    };
    let first = match by {
        By::Stack => "stack, innermost first",
        _ => by.title(),
    };
    let _ =
        writeln!(text, "{bold}{}  {}  {first}{bold:#}", heading(0, "self"), heading(1, "total"));
    for (row, cells) in shown.iter().zip(&cells) {
        for (cells, [value, error, share]) in cells.iter().zip(widths) {
            let _ = write!(
                text,
                "{number}{:>value$}{number:#} {dim}± {:<error$}{dim:#}  {:>share$}  ",
                cells[0], cells[1], cells[2]
            );
        }
        if *by == By::Stack {
            let indent = widths.iter().flatten().sum::<usize>() + 2 * (3 + 2 + 2);
            let mut frames = row.name.rsplit(';');
            let _ = writeln!(text, "{}", frames.next().unwrap_or_default());
            for frame in frames {
                let _ = writeln!(text, "{:indent$}{dim}← {frame}{dim:#}", "");
            }
        } else {
            let _ = writeln!(text, "{}", printable(&row.name));
        }
    }
    if shown.len() < rows.len() {
        let _ = writeln!(text, "{dim}… and {} more{dim:#}", rows.len() - shown.len());
    }
    text
}

/// The first `limit` rows as plain text, below a line with the sum of all of them.
pub fn render(heap: &Symbolized, by: &By, metric: Metric, rows: &[Row], limit: usize) -> String {
    anstream::adapter::strip_str(&render_styled(heap, by, metric, rows, limit)).to_string()
}

/// Labels and paths come from the recorded program: they must not steer a terminal.
pub(crate) fn printable(name: &str) -> Cow<'_, str> {
    if name.contains(char::is_control) {
        name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        name.into()
    }
}

/// The document of `top --json`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// As on the command line.
    pub metric: String,
    /// The sum over all stacks.
    pub total: Estimate,
    /// The rows.
    pub rows: &'a [Row],
}
