//! Unwinding through libraries that are loaded and unloaded, and on stacks that the thread does not
//! own.
#![cfg(all(feature = "profiling", target_os = "linux", target_env = "gnu"))]
#![allow(unsafe_code)]

mod common;

use std::ffi::{CString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{exact, in_child, is_child, live_labelled, one_at_a_time};
use heapdrift::snapshot::{Module, Stack};
use heapdrift::{Alloc, Profiler, Snapshot, with_labels};

#[global_allocator]
static ALLOC: Alloc = Alloc::system();

/// Compiles a library whose function `through` calls a callback; `None` without a C compiler.
fn library(folder: &Path, name: &str, build_id: &str) -> Option<PathBuf> {
    let source = folder.join(format!("{name}.c"));
    let library = folder.join(format!("lib{name}.so"));
    // Each library has another frame size, so the unwind rules of one are wrong for the next.
    let room = name.len() * 64;
    let code = format!(
        "int through(int depth, int (*call)(void *), void *data) {{\n\
                    volatile char room[{room}] = {{0}};\n\
                    int got = depth ? through(depth - 1, call, data) : call(data);\n\
                    return got + room[0] + 1;\n\
                }}\n"
    );
    std::fs::write(&source, code).unwrap();
    // Build scripts use this variable for a cross compiler.
    let compiler = std::env::var_os("TARGET_CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-fno-optimize-sibling-calls"])
        .arg(format!("-Wl,--build-id=0x{build_id}"))
        .arg("-o")
        .args([&library, &source])
        .output()
        .ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(library)
}

type Callback = extern "C" fn(*mut c_void) -> c_int;
type Through = unsafe extern "C" fn(c_int, Callback, *mut c_void) -> c_int;

/// An open library; dropping it closes it.
struct Library(*mut c_void);

// SAFETY: the handle belongs to the loader, and any thread may use and close it.
unsafe impl Send for Library {}

impl Library {
    fn open(path: &Path) -> Self {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: `library` compiled it, without constructors, and the path is a NUL-terminated
        // string.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null());
        Self(handle)
    }

    fn through(&self) -> Through {
        // SAFETY: the handle is of an open library, and the name is a NUL-terminated string.
        let symbol = unsafe { libc::dlsym(self.0, c"through".as_ptr()) };
        assert!(!symbol.is_null());
        // SAFETY: the symbol is the function of this type in the source that `library` compiles.
        unsafe { std::mem::transmute::<*mut c_void, Through>(symbol) }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: `open` opened it, and none of its functions is running.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}

extern "C" fn allocate(blocks: *mut c_void) -> c_int {
    // SAFETY: `call` passes a vector that outlives the call and is not used otherwise meanwhile.
    let blocks = unsafe { &mut *blocks.cast::<Vec<Vec<u8>>>() };
    blocks.push(Vec::with_capacity(777));
    0
}

const DEPTH: c_int = 5;

/// Allocates a block labelled `site`, called through six frames of a library.
fn call(library: &Library, site: &str, blocks: &mut Vec<Vec<u8>>) {
    let through = library.through();
    with_labels(&[("site", site)], || {
        // SAFETY: the callback accepts the pointer that is passed with it, and does not unwind.
        let got = unsafe { through(DEPTH, allocate, (&raw mut *blocks).cast()) };
        assert_eq!(got, DEPTH + 1);
    });
}

/// The stack of the only live block of `site`, and the modules of its frames.
fn stack_of<'a>(snapshot: &'a Snapshot, site: &str) -> (&'a Stack, Vec<&'a Module>) {
    let samples = live_labelled(snapshot, "site", site);
    assert_eq!(samples.len(), 1, "{site}");
    let stack = &snapshot.stacks[samples[0].stack as usize];
    let module = |frame: &u32| &snapshot.modules[snapshot.frames.module[*frame as usize] as usize];
    (stack, stack.frames.iter().map(module).collect())
}

