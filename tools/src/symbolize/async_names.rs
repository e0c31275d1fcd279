//! Finds out which closures are bodies of async functions.
//!
//! Symbols do not say so: the body of `async fn f` is `f::{closure#0}` in both mangling schemes.
//! Debug information does: the function is called `{async_fn#0}` there (`DW_AT_name`), next to its
//! symbol (`DW_AT_linkage_name`). blazesym and addr2line return only the symbol, so the pairs are
//! read here.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::{iter, thread};

use heapdrift::names::{Closures, Kind};
use object::ReadCache;

use crate::symbolize::dwarf::{self, Reader, covers};
use crate::symbolize::threads::{join, threads};

/// The kind of each of `symbols`, from the debug information in `file` and, if that was split off,
/// in its `package`. Symbols that are not found count as plain closures.
///
/// The units with code at one of `addresses` (sorted) are searched first. They have nearly all of
/// the symbols, and nothing else is read if they have all; only functions that were inlined across
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
        // Some units are a hundred times larger than others, so threads take them one by one.
        let next = || units.lock().expect("nothing panics with the lock held").next();
        let found: Vec<_> = thread::scope(|scope| {
            let start = |_| scope.spawn(|| this.found_in(dwarf, package, iter::from_fn(next)));
            let searches: Vec<_> = (0..threads()).map(start).collect();
            searches.into_iter().map(join).collect()
        });
        for (symbol, kind) in found.into_iter().flatten() {
            self.record(&symbol, || kind);
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

    /// The kinds of the symbols that are in some of the units.
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

    /// Records the kind of a symbol, if it is wanted and was not found before.
    fn record(&mut self, symbol: &str, kind: impl FnOnce() -> Option<Kind>) {
        if let Some(symbol) = self.missing.take(symbol) {
            self.found.insert(symbol, kind());
        }
    }

    /// Searches a unit, or the split unit in the package that it refers to.
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
                self.record(symbol, || text(gimli::DW_AT_name).and_then(Kind::of_debug_name));
            }
        }
        Ok(())
    }
}
