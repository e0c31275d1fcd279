//! The service: assessments, and quotes beside them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

use crate::assessment::{self, Assessment, Figures, Portfolio};
use crate::market::{Market, Moves};

const ASSESSMENTS_ROUTE: &str = "/api/assessments/{portfolio}";
/// Figures that the fixed service keeps.
const FIGURES_KEPT: usize = 64;
const HISTORY_DAYS: u64 = 4000;
const QUOTED_DAYS: usize = 30;

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    fixed: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    market: Market,
    /// The past days, allocated once at the start.
    history: Vec<Moves>,
    /// Whole assessments, for an audit that was never written. Nothing is ever taken out.
    audit: Mutex<Vec<Assessment>>,
    /// The figures of the last assessments.
    figures: Mutex<VecDeque<Figures>>,
}

impl Service {
    pub(crate) fn new(fixed: bool) -> Self {
        let market = Market::new();
        let past_day = |day| market.draw_day(&mut SmallRng::seed_from_u64(day));
        let history = (0..HISTORY_DAYS).map(past_day).collect();
        let shared = Shared {
            market,
            history,
            audit: Mutex::default(),
            figures: Mutex::new(VecDeque::with_capacity(FIGURES_KEPT)),
        };
        Self { fixed, shared: Arc::new(shared) }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route(ASSESSMENTS_ROUTE, post(assess))
            .route("/api/quotes", get(quotes))
            .with_state(self)
    }

    /// Number and bytes of the paths that are still held.
    pub(crate) fn paths_kept(&self) -> (usize, u64) {
        let audit = locked(&self.shared.audit);
        let bytes = audit.iter().map(|kept| size_of_val(kept.paths.as_slice())).sum::<usize>();
        (audit.len(), bytes as u64)
    }

    pub(crate) fn latest_figures(&self) -> Option<Figures> {
        locked(&self.shared.figures).back().cloned()
    }

    fn keep(&self, assessment: Assessment) {
        let mut figures = locked(&self.shared.figures);
        if figures.len() == FIGURES_KEPT {
            figures.pop_front();
        }
        figures.push_back(assessment.figures.clone());
        if !self.fixed {
            locked(&self.shared.audit).push(assessment);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `POST /api/assessments/{portfolio}`: takes a few tenths of a second of CPU, so it runs on a
/// thread for blocking work, where it sets its label again.
async fn assess(State(service): State<Service>, Path(number): Path<u64>) -> Response {
    let work = move || {
        let portfolio = Portfolio::numbered(number);
        let assessment = assessment::assess(&service.shared.market, &portfolio);
        let answer = assessment.figures.to_string();
        service.keep(assessment);
        answer
    };
    let labelled = move || heapdrift::with_labels(&[("route", ASSESSMENTS_ROUTE)], work);
    match tokio::task::spawn_blocking(labelled).await {
        Ok(answer) => answer.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[derive(Debug, Serialize)]
struct Quote {
    moves: Vec<String>,
}

/// `GET /api/quotes`: the last days. The healthy route, which frees everything it allocates.
async fn quotes(State(service): State<Service>) -> Json<Vec<Quote>> {
    let quote = |moves: &Moves| Quote {
        moves: moves.iter().map(|share| format!("{:+.2}%", 100.0 * share)).collect(),
    };
    Json(service.shared.history.iter().rev().take(QUOTED_DAYS).map(quote).collect())
}
