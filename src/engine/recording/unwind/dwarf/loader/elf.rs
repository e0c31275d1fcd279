//! ELF modules as their headers in memory describe them. Headers are copied, because a module may
//! go.

use std::ops::Range;

use framehop::{ExplicitModuleSectionInfo, Module};

use crate::engine::recording::sys;
use crate::engine::recording::unwind::dwarf::places::{
    BUILD_ID_BYTES, CONTENT_BYTES, MAX_HEADERS_BYTES, PATH_BYTES, Places, hash,
};
use crate::engine::recording::unwind::dwarf::tables::{Section, UnwindTables};

const HEADER_BYTES: usize = size_of::<libc::Elf64_Phdr>();
const MAX_HEADERS: usize = MAX_HEADERS_BYTES / HEADER_BYTES;

/// The most of a note segment that is looked at.
const NOTE_BYTES: usize = 512;

/// `PF_X` of a program header: FreeBSD has no such constant in `libc`.
const EXECUTABLE: u32 = 1;

/// A part of a module in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) file_offset: u64,
    /// As in the file.
    pub(super) address: u64,
    pub(super) size: u64,
    align: u64,
}

impl Segment {
    fn read(header: &[u8; HEADER_BYTES]) -> Self {
        let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| header[at + i]));
        let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| header[at + i]));
        Self {
            kind: half(0),
            flags: half(4),
            file_offset: word(8),
            address: word(16),
            size: word(40),
            align: word(48),
        }
    }

    /// In memory.
    pub(super) fn range(&self, bias: u64) -> Range<u64> {
        let start = bias.wrapping_add(self.address);
        start..start.wrapping_add(self.size)
    }
}

/// A module, described.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// What is added to addresses of the file to get those in memory.
    pub(crate) bias: u64,
    pub(crate) places: Places,
    /// From the pointer in `.eh_frame_hdr` to the end of its segment: where the section ends is
    /// written nowhere, and is found by the terminator when it is read.
    pub(crate) eh_frame: Range<u64>,
    /// What is at the places.
    content: [u8; CONTENT_BYTES],
}

impl Description {
    /// Describes the module whose program headers and path are there. `None` if they are not, any
    /// more, or if it is like no module of a linker.
    #[inline(never)]
    pub(crate) fn read(bias: u64, headers: (u64, usize), path: u64) -> Option<Self> {
        let (headers, count) = headers;
        let headers_len = count * HEADER_BYTES;
        let mut content = [0; CONTENT_BYTES];
        if count > MAX_HEADERS || !is_copied(headers, &mut content[..headers_len]) {
            return None;
        }
        let segments = || segments(&content[..headers_len]);
        let of_kind = |kind| segments().find(|segment| segment.kind == kind);
        let eh_frame_hdr = of_kind(libc::PT_GNU_EH_FRAME).map(|header| header.range(bias));
        let loaded = segments().filter(|segment| segment.kind == libc::PT_LOAD);
        let eh_frame = eh_frame_hdr.and_then(eh_frame).and_then(|start| {
            let mut ranges = loaded.map(|segment| segment.range(bias));
            ranges.find(|range| range.contains(&start)).map(|range| start..range.end)
        });
        let notes = segments().filter(|segment| segment.kind == libc::PT_NOTE);
        let build_id = notes.filter_map(|segment| build_id(bias, &segment)).next();
        let places = Places {
            headers: (headers, headers_len as u32),
            build_id: build_id.unwrap_or_default(),
            path: (path, path_len(path)? as u32),
        };
        // All at once, and again: what does not belong together is not taken for the same later.
        places.copy(&mut content)?;
        Some(Self { bias, places, eh_frame: eh_frame.unwrap_or_default(), content })
    }

    pub(crate) fn content_hash(&self) -> u64 {
        let len: usize = self.places.all().iter().map(|(_, len)| len).sum();
        hash(&self.content[..len])
    }

    pub(crate) fn build_id(&self) -> &[u8] {
        let start = self.places.headers.1 as usize;
        &self.content[start..][..self.places.build_id.1 as usize]
    }

    pub(crate) fn path(&self) -> &[u8] {
        let start = (self.places.headers.1 + self.places.build_id.1) as usize;
        self.content[start..][..self.places.path.1 as usize]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
    }

