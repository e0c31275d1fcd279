//! The dump folder: where it is, whose files are in it, and what a dump may replace.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;
use std::{ffi::CString, io};

use heapdrift::dump;

use crate::common::{exact, is_child, one_at_a_time};
use crate::{child, dumps, files, succeed};

#[test]
fn dumps_go_to_the_folder_that_was_meant_at_start() {
    const NAME: &str = "folder::dumps_go_to_the_folder_that_was_meant_at_start";
    let folder = tempfile::tempdir().unwrap();
    if !is_child() {
        succeed(child(NAME).current_dir(folder.path()));
        assert_eq!(dumps(&folder.path().join("here/out")).len(), 1);
        assert_eq!(files(folder.path()).len(), 1);
        return;
    }
    fs::create_dir("here").unwrap();
    std::env::set_current_dir("here").unwrap();
    let profiler = exact().dump_dir("out").dump_every(Duration::ZERO).start().unwrap();
    std::env::set_current_dir("/").unwrap();
    drop(profiler);
    assert!(!Path::new("/out").exists());
}

/// One process runs the sessions one after the other, within a second. Two containers in which the
/// service has the same process id do so at the same time.
#[test]
fn sessions_with_the_same_process_id_and_start_do_not_overwrite_each_others_dumps() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..6 {
        let start = exact().dump_dir(folder.path()).dump_every(Duration::ZERO).start();
        drop(start.unwrap());
    }
    let dumps = dumps(folder.path());
    let mut sessions: Vec<u64> =
        dumps.iter().map(|file| dump::read(file).unwrap().process.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!((dumps.len(), sessions.len()), (6, 6));
}

/// The names of all dumps that earlier versions wrote begin with executable and start, and this one
/// claims to be from the year 2286: the clock was set back since, or was wrong then.
#[test]
fn only_dumps_of_this_session_are_removed_and_never_by_time() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let name = this.file_name().unwrap().to_string_lossy().into_owned();
    let foreign: Vec<_> = ["9999999999-7-000001", "9999999999-7-000002", "0000000001-7-000001"]
        .map(|rest| folder.path().join(format!("{name}-{rest}{}", dump::EXTENSION)))
        .into();
    for file in &foreign {
        fs::write(file, "of another session").unwrap();
    }
    let profiler = exact()
        .dump_dir(folder.path())
        .dump_keep(2)
        .dump_every(Duration::from_millis(5))
        .start()
        .unwrap();
    crate::wait_until("five dumps", || {
        profiler.snapshot().taken.sequence > 5 + foreign.len() as u64
    });
    drop(profiler);
    assert!(foreign.iter().all(|file| file.exists()));
    let own: Vec<_> =
        dumps(folder.path()).into_iter().filter(|file| !foreign.contains(file)).collect();
    let reasons: Vec<_> = own.iter().map(|file| dump::read(file).unwrap().taken.reason).collect();
    assert_eq!(reasons, ["periodic", "end"], "the two newest");
}

fn make_node(path: &Path, kind: libc::mode_t, device: libc::dev_t) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    match unsafe { libc::mknod(path.as_ptr(), kind | 0o600, device) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn a_dump_replaces_nothing_but_a_regular_file() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let profiler = exact().diff_every(Duration::ZERO).start().unwrap();

    fs::write(path("target"), "precious").unwrap();
    std::os::unix::fs::symlink(path("target"), path("link")).unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
    make_node(&path("fifo"), libc::S_IFIFO, 0).unwrap();
    let _listener = UnixListener::bind(path("socket")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    // Only root may create one. It behaves as `/dev/null`.
    let has_device = make_node(&path("device"), libc::S_IFCHR, libc::makedev(1, 3)).is_ok();
    let before = files(folder.path());
    let names = ["link", "dangling", "fifo", "socket", "folder", "device"];
    for name in &names[..if has_device { 6 } else { 5 }] {
        let error = profiler.dump(path(name)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("expected a regular file"), "{error}");
    }
    assert_eq!(files(folder.path()), before, "nothing came and nothing went");
    let kind = |name: &str| fs::symlink_metadata(path(name)).unwrap().file_type();
    assert!(kind("link").is_symlink() && kind("dangling").is_symlink());
    assert!(kind("fifo").is_fifo() && kind("socket").is_socket());
    assert!(!has_device || kind("device").is_char_device());
    assert_eq!(fs::read_to_string(path("target")).unwrap(), "precious");

    profiler.dump(path("target")).unwrap();
    dump::read(&path("target")).unwrap();
}

#[test]
fn a_dump_may_have_the_longest_name_that_a_file_can_have() {
    let _one = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let profiler = exact().diff_every(Duration::ZERO).start().unwrap();
    let path = folder.path().join(format!("{}{}", "x".repeat(242), dump::EXTENSION));
    profiler.dump(&path).unwrap();
    assert_eq!(files(folder.path()), [path]);
}
