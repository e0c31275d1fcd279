//! The operating system, as far as recording needs it: address space, clock, stack bounds.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

/// The unit in which memory is committed and given back. Larger real pages only make
/// [`Reservation::decommit`] give back less.
pub(crate) const PAGE: usize = 4096;

/// Address space without memory behind it.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a reservation is a range of addresses; who may touch what is its owner's to decide.
unsafe impl Send for Reservation {}
// SAFETY: as above.
unsafe impl Sync for Reservation {}

/// What may be done with a reservation's pages before [`Reservation::commit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Access {
    /// Nothing. Costs no commit charge, whatever the overcommit policy.
    None,
    /// Reading and writing; a page takes memory when it is first written.
    ReadWrite,
}

/// Pages without a claim on memory before they are written. FreeBSD has no such flag: all of its
/// anonymous pages are so unless overcommitting is forbidden.
#[cfg(not(target_os = "freebsd"))]
const NO_RESERVE: libc::c_int = libc::MAP_NORESERVE;
#[cfg(target_os = "freebsd")]
const NO_RESERVE: libc::c_int = 0;

impl Reservation {
    /// Reserves `len` bytes, anywhere, or exactly at `address`. Bytes are zero when first read.
    pub(crate) fn new(len: usize, access: Access, address: Option<usize>) -> io::Result<Self> {
        let protection = match access {
            Access::None => libc::PROT_NONE,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | NO_RESERVE;
        #[cfg(target_os = "linux")]
        if address.is_some() {
            // Kernels before 4.17 take this for a hint, which the comparison below notices.
            flags |= libc::MAP_FIXED_NOREPLACE;
        }
        #[cfg(not(target_os = "linux"))]
        {
            flags |= 0;
        }
        let wanted = ptr::without_provenance_mut(address.unwrap_or(0));
        // SAFETY: a new anonymous mapping that replaces none.
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

    /// Makes a range of pages readable and writable. `false` where the system refuses.
    pub(crate) fn commit(&self, offset: usize, len: usize) -> bool {
        assert!(offset + len <= self.len, "a range inside the reservation");
        // SAFETY: the range is inside this mapping, and gains rights only.
        let done = unsafe {
            libc::mprotect(
                self.as_ptr().wrapping_add(offset).cast(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        done == 0
    }

    /// Keeps the kernel from backing the range with huge pages: one sampled object would take 2
    /// MiB.
    pub(crate) fn forbid_huge_pages(&self) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: advice about this mapping. That it may fail changes nothing.
            let _ = unsafe { libc::madvise(self.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE) };
        }
    }

    /// Gives the memory of a range of pages back; its bytes are lost.
    ///
    /// # Safety
    /// Nobody reads or writes the range until this returns.
    pub(crate) unsafe fn decommit(&self, offset: usize, len: usize) {
        assert!(offset + len <= self.len, "a range inside the reservation");
        let start = self.as_ptr().wrapping_add(offset).cast();
        // SAFETY: the range is inside this mapping; the caller vouches that nobody uses it.
        let _ = unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, made by `new`; its owner is being dropped, so nobody uses it.
        let _ = unsafe { libc::munmap(self.as_ptr().cast(), self.len) };
    }
}

/// Whether the kernel has refused to copy.
#[cfg(target_os = "linux")]
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether [`copy_mapped`] only copies what is mapped, as far as is known.
#[cfg(target_os = "linux")]
pub(crate) fn copies_only_what_is_mapped() -> bool {
    // Relaxed: as in `copy_mapped`.
    !REFUSED.load(Ordering::Relaxed)
}

/// Copies memory of this process that may not be there, from several places one after the other;
/// how many bytes. Fewer than asked for where something was not mapped. `errno` stays as it was.
///
/// The kernel copies, so that what is unmapped by another thread meanwhile is missed and does not
/// end the process. Where it refuses to (qemu's user mode does not know the call, and a sandbox may
/// forbid it), memory is read in place: callers then depend on whatever else keeps it mapped.
#[cfg(target_os = "linux")]
pub(crate) fn copy_mapped(sources: &[(u64, usize)], target: &mut [u8]) -> usize {
    /// The most places of one call.
    const MOST: usize = 4;

    assert!(
        sources.len() <= MOST && sources.iter().map(|(_, len)| len).sum::<usize>() <= target.len()
    );
    let part = |start: *mut libc::c_void, len| libc::iovec { iov_base: start, iov_len: len };
    let to = part(target.as_mut_ptr().cast(), target.len());
    let mut from = [part(ptr::null_mut(), 0); MOST];
    for (from, (start, len)) in from.iter_mut().zip(sources) {
        *from = part(ptr::with_exposed_provenance_mut(*start as usize), *len);
    }
    // Relaxed: whoever does not see it yet is refused too.
    if copies_only_what_is_mapped() {
        // SAFETY: the place of this thread's error number.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let before = unsafe { errno.read() };
        let (count, pid) = (sources.len() as u64, std::process::id() as i32);
        // SAFETY: writes to the target, which is as long as all sources. Those are checked by the
        // kernel.
        let copied =
            unsafe { libc::process_vm_readv(pid, &raw const to, 1, from.as_ptr(), count, 0) };
        // SAFETY: as above.
        let error = unsafe { errno.read() };
        // SAFETY: as above.
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
        // SAFETY: there is room for it, see the assertion. That it is mapped is the caller's
        // concern here, see above.
        unsafe { source.copy_to_nonoverlapping(target[copied..].as_mut_ptr(), *len) };
        copied += len;
    }
    copied
}

/// Milliseconds of a clock that never goes back. Linux's coarse clock takes 5 ns instead of 20 and
/// moves every 1 to 10 ms, which is precise enough for the age of an object.
pub(crate) fn monotonic_ms() -> u64 {
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: writes one timespec.
    let _ = unsafe { libc::clock_gettime(CLOCK, time.as_mut_ptr()) };
    // SAFETY: zeroed above, so valid even if the call failed.
    let time = unsafe { time.assume_init() };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Name of the host; empty where the system does not tell.
pub(crate) fn host_name() -> String {
    // POSIX has at most 255 bytes, Linux 64.
    let mut name = [0_u8; 256];
    // SAFETY: writes at most so many bytes.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) } != 0 {
        return String::new();
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// The calling thread's own stack, as `low..high`; `None` where the system does not tell.
///
/// On glibc this allocates from the C library directly, so not through a global allocator; for the
/// main thread it reads `/proc/self/maps`. Callers keep the answer.
pub(crate) fn own_stack() -> Option<std::ops::Range<usize>> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
        // SAFETY: no arguments, cannot fail.
        let this = unsafe { libc::pthread_self() };
        #[cfg(target_os = "freebsd")]
        {
            // FreeBSD fills attributes that exist already.
            // SAFETY: makes default attributes.
            if unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } != 0 {
                return None;
            }
            // SAFETY: made above, of a running thread, this one.
            if unsafe { libc::pthread_attr_get_np(this, attributes.as_mut_ptr()) } != 0 {
                // SAFETY: made above, not used again.
                let _ = unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
                return None;
            }
        }
        #[cfg(not(target_os = "freebsd"))]
        // SAFETY: fills the attributes of a running thread, this one.
        if unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) } != 0 {
            return None;
        }
        let (mut low, mut size) = (ptr::null_mut(), 0);
        // SAFETY: the attributes were filled above.
        let found = unsafe {
            libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size)
        };
        // SAFETY: filled above, not used again.
        let _ = unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
        (found == 0 && size > 0).then(|| low as usize..low as usize + size)
    }
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: no arguments, cannot fail.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: a running thread, this one.
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

