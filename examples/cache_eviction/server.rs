//! The service: articles through the cache, and a search without it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;

use crate::cache::{Cache, CacheStats};

pub(crate) const ARTICLES: u64 = 100_000;
const AUTHORS: u64 = 4096;
const MAX_HITS: usize = 40;

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    cache: Arc<Mutex<Cache>>,
    /// Allocated once, at the start.
    authors: Arc<[String]>,
}

impl Service {
    pub(crate) fn new(cache_capacity: usize, fixed: bool) -> Self {
        Self {
            cache: Arc::new(Mutex::new(Cache::new(cache_capacity, fixed))),
            authors: (0..AUTHORS).map(|id| format!("Author No. {id} of {AUTHORS}")).collect(),
        }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/api/articles/{id}", get(article))
            .route("/api/search", post(search))
            .with_state(self)
    }

    pub(crate) fn cache_stats(&self) -> CacheStats {
        self.cache().stats()
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn author(&self, article: u64) -> &str {
        // Neighbouring articles have different authors: this is Knuth's multiplier for hashing.
        &self.authors[(article.wrapping_mul(2_654_435_761) % AUTHORS) as usize]
    }

    /// An article as a page of 1 to 4 KiB.
    fn render(&self, id: u64) -> String {
        let author = self.author(id);
        let paragraphs = 9 + id % 22;
        let mut page = format!("<h1>Article {id}</h1><address>{author}</address>");
        for paragraph in 1..=paragraphs {
            page += &format!(
                "<p id=\"{paragraph}\">Of what {author} found out, this is part {paragraph} of \
                 {paragraphs}; the reader of part {} knows the rest.</p>",
                paragraph - 1
            );
        }
        page
    }
}

/// `GET /api/articles/{id}`: answers from the cache, or renders the article and caches it.
async fn article(State(service): State<Service>, Path(id): Path<u64>) -> Response {
    if id >= ARTICLES {
        let refusal = format!("expected an article below {ARTICLES}, found {id}");
        return (StatusCode::NOT_FOUND, refusal).into_response();
    }
    let cached = service.cache().get(id);
    let body = match cached {
        Some(body) => Bytes::from_owner(body),
        None => {
            let page = service.render(id);
            service.cache().insert(id, page.as_bytes());
            page.into()
        }
    };
    ([(header::CONTENT_TYPE, "text/html")], body).into_response()
}

#[derive(Debug, Serialize)]
struct SearchHit {
    article: u64,
    author: String,
}

/// `POST /api/search`: the healthy route, which frees everything it allocates.
async fn search(State(service): State<Service>, wanted: String) -> Response {
    let hits: Vec<SearchHit> = (0..ARTICLES)
        .step_by(97)
        .map(|article| SearchHit { article, author: service.author(article).to_owned() })
        .filter(|hit| hit.author.contains(&wanted))
        .take(MAX_HITS)
        .collect();
    axum::Json(hits).into_response()
}