/// Asserts that six frames of the stack are in this library, at addresses within its file, and that
/// the unwinder continued past them.
fn assert_through(snapshot: &Snapshot, site: &str, library: &Path, build_id: &str) {
    let (stack, modules) = stack_of(snapshot, site);
    assert!(!stack.truncated, "{site}");
    let inside: Vec<usize> =
        (0..modules.len()).filter(|frame| Path::new(&modules[*frame].path) == library).collect();
    let paths: Vec<&str> = modules.iter().map(|module| module.path.as_str()).collect();
    assert_eq!(inside.len(), DEPTH as usize + 1, "{site}: {paths:?}");
    assert!(inside.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{site}: {paths:?}");
    let executable = &snapshot.modules[0].path;
    assert!(paths[..inside[0]].contains(&executable.as_str()), "the callback: {paths:?}");
    assert!(paths[inside[5] + 1..].contains(&executable.as_str()), "the caller: {paths:?}");
    for frame in inside {
        assert_eq!(modules[frame].build_id, build_id);
        let address = snapshot.frames.address[stack.frames[frame] as usize];
        assert!(address < 1 << 16, "{address:#x} is not relative to a small library");
    }
}

/// Loads several libraries one after another, most likely at the same address.
#[test]
fn frames_belong_to_the_library_that_was_loaded_when_the_sample_was_taken() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let names = ["a", "bbbb", "cccccccc"];
    let build_ids = ["0102030405060708", "1112131415161718", "2122232425262728"];
    let libraries: Option<Vec<PathBuf>> =
        names.iter().zip(build_ids).map(|(name, id)| library(&folder, name, id)).collect();
    let Some(libraries) = libraries else {
        println!("skipped: no C compiler");
        return;
    };
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let mut blocks = Vec::with_capacity(100);
    let mut addresses = Vec::new();
    for (name, path) in names.iter().zip(&libraries) {
        let library = Library::open(path);
        addresses.push(library.through() as usize);
        call(&library, name, &mut blocks);
        // Takes a snapshot while the library is loaded.
        let found = profiler.snapshot();
        let number = names.iter().position(|other| other == name).unwrap();
        assert_through(&found, name, path, build_ids[number]);
    }
    addresses.dedup();
    println!("{} libraries at {} addresses", libraries.len(), addresses.len());
    // Takes a snapshot after all libraries have been unloaded.
    let snapshot = profiler.snapshot();
    for ((name, path), build_id) in names.iter().zip(&libraries).zip(build_ids) {
        assert_through(&snapshot, name, path, build_id);
    }
    // A library that is loaded again is recognised.
    let library = Library::open(&libraries[0]);
    call(&library, "again", &mut blocks);
    assert_through(&profiler.snapshot(), "again", &libraries[0], build_ids[0]);
    assert_eq!(profiler.stats().unwound_backtrace, 0);
}

/// Whether anything is mapped at an address.
fn is_mapped(address: usize) -> bool {
    let page = (address & !4095) as *mut c_void;
    let mut resident = 0;
    // SAFETY: the call asks about one page and writes one byte, to `resident`.
    unsafe { libc::mincore(page, 1, &raw mut resident) == 0 }
}

/// Runs the test in a child process, because a fault would kill the process. Returns whether this
/// is the child.
fn runs_in_child(name: &str) -> bool {
    if !is_child() {
        in_child(name, &[]);
    }
    is_child()
}