    pub(super) fn segments(&self, kind: u32) -> impl Iterator<Item = Segment> {
        let headers = &self.content[..self.places.headers.1 as usize];
        segments(headers).filter(move |segment| segment.kind == kind)
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.segments(libc::PT_LOAD)
            .map(|segment| segment.range(self.bias))
            .reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
            .unwrap_or_default()
    }

    /// The first executable segment: where it begins in the file, and where it is, relative to the
    /// module.
    pub(crate) fn code(&self) -> (u64, Range<u64>) {
        let code = self.segments(libc::PT_LOAD).find(|segment| segment.flags & EXECUTABLE != 0);
        code.map_or((0, 0..0), |code| (code.file_offset, code.address..code.address + code.size))
    }

    pub(crate) fn eh_frame_hdr(&self) -> Range<u64> {
        let segment = self.segments(libc::PT_GNU_EH_FRAME).next();
        segment.map_or(0..0, |segment| segment.range(self.bias))
    }
}

fn segments(headers: &[u8]) -> impl Iterator<Item = Segment> {
    headers.as_chunks().0.iter().map(Segment::read)
}

fn is_copied(address: u64, bytes: &mut [u8]) -> bool {
    sys::copy_mapped(&[(address, bytes.len())], bytes) == bytes.len()
}

/// Where `.eh_frame` begins, by `.eh_frame_hdr`.
fn eh_frame(hdr: Range<u64>) -> Option<u64> {
    /// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: the only encoding that linkers write here.
    const RELATIVE: u8 = 0x1b;
    let mut head = [0; 8];
    if hdr.end - hdr.start < 8 || !is_copied(hdr.start, &mut head) {
        return None;
    }
    let [1, RELATIVE, _, _, offset @ ..] = head else { return None };
    Some((hdr.start + 4).wrapping_add_signed(i32::from_ne_bytes(offset).into()))
}

/// Where the build-id is in a note segment, and its length.
fn build_id(bias: u64, segment: &Segment) -> Option<(u64, u32)> {
    let mut bytes = [0; NOTE_BYTES];
    let bytes = &mut bytes[..NOTE_BYTES.min(segment.size as usize)];
    let start = segment.range(bias).start;
    if !is_copied(start, bytes) {
        return None;
    }
    let mut at = 0;
    while let [a, b, c, d, e, f, g, h, kind @ ..] = bytes.get(at..)? {
        let name_len = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
        let data_len = u32::from_ne_bytes([*e, *f, *g, *h]) as usize;
        let align = if segment.align == 8 { 8 } else { 4_usize };
        let data = (12 + name_len.checked_next_multiple_of(4)?).next_multiple_of(align);
        let is_build_id =
            kind.starts_with(&3_u32.to_ne_bytes()) && bytes.get(at + 12..at + 16) == Some(b"GNU\0");
        if is_build_id {
            let is_there = at + data + data_len <= bytes.len();
            return is_there
                .then(|| (start + (at + data) as u64, data_len.min(BUILD_ID_BYTES) as u32));
        }
        at += data.checked_add(data_len)?.checked_next_multiple_of(align)?;
    }
    None
}

/// The length of a path with its NUL, or as much of it as is looked at; 0 of none.
fn path_len(path: u64) -> Option<usize> {
    if path == 0 {
        return Some(0);
    }
    let mut bytes = [0; PATH_BYTES];
    let mut len = 0;
    // Page by page: what follows the NUL may not be mapped.
    while len < PATH_BYTES {
        let address = path + len as u64;
        let on_page = (sys::PAGE - address as usize % sys::PAGE).min(PATH_BYTES - len);
        let piece = &mut bytes[..on_page];
        if !is_copied(address, piece) {
            return None;
        }
        match piece.iter().position(|byte| *byte == 0) {
            Some(nul) => return Some(len + nul + 1),
            None => len += on_page,
        }
    }
    Some(len)
}

/// framehop's description of a module, by tables that stay.
pub(crate) fn framehop_module(tables: UnwindTables) -> Module<&'static [u8]> {
    let stated = |section: Section| {
        let start = section.start.wrapping_sub(tables.bias);
        (section.len > 0).then(|| start..start.wrapping_add(section.len))
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: stated(tables.eh_frame),
        eh_frame: tables.eh_frame.bytes(),
        eh_frame_hdr_svma: stated(tables.eh_frame_hdr),
        eh_frame_hdr: tables.eh_frame_hdr.bytes(),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(String::new(), tables.range.0..tables.range.1, tables.bias, sections)
}
