//! The parts of the operating system that recording uses: address space, clock and stack bounds.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

/// The unit in which memory is committed and decommitted. If the system's pages are larger,
/// [`Reservation::decommit`] merely returns less memory.
pub(crate) const PAGE: usize = 4096;

/// A range of reserved address space without memory behind it.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a reservation only owns a range of addresses. Its owner decides which thread accesses
// which iovec of it.
unsafe impl Send for Reservation {}
// SAFETY: as above.
unsafe impl Sync for Reservation {}

/// The access to a reservation's pages before [`Reservation::commit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Access {
    /// No access. It costs no commit charge under any overcommit policy.
    None,
    /// Read and write access. A page takes memory when it is first written.
    ReadWrite,
}

/// Requests pages without a commit charge. FreeBSD has no such flag: its anonymous pages have no
/// commit charge unless overcommit is forbidden.
#[cfg(not(target_os = "freebsd"))]
const NO_RESERVE: libc::c_int = libc::MAP_NORESERVE;
#[cfg(target_os = "freebsd")]
const NO_RESERVE: libc::c_int = 0;

impl Reservation {
    /// Reserves `len` zeroed bytes, at any address or exactly at `address`.
    pub(crate) fn new(len: usize, access: Access, address: Option<usize>) -> io::Result<Self> {
        let protection = match access {
            Access::None => libc::PROT_NONE,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | NO_RESERVE;
        #[cfg(target_os = "linux")]
        if address.is_some() {
            // Kernels before 4.17 treat the address as a hint. The comparison below detects that.
            flags |= libc::MAP_FIXED_NOREPLACE;
        }
        #[cfg(not(target_os = "linux"))]
        {
            flags |= 0;
        }
        let wanted = ptr::without_provenance_mut(address.unwrap_or(0));
        // SAFETY: creates a new anonymous mapping. Without `MAP_FIXED` it replaces no existing one.
        let start = unsafe { libc::mmap(wanted, len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let reservation = Self { start, len };
        if address.is_some_and(|wanted| wanted != reservation.start()) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(reservation)
    }

    pub(crate) fn start(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Makes a range of pages readable and writable. Returns `false` if the system refuses.
    pub(crate) fn commit(&self, offset: usize, len: usize) -> bool {
        assert!(offset + len <= self.len, "a range inside the reservation");
        // SAFETY: the range is inside this mapping, as asserted, and only gains access rights.
        let done = unsafe {
            libc::mprotect(
                self.as_ptr().wrapping_add(offset).cast(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        done == 0
    }

    /// Keeps the kernel from backing the range with huge pages: a single sampled object would take
    /// 2 MiB.
    pub(crate) fn forbid_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: the advice covers exactly this mapping. If the call fails nothing changes.
            let _ = unsafe { libc::madvise(self.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE) };
        }
    }

    /// Returns the memory of a range of pages to the system; its contents are lost.
    ///
    /// # Safety
    /// No thread reads or writes the range until this returns.
    pub(crate) unsafe fn decommit(&self, offset: usize, len: usize) {
        assert!(offset + len <= self.len, "a range inside the reservation");
        let start = self.as_ptr().wrapping_add(offset).cast();
        // SAFETY: the range is inside this mapping, as asserted, and the caller guarantees that no
        // thread accesses it.
        let _ = unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping that `new` created. Its owner is being dropped, so no
        // thread uses it any more.
        let _ = unsafe { libc::munmap(self.as_ptr().cast(), self.len) };
    }
}

/// Whether the kernel has refused `process_vm_readv`.
#[cfg(target_os = "linux")]
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether [`copy_mapped`] detects unmapped memory, as far as is known.
#[cfg(target_os = "linux")]
pub(crate) fn detects_unmapped() -> bool {
    // Relaxed: see `copy_mapped`.
    !REFUSED.load(Ordering::Relaxed)
}

/// Copies memory of this process that may be unmapped, from several sources one after the other.
/// Returns the number of copied bytes, which is smaller than requested if iovec of a source is
/// unmapped. `errno` is preserved.
///
/// The kernel does the copying, so memory that another thread unmaps meanwhile shortens the copy
/// and does not crash the process. If the kernel refuses (qemu's user mode does not implement the
/// call, and a sandbox may forbid it), the memory is read in place, and the caller depends on
/// something else that keeps it mapped.
#[cfg(target_os = "linux")]
pub(crate) fn copy_mapped(sources: &[(u64, usize)], target: &mut [u8]) -> usize {
    /// The maximum number of sources in one call.
    const MAX_SOURCES: usize = 4;

    assert!(
        sources.len() <= MAX_SOURCES
            && sources.iter().map(|(_, len)| len).sum::<usize>() <= target.len()
    );
    let iovec = |start: *mut libc::c_void, len| libc::iovec { iov_base: start, iov_len: len };
    let to = iovec(target.as_mut_ptr().cast(), target.len());
    let mut from = [iovec(ptr::null_mut(), 0); MAX_SOURCES];
    for (from, (start, len)) in from.iter_mut().zip(sources) {
        *from = iovec(ptr::with_exposed_provenance_mut(*start as usize), *len);
    }
    // Relaxed: the flag guards no other data, and a thread that does not see it yet is refused by
    // the kernel itself.
    if detects_unmapped() {
        // SAFETY: returns the address of this thread's `errno`, and takes no arguments.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: `errno` points to this thread's own variable, which lives as long as the thread.
        let before = unsafe { errno.read() };
        let (count, pid) = (sources.len() as u64, std::process::id() as i32);
        // SAFETY: `to` describes `target`, which is at least as long as all sources together, as
        // asserted. The kernel checks the source addresses.
        let copied =
            unsafe { libc::process_vm_readv(pid, &raw const to, 1, from.as_ptr(), count, 0) };
        // SAFETY: see the first read of `errno`.
        let error = unsafe { errno.read() };
        // SAFETY: see the first read of `errno`; only this thread writes to it.
        unsafe { errno.write(before) };
        match error {
            _ if copied >= 0 => return copied as usize,
            libc::EFAULT | libc::ENOMEM => return 0,
            _ => REFUSED.store(true, Ordering::Relaxed),
        }
    }
    let mut copied = 0;
    for (start, len) in sources {
        let source = ptr::with_exposed_provenance::<u8>(*start as usize);
        // SAFETY: the target has room for all sources, as asserted. On this path the caller
        // guarantees that the sources are mapped, see above.
        unsafe { source.copy_to_nonoverlapping(target[copied..].as_mut_ptr(), *len) };
        copied += len;
    }
    copied
}

/// Milliseconds of a monotonic clock. Linux's coarse clock takes 5 ns instead of 20 and advances
/// every 1 to 10 ms, which is precise enough for the age of an object.
pub(crate) fn monotonic_ms() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the call writes one `timespec`, for which `time` has room.
    let _ = unsafe { libc::clock_gettime(CLOCK, time.as_mut_ptr()) };
    // SAFETY: it was zeroed above, which is a valid `timespec` even if the call failed.
    let time = unsafe { time.assume_init() };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// The host's name, or an empty string if the system does not provide one.
pub(crate) fn host_name() -> String {
    // POSIX allows at most 255 bytes, Linux 64.
    let mut name = [0_u8; 256];
    // SAFETY: the call writes at most `name.len()` bytes to `name`.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) } != 0 {
        return String::new();
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// The bounds of the calling thread's own stack as `low..high`, or `None` if the system does not
/// provide them.
///
/// glibc allocates here with its own `malloc`, bypassing the global allocator, and reads
/// `/proc/self/maps` for the main thread. Callers therefore cache the result.
pub(crate) fn own_stack() -> Option<std::ops::Range<usize>> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
        // SAFETY: `pthread_self` takes no arguments and cannot fail.
        let this = unsafe { libc::pthread_self() };
        #[cfg(target_os = "freebsd")]
        {
            // FreeBSD fills attributes that must have been initialized.
            // SAFETY: the call initializes the attributes that it is passed.
            if unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } != 0 {
                return None;
            }
            // SAFETY: the attributes were initialized above, and `this` is the running thread.
            if unsafe { libc::pthread_attr_get_np(this, attributes.as_mut_ptr()) } != 0 {
                // SAFETY: the attributes were initialized above and are not used again.
                let _ = unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
                return None;
            }
        }
        #[cfg(not(target_os = "freebsd"))]
        // SAFETY: the call initializes the attributes, and `this` is the running thread.
        if unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) } != 0 {
            return None;
        }
        let (mut low, mut size) = (ptr::null_mut(), 0);
        // SAFETY: the attributes were filled above, and `low` and `size` may be written.
        let found = unsafe {
            libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size)
        };
        // SAFETY: the attributes were filled above and are not used again.
        let _ = unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
        (found == 0 && size > 0).then(|| low as usize..low as usize + size)
    }
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: `pthread_self` takes no arguments and cannot fail.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: `this` is the running thread.
        let high = unsafe { libc::pthread_get_stackaddr_np(this) } as usize;
        // SAFETY: as above.
        let size = unsafe { libc::pthread_get_stacksize_np(this) };
        Some(high - size..high)
    }
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_vendor = "apple"
    )))]
    None
}

