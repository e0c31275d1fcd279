//! The first outage of the design notes: large uploads held in memory and never given back.
//!
//! A small image service (axum, loopback, a port of the system's choice) takes multipart uploads
//! of real PNG and JPEG files on `POST /api/upload`, makes thumbnails, and serves an innocent
//! `GET /api/catalogue` beside it. A load generator in the same process sends both. The fault is
//! one line: the decoded picture is appended to a list of recent uploads that nobody drains.
//! `--fixed` runs the repaired handler under the same load.
//!
//! With `--features profiling` the run is recorded by heapdrift and ends with a table of the top
//! allocation sites, a flamegraph and the dumps. Without, the same service runs unrecorded.
//!
//! ```text
//! cargo run --release --features profiling --example image_upload -- --seconds 20
//! ```

mod images;
mod load;
mod report;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOC: heapdrift::Alloc = heapdrift::Alloc::system();

/// Mean bytes between samples. Eight times finer than the default: the run lasts seconds, not days.
const SAMPLE_INTERVAL_BYTES: u64 = 64 << 10;
/// How often a dump is written while the load runs.
const DUMP_PERIOD: Duration = Duration::from_secs(4);
/// How many dumps are kept in the output folder.
const DUMPS_KEPT: usize = 20;
/// Exit status for bad usage and for a folder or port that cannot be used.
const EXIT_UNUSABLE: u8 = 2;

/// An image service that keeps what it decodes, under load and under heapdrift.
#[derive(Debug, Parser)]
#[command(
    name = "image_upload",
    after_help = "Example:\n  cargo run --release --features profiling --example image_upload -- \
                  --seconds 20 --out heapdrift-out/image_upload"
)]
struct Options {
    /// Run the repaired service: uploads are streamed, limited and released.
    #[arg(long)]
    fixed: bool,
    /// How long the load runs, in seconds.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Folder for the dumps and the flamegraph; made if it is not there.
    #[arg(long, default_value = "heapdrift-out/image_upload", value_name = "DIR")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image_upload: {error:#}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

fn run(options: &Options) -> Result<()> {
    println!(
        "image_upload: {} service, {} s of load, {}",
        if options.fixed { "fixed" } else { "faulty" },
        options.seconds,
        if cfg!(feature = "profiling") {
            format!("recorded at a mean of one sample every {} KiB", SAMPLE_INTERVAL_BYTES >> 10)
        } else {
            "not recorded (built without --features profiling)".to_owned()
        }
    );
    if cfg!(feature = "profiling") {
        std::fs::create_dir_all(&options.out)
            .with_context(|| format!("cannot make the output folder {}", options.out.display()))?;
    }
    // What clients have on their own machines; made first, so that it is not in the profile.
    let pictures = images::make_pictures()?;
    for picture in &pictures.regular {
        println!("  picture {picture}");
    }
    println!("  picture {} (sent once, beyond the limits)", pictures.oversized);

    let started = SystemTime::now();
    let rss_before = report::resident_bytes();
    let profiler = start_profiler(&options.out)?;
    // The service outlives the profiler, so that the last dump shows what the service still holds.
    let service = server::Service::new(options.fixed);
    let tally = serve_under_load(&service, &pictures, Duration::from_secs(options.seconds))?;
    report::traffic(&tally, &service, rss_before);
    drop(profiler);
    if cfg!(feature = "profiling") {
        report::profile(&options.out, started)?;
    } else {
        println!("nothing was recorded, so {} was left alone", options.out.display());
    }
    Ok(())
}

fn start_profiler(out: &Path) -> Result<heapdrift::Profiler> {
    let mut builder = heapdrift::Profiler::builder()
        .sample_interval_bytes(SAMPLE_INTERVAL_BYTES)
        .diff_every(DUMP_PERIOD);
    if cfg!(feature = "profiling") {
        builder = builder.dump_dir(out).dump_keep(DUMPS_KEPT);
    }
    // In one line: the error names its cause already, which as a context it would do twice.
    builder.start().map_err(|error| anyhow!("cannot start the profiler: {error}"))
}

/// Runs the service on a runtime of its own and the load on this thread, then ends both.
fn serve_under_load(
    service: &server::Service,
    pictures: &images::Pictures,
    duration: Duration,
) -> Result<load::Tally> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("service")
        .enable_all()
        .build()
        .context("cannot start the service's threads")?;
    let listener =
        runtime.block_on(server::bind()).context("cannot listen on the loopback interface")?;
    let address = listener.local_addr().context("cannot tell the address listened on")?;
    println!("  listening on http://{address}");

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = runtime.spawn(server::serve(listener, service.clone(), stopped));
    let tally = load::run(address, pictures, duration)?;
    // The receiver is gone only if the service has ended already, which the next line tells.
    let _ = stop.send(());
    runtime.block_on(serving).context("the service panicked")?.context("the service failed")?;
    Ok(tally)
}
