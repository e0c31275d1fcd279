//! Builds the subjects separately, so that one that does not build affects no other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::results::Results;
use crate::subject::Program;

/// The path of each program.
pub type Programs = BTreeMap<Program, PathBuf>;

pub struct Builder {
    /// The folder of this package.
    root: PathBuf,
    /// The workspaces, as `cargo metadata` sees them.
    metadata: Vec<Value>,
}

impl Builder {
    pub fn new() -> Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let manifests = [root.join("Cargo.toml"), root.join("subject_mimalloc_pprof/Cargo.toml")];
        let metadata: Result<_> = manifests.iter().map(|manifest| metadata(manifest)).collect();
        Ok(Self { root, metadata: metadata? })
    }

    /// Builds all programs, and notes in `results` what does not build.
    pub fn build_all(&self, results: &mut Results) -> Programs {
        let mut programs = Programs::new();
        let mut workloads: BTreeMap<bool, BTreeSet<String>> = BTreeMap::new();
        let wanted: BTreeSet<Program> = results.subjects().map(|row| row.program).collect();
        for program in wanted {
            eprintln!("building {}", name(program));
            match self.build(program) {
                Ok(built) => {
                    programs.insert(program, built.executable);
                    if program.binary != "mimalloc_pprof" {
                        workloads
                            .entry(program.has_frame_pointers)
                            .or_default()
                            .insert(built.workloads);
                    }
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    eprintln!("{why}");
                    results.fail_program(program, why.lines().next().unwrap_or_default());
                }
            }
        }
        if workloads.values().any(|libraries| libraries.len() > 1) {
            results.note(
                "The workloads were compiled more than once, so differences may come from their code.",
            );
        }
        programs
    }

    fn build(&self, program: Program) -> Result<Built> {
        let mut cargo = Command::new(env!("CARGO"));
        // heapscope declares a later Rust version than it needs.
        cargo.args(["build", "--release", "--locked", "--ignore-rust-version"]);
        cargo.args(["--message-format", "json-render-diagnostics", "--bin", program.binary]);
        if program.binary == "mimalloc_pprof" {
            cargo.arg("--manifest-path").arg(self.root.join("subject_mimalloc_pprof/Cargo.toml"));
        } else {
            cargo.arg("--manifest-path").arg(self.root.join("subjects/Cargo.toml"));
            if program.binary != "glibc" {
                cargo.args(["--features", program.binary]);
            }
        }
        // All use the same folder, so that shared dependencies are compiled once.
        let target = self.target_folder()?;
        if program.has_frame_pointers {
            cargo.env("RUSTFLAGS", "-C force-frame-pointers=yes");
            cargo.arg("--target-dir").arg(target.join("frame-pointers"));
        } else {
            cargo.env_remove("RUSTFLAGS").arg("--target-dir").arg(target);
        }
        if !std::io::stderr().is_terminal() {
            cargo.arg("--quiet");
        }
        let output = cargo.stderr(Stdio::inherit()).output().context("cargo cannot be run")?;
        if !output.status.success() {
            bail!("{} does not build: {}", name(program), output.status);
        }
        Built::from_messages(&output.stdout)
    }

    fn target_folder(&self) -> Result<PathBuf> {
        let folder = self.metadata[0]["target_directory"].as_str();
        Ok(PathBuf::from(folder.context("cargo metadata names no target folder")?))
    }

    /// The version of a package in the lock files.
    pub fn version(&self, package: &str) -> Option<&str> {
        self.packages().find(|found| found["name"] == package)?["version"].as_str()
    }

    /// The folders of some packages from the registry, whose Rust sources are fixed by the lock
    /// file.
    pub fn sources(&self) -> Result<Vec<PathBuf>> {
        const PACKAGES: [&str; 10] = [
            "clap_builder",
            "framehop",
            "gimli",
            "hashbrown",
            "ignore",
            "memchr",
            "object",
            "regex-automata",
            "serde_json",
            "syn",
        ];
        let folder = |package: &str| {
            let found = self.packages().find(|found| found["name"] == package);
            let manifest = found.and_then(|found| found["manifest_path"].as_str());
            let manifest = Path::new(manifest.with_context(|| format!("no package {package}"))?);
            Ok(manifest.parent().context("a manifest is in a folder")?.to_owned())
        };
        PACKAGES.into_iter().map(folder).collect()
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.metadata.iter().filter_map(|metadata| metadata["packages"].as_array()).flatten()
    }
}

struct Built {
    executable: PathBuf,
    /// The library with the workloads, whose file name contains a hash of its inputs.
    workloads: String,
}

impl Built {
    fn from_messages(messages: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(messages).context("cargo writes UTF-8")?;
        let (mut executable, mut workloads) = (None, None);
        for line in text.lines() {
            let message: Value = serde_json::from_str(line).context("cargo writes JSON")?;
            if let Some(path) = message["executable"].as_str() {
                executable = Some(PathBuf::from(path));
            }
            if message["target"]["name"] == "workloads" {
                workloads = message["filenames"][0].as_str().map(str::to_owned);
            }
        }
        Ok(Self {
            executable: executable.context("cargo names no executable")?,
            workloads: workloads.context("cargo names no library of workloads")?,
        })
    }
}

fn name(program: Program) -> String {
    let suffix = if program.has_frame_pointers { ", with frame pointers" } else { "" };
    format!("{}{suffix}", program.binary)
}

fn metadata(manifest: &Path) -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--all-features",
            "--manifest-path",
        ])
        .arg(manifest)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("cargo metadata of {}: {}", manifest.display(), output.status);
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata writes JSON")
}
