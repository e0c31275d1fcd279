//! `GET /api/catalogue`: the healthy route. It makes many small allocations, frees nearly all of
//! them, and has a bounded cache that must not be mistaken for a leak.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Service;

const ITEMS_ON_A_PAGE: u32 = 60;
/// Rendered pages kept.
const PAGES_CACHED: usize = 256;

/// A page of the catalogue, rendered or from the cache.
pub(super) async fn page(State(service): State<Service>, Query(wanted): Query<Wanted>) -> Response {
    let pages = &service.shared.pages;
    let cached = pages.lock().unwrap_or_else(PoisonError::into_inner).get(wanted.page);
    let body = match cached {
        Some(body) => body,
        None => {
            let items: Vec<Item> = (0..ITEMS_ON_A_PAGE)
                .map(|row| Item::numbered(wanted.page * ITEMS_ON_A_PAGE + row))
                .collect();
            match serde_json::to_vec(&items) {
                Ok(json) => {
                    let body = Bytes::from(json);
                    pages
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(wanted.page, body.clone());
                    body
                }
                Err(error) => {
                    return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
                }
            }
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    page: u32,
}

#[derive(Debug, Serialize)]
struct Item {
    id: u32,
    title: String,
    tags: Vec<String>,
    price_cents: u32,
}

impl Item {
    fn numbered(id: u32) -> Self {
        const SUBJECTS: [&str; 5] = ["Harbour", "Meadow", "Street", "Night", "Portrait"];
        let subject = SUBJECTS[id as usize % SUBJECTS.len()];
        Self {
            id,
            title: format!("{subject}, print no. {id}"),
            tags: vec![subject.to_lowercase(), format!("series-{}", id / 12)],
            price_cents: 900 + id % 70 * 50,
        }
    }
}

/// Rendered pages, evicted first in, first out.
#[derive(Debug, Default)]
pub(super) struct PageCache {
    by_number: HashMap<u32, Bytes>,
    oldest_first: VecDeque<u32>,
}

impl PageCache {
    fn get(&self, page: u32) -> Option<Bytes> {
        self.by_number.get(&page).cloned()
    }

    fn insert(&mut self, page: u32, body: Bytes) {
        if self.by_number.insert(page, body).is_none() {
            self.oldest_first.push_back(page);
        }
        if self.oldest_first.len() > PAGES_CACHED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_number.remove(&oldest);
        }
    }
}
