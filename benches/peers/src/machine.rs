//! The machine and the versions that were measured.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::builder::Builder;

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    pub libc: String,
    pub rustc: String,
    /// The load averages of 1, 5 and 15 minutes before the first round.
    pub load: String,
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    pub fn now(builder: &Builder) -> Self {
        let packages = [
            "mimalloc",
            "tikv-jemallocator",
            "dhat",
            "dial9-perf-self-profile",
            "pprof-alloc",
            "heapscope",
            "mimalloc-pprof",
            "heapdrift",
        ];
        let mut versions: BTreeMap<String, String> = packages
            .into_iter()
            .filter_map(|package| Some((package.to_owned(), builder.version(package)?.to_owned())))
            .collect();
        for command in ["heaptrack", "valgrind"] {
            let version = first_line(command, &["--version"]);
            let version = version.rsplit([' ', '-']).next().unwrap_or_default().to_owned();
            let version = if version.is_empty() { "missing".to_owned() } else { version };
            versions.insert(command.to_owned(), version);
        }
        Self {
            date: first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            processor: processor().unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            libc: first_line("getconf", &["GNU_LIBC_VERSION"]),
            rustc: first_line("rustc", &["--version"]),
            load: load(),
            versions,
        }
    }
}

/// The load averages of the machine.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn processor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The first line that a command prints; empty if there is no such command.
fn first_line(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}
