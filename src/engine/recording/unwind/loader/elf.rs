//! ELF: `dl_iterate_phdr`, and what the program headers of a module tell.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;

use framehop::{ExplicitModuleSectionInfo, Module};
use libc::Elf64_Phdr as Header;

use super::{Tables, UnwindTables};

/// Calls back with every module that is loaded now, the executable first. Takes the loader's lock.
pub(in crate::engine::recording::unwind) fn each_loaded(mut call: impl FnMut(&Found<'_>)) {
    let executable = std::env::current_exe().unwrap_or_default();
    let executable = executable.as_os_str().as_bytes();
    let mut visit = Visit { executable: Some(executable), call: &mut call };
    // SAFETY: the callback matches the declared type, and `visit` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(on_loaded), (&raw mut visit).cast()) };
}

/// What the callback works on.
struct Visit<'a> {
    /// Taken by the first module.
    executable: Option<&'a [u8]>,
    call: &'a mut dyn FnMut(&Found<'_>),
}

unsafe extern "C" fn on_loaded(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    visit: *mut c_void,
) -> c_int {
    // SAFETY: what `each_loaded` has passed, which nothing else uses during its call.
    let visit = unsafe { &mut *visit.cast::<Visit<'_>>() };
    // SAFETY: valid during the callback.
    let info = unsafe { &*info };
    let executable = visit.executable.take();
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader's own headers of a loaded module.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    // SAFETY: a string of the loader.
    let name = unsafe { text(info.dlpi_name) };
    // glibc has no name for the executable, and musl this one if it is linked statically.
    let is_nameless = name.is_empty() || name == b"/proc/self/exe";
    let path = executable.filter(|_| is_nameless).unwrap_or(name);
    (visit.call)(&Found::new(path, info.dlpi_addr, headers));
    0
}

/// The bytes of a C string, or none of a null pointer.
///
/// # Safety
/// The string stays for `'a`.
pub(super) unsafe fn text<'a>(string: *const c_char) -> &'a [u8] {
    if string.is_null() {
        return b"";
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(string) }.to_bytes()
}

/// `PF_X` of a program header.
const EXECUTABLE: u32 = 1;

/// A module as the loader describes it.
pub(in crate::engine::recording::unwind) struct Found<'a> {
    path: &'a [u8],
    bias: u64,
    headers: &'a [Header],
}

impl<'a> Found<'a> {
    pub(super) fn new(path: &'a [u8], bias: u64, headers: &'a [Header]) -> Self {
        Self { path, bias, headers }
    }

    pub(in crate::engine::recording::unwind) fn path(&self) -> &'a [u8] {
        self.path
    }

    /// What is added to the module's own addresses to get those in memory.
    pub(in crate::engine::recording::unwind) fn bias(&self) -> u64 {
        self.bias
    }

    fn segments(&self, kind: u32) -> impl Iterator<Item = (Range<u64>, &Header)> {
        self.headers.iter().filter(move |header| header.p_type == kind).map(|header| {
            let start = self.bias.wrapping_add(header.p_vaddr);
            (start..start + header.p_memsz, header)
        })
    }

    pub(in crate::engine::recording::unwind) fn range(&self) -> Range<u64> {
        self.segments(libc::PT_LOAD)
            .map(|(range, _)| range)
            .reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))
            .unwrap_or_default()
    }

    pub(in crate::engine::recording::unwind) fn eh_frame_hdr(&self) -> Range<u64> {
        self.segments(libc::PT_GNU_EH_FRAME).map(|(range, _)| range).next().unwrap_or_default()
    }

    /// `.eh_frame` from the pointer in `.eh_frame_hdr` to the end of its segment: where it ends is
    /// written nowhere, and is found by the terminator when it is read.
    pub(in crate::engine::recording::unwind) fn eh_frame(&self) -> Range<u64> {
        /// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: the only encoding that linkers write here.
        const RELATIVE: u8 = 0x1b;
        let hdr = self.eh_frame_hdr();
        if hdr.end - hdr.start < 8 {
            return 0..0;
        }
        // SAFETY: eight bytes inside a mapped segment.
        let head = unsafe { (hdr.start as *const [u8; 8]).read() };
        if head[0] != 1 || head[1] != RELATIVE {
            return 0..0;
        }
        let offset = i32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let start = (hdr.start + 4).wrapping_add_signed(offset.into());
        self.segments(libc::PT_LOAD)
            .find(|(range, _)| range.contains(&start))
            .map_or(0..0, |(range, _)| start..range.end)
    }

    pub(in crate::engine::recording::unwind) fn build_id(&self) -> &[u8] {
        for (range, header) in self.segments(libc::PT_NOTE) {
            // SAFETY: a note segment is mapped where its header says.
            let mut notes = unsafe {
                std::slice::from_raw_parts(range.start as *const u8, header.p_memsz as usize)
            };
            while let [a, b, c, d, e, f, g, h, kind @ ..] = notes {
                let name_len = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
                let data_len = u32::from_ne_bytes([*e, *f, *g, *h]) as usize;
                let align = if header.p_align == 8 { 8 } else { 4_usize };
                let data = 12 + name_len.next_multiple_of(4);
                let data = data.next_multiple_of(align);
                let is_build_id =
                    kind.starts_with(&3_u32.to_ne_bytes()) && notes.get(12..16) == Some(b"GNU\0");
                if is_build_id {
                    return notes.get(data..data + data_len).unwrap_or_default();
                }
                notes = notes.get((data + data_len).next_multiple_of(align)..).unwrap_or_default();
            }
        }
        &[]
    }

    /// The first executable segment: where it begins in the file, and where it is, relative to the
    /// module.
    pub(in crate::engine::recording::unwind) fn code(&self) -> (u64, Range<u64>) {
        let mut loaded = self.segments(libc::PT_LOAD).map(|(_, header)| header);
        loaded
            .find(|header| header.p_flags & EXECUTABLE != 0)
            .map_or((0, 0..0), |code| (code.p_offset, code.p_vaddr..code.p_vaddr + code.p_memsz))
    }
}

/// The walk reads unwind tables where the loader mapped them.
pub(in crate::engine::recording::unwind) fn framehop_module(
    tables: UnwindTables,
) -> Module<Tables> {
    let stated = |(start, end): (u64, u64)| {
        (end > start).then(|| start.wrapping_sub(tables.bias)..end.wrapping_sub(tables.bias))
    };
    let sections = ExplicitModuleSectionInfo {
        base_svma: 0,
        eh_frame_svma: stated(tables.eh_frame),
        eh_frame: tables.mapped(tables.eh_frame),
        eh_frame_hdr_svma: stated(tables.eh_frame_hdr),
        eh_frame_hdr: tables.mapped(tables.eh_frame_hdr),
        ..ExplicitModuleSectionInfo::default()
    };
    Module::new(String::new(), tables.range.0..tables.range.1, tables.bias, sections)
}
