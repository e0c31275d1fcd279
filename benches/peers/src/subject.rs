//! The rows of the table: which program runs, what it records, and what it is compared with.

use workloads::{Recording, Workload};

const KIB: u64 = 1 << 10;

/// A row.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: String,
    /// The name of the row with its bare allocator.
    pub baseline: String,
    pub program: Program,
    pub recording: Recording,
    /// Environment variables of the process.
    pub environment: Vec<(&'static str, String)>,
    pub wrapper: Option<Wrapper>,
    /// Whether it records every allocation. It then gets less work, and so does its baseline.
    pub is_exact: bool,
}

/// A binary to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    pub binary: &'static str,
    pub has_frame_pointers: bool,
}

/// A program that runs the program of the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    Heaptrack,
    ValgrindDhat,
}

impl Wrapper {
    pub fn command(self) -> &'static str {
        match self {
            Self::Heaptrack => "heaptrack",
            Self::ValgrindDhat => "valgrind",
        }
    }
}

impl Subject {
    fn new(name: impl Into<String>, baseline: &str, binary: &'static str) -> Self {
        Self {
            name: name.into(),
            baseline: baseline.to_owned(),
            program: Program { binary, has_frame_pointers: false },
            recording: Recording::Off,
            environment: Vec::new(),
            wrapper: None,
            is_exact: false,
        }
    }

    /// A bare allocator, which is its own baseline.
    fn bare(name: &str, binary: &'static str) -> Self {
        Self::new(name, name, binary)
    }

    fn recording(self, recording: Recording) -> Self {
        Self { recording, ..self }
    }

    fn every(self, bytes: u64) -> Self {
        self.recording(Recording::Interval { bytes })
    }

    fn with_environment(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }

    fn wrapped_in(self, wrapper: Wrapper) -> Self {
        Self { wrapper: Some(wrapper), ..self }
    }

    pub fn is_bare(&self) -> bool {
        self.name == self.baseline
    }

    /// Whether the row runs this workload. Live samples matter only for the shortest workloads.
    pub fn runs(&self, workload: Workload) -> bool {
        match self.recording {
            Recording::AmongLive { .. } => matches!(workload, Workload::Pair | Workload::Churn),
            _ => true,
        }
    }
}

/// The rows whose name contains one of the texts, and the bare allocators that they are compared
/// with.
pub fn selected(texts: &[String]) -> Vec<Subject> {
    let wanted = |subject: &Subject| {
        texts.is_empty() || texts.iter().any(|text| subject.name.contains(text.as_str()))
    };
    let all = all();
    let baselines: Vec<String> =
        all.iter().filter(|subject| wanted(subject)).map(|s| s.baseline.clone()).collect();
    all.into_iter().filter(|subject| wanted(subject) || baselines.contains(&subject.name)).collect()
}

fn all() -> Vec<Subject> {
    let over_glibc = group(
        "glibc",
        "glibc",
        "idle_glibc",
        "heapdrift",
        [
            Subject::new("glibc, with an idle thread", "glibc", "glibc")
                .recording(Recording::IdleThread),
            Subject::new(
                "heapdrift over glibc, 512 KiB, with a tick a second",
                "glibc",
                "heapdrift",
            )
            .recording(Recording::Ticking { bytes: 512 * KIB }),
        ],
    );
    let mimalloc_pprof =
        |what: &str| Subject::new(format!("mimalloc-pprof, {what}"), "mimalloc", "mimalloc_pprof");
    let over_mimalloc = group(
        "mimalloc",
        "mimalloc",
        "idle_mimalloc",
        "heapdrift_mimalloc",
        [
            mimalloc_pprof("stopped"),
            mimalloc_pprof("512 KiB").every(512 * KIB),
            mimalloc_pprof("64 KiB").every(64 * KIB),
        ],
    );
    let jemalloc_prof = |what: &str, logarithm: u32| {
        Subject::new(format!("jemalloc's profiler, {what}"), "jemalloc", "jemalloc_prof")
            .with_environment("_RJEM_MALLOC_CONF", format!("prof:true,lg_prof_sample:{logarithm}"))
    };
    let over_jemalloc = group(
        "jemalloc",
        "jemalloc",
        "idle_jemalloc",
        "heapdrift_jemalloc",
        [jemalloc_prof("512 KiB", 19), jemalloc_prof("64 KiB", 16)],
    );
    [over_glibc, over_mimalloc, over_jemalloc, with_frame_pointers(), exact()].concat()
}

