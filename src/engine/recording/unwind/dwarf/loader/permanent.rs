//! Determines which of the loaded modules stay loaded for as long as this code can run.

use std::ops::Range;

use super::elf::Description;

/// How a module is linked to others.
#[derive(Clone, Debug, Default)]
pub(super) struct Linkage {
    pub(super) range: Range<u64>,
    /// The name of its file, without folders.
    pub(super) file_name: Vec<u8>,
    /// The name by which others depend on it (`DT_SONAME`).
    pub(super) soname: Vec<u8>,
    /// The names that it depends on (`DT_NEEDED`).
    pub(super) needed: Vec<Vec<u8>>,
}

impl Linkage {
    /// Reads the dynamic section.
    ///
    /// # Safety
    /// The module stays loaded during the call, which holding the loader's lock ensures.
    pub(super) unsafe fn read(module: &Description, path: &[u8]) -> Self {
        let range = module.range();
        let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let mut linkage = Self { range, file_name: file, ..Self::default() };
        let dynamic = module.segments(libc::PT_DYNAMIC).next();
        let Some(dynamic) = dynamic.map(|segment| segment.range(module.bias)) else {
            return linkage;
        };
        let is_inside = |range: &Range<u64>| {
            linkage.range.start <= range.start && range.end <= linkage.range.end
        };
        if !is_inside(&dynamic) || !dynamic.start.is_multiple_of(8) {
            return linkage;
        }
        let count = (dynamic.end - dynamic.start) as usize / size_of::<[u64; 2]>();
        // SAFETY: the section is aligned and inside the module, which the caller keeps loaded. The
        // loader writes to it only before it lists the module.
        let entries: &[[u64; 2]] =
            unsafe { std::slice::from_raw_parts(dynamic.start as *const _, count) };
        let entries = || entries.iter().take_while(|[tag, _]| *tag != DT_NULL);
        let value = |of: u64| entries().find(|[tag, _]| *tag == of).map(|[_, value]| *value);
        let (Some(strings), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
            return linkage;
        };
        // glibc replaces this by the address in memory; musl leaves the address that the file
        // states.
        let strings = if linkage.range.contains(&strings) {
            strings
        } else {
            module.bias.wrapping_add(strings)
        };
        if !is_inside(&(strings..strings.saturating_add(size))) {
            return linkage;
        }
        // SAFETY: the string table is inside the module, which the caller keeps loaded, and is
        // read-only.
        let strings: &[u8] =
            unsafe { std::slice::from_raw_parts(strings as *const u8, size as usize) };
        let string = |at: u64| {
            let text = strings.get(at as usize..).unwrap_or_default();
            text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
        };
        linkage.soname = value(DT_SONAME).map(string).unwrap_or_default();
        let needed = entries().filter(|[tag, _]| *tag == DT_NEEDED);
        linkage.needed = needed.map(|[_, value]| string(*value)).collect();
        linkage
    }
}

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;

/// For each module, whether it is permanent. The modules are in the loader's order, the program
/// first.
///
/// By the loader's rules these modules are permanent: the program, which is never unloaded; the
/// module that contains this code, since its caller runs it; the dependencies of permanent modules,
/// because a library is not unloaded before those that need it; the loader itself and the kernel's
/// vDSO. Any other module may be closed at any time, however long it has been loaded.
pub(super) fn permanent_modules(modules: &[Linkage]) -> Vec<bool> {
    // musl never unloads anything: `dlclose` does nothing.
    if cfg!(target_env = "musl") {
        return vec![true; modules.len()];
    }
    // The start addresses of the loader and of the vDSO, as the kernel reports them.
    #[cfg(target_os = "linux")]
    // SAFETY: `getauxval` takes a number and accesses no memory of ours.
    let kernel =
        [libc::AT_BASE, libc::AT_SYSINFO_EHDR].map(|kind| unsafe { libc::getauxval(kind) });
    #[cfg(not(target_os = "linux"))]
    let kernel: [u64; 0] = [];
    let here = permanent_modules as *const () as u64;
    let is_root =
        |module: &Linkage| module.range.contains(&here) || kernel.contains(&module.range.start);
    let roots: Vec<bool> =
        modules.iter().enumerate().map(|(at, module)| at == 0 || is_root(module)).collect();
    with_dependencies(modules, roots)
}

/// Adds the direct and indirect dependencies of the permanent modules.
fn with_dependencies(modules: &[Linkage], mut permanent: Vec<bool>) -> Vec<bool> {
    let mut next: Vec<usize> = (0..modules.len()).filter(|at| permanent[*at]).collect();
    while let Some(module) = next.pop() {
        let needed = modules[module].needed.iter().filter_map(|name| module_named(modules, name));
        for needed in
            needed.filter(|at| !std::mem::replace(&mut permanent[*at], true)).collect::<Vec<_>>()
        {
            next.push(needed);
        }
    }
    permanent
}

/// Finds the module that a dependency's name refers to: the first one of that name, since the
/// loader searches in the same order. The file name counts only for modules without a soname. If a
/// module is missed here it counts as dynamic, which costs time and nothing else.
fn module_named(modules: &[Linkage], name: &[u8]) -> Option<usize> {
    let file = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let by_soname = modules.iter().position(|module| module.soname == name);
    by_soname.or_else(|| {
        modules.iter().position(|module| module.soname.is_empty() && module.file_name == file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(file: &str, soname: &str, needed: &[&str]) -> Linkage {
        Linkage {
            range: 0..0,
            file_name: file.into(),
            soname: soname.into(),
            needed: needed.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn dependencies_of_the_program_are_permanent_and_plugins_are_not() {
        let modules = [
            module("program", "", &["libdirect.so.1", "libplain.so"]),
            module("libdirect.so.1.2", "libdirect.so.1", &["libindirect.so.2"]),
            module("libplain.so", "", &[]),
            module("libindirect.so.2", "libindirect.so.2", &["libdirect.so.1"]),
            module("plugin.so", "plugin.so", &["libdirect.so.1", "libonly.so"]),
            module("libonly.so", "libonly.so", &[]),
            // Another file with the same soname, loaded by its path.
            module("libdirect.so.1", "libdirect.so.1", &["libonly.so"]),
        ];
        let roots = vec![true, false, false, false, false, false, false];
        let permanent = with_dependencies(&modules, roots);
        assert_eq!(permanent, [true, true, true, true, false, false, false]);
    }
}
