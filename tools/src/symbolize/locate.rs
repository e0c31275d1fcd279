//! Stacks of named frames from the stacks of addresses in a snapshot.
//!
//! Frames of the allocator and the profiler are removed here, and addresses become locations.

use std::collections::{BTreeMap, HashMap};

use heapdrift::Snapshot;
use heapdrift::names::file_name;
use heapdrift::names::machinery::{self, Role};
use heapdrift::snapshot::{Module, Stack};

use crate::heap::located::{Located, LocatedStack, Location, Mapping};
use crate::heap::symbolized::{Frame, Origin};
use crate::intern::intern;
use crate::symbolize::modules::recorded_path;

/// The most frames that a stack keeps; outer ones count as missing. No recording has more than half
/// as many, but a damaged dump could have millions.
const MAX_FRAMES: usize = 4096;

/// The stacks of `snapshot`. `functions` has the functions at each of its addresses, innermost
/// first, and none where no name is known.
pub(super) fn locate(
    snapshot: &Snapshot,
    functions: impl Iterator<Item = Vec<Frame>>,
    mappings: Vec<Mapping>,
    full_stacks: bool,
) -> Located {
    let mut builder = Builder::new(snapshot, functions, mappings, full_stacks);
    for (stack, object_bytes) in snapshot.stacks.iter().zip(object_sizes(snapshot)) {
        builder.add(stack, object_bytes);
    }
    builder.heap
}

/// The functions at one address of a snapshot.
struct AddressFrames {
    /// Indices into [`Located::frames`], innermost first.
    frames: Vec<u32>,
    named: bool,
}

/// A frame of a stack and the position in the stack of the address that it is at.
#[derive(Clone, Copy)]
struct StackFrame {
    position: usize,
    frame: u32,
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    full_stacks: bool,
    heap: Located,
    /// For each address of the snapshot.
    addresses: Vec<AddressFrames>,
    /// For each frame of the heap.
    roles: Vec<Role>,
    frame_index: HashMap<Frame, u32>,
    location_index: HashMap<Location, u32>,
    label_index: HashMap<BTreeMap<String, String>, u32>,
    /// For each address of the snapshot, its location with all of its frames, once a stack had it.
    whole_locations: Vec<Option<u32>>,
}

impl<'a> Builder<'a> {
    fn new(
        snapshot: &'a Snapshot,
        functions: impl Iterator<Item = Vec<Frame>>,
        mappings: Vec<Mapping>,
        full_stacks: bool,
    ) -> Self {
        let mut heap = Located {
            mappings,
            totals: snapshot.totals,
            origin: Origin::of(snapshot),
            ..Located::default()
        };
        let mut frame_index = HashMap::new();
        let columns = snapshot.frames.module.iter().zip(&snapshot.frames.address);
        let addresses: Vec<AddressFrames> = columns
            .zip(functions)
            .map(|((&module, &address), functions)| {
                let named = !functions.is_empty();
                let functions = match named {
                    true => functions,
                    false => vec![nameless(&snapshot.modules[module as usize], address)],
                };
                let frames = functions.into_iter();
                let frames = frames.map(|f| intern(&mut frame_index, &mut heap.frames, f));
                AddressFrames { frames: frames.collect(), named }
            })
            .collect();
        Self {
            snapshot,
            full_stacks,
            roles: heap.frames.iter().map(|frame| machinery::role(&frame.function)).collect(),
            whole_locations: vec![None; addresses.len()],
            addresses,
            heap,
            frame_index,
            location_index: HashMap::new(),
            // Label sets are added with their stacks: a damaged dump could have millions of others.
            label_index: HashMap::new(),
        }
    }

    fn add(&mut self, stack: &Stack, object_bytes: Option<u64>) {
        let (frames, too_deep) = self.visible_frames(stack);
        let of_one_address = frames.chunk_by(|a, b| a.position == b.position);
        let mut locations: Vec<u32> = of_one_address
            .map(|frames| self.location(stack.frames[frames[0].position] as usize, frames))
            .collect();
        if locations.is_empty() {
            locations.push(self.no_stack());
        }
        let labels = self.snapshot.label_sets[stack.labels as usize].clone();
        self.heap.stacks.push(LocatedStack {
            locations,
            labels: intern(&mut self.label_index, &mut self.heap.label_sets, labels),
            truncated: stack.truncated || too_deep,
            metrics: stack.metrics,
            object_bytes,
        });
    }

    /// The frames of a stack that are shown, and whether outer ones were dropped.
    fn visible_frames(&self, stack: &Stack) -> (Vec<StackFrame>, bool) {
        let addresses = stack.frames.iter().enumerate();
        let mut frames: Vec<StackFrame> = addresses
            .flat_map(|(position, &address)| {
                let frames = self.addresses[address as usize].frames.iter();
                frames.map(move |&frame| StackFrame { position, frame })
            })
            .take(MAX_FRAMES + 1)
            .collect();
        let too_deep = frames.len() > MAX_FRAMES;
        frames.truncate(MAX_FRAMES);
        if !self.full_stacks {
            let role = |frame: &StackFrame| self.roles[frame.frame as usize];
            let depth = machinery::depth(frames.iter().map(role));
            frames.drain(..depth);
            frames.retain(|frame| role(frame) != Role::Profiler);
        }
        (frames, too_deep)
    }

    /// The location of `frames`, which are at one address of the snapshot.
    fn location(&mut self, address: usize, frames: &[StackFrame]) -> u32 {
        let snapshot = self.snapshot;
        // Most addresses keep all of their frames and have occurred before.
        let is_whole = frames.len() == self.addresses[address].frames.len();
        if let Some(at) = self.whole_locations[address].filter(|_| is_whole) {
            return at;
        }
        let module = snapshot.frames.module[address];
        let bias = snapshot.modules[module as usize].load_bias;
        let location = Location {
            mapping: Some(module),
            address: snapshot.frames.address[address].wrapping_add(bias),
            frames: frames.iter().map(|frame| frame.frame).collect(),
            named: self.addresses[address].named,
        };
        let at = intern(&mut self.location_index, &mut self.heap.locations, location);
        if is_whole {
            self.whole_locations[address] = Some(at);
        }
        at
    }

    /// The location that stands for a stack without any frame.
    fn no_stack(&mut self) -> u32 {
        let frame =
            Frame { function: "[no stack]".into(), krate: "[no stack]".into(), ..Frame::default() };
        let frames = vec![intern(&mut self.frame_index, &mut self.heap.frames, frame)];
        let location = Location { mapping: None, address: 0, frames, named: true };
        intern(&mut self.location_index, &mut self.heap.locations, location)
    }
}

/// The frame of an address without a name.
fn nameless(module: &Module, address: u64) -> Frame {
    let name = file_name(recorded_path(module));
    Frame { function: format!("{name}+{address:#x}"), krate: name.to_owned(), ..Frame::default() }
}

/// For each stack, the size of its live objects if all samples of them have the same size.
fn object_sizes(snapshot: &Snapshot) -> Vec<Option<u64>> {
    let mut sizes: Vec<Option<Option<u64>>> = vec![None; snapshot.stacks.len()];
    for sample in snapshot.live.iter() {
        let size = &mut sizes[sample.stack as usize];
        *size = match *size {
            None => Some(Some(sample.size)),
            Some(known) => Some(known.filter(|&known| known == sample.size)),
        };
    }
    sizes.into_iter().map(Option::flatten).collect()
}
