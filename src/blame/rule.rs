//! The rule that picks the frame of a stack that is responsible for its memory.

use super::{Blame, Frame, Kind, Package, Packages};
use crate::names::machinery::{self, Role};

/// Blames one frame of a stack. `frames` are leaf first.
///
/// The blamed frame is the innermost one that is neither machinery (allocator, containers,
/// profiler) nor the standard library; failing that the innermost of the standard library, failing
/// that of C code. So a C library that was called from Rust counts for the crate that called it,
/// which is the one to look into.
///
/// # Examples
/// ```
/// use heapdrift::blame::{Kind, Packages, blame};
///
/// let mut packages = Packages::default();
/// packages.add_unit("src/main.rs/@/shop.1a2b-cgu.0", "/build/shop");
/// let auth = "/home/x/.cargo/registry/src/index-1a2b/auth-1.2.0";
/// packages.add_unit(&format!("{auth}/src/lib.rs/@/auth.3c4d-cgu.0"), auth);
/// packages.set_main("shop", None);
///
/// let frame = |function: &str, file: &str, line| {
///     packages.frame(function.into(), Some(file), Some(line), "/usr/bin/shop", 0x1234)
/// };
/// let stack = [
///     frame("auth::session::open", &format!("{auth}/src/session.rs"), 17),
///     frame("shop::http::login", "/build/shop/src/http.rs", 42),
/// ];
/// let blamed = blame(&stack, &packages);
/// assert_eq!(blamed.crate_name.as_deref(), Some("auth"));
/// assert_eq!(blamed.version.as_deref(), Some("1.2.0"));
/// assert_eq!(blamed.kind, Kind::Dependency);
/// assert_eq!(blamed.own_frame.unwrap().file.as_deref(), Some("src/http.rs"));
/// ```
pub fn blame(frames: &[Frame], packages: &Packages) -> Blame {
    let mut best: Option<(u8, usize, Package)> = None;
    for (at, frame) in frames.iter().enumerate() {
        if matches!(machinery::role(&frame.function), Role::Profiler | Role::Machinery) {
            continue;
        }
        let package = packages.package_of(frame);
        let rank = match package.kind {
            Kind::Own | Kind::Dependency => 3,
            Kind::Std => 2,
            Kind::C => 1,
            Kind::Unknown => 0,
        };
        if best.as_ref().is_none_or(|(other, ..)| rank > *other) {
            best = Some((rank, at, package));
        }
        if rank == 3 {
            break;
        }
    }
    // If there is nothing but machinery, the innermost frame is blamed.
    let (at, package) = match best {
        Some((_, at, package)) => (at, package),
        None => match frames.first() {
            Some(frame) => (0, packages.package_of(frame)),
            None => return Blame::default(),
        },
    };
    Blame {
        crate_name: package.name,
        version: package.version,
        kind: package.kind,
        own_frame: frames[at..].iter().find(|frame| frame.own).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(packages: &Packages, frames: &[(&str, &str)]) -> Vec<Frame> {
        let frame = |(function, file): &(&str, &str)| {
            let file = Some(*file).filter(|file| !file.is_empty());
            packages.frame((*function).to_owned(), file, file.map(|_| 7), "/usr/bin/shop", 1)
        };
        frames.iter().map(frame).collect()
    }

    fn shop() -> Packages {
        let mut packages = Packages::default();
        packages.add_unit("src/main.rs/@/shop.1a2b-cgu.0", "/build/shop");
        packages.set_main("shop", None);
        packages
    }

    const VEC: (&str, &str) =
        ("<alloc::vec::Vec<u8>>::reserve", "/rustc/1/library/alloc/src/vec/mod.rs");
    const READ: (&str, &str) = ("std::fs::read", "/rustc/1/library/std/src/fs.rs");
    const OWN: (&str, &str) = ("shop::upload", "/build/shop/src/upload.rs");
    const AXUM: (&str, &str) =
        ("axum::handler::call", "/home/x/.cargo/registry/src/index-1a2b/axum-0.8.9/src/handler.rs");

    #[test]
    fn the_innermost_crate_that_is_not_std_is_blamed() {
        let packages = shop();
        let blamed = blame(&stack(&packages, &[VEC, READ, AXUM, OWN]), &packages);
        assert_eq!((blamed.crate_name.as_deref(), blamed.kind), (Some("axum"), Kind::Dependency));
        assert_eq!(blamed.version.as_deref(), Some("0.8.9"), "from the file, without a unit");
        let own = blamed.own_frame.expect("main is further out");
        assert_eq!((own.function.as_str(), own.line), ("shop::upload", Some(7)));
        assert_eq!(own.file.as_deref(), Some("src/upload.rs"));
    }

    #[test]
    fn own_code_inside_of_the_blamed_frame_does_not_count() {
        let packages = shop();
        let callback = ("<shop::Pool as core::alloc::GlobalAlloc>::alloc", OWN.1);
        let blamed = blame(&stack(&packages, &[callback, AXUM]), &packages);
        assert_eq!(blamed.crate_name.as_deref(), Some("axum"));
        assert_eq!(blamed.own_frame, None);
    }

    #[test]
    fn without_other_code_std_is_blamed_and_then_c() {
        let packages = shop();
        let c = ("sqlite3_open", "");
        let blamed = blame(&stack(&packages, &[c, VEC, READ]), &packages);
        assert_eq!((blamed.crate_name.as_deref(), blamed.kind), (Some("std"), Kind::Std));
        let blamed = blame(&stack(&packages, &[c]), &packages);
        assert_eq!((blamed.crate_name.as_deref(), blamed.kind), (Some("shop"), Kind::C));
        let blamed = blame(&stack(&packages, &[("shop+0x1234", "")]), &packages);
        assert_eq!((blamed.crate_name, blamed.kind), (None, Kind::Unknown));
        assert_eq!(blame(&[], &packages), Blame::default());
    }

    #[test]
    fn a_c_library_counts_for_the_crate_that_called_it() {
        let packages = shop();
        let c = ("sqlite3_open", "");
        let blamed = blame(&stack(&packages, &[c, OWN]), &packages);
        assert_eq!((blamed.crate_name.as_deref(), blamed.kind), (Some("shop"), Kind::Own));
    }

    #[test]
    fn frames_and_blame_keep_their_names_in_json() {
        let packages = shop();
        let blamed = blame(&stack(&packages, &[OWN]), &packages);
        let json = serde_json::to_value(&blamed).unwrap();
        assert_eq!(json["crate"], "shop");
        assert_eq!(json["kind"], "own");
        assert_eq!(json["own_frame"]["crate"], "shop");
        #[cfg(feature = "read")]
        assert_eq!(serde_json::from_value::<Blame>(json).unwrap(), blamed);
    }
}
