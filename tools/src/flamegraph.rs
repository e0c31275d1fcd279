//! The flamegraph: an SVG by inferno, in which every frame also has its standard error.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use heapdrift::Estimate;

use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{Options, TextTruncateDirection};

use crate::fold::{self, Line};
use crate::symbolized::Symbolized;
use crate::{Metric, output, units};

/// Writes the flamegraph of one quantity to `path`, atomically; `-` is standard output.
///
/// # Errors
/// Those of the file system.
pub fn write(heap: &Symbolized, metric: Metric, path: &Path) -> io::Result<()> {
    let svg = svg(heap, metric)?;
    output::write(path, |out| out.write_all(svg.as_bytes()))
}

/// The flamegraph of one quantity.
///
/// Widths are estimates rounded to whole bytes or objects; labels are the frames next to the root.
/// Where there is nothing to draw, the picture says so.
///
/// # Errors
/// None that is known; inferno's are passed on.
pub fn svg(heap: &Symbolized, metric: Metric) -> io::Result<String> {
    let mut lines = fold::lines(heap, metric);
    lines.retain(|line| fold::rounded(line.estimate) > 0);
    if lines.is_empty() {
        return Ok(empty(&title(heap, metric), &subtitle(heap, metric)));
    }
    by_frames(&mut lines);
    let texts: Vec<String> =
        lines.iter().map(|l| format!("{} {}", l.stack, fold::rounded(l.estimate))).collect();
    let mut options = Options::default();
    options.title = title(heap, metric);
    options.subtitle = Some(subtitle(heap, metric));
    drawn(options, &lines, &texts, metric)
}

/// Writes the flamegraph of one quantity, coloured by what it was in `base`, to `path`.
///
/// # Errors
/// Those of the file system.
pub fn write_diff(
    base: &Symbolized,
    heap: &Symbolized,
    metric: Metric,
    path: &Path,
) -> io::Result<()> {
    let svg = svg_diff(base, heap, metric)?;
    output::write(path, |out| out.write_all(svg.as_bytes()))
}

/// The flamegraph of one quantity, coloured by what it was in `base`.
///
/// Widths are those of `heap`. A frame is red where it holds more itself than it did, its callees
/// aside, and blue where it holds less, the more the darker: colours that the colour-blind can tell
/// apart. What is gone has no width.
///
/// # Errors
/// None that is known; inferno's are passed on.
pub fn svg_diff(base: &Symbolized, heap: &Symbolized, metric: Metric) -> io::Result<String> {
    let before = fold::lines(base, metric);
    let now = fold::lines(heap, metric);
    let mut values: BTreeMap<String, (Estimate, Estimate)> =
        now.into_iter().map(|line| (line.stack, (Estimate::default(), line.estimate))).collect();
    for line in before {
        values.entry(line.stack).or_default().0 = line.estimate;
    }
    values.retain(|_, (before, now)| fold::rounded(*before) > 0 || fold::rounded(*now) > 0);
    let mut lines: Vec<Line> = values.iter().map(|(stack, (_, now))| line(stack, *now)).collect();
    let mut subtitle = subtitle(heap, metric);
    subtitle.push_str(&format!(
        "; was {}; red has grown, blue has shrunk",
        units::estimate(metric.of(&base.totals), metric.is_bytes())
    ));
    if lines.iter().all(|line| fold::rounded(line.estimate) == 0) {
        return Ok(empty(&title(heap, metric), &subtitle));
    }
    by_frames(&mut lines);
    let widest = widest(lines.len());
    let text = |now: &Line| {
        let before = fold::rounded(values[&now.stack].0).min(widest);
        format!("{} {before} {}", now.stack, fold::rounded(now.estimate))
    };
    let texts: Vec<String> = lines.iter().map(text).collect();
    let mut options = Options::default();
    options.title = title(heap, metric);
    options.subtitle = Some(subtitle);
    drawn(options, &lines, &texts, metric)
}

fn line(stack: &str, estimate: Estimate) -> Line {
    Line { stack: stack.to_owned(), estimate }
}

/// inferno adds the widths up as integers; no real heap comes near, a damaged dump may.
fn widest(lines: usize) -> u64 {
    (1_u64 << 53) / lines as u64
}

/// Puts the lines in order: by frames, not by text, because `a-b` sorts before `a;b` and would tear
/// the frame `a` apart.
fn by_frames(lines: &mut [Line]) {
    lines.sort_by(|a, b| a.stack.split(';').cmp(b.stack.split(';')));
    let widest = widest(lines.len()) as f64;
    for line in lines {
        line.estimate.value = line.estimate.value.min(widest);
    }
}

