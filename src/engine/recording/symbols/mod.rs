//! Names for the few addresses that a report shows, inside the running service.
//!
//! This is not for the hook and must be called muted: it reads files and allocates. What it keeps
//! between two calls is bounded: [`CACHED_ADDRESSES`] resolved addresses, a list of the program's
//! crates, and [`SURVEY_BYTES`] about the positions of its units. Files are mapped only during a
//! call, and their pages belong to the page cache.
//!
//! The first name in a module requires a survey of all its units. Callers that may need names later
//! [prepare](Symbols::prepare) for that in steps.
//!
//! Measured with optimisation on one of two shared cores (rustc 1.95): 20 stacks of 40 frames at
//! random functions all over a program, which is the worst case. The peak of the heap includes the
//! resolved names.
//!
//! | program | size | `.debug_info` | survey of its crates, once | 800 addresses | heap, peak | same addresses again |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | dev, `debug = 2` | 137 MB | 46 MB | 16 ms | 146 ms | 1.1 MiB | 0.3 ms |
//! | release, `limited` | 74 MB | 21 MB | 19 ms | 156 ms | 2.2 MiB | 0.7 ms |
//!
//! Names take a third to a half of that since less is read for each. The time grows with the debug
//! information and with the number of units that the addresses lie in: 300 MB should take about a
//! second. The heap does not grow with it. Without optimisation, as in a dev build of the service,
//! it takes five times as long.
//!
//! A file is used only if its build-id is that of the mapped module. For a library without a
//! build-id names would be guesses, so its frames are `module+0xaddress`, like those of modules
//! without symbols. The executable needs no build-id, since the kernel gives access to the running
//! file itself.

use std::collections::HashMap;

use crate::blame::{Frame, Packages};
use crate::names::file_name;

mod debug_info;
mod elf;
mod functions;
mod lookup;
#[allow(unsafe_code)]
mod mapped;
mod naming;
mod survey;
mod units;

pub(crate) use elf::ModuleRef;
use elf::{Files, without_deleted};
use survey::Survey;

/// The most resolved addresses that are kept. A report of 20 stacks of 40 frames has at most 800,
/// and the next one has mostly the same. An address takes 1.1 KiB in a dev build and 2.5 KiB in a
/// release build, where there are four functions at an address: 5 MiB when the cache is full.
const CACHED_ADDRESSES: usize = 2048;

/// The most memory that the surveys of modules take, enough for some 30,000 units. Further units
/// are opened for every lookup.
const SURVEY_BYTES: usize = 1 << 20;

/// The number of units that are surveyed in a step, which takes some 15 ms. Nothing is named before
/// the twentieth tick, so nineteen steps, or 38,000 units, may come before the first name.
const UNITS_PER_STEP: usize = 2000;

/// Resolves addresses to functions.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    packages: Packages,
    /// The numbers of the modules that were asked about, by path and build-id.
    modules: HashMap<(String, String), u32>,
    /// The survey of each module, by its number.
    surveys: Vec<Survey>,
    /// Resolved frames, by module number and address in the module.
    cache: HashMap<(u32, u64), Vec<Frame>>,
}

impl Symbols {
    /// Knows nothing yet, except the crates that are the service's own.
    pub(crate) fn new(own_crates: Vec<String>) -> Self {
        Self { packages: Packages::new(own_crates), ..Self::default() }
    }

    /// Surveys some more of a module's units, so that the first lookup of names in it does not have
    /// to wait for all of them. It is meant to be called repeatedly.
    pub(crate) fn prepare(&mut self, module: &ModuleRef<'_>) {
        self.advance_survey(module, UNITS_PER_STEP);
    }

