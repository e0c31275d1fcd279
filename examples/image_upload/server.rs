//! The service: two routes, and the two versions of one of them.
//!
//! Every request runs under the label `route=…`, put on by one middleware for all handlers. Labels
//! follow a future across `.await`; work that a handler moves to another thread takes them along
//! by hand.

use std::collections::{HashMap, VecDeque};
use std::io::{BufReader, Cursor, Seek};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{DefaultBodyLimit, MatchedPath, Multipart, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use heapdrift::LabelFuture;
use image::{ColorType, ImageDecoder, ImageError, Limits, RgbImage};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::images;

pub(crate) const UPLOAD_ROUTE: &str = "/api/upload";
pub(crate) const CATALOGUE_ROUTE: &str = "/api/catalogue";

/// Largest request that the faulty service reads: in effect, no limit.
const GENEROUS_BODY_BYTES: usize = 256 << 20;
/// Largest request that the fixed service reads.
const MAX_BODY_BYTES: usize = 17 << 20;
/// Largest file within a request that the fixed service spools.
const MAX_FILE_BYTES: usize = 16 << 20;
const ITEMS_ON_A_PAGE: u32 = 60;
/// Rendered catalogue pages kept: a cache with a bound, to be told apart from the fault.
const PAGES_CACHED: usize = 256;

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
    pages: Mutex<PageCache>,
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
            post(upload_fixed).layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        } else {
            post(upload).layer(DefaultBodyLimit::max(GENEROUS_BODY_BYTES))
        };
        Router::new()
            .route(UPLOAD_ROUTE, upload_route)
            .route(CATALOGUE_ROUTE, get(catalogue))
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

/// The upload as it was on the day of the outage.
///
/// The whole file is read into memory, the picture is decoded without a limit, and the decoded
/// picture is kept after the response.
async fn upload(
    State(service): State<Service>,
    mut multipart: Multipart,
) -> Result<Thumbnail, Refusal> {
    let field = file_field(&mut multipart).await?;
    let file_name = field.file_name().unwrap_or("unnamed").to_owned();
    let file = field.bytes().await?;
    on_blocking_thread(move || {
        let decoder = images::open(Cursor::new(file), Limits::no_limits())?;
        let dimensions = rgb_dimensions(&decoder)?;
        let mut pixels = vec![0; decoder.total_bytes() as usize];
        decoder.read_image(&mut pixels)?;
        let picture = into_picture(dimensions, pixels)?;
        let thumbnail = images::thumbnail(&picture)?;
        service
            .shared
            .recent_uploads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(RecentUpload { file_name, picture });
        Ok(Thumbnail(thumbnail))
    })
    .await
}

/// The upload as it was repaired: the file is streamed to disk and its size is limited, so are
/// the dimensions of the picture, and everything is released with the response.
async fn upload_fixed(mut multipart: Multipart) -> Result<Thumbnail, Refusal> {
    let mut field = file_field(&mut multipart).await?;
    let mut spool = tokio::fs::File::from_std(tempfile::tempfile()?);
    let mut file_bytes = 0;
    while let Some(chunk) = field.chunk().await? {
        file_bytes += chunk.len();
        if file_bytes > MAX_FILE_BYTES {
            return Err(Refusal::TooLarge(format!("expected at most {MAX_FILE_BYTES} bytes")));
        }
        spool.write_all(&chunk).await?;
    }
    spool.flush().await?;
    let mut spool = spool.into_std().await;
    on_blocking_thread(move || {
        spool.rewind()?;
        let mut limits = images::limits();
        let decoder = images::open(BufReader::new(spool), limits.clone())?;
        let dimensions = rgb_dimensions(&decoder)?;
        limits.reserve(decoder.total_bytes())?;
        let mut pixels = vec![0; decoder.total_bytes() as usize];
        decoder.read_image(&mut pixels)?;
        Ok(Thumbnail(images::thumbnail(&into_picture(dimensions, pixels)?)?))
    })
    .await
}

