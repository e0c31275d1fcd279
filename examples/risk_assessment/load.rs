//! The load: assessments, and readers of quotes.
//!
//! Invariant: whatever the duration, there are at most [`MAX_ASSESSMENTS`], so that the faulty
//! service, which keeps 9 MiB of each, stays below 750 MiB.

use std::time::Duration;

use crate::outage::traffic::{Traffic, answer};

const MAX_ASSESSMENTS: u32 = 80;
/// Least time between assessments: one takes a few tenths of a second of CPU.
const MIN_ASSESSMENT_PERIOD: Duration = Duration::from_millis(1800);
const QUOTES_PERIOD: Duration = Duration::from_millis(20);

/// Adds the streams of one run of `duration`.
pub(crate) fn send(traffic: &mut Traffic, duration: Duration) {
    let period = (duration / MAX_ASSESSMENTS).max(MIN_ASSESSMENT_PERIOD);
    traffic.send("POST /api/assessments", period, |client, number| async move {
        answer(client.post(&format!("/api/assessments/{number}"))).await
    });
    traffic.send("GET /api/quotes", QUOTES_PERIOD, |client, _| async move {
        answer(client.get("/api/quotes")).await
    });
}
