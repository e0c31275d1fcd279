//! Descriptors that are closed behind the profiler's back.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::common::is_child;
use crate::{child, dumping_on_signal, dumps, reporting_thread, succeed, wait_until};

/// The processor time of a thread, in clock ticks of 10 ms.
fn processor_time(thread: &std::path::Path) -> u64 {
    let stat = fs::read_to_string(thread.join("stat")).unwrap();
    // The fields after the name, which stands in parentheses, begin with the third.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let number = |field: usize| fields[field - 3].parse::<u64>().unwrap();
    number(14) + number(15)
}

fn open_descriptors() -> Vec<RawFd> {
    let names = fs::read_dir("/proc/self/fd").unwrap();
    names.map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// A service becomes a daemon, or starts a sandbox, and closes all descriptors that it does not
/// know. Their numbers soon belong to its own connections.
#[test]
fn closed_descriptors_neither_spin_the_thread_nor_mix_up_files() {
    const NAME: &str = "descriptors::closed_descriptors_neither_spin_the_thread_nor_mix_up_files";
    if !is_child() {
        succeed(&mut child(NAME));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let before = open_descriptors();
    let profiler = dumping_on_signal(folder.path()).start().unwrap();
    let opened: Vec<RawFd> =
        open_descriptors().into_iter().filter(|fd| !before.contains(fd)).collect();
    for fd in opened {
        // The list also has the descriptor of the folder that was listed, which is closed already.
        //
        // SAFETY: closes what the profiler has opened, which is the point of the test.
        let _ = unsafe { libc::close(fd) };
    }
    let thread = reporting_thread();
    let used = processor_time(&thread);
    std::thread::sleep(Duration::from_millis(400));
    let used = processor_time(&thread) - used;
    assert!(used <= 4, "the thread spins: {} ms of 400", 10 * used);

    // One end of each pair gets a number that the profiler may still use.
    let pairs: Vec<(UnixStream, UnixStream)> =
        (0..16).map(|_| UnixStream::pair().unwrap()).collect();
    for (one, other) in &pairs {
        one.set_nonblocking(true).unwrap();
        other.set_nonblocking(true).unwrap();
    }

    for count in 1..=2 {
        // SAFETY: the signal has a handler.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        wait_until("a dump", || dumps(folder.path()).len() == count);
    }
    drop(profiler);
    assert_eq!(dumps(folder.path()).len(), 3, "two by signal, and the one at the end");
    for (one, other) in &pairs {
        for mut end in [one, other] {
            let received = end.read(&mut [0; 8]);
            let kind = received.as_ref().map_err(io::Error::kind);
            assert_eq!(kind, Err(io::ErrorKind::WouldBlock), "{} is not ours", end.as_raw_fd());
        }
    }
}
