//! The load: assessments, and readers of quotes.
//!
//! Invariant: whatever the duration, the faulty service, which keeps 9 MiB of each assessment,
//! stays below 250 MiB.

use std::time::Duration;

use outage::client::answer;
use outage::traffic::Traffic;

/// Assessments in one run: few, as in the outage.
const ASSESSMENTS: u32 = 22;
/// Least time between assessments: one takes a tenth or two of a second of CPU.
const MIN_ASSESSMENT_PERIOD: Duration = Duration::from_millis(500);
const QUOTES_PERIOD: Duration = Duration::from_millis(20);

/// Adds the streams of one run of `duration`.
pub(crate) fn send(traffic: &mut Traffic, duration: Duration) {
    let period = (duration / ASSESSMENTS).max(MIN_ASSESSMENT_PERIOD);
    traffic.send("POST /api/assessments", period, |client, number| async move {
        answer(client.post(&format!("/api/assessments/{number}"))).await
    });
    traffic.send("GET /api/quotes", QUOTES_PERIOD, |client, _| async move {
        answer(client.get("/api/quotes")).await
    });
}
