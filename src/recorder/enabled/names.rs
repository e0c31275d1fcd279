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
        let build_ids: Vec<Vec<u8>> = modules.iter().map(|m| bytes(&m.build_id)).collect();
        let files: Vec<ModuleRef<'_>> = modules
            .iter()
            .zip(&build_ids)
            .map(|(module, build_id)| ModuleRef {
                path: &module.path,
                build_id,
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

/// Of a hexadecimal number.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits.filter_map(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok()).collect()
}
