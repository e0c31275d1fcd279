//! The header of a dump: the fields that say which process it is of and when it was taken.
//!
//! These fields come first in the document, so a thousand dumps can be put in order without reading
//! all of them. Errors are not reported here, but when the whole file is read.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use heapdrift::snapshot::{Process, Taken};
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

/// More bytes than precede the tables in any dump that heapdrift writes.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// The process of a dump and the time when it was taken.
#[derive(Debug)]
pub(crate) struct DumpHeader {
    pub(crate) process: Process,
    pub(crate) taken: Taken,
}

impl DumpHeader {
    /// Reads the header, or returns `None` if the file is not a dump.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        // Reading from a pipe would consume bytes that the reader of the whole dump needs.
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let unpacked = MultiGzDecoder::new(BufReader::new(File::open(path).ok()?));
        let mut json =
            serde_json::Deserializer::from_reader(BufReader::new(unpacked.take(MAX_HEADER_BYTES)));
        let mut found = Fields::default();
        // The visitor ends parsing with an error on purpose, once it has both fields.
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