/// Whether [`copy_mapped`] only copies what is mapped: there is no call for that here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn copies_only_what_is_mapped() -> bool {
    false
}

/// Copies memory of this process, from several places one after the other; how many bytes. What
/// keeps it mapped is the caller's concern: the loader's lock, most often.
#[cfg(not(target_os = "linux"))]
pub(crate) fn copy_mapped(sources: &[(u64, usize)], target: &mut [u8]) -> usize {
    let mut copied = 0;
    for (start, len) in sources {
        let source = ptr::with_exposed_provenance::<u8>(*start as usize);
        let target = &mut target[copied..][..*len];
        // SAFETY: there is room for it, and the caller sees to it that the source is mapped.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), *len) };
        copied += len;
    }
    copied
}

/// Whether the kernel copies, found out by a copy.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn kernel_copies() -> bool {
    let source = 7_u8;
    assert_eq!(copy_mapped(&[(&raw const source as u64, 1)], &mut [0]), 1);
    copies_only_what_is_mapped()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mapped_is_not_copied() {
        if !kernel_copies() {
            println!("skipped: the kernel refuses to copy");
            return;
        }
        let memory = Reservation::new(2 * PAGE, Access::None, None).unwrap();
        let (start, end) = (memory.start() as u64, (memory.start() + 2 * PAGE) as u64);
        assert!(memory.commit(0, PAGE));
        // SAFETY: a writable page that nobody else uses.
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
