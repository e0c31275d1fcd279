//! The load: clients that send both kinds of request, paced and with bounded concurrency.
//!
//! Invariant: whatever the duration, the pictures sent decode to at most [`KEPT_BUDGET_BYTES`], so
//! that the faulty service, which keeps them all, stays well inside an ordinary machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Client, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::images::{OVERSIZED_DECODED_BYTES, Picture, Pictures, REGULAR_DECODED_BYTES};
use crate::server::{CATALOGUE_ROUTE, UPLOAD_ROUTE};

/// Most bytes that the pictures of one run may decode to.
const KEPT_BUDGET_BYTES: u64 = 1200 << 20;
/// Most regular uploads in one run: what the budget leaves beside the oversized picture.
const MAX_UPLOADS: u32 =
    ((KEPT_BUDGET_BYTES - OVERSIZED_DECODED_BYTES) / REGULAR_DECODED_BYTES) as u32;
/// Least time between uploads. Two cores decode about ten a second besides the other traffic.
const MIN_UPLOAD_GAP: Duration = Duration::from_millis(150);
const UPLOADS_AT_ONCE: usize = 3;
const CATALOGUE_CLIENTS: u32 = 3;
/// What a catalogue client waits between two requests.
const CATALOGUE_PAUSE: Duration = Duration::from_millis(3);
/// Catalogue pages asked for: several times what the service caches, so that its cache turns over.
const CATALOGUE_PAGES: u32 = 1500;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What came back on one route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteTally {
    pub(crate) served: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) total_time: Duration,
    pub(crate) longest: Duration,
}

impl RouteTally {
    fn count(&mut self, outcome: &reqwest::Result<StatusCode>, took: Duration) {
        match outcome {
            Ok(status) if status.is_success() => {
                self.served += 1;
                self.total_time += took;
                self.longest = self.longest.max(took);
            }
            Ok(_) => self.refused += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.served += other.served;
        self.refused += other.refused;
        self.failed += other.failed;
        self.total_time += other.total_time;
        self.longest = self.longest.max(other.longest);
    }

    /// Mean time of a served request.
    pub(crate) fn mean(&self) -> Duration {
        self.total_time
            .checked_div(u32::try_from(self.served).unwrap_or(u32::MAX))
            .unwrap_or_default()
    }
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// Regular uploads.
    pub(crate) uploads: RouteTally,
    pub(crate) catalogue: RouteTally,
    /// The answer to the one oversized upload.
    pub(crate) oversized: StatusCode,
}

/// Sends requests to `address` for `duration`, from this thread alone.
pub(crate) fn run(address: SocketAddr, pictures: &Pictures, duration: Duration) -> Result<Tally> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the load generator")?
        .block_on(send_all(address, pictures, duration))
}

async fn send_all(address: SocketAddr, pictures: &Pictures, duration: Duration) -> Result<Tally> {
    let client = Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    let target = Target { client, base: format!("http://{address}") };
    let deadline = Instant::now() + duration;

    let mut readers = JoinSet::new();
    for client in 0..CATALOGUE_CLIENTS {
        readers.spawn(target.clone().read_catalogue(client, deadline));
    }
    let oversized =
        target.upload(&pictures.oversized).await.context("the oversized upload failed")?;
    let uploads = target.send_uploads(&pictures.regular, duration, deadline).await?;
    let mut catalogue = RouteTally::default();
    while let Some(read) = readers.join_next().await {
        catalogue.add(read.context("a catalogue client panicked")?);
    }
    Ok(Tally { uploads, catalogue, oversized })
}

#[derive(Clone, Debug)]
struct Target {
    client: Client,
    base: String,
}

impl Target {
    /// Uploads spread evenly over the run.
    async fn send_uploads(
        &self,
        pictures: &[Picture],
        duration: Duration,
        deadline: Instant,
    ) -> Result<RouteTally> {
        let mut ticks = tokio::time::interval((duration / MAX_UPLOADS).max(MIN_UPLOAD_GAP));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let slots = Arc::new(Semaphore::new(UPLOADS_AT_ONCE));
        let mut under_way = JoinSet::new();
        for picture in pictures.iter().cycle().take(MAX_UPLOADS as usize) {
            if tokio::time::timeout_at(deadline.into(), ticks.tick()).await.is_err() {
                break;
            }
            let slot = slots.clone().acquire_owned().await?;
            let (target, picture) = (self.clone(), picture.clone());
            under_way.spawn(async move {
                let sent = Instant::now();
                let outcome = target.upload(&picture).await;
                drop(slot);
                (outcome, sent.elapsed())
            });
        }
        let mut tally = RouteTally::default();
        while let Some(done) = under_way.join_next().await {
            let (outcome, took) = done.context("an upload panicked")?;
            tally.count(&outcome, took);
        }
        Ok(tally)
    }

    async fn upload(&self, picture: &Picture) -> reqwest::Result<StatusCode> {
        let length = picture.encoded.len() as u64;
        let file = Part::stream_with_length(Body::from(picture.encoded.clone()), length)
            .file_name(picture.file_name.clone())
            .mime_str(picture.mime)?;
        let url = format!("{}{UPLOAD_ROUTE}", self.base);
        let form = Form::new().part("file", file);
        let response = self.client.post(url).multipart(form).send().await?;
        let status = response.status();
        response.bytes().await?;
        Ok(status)
    }

    async fn read_catalogue(self, client: u32, deadline: Instant) -> RouteTally {
        let mut tally = RouteTally::default();
        let mut draw = client + 1;
        while Instant::now() < deadline {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let page = (draw >> 8) % CATALOGUE_PAGES;
            let sent = Instant::now();
            let outcome = self.read_page(page).await;
            tally.count(&outcome, sent.elapsed());
            tokio::time::sleep(CATALOGUE_PAUSE).await;
        }
        tally
    }

    async fn read_page(&self, page: u32) -> reqwest::Result<StatusCode> {
        let url = format!("{}{CATALOGUE_ROUTE}?page={page}", self.base);
        let response = self.client.get(url).send().await?;
        let status = response.status();
        response.bytes().await?;
        Ok(status)
    }
}
