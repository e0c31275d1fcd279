//! The table of self and total.
//!
//! *self* is what a function allocated as the innermost function of a stack, *total* what it and
//! all the functions that it called allocated. A name that occurs twice in a stack (by recursion,
//! or as two inlined functions of one line) counts once, so no total exceeds the sum of all stacks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use heapdrift::Estimate;
use serde::Serialize;

use crate::heap::symbolized::Symbolized;
use crate::numbers::metric::Metric;
use crate::numbers::sum::Sum;
use crate::numbers::units;
use crate::output::terminal;
use crate::views::by::{By, of_frame, sites};

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The function, crate, line, stack or value of a label.
    pub name: String,
    /// The sum over the stacks whose innermost frame is in the row.
    #[serde(rename = "self")]
    pub own: Estimate,
    /// The sum over the stacks with a frame in the row.
    pub total: Estimate,
}

/// The rows, sorted by self, then by total, both descending, then by name. Rows with nothing in
/// them are left out.
pub fn table(heap: &Symbolized, by: &By, metric: Metric) -> Vec<Row> {
    let mut groups = Groups::default();
    match by {
        By::Function | By::Crate | By::Line => by_frame(&mut groups, heap, by, metric),
        By::Stack | By::Label(_) => whole_stacks(&mut groups, heap, by, metric),
    }
    groups.rows()
}

/// The sums of one row.
#[derive(Clone, Debug, Default)]
struct RowSums {
    own: Sum,
    total: Sum,
    /// The last stack that was added to `total`, counted from 1.
    last_stack: usize,
}

#[derive(Default)]
struct Groups {
    index: HashMap<String, usize>,
    names: Vec<String>,
    sums: Vec<RowSums>,
}

impl Groups {
    fn id(&mut self, name: Cow<'_, str>) -> usize {
        if let Some(&id) = self.index.get(&*name) {
            return id;
        }
        let (id, name) = (self.names.len(), name.into_owned());
        self.names.push(name.clone());
        self.sums.push(RowSums::default());
        self.index.insert(name, id);
        id
    }

    fn rows(self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .names
            .into_iter()
            .zip(self.sums)
            .map(|(name, sums)| {
                let (own, total) = (sums.own.estimate(), sums.total.estimate());
                Row { name, own, total }
            })
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

fn by_frame(groups: &mut Groups, heap: &Symbolized, by: &By, metric: Metric) {
    let group_of: Vec<usize> =
        heap.frames.iter().map(|frame| groups.id(of_frame(frame, by))).collect();
    for (number, stack) in (1..).zip(&heap.stacks) {
        let sum = Sum::from(metric.of(&stack.metrics));
        if let Some(&leaf) = stack.frames.first() {
            groups.sums[group_of[leaf as usize]].own += sum;
        }
        for &frame in &stack.frames {
            let sums = &mut groups.sums[group_of[frame as usize]];
            if sums.last_stack != number {
                sums.last_stack = number;
                sums.total += sum;
            }
        }
    }
}

fn whole_stacks(groups: &mut Groups, heap: &Symbolized, by: &By, metric: Metric) {
    for (stack, name) in heap.stacks.iter().zip(sites(heap, by)) {
        let id = groups.id(name);
        let sum = Sum::from(metric.of(&stack.metrics));
        groups.sums[id].own += sum;
        groups.sums[id].total += sum;
    }
}

/// The first `limit` rows as text with ANSI colours. [`anstream`] removes the colours if the output
/// is not a terminal, and [`render`] always does.
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
            let _ = writeln!(text, "{}", terminal::printable(&row.name));
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

/// The document of `top --json`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// The name of the metric on the command line.
    pub metric: String,
    /// The sum over all stacks.
    pub total: Estimate,
    /// The rows.
    pub rows: &'a [Row],
}
