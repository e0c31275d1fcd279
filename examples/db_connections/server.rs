//! The service: three routes, each of which takes a connection for the time of a request.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::pool::{Connection, Pool};
use crate::recommendations::Recommendations;
use crate::shop;

const PRODUCTS_ROUTE: &str = "/api/products/{category}";
const ORDERS_ROUTE: &str = "/api/orders/{customer}/{product}";
const RECOMMENDATIONS_ROUTE: &str = "/api/recommendations/{customer}";

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pool: Arc<Pool>,
    recommendations: Arc<Recommendations>,
    /// All titles, read once at the start.
    titles: Arc<[String]>,
}

impl Service {
    pub(crate) fn open(database: PathBuf, fixed: bool) -> rusqlite::Result<Self> {
        let recommendations = Arc::new(Recommendations::new(database.clone(), fixed));
        let pool = Pool::of(database);
        let connection = pool.take()?;
        let titles = shop::titles(&connection)?;
        pool.put_back(connection);
        Ok(Self { pool: Arc::new(pool), recommendations, titles: titles.into() })
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route(PRODUCTS_ROUTE, get(products))
            .route(ORDERS_ROUTE, post(order))
            .route(RECOMMENDATIONS_ROUTE, get(recommend))
            .with_state(self)
    }

    /// How many connections were opened, and how many of them are kept.
    pub(crate) fn connections(&self) -> (u64, usize) {
        let (opened, kept) = self.recommendations.connections();
        (opened + self.pool.opened(), kept)
    }

    /// Runs `work` with a connection of the pool.
    fn pooled<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut connection = self.pool.take()?;
        let answer = work(&mut connection);
        self.pool.put_back(connection);
        answer
    }
}

async fn products(State(service): State<Service>, Path(category): Path<u32>) -> Response {
    query(PRODUCTS_ROUTE, move || service.pooled(|pooled| shop::products(pooled, category))).await
}

async fn order(
    State(service): State<Service>,
    Path((customer, product)): Path<(u32, u32)>,
) -> Response {
    if product as usize >= service.titles.len() {
        return (StatusCode::NOT_FOUND, format!("there is no product {product}")).into_response();
    }
    query(ORDERS_ROUTE, move || {
        let number = service.pooled(|pooled| shop::order(pooled, customer, product))?;
        Ok(format!("order {number}: {}\n", service.titles[product as usize]).into_bytes())
    })
    .await
}

async fn recommend(State(service): State<Service>, Path(customer): Path<u32>) -> Response {
    query(RECOMMENDATIONS_ROUTE, move || service.recommendations.recommend(customer)).await
}

/// Runs `work`, which blocks on the database, on a thread for blocking work. Labels do not move to
/// another thread by themselves, so the route is set again there.
async fn query(
    route: &'static str,
    work: impl FnOnce() -> rusqlite::Result<Vec<u8>> + Send + 'static,
) -> Response {
    let labelled = move || heapdrift::with_labels(&[("route", route)], work);
    match tokio::task::spawn_blocking(labelled).await {
        Ok(Ok(rows)) => {
            ([(header::CONTENT_TYPE, "text/tab-separated-values")], rows).into_response()
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
