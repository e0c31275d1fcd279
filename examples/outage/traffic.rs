//! The load: streams of requests, each sent by the clock and with bounded concurrency.
//!
//! A stream sends at its own rate whatever the service does, as long as at most `MAX_IN_FLIGHT`
//! of its requests are in flight. Missed requests are not sent later.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::client::{Answer, Client};

/// Requests of one stream that may be in flight at a time.
const MAX_IN_FLIGHT: usize = 4;

/// All streams of requests of one run.
#[derive(Debug)]
pub struct Traffic {
    client: Client,
    until: Instant,
    streams: Vec<JoinHandle<Result<Tally>>>,
}

impl Traffic {
    /// Traffic that ends after `duration`. Streams run on the current runtime.
    pub(super) fn new(client: Client, duration: Duration) -> Self {
        Self { client, until: Instant::now() + duration, streams: Vec::new() }
    }

    /// Adds a stream called `name`, with one request every `period`. `request` gets the number of
    /// the request in its stream, from 0.
    pub fn send<A>(
        &mut self,
        name: &'static str,
        period: Duration,
        request: impl Fn(Client, u64) -> A + Send + 'static,
    ) where
        A: Future<Output = Answer> + Send + 'static,
    {
        let (client, until) = (self.client.clone(), self.until);
        self.streams.push(tokio::spawn(async move {
            let mut tally = Tally::of(name);
            let mut due = tokio::time::interval(period);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
            let mut in_flight = JoinSet::new();
            for number in 0.. {
                if tokio::time::timeout_at(until.into(), due.tick()).await.is_err() {
                    break;
                }
                let slot = Arc::clone(&slots).acquire_owned().await?;
                let request = request(client.clone(), number);
                in_flight.spawn(async move {
                    let sent = Instant::now();
                    let answer = request.await;
                    drop(slot);
                    (answer, sent.elapsed())
                });
                // The set keeps a task that has ended until it is taken out.
                while let Some(done) = in_flight.try_join_next() {
                    tally.count(done.context("a client panicked")?);
                }
            }
            while let Some(done) = in_flight.join_next().await {
                tally.count(done.context("a client panicked")?);
            }
            Ok(tally)
        }));
    }

    /// Waits for the end of all streams.
    pub(super) async fn finish(self) -> Result<Vec<Tally>> {
        let mut tallies = Vec::new();
        for stream in self.streams {
            tallies.push(stream.await.context("a stream of requests panicked")??);
        }
        Ok(tallies)
    }
}

/// The answers on one stream.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    name: &'static str,
    served: u64,
    refused: u64,
    failed: u64,
    total_time: Duration,
    longest: Duration,
}

impl Tally {
    fn of(name: &'static str) -> Self {
        let (total_time, longest) = (Duration::ZERO, Duration::ZERO);
        Self { name, served: 0, refused: 0, failed: 0, total_time, longest }
    }

    fn count(&mut self, (answer, took): (Answer, Duration)) {
        match answer {
            Ok((status, _)) if status.is_success() => {
                self.served += 1;
                self.total_time += took;
                self.longest = self.longest.max(took);
            }
            Ok(_) => self.refused += 1,
            Err(_) => self.failed += 1,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served = u32::try_from(self.served).unwrap_or(u32::MAX);
        let mean = self.total_time.checked_div(served).unwrap_or_default();
        write!(
            f,
            "{:<26} {:>6} served (mean {:.1} ms, longest {:.1} ms), {} refused, {} failed",
            self.name,
            self.served,
            mean.as_secs_f64() * 1e3,
            self.longest.as_secs_f64() * 1e3,
            self.refused,
            self.failed
        )
    }
}
