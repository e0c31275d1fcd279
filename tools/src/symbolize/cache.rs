//! A cache of names on disk, which makes a second look at the same binary quick.
//!
//! There is one file for each build-id, with all addresses that were ever looked up and the
//! functions at them. It is valid only for the version of this program that wrote it, and only as
//! long as the files that the names were taken from are the same (path, size and modification
//! time). Files that cannot be read or written are ignored: only speed depends on the cache.
//!
//! All files together stay below [`MAX_BYTES`]; the least recently used files are removed first.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use heapdrift::snapshot::Symbols;
use serde::{Deserialize, Serialize};

use crate::heap::symbolized::Frame;
use crate::output::file;
use crate::symbolize::embedded::symbol_table;

/// The most bytes that all files of the cache take together.
pub const MAX_BYTES: u64 = 256 << 20;

/// The most bytes that one file may unpack to: about a million addresses.
const MAX_UNPACKED_BYTES: u64 = 256 << 20;

/// The version of the naming rules. It must be increased when names change but the version of this
/// program does not.
const NAMING: u32 = 1;

/// The functions at each address, innermost first; none if the address is known to have no name.
pub(crate) type Known = HashMap<u64, Vec<Frame>>;

/// A folder with cached names.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// A file of the cache.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The program and the files that the names are from.
    source: Source,
    /// The addresses, in the order of `symbols`.
    address: Vec<u64>,
    symbols: Symbols,
}

/// The program that looked names up and the files that it read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    program: String,
    files: Vec<SourceFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SourceFile {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Source {
    /// The current state of `files`.
    pub(crate) fn of(files: &[&Path]) -> Option<Self> {
        let file = |path: &&Path| {
            let found = fs::metadata(path).ok()?;
            let modified = found.modified().ok()?;
            Some(SourceFile { path: path.to_path_buf(), bytes: found.len(), modified })
        };
        let program = format!("{} {NAMING}", env!("CARGO_PKG_VERSION"));
        Some(Self { program, files: files.iter().map(file).collect::<Option<_>>()? })
    }
}

/// The cache folder of this user: `$XDG_CACHE_HOME/heapdrift`, or `~/.cache/heapdrift`.
pub fn default_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("heapdrift"))
}

impl Cache {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The cached names of a build, if they are from this source.
    pub(crate) fn read(&self, build_id: &str, source: &Source) -> Known {
        self.entry(build_id, source).map(Entry::known).unwrap_or_default()
    }

    fn entry(&self, build_id: &str, source: &Source) -> Option<Entry> {
        let file = File::open(self.file(build_id)?).ok()?;
        // The modification time of a cache file is the time of its last use.
        let _ = file.set_modified(SystemTime::now());
        let mut unpacked = Vec::new();
        let mut decoder = GzDecoder::new(BufReader::new(file)).take(MAX_UNPACKED_BYTES);
        decoder.read_to_end(&mut unpacked).ok()?;
        let entry: Entry = serde_json::from_slice(&unpacked).ok()?;
        (entry.source == *source && entry.is_valid()).then_some(entry)
    }

    /// Stores the names of a build.
    pub(crate) fn write(&self, build_id: &str, source: Source, known: &Known) {
        let Some(path) = self.file(build_id) else { return };
        let written = create_private(&self.folder).and_then(|()| {
            let entry = Entry::new(source, known);
            file::write_private(&path, |out| {
                let gzip = GzEncoder::new(out, Compression::fast());
                let mut buffered = BufWriter::with_capacity(64 << 10, gzip);
                serde_json::to_writer(&mut buffered, &entry)?;
                buffered.into_inner()?.finish().map(drop)
            })
        });
        if written.is_ok() {
            let _ = self.shrink(MAX_BYTES);
        }
    }

    /// Removes the least recently used files until the rest is small enough.
    fn shrink(&self, max_bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            let found = file.metadata()?;
            if found.is_file() {
                files.push((found.modified()?, found.len(), file.path()));
            }
        }
        files.sort();
        let mut sum: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if sum <= max_bytes {
                break;
            }
            fs::remove_file(path)?;
            sum -= bytes;
        }
        Ok(())
    }

    /// The file of a build. The build-id comes from a dump and must not lead outside the folder.
    fn file(&self, build_id: &str) -> Option<PathBuf> {
        let safe = (8..=128).contains(&build_id.len())
            && build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        safe.then(|| self.folder.join(format!("{build_id}.json.gz")))
    }
}

