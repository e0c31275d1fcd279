//! The calls of the operating system that dumps and the profiler's own threads need: signal masks,
//! file locks, and a line on standard error.
//!
//! Recording needs a Unix and brings `libc`. Other builds have no thread of the profiler and write
//! no dumps by themselves, so their twin does nothing.

#[cfg(not(all(feature = "profiling", unix)))]
mod none;
#[cfg(all(feature = "profiling", unix))]
#[allow(unsafe_code)]
mod unix;

#[cfg(not(all(feature = "profiling", unix)))]
pub(crate) use none::{
    admit_signal, open_in_place, say, say_unless_to_file, try_lock, without_signals,
    without_write_signals,
};
#[cfg(all(feature = "profiling", unix))]
pub(crate) use unix::{
    admit_signal, open_in_place, say, say_unless_to_file, try_lock, without_signals,
    without_write_signals,
};

/// What [`try_lock`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// This process holds the lock until it closes the file or ends, however it ends.
    Acquired,
    /// A living process holds it, possibly in another container.
    HeldElsewhere,
    /// The file system or the platform does not provide locks.
    Unsupported,
}
