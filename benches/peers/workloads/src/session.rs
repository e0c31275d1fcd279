//! The session that a subject holds while the workload runs.

use std::thread;
use std::time::Duration;

use crate::Recording;

/// A running profiler, behind the interface that all of them have.
pub struct Session {
    losses: Box<dyn Fn() -> Option<String>>,
}

impl Session {
    /// A session without a value to hold, for a bare allocator or a profiler that needs none.
    pub fn none() -> Self {
        Self { losses: Box::new(|| None) }
    }

    /// Holds `profiler`, and passes it to `losses` after the workload.
    pub fn holding<P: 'static>(
        profiler: P,
        losses: impl Fn(&P) -> Option<String> + 'static,
    ) -> Self {
        Self { losses: Box::new(move || losses(&profiler)) }
    }

    pub(crate) fn losses(&self) -> Option<String> {
        (self.losses)()
    }
}

/// Starts the session of a bare allocator, or of a profiler that is configured by the environment.
pub fn bare(recording: Recording) -> Session {
    if recording == Recording::IdleThread {
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_secs(3600));
            }
        });
    }
    Session::none()
}
