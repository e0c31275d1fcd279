//! speedscope: its own JSON format, with one profile for each metric.
//!
//! The stacks are those of the folded format, with labels next to the root. Weights are rounded to
//! whole bytes or objects. (speedscope also reads pprof, but drops inlined frames.)

use std::collections::HashMap;
use std::io::{self, Write};

use clap::ValueEnum as _;
use serde::Serialize;

use crate::heap::fold;
use crate::heap::symbolized::{Stack, Symbolized};
use crate::intern::intern;
use crate::numbers::metric::Metric;

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

/// The document. The names of the fields are speedscope's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: String,
    name: &'a str,
    active_profile_index: usize,
    shared: Shared<'a>,
    profiles: Vec<Profile>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
struct Frame<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

/// A profile of stacks with weights, which is one of speedscope's two kinds of profiles.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    r#type: &'static str,
    name: &'static str,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<Vec<u32>>,
    weights: Vec<u64>,
}

/// Writes all metrics of a heap.
///
/// # Errors
/// The errors of the writer.
pub fn write(heap: &Symbolized, out: &mut dyn Write) -> io::Result<()> {
    let mut frames = Frames::default();
    let stacks: Vec<Vec<u32>> = heap.stacks.iter().map(|stack| frames.stack(heap, stack)).collect();
    let document = Document {
        schema: SCHEMA,
        exporter: format!("heapdrift {}", env!("CARGO_PKG_VERSION")),
        name: &heap.origin.binary,
        active_profile_index: 0,
        profiles: Metric::value_variants().iter().map(|&m| profile(heap, m, &stacks)).collect(),
        shared: Shared { frames: frames.frames },
    };
    serde_json::to_writer(&mut *out, &document)?;
    out.write_all(b"\n")
}

fn profile(heap: &Symbolized, metric: Metric, stacks: &[Vec<u32>]) -> Profile {
    let mut profile = Profile {
        r#type: "sampled",
        name: metric.title(),
        unit: if metric.is_bytes() { "bytes" } else { "none" },
        start_value: 0,
        end_value: 0,
        samples: Vec::new(),
        weights: Vec::new(),
    };
    for (stack, frames) in heap.stacks.iter().zip(stacks) {
        let weight = fold::rounded(metric.of(&stack.metrics));
        if weight > 0 {
            profile.samples.push(frames.clone());
            profile.weights.push(weight);
            profile.end_value = profile.end_value.saturating_add(weight);
        }
    }
    profile
}

/// The frames that all profiles share.
#[derive(Default)]
struct Frames<'a> {
    frames: Vec<Frame<'a>>,
    index: HashMap<Frame<'a>, u32>,
}

impl<'a> Frames<'a> {
    /// A stack as indices, root first.
    fn stack(&mut self, heap: &'a Symbolized, stack: &Stack) -> Vec<u32> {
        let labels = &heap.label_sets[stack.labels as usize];
        let mut indices: Vec<u32> =
            labels.iter().map(|(key, value)| self.named(format!("{key}={value}"))).collect();
        if stack.truncated {
            indices.push(self.named(fold::TRUNCATED.to_owned()));
        }
        indices.extend(stack.frames.iter().rev().map(|&frame| {
            let frame = &heap.frames[frame as usize];
            let name = frame.function.clone();
            self.id(Frame { name, file: frame.file.as_deref(), line: frame.line })
        }));
        indices
    }

    fn named(&mut self, name: String) -> u32 {
        self.id(Frame { name, file: None, line: None })
    }

    fn id(&mut self, frame: Frame<'a>) -> u32 {
        intern(&mut self.index, &mut self.frames, frame)
    }
}