/// The rows of one allocator: bare; bare once more, which shows the noise; with as many
/// instructions as the hook has, which do nothing, to show the cost that no hook of this length can
/// avoid; with heapdrift over it; and others.
fn group<const N: usize>(
    allocator: &'static str,
    bare: &'static str,
    idle: &'static str,
    wrapped: &'static str,
    others: [Subject; N],
) -> Vec<Subject> {
    let heapdrift = |what: &str| {
        Subject::new(format!("heapdrift over {allocator}, {what}"), allocator, wrapped)
    };
    let live = Recording::AmongLive { bytes: 512 * KIB, samples: 200_000 };
    let mut rows = vec![
        Subject::bare(allocator, bare),
        Subject::new(format!("{allocator}, once more"), allocator, bare),
        Subject::new(format!("{allocator}, eight idle instructions"), allocator, idle),
        heapdrift("stopped"),
        heapdrift("512 KiB").every(512 * KIB),
        heapdrift("512 KiB, 200,000 live samples").recording(live),
        heapdrift("64 KiB").every(64 * KIB),
        heapdrift("4 KiB").every(4 * KIB),
    ];
    rows.extend(others);
    rows
}

/// Profilers that walk frame pointers, compared with glibc in a program that has them.
fn with_frame_pointers() -> Vec<Subject> {
    const BARE: &str = "glibc, frame pointers";
    let row = |name: &str, binary| Subject::new(name, BARE, binary);
    let pprof_alloc = |what: &str, bytes| pprof_alloc(what, BARE, bytes);
    let mut rows = vec![
        Subject::bare(BARE, "glibc"),
        row("glibc, frame pointers, with an idle thread", "glibc").recording(Recording::IdleThread),
        row("dial9, stopped", "dial9"),
        row("dial9, 512 KiB", "dial9").every(512 * KIB),
        row("dial9, 64 KiB", "dial9").every(64 * KIB),
        pprof_alloc("512 KiB", 512 * KIB),
        pprof_alloc("64 KiB", 64 * KIB),
        row("heapscope, stopped", "heapscope"),
        row("heapscope, 512 KiB", "heapscope").every(512 * KIB),
        row("heapscope, 64 KiB", "heapscope").every(64 * KIB),
    ];
    rows.iter_mut().for_each(|row| row.program.has_frame_pointers = true);
    rows
}

fn pprof_alloc(what: &str, baseline: &str, bytes: u64) -> Subject {
    Subject::new(format!("pprof-alloc, {what}"), baseline, "pprof_alloc")
        .with_environment("PPROF_ALLOC_SAMPLE_RATE", bytes.to_string())
}

/// Profilers that record every allocation.
fn exact() -> Vec<Subject> {
    const GLIBC: &str = "glibc, less work";
    const MIMALLOC: &str = "mimalloc, less work";
    const JEMALLOC: &str = "jemalloc, less work";
    const FRAME_POINTERS: &str = "glibc, frame pointers, less work";
    let over_others = [
        Subject::bare(MIMALLOC, "mimalloc"),
        Subject::new("heapdrift over mimalloc, exact", MIMALLOC, "heapdrift_mimalloc").every(1),
        Subject::bare(JEMALLOC, "jemalloc"),
        Subject::new("heapdrift over jemalloc, exact", JEMALLOC, "heapdrift_jemalloc").every(1),
    ];
    let over_glibc = [
        Subject::bare(GLIBC, "glibc"),
        Subject::new("heapdrift over glibc, exact", GLIBC, "heapdrift").every(1),
        Subject::new("dhat, exact", GLIBC, "dhat").every(1),
        Subject::new("heaptrack, exact", GLIBC, "glibc").wrapped_in(Wrapper::Heaptrack),
        Subject::new("valgrind's DHAT, exact", GLIBC, "glibc").wrapped_in(Wrapper::ValgrindDhat),
    ];
    let mut with_frame_pointers = [
        Subject::bare(FRAME_POINTERS, "glibc"),
        Subject::new("dial9, exact", FRAME_POINTERS, "dial9").every(1),
        pprof_alloc("exact", FRAME_POINTERS, 1),
        Subject::new("heapscope, exact", FRAME_POINTERS, "heapscope").every(1),
    ];
    with_frame_pointers.iter_mut().for_each(|row| row.program.has_frame_pointers = true);
    let mut rows: Vec<_> =
        over_glibc.into_iter().chain(over_others).chain(with_frame_pointers).collect();
    rows.iter_mut().for_each(|row| row.is_exact = true);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_bare_baseline() {
        let rows = all();
        for (index, row) in rows.iter().enumerate() {
            assert!(rows[..index].iter().all(|other| other.name != row.name), "{}", row.name);
            let baseline = rows.iter().find(|other| other.name == row.baseline);
            let baseline = baseline.unwrap_or_else(|| panic!("{} has no baseline", row.name));
            assert!(baseline.is_bare());
            assert_eq!(baseline.is_exact, row.is_exact, "{}: as much work", row.name);
            let flags = |row: &Subject| row.program.has_frame_pointers;
            assert_eq!(flags(baseline), flags(row), "{}: the same flags", row.name);
        }
    }

    #[test]
    fn a_selection_includes_its_baselines() {
        let names: Vec<_> = selected(&["dhat".into()]).into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["glibc, less work", "dhat, exact"]);
    }
}
