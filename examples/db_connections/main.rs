//! An outage: a feature that was deployed the night before does not return its database
//! connections.
//!
//! A small shop (axum, on a free loopback port, with SQLite in a temporary folder) takes a
//! connection from a pool for each request and returns it. The new feature, `GET
//! /api/recommendations/{customer}`, keeps the connection, so that the customer's next page can
//! continue where this one ended. Nobody requests a next page, so every request opens another
//! connection. `--fixed` returns it. The planted function is
//! `db_connections::recommendations::Recommendations::recommend`.
//!
//! heapdrift does not see yet what SQLite itself allocates, in C, which is most of the memory of a
//! connection. It sees what Rust allocates: the buffer for rows, the statements and the handle.
//!
//! ```text
//! cargo run --release --features profiling --example db_connections -- --seconds 40
//! ```
//!
//! The question in such an outage is whether the deployment is at fault. A dump of the release
//! before answers it:
//!
//! ```text
//! cargo run --release --features profiling --example db_connections -- --fixed --out before
//! cargo run --release --features profiling --example db_connections -- \
//!     --baseline before/LAST.heap.json.gz
//! ```

mod load;
mod pool;
mod recommendations;
mod server;
mod shop;

use std::process::ExitCode;

use anyhow::{Context, Result};
use outage::Run;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

fn main() -> ExitCode {
    let about = "A new feature that does not return its database connections.";
    outage::main("db_connections", about, shop)
}

fn shop(run: &Run) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let database = folder.path().join("shop.sqlite");
    shop::make_database(&database)
        .with_context(|| format!("cannot make the database {}", database.display()))?;

    let recording = run.record()?;
    let service = server::Service::open(database, run.fixed()).context("cannot open the shop")?;
    outage::serve_under_load(run, service.clone().routes(), |traffic| {
        load::send(traffic, run.duration());
    })?;
    let (opened, kept) = service.connections();
    run.say(format_args!("connections: {opened} opened, {kept} kept by recommendations"));
    recording.end()
}
