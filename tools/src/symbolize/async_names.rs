//! Which closures are bodies of async functions.
//!
//! Symbols do not tell: the body of `async fn f` is `f::{closure#0}` in both manglings. Debug
//! information does: it has such a function both as `{async_fn#0}` (`DW_AT_name`) and by its symbol
//! (`DW_AT_linkage_name`). blazesym and addr2line give the second only, so this reads the pairs.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::{iter, thread};

use heapdrift::names::{Closures, Kind};
use object::ReadCache;

use crate::symbolize::dwarf::{self, Reader, covers};
use crate::symbolize::threads::{joined, threads};

/// What each of `symbols` is, by the debug information in `file`, and in its `package` where that was
/// split off. What cannot be read tells nothing, and counts as a plain closure.
///
/// The units that have code at one of `addresses` (sorted) are searched first: they have nearly
/// all of the symbols, and then nothing else is read. Only functions that were inlined across
/// units are elsewhere.
pub(crate) fn closures(
    file: &Path,
    package: Option<&Path>,
    symbols: HashSet<String>,
    addresses: &[u64],
) -> Closures {
    let mut search = Search { missing: symbols, found: HashMap::new() };
    let _ = search.file(file, package, addresses);
    let mut closures = Closures::default();
    let unknown = search.missing.into_iter().map(|symbol| (symbol, None));
    for (symbol, kind) in search.found.into_iter().chain(unknown) {
        closures.insert(symbol, kind);
    }
    closures
}

struct Search {
    missing: HashSet<String>,
    found: HashMap<String, Option<Kind>>,
}

impl Search {
    fn file(&mut self, file: &Path, package: Option<&Path>, addresses: &[u64]) -> Option<()> {
        let cache = ReadCache::new(File::open(file).ok()?);
        let object = object::File::parse(&cache).ok()?;
        let sections = dwarf::sections(&object)?;
        let dwarf = dwarf::borrowed(&sections, &object);
        let cache = package.and_then(|path| Some(ReadCache::new(File::open(path).ok()?)));
        let package = cache.as_ref().and_then(|cache| object::File::parse(cache).ok());
        let sections = package.as_ref().and_then(dwarf::package_sections);
        let package = package.as_ref().zip(sections.as_ref());
        let package =
            package.and_then(|(object, sections)| dwarf::borrowed_package(sections, object));
        let (mut covering, mut others) = (Vec::new(), Vec::new());
        dwarf::each_unit(&dwarf, |header, unit| {
            let group = if covers(&dwarf, unit, addresses) { &mut covering } else { &mut others };
            group.push(header);
        });
        let (dwarf, package) = (&dwarf, package.as_ref());
        let (this, units) = (&*self, Mutex::new(covering.into_iter()));
        // Some units are a hundred times as large as others.
        let next = || units.lock().expect("nothing panics with the lock held").next();
        let found: Vec<_> = thread::scope(|scope| {
            let part_of = |_| scope.spawn(|| this.found_in(dwarf, package, iter::from_fn(next)));
            let parts: Vec<_> = (0..threads()).map(part_of).collect();
            parts.into_iter().map(joined).collect()
        });
        for (symbol, kind) in found.into_iter().flatten() {
            self.take(&symbol, || kind);
        }
        for header in others {
            if self.missing.is_empty() {
                break;
            }
            if let Ok(unit) = dwarf.unit(header) {
                let _ = self.whole_unit(dwarf, package, &unit);
            }
        }
        Some(())
    }

    /// What some of the units have.
    fn found_in<'a>(
        &self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        package: Option<&gimli::DwarfPackage<Reader<'a>>>,
        headers: impl Iterator<Item = gimli::UnitHeader<Reader<'a>>>,
    ) -> HashMap<String, Option<Kind>> {
        let mut search = Self { missing: self.missing.clone(), found: HashMap::new() };
        for unit in headers.filter_map(|header| dwarf.unit(header).ok()) {
            let _ = search.whole_unit(dwarf, package, &unit);
        }
        search.found
    }

    /// Takes down what a symbol is, if that was not known.
    fn take(&mut self, symbol: &str, kind: impl FnOnce() -> Option<Kind>) {
        if let Some(symbol) = self.missing.take(symbol) {
            self.found.insert(symbol, kind());
        }
    }

    /// Searches a unit, or the one in the package that it stands for.
    fn whole_unit<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        package: Option<&gimli::DwarfPackage<Reader<'a>>>,
        unit: &gimli::Unit<Reader<'a>>,
    ) -> gimli::Result<()> {
        let Some((package, id)) = package.zip(unit.dwo_id) else {
            return self.unit(dwarf, unit);
        };
        let Some(split) = package.find_cu(id, dwarf)? else { return Ok(()) };
        let mut headers = split.units();
        while let Some(header) = headers.next()? {
            self.unit(&split, &split.unit(header)?)?;
        }
        Ok(())
    }

    fn unit<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        unit: &gimli::Unit<Reader<'a>>,
    ) -> gimli::Result<()> {
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if entry.tag() != gimli::DW_TAG_subprogram {
                continue;
            }
            let text = |attribute| {
                let value = entry.attr_value(attribute)?;
                let text = dwarf.attr_string(unit, value).ok()?;
                std::str::from_utf8(text.slice()).ok()
            };
            if let Some(symbol) = text(gimli::DW_AT_linkage_name) {
                self.take(symbol, || text(gimli::DW_AT_name).and_then(Kind::of_debug_name));
            }
        }
        Ok(())
    }
}
