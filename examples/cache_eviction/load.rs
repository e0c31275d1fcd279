//! The load: readers who favour some articles, and searches.

use std::time::Duration;

use rand_distr::{Distribution, Zipf};

use outage::client::answer;
use outage::traffic::Traffic;

use crate::server::ARTICLES;

const ARTICLE_PERIOD: Duration = Duration::from_micros(12_500);
const SEARCH_PERIOD: Duration = Duration::from_millis(40);
/// How strongly the first articles are favoured: nearly half of the reads are of ones read before.
const FAVOUR: f64 = 0.8;

/// Adds the streams of one run.
pub(crate) fn send(traffic: &mut Traffic) {
    let popularity = popularity();
    traffic.send("GET /api/articles/{id}", ARTICLE_PERIOD, move |client, _| async move {
        let rank = popularity.sample(&mut rand::rng()) as u64;
        answer(client.get(&format!("/api/articles/{}", rank - 1))).await
    });
    traffic.send("POST /api/search", SEARCH_PERIOD, |client, number| async move {
        answer(client.post("/api/search").body(format!("No. {}", number % 100))).await
    });
}

/// How many different articles readers are expected to ask for in `time`.
pub(crate) fn articles_asked_for_in(time: Duration) -> usize {
    let requests = time.div_duration_f64(ARTICLE_PERIOD);
    let weight = |rank: u64| (rank as f64).powf(-FAVOUR);
    let total: f64 = (1..=ARTICLES).map(weight).sum();
    let asked_for = |rank| 1.0 - (-requests * weight(rank) / total).exp();
    (1..=ARTICLES).map(asked_for).sum::<f64>() as usize
}

fn popularity() -> Zipf<f64> {
    Zipf::new(ARTICLES as f64, FAVOUR).expect("more than one article, a positive exponent")
}
