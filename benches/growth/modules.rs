//! The cost by the number of shared libraries. They are copies of one library that calls a
//! callback, loaded before the session starts. A stack goes through forty of their frames, in turn,
//! and as many of the program.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use heapdrift::Profiler;

use crate::clock::process_ns;
use crate::measure::{exact_session, ms, ns_each};

const PAIRS: usize = 5_000;
/// Nested calls through the libraries, in turn.
const CALLS: usize = 40;

const CODE: &str = "int through(int (*call)(void *), void *data) { return call(data) + 1; }\n";

type Callback = extern "C" fn(*mut c_void) -> c_int;
type Through = unsafe extern "C" fn(Callback, *mut c_void) -> c_int;

pub(crate) fn row(modules: usize) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = compile(folder.path());
    let through: Vec<Through> = (0..modules)
        .map(|number| {
            let copy = folder.path().join(format!("lib{number}.so"));
            fs::copy(&library, &copy).expect("a copy of the library");
            open(&copy)
        })
        .collect();

    let begin = process_ns();
    let profiler = exact_session();
    let start = (process_ns() - begin) as f64 / 1e6;
    let sampled = ns_each(PAIRS, || {
        for _ in 0..PAIRS {
            let mut calls = Calls { through: &through, left: CALLS };
            hop((&raw mut calls).cast());
        }
    });
    let snapshot = snapshot(&profiler);
    vec![format!("{start:.2}"), format!("{sampled:.0}"), snapshot]
}

fn snapshot(profiler: &Profiler) -> String {
    ms(|| drop(black_box(profiler.snapshot())))
}

/// A chain of calls: through each library in turn, then an allocation.
struct Calls<'a> {
    through: &'a [Through],
    left: usize,
}

extern "C" fn hop(calls: *mut c_void) -> c_int {
    // SAFETY: `row` passes a value that outlives the chain, and has no other reference to it.
    let chain = unsafe { &mut *calls.cast::<Calls<'_>>() };
    if chain.left == 0 {
        drop(black_box(Box::new([0_u8; 64])));
        return 0;
    }
    chain.left -= 1;
    let next = chain.through[chain.left % chain.through.len()];
    // SAFETY: the function of this type in `CODE`; the callback takes the pointer that is passed,
    // and does not unwind.
    unsafe { next(hop, calls) }
}

fn compile(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("through.c"), folder.join("through.so"));
    fs::write(&source, CODE).expect("a file in a new folder");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]);
    let status = cc.status().expect("a C compiler is installed");
    assert!(status.success(), "cc: {status}");
    library
}

fn open(path: &Path) -> Through {
    let path = CString::new(path.to_str().expect("a path in UTF-8")).expect("a path without NUL");
    // SAFETY: a library made above, without constructors.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{path:?} cannot be opened");
    // SAFETY: an open library, which stays open.
    let symbol = unsafe { libc::dlsym(handle, c"through".as_ptr()) };
    assert!(!symbol.is_null(), "{path:?} has no such function");
    // SAFETY: the function of this type in `CODE`.
    unsafe { std::mem::transmute::<*mut c_void, Through>(symbol) }
}