/// Closes a plugin that was loaded before the session and has allocated in it.
#[test]
fn a_library_loaded_before_the_session_may_be_closed_during_it() {
    if !runs_in_child("a_library_loaded_before_the_session_may_be_closed_during_it") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let Some(before) = library(&folder, "before", "0102030405060708") else {
        println!("skipped: no C compiler");
        return;
    };
    let other = library(&folder, "otherone", "1112131415161718").unwrap();
    let open = Library::open(&before);
    let address = open.through() as usize;
    let profiler = exact().start().unwrap();
    let mut blocks = Vec::with_capacity(100);
    call(&open, "before", &mut blocks);
    drop(open);
    assert!(!is_mapped(address), "the library is unmapped");
    let snapshot = profiler.snapshot();
    assert_through(&snapshot, "before", &before, "0102030405060708");
    assert_one_function_start(&snapshot, "before", &before);
    // The loader most likely maps it where the first one was.
    let open = Library::open(&other);
    println!("{address:#x} and {:#x}", open.through() as usize);
    call(&open, "other", &mut blocks);
    for _ in 0..3 {
        profiler.diff_now();
    }
    drop(open);
    profiler.diff_now();
    let path = folder.join("closed.heap.json.gz");
    profiler.dump(&path).unwrap();
    let snapshot = heapdrift::dump::read(&path).unwrap();
    for (site, path, build_id) in
        [("before", &before, "0102030405060708"), ("other", &other, "1112131415161718")]
    {
        assert_through(&snapshot, site, path, build_id);
        assert_one_function_start(&snapshot, site, path);
    }
    assert_eq!(profiler.stats().unwound_backtrace, 0);
}

/// Asserts that the start of the library's only function is known, although its unwind table may
/// have been unmapped.
fn assert_one_function_start(snapshot: &Snapshot, site: &str, library: &Path) {
    let (stack, modules) = stack_of(snapshot, site);
    let inside = (0..modules.len()).filter(|frame| Path::new(&modules[*frame].path) == library);
    let mut starts: Vec<u64> =
        inside.map(|frame| snapshot.frames.function[stack.frames[frame] as usize]).collect();
    starts.dedup();
    let first = snapshot.frames.address[stack.frames[0] as usize];
    assert_eq!(starts.len(), 1, "{site}: one function");
    assert_ne!(starts[0], first);
}

