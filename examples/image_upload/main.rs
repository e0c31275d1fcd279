//! An outage: large uploads are held in memory and never freed.
//!
//! A small image service (axum, on a free loopback port) takes multipart uploads of real PNG and
//! JPEG files on `POST /api/upload` and makes thumbnails. Beside it, `GET /api/catalogue` is
//! healthy. A load generator in the same process sends requests to both. The fault is one line: the
//! decoded picture is appended to a list of recent uploads that is never drained. `--fixed` runs
//! the repaired handler under the same load. The planted function is
//! `image_upload::server::upload::faulty`.
//!
//! With `--features profiling` heapdrift records the run. The example prints leak candidates as
//! they appear, and ends with a table of the top allocation sites, the leak report, a page for the
//! browser, a flamegraph and the dumps. Without the feature the same service runs unrecorded.
//!
//! ```text
//! cargo run --release --features profiling --example image_upload -- --seconds 40
//! ```

mod images;
mod load;
mod server;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use outage::Run;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

fn main() -> ExitCode {
    let about = "An image service that keeps what it decodes, under load and under heapdrift.";
    outage::main("image_upload", about, uploads)
}

fn uploads(run: &Run) -> Result<()> {
    // The pictures belong to the clients. They are made first, so that they are not in the profile.
    let pictures = images::make_pictures()?;
    for picture in &pictures.regular {
        run.say(format_args!("  picture {picture}"));
    }
    run.say(format_args!("  picture {} (sent once, beyond the limits)", pictures.oversized));

    let recording = run.record()?;
    let service = server::Service::new(run.fixed());
    let oversized = Arc::new(OnceLock::new());
    outage::serve_under_load(run, service.clone().routes(), |traffic| {
        load::send(traffic, pictures, run.duration(), Arc::clone(&oversized));
    })?;
    match oversized.get() {
        Some(status) => run.say(format_args!("the oversized upload was answered {status}")),
        None => run.say("the oversized upload was not answered"),
    }
    let (count, bytes) = service.uploads_kept();
    run.say(format_args!(
        "decoded pictures kept after their response: {count}, {:.1} MiB",
        bytes as f64 / f64::from(1 << 20)
    ));
    recording.end()
}
