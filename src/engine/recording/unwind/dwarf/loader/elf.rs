//! Describes ELF modules by their program headers in memory. All data is copied before it is read,
//! because a module may be unloaded at any time.

use std::ops::Range;

use framehop::{ExplicitModuleSectionInfo, Module};

use crate::engine::recording::sys;
use crate::engine::recording::unwind::dwarf::module_content::{
    ContentLocation, MAX_BUILD_ID_BYTES, MAX_CONTENT_BYTES, MAX_HEADERS_BYTES, MAX_PATH_BYTES, hash,
};
use crate::engine::recording::unwind::dwarf::tables::{Section, UnwindTables};

const HEADER_BYTES: usize = size_of::<libc::Elf64_Phdr>();
const MAX_HEADERS: usize = MAX_HEADERS_BYTES / HEADER_BYTES;

/// Maximum number of bytes of a note segment that are read.
const MAX_NOTE_BYTES: usize = 512;

/// `PF_X`, the executable flag of a program header. FreeBSD's `libc` has no such constant.
const EXECUTABLE: u32 = 1;

/// A segment of a module, as its program header describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) file_offset: u64,
    /// The address that the file states.
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

    /// The segment's addresses in memory.
    pub(super) fn range(&self, bias: u64) -> Range<u64> {
        let start = bias.wrapping_add(self.address);
        start..start.wrapping_add(self.size)
    }
}

/// A module, described by its program headers.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// The offset of addresses in memory from those in the file.
    pub(crate) bias: u64,
    pub(crate) content_location: ContentLocation,
    /// From the address in `.eh_frame_hdr` to the end of the segment. No header states where the
    /// section ends; the reader finds its terminator.
    pub(crate) eh_frame: Range<u64>,
    /// The content at `content_location`.
    content: [u8; MAX_CONTENT_BYTES],
}

impl Description {
    /// Describes the module with these program headers and this path. Returns `None` if they are no
    /// longer mapped, or if no linker would write such a module.
    #[inline(never)]
    pub(crate) fn read(bias: u64, headers: (u64, usize), path: u64) -> Option<Self> {
        let (headers, count) = headers;
        let headers_len = count * HEADER_BYTES;
        let mut content = [0; MAX_CONTENT_BYTES];
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
        let content_location = ContentLocation {
            headers: (headers, headers_len as u32),
            build_id: build_id.unwrap_or_default(),
            path: (path, path_len(path)? as u32),
        };
        // Copies the whole content again in one call: parts that do not belong together have a hash
        // that a later comparison will not match.
        content_location.copy(&mut content)?;
        Some(Self { bias, content_location, eh_frame: eh_frame.unwrap_or_default(), content })
    }

    pub(crate) fn content_hash(&self) -> u64 {
        let len: usize = self.content_location.ranges().iter().map(|(_, len)| len).sum();
        hash(&self.content[..len])
    }

    pub(crate) fn build_id(&self) -> &[u8] {
        let start = self.content_location.headers.1 as usize;
        &self.content[start..][..self.content_location.build_id.1 as usize]
    }

    pub(crate) fn path(&self) -> &[u8] {
        let start = (self.content_location.headers.1 + self.content_location.build_id.1) as usize;
        self.content[start..][..self.content_location.path.1 as usize]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
    }

    pub(super) fn segments(&self, kind: u32) -> impl Iterator<Item = Segment> {
        let headers = &self.content[..self.content_location.headers.1 as usize];
        segments(headers).filter(move |segment| segment.kind == kind)
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.segments(libc::PT_LOAD)
            .map(|segment| segment.range(self.bias))
            .reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
            .unwrap_or_default()
    }

    /// The first executable segment: its offset in the file, and its addresses relative to the
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

/// The start of `.eh_frame`, as `.eh_frame_hdr` states it.
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

/// The address and the length of the build-id in a note segment.
fn build_id(bias: u64, segment: &Segment) -> Option<(u64, u32)> {
    let mut bytes = [0; MAX_NOTE_BYTES];
    let bytes = &mut bytes[..MAX_NOTE_BYTES.min(segment.size as usize)];
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
            let is_complete = at + data + data_len <= bytes.len();
            return is_complete
                .then(|| (start + (at + data) as u64, data_len.min(MAX_BUILD_ID_BYTES) as u32));
        }
        at += data.checked_add(data_len)?.checked_next_multiple_of(align)?;
    }
    None
}

/// The length of a path with its NUL, at most [`MAX_PATH_BYTES`]; 0 for a null pointer.
fn path_len(path: u64) -> Option<usize> {
    if path == 0 {
        return Some(0);
    }
    let mut bytes = [0; MAX_PATH_BYTES];
    let mut len = 0;
    // Reads page by page, because the page after the NUL may not be mapped.
    while len < MAX_PATH_BYTES {
        let address = path + len as u64;
        let on_page = (sys::PAGE - address as usize % sys::PAGE).min(MAX_PATH_BYTES - len);
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

/// Describes a module to framehop, by unwind tables that stay readable.
pub(crate) fn framehop_module(tables: UnwindTables) -> Module<&'static [u8]> {
    let svma_range = |section: Section| {
        let start = section.start.wrapping_sub(tables.bias);
        (section.len > 0).then(|| start..start.wrapping_add(section.len))
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: svma_range(tables.eh_frame),
        eh_frame: tables.eh_frame.bytes(),
        eh_frame_hdr_svma: svma_range(tables.eh_frame_hdr),
        eh_frame_hdr: tables.eh_frame_hdr.bytes(),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(String::new(), tables.range.0..tables.range.1, tables.bias, sections)
}