/// Loads and unloads libraries on several threads, at the same addresses, while snapshots are
/// taken.
#[test]
fn libraries_may_be_loaded_and_unloaded_on_any_thread_during_snapshots() {
    const THREADS: usize = 3;
    if !runs_in_child("libraries_may_be_loaded_and_unloaded_on_any_thread_during_snapshots") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let libraries: Option<Vec<PathBuf>> = (0..2 * THREADS)
        .map(|number| {
            library(&folder, &"l".repeat(number + 1), &format!("0a0b0c0d0e0f000{number}"))
        })
        .collect();
    let Some(libraries) = libraries else {
        println!("skipped: no C compiler");
        return;
    };
    // Half of the libraries are loaded before the session.
    let early: Vec<Library> = libraries[..THREADS].iter().map(|path| Library::open(path)).collect();
    let profiler = exact().start().unwrap();
    let (done, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for (number, early) in early.into_iter().enumerate() {
            let paths = [&libraries[number], &libraries[THREADS + number]];
            let (done, opened) = (&done, &opened);
            scope.spawn(move || {
                let mut open = early;
                for turn in 1.. {
                    let mut blocks = Vec::with_capacity(1);
                    call(&open, "kept", &mut blocks);
                    drop(open);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    open = Library::open(paths[turn % 2]);
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(2);
        let mut snapshots = 0;
        while Instant::now() < end {
            let snapshot = profiler.snapshot();
            snapshot.validate().unwrap();
            profiler.diff_now();
            snapshots += 1;
        }
        done.store(true, Ordering::Relaxed);
        println!("{snapshots} snapshots, {} libraries opened", opened.load(Ordering::Relaxed));
    });
    let snapshot = profiler.snapshot();
    // Each frame in a library belongs to one of those that were loaded.
    let paths: Vec<&str> = libraries.iter().map(|path| path.to_str().unwrap()).collect();
    let inside = snapshot.modules.iter().filter(|module| paths.contains(&module.path.as_str()));
    assert!(inside.count() >= 2 * THREADS, "each library was found in a stack");
}

/// The contexts of the thread's own stack and of a separate stack, as a coroutine has one.
struct Foreign {
    own: libc::ucontext_t,
    other: libc::ucontext_t,
    blocks: Vec<Vec<u8>>,
}

/// Runs on the separate stack. `makecontext` passes integers, so the pointer comes in two halves.
extern "C" fn on_foreign_stack(high: u32, low: u32) {
    let foreign = (u64::from(high) << 32 | u64::from(low)) as usize as *mut Foreign;
    // SAFETY: `run_on_foreign_stack` passes this pointer, and does not use the value until this
    // function returns.
    let foreign = unsafe { &mut *foreign };
    with_labels(&[("site", "foreign")], || {
        foreign.blocks.push(Vec::with_capacity(999));
        foreign.blocks.push(vec![0; 99_999]);
        foreign.blocks.push(Vec::with_capacity(5));
        foreign.blocks[2].extend_from_slice(&[1; 300]);
    });
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn run_on_foreign_stack() -> Vec<Vec<u8>> {
    const SIZE: usize = 256 << 10;
    // SAFETY: creates a new anonymous mapping, which replaces none.
    let stack = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(stack, libc::MAP_FAILED);
    // SAFETY: contexts are plain data for which zeros are valid. `getcontext` and `swapcontext`
    // fill them.
    let (own, other) = unsafe { std::mem::zeroed() };
    let mut foreign = Box::new(Foreign { own, other, blocks: Vec::with_capacity(8) });
    let pointer = &raw mut *foreign as usize as u64;
    let (own, other) = (&raw mut foreign.own, &raw mut foreign.other);
    // SAFETY: `other` points to a context that may be written.
    assert_eq!(unsafe { libc::getcontext(other) }, 0);
    foreign.other.uc_stack.ss_sp = stack;
    foreign.other.uc_stack.ss_size = SIZE;
    foreign.other.uc_link = own;
    let entry = on_foreign_stack as extern "C" fn(u32, u32);
    // SAFETY: only the type changes. `makecontext` accepts a function of any type, and its
    // arguments after their number.
    let entry = unsafe { std::mem::transmute::<extern "C" fn(u32, u32), extern "C" fn()>(entry) };
    let (high, low) = ((pointer >> 32) as u32 as c_int, pointer as u32 as c_int);
    // SAFETY: the context was filled above, and it has a stack and a successor.
    unsafe { libc::makecontext(other, entry, 2, high, low) };
    // SAFETY: the context was made above, and `uc_link` leads back here.
    assert_eq!(unsafe { libc::swapcontext(own, other) }, 0);
    // SAFETY: nothing runs on this stack any more, and the mapping was created above.
    assert_eq!(unsafe { libc::munmap(stack, SIZE) }, 0);
    foreign.blocks
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn allocations_on_a_foreign_stack_are_unwound_by_the_system_unwinder() {
    let _one = one_at_a_time();
    let profiler = Profiler::builder().sample_interval_bytes(1).start().unwrap();
    let before = profiler.stats();
    let blocks = run_on_foreign_stack();
    let snapshot = profiler.snapshot();
    assert_eq!(blocks[1].len(), 99_999);
    let mut samples = live_labelled(&snapshot, "site", "foreign");
    samples.sort_by_key(|sample| sample.size);
    let sizes: Vec<u64> = samples.iter().map(|sample| sample.size).collect();
    assert_eq!(sizes, [300, 999, 99_999]);
    for sample in &samples {
        let frames = &snapshot.stacks[sample.stack as usize].frames;
        let executable = frames.iter().filter(|f| snapshot.frames.module[**f as usize] == 0);
        assert!(executable.count() >= 3, "{frames:?}");
    }
    // Three blocks and one `realloc` are sampled.
    assert_eq!(snapshot.stats.unwound_backtrace, before.unwound_backtrace + 4);
    assert_eq!(snapshot.unwinder, "framehop+backtrace");
    assert_eq!(snapshot.stats.dropped_unwinds, 0);
    // Back on the thread's own stack, framehop unwinds again.
    let _own = with_labels(&[("site", "own")], || vec![0_u8; 55]);
    assert_eq!(profiler.stats().unwound_backtrace, snapshot.stats.unwound_backtrace);
    drop(blocks);
}
