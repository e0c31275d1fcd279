//! Apple's systems: `dyld`'s list of images, and what their load commands tell.
//!
//! Compiled in CI, but never run there: there is no such machine.

use std::ffi::{CStr, c_char, c_void};
use std::ops::Range;

use framehop::{ExplicitModuleSectionInfo, Module};

use super::macho::{self, Image};
use crate::engine::recording::unwind::dwarf::places::{Places, hash};
use crate::engine::recording::unwind::dwarf::tables::{Section, UnwindTables};

// `<mach-o/dyld.h>`. All four may be called on any thread, and answer null or 0 for an index that
// is
// out of range, as happens when another thread unloads an image.
unsafe extern "C" {
    fn _dyld_image_count() -> u32;
    fn _dyld_get_image_header(index: u32) -> *const c_void;
    fn _dyld_get_image_vmaddr_slide(index: u32) -> isize;
    fn _dyld_get_image_name(index: u32) -> *const c_char;
}

/// An image that is loaded now.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) description: Description,
    pub(crate) path: Vec<u8>,
    /// Whether it stays for as long as this code can run.
    pub(crate) is_permanent: bool,
}

/// What is loaded now, the executable first. Takes the loader's lock for each image.
///
/// The executable and the image of this code stay, and so do those of the system, which lie in a
/// cache that is shared by all processes. Others may be closed.
pub(crate) fn loaded() -> Vec<Loaded> {
    let here = loaded as *const () as u64;
    let mut all = Vec::new();
    // SAFETY: no arguments.
    let count = unsafe { _dyld_image_count() };
    for index in 0..count {
        // SAFETY: any index may be asked for.
        let header = unsafe { _dyld_get_image_header(index) };
        // SAFETY: as above.
        let slide = unsafe { _dyld_get_image_vmaddr_slide(index) };
        // SAFETY: as above.
        let name = unsafe { _dyld_get_image_name(index) };
        if header.is_null() || name.is_null() {
            continue;
        }
        // SAFETY: a string of the loader.
        let path = unsafe { CStr::from_ptr(name) }.to_bytes().to_vec();
        // SAFETY: the loader's own header of a loaded image.
        let Some(image) = (unsafe { read(header.cast()) }) else { continue };
        let description = Description::new(slide as u64, image, path.clone());
        let is_of_system = path.starts_with(b"/usr/lib/") || path.starts_with(b"/System/");
        let is_permanent = index == 0 || is_of_system || description.range().contains(&here);
        all.push(Loaded { description, path, is_permanent });
    }
    all
}

/// The header and the load commands at an address.
///
/// # Safety
/// An image is mapped there.
unsafe fn read(header: *const u8) -> Option<Image> {
    // SAFETY: an image begins with its header.
    let start = unsafe { std::slice::from_raw_parts(header, macho::HEADER_BYTES) };
    let end = macho::commands_end(start)?;
    // SAFETY: the load commands follow the header in the first segment.
    macho::parse(unsafe { std::slice::from_raw_parts(header, end) })
}

/// An image as the loader describes it.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// The slide: what is added to the image's own addresses to get those in memory.
    pub(crate) bias: u64,
    /// Nothing is compared later: images that may go are not walked.
    pub(crate) places: Places,
    /// None: frames go by `__unwind_info`.
    pub(crate) eh_frame: Range<u64>,
    image: Image,
    path: Vec<u8>,
}

impl Description {
    fn new(bias: u64, image: Image, path: Vec<u8>) -> Self {
        Self { bias, places: Places::default(), eh_frame: 0..0, image, path }
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// `__TEXT` in memory. The other segments are elsewhere, with those of other images between, if
    /// the image is in the system's shared cache.
    pub(crate) fn range(&self) -> Range<u64> {
        let stated = &self.image.text_segment;
        stated.start.wrapping_add(self.bias)..stated.end.wrapping_add(self.bias)
    }

    /// None: Mach-O has no such section.
    pub(crate) fn eh_frame_hdr(&self) -> Range<u64> {
        0..0
    }

    /// The UUID, by which debug files (`.dSYM`) are found.
    pub(crate) fn build_id(&self) -> &[u8] {
        &self.image.uuid
    }

    /// Where `__TEXT` begins in the file, and its own addresses.
    pub(crate) fn code(&self) -> (u64, Range<u64>) {
        (self.image.file_offset, self.image.text_segment.clone())
    }

    pub(crate) fn content_hash(&self) -> u64 {
        hash(&self.path) ^ hash(&self.image.uuid).rotate_left(32)
    }
}

/// The walk reads unwind tables where the loader mapped them.
pub(crate) fn framehop_module(tables: UnwindTables) -> Module<&'static [u8]> {
    // SAFETY: `__TEXT` begins with the header, and only images that stay are walked.
    let image = unsafe { read(tables.range.0 as *const u8) }.unwrap_or_default();
    let stated = |range: &Range<u64>| (!range.is_empty()).then(|| range.clone());
    let mapped = |range: &Range<u64>| {
        let start = range.start.wrapping_add(tables.bias);
        Section { start, len: range.end - range.start, bytes: start }.bytes()
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: image.text_segment.start,
        text_svma: stated(&image.text),
        stubs_svma: stated(&image.stubs),
        stub_helper_svma: stated(&image.stub_helper),
        got_svma: stated(&image.got),
        unwind_info: mapped(&image.unwind_info),
        eh_frame_svma: stated(&image.eh_frame),
        eh_frame: mapped(&image.eh_frame),
        text_segment_svma: stated(&image.text_segment),
        text_segment: mapped(&image.text_segment),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(String::new(), tables.range.0..tables.range.1, tables.range.0, sections)
}
