//! An outage: a new cache drops entries from its index and keeps their memory, and it grows so
//! slowly that it looks like a cache that is still warming up.
//!
//! A small article service (axum, on a free loopback port) renders articles on `GET
//! /api/articles/{id}` and keeps them in a least-recently-used cache with a bounded index. Beside
//! it, `POST /api/search` frees everything it allocates. The fault is that the slot of an evicted
//! entry is neither emptied nor reused. `--fixed` runs the repaired cache, which fills in the first
//! third of the run and replaces entries from then on. Until its first eviction it behaves like the
//! faulty one, so a verdict by then would be too early. The traffic is such that about 30 samples
//! are live at that time, and 90 at the end of a faulty run of the default length. The planted
//! function is `cache_eviction::cache::Cache::insert`.
//!
//! ```text
//! cargo run --release --features profiling --example cache_eviction -- --seconds 40
//! ```

mod cache;
mod load;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use outage::Run;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

fn main() -> ExitCode {
    let about = "A cache that forgets its entries and keeps their memory.";
    outage::main("cache_eviction", about, articles)
}

fn articles(run: &Run) -> Result<()> {
    let recording = run.record()?;
    let capacity = load::distinct_articles_in(run.duration() / 3);
    let service = server::Service::new(capacity, run.fixed());
    outage::serve_under_load(run, service.clone().routes(), load::send)?;
    let stats = service.cache_stats();
    run.say(format_args!(
        "cache: {} of {capacity} entries in the index, {} slots with a body, {} hits, {} evictions, {}",
        stats.entries,
        stats.bodies,
        stats.hits,
        stats.evictions,
        match stats.first_eviction_after.as_ref().map(Duration::as_secs_f64) {
            Some(seconds) => format!("the first after {seconds:.1} s"),
            None => "still filling".to_owned(),
        }
    ));
    recording.end()
}