/// Decoding takes tens of milliseconds of CPU, so it leaves the threads that serve sockets. The
/// labels of the request do not cross threads by themselves: they are put on again there.
async fn on_blocking_thread(
    work: impl FnOnce() -> Result<Thumbnail, Refusal> + Send + 'static,
) -> Result<Thumbnail, Refusal> {
    tokio::task::spawn_blocking(move || heapdrift::with_labels(&[("route", UPLOAD_ROUTE)], work))
        .await
        .map_err(|error| Refusal::Internal(error.to_string()))?
}

async fn file_field(multipart: &mut Multipart) -> Result<Field<'_>, Refusal> {
    match multipart.next_field().await? {
        Some(field) if field.name() == Some("file") => Ok(field),
        Some(_) | None => Err(Refusal::Malformed("expected a part named file".to_owned())),
    }
}

fn rgb_dimensions(decoder: &impl ImageDecoder) -> Result<(u32, u32), Refusal> {
    match decoder.color_type() {
        ColorType::Rgb8 => Ok(decoder.dimensions()),
        other => Err(Refusal::Malformed(format!("expected 8-bit RGB, found {other:?}"))),
    }
}

fn into_picture((width, height): (u32, u32), pixels: Vec<u8>) -> Result<RgbImage, Refusal> {
    RgbImage::from_raw(width, height, pixels)
        .ok_or_else(|| Refusal::Internal("fewer pixels than the header promised".to_owned()))
}

/// The innocent route: many small allocations, nearly all given back.
async fn catalogue(State(service): State<Service>, Query(wanted): Query<Wanted>) -> Response {
    let pages = &service.shared.pages;
    let cached = pages.lock().unwrap_or_else(PoisonError::into_inner).get(wanted.page);
    let body = match cached {
        Some(body) => body,
        None => {
            let items: Vec<Item> = (0..ITEMS_ON_A_PAGE)
                .map(|row| Item::numbered(wanted.page * ITEMS_ON_A_PAGE + row))
                .collect();
            match serde_json::to_vec(&items) {
                Ok(json) => {
                    let body = Bytes::from(json);
                    pages
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(wanted.page, body.clone());
                    body
                }
                Err(error) => return Refusal::Internal(error.to_string()).into_response(),
            }
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[derive(Debug, Deserialize)]
struct Wanted {
    page: u32,
}

#[derive(Debug, Serialize)]
struct Item {
    id: u32,
    title: String,
    tags: Vec<String>,
    price_cents: u32,
}

impl Item {
    fn numbered(id: u32) -> Self {
        const SUBJECTS: [&str; 5] = ["Harbour", "Meadow", "Street", "Night", "Portrait"];
        let subject = SUBJECTS[id as usize % SUBJECTS.len()];
        Self {
            id,
            title: format!("{subject}, print no. {id}"),
            tags: vec![subject.to_lowercase(), format!("series-{}", id / 12)],
            price_cents: 900 + id % 70 * 50,
        }
    }
}

/// Rendered pages; the one that came first goes first.
#[derive(Debug, Default)]
struct PageCache {
    by_number: HashMap<u32, Bytes>,
    oldest_first: VecDeque<u32>,
}

impl PageCache {
    fn get(&self, page: u32) -> Option<Bytes> {
        self.by_number.get(&page).cloned()
    }

    fn insert(&mut self, page: u32, body: Bytes) {
        if self.by_number.insert(page, body).is_none() {
            self.oldest_first.push_back(page);
        }
        if self.oldest_first.len() > PAGES_CACHED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_number.remove(&oldest);
        }
    }
}

/// The answer to an upload: a small JPEG.
#[derive(Debug)]
struct Thumbnail(Vec<u8>);

impl IntoResponse for Thumbnail {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "image/jpeg")], self.0).into_response()
    }
}

/// Why an upload was not taken.
#[derive(Debug)]
enum Refusal {
    TooLarge(String),
    Malformed(String),
    Internal(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::TooLarge(why) => (StatusCode::PAYLOAD_TOO_LARGE, why),
            Self::Malformed(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
            Self::Internal(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
        }
        .into_response()
    }
}

impl From<MultipartError> for Refusal {
    fn from(error: MultipartError) -> Self {
        match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge(error.body_text()),
            _ => Self::Malformed(error.body_text()),
        }
    }
}

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(limit) => Self::TooLarge(limit.to_string()),
            ImageError::IoError(io) => io.into(),
            other => Self::Malformed(other.to_string()),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(error.to_string())
    }
}
