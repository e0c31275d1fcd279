//! The first fields of a dump: which process it is of, and when it was taken.
//!
//! They stand at the beginning of the document, so a thousand dumps are put in order without reading
//! them. What is wrong with a file is not said here: whoever reads all of it says so.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use heapdrift::snapshot::{Process, Taken};
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

/// More than what stands before the tables in any dump of ours.
const MAX_HEAD_BYTES: u64 = 1 << 20;

/// Which process, and when.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) process: Process,
    pub(crate) taken: Taken,
}

impl Head {
    /// Reads the head of a dump, if that is what the file is.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        // Opening a pipe would take away what the reader needs.
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let unpacked = MultiGzDecoder::new(BufReader::new(File::open(path).ok()?));
        let mut json =
            serde_json::Deserializer::from_reader(BufReader::new(unpacked.take(MAX_HEAD_BYTES)));
        let mut found = Fields::default();
        // Ends with an error on purpose, as soon as both fields are there.
        let _ = json.deserialize_map(&mut found);
        Some(Self { process: found.process?, taken: found.taken? })
    }
}

#[derive(Default)]
struct Fields {
    process: Option<Process>,
    taken: Option<Taken>,
}

impl<'de> Visitor<'de> for &mut Fields {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dump")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "process" => self.process = Some(map.next_value()?),
                "taken" => self.taken = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if self.process.is_some() && self.taken.is_some() {
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}
