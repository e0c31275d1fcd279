//! Flamegraphs: SVGs by inferno, in which every frame also shows its standard error.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use heapdrift::Estimate;

use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{Options, TextTruncateDirection};

use crate::heap::fold::{self, Folded, Line};
use crate::heap::symbolized::Symbolized;
use crate::numbers::metric::Metric;
use crate::numbers::units;
use crate::output::file;

/// The most frames in a flamegraph, which makes about 10 MB. Without a limit, 20,000 stacks that
/// branch at every depth made 34 MB: drawing that took longer than all other steps, and browsers
/// are slow to show it.
const MAX_FRAMES: usize = 20_000;

/// Writes the flamegraph of one quantity to `path` atomically; `-` is standard output.
///
/// # Errors
/// The errors of the file system.
pub fn write(heap: &Symbolized, metric: Metric, path: &Path) -> io::Result<()> {
    let svg = svg(heap, metric)?;
    file::write(path, |out| out.write_all(svg.as_bytes()))
}

/// The flamegraph of one quantity.
///
/// Widths are estimates rounded to whole bytes or objects; labels are the frames next to the root.
/// If there are more than 20,000 frames, only the widest are drawn, and the subtitle says so. If
/// there is nothing to draw, the picture says so.
///
/// # Errors
/// The errors of inferno; none is known to occur.
pub fn svg(heap: &Symbolized, metric: Metric) -> io::Result<String> {
    let mut folded = Folded::new(heap, metric);
    let left_out = folded.prune(MAX_FRAMES);
    let mut lines = folded.lines();
    lines.retain(|line| fold::rounded(line.estimate) > 0);
    let mut subtitle = subtitle(heap, metric);
    if lines.is_empty() {
        return Ok(empty(&title(heap, metric), &subtitle));
    }
    if let Some(narrow) = left_out {
        subtitle.push_str(&undrawn(narrow, metric));
    }
    let widest = widest(lines.len());
    let text = |Line { mut stack, mut estimate }| {
        estimate.value = estimate.value.min(widest as f64);
        stack.push_str(&format!(" {}", fold::rounded(estimate)));
        (stack, estimate)
    };
    let (texts, estimates) = lines.into_iter().map(text).unzip();
    let mut options = Options::default();
    options.title = title(heap, metric);
    options.subtitle = Some(subtitle);
    draw(options, texts, estimates, metric)
}

/// Writes the flamegraph of one quantity, coloured by its change since `base`, to `path`.
///
/// # Errors
/// The errors of the file system.
pub fn write_diff(
    base: &Symbolized,
    heap: &Symbolized,
    metric: Metric,
    path: &Path,
) -> io::Result<()> {
    let svg = svg_diff(base, heap, metric)?;
    file::write(path, |out| out.write_all(svg.as_bytes()))
}

/// The flamegraph of one quantity, coloured by its change since `base`.
///
/// Widths are those of `heap`. A frame is red if its self value, without its callees, has grown,
/// and blue if it has shrunk; a darker colour is a larger change, and colour-blind readers can tell
/// the two apart. Frames that are gone have no width. If there are more than 20,000 frames, only
/// the widest are drawn.
///
/// # Errors
/// The errors of inferno; none is known to occur.
pub fn svg_diff(base: &Symbolized, heap: &Symbolized, metric: Metric) -> io::Result<String> {
    let before = fold::lines(base, metric);
    let now = fold::lines(heap, metric);
    let mut values: BTreeMap<String, (Estimate, Estimate)> =
        now.into_iter().map(|line| (line.stack, (Estimate::default(), line.estimate))).collect();
    for line in before {
        values.entry(line.stack).or_default().0 = line.estimate;
    }
    values.retain(|_, (before, now)| fold::rounded(*before) > 0 || fold::rounded(*now) > 0);
    let mut subtitle = subtitle(heap, metric);
    subtitle.push_str(&format!(
        "; was {}; red has grown, blue has shrunk",
        units::estimate(metric.of(&base.totals), metric.is_bytes())
    ));
    if values.values().all(|(_, now)| fold::rounded(*now) == 0) {
        return Ok(empty(&title(heap, metric), &subtitle));
    }
    let mut lines: Vec<(String, (Estimate, Estimate))> = values.into_iter().collect();
    // Sorting by text instead of frames would put `a-b` before `a;b` and split the frame `a`.
    lines.sort_by(|(a, _), (b, _)| a.split(';').cmp(b.split(';')));
    let mut options = Options::default();
    // inferno hides the narrow frames here. Removing them from the stacks, as `svg` does, would add
    // their changes to the colours of their callers.
    if let Some(narrow) = Folded::new(heap, metric).prune(MAX_FRAMES) {
        let whole: f64 = lines.iter().map(|(_, (_, now))| now.value).sum();
        options.min_width = options.min_width.max(100.0 * (narrow as f64 + 0.5) / whole);
        subtitle.push_str(&undrawn(narrow, metric));
    }
    let widest = widest(lines.len());
    let text = |(mut stack, (before, mut now)): (String, (Estimate, Estimate))| {
        now.value = now.value.min(widest as f64);
        let before = fold::rounded(before).min(widest);
        stack.push_str(&format!(" {before} {}", fold::rounded(now)));
        (stack, now)
    };
    let (texts, estimates) = lines.into_iter().map(text).unzip();
    options.title = title(heap, metric);
    options.subtitle = Some(subtitle);
    draw(options, texts, estimates, metric)
}

