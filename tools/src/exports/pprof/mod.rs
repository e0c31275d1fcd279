//! pprof: the format that `go tool pprof`, Parca, Pyroscope and many others read.
//!
//! A profile is one protobuf message, see [`message`], compressed with gzip. It has four sample
//! types in Go's order, with estimates rounded to whole objects and bytes. The format has no
//! standard errors, so those of the totals are in the comments. Labels of the program are string
//! labels; the numeric label `bytes` is the size of the objects of a stack if they all have the
//! same. Addresses, mappings and build-ids are those of the recorded process, so addresses without
//! a name can be symbolized later.

pub mod message;

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use heapdrift::Snapshot;
use prost::Message as _;

use self::message::{Function, Label, Line, Mapping, Profile, Sample, ValueType};
use crate::heap::fold;
use crate::heap::located::{Located, LocatedStack};
use crate::numbers::metric::Metric;
use crate::numbers::units;

/// The sample types, in Go's order.
const SAMPLE_TYPES: [(&str, &str, Metric); 4] = [
    ("alloc_objects", "count", Metric::AllocCount),
    ("alloc_space", "bytes", Metric::AllocBytes),
    ("inuse_objects", "count", Metric::LiveCount),
    ("inuse_space", "bytes", Metric::LiveBytes),
];

/// Writes the heap of `snapshot`. `heap` is the result of
/// [`Symbolizer::locate`](crate::Symbolizer::locate) for it.
///
/// # Errors
/// The errors of the writer.
pub fn write(snapshot: &Snapshot, heap: &Located, out: &mut dyn Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&profile(snapshot, heap).encode_to_vec())?;
    gzip.finish()?.flush()
}

/// The heap as a protobuf message.
pub fn profile(snapshot: &Snapshot, heap: &Located) -> Profile {
    let mut strings = Strings::default();
    let mappings = Mappings::new(heap, &mut strings);
    let mut functions = Functions::new(heap, &mut strings);
    let mut locations: Vec<message::Location> = heap
        .locations
        .iter()
        .enumerate()
        .map(|(at, location)| message::Location {
            id: id(at),
            mapping_id: location.mapping.map_or(0, |mapping| mappings.ids[mapping as usize]),
            address: location.address,
            line: functions.lines(heap, location),
            is_folded: false,
        })
        .collect();
    let truncated = heap.stacks.iter().any(|stack| stack.truncated).then(|| {
        let function_id = functions.id(strings.id(fold::TRUNCATED), 0);
        let (id, line) = (id(locations.len()), vec![Line { function_id, line: 0 }]);
        locations.push(message::Location { id, line, ..Default::default() });
        id
    });
    let sample = heap
        .stacks
        .iter()
        .filter_map(|stack| sample(heap, stack, truncated, &mut strings))
        .collect();
    let value_type = |strings: &mut Strings, kind: &str, unit: &str| ValueType {
        r#type: strings.id(kind),
        unit: strings.id(unit),
    };
    Profile {
        sample_type: SAMPLE_TYPES
            .iter()
            .map(|(kind, unit, _)| value_type(&mut strings, kind, unit))
            .collect(),
        sample,
        mapping: mappings.messages,
        location: locations,
        function: functions.messages,
        drop_frames: 0,
        keep_frames: 0,
        time_nanos: nanos(snapshot.taken.unix_ms),
        duration_nanos: nanos(snapshot.taken.uptime_ms),
        period_type: Some(value_type(&mut strings, "space", "bytes")),
        period: snapshot.sampling.interval_bytes.round() as i64,
        comment: comments(snapshot).iter().map(|line| strings.id(line)).collect(),
        default_sample_type: strings.id("inuse_space"),
        string_table: strings.table,
    }
}

/// Facts for which the format has no field.
fn comments(snapshot: &Snapshot) -> Vec<String> {
    let total = |metric: Metric| {
        let estimate = metric.of(&snapshot.totals);
        format!("{metric}: {} (one standard error)", units::estimate(estimate, metric.is_bytes()))
    };
    let mut lines = vec![format!(
        "heapdrift {} recorded {}, process {}, unwinder {}",
        snapshot.process.heapdrift_version,
        snapshot.process.executable,
        snapshot.process.id,
        snapshot.unwinder
    )];
    lines.extend(SAMPLE_TYPES.iter().map(|&(_, _, metric)| total(metric)));
    lines.push(total(Metric::PeakBytes));
    lines
        .push(format!("samples of which something was lost: {}", snapshot.stats.samples_dropped()));
    lines
}

