//! The refreshed tokens of the whole process, because a service may create its `Sessions` again.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The number of presentations for which memory is reserved from the start.
pub(crate) const TIMES_KEPT: usize = 128;

static ALL: LazyLock<Mutex<Refreshes>> = LazyLock::new(Mutex::default);

pub(crate) fn all() -> MutexGuard<'static, Refreshes> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is kept about one refreshed token.
#[derive(Debug)]
pub(crate) struct Refreshed {
    /// The token that replaces it.
    pub(crate) successor: String,
    /// When it was presented.
    pub(crate) presented: Vec<Duration>,
    /// When it expires; from then on nobody can ask for the successor.
    pub(crate) expires: Duration,
}

/// Refreshed tokens by id.
#[derive(Debug, Default)]
pub(crate) struct Refreshes {
    by_id: HashMap<u64, Refreshed>,
    /// Ids in the order of refreshing, which with one lifetime for all is nearly that of expiry.
    oldest_first: VecDeque<u64>,
}

impl Refreshes {
    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Refreshed> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn insert(&mut self, id: u64, refreshed: Refreshed) {
        self.by_id.insert(id, refreshed);
        self.oldest_first.push_back(id);
    }

    /// Drops the oldest tokens, up to the first that is still valid.
    pub(crate) fn forget_expired(&mut self, now: Duration) {
        while let Some(id) = self.oldest_first.front()
            && self.by_id.get(id).is_none_or(|refreshed| refreshed.expires <= now)
        {
            self.by_id.remove(id);
            self.oldest_first.pop_front();
        }
    }
}
