//! A survey of all units of a module, which may be made in steps. It finds out which crates there
//! are, and in which units to look for names.

use gimli::{DebugInfoOffset, Section as _};

use super::debug_info::{Dwarf, Reader, Unit, dwarf, for_each_symbol};
use super::elf::Files;
use super::units::Units;
use crate::blame::{Packages, crate_of_main};
use crate::names::file_name;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Survey {
    units: Units,
    /// The number of bytes of the debug information that was surveyed.
    length: usize,
    /// The offset of the next unit.
    next_unit: usize,
    /// The crate and the address of Rust's `main`.
    main: Option<(String, u64)>,
    /// The folder in which `main` was compiled.
    directory: Option<String>,
    is_complete: bool,
}

impl Survey {
    /// Whether all units were surveyed.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The memory that the survey takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.units.bytes()
    }

    /// The units of this debug information, if it is what was surveyed. The module's file may be
    /// gone, or a file with debug information may have appeared, since the survey.
    pub(super) fn units(&self, dwarf: &Dwarf<'_>) -> Option<&Units> {
        (self.length == length(dwarf)).then_some(&self.units)
    }

    /// Surveys up to `max_units` further units and records their crates. After the last one it
    /// records which crate holds `main`, if this module is the program itself. The positions of
    /// units are kept while they take less than `max_bytes` bytes.
    pub(super) fn advance(
        &mut self,
        files: &Files,
        executable: Option<&str>,
        max_units: usize,
        max_bytes: usize,
        packages: &mut Packages,
    ) {
        let dwarf = dwarf(files);
        let length = dwarf.as_ref().map_or(0, length);
        if self.length != length {
            *self = Self { length, ..Self::default() };
        }
        if self.next_unit == 0 {
            self.main = executable.and_then(|path| main_symbol(files, path));
        }
        if let Some(dwarf) = dwarf
            && !self.read_units(&dwarf, max_units, max_bytes, packages)
        {
            return;
        }
        self.is_complete = true;
        self.units.shrink();
        match (&self.main, executable) {
            (Some((krate, _)), _) => packages.set_main(krate, self.directory.as_deref()),
            (None, Some(path)) => packages.set_executable(path),
            (None, None) => {}
        }
    }

    /// Reads up to `max_units` further units. Returns whether there are no more.
    fn read_units(
        &mut self,
        dwarf: &Dwarf<'_>,
        max_units: usize,
        max_bytes: usize,
        packages: &mut Packages,
    ) -> bool {
        for _ in 0..max_units {
            let Ok(header) = dwarf.unit_header(DebugInfoOffset(self.next_unit)) else {
                return true;
            };
            let end = self.next_unit + header.length_including_self();
            let unit = dwarf.unit(header).ok();
            // Only an unbroken sequence of first units is kept: once one is left out, so are all
            // after it.
            if self.units.end() == self.next_unit && self.units.bytes() < max_bytes {
                self.units.push(dwarf, unit.as_ref(), end);
            }
            if let Some(unit) = &unit {
                self.add_crate(dwarf, unit, packages);
            }
            self.next_unit = end;
        }
        false
    }

    fn add_crate(&mut self, dwarf: &Dwarf<'_>, unit: &Unit<'_>, packages: &mut Packages) {
        let text = |value: Option<Reader<'_>>| {
            value.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let directory = text(unit.comp_dir);
        packages.add_unit(&text(unit.name), &directory);
        if let Some((_, address)) = self.main
            && self.directory.is_none()
            && covers(dwarf, unit, address)
        {
            self.directory = Some(directory);
        }
    }
}

fn length(dwarf: &Dwarf<'_>) -> usize {
    dwarf.debug_info.reader().len()
}

/// The crate and the address of Rust's `main`. If there are several, the one in the crate that the
/// executable is named after is taken, or else the first.
fn main_symbol(files: &Files, executable: &str) -> Option<(String, u64)> {
    let mut best: Option<(String, u64)> = None;
    let executable = file_name(executable).replace('-', "_");
    for_each_symbol(files, |symbol, address, _| {
        if let Some(krate) = crate_of_main(symbol)
            && (best.is_none() || krate == executable)
        {
            best = Some((krate, address));
        }
    });
    best
}

