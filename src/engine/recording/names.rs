//! Names from this process's own binaries, for leak reports.

use crate::blame::{Frame, Packages};
use crate::engine::recording::symbols::{ModuleRef, Symbols};
use crate::leak::Names;
use crate::leak::detection::observation::Observation;
use crate::snapshot::Module;

/// Resolves addresses of this process to functions.
#[derive(Debug)]
pub(crate) struct OwnNames(Symbols);

impl OwnNames {
    pub(crate) fn new(own_crates: Vec<String>) -> Self {
        Self(Symbols::new(own_crates))
    }

    /// Takes one bounded step toward names in the program, which is the module that this function
    /// is in.
    pub(crate) fn prepare(&mut self, live: &dyn Observation) {
        let here = Self::prepare as *const () as u64;
        if let Some(module) = live.module(here) {
            self.0.prepare(&file(&module));
        }
    }
}

fn file(module: &Module) -> ModuleRef<'_> {
    ModuleRef { path: &module.path, build_id: &module.build_id, bias: module.load_bias }
}

impl Names for OwnNames {
    fn resolve(&mut self, modules: &[Module], addresses: &[(usize, u64)]) -> Vec<Vec<Frame>> {
        let files: Vec<ModuleRef<'_>> = modules.iter().map(file).collect();
        let absolute = |(module, address): &(usize, u64)| {
            (*module, address.wrapping_add(modules[*module].load_bias))
        };
        self.0.resolve(&files, &addresses.iter().map(absolute).collect::<Vec<_>>())
    }

    fn packages(&self) -> &Packages {
        self.0.packages()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::snapshot::module;
    use super::*;
    use crate::Snapshot;
    use crate::engine::recording::unwind::Modules;
    use crate::leak::detection::observation::SnapshotObservation;

    #[test]
    fn prepare_surveys_the_program_itself() {
        let known = Modules::new().unwrap();
        let snapshot = Snapshot {
            modules: (0..known.len()).map(|number| module(known.info(number))).collect(),
            ..Snapshot::default()
        };
        let mut names = OwnNames::new(Vec::new());
        let nothing = format!("{:?}", names.packages());
        names.prepare(&SnapshotObservation::new(&snapshot));
        assert_ne!(format!("{:?}", names.packages()), nothing, "its crates are known");
    }
}
