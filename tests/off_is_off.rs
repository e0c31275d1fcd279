//! Without `profiling`, `Alloc` compiles to the bare allocator, and the API is inert.
//!
//! The first claim is checked on the machine code: `off_is_off/probe.rs` is compiled in release
//! with the bare system allocator and with `Alloc` over it, and the assembly of every function must
//! be equal, instruction by instruction. Two controls show that the comparison can fail: an
//! allocator with one extra atomic load, and `Alloc` with `profiling` on.
//!
//! The crate is built in a separate target folder, once with the feature and once without, whatever
//! the features of this test program are.

use heapdrift::{LabelFuture, Profiler};

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

#[cfg(not(feature = "profiling"))]
#[test]
fn alloc_without_profiling_has_no_size() {
    assert_eq!(size_of::<heapdrift::Alloc<std::alloc::System>>(), 0);
    assert_eq!(size_of_val(&ALLOC), 0);
}

/// The same code compiles with the feature and without it; only the results differ.
#[test]
fn a_started_profiler_is_active_only_with_profiling() {
    let on = cfg!(feature = "profiling");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let profiler = Profiler::builder()
        .sample_interval_bytes(1)
        .seed(7)
        .max_profiler_bytes(8 << 20)
        .max_stack_depth(32)
        .diff_every(std::time::Duration::ZERO)
        .dump_dir(folder.path())
        .dump_keep(2)
        .start()
        .expect("a profiler starts in both states");
    assert_eq!(profiler.is_active(), on);

    let kept = heapdrift::with_labels(&[("route", "/api/upload")], || vec![1_u8; 4096]);
    let answered = std::future::ready(7).with_labels(&[("route", "/api/catalogue")]);
    drop(answered);

    profiler.pause();
    profiler.resume();
    profiler.set_sample_interval_bytes(2).expect("2 is a valid interval");
    let snapshot = profiler.snapshot();
    snapshot.validate().expect("a snapshot is valid in both states");
    assert_eq!(snapshot.stacks.is_empty(), !on);
    assert_eq!(snapshot.totals.live_bytes.value > 0.0, on);
    assert_eq!(profiler.stats().samples_taken > 0, on);
    drop(kept);

    let file = folder.path().join("by-hand.heap.json.gz");
    profiler.dump(&file).expect("a dump can be written in both states");
    let bytes = std::fs::read(&file).expect("the dump is there");
    assert!(bytes.starts_with(b"\x1f\x8b"), "a dump is a gzip file in both states");
    #[cfg(feature = "read")]
    assert_eq!(heapdrift::dump::read(&file).expect("the dump can be read").stacks.is_empty(), !on);
    drop(profiler);
    let dumps = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert!(if on { dumps >= 2 } else { dumps == 1 }, "found {dumps} dumps");
}

#[cfg(target_os = "linux")]
mod machine_code {
    use std::collections::{BTreeMap, BTreeSet};
    use std::env;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::LazyLock;

    const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/off_is_off/probe.rs");
    /// The functions that call one method of the allocator each.
    const METHODS: [&str; 4] =
        ["probe_alloc", "probe_alloc_zeroed", "probe_dealloc", "probe_realloc"];

    static WITHOUT: LazyLock<Library> = LazyLock::new(|| Library::build("without", &[]));
    static WITH: LazyLock<Library> =
        LazyLock::new(|| Library::build("with", &["--features", "profiling"]));

    /// A release build of this crate, ready to be linked to.
    struct Library {
        metadata: PathBuf,
        /// The folders of the crates that it depends on.
        folders: BTreeSet<PathBuf>,
    }

    /// The instructions of each function, by its symbol.
    type Functions = BTreeMap<String, Vec<String>>;

    #[test]
    fn without_profiling_it_equals_that_of_the_bare_allocator() {
        let bare = WITHOUT.compile_probe("bare", &[]);
        let wrapped = WITHOUT.compile_probe("wrapped", &["must_be_zero_sized"]);
        for method in METHODS {
            assert!(bare.contains_key(method), "no {method} in {:?}", bare.keys());
        }
        let global = |name: &&String| name.contains("___rust_alloc");
        assert!(bare.keys().find(global).is_some(), "no entry point of the global allocator");
        assert_eq!(
            differing(&bare, &wrapped),
            BTreeSet::<&str>::new(),
            "\n{}",
            side_by_side(&bare, &wrapped)
        );
    }

    #[test]
    fn one_extra_load_is_detected_in_every_method() {
        let bare = WITHOUT.compile_probe("bare", &[]);
        let hooked = WITHOUT.compile_probe("one_load_more", &[]);
        assert!(differing(&bare, &hooked).is_superset(&METHODS.into()));
        for method in METHODS {
            let more = hooked[method].len() - bare[method].len();
            assert!((1..=8).contains(&more), "{method} has {more} more instructions");
        }
    }

    #[test]
    fn profiling_is_detected_in_every_method() {
        let bare = WITH.compile_probe("bare", &[]);
        let wrapped = WITH.compile_probe("wrapped", &[]);
        assert!(differing(&bare, &wrapped).is_superset(&METHODS.into()));
    }

