//! The load: readers who prefer some articles, and searches.

use std::time::Duration;

use rand_distr::{Distribution, Zipf};

use outage::client::answer;
use outage::traffic::Traffic;

use crate::server::ARTICLES;

const ARTICLE_PERIOD: Duration = Duration::from_micros(12_500);
const SEARCH_PERIOD: Duration = Duration::from_millis(40);
/// The exponent of the Zipf distribution of reads, with which nearly half of them are repeated
/// ones.
const SKEW: f64 = 0.8;

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

/// The expected number of different articles that readers request in `time`.
pub(crate) fn distinct_articles_in(time: Duration) -> usize {
    let requests = time.div_duration_f64(ARTICLE_PERIOD);
    let weight = |rank: u64| (rank as f64).powf(-SKEW);
    let total: f64 = (1..=ARTICLES).map(weight).sum();
    let requested = |rank| 1.0 - (-requests * weight(rank) / total).exp();
    (1..=ARTICLES).map(requested).sum::<f64>() as usize
}

fn popularity() -> Zipf<f64> {
    Zipf::new(ARTICLES as f64, SKEW).expect("there are articles, and the exponent is positive")
}
