//! `heapdrift merge`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use heapdrift::Snapshot;
use heapdrift::dump::{EXTENSION, MAX_UNPACKED_BYTES};

use super::{stdin_once, write};
use crate::cli;
use crate::dumps::merge::Merge;
use crate::dumps::sessions;
use crate::error::Error;
use crate::output;
use crate::output::progress;

/// Adds dumps up, holding no more than a few of them at a time.
pub(crate) fn run(args: cli::Merge) -> Result<(), Error> {
    stdin_once(&args.dumps)?;
    let dumps = sessions::last_paths(args.dumps);
    let mut merge = Merge::default();
    let bar = progress::bar(dumps.len(), "dumps");
    let read = each_dump(&dumps, |path, dump| {
        let name = path.to_string_lossy();
        let name = name.strip_suffix(EXTENSION).unwrap_or(&name);
        let origin = |key| match dump.process.host.as_str() {
            host if key == "host" && !host.is_empty() => (key, host),
            _ => (key, name),
        };
        merge.add(&dump, args.origin_label.as_deref().map(origin));
        bar.inc(1);
    });
    bar.finish_and_clear();
    read?;
    let merged = merge.finish();
    check_size(&merged, MAX_UNPACKED_BYTES).map_err(|e| Error::Output(args.output.clone(), e))?;
    write(&args.output, |path| {
        output::write_private(path, |out| heapdrift::dump::to_writer(&merged, out))
    })
}

/// Calls `each` with every dump, in order. Others read ahead of it, each by one dump.
fn each_dump(paths: &[PathBuf], mut each: impl FnMut(&Path, Snapshot)) -> Result<(), Error> {
    let readers = thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    thread::scope(|scope| {
        let shelves: Vec<_> = (0..readers)
            .map(|reader| {
                let (shelf, taken) = sync_channel(1);
                scope.spawn(move || {
                    let mut document = Vec::new();
                    for path in paths.iter().skip(reader).step_by(readers) {
                        // Nobody takes it any more: another dump could not be read.
                        if shelf.send(Error::read_dump_by(path, &mut document)).is_err() {
                            break;
                        }
                    }
                });
                taken
            })
            .collect();
        for (path, shelf) in paths.iter().zip(shelves.iter().cycle()) {
            each(path, shelf.recv().expect("a reader goes through all of its dumps")?);
        }
        Ok(())
    })
}

/// What cannot be read again is not written.
fn check_size(dump: &Snapshot, limit: u64) -> io::Result<()> {
    let size = unpacked_bytes(dump)?;
    if size <= limit {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "expected at most {} MiB unpacked, found {}: {} different stacks; merge fewer dumps, or \
         without --origin-label",
        limit >> 20,
        size >> 20,
        dump.stacks.len()
    )))
}

/// The length of the document.
fn unpacked_bytes(dump: &Snapshot) -> io::Result<u64> {
    struct Count(u64);

    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // What stands around the snapshot in the document.
    let mut count = Count(64);
    serde_json::to_writer(&mut count, dump)?;
    Ok(count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let mut dump = Snapshot::default();
        dump.process.executable = "x".repeat(3 << 20);
        let mut packed = Vec::new();
        heapdrift::dump::to_writer(&dump, &mut packed).unwrap();
        let document = io::copy(&mut flate2::read::GzDecoder::new(&*packed), &mut io::sink());
        let size = unpacked_bytes(&dump).unwrap();
        assert!((document.unwrap()..).contains(&size), "never less than it is");
        assert!(check_size(&dump, size).is_ok());
        let refused = check_size(&dump, size - 1).unwrap_err().to_string();
        assert!(refused.contains("expected at most 3 MiB unpacked, found 3"), "{refused}");
    }
}
