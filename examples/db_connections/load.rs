//! The load: readers of products and recommendations, and some orders.
//!
//! Invariant: whatever the duration, there are at most [`MAX_RECOMMENDATIONS`], so that the faulty
//! service, which keeps a file open for each, stays below the usual limit of 1024.

use std::time::Duration;

use outage::client::answer;
use outage::traffic::Traffic;

use crate::shop::{CATEGORIES, CUSTOMERS, PRODUCTS};

const MAX_RECOMMENDATIONS: u32 = 900;
const MIN_RECOMMENDATION_PERIOD: Duration = Duration::from_millis(80);
const PRODUCTS_PERIOD: Duration = Duration::from_millis(25);
const ORDER_PERIOD: Duration = Duration::from_millis(200);

/// Adds the streams of one run of `duration`.
pub(crate) fn send(traffic: &mut Traffic, duration: Duration) {
    let period = (duration / MAX_RECOMMENDATIONS).max(MIN_RECOMMENDATION_PERIOD);
    traffic.send("GET /api/recommendations", period, |client, _| async move {
        let customer = rand::random_range(0..CUSTOMERS);
        answer(client.get(&format!("/api/recommendations/{customer}"))).await
    });
    traffic.send("GET /api/products", PRODUCTS_PERIOD, |client, _| async move {
        let category = rand::random_range(0..CATEGORIES);
        answer(client.get(&format!("/api/products/{category}"))).await
    });
    traffic.send("POST /api/orders", ORDER_PERIOD, |client, _| async move {
        let (customer, product) =
            (rand::random_range(0..CUSTOMERS), rand::random_range(0..PRODUCTS));
        answer(client.post(&format!("/api/orders/{customer}/{product}"))).await
    });
}