/// The picture of `lines`, which are `texts` in inferno's own form.
fn drawn(
    mut options: Options<'_>,
    lines: &[Line],
    texts: &[String],
    metric: Metric,
) -> io::Result<String> {
    options.count_name = metric.unit().into();
    options.colors = Palette::Multi(MultiPalette::Rust);
    // The same function has the same colour in every picture.
    options.deterministic = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    // The only way to have inferno take the order as it is. It starts from the end.
    options.flame_chart = true;
    let mut svg = Vec::new();
    inferno::flamegraph::from_lines(
        &mut options,
        texts.iter().rev().map(String::as_str),
        &mut svg,
    )?;
    let svg = String::from_utf8(svg).map_err(io::Error::other)?;
    Ok(with_errors(&svg, lines, metric.unit()))
}

fn title(heap: &Symbolized, metric: Metric) -> String {
    match heap.origin.binary.as_str() {
        "" => metric.title().to_owned(),
        binary => format!("{} of {}", metric.title(), fold::escape(binary)),
    }
}

fn subtitle(heap: &Symbolized, metric: Metric) -> String {
    let origin = &heap.origin;
    let mut text = units::estimate(metric.of(&heap.totals), metric.is_bytes());
    if origin.interval_bytes <= 1.0 {
        text.push_str(", every allocation recorded");
    } else {
        text.push_str(&format!(
            " (one standard error), {} samples, one every {}",
            units::count(origin.samples as f64),
            units::bytes(origin.interval_bytes)
        ));
    }
    if origin.processes > 1 {
        text.push_str(&format!(", sum of {} processes", origin.processes));
    }
    text
}

/// Adds the standard error to the tooltip of each frame: `(1,234 ± 56 bytes, 7.89%)`.
///
/// A frame covers a run of lines, and says in `fg:x` and `fg:w` which: so its variance is a
/// difference of prefix sums. What does not look as expected is left as it is.
fn with_errors(svg: &str, lines: &[Line], unit: &str) -> String {
    // Where each line ends, and the variance up to there.
    let (mut end, mut variance) = (0_u64, 0.0);
    let mut prefix = vec![(end, variance)];
    prefix.extend(lines.iter().map(|line| {
        end += fold::rounded(line.estimate);
        variance += line.estimate.std_error * line.estimate.std_error;
        (end, variance)
    }));
    let variance_before = |x: u64| prefix[prefix.partition_point(|(end, _)| *end < x)].1;

    let mut text = String::with_capacity(svg.len() * 5 / 4);
    let mut rest = svg;
    let needle = format!(" {unit}, ");
    while let Some(at) = rest.find("</title>") {
        let (frame, after) = rest.split_at(at);
        let rectangle = &after[..after.find("/>").unwrap_or(0)];
        let range = attribute(rectangle, "fg:x").zip(attribute(rectangle, "fg:w"));
        match (range, frame.rfind(&needle)) {
            (Some((x, width)), Some(unit_at)) if x + width <= end => {
                let variance = (variance_before(x + width) - variance_before(x)).max(0.0);
                text.push_str(&frame[..unit_at]);
                text.push_str(&format!(" ± {}", units::count(variance.sqrt())));
                text.push_str(&frame[unit_at..]);
            }
            _ => text.push_str(frame),
        }
        text.push_str("</title>");
        rest = &after["</title>".len()..];
    }
    text.push_str(rest);
    text
}

fn attribute(tag: &str, name: &str) -> Option<u64> {
    let from = tag.find(&format!("{name}=\""))? + name.len() + 2;
    tag[from..].split('"').next()?.parse().ok()
}

/// inferno has no picture of nothing.
fn empty(title: &str, subtitle: &str) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"120\" viewBox=\"0 0 1200 120\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"monospace\" text-anchor=\"middle\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#f8f8f8\"/>\n\
         <text x=\"600\" y=\"30\" font-size=\"17\">{}</text>\n\
         <text x=\"600\" y=\"54\" font-size=\"12\">{}</text>\n\
         <text x=\"600\" y=\"90\" font-size=\"12\">nothing was recorded</text>\n</svg>\n",
        escape(title),
        escape(subtitle)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_frame_is_the_root_of_the_sum_of_squares_below_it() {
        let line = |stack: &str, value, std_error| Line {
            stack: stack.into(),
            estimate: Estimate::new(value, std_error),
        };
        let lines = [line("a;b", 10.0, 3.0), line("a;c", 20.0, 4.0), line("d", 5.0, 1.0)];
        let frame = |x, w| {
            format!("<g><title>f ({w} bytes, 1%)</title><rect fg:x=\"{x}\" fg:w=\"{w}\"/></g>")
        };
        let errors = |x, w| with_errors(&frame(x, w), &lines, "bytes");
        assert!(errors(0, 30).contains("(30 ± 5 bytes, 1%)"));
        assert!(errors(10, 20).contains("(20 ± 4 bytes, 1%)"));
        assert!(errors(30, 5).contains("(5 ± 1 bytes, 1%)"));
        assert_eq!(errors(30, 6), frame(30, 6), "out of range: left alone");
        assert_eq!(with_errors("<title>x</title>", &lines, "bytes"), "<title>x</title>");
    }
}
