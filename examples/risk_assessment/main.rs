//! An outage: a computation over large data sets keeps them afterwards, until the service exceeds
//! its memory limit and is killed.
//!
//! A small risk service (axum, on a free loopback port) assesses portfolios on `POST
//! /api/assessments/{portfolio}`: value at risk and expected shortfall by Monte Carlo simulation of
//! a market of correlated factors. Beside it, `GET /api/quotes` frees everything it allocates. The
//! fault is one field: the result of an assessment contains the simulated paths, 6 to 12 MiB each,
//! for an audit that was never written. A run of 40 s keeps about twenty such blocks, and nothing
//! else. `--fixed` keeps the figures only. The planted function is
//! `risk_assessment::assessment::assess`.
//!
//! ```text
//! cargo run --release --features profiling --example risk_assessment -- --seconds 40
//! ```

mod assessment;
mod load;
mod market;
mod server;

use std::process::ExitCode;

use anyhow::Result;
use outage::Run;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

fn main() -> ExitCode {
    let about = "A computation over large data sets that keeps them afterwards.";
    outage::main("risk_assessment", about, assessments)
}

fn assessments(run: &Run) -> Result<()> {
    let recording = run.record()?;
    let service = server::Service::new(run.fixed());
    outage::serve_under_load(run, service.clone().routes(), |traffic| {
        load::send(traffic, run.duration());
    })?;
    let (count, bytes) = service.paths_kept();
    run.say(format_args!(
        "assessments whose paths are kept: {count}, {:.1} MiB",
        bytes as f64 / f64::from(1 << 20)
    ));
    if let Some(latest) = service.latest_figures() {
        run.say(format_args!("the latest: {latest}"));
    }
    recording.end()
}