fn covers(dwarf: &Dwarf<'_>, unit: &Unit<'_>, address: u64) -> bool {
    let Ok(mut ranges) = dwarf.unit_ranges(unit) else { return false };
    while let Ok(Some(range)) = ranges.next() {
        if (range.begin..range.end).contains(&address) {
            return true;
        }
    }
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::engine::recording::symbols::elf::ModuleRef;
    use crate::engine::recording::symbols::lookup::locations;
    use crate::engine::recording::unwind::Modules;
    use crate::snapshot::Module;

    const MAX_BYTES: usize = 1 << 20;

    /// The files of this program.
    fn this() -> Files {
        let program = Modules::new().unwrap().info(0);
        let path = String::from_utf8(program.path).unwrap();
        let build_id = Module::build_id_from_bytes(&program.build_id);
        Files::open(&ModuleRef { path: &path, build_id: &build_id, bias: 0 })
    }

    fn surveyed(files: &Files, max_units: usize, max_bytes: usize) -> Survey {
        let mut survey = Survey::default();
        survey.advance(files, None, max_units, max_bytes, &mut Packages::default());
        survey
    }

    /// Addresses in functions all over the program.
    fn addresses(files: &Files) -> Vec<u64> {
        let mut functions = Vec::new();
        for_each_symbol(files, |_, address, size| functions.push(address + size / 2));
        functions.sort_unstable();
        functions.dedup();
        let each = functions.len() / 1000;
        functions.into_iter().step_by(each.max(1)).collect()
    }

    fn known(survey: &Survey, dwarf: &Dwarf<'_>) -> usize {
        let all = survey.units.starts(dwarf).len();
        all - survey.units.candidates(&[], all).len()
    }

    #[test]
    fn names_do_not_depend_on_how_much_was_surveyed() {
        let files = this();
        let addresses = addresses(&files);
        assert!(addresses.len() >= 1000);
        let plain = locations(&files, &Survey::default(), &addresses);
        let inlined = plain.values().filter(|location| location.functions.len() > 1).count();
        assert!(
            inlined > 50,
            "{inlined} addresses with inlined functions are too few for this test"
        );
        let dwarf = dwarf(&files).unwrap();
        let complete = surveyed(&files, usize::MAX, MAX_BYTES);
        let all = known(&complete, &dwarf);
        assert!(complete.is_complete() && all > 100);
        let half = surveyed(&files, all / 2, MAX_BYTES);
        assert_eq!((half.is_complete(), known(&half, &dwarf)), (false, all / 2));
        let bounded = surveyed(&files, usize::MAX, complete.bytes() / 2);
        assert!(bounded.is_complete() && (1..all).contains(&known(&bounded, &dwarf)));
        for survey in [complete, half, bounded] {
            assert!(
                locations(&files, &survey, &addresses) == plain,
                "{} known",
                known(&survey, &dwarf)
            );
        }
    }

    #[test]
    fn few_units_are_opened_for_an_address() {
        let files = this();
        let dwarf = dwarf(&files).unwrap();
        let survey = surveyed(&files, usize::MAX, MAX_BYTES);
        let all = known(&survey, &dwarf);
        let addresses = addresses(&files);
        let near = |address| survey.units.candidates(&[address], all).len();
        let opened: usize = addresses.iter().map(|address| near(*address)).sum();
        assert!(opened < 8 * addresses.len(), "{opened} of {all} for {}", addresses.len());
    }

    #[test]
    fn a_survey_in_steps_equals_a_survey_in_one_pass() {
        let files = this();
        let mut packages = Packages::default();
        let (mut survey, mut steps) = (Survey::default(), 0);
        let path = std::env::current_exe().unwrap();
        while !survey.is_complete() {
            survey.advance(&files, path.to_str(), 100, MAX_BYTES, &mut packages);
            steps += 1;
        }
        let mut at_once = Packages::default();
        let mut other = Survey::default();
        other.advance(&files, path.to_str(), usize::MAX, MAX_BYTES, &mut at_once);
        assert!(steps > 1);
        assert_eq!(format!("{survey:?}"), format!("{other:?}"));
        assert_eq!(format!("{packages:?}"), format!("{at_once:?}"));
    }

    #[test]
    fn a_survey_of_other_debug_information_is_discarded() {
        let files = this();
        let dwarf = dwarf(&files).unwrap();
        let complete = surveyed(&files, usize::MAX, MAX_BYTES);
        let all = known(&complete, &dwarf);
        // This is as if the debug information had been different until now.
        let mut survey = surveyed(&files, 10, MAX_BYTES);
        survey.length += 1;
        assert!(survey.units(&dwarf).is_none());
        survey.advance(&files, None, 10, MAX_BYTES, &mut Packages::default());
        assert_eq!(known(&survey, &dwarf), 10, "from the first unit on");
        survey.advance(&files, None, usize::MAX, MAX_BYTES, &mut Packages::default());
        assert_eq!(known(&survey, &dwarf), all);
        // The file disappears before the survey is complete.
        let mut survey = surveyed(&files, 10, MAX_BYTES);
        let gone = Files::open(&ModuleRef { path: "/gone/library.so", build_id: "01", bias: 0 });
        survey.advance(&gone, None, 10, MAX_BYTES, &mut Packages::default());
        assert!(survey.is_complete() && survey.units(&dwarf).is_none());
        assert!(locations(&gone, &complete, &[0x1000]).is_empty());
    }
}
