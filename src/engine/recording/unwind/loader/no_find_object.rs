//! Loaders without a search that the hook may call: musl, FreeBSD and Apple's. Modules that are loaded
//! later become known when a snapshot is taken.

use super::{Found, Identity};

/// No value of this type exists.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::recording::unwind) enum FindObject {}

impl FindObject {
    pub(in crate::engine::recording::unwind) fn new() -> Option<Self> {
        None
    }

    pub(in crate::engine::recording::unwind) fn at<R>(
        self,
        _address: u64,
        _call: impl FnOnce(&Found<'_>, Identity) -> Option<R>,
    ) -> Option<R> {
        match self {}
    }
}
