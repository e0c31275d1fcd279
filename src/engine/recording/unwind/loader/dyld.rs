//! Apple's systems: `dyld`'s list of images, and what their load commands tell.
//!
//! Compiled in CI, but never run there: there is no such machine.

use std::ffi::{CStr, c_char, c_void};
use std::ops::Range;

use framehop::{ExplicitModuleSectionInfo, Module};

use super::macho::{self, Image};
use super::{Tables, UnwindTables};

// `<mach-o/dyld.h>`. All four may be called on any thread, and answer null or 0 for an index that is
// out of range, as happens when another thread unloads an image.
unsafe extern "C" {
    fn _dyld_image_count() -> u32;
    fn _dyld_get_image_header(index: u32) -> *const c_void;
    fn _dyld_get_image_vmaddr_slide(index: u32) -> isize;
    fn _dyld_get_image_name(index: u32) -> *const c_char;
}

/// Calls back with every image that is loaded now, the executable first. Takes the loader's lock.
pub(in crate::engine::recording::unwind) fn each_loaded(mut call: impl FnMut(&Found<'_>)) {
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
        let path = unsafe { CStr::from_ptr(name) }.to_bytes();
        // SAFETY: the loader's own header of a loaded image.
        if let Some(image) = unsafe { read(header.cast()) } {
            call(&Found { path, bias: slide as u64, image });
        }
    }
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
pub(in crate::engine::recording::unwind) struct Found<'a> {
    path: &'a [u8],
    bias: u64,
    image: Image,
}

impl<'a> Found<'a> {
    pub(in crate::engine::recording::unwind) fn path(&self) -> &'a [u8] {
        self.path
    }

    /// The slide: what is added to the image's own addresses to get those in memory.
    pub(in crate::engine::recording::unwind) fn bias(&self) -> u64 {
        self.bias
    }

    /// `__TEXT` in memory. The other segments are elsewhere, with those of other images between,
    /// where the image is in the system's shared cache.
    pub(in crate::engine::recording::unwind) fn range(&self) -> Range<u64> {
        let stated = &self.image.text_segment;
        stated.start.wrapping_add(self.bias)..stated.end.wrapping_add(self.bias)
    }

    /// None: Mach-O has no such section, and frames go by `__unwind_info`.
    pub(in crate::engine::recording::unwind) fn eh_frame_hdr(&self) -> Range<u64> {
        0..0
    }

    /// None that the rules of our own could be read from without the index above.
    pub(in crate::engine::recording::unwind) fn eh_frame(&self) -> Range<u64> {
        0..0
    }

    /// The UUID, by which debug files (`.dSYM`) are found.
    pub(in crate::engine::recording::unwind) fn build_id(&self) -> &[u8] {
        &self.image.uuid
    }

    /// Where `__TEXT` begins in the file, and its own addresses.
    pub(in crate::engine::recording::unwind) fn code(&self) -> (u64, Range<u64>) {
        (self.image.file_offset, self.image.text_segment.clone())
    }
}

/// The walk reads unwind tables where the loader mapped them.
pub(in crate::engine::recording::unwind) fn framehop_module(
    tables: UnwindTables,
) -> Module<Tables> {
    // SAFETY: `__TEXT` begins with the header. A permanent module stays; a dynamic one is looked at
    // only while one of its functions is on the stack.
    let image = unsafe { read(tables.range.0 as *const u8) }.unwrap_or_default();
    let stated = |range: &Range<u64>| (!range.is_empty()).then(|| range.clone());
    let mapped = |range: &Range<u64>| {
        let start = range.start.wrapping_add(tables.bias);
        tables.mapped((start, start + (range.end - range.start)))
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