/// The part of the subtitle about frames that are not drawn.
fn undrawn(narrow: u64, metric: Metric) -> String {
    format!("; without frames of {} or less", units::amount(narrow as f64, metric.is_bytes()))
}

/// The largest width of a line. inferno adds widths up as integers, which a damaged dump could
/// overflow.
fn widest(lines: usize) -> u64 {
    (1_u64 << 53) / lines as u64
}

/// Draws `texts`, which are lines in inferno's own form, sorted by frames; `estimates` has the
/// estimate of each.
fn draw(
    mut options: Options<'_>,
    texts: Vec<String>,
    estimates: Vec<Estimate>,
    metric: Metric,
) -> io::Result<String> {
    options.count_name = metric.unit().into();
    options.colors = Palette::Multi(MultiPalette::Rust);
    // A function has the same colour in every flamegraph.
    options.deterministic = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    // This is the only way to make inferno keep the order of the lines. It starts from the last.
    options.flame_chart = true;
    let mut svg = Vec::new();
    inferno::flamegraph::from_lines(
        &mut options,
        texts.iter().rev().map(String::as_str),
        &mut svg,
    )?;
    // The lines can be longer than the picture, so their memory is freed now.
    drop(texts);
    let svg = String::from_utf8(svg).map_err(io::Error::other)?;
    Ok(with_errors(&svg, &estimates, metric.unit()))
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
/// A frame covers a range of lines, given by `fg:x` and `fg:w`, so its variance is a difference of
/// prefix sums. Frames in an unexpected form are left as they are.
fn with_errors(svg: &str, lines: &[Estimate], unit: &str) -> String {
    // The position at which each line ends, and the sum of the variances up to it.
    let (mut end, mut variance) = (0_u64, 0.0);
    let mut prefix = vec![(end, variance)];
    prefix.extend(lines.iter().map(|line| {
        end += fold::rounded(*line);
        variance += line.std_error * line.std_error;
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

/// A picture without frames, which inferno cannot draw.
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
    use crate::heap::symbolized::{Frame, Stack};

    #[test]
    fn the_error_of_a_frame_is_the_root_of_the_sum_of_squares_below_it() {
        // The estimates of `a;b`, `a;c` and `d`.
        let lines = [(10.0, 3.0), (20.0, 4.0), (5.0, 1.0)]
            .map(|(value, std_error)| Estimate::new(value, std_error));
        let frame = |x, w| {
            format!("<g><title>f ({w} bytes, 1%)</title><rect fg:x=\"{x}\" fg:w=\"{w}\"/></g>")
        };
        let errors = |x, w| with_errors(&frame(x, w), &lines, "bytes");
        assert!(errors(0, 30).contains("(30 ± 5 bytes, 1%)"));
        assert!(errors(10, 20).contains("(20 ± 4 bytes, 1%)"));
        assert!(errors(30, 5).contains("(5 ± 1 bytes, 1%)"));
        assert_eq!(errors(30, 6), frame(30, 6), "a frame out of range is left alone");
        assert_eq!(with_errors("<title>x</title>", &lines, "bytes"), "<title>x</title>");
    }

    #[test]
    fn if_there_are_too_many_frames_the_widest_are_drawn() {
        const DEPTH: u32 = 12;
        let mut heap = Symbolized { label_sets: vec![BTreeMap::new()], ..Symbolized::default() };
        for stack in 0..3000 {
            let of = |depth| Frame { function: format!("f{stack}_{depth}."), ..Frame::default() };
            heap.frames.extend((0..DEPTH).map(of));
            let mut new =
                Stack { frames: (stack * DEPTH..).take(12).collect(), ..Stack::default() };
            new.metrics.live_bytes = Estimate::new(1000.0 + f64::from(stack), 1.0);
            heap.stacks.push(new);
        }
        let metric = Metric::LiveBytes;
        for picture in [svg(&heap, metric), svg_diff(&heap, &heap, metric)] {
            let picture = picture.unwrap();
            let frames = picture.matches("<title>f").count();
            assert!((MAX_FRAMES - 100..=MAX_FRAMES + 3000).contains(&frames), "{frames}");
            assert!(picture.contains("; without frames of 2.3 KiB or less"));
            assert!(picture.contains("f2999_0.") && !picture.contains("f0_0."));
        }
    }
}
