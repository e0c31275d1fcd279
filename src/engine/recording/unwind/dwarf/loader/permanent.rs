//! Which of the loaded modules are there for as long as this code can run.

use std::ops::Range;

use super::elf::Description;

/// What a module is linked by.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    pub(super) range: Range<u64>,
    /// The name of its file.
    pub(super) file: Vec<u8>,
    /// What others ask for it by.
    pub(super) soname: Vec<u8>,
    /// What it asks for.
    pub(super) needed: Vec<Vec<u8>>,
}

impl Links {
    /// Reads the dynamic section.
    ///
    /// # Safety
    /// The module stays loaded meanwhile: the loader's lock is held.
    pub(super) unsafe fn read(module: &Description, path: &[u8]) -> Self {
        let range = module.range();
        let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let mut links = Self { range, file, ..Self::default() };
        let dynamic = module.segments(libc::PT_DYNAMIC).next();
        let Some(dynamic) = dynamic.map(|segment| segment.range(module.bias)) else { return links };
        let is_inside =
            |range: &Range<u64>| links.range.start <= range.start && range.end <= links.range.end;
        if !is_inside(&dynamic) || !dynamic.start.is_multiple_of(8) {
            return links;
        }
        let count = (dynamic.end - dynamic.start) as usize / size_of::<[u64; 2]>();
        // SAFETY: inside the module, which stays; the loader has written what it writes there.
        let entries: &[[u64; 2]] =
            unsafe { std::slice::from_raw_parts(dynamic.start as *const _, count) };
        let entries = || entries.iter().take_while(|[tag, _]| *tag != DT_NULL);
        let value = |of: u64| entries().find(|[tag, _]| *tag == of).map(|[_, value]| *value);
        let (Some(strings), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else { return links };
        // glibc writes the address in memory here, musl leaves that of the file.
        let strings = if links.range.contains(&strings) {
            strings
        } else {
            module.bias.wrapping_add(strings)
        };
        if !is_inside(&(strings..strings.saturating_add(size))) {
            return links;
        }
        // SAFETY: inside the module, which stays; read-only.
        let strings: &[u8] =
            unsafe { std::slice::from_raw_parts(strings as *const u8, size as usize) };
        let string = |at: u64| {
            let text = strings.get(at as usize..).unwrap_or_default();
            text.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
        };
        links.soname = value(DT_SONAME).map(string).unwrap_or_default();
        let needed = entries().filter(|[tag, _]| *tag == DT_NEEDED);
        links.needed = needed.map(|[_, value]| string(*value)).collect();
        links
    }
}

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;

/// For each module, whether it is permanent. They are in the loader's order, the program first.
///
/// Permanent are, by the loader's rules, the program, which is never unloaded; the module that this
/// code is in, since whoever asks runs it; what permanent modules are linked to, for a library is
/// not unloaded before those that need it; the loader itself and the kernel's vDSO. Whatever else
/// is loaded, be it for years, may be closed by somebody at any time.
pub(super) fn permanent(modules: &[Links]) -> Vec<bool> {
    // musl never unloads anything: `dlclose` does nothing.
    if cfg!(target_env = "musl") {
        return vec![true; modules.len()];
    }
    // The loader and the vDSO, as the kernel tells.
    #[cfg(target_os = "linux")]
    // SAFETY: no memory is passed.
    let kernel =
        [libc::AT_BASE, libc::AT_SYSINFO_EHDR].map(|kind| unsafe { libc::getauxval(kind) });
    #[cfg(not(target_os = "linux"))]
    let kernel: [u64; 0] = [];
    let here = permanent as *const () as u64;
    let is_root =
        |module: &Links| module.range.contains(&here) || kernel.contains(&module.range.start);
    let roots: Vec<bool> =
        modules.iter().enumerate().map(|(at, module)| at == 0 || is_root(module)).collect();
    with_needed(modules, roots)
}

/// Adds what the permanent modules need, and what that needs.
fn with_needed(modules: &[Links], mut permanent: Vec<bool>) -> Vec<bool> {
    let mut next: Vec<usize> = (0..modules.len()).filter(|at| permanent[*at]).collect();
    while let Some(module) = next.pop() {
        let needed = modules[module].needed.iter().filter_map(|name| provider(modules, name));
        for needed in
            needed.filter(|at| !std::mem::replace(&mut permanent[*at], true)).collect::<Vec<_>>()
        {
            next.push(needed);
        }
    }
    permanent
}

/// Which module a name stands for in a list of needed ones: the first of those so called, as the
/// loader looks through them in the same order. A file name counts only without a name for linking;
/// a module that is missed here costs time and nothing else.
fn provider(modules: &[Links], name: &[u8]) -> Option<usize> {
    let file = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let by_soname = modules.iter().position(|module| module.soname == name);
    by_soname.or_else(|| {
        modules.iter().position(|module| module.soname.is_empty() && module.file == file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(file: &str, soname: &str, needed: &[&str]) -> Links {
        Links {
            range: 0..0,
            file: file.into(),
            soname: soname.into(),
            needed: needed.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn what_the_program_needs_is_permanent_and_plugins_are_not() {
        let modules = [
            module("program", "", &["libdirect.so.1", "libplain.so"]),
            module("libdirect.so.1.2", "libdirect.so.1", &["libindirect.so.2"]),
            module("libplain.so", "", &[]),
            module("libindirect.so.2", "libindirect.so.2", &["libdirect.so.1"]),
            module("plugin.so", "plugin.so", &["libdirect.so.1", "libonly.so"]),
            module("libonly.so", "libonly.so", &[]),
            // Another file of the same name, loaded by its path.
            module("libdirect.so.1", "libdirect.so.1", &["libonly.so"]),
        ];
        let roots = vec![true, false, false, false, false, false, false];
        let permanent = with_needed(&modules, roots);
        assert_eq!(permanent, [true, true, true, true, false, false, false]);
    }
}