    impl Library {
        /// Builds the crate. Only this crate is optimised, which halves the time of the build: no
        /// code of its dependencies gets into the probe.
        fn build(features: &str, arguments: &[&str]) -> Self {
            let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .args(["build", "--offline", "--package", "heapdrift", "--lib", "--release"])
                .args(["--config", "profile.release.package.'*'.opt-level=0"])
                .args(["--config", "profile.release.package.'*'.debug=false"])
                .args(["--message-format", "json-render-diagnostics"])
                .arg("--target-dir")
                .arg(folder())
                .args(arguments)
                .output()
                .expect("cargo can be run");
            let errors = String::from_utf8_lossy(&output.stderr);
            let status = output.status;
            assert!(status.success(), "building {features} profiling: {status}\n{errors}");
            let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
            let artifacts: Vec<serde_json::Value> = messages
                .lines()
                .map(|line| serde_json::from_str(line).expect("cargo writes JSON"))
                .filter(|message: &serde_json::Value| message["reason"] == "compiler-artifact")
                .collect();
            let files = |artifact: &serde_json::Value| -> Vec<PathBuf> {
                artifact["filenames"]
                    .as_array()
                    .expect("an artifact has files")
                    .iter()
                    .map(|file| file.as_str().expect("a file name is text").into())
                    .collect()
            };
            // The metadata file has a different name for each set of features, while the library
            // itself is replaced by the next build.
            let metadata = artifacts
                .iter()
                .filter(|artifact| artifact["target"]["name"] == "heapdrift")
                .flat_map(files)
                .find(|file| file.extension().is_some_and(|extension| extension == "rmeta"))
                .expect("a library has metadata");
            let folders = artifacts
                .iter()
                .flat_map(files)
                .filter_map(|file| file.parent().map(Path::to_owned))
                .collect();
            Self { metadata, folders }
        }

        fn compile_probe(&self, allocator: &str, cfgs: &[&str]) -> Functions {
            // Each test and variant has its own folder, because tests run in parallel and rustc
            // names its temporary files after the crate only.
            let test = std::thread::current().name().unwrap_or("main").replace(':', "_");
            let folder = folder().join(format!("{test}-{allocator}"));
            std::fs::create_dir_all(&folder).expect("the target folder can be written");
            let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
            rustc
                .args(["--edition", "2024", "--crate-type", "lib", "--crate-name", "probe"])
                .args(["-C", "opt-level=3", "-C", "codegen-units=1"])
                // These symbols have no hash of the type, which would differ with the allocator.
                .args(["-C", "symbol-mangling-version=v0"])
                .args(["--cfg", &format!("allocator=\"{allocator}\"")])
                .args(["--extern", &format!("heapdrift={}", self.metadata.display())])
                .args(["--emit", "asm", "--out-dir", "."])
                .current_dir(&folder);
            for cfg in cfgs {
                rustc.args(["--cfg", cfg]);
            }
            for folder in &self.folders {
                rustc.args(["-L", &format!("dependency={}", folder.display())]);
            }
            let output = rustc.arg(PROBE).output().expect("rustc can be run");
            let errors = String::from_utf8_lossy(&output.stderr);
            let status = output.status;
            assert!(status.success(), "compiling {allocator}: {status}\n{errors}");
            let assembly = std::fs::read_to_string(folder.join("probe.s"));
            functions(&assembly.expect("rustc has written the assembly"))
        }
    }

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("off_is_off")
    }

    /// Splits GNU assembly into functions. Directives, comments and the numbers of labels are left
    /// out, because they depend on the rest of the file.
    fn functions(assembly: &str) -> Functions {
        let mut functions = Functions::new();
        let mut current: Option<&str> = None;
        for line in assembly.lines().map(str::trim) {
            if let Some(declared) = line.strip_prefix(".type") {
                let name = declared.split(',').next().unwrap_or_default().trim();
                let is_function =
                    declared.ends_with("@function") || declared.ends_with("%function");
                current = is_function.then_some(name);
            } else if line.starts_with(".Lfunc_end") {
                current = None;
            } else if let Some(name) = current
                && !line.is_empty()
                && line.strip_suffix(':') != Some(name)
            {
                let instructions = functions.entry(name.to_owned()).or_default();
                let is_local_label = line.starts_with(".LBB");
                if is_local_label || !line.starts_with(['.', '#', '/']) {
                    instructions.push(without_label_numbers(line));
                }
            }
        }
        functions
    }

    /// `.LBB7_2` becomes `.LBB_2`: the first number is that of the function in its file.
    fn without_label_numbers(line: &str) -> String {
        let mut parts = line.split(".LBB");
        let mut normal = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            normal.push_str(".LBB");
            normal.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        normal
    }

    /// The functions that differ, or that only one side has.
    fn differing<'a>(left: &'a Functions, right: &'a Functions) -> BTreeSet<&'a str> {
        let names = left.keys().chain(right.keys());
        names.filter(|name| left.get(*name) != right.get(*name)).map(String::as_str).collect()
    }

    fn side_by_side(left: &Functions, right: &Functions) -> String {
        let text = |functions: &Functions, name: &str| match functions.get(name) {
            Some(instructions) => instructions.join("\n"),
            None => "(missing)".to_owned(),
        };
        differing(left, right)
            .into_iter()
            .map(|name| {
                format!("{name}:\n{}\n--- and ---\n{}\n", text(left, name), text(right, name))
            })
            .collect()
    }

    #[test]
    fn label_numbers_are_left_out_and_instructions_are_not() {
        let read = functions(
            ".type f,@function\nf:\n .cfi_startproc\n je .LBB7_1\n.LBB7_1:\n retq\n.Lfunc_end7:\n ud2\n",
        );
        assert_eq!(read["f"], ["je .LBB_1", ".LBB_1:", "retq"]);
        assert_eq!(read.len(), 1);
    }
}
