//! Names from this process's own binaries, for leak reports.

use crate::blame::{Frame, Packages};
use crate::leak::Names;
use crate::snapshot::Module;
use crate::symbols::{ModuleRef, Symbols};

/// Resolves addresses of this process.
#[derive(Debug)]
pub(crate) struct OwnNames(Symbols);

impl OwnNames {
    pub(crate) fn new(own_crates: Vec<String>) -> Self {
        Self(Symbols::new(own_crates))
    }
}

impl Names for OwnNames {
    fn resolve(&mut self, modules: &[Module], addresses: &[(usize, u64)]) -> Vec<Vec<Frame>> {
        let files: Vec<ModuleRef<'_>> = modules
            .iter()
            .map(|module| ModuleRef {
                path: &module.path,
                build_id: &module.build_id,
                bias: module.load_bias,
            })
            .collect();
        let absolute = |(module, address): &(usize, u64)| {
            (*module, address.wrapping_add(modules[*module].load_bias))
        };
        self.0.resolve(&files, &addresses.iter().map(absolute).collect::<Vec<_>>())
    }

    fn packages(&self) -> &Packages {
        self.0.packages()
    }
}
