//! A real program: ripgrep's libraries search source trees, with two threads.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use grep_regex::RegexMatcher;
use grep_searcher::Searcher;
use grep_searcher::sinks::Lossy;
use ignore::{WalkBuilder, WalkState};

use crate::stopwatch::Stopwatch;

const PATTERN: &str = r"unsafe\s+(impl|fn)|Box<dyn [A-Z]\w+";

pub(crate) fn run(passes: u64, folders: &[PathBuf], stopwatch: &mut Stopwatch) {
    // Brings the sources into the page cache.
    let lines = work(folders);
    assert!(lines > 0, "nothing found in {folders:?}");
    for _ in 0..passes {
        let again = stopwatch.time(|| work(folders));
        assert_eq!(again, lines, "the sources have changed");
    }
}

#[inline(never)]
fn work(folders: &[PathBuf]) -> u64 {
    let (first, others) = folders.split_first().expect("there is a source folder");
    let mut walk = WalkBuilder::new(first);
    for folder in others {
        walk.add(folder);
    }
    let matcher = RegexMatcher::new(PATTERN).expect("a pattern");
    let lines = AtomicU64::new(0);
    walk.threads(2).build_parallel().run(|| {
        let (mut searcher, matcher, lines) = (Searcher::new(), &matcher, &lines);
        Box::new(move |entry| {
            if let Ok(entry) = entry
                && entry.file_type().is_some_and(|kind| kind.is_file())
            {
                let count = Lossy(|_, _| {
                    lines.fetch_add(1, Ordering::Relaxed);
                    Ok(true)
                });
                searcher.search_path(matcher, entry.path(), count).expect("a readable file");
            }
            WalkState::Continue
        })
    });
    lines.into_inner()
}