/// A sample, unless all its values round to 0.
fn sample(
    heap: &Located,
    stack: &LocatedStack,
    truncated: Option<u64>,
    strings: &mut Strings,
) -> Option<Sample> {
    let value: Vec<i64> = SAMPLE_TYPES
        .iter()
        .map(|(_, _, metric)| metric.of(&stack.metrics).value.round() as i64)
        .collect();
    if value.iter().all(|&value| value == 0) {
        return None;
    }
    let mut label: Vec<Label> = heap.label_sets[stack.labels as usize]
        .iter()
        .map(|(key, text)| Label {
            key: strings.id(key),
            str: strings.id(text),
            ..Label::default()
        })
        .collect();
    if let Some(bytes) = stack.object_bytes {
        label.push(Label {
            key: strings.id("bytes"),
            num: i64::try_from(bytes).unwrap_or(i64::MAX),
            num_unit: strings.id("bytes"),
            ..Label::default()
        });
    }
    let mut location_id: Vec<u64> = stack.locations.iter().map(|&at| id(at as usize)).collect();
    location_id.extend(truncated.filter(|_| stack.truncated));
    Some(Sample { location_id, value, label })
}

/// The functions, each once for all of its lines.
#[derive(Default)]
struct Functions {
    messages: Vec<Function>,
    /// The id of each function by its name and file.
    index: HashMap<(i64, i64), u64>,
    /// The function id of each frame of the heap.
    of_frame: Vec<u64>,
}

impl Functions {
    fn new(heap: &Located, strings: &mut Strings) -> Self {
        let mut functions = Self::default();
        for frame in &heap.frames {
            let file = strings.id(frame.file.as_deref().unwrap_or_default());
            let id = functions.id(strings.id(&frame.function), file);
            functions.of_frame.push(id);
        }
        functions
    }

    fn id(&mut self, name: i64, filename: i64) -> u64 {
        *self.index.entry((name, filename)).or_insert_with(|| {
            let id = id(self.messages.len());
            // There is no `system_name`: if both names are equal, Go's pprof takes them for C++ and
            // shortens `<T as Trait>::f` to `::f`.
            self.messages.push(Function { id, name, filename, ..Function::default() });
            id
        })
    }

    /// The functions at a location. An unnamed location has none, so that readers may symbolize it.
    fn lines(&self, heap: &Located, location: &crate::heap::located::Location) -> Vec<Line> {
        let known = location.frames.iter().filter(|_| location.named);
        known
            .map(|&frame| Line {
                function_id: self.of_frame[frame as usize],
                line: heap.frames[frame as usize].line.map_or(0, i64::from),
            })
            .collect()
    }
}

/// The modules that are files, as mappings.
struct Mappings {
    messages: Vec<Mapping>,
    /// The mapping id of each module of the heap, 0 if it is not a file.
    ids: Vec<u64>,
}

impl Mappings {
    fn new(heap: &Located, strings: &mut Strings) -> Self {
        let mut mappings = Self { messages: Vec::new(), ids: Vec::new() };
        for module in &heap.mappings {
            // `[unknown]` stands for code outside of all modules.
            if module.path.is_empty() || module.path == "[unknown]" {
                mappings.ids.push(0);
                continue;
            }
            let id = id(mappings.messages.len());
            mappings.ids.push(id);
            mappings.messages.push(Mapping {
                id,
                memory_start: module.start,
                memory_limit: module.end,
                file_offset: module.offset,
                filename: strings.id(&module.path),
                build_id: strings.id(&module.build_id),
                ..Mapping::default()
            });
        }
        for location in heap.locations.iter().filter(|location| location.named) {
            let id = location.mapping.map_or(0, |mapping| mappings.ids[mapping as usize]);
            let Some(mapping) = (id as usize).checked_sub(1).map(|at| &mut mappings.messages[at])
            else {
                continue;
            };
            let mut frames = location.frames.iter().map(|&frame| &heap.frames[frame as usize]);
            mapping.has_functions = true;
            mapping.has_filenames |= frames.clone().any(|frame| frame.file.is_some());
            mapping.has_line_numbers |= frames.any(|frame| frame.line.is_some());
            mapping.has_inline_frames |= location.frames.len() > 1;
        }
        mappings
    }
}

/// The table of strings. The first is empty.
struct Strings {
    table: Vec<String>,
    index: HashMap<String, i64>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { table: vec![String::new()], index: HashMap::from([(String::new(), 0)]) }
    }
}

impl Strings {
    fn id(&mut self, text: &str) -> i64 {
        if let Some(&id) = self.index.get(text) {
            return id;
        }
        let id = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.index.insert(text.to_owned(), id);
        id
    }
}

/// Ids count from 1, because 0 stands for none.
fn id(at: usize) -> u64 {
    at as u64 + 1
}

fn nanos(ms: u64) -> i64 {
    i64::try_from(u128::from(ms) * 1_000_000).unwrap_or(i64::MAX)
}