impl Entry {
    fn new(source: Source, known: &Known) -> Self {
        let mut address: Vec<u64> = known.keys().copied().collect();
        address.sort_unstable();
        let symbols = symbol_table(address.iter().map(|address| known[address].as_slice()));
        Self { source, address, symbols }
    }

    fn is_valid(&self) -> bool {
        let symbols = &self.symbols;
        let sum: u64 = symbols.count.iter().map(|&count| u64::from(count)).sum();
        symbols.count.len() == self.address.len()
            && sum == symbols.function.len() as u64
            && symbols.function.iter().all(|&f| (f as usize) < symbols.functions.len())
    }

    fn known(self) -> Known {
        let functions: Vec<Frame> = self.symbols.functions.iter().map(Frame::from).collect();
        let frames = self.symbols.of_frames().map(|indices| {
            indices.iter().map(|&function| functions[function as usize].clone()).collect()
        });
        self.address.iter().copied().zip(frames).collect()
    }
}

/// Creates a folder that only its owner can read, because names reveal what a program does.
fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn known(addresses: std::ops::Range<u64>) -> Known {
        let frame = |address: u64| Frame {
            function: format!("f{}", address % 3),
            krate: "k".into(),
            file: address.is_multiple_of(2).then(|| "src/f.rs".into()),
            line: address.is_multiple_of(2).then_some(7),
        };
        // Every fifth address has no name, which is cached as well.
        addresses
            .map(|a| (a, if a % 5 == 0 { vec![] } else { vec![frame(a), frame(a + 1)] }))
            .collect()
    }

    fn source(folder: &Path) -> Source {
        let file = folder.join("binary");
        fs::write(&file, "binary").unwrap();
        Source::of(&[&file]).unwrap()
    }

    #[test]
    fn names_are_found_as_long_as_their_source_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("deep/cache"));
        let source = source(folder.path());
        assert_eq!(cache.read(ID, &source), Known::new());
        cache.write(ID, source.clone(), &known(0..100));
        assert_eq!(cache.read(ID, &source), known(0..100));
        assert_eq!(cache.read("fedcba9876543210", &source), Known::new());
        let binary = folder.path().join("binary");
        fs::write(&binary, "another binary").unwrap();
        assert_eq!(cache.read(ID, &Source::of(&[&binary]).unwrap()), Known::new());
    }

    #[test]
    fn a_damaged_file_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let source = source(folder.path());
        cache.write(ID, source.clone(), &known(0..100));
        let path = cache.file(ID).unwrap();
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            fs::write(&path, &bad).unwrap();
            let _ = cache.read(ID, &source);
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(cache.read(ID, &source), Known::new(), "cut at {at}");
        }
        let entry = Entry::new(source.clone(), &known(0..3));
        assert!(entry.is_valid());
        let broken = |breaks: fn(&mut Entry)| {
            let mut entry = Entry::new(source.clone(), &known(0..3));
            breaks(&mut entry);
            entry.is_valid()
        };
        assert!(!broken(|entry| entry.symbols.function[0] = 7));
        assert!(!broken(|entry| entry.symbols.count[1] = u32::MAX));
        assert!(!broken(|entry| entry.address.push(9)));
    }

    #[test]
    fn a_build_id_cannot_lead_out_of_the_folder() {
        let cache = Cache::new("/cache".into());
        for bad in ["", "../../etc/passwd", "0123456789abcde/", "01"] {
            assert_eq!(cache.file(bad), None, "{bad}");
        }
        assert_eq!(cache.file(ID), Some("/cache/0123456789abcdef.json.gz".into()));
    }

    #[test]
    fn the_least_recently_used_file_is_removed_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        let source = source(folder.path());
        let ids = ["aaaaaaaa", "bbbbbbbb", "cccccccc"];
        for (age, id) in [30, 20, 10].into_iter().zip(ids) {
            cache.write(id, source.clone(), &known(0..1000));
            let file = File::options().write(true).open(cache.file(id).unwrap()).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        let one = fs::metadata(cache.file("aaaaaaaa").unwrap()).unwrap().len();
        // Reading it makes it the most recently used.
        assert!(!cache.read("aaaaaaaa", &source).is_empty());
        cache.shrink(2 * one + 100).unwrap();
        let left: Vec<bool> = ids.iter().map(|id| cache.file(id).unwrap().exists()).collect();
        assert_eq!(left, [true, false, true]);
    }
}
