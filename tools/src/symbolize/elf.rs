//! Facts about an ELF file that can be read without parsing its debug information.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use object::{Object as _, ObjectSegment as _, ReadCache, SegmentFlags};

/// Facts about an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elf {
    pub(super) build_id: String,
    pub(super) debug_info: bool,
    /// Whether some of its debug information may be in `.dwo` files: the split units find their
    /// addresses in a section of this file.
    pub(super) split: bool,
    pub(super) symbols: bool,
    /// The file name of its separate debug information, if there is any.
    pub(super) debug_link: Option<String>,
    /// The address range of its first executable segment.
    pub(super) code: Option<Range<u64>>,
    pub(super) modified_unix_ms: u64,
}

impl Elf {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let found = std::fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            _ => error.to_string(),
        })?;
        // The path comes from the dump, and opening a pipe or a terminal could block forever.
        if !found.is_file() {
            return Err("not a regular file".to_owned());
        }
        let file = File::open(path).map_err(|error| error.to_string())?;
        let cache = ReadCache::new(file);
        let elf = object::File::parse(&cache).map_err(|_| "not an ELF file".to_owned())?;
        let id = elf.build_id().ok().flatten().unwrap_or_default();
        let modified = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let has_data = |section: &str| elf.section_by_name_bytes(section.as_bytes()).is_some();
        Ok(Self {
            build_id: heapdrift::snapshot::Module::build_id_from_bytes(id),
            debug_info: has_data(".debug_info") || has_data(".zdebug_info"),
            split: has_data(".debug_addr"),
            symbols: has_data(".symtab"),
            debug_link: elf
                .gnu_debuglink()
                .ok()
                .flatten()
                .map(|(name, _)| String::from_utf8_lossy(name).into_owned()),
            code: elf.segments().find_map(|segment| match segment.flags() {
                SegmentFlags::Elf { p_flags, .. } if p_flags.contains(object::elf::PF_X) => {
                    Some(segment.address()..segment.address().checked_add(segment.size())?)
                }
                _ => None,
            }),
            modified_unix_ms: modified
                .unwrap_or(Duration::MAX)
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
        })
    }
}
