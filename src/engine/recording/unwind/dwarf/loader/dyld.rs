//! Apple's systems: lists the images of `dyld` and describes them by their load commands.
//!
//! CI compiles this module but never runs it, because it has no such machine.

use std::ffi::{CStr, c_char, c_void};
use std::ops::Range;

use framehop::{ExplicitModuleSectionInfo, Module};

use super::macho::{self, Image};
use crate::engine::recording::unwind::dwarf::module_content::{ContentLocation, hash};
use crate::engine::recording::unwind::dwarf::tables::{Section, UnwindTables};

// From `<mach-o/dyld.h>`. All four functions may be called on any thread, and return null or 0 for
// an index that is out of range, which happens when another thread unloads an image.
unsafe extern "C" {
    fn _dyld_image_count() -> u32;
    fn _dyld_get_image_header(index: u32) -> *const c_void;
    fn _dyld_get_image_vmaddr_slide(index: u32) -> isize;
    fn _dyld_get_image_name(index: u32) -> *const c_char;
}

/// An image that is currently loaded.
#[derive(Clone, Debug)]
pub(crate) struct LoadedModule {
    pub(crate) description: Description,
    pub(crate) path: Vec<u8>,
    /// Whether the image stays loaded for as long as this code can run.
    pub(crate) is_permanent: bool,
}

/// Lists the images that are currently loaded, the executable first. Takes the loader's lock for
/// each image.
///
/// The executable and the image with this code are permanent, and so are the images of the system,
/// which lie in a cache that all processes share. All others may be closed.
pub(crate) fn loaded_modules() -> Vec<LoadedModule> {
    let here = loaded_modules as *const () as u64;
    let mut all = Vec::new();
    // SAFETY: the function takes no arguments and may be called on any thread.
    let count = unsafe { _dyld_image_count() };
    for index in 0..count {
        // SAFETY: the function accepts any index and may be called on any thread.
        let header = unsafe { _dyld_get_image_header(index) };
        // SAFETY: as above.
        let slide = unsafe { _dyld_get_image_vmaddr_slide(index) };
        // SAFETY: as above.
        let name = unsafe { _dyld_get_image_name(index) };
        if header.is_null() || name.is_null() {
            continue;
        }
        // SAFETY: the loader returned the name of an image, which is a NUL-terminated string.
        let path = unsafe { CStr::from_ptr(name) }.to_bytes().to_vec();
        // SAFETY: the loader returned this header of a loaded image.
        let Some(image) = (unsafe { read(header.cast()) }) else { continue };
        let description = Description::new(slide as u64, image, path.clone());
        let is_of_system = path.starts_with(b"/usr/lib/") || path.starts_with(b"/System/");
        let is_permanent = index == 0 || is_of_system || description.range().contains(&here);
        all.push(LoadedModule { description, path, is_permanent });
    }
    all
}

/// Reads the header and the load commands at an address.
///
/// # Safety
/// An image is mapped at the address.
unsafe fn read(header: *const u8) -> Option<Image> {
    // SAFETY: by this function's contract an image is mapped here, and it begins with its header.
    let start = unsafe { std::slice::from_raw_parts(header, macho::HEADER_BYTES) };
    let end = macho::commands_end(start)?;
    // SAFETY: the load commands follow the header in the first segment of the mapped image.
    macho::parse(unsafe { std::slice::from_raw_parts(header, end) })
}

/// An image, described by its load commands.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// The slide: the offset of addresses in memory from those that the file states.
    pub(crate) bias: u64,
    /// Empty, because the content is never compared: walks do not enter images that may be closed.
    pub(crate) content_location: ContentLocation,
    /// Empty, because frames are unwound by `__unwind_info`.
    pub(crate) eh_frame: Range<u64>,
    image: Image,
    path: Vec<u8>,
}

impl Description {
    fn new(bias: u64, image: Image, path: Vec<u8>) -> Self {
        Self { bias, content_location: ContentLocation::default(), eh_frame: 0..0, image, path }
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The addresses of `__TEXT` in memory. If the image is in the system's shared cache, its other
    /// segments are elsewhere, separated by those of other images.
    pub(crate) fn range(&self) -> Range<u64> {
        let svma_range = &self.image.text_segment;
        svma_range.start.wrapping_add(self.bias)..svma_range.end.wrapping_add(self.bias)
    }

    /// Empty: Mach-O has no such section.
    pub(crate) fn eh_frame_hdr(&self) -> Range<u64> {
        0..0
    }

    /// The UUID, which identifies the debug file (`.dSYM`).
    pub(crate) fn build_id(&self) -> &[u8] {
        &self.image.uuid
    }

    /// The offset of `__TEXT` in the file, and its addresses as the file states them.
    pub(crate) fn code(&self) -> (u64, Range<u64>) {
        (self.image.file_offset, self.image.text_segment.clone())
    }

    pub(crate) fn content_hash(&self) -> u64 {
        hash(&self.path) ^ hash(&self.image.uuid).rotate_left(32)
    }
}

/// Describes an image to framehop, which then reads the unwind tables where the loader mapped them.
pub(crate) fn framehop_module(tables: UnwindTables) -> Module<&'static [u8]> {
    // SAFETY: `__TEXT` begins with the header, and walks enter only permanent images, which stay
    // mapped.
    let image = unsafe { read(tables.range.0 as *const u8) }.unwrap_or_default();
    let svma_range = |range: &Range<u64>| (!range.is_empty()).then(|| range.clone());
    let mapped = |range: &Range<u64>| {
        let start = range.start.wrapping_add(tables.bias);
        Section { start, len: range.end - range.start, bytes: start }.bytes()
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: image.text_segment.start,
        text_svma: svma_range(&image.text),
        stubs_svma: svma_range(&image.stubs),
        stub_helper_svma: svma_range(&image.stub_helper),
        got_svma: svma_range(&image.got),
        unwind_info: mapped(&image.unwind_info),
        eh_frame_svma: svma_range(&image.eh_frame),
        eh_frame: mapped(&image.eh_frame),
        text_segment_svma: svma_range(&image.text_segment),
        text_segment: mapped(&image.text_segment),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(String::new(), tables.range.0..tables.range.1, tables.range.0, sections)
}