/// Whether [`copy_mapped`] detects unmapped memory. These platforms have no system call for that.
#[cfg(not(target_os = "linux"))]
pub(crate) fn detects_unmapped() -> bool {
    false
}

/// Copies memory of this process, from several sources one after the other, and returns the number
/// of bytes. The caller guarantees that the sources are mapped, mostly by holding the loader's
/// lock.
#[cfg(not(target_os = "linux"))]
pub(crate) fn copy_mapped(sources: &[(u64, usize)], target: &mut [u8]) -> usize {
    let mut copied = 0;
    for (start, len) in sources {
        let source = ptr::with_exposed_provenance::<u8>(*start as usize);
        let target = &mut target[copied..][..*len];
        // SAFETY: `target` was sliced to the length of the source, and the caller guarantees that
        // the source is mapped.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), *len) };
        copied += len;
    }
    copied
}

/// Whether the kernel permits `process_vm_readv`, determined by calling it.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn kernel_permits_copying() -> bool {
    let source = 7_u8;
    assert_eq!(copy_mapped(&[(&raw const source as u64, 1)], &mut [0]), 1);
    detects_unmapped()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn copying_stops_at_unmapped_memory() {
        if !kernel_permits_copying() {
            println!("skipped: the kernel refuses to copy");
            return;
        }
        let memory = Reservation::new(2 * PAGE, Access::None, None).unwrap();
        let (start, end) = (memory.start() as u64, (memory.start() + 2 * PAGE) as u64);
        assert!(memory.commit(0, PAGE));
        // SAFETY: the page was committed above, and nothing else uses it.
        unsafe { memory.as_ptr().write_bytes(7, PAGE) };
        let mut target = [0; 64];
        assert_eq!(copy_mapped(&[(start + 8, 16), (start + 100, 48)], &mut target), 64);
        assert_eq!(target, [7; 64]);
        assert_eq!(copy_mapped(&[(end - 64, 64)], &mut target), 0);
        assert_eq!(copy_mapped(&[(0, 8)], &mut target), 0);
        let here = target.as_ptr() as u64;
        assert_eq!(copy_mapped(&[(here, 8), (end - 8, 8), (here, 8)], &mut [0; 24]), 8);
    }
}