    /// The functions at each of `addresses`, innermost first; there is always at least one. An
    /// address consists of its module, an index into `modules`, and the address in memory, which
    /// lies inside the call instruction.
    pub(crate) fn resolve(
        &mut self,
        modules: &[ModuleRef<'_>],
        addresses: &[(usize, u64)],
    ) -> Vec<Vec<Frame>> {
        if self.cache.len() + addresses.len() > CACHED_ADDRESSES {
            self.cache.clear();
        }
        let relative = |module: &ModuleRef<'_>, address: u64| address.wrapping_sub(module.bias);
        let numbers: Vec<u32> =
            modules.iter().map(|module| self.advance_survey(module, usize::MAX)).collect();
        for (at, module) in modules.iter().enumerate() {
            let mut missing: Vec<u64> = addresses
                .iter()
                .filter(|(of, _)| *of == at)
                .map(|(_, address)| relative(module, *address))
                .filter(|address| !self.cache.contains_key(&(numbers[at], *address)))
                .collect();
            missing.sort_unstable();
            missing.dedup();
            if !missing.is_empty() {
                self.resolve_in_module(module, numbers[at], &missing);
            }
        }
        let frames = |(module, address): &(usize, u64)| {
            let address = relative(&modules[*module], *address);
            self.cache.get(&(numbers[*module], address)).cloned().unwrap_or_default()
        };
        addresses.iter().map(frames).collect()
    }

    /// What is known of the program's crates, from every module in which addresses were resolved.
    pub(crate) fn packages(&self) -> &Packages {
        &self.packages
    }

    /// Surveys up to `max_units` further units of a module, from which its crates become known.
    /// Returns the number of the module.
    fn advance_survey(&mut self, module: &ModuleRef<'_>, max_units: usize) -> u32 {
        let key = (module.path.to_owned(), module.build_id.to_owned());
        let number = *self.modules.entry(key).or_insert_with(|| {
            self.surveys.push(Survey::default());
            self.surveys.len() as u32 - 1
        });
        let used_bytes: usize = self.surveys.iter().map(Survey::bytes).sum();
        let survey = &mut self.surveys[number as usize];
        if !survey.is_complete() {
            let path = without_deleted(module.path);
            let executable = elf::is_executable(module.path).then_some(path);
            let max_bytes = SURVEY_BYTES.saturating_sub(used_bytes) + survey.bytes();
            let packages = &mut self.packages;
            survey.advance(&Files::open(module), executable, max_units, max_bytes, packages);
        }
        number
    }

    fn resolve_in_module(&mut self, module: &ModuleRef<'_>, number: u32, addresses: &[u64]) {
        let survey = &self.surveys[number as usize];
        let locations = lookup::locations(&Files::open(module), survey, addresses);
        let name = without_deleted(module.path);
        let mut frames = naming::frames(&locations, name, &self.packages);
        for &address in addresses {
            let frames = frames.remove(&address).filter(|frames| !frames.is_empty());
            let frames = frames.unwrap_or_else(|| {
                let function = format!("{}+{address:#x}", file_name(name));
                vec![self.packages.frame(function, None, None, name, address)]
            });
            self.cache.insert((number, address), frames);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io;

    use super::*;
    use crate::blame::Kind;
    use crate::engine::recording::unwind::Modules;
    use crate::snapshot::Module;

    /// The modules of this process, and a stack in it.
    struct Here {
        modules: Vec<Module>,
        stack: Vec<(usize, u64)>,
    }

    impl Here {
        #[inline(never)]
        fn new() -> Self {
            let known = Modules::new().unwrap();
            let mut stack = Vec::new();
            backtrace::trace(|frame| {
                let address = (frame.ip() as u64).saturating_sub(1);
                stack.extend(known.newest_at(address, known.len()).map(|m| (m as usize, address)));
                true
            });
            let module = |number| {
                let info = known.info(number);
                let mut module = Module::named(String::from_utf8(info.path).unwrap());
                module.build_id = Module::build_id_from_bytes(&info.build_id);
                module.load_bias = info.bias;
                module
            };
            Self { modules: (0..known.len()).map(module).collect(), stack }
        }

        fn modules(&self) -> Vec<ModuleRef<'_>> {
            self.modules
                .iter()
                .map(|module| ModuleRef {
                    path: &module.path,
                    build_id: &module.build_id,
                    bias: module.load_bias,
                })
                .collect()
        }

        fn frames(&self, symbols: &mut Symbols) -> Vec<Frame> {
            symbols.resolve(&self.modules(), &self.stack).into_iter().flatten().collect()
        }
    }

    /// Records the stack from which it is called.
    struct Witness(Option<Here>);

    impl io::Write for Witness {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0.get_or_insert_with(Here::new);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A stack that contains the standard library, a package from a registry, and this file.
    fn in_json() -> (Here, u32) {
        let mut witness = Witness(None);
        let line = line!() + 1;
        serde_json::to_writer(&mut witness, "text").unwrap();
        (witness.0.unwrap(), line)
    }

    #[test]
    fn a_stack_of_this_process_has_names_files_and_kinds() {
        let (here, line) = in_json();
        let mut symbols = Symbols::new(Vec::new());
        let frames = here.frames(&mut symbols);
        let at = |function: &str| {
            frames.iter().find(|f| f.function.starts_with(function)).unwrap_or_else(|| {
                panic!("no {function} in {frames:#?}");
            })
        };
        let own = at("heapdrift::engine::recording::symbols::tests::in_json");
        assert!(own.own);
        assert_eq!(own.crate_name.as_deref(), Some("heapdrift"));
        assert_eq!(own.file.as_deref(), Some(file!()));
        assert_eq!(own.line, Some(line));
        assert_eq!(symbols.packages().package_of(own).kind, Kind::Own);

        let json = symbols.packages().package_of(at("serde_json::ser::to_writer"));
        assert_eq!(json.kind, Kind::Dependency);
        assert!(json.version.is_some_and(|version| version.starts_with("1.")));

        let std = at("std::panicking::");
        assert_eq!(symbols.packages().package_of(std).kind, Kind::Std);
        assert!(!std.own);
    }

    #[test]
    fn functions_and_lines_of_a_stack_match_backtrace() {
        let (here, _) = in_json();
        let mut symbols = Symbols::new(Vec::new());
        let mut compared = 0;
        for (frames, (module, address)) in
            symbols.resolve(&here.modules(), &here.stack).iter().zip(&here.stack)
        {
            // Libraries such as libc have only symbols.
            if *module != 0 {
                continue;
            }
            let mut twin = Vec::new();
            backtrace::resolve(*address as *mut std::ffi::c_void, |symbol| {
                twin.push((symbol.name().map(|name| format!("{name:#}")), symbol.lineno()));
            });
            let lines: Vec<_> = frames.iter().map(|frame| frame.line).collect();
            assert_eq!(lines, twin.iter().map(|(_, line)| *line).collect::<Vec<_>>(), "{twin:?}");
            compared += lines.len();
        }
        assert!(compared > 20, "{compared} frames are too few for this test");
    }

    #[test]
    fn functions_and_lines_across_the_program_match_backtrace() {
        let (here, _) = in_json();
        let module = here.modules()[0];
        let files = Files::open(&module);
        let mut all = Vec::new();
        debug_info::for_each_symbol(&files, |_, start, size| all.push(start + size / 2));
        all.sort_unstable();
        all.dedup();
        let chosen: Vec<u64> = all.iter().step_by(all.len() / 1000).copied().collect();
        let locations = lookup::locations(&files, &Survey::default(), &chosen);
        let mut inlined = 0;
        let described = |location: &lookup::CodeLocation| !location.functions.is_empty();
        for (address, location) in locations.iter().filter(|(_, location)| described(location)) {
            let functions: Vec<_> =
                location.functions.iter().map(|f| (Some(f.name.clone()), f.line)).collect();
            let mut twin = Vec::new();
            // `backtrace` expects return addresses.
            let returned_to = module.bias + address + 1;
            backtrace::resolve(returned_to as *mut std::ffi::c_void, |symbol| {
                let name = symbol.name().and_then(|name| name.as_str().map(str::to_owned));
                twin.push((name, symbol.lineno()));
            });
            assert_eq!(functions, twin, "at {address:#x}");
            inlined += usize::from(functions.len() > 1);
        }
        assert!(
            inlined > 50,
            "{inlined} addresses with inlined functions are too few for this test"
        );
    }

    #[test]
    fn resolved_addresses_come_from_the_cache() {
        let (here, _) = in_json();
        let mut symbols = Symbols::new(Vec::new());
        let first = here.frames(&mut symbols);
        let known = symbols.cache.len();
        // If files were read again, these addresses would have all their frames again.
        let elsewhere = here.modules();
        for frames in symbols.cache.values_mut() {
            frames.truncate(1);
        }
        let second = symbols.resolve(&elsewhere, &here.stack);
        assert!(second.iter().all(|frames| frames.len() == 1), "as changed above");
        assert_eq!(symbols.cache.len(), known);
        assert!(first.len() >= second.len());
    }

    #[test]
    fn preparing_does_not_change_names() {
        let (here, _) = in_json();
        let modules = here.modules();
        let names =
            |symbols: &mut Symbols| (here.frames(symbols), format!("{:?}", symbols.packages()));
        let plain = names(&mut Symbols::new(Vec::new()));
        let is_complete = |symbols: &Symbols| symbols.surveys.iter().all(Survey::is_complete);
        let mut half = Symbols::new(Vec::new());
        half.advance_survey(&modules[0], 100);
        assert!(!is_complete(&half));
        assert_eq!(names(&mut half), plain);
        let mut whole = Symbols::new(Vec::new());
        (0..100).for_each(|_| whole.prepare(&modules[0]));
        assert!(is_complete(&whole));
        assert_eq!(names(&mut whole), plain);
    }

    #[test]
    fn a_file_with_another_build_id_gives_bare_addresses() {
        let (here, _) = in_json();
        let mut symbols = Symbols::new(Vec::new());
        let mut modules = here.modules();
        modules.iter_mut().for_each(|module| module.build_id = "010203");
        let frames = symbols.resolve(&modules, &here.stack);
        assert_eq!(frames.len(), here.stack.len());
        for (frames, (module, address)) in frames.iter().zip(&here.stack) {
            let module = &modules[*module];
            let [frame] = &frames[..] else { panic!("{frames:?}") };
            let name = file_name(module.path);
            assert_eq!(frame.function, format!("{name}+{:#x}", address - module.bias));
            assert_eq!((&frame.crate_name, &frame.file, frame.own), (&None, &None, false));
        }
    }

    #[test]
    fn a_library_without_a_build_id_has_no_names() {
        let (here, _) = in_json();
        let library =
            here.stack.iter().find(|(module, _)| *module != 0).expect("libc starts threads");
        let mut modules = here.modules();
        modules[library.0].build_id = "";
        let frames = Symbols::new(Vec::new()).resolve(&modules, &[*library]);
        assert!(frames[0][0].function.contains("+0x"), "{frames:?}");
    }

    #[test]
    fn the_cache_is_bounded() {
        let (here, _) = in_json();
        let mut symbols = Symbols::new(Vec::new());
        let modules = here.modules();
        let mut none = modules[0];
        none.build_id = "";
        for start in 0..20 {
            let addresses: Vec<_> =
                (0..1000).map(|at| (0, none.bias + start * 1000 + at)).collect();
            assert_eq!(symbols.resolve(&[none], &addresses).len(), 1000);
            assert!(symbols.cache.len() <= CACHED_ADDRESSES);
        }
    }
}
