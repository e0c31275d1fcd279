//! An outage of the design notes: a feature deployed the night before did not give its database
//! connections back.
//!
//! A small shop (axum, loopback, a port of the system's choice; SQLite in a temporary folder)
//! takes a connection from a pool for each request and gives it back. The new feature,
//! `GET /api/recommendations/{customer}`, keeps it, so that the customer's next page could go on
//! where this one ended: nobody asks for a next page, and another connection is opened for each
//! request. `--fixed` gives it back. The planted function is
//! `db_connections::recommendations::Recommendations::recommend`.
//!
//! What SQLite allocates itself, in C, is not seen by heapdrift as yet. It is most of a
//! connection's memory; the rows that a connection has room for, its statements and its handle are
//! Rust's.
//!
//! ```text
//! cargo run --release --features profiling --example db_connections -- --seconds 40
//! ```
//!
//! The engineer's question was whether the deployment was at fault. A dump of the release before
//! answers it:
//!
//! ```text
//! cargo run --release --features profiling --example db_connections -- --fixed --out before
//! cargo run --release --features profiling --example db_connections -- --baseline before/LAST.heap.json.gz
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
    let about = "A new feature that does not give database connections back.";
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
