//! The service: routes on a free loopback port, for as long as the load lasts.
//!
//! Every request runs under the label `route=…`, which one middleware sets for all handlers. Labels
//! follow a future across `.await`; a handler that moves work to another thread has to set them
//! again there.

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use heapdrift::LabelFuture;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::Run;
use super::client::Client;
use super::traffic::Traffic;

/// Serves `routes` on a separate runtime, runs the traffic that `set_up` adds on this thread, then
/// ends both and prints the tallies of the answers.
pub fn serve_under_load(
    run: &Run,
    routes: Router,
    set_up: impl FnOnce(&mut Traffic),
) -> Result<()> {
    let service = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("service")
        .enable_all()
        .build()
        .context("cannot start the service's threads")?;
    let listener = service
        .block_on(TcpListener::bind(("127.0.0.1", 0)))
        .context("cannot listen on the loopback interface")?;
    let address = listener.local_addr().context("cannot tell the address listened on")?;
    run.say(format_args!("  listening on http://{address}"));

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, routes.route_layer(middleware::from_fn(label_by_route)))
        .with_graceful_shutdown(async {
            let _ = stopped.await;
        });
    let serving = service.spawn(serving.into_future());

    let clients = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the load generator")?;
    let tallies = clients.block_on(async {
        let mut traffic = Traffic::new(Client::of(address), run.duration());
        set_up(&mut traffic);
        traffic.finish().await
    })?;

    // The receiver is gone only if the service has ended already, which the next line reports.
    let _ = stop.send(());
    service.block_on(serving).context("the service panicked")?.context("the service failed")?;
    run.say("");
    for tally in tallies {
        run.say(tally);
    }
    Ok(())
}

/// Runs the handler under the label `route`, with the route's pattern as the value.
async fn label_by_route(route: MatchedPath, request: Request, next: Next) -> Response {
    next.run(request).with_labels(&[("route", route.as_str())]).await
}
