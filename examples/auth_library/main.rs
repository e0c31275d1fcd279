//! An outage: a third-party authentication library allocates and never frees, so that neither a
//! rollback nor more instances help.
//!
//! A small service (axum, on a free loopback port) leaves its tokens to the package `authlib`
//! 0.3.1, which is not in this workspace: `POST /api/login`, `POST /api/refresh` and `GET
//! /api/account` issue, refresh and check them. The library remembers each refreshed token, and
//! forgets none of them when they expire. That is the behaviour of `Sessions::new`; `--fixed` calls
//! `Sessions::bounded`, which forgets them. The planted function is `authlib::Sessions::refresh`,
//! called from `auth_library::login::refresh`.
//!
//! ```text
//! cargo run --release --features profiling --example auth_library -- --seconds 40
//! ```

mod account;
mod load;
mod login;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use outage::Run;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

/// A token is valid for a tenth of the run, so that tokens expire throughout the run. The bounds
/// keep the lifetime well above the half second after which users refresh theirs.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);
const LONGEST_LIFETIME: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let about = "An authentication library that remembers all tokens for ever.";
    outage::main("auth_library", about, accounts)
}

fn accounts(run: &Run) -> Result<()> {
    let recording = run.record()?;
    let token_lifetime = (run.duration() / 10).clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME);
    let service = server::Service::new(token_lifetime, run.fixed());
    outage::serve_under_load(run, service.routes(), load::send)?;
    recording.end()
}
