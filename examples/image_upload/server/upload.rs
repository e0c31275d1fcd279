//! `POST /api/upload`, faulty and fixed.

use std::io::{BufReader, Cursor, Seek};
use std::sync::PoisonError;

use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use image::{ColorType, ImageDecoder, ImageError, Limits, RgbImage};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinError;

use super::{RecentUpload, Service, UPLOAD_ROUTE};
use crate::images;

/// Decoding takes tens of milliseconds of CPU, so it runs on a thread for blocking work. Labels do
/// not move to another thread by themselves, so they are set again there.
const LABELS: [(&str, &str); 1] = [("route", UPLOAD_ROUTE)];
/// Largest file that the fixed service spools.
const MAX_FILE_BYTES: usize = 16 << 20;

/// The faulty upload handler.
///
/// The whole file is read into memory, the picture is decoded without a limit, and the decoded
/// picture is kept after the response.
pub(super) async fn faulty(
    State(service): State<Service>,
    mut multipart: Multipart,
) -> Result<Thumbnail, Refusal> {
    let field = file_field(&mut multipart).await?;
    let file_name = field.file_name().unwrap_or("unnamed").to_owned();
    let file = field.bytes().await?;
    let work = move || {
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
    };
    tokio::task::spawn_blocking(move || heapdrift::with_labels(&LABELS, work)).await?
}

/// The repaired upload handler. The file is streamed to disk, its size and the dimensions of the
/// picture are limited, and everything is freed with the response.
pub(super) async fn fixed(mut multipart: Multipart) -> Result<Thumbnail, Refusal> {
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
    let work = move || {
        spool.rewind()?;
        let mut limits = images::limits();
        let decoder = images::open(BufReader::new(spool), limits.clone())?;
        let dimensions = rgb_dimensions(&decoder)?;
        limits.reserve(decoder.total_bytes())?;
        let mut pixels = vec![0; decoder.total_bytes() as usize];
        decoder.read_image(&mut pixels)?;
        Ok(Thumbnail(images::thumbnail(&into_picture(dimensions, pixels)?)?))
    };
    tokio::task::spawn_blocking(move || heapdrift::with_labels(&LABELS, work)).await?
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

/// The answer to an upload: a small JPEG.
#[derive(Debug)]
pub(super) struct Thumbnail(Vec<u8>);

impl IntoResponse for Thumbnail {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "image/jpeg")], self.0).into_response()
    }
}

/// Why an upload was refused.
#[derive(Debug)]
pub(super) enum Refusal {
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

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(error.to_string())
    }
}
