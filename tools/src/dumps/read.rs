//! Reading dumps.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use heapdrift::Snapshot;
use heapdrift::dump::{self, ReadError};

use crate::error::Error;
use crate::output::file;

/// Reads a dump, from standard input if `path` is `-`. The error names the path.
pub(crate) fn dump(path: &Path) -> Result<Snapshot, Error> {
    with_buffer(path, &mut Vec::new())
}

/// Reads a dump by way of `document`, which several reads can share.
fn with_buffer(path: &Path, document: &mut Vec<u8>) -> Result<Snapshot, Error> {
    let unpacked = if file::is_dash(path) {
        dump::unpack(io::stdin().lock(), document)
    } else {
        File::open(path).map_err(ReadError::Io).and_then(|file| dump::unpack(file, document))
    };
    let read = unpacked.and_then(|()| dump::from_json(document));
    read.map_err(|error| Error::Dump(path.to_owned(), error))
}

/// Calls `each` with every dump, in order. Reader threads are ahead of it by one dump each.
pub(crate) fn each(paths: &[PathBuf], mut each: impl FnMut(&Path, Snapshot)) -> Result<(), Error> {
    let readers = thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    thread::scope(|scope| {
        let queues: Vec<_> = (0..readers)
            .map(|reader| {
                let (sender, receiver) = sync_channel(1);
                scope.spawn(move || {
                    let mut document = Vec::new();
                    for path in paths.iter().skip(reader).step_by(readers) {
                        // The receiver is gone when another dump could not be read.
                        if sender.send(with_buffer(path, &mut document)).is_err() {
                            break;
                        }
                    }
                });
                receiver
            })
            .collect();
        for (path, queue) in paths.iter().zip(queues.iter().cycle()) {
            each(path, queue.recv().expect("a reader sends each of its dumps")?);
        }
        Ok(())
    })
}
