//! A look at all units of a module, which may be made in steps: it tells which crates there are, and
//! in which units names are to be looked for.

use gimli::{DebugInfoOffset, Section as _};

use super::debug_info::{Dwarf, Reader, Unit, dwarf, for_each_symbol};
use super::elf::Files;
use super::units::Units;
use crate::blame::{Packages, crate_of_main};
use crate::names::file_name;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Survey {
    units: Units,
    /// Bytes of the debug information that this is about.
    length: usize,
    /// Where the unit begins that is next.
    next: usize,
    /// The crate and the address of Rust's `main`.
    main: Option<(String, u64)>,
    /// Where that was compiled.
    directory: Option<String>,
    is_complete: bool,
}

impl Survey {
    /// Whether there is nothing more to see.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.units.bytes()
    }

    /// The units of this debug information, if it is what was looked at: the next time a module may be
    /// without its file, or have got one with debug information.
    pub(super) fn units(&self, dwarf: &Dwarf<'_>) -> Option<&Units> {
        (self.length == length(dwarf)).then_some(&self.units)
    }

    /// Looks at so many more units, and takes down their crates; at last, which of them holds `main`,
    /// if this is the program itself. Where units are is kept as long as it takes less than `room` bytes.
    pub(super) fn advance(
        &mut self,
        files: &Files,
        executable: Option<&str>,
        most_units: usize,
        room: usize,
        packages: &mut Packages,
    ) {
        let dwarf = dwarf(files);
        let length = dwarf.as_ref().map_or(0, length);
        if self.length != length {
            *self = Self { length, ..Self::default() };
        }
        if self.next == 0 {
            self.main = executable.and_then(|path| main_symbol(files, path));
        }
        if let Some(dwarf) = dwarf
            && !self.pass(&dwarf, most_units, room, packages)
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

    /// Whether that was the last one.
    fn pass(
        &mut self,
        dwarf: &Dwarf<'_>,
        most_units: usize,
        room: usize,
        packages: &mut Packages,
    ) -> bool {
        for _ in 0..most_units {
            let Ok(header) = dwarf.unit_header(DebugInfoOffset(self.next)) else { return true };
            let end = self.next + header.length_including_self();
            let unit = dwarf.unit(header).ok();
            // Only the first ones are known: where one was left out, all after it are.
            if self.units.end() == self.next && self.units.bytes() < room {
                self.units.push(dwarf, unit.as_ref(), end);
            }
            if let Some(unit) = &unit {
                self.add_crate(dwarf, unit, packages);
            }
            self.next = end;
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

/// The crate and the address of Rust's `main`. That of the crate which the executable is
/// called after, else the first.
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

    const ROOM: usize = 1 << 20;

    /// The files of this program.
    fn this() -> Files {
        let program = Modules::new().unwrap().info(0);
        let path = String::from_utf8(program.path).unwrap();
        let build_id: String = program.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        Files::open(&ModuleRef { path: &path, build_id: &build_id, bias: 0 })
    }

    fn surveyed(files: &Files, most_units: usize, room: usize) -> Survey {
        let mut survey = Survey::default();
        survey.advance(files, None, most_units, room, &mut Packages::default());
        survey
    }

    /// Addresses in functions all over the program.
    fn addresses(files: &Files) -> Vec<u64> {
        let mut functions = Vec::new();
        for_each_symbol(files, |_, address, size| functions.push(address + size / 2));
        functions.sort_unstable();
        functions.dedup();
        let each = functions.len() / 400;
        functions.into_iter().step_by(each.max(1)).collect()
    }

    fn known(survey: &Survey, dwarf: &Dwarf<'_>) -> usize {
        let all = survey.units.starts(dwarf).len();
        all - survey.units.near(&[], all).len()
    }

    #[test]
    fn names_are_the_same_whatever_is_known() {
        let files = this();
        let addresses = addresses(&files);
        assert!(addresses.len() >= 400);
        let plain = locations(&files, &Survey::default(), &addresses);
        let inlined = plain.values().filter(|location| location.functions.len() > 1).count();
        assert!(inlined > 50, "{inlined} places with inlined functions are no test");
        let dwarf = dwarf(&files).unwrap();
        let complete = surveyed(&files, usize::MAX, ROOM);
        let all = known(&complete, &dwarf);
        assert!(complete.is_complete() && all > 100);
        let half = surveyed(&files, all / 2, ROOM);
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
        let survey = surveyed(&files, usize::MAX, ROOM);
        let all = known(&survey, &dwarf);
        let addresses = addresses(&files);
        let near = |address| survey.units.near(&[address], all).len();
        let opened: usize = addresses.iter().map(|address| near(*address)).sum();
        assert!(opened < 8 * addresses.len(), "{opened} of {all} for {}", addresses.len());
    }

    #[test]
    fn steps_come_to_what_one_pass_comes_to() {
        let files = this();
        let mut packages = Packages::default();
        let (mut survey, mut steps) = (Survey::default(), 0);
        let path = std::env::current_exe().unwrap();
        while !survey.is_complete() {
            survey.advance(&files, path.to_str(), 100, ROOM, &mut packages);
            steps += 1;
        }
        let mut at_once = Packages::default();
        let mut other = Survey::default();
        other.advance(&files, path.to_str(), usize::MAX, ROOM, &mut at_once);
        assert!(steps > 1);
        assert_eq!(format!("{survey:?}"), format!("{other:?}"));
        assert_eq!(format!("{packages:?}"), format!("{at_once:?}"));
    }

    #[test]
    fn units_of_another_file_are_not_believed() {
        let files = this();
        let dwarf = dwarf(&files).unwrap();
        let complete = surveyed(&files, usize::MAX, ROOM);
        let all = known(&complete, &dwarf);
        // As if there had been other debug information until now.
        let mut survey = surveyed(&files, 10, ROOM);
        survey.length += 1;
        assert!(survey.units(&dwarf).is_none());
        survey.advance(&files, None, 10, ROOM, &mut Packages::default());
        assert_eq!(known(&survey, &dwarf), 10, "from the first unit on");
        survey.advance(&files, None, usize::MAX, ROOM, &mut Packages::default());
        assert_eq!(known(&survey, &dwarf), all);
        // The file is gone before it was seen to the end.
        let mut survey = surveyed(&files, 10, ROOM);
        let gone = Files::open(&ModuleRef { path: "/gone/library.so", build_id: "01", bias: 0 });
        survey.advance(&gone, None, 10, ROOM, &mut Packages::default());
        assert!(survey.is_complete() && survey.units(&dwarf).is_none());
        assert!(locations(&gone, &complete, &[0x1000]).is_empty());
    }
}
