//! Names are found next to the binary, in debug directories, in packages, in the dump and in the
//! cache. The tests compile a program with rustc and take it apart with binutils.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use object::{Object as _, ObjectSymbol as _};
use serde_json::Value;

use crate::recorded::{Ran, Recording, build_id, command, heapdrift, output_of, ran};

const SOURCE: &str = "
#[inline(always)]
fn inlined() -> Vec<u8> { std::hint::black_box(vec![1; 100]) }
#[inline(never)]
#[unsafe(no_mangle)]
fn outer() -> Vec<u8> { std::hint::black_box(inlined()) }
#[inline(never)]
async fn waits() -> Vec<u8> { std::hint::black_box(outer()) }
fn main() {
    use std::{future::Future, pin::Pin, task::{Context, Waker}};
    let future: Pin<Box<dyn Future<Output = Vec<u8>>>> = Box::pin(waits());
    let mut future = std::hint::black_box(future);
    let ready = future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    println!(\"{ready} {}\", outer().len())
}
";

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// The compiled program. If `split`, its debug information is in a package next to it.
fn compiled(split: bool) -> PathBuf {
    static FOLDERS: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    let folder = FOLDERS[usize::from(split)].get_or_init(|| {
        let name = if split { "symbols-split" } else { "symbols-whole" };
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let done = || fs::read_to_string(shared.join("app.rs")).is_ok_and(|text| text == SOURCE);
        if done() {
            return shared;
        }
        // Other processes may be compiling it too; the first to finish wins.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
        compile(&folder, if split { "packed" } else { "off" });
        if !done() {
            let _ = fs::remove_dir_all(&shared);
        }
        if fs::rename(&folder, &shared).is_ok() { shared } else { folder }
    });
    folder.join("app")
}

/// Compiles the program as `folder/app`.
fn compile(folder: &Path, split: &str) {
    let (source, out) = (folder.join("app.rs"), folder.join("app"));
    fs::write(&source, SOURCE).unwrap();
    let split = format!("-Csplit-debuginfo={split}");
    let args = ["-g", "-O", "--edition=2024", &split, "-Clink-arg=-Wl,--build-id"];
    let mut compiler = Command::new("rustc");
    compiler.args(args).args(["app.rs", "-o"]).arg(out).current_dir(folder);
    let output = compiler.output().unwrap_or_else(|error| panic!("rustc: {error}"));
    assert!(output.status.success(), "{output:?}");
}

/// A folder for the pieces of a program, and a dump with each address of `outer`.
struct Pieces {
    folder: tempfile::TempDir,
    recording: Recording,
}

impl Pieces {
    /// Recorded as `folder/bin/app`, where there is nothing yet.
    fn new(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "debug"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let bytes = fs::read(program).unwrap();
        let elf = object::File::parse(&*bytes).unwrap();
        let symbol = |has: &dyn Fn(&str) -> bool| {
            elf.symbols().find(|symbol| symbol.name().is_ok_and(has)).expect("it is not inlined")
        };
        let outer = symbol(&|name| name == "outer");
        let waits = symbol(&|name| {
            name.contains("5waits") && !name.ends_with("5waits") && !name.contains("drop_in_place")
        });
        let mut recording = Recording::new();
        let module = &mut recording.snapshot.modules[0];
        module.path = folder.path().join("bin/app").to_str().unwrap().to_owned();
        module.build_id = build_id(program);
        recording.snapshot.process.executable = module.path.clone();
        for address in outer.address()..outer.address() + outer.size() {
            recording.add(&[address], &[], 1000.0, 1.0);
        }
        recording.add(&[waits.address()], &[], 1000.0, 1.0);
        recording.write(folder.path(), "dump.heap.json.gz");
        Self { folder, recording }
    }

    fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn objcopy(&self, args: &[&str], from: &str, to: &str) {
        let all: Vec<&str> = args.iter().copied().chain([from, to]).collect();
        run("objcopy", &all);
    }

    fn top(&self, args: &[&str]) -> Ran {
        let dump = self.path("dump.heap.json.gz");
        heapdrift(["top", "--no-cache", "--by", "line", "-n", "0", &dump].iter().chain(args))
    }

    /// Asserts that lines and inlined functions are known.
    fn named(&self, args: &[&str]) {
        let ran = self.top(args);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{args:?}");
        for expected in ["app.rs:3 (app::inlined)", "app.rs:6 (outer)", "(app::waits::{async})"] {
            assert!(ran.out.contains(expected), "{expected} in {}", ran.out);
        }
    }
}

#[test]
fn a_stripped_binary_leads_to_its_debug_file_by_debuglink() {
    let program = compiled(false);
    let program = program.to_str().unwrap();
    for (debug, args) in [
        ("bin/app.debug", vec![]),
        ("bin/.debug/app.debug", vec![]),
        ("debug/app.debug", vec!["--debug-dir", "debug"]),
        // The name in `.gnu_debuglink` can differ from that of the module.
        ("debug/another.name", vec!["--debug-dir", "debug"]),
    ] {
        let pieces = Pieces::new(Path::new(program));
        let (stripped, debug) = (pieces.path("bin/app"), pieces.path(debug));
        pieces.objcopy(&["--only-keep-debug"], program, &debug);
        let link = format!("--add-gnu-debuglink={debug}");
        pieces.objcopy(&["--strip-all", &link], program, &stripped);
        let folder = pieces.path("debug");
        let args: Vec<&str> =
            args.iter().map(|arg| if *arg == "debug" { &*folder } else { arg }).collect();
        pieces.named(&args);
    }
}

#[test]
fn a_debug_file_of_another_build_is_not_used() {
    let program = compiled(false);
    let pieces = Pieces::new(&program);
    let program = program.to_str().unwrap();
    let (stripped, debug) = (pieces.path("bin/app"), pieces.path("bin/app.debug"));
    let other = compiled(true);
    pieces.objcopy(&["--only-keep-debug"], other.to_str().unwrap(), &debug);
    let link = format!("--add-gnu-debuglink={debug}");
    pieces.objcopy(&["--strip-all", &link], program, &stripped);
    let ran = pieces.top(&[]);
    assert_eq!(ran.status, 0);
    assert!(!ran.out.contains("app.rs") && !ran.out.contains("outer"), "{}", ran.out);
}

#[test]
fn a_cycle_of_debuglinks_ends() {
    let program = compiled(false);
    let pieces = Pieces::new(&program);
    let program = program.to_str().unwrap();
    let (one, two) = (pieces.path("bin/app"), pieces.path("bin/other"));
    fs::write(&one, "objcopy needs an existing file").unwrap();
    pieces.objcopy(&["--strip-all", &format!("--add-gnu-debuglink={one}")], program, &two);
    pieces.objcopy(&["--strip-all", &format!("--add-gnu-debuglink={two}")], program, &one);
    let ran = pieces.top(&[]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(!ran.out.contains("outer"), "{}", ran.out);
}

#[test]
fn a_debug_directory_may_hold_build_ids_or_a_whole_file_system() {
    let program = compiled(false);
    let pieces = Pieces::new(&program);
    let program = program.to_str().unwrap();
    let id = pieces.recording.snapshot.modules[0].build_id.clone();
    let debug = pieces.path("debug");
    let by_id = pieces.path(&format!("debug/.build-id/{}/{}.debug", &id[..2], &id[2..]));
    pieces.objcopy(&["--only-keep-debug"], program, &by_id);
    pieces.named(&["--debug-dir", &debug]);
    // The directory may be the root of a container: it has the recorded path in it.
    let pieces = Pieces::new(Path::new(program));
    let recorded = pieces.path("bin/app");
    let root = pieces.path("debug");
    let inside = pieces.path(&format!("debug{recorded}"));
    fs::copy(program, inside).unwrap();
    pieces.named(&["--debug-dir", &root]);
}

#[test]
fn lines_and_symbols_may_be_in_different_files() {
    let program = compiled(false);
    let pieces = Pieces::new(&program);
    let program = program.to_str().unwrap();
    let (table, lines) = (pieces.path("bin/app"), pieces.path("debug/app.debug"));
    pieces.objcopy(&["--strip-debug"], program, &table);
    pieces.objcopy(&["--only-keep-debug", "--strip-symbol=outer"], program, &lines);
    let debug = pieces.path("debug");
    pieces.named(&["--debug-dir", &debug]);
    let without = pieces.top(&[]);
    assert!(without.out.contains("  outer\n"), "only the symbol table is used: {}", without.out);
    assert!(!without.out.contains("inlined"), "{}", without.out);
}

#[test]
fn split_debug_information_is_read_from_its_package() {
    let program = compiled(true);
    let package = program.with_extension("dwp");
    let program = program.to_str().unwrap();
    // The package is next to the binary.
    let pieces = Pieces::new(Path::new(program));
    fs::copy(program, pieces.path("bin/app")).unwrap();
    let without = pieces.top(&[]);
    assert!(!without.out.contains("inlined"), "{}", without.out);
    fs::copy(&package, pieces.path("bin/app.dwp")).unwrap();
    pieces.named(&[]);
    // The package is in a debug directory, or given by name.
    let pieces = Pieces::new(Path::new(program));
    fs::copy(program, pieces.path("bin/app")).unwrap();
    let (folder, copy) = (pieces.path("debug"), pieces.path("debug/app.dwp"));
    fs::copy(&package, &copy).unwrap();
    pieces.named(&["--debug-dir", &folder]);
    pieces.named(&["--binary", &copy]);
}

#[test]
fn split_debug_information_that_was_not_packed_is_read() {
    let built = tempfile::tempdir().unwrap();
    compile(built.path(), "unpacked");
    let program = built.path().join("app");
    let units = || {
        let files = fs::read_dir(built.path()).unwrap().map(|file| file.unwrap().path());
        let units = files.filter(|path| path.extension().is_some_and(|end| end == "dwo"));
        units.collect::<Vec<PathBuf>>()
    };
    assert!(!units().is_empty());
    let pieces = Pieces::new(&program);
    fs::copy(&program, pieces.path("bin/app")).unwrap();
    // The units are where the compiler put them.
    pieces.named(&[]);
    // The units are in a debug directory.
    let debug = pieces.path("debug");
    for unit in units() {
        let name = unit.file_name().unwrap().to_str().unwrap();
        fs::rename(&unit, pieces.path(&format!("debug/{name}"))).unwrap();
    }
    let without = pieces.top(&[]);
    assert!(!without.out.contains("inlined"), "{}", without.out);
    pieces.named(&["--debug-dir", &debug]);
    // The units are in the file system of the machine on which they were built.
    let image = pieces.path("image");
    let inside = pieces.path(&format!("image{}/x", built.path().to_str().unwrap()));
    let inside = Path::new(&inside).parent().unwrap();
    for unit in fs::read_dir(&debug).unwrap().map(|file| file.unwrap()) {
        fs::rename(unit.path(), inside.join(unit.file_name())).unwrap();
    }
    pieces.named(&["--debug-dir", &image]);
    // Units that were cut in half are not used.
    for unit in fs::read_dir(inside).unwrap().map(|file| file.unwrap()) {
        let bytes = fs::read(unit.path()).unwrap();
        fs::write(unit.path(), &bytes[..bytes.len() / 2]).unwrap();
    }
    let damaged = pieces.top(&["--debug-dir", &image]);
    assert_eq!(damaged.status, 0);
    assert!(!damaged.out.contains("inlined"), "{}", damaged.out);
}

#[test]
fn a_symbolized_dump_needs_no_binaries() {
    let program = compiled(false);
    let pieces = Pieces::new(&program);
    let (dump, named) = (pieces.path("dump.heap.json.gz"), pieces.path("named.heap.json.gz"));
    let program = program.to_str().unwrap();
    output_of(&["symbolize", &dump, "--binary", program, "-o", &named]);
    let with_binary = output_of(&["top", "--by", "line", &dump, "--binary", program]);
    let without = output_of(&["top", "--by", "line", &named]);
    assert_eq!(without, with_binary);
    assert!(without.contains("app.rs:3 (app::inlined)"), "{without}");
    for format in ["folded", "dhat", "speedscope", "jeprof"] {
        let export = |dump: &str, more: &[&str]| {
            let args = ["export", "--format", format, "-o", "-", dump];
            output_of(&args.iter().chain(more).copied().collect::<Vec<_>>())
        };
        if format != "jeprof" {
            assert_eq!(export(&named, &[]), export(&dump, &["--binary", program]), "{format}");
        }
    }
    let info = output_of(&["info", &named]);
    assert!(info.contains("names        in the dump, of "), "{info}");
    assert!(!info.contains("expected build-id"), "the binary is not missed: {info}");
    assert!(output_of(&["info", &dump]).contains("expected build-id"));
    // Symbolizing twice changes nothing, and a merge keeps the names.
    let (again, merged) = (pieces.path("again.heap.json.gz"), pieces.path("merged.heap.json.gz"));
    output_of(&["symbolize", &named, "-o", &again]);
    let symbols = |path: &str| heapdrift::dump::read(path.as_ref()).unwrap().frames.symbols;
    assert_eq!(symbols(&again), symbols(&named));
    output_of(&["merge", &dump, &named, "-o", &merged]);
    assert_eq!(output_of(&["top", "--by", "line", &merged]), without);
}

#[test]
fn a_second_run_takes_names_from_the_cache() {
    let program = compiled(false);
    let pieces = Pieces::new(&program);
    let copy = pieces.path("bin/app");
    fs::copy(&program, &copy).unwrap();
    let (dump, caches) = (pieces.path("dump.heap.json.gz"), pieces.path("caches"));
    let top = |args: &[&str]| {
        let mut command = command();
        let ran = ran(command
            .args(["top", "--by", "line", &dump])
            .args(args)
            .env("XDG_CACHE_HOME", &caches)
            .output()
            .unwrap());
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        ran.out
    };
    let cold = top(&[]);
    let file = Path::new(&caches)
        .join("heapdrift")
        .join(format!("{}.json.gz", pieces.recording.snapshot.modules[0].build_id));
    let mut json: Value =
        serde_json::from_reader(flate2::read::GzDecoder::new(fs::File::open(&file).unwrap()))
            .unwrap();
    assert_eq!(top(&[]), cold);
    // Rename a function in the cache only.
    for function in json["symbols"]["functions"].as_array_mut().unwrap() {
        if function["name"] == "outer" {
            function["name"] = "from_the_cache".into();
        }
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    serde_json::to_writer(&mut gzip, &json).unwrap();
    fs::write(&file, gzip.finish().unwrap()).unwrap();
    assert_eq!(top(&[]), cold.replace("(outer)", "(from_the_cache)"));
    assert_eq!(top(&["--no-cache"]), cold);
    // The cache is ignored if the file has changed, even with the same build-id.
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    fs::File::options().write(true).open(&copy).unwrap().set_times(times).unwrap();
    assert_eq!(top(&[]), cold);
    // A cache that cannot be written is not an error.
    fs::remove_dir_all(&caches).unwrap();
    fs::write(&caches, "a file").unwrap();
    assert_eq!(top(&[]), cold);
}
