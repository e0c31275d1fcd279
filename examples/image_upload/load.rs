//! The load: uploads and readers of the catalogue.
//!
//! Invariant: whatever the duration, the pictures sent decode to at most [`KEPT_BUDGET_BYTES`], so
//! that the faulty service, which keeps them all, fits an ordinary machine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::StatusCode;
use outage::client::{Answer, Client, answer};
use outage::traffic::Traffic;

use crate::images::{OVERSIZED_DECODED_BYTES, Picture, Pictures, REGULAR_DECODED_BYTES};
use crate::server::{CATALOGUE_ROUTE, UPLOAD_ROUTE};

/// The most bytes that the pictures of one run may decode to.
const KEPT_BUDGET_BYTES: u64 = 700 << 20;
/// The most regular uploads in one run, which with the oversized picture fit the budget.
const MAX_UPLOADS: u32 =
    ((KEPT_BUDGET_BYTES - OVERSIZED_DECODED_BYTES) / REGULAR_DECODED_BYTES) as u32;
/// Least time between uploads: decoding one takes up to 150 ms of CPU.
const MIN_UPLOAD_PERIOD: Duration = Duration::from_millis(400);
const CATALOGUE_PERIOD: Duration = Duration::from_millis(10);
/// Catalogue pages requested: several times what the service caches, so that entries are evicted.
const CATALOGUE_PAGES: u32 = 1500;

/// Adds the streams of one run of `duration`. The answer to the one oversized upload goes to
/// `oversized`.
pub(crate) fn send(
    traffic: &mut Traffic,
    pictures: Pictures,
    duration: Duration,
    oversized: Arc<OnceLock<StatusCode>>,
) {
    let pictures = Arc::new(pictures);
    let period = (duration / MAX_UPLOADS).max(MIN_UPLOAD_PERIOD);
    traffic.send("POST /api/upload", period, move |client, number| {
        let (pictures, oversized) = (Arc::clone(&pictures), Arc::clone(&oversized));
        async move {
            // The oversized picture is sent first, so that its memory is held for the whole run.
            let Some(number) = number.checked_sub(1) else {
                let answer = upload(&client, &pictures.oversized).await?;
                let _ = oversized.set(answer.0);
                return Ok(answer);
            };
            let picture = &pictures.regular[number as usize % pictures.regular.len()];
            upload(&client, picture).await
        }
    });
    traffic.send("GET /api/catalogue", CATALOGUE_PERIOD, |client, _| async move {
        let page = rand::random_range(0..CATALOGUE_PAGES);
        answer(client.get(&format!("{CATALOGUE_ROUTE}?page={page}"))).await
    });
}

async fn upload(client: &Client, picture: &Picture) -> Answer {
    let (name, file) = (&picture.file_name, picture.encoded.clone());
    answer(client.post(UPLOAD_ROUTE).file(name, picture.mime, file)).await
}
