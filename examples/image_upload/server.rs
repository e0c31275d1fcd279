//! The service: two routes, and the two versions of one of them.
//!
//! Every request runs under the label `route=…`, put on by one middleware for all handlers. Labels
//! follow a future across `.await`; work that a handler moves to another thread takes them along
//! by hand.

mod catalogue;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use heapdrift::LabelFuture;
use image::RgbImage;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

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
    /// Meant for an audit page, which was never written: nobody takes anything out.
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

    fn router(self) -> Router {
        let upload_route = if self.fixed {
            post(upload::fixed).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        } else {
            post(upload::faulty).layer(DefaultBodyLimit::max(GENEROUS_BODY_BYTES))
        };
        Router::new()
            .route(UPLOAD_ROUTE, upload_route)
            .route(CATALOGUE_ROUTE, get(catalogue::page))
            .route_layer(middleware::from_fn(label_by_route))
            .with_state(self)
    }
}

/// Takes a port of the system's choice on the loopback interface.
pub(crate) async fn bind() -> std::io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0)).await
}

/// Serves until `stopped` is sent or dropped, then lets requests under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Service,
    stopped: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    axum::serve(listener, service.router())
        .with_graceful_shutdown(async {
            let _ = stopped.await;
        })
        .await
}

/// Runs the handler under the label `route`, with the route's pattern as the value.
async fn label_by_route(route: MatchedPath, request: Request, next: Next) -> Response {
    next.run(request).with_labels(&[("route", route.as_str())]).await
}
