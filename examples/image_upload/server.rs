//! The service: two routes, and the two versions of one of them.

mod catalogue;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use image::RgbImage;

pub(crate) const UPLOAD_ROUTE: &str = "/api/upload";
pub(crate) const CATALOGUE_ROUTE: &str = "/api/catalogue";

/// Largest request that the faulty service reads: in effect, no limit.
const GENEROUS_BODY_BYTES: usize = 256 << 20;
/// Largest request that the fixed service reads.
const MAX_BODY_BYTES: usize = 17 << 20;

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    fixed: bool,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Meant for an audit page that was never written. Nothing is ever taken out.
    recent_uploads: Mutex<Vec<RecentUpload>>,
    pages: Mutex<catalogue::PageCache>,
}

#[derive(Debug)]
struct RecentUpload {
    file_name: String,
    picture: RgbImage,
}

impl Service {
    pub(crate) fn new(fixed: bool) -> Self {
        Self { fixed, shared: Arc::default() }
    }

    /// Number and bytes of the decoded pictures that are still held.
    pub(crate) fn uploads_kept(&self) -> (usize, u64) {
        let uploads = self.shared.recent_uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = uploads
            .iter()
            .map(|upload| upload.picture.as_raw().capacity() + upload.file_name.capacity())
            .sum::<usize>();
        (uploads.len(), bytes as u64)
    }

    pub(crate) fn routes(self) -> Router {
        let upload_route = if self.fixed {
            post(upload::fixed).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        } else {
            post(upload::faulty).layer(DefaultBodyLimit::max(GENEROUS_BODY_BYTES))
        };
        Router::new()
            .route(UPLOAD_ROUTE, upload_route)
            .route(CATALOGUE_ROUTE, get(catalogue::page))
            .with_state(self)
    }
}
