//! What a subject holds while the workload runs.

use std::thread;
use std::time::Duration;

use crate::Recording;

/// A profiler that is recording, behind what can be asked of any.
pub struct Session {
    losses: Box<dyn Fn() -> Option<String>>,
}

impl Session {
    /// Nothing to hold: a bare allocator, or a profiler that needs no value.
    pub fn none() -> Self {
        Self { losses: Box::new(|| None) }
    }

    /// Holds `profiler`, which `losses` asks after the workload.
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

/// What a bare allocator does with a request, and a profiler that is told by the environment.
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
