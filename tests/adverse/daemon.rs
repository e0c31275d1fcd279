//! A service that becomes a daemon after its profiler was started.

use std::time::Duration;

use crate::common::{blocks, exact, is_child};
use crate::{child, dumps, succeed, wait_until};

/// Forks, and ends the parent's part with the exit status of the child.
fn continue_in_child() {
    // SAFETY: no other thread of this process holds a lock that the child needs: the test harness
    // waits, and the profiler's thread is not part of the child.
    let child = unsafe { libc::fork() };
    if child == 0 {
        return;
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: `child` is a child of this process, and `status` may be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 99 };
    // SAFETY: ends this process, without destructors: its session is not meant to end.
    unsafe { libc::_exit(code) };
}

#[test]
fn a_daemon_knows_that_its_session_is_gone_and_can_start_another() {
    const NAME: &str = "daemon::a_daemon_knows_that_its_session_is_gone_and_can_start_another";
    if !is_child() {
        let folder = tempfile::tempdir().unwrap();
        for old_lives in ["yes", "no"] {
            let folder = folder.path().join(old_lives);
            succeed(child(NAME).env("OLD_LIVES", old_lives).env("FOLDER", &folder));
            let reasons: Vec<String> = dumps(&folder)
                .iter()
                .map(|dump| heapdrift::dump::read(dump).unwrap().taken.reason)
                .collect();
            assert!(reasons.iter().any(|reason| reason == "periodic"), "{reasons:?}");
            assert_eq!(
                reasons.iter().filter(|reason| *reason == "end").count(),
                1,
                "{:?}",
                dumps(&folder)
            );
        }
        return;
    }
    let folder = std::env::var("FOLDER").unwrap();
    let old = exact().dump_dir(&folder).dump_every(Duration::from_secs(3600)).start().unwrap();
    let kept_by_parent = blocks();
    assert!(old.is_active());
    continue_in_child();
    continue_in_child();

    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        assert!(!old.is_active(), "the thread that reports is not in this process");
        let mut old = Some(old);
        if std::env::var("OLD_LIVES").unwrap() == "no" {
            drop(old.take());
        }
        let start = || exact().dump_dir(&folder).dump_every(Duration::from_millis(20)).start();
        let new = start().unwrap();
        assert!(new.is_active());
        assert!(start().is_err(), "one session at a time");
        let kept = blocks();
        assert!(new.snapshot().live.len() >= kept.len());
        if let Some(old) = old {
            assert!(!old.is_active());
            assert_eq!(old.snapshot().live.len(), 0, "it has ended");
            assert_eq!(old.stats(), heapdrift::Stats::default());
            old.pause();
            assert!(new.is_active(), "the two have nothing in common");
            drop(old);
        }
        assert!(new.is_active());
        let process = std::process::id();
        wait_until("a dump of the new session", || {
            dumps(folder.as_ref())
                .first()
                .is_some_and(|dump| heapdrift::dump::read(dump).unwrap().process.id == process)
        });
        drop(kept);
        drop(kept_by_parent);
        new.snapshot().validate().unwrap();
        drop(new);
    }));
    // SAFETY: ends the child without running the test harness, whose threads it does not have.
    unsafe { libc::_exit(i32::from(result.is_err())) };
}
