//! `heapdrift merge`

use std::io::{self, Write};
use std::path::PathBuf;

use heapdrift::Snapshot;
use heapdrift::dump::{EXTENSION, MAX_UNPACKED_BYTES};

use super::options::stdin_once;
use crate::dumps::merge::Merge;
use crate::dumps::{read, sessions};
use crate::error::Error;
use crate::output::{file, progress, terminal};

/// Add up the dumps of many processes, hosts or builds into one dump
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    heapdrift merge host*/app.heap.json.gz -o fleet.heap.json.gz\n  \
    heapdrift merge a.heap.json.gz b.heap.json.gz --origin-label host -o both.heap.json.gz\n  \
    heapdrift top both.heap.json.gz --by label:host\n\n\
    Of several dumps of one process (one session) only the last counts. Stacks add up where the code\n\
    is of the same build and the labels are the same; samples keep their weights, so intervals may\n\
    differ. The peak is the sum of the peaks of all processes, which they reached at different times.")]
pub(crate) struct Args {
    /// The dumps
    #[arg(required = true, value_name = "DUMP")]
    dumps: Vec<PathBuf>,
    /// The dump to write, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Label each stack with its origin: the name of its dump without .heap.json.gz, or for the
    /// key `host` the name of the host, if the dump has one
    #[arg(long, value_name = "KEY")]
    origin_label: Option<String>,
}

/// Adds dumps up. Only a few of them are in memory at a time.
pub(crate) fn run(args: Args) -> Result<(), Error> {
    stdin_once(&args.dumps)?;
    let dumps = sessions::last_paths(args.dumps);
    let mut merge = Merge::default();
    let bar = progress::bar(dumps.len(), "dumps");
    let read = read::each(&dumps, |path, dump| {
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
    terminal::write_result(&args.output, |path| {
        file::write_private(path, |out| heapdrift::dump::to_writer(&merged, out))
    })
}

/// Refuses to write a dump that is too large to be read again.
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

/// The length of the JSON document of a dump, rounded up.
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

    // The format and version fields around the snapshot are below 64 bytes.
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
