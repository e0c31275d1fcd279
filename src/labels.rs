//! Labels, with which a program says what it was doing when it allocated.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::engine;

/// Runs `scope` with `labels` in force on this thread. Every allocation that is sampled inside
/// carries them.
///
/// Scopes nest: an inner scope adds to the labels of the outer scopes, and its value wins where a
/// key occurs twice. Labels belong to the thread and the scope, so a spawned thread or task does
/// not inherit them. Use [`LabelFuture`] for futures.
///
/// Entering a scope copies the labels into a buffer of the thread. They are compared with known
/// labels only when a sample is taken.
///
/// # Limits
/// A stack that occurs with two sets of labels is recorded as two stacks, so choose keys with few
/// different values: a route, a tenant or a kind of job, but not a request id.
///
/// A sample has at most 16 labels. Their keys and values, with one more byte for each key and each
/// value, have at most 1,024 bytes together. The labels in force on a thread may take 2,048 bytes,
/// including those that an inner scope overrides. A sample beyond one of these limits is recorded
/// without labels and counted in [`Stats::dropped_labels`](crate::Stats::dropped_labels). A label
/// that contains a NUL byte is ignored.
///
/// # Stackful coroutines
/// If a coroutine switches stacks inside a scope, the labels of that scope stay in force for
/// whatever runs next on the thread. If scopes are then left in another order than the reverse of
/// entering, the labels of all open scopes on the thread end. Labels are wrong or missing in such a
/// program, but nothing else is affected. Leave scopes before switching stacks to avoid this.
///
/// # Examples
/// ```
/// let body = heapdrift::with_labels(&[("route", "/api/upload")], || vec![0_u8; 1 << 20]);
/// # assert_eq!(body.len(), 1 << 20);
/// ```
pub fn with_labels<R>(labels: &[(&str, &str)], scope: impl FnOnce() -> R) -> R {
    engine::with_labels(labels, scope)
}

/// Labels for futures, which stay with a future across `.await` and across the threads of an
/// executor.
///
/// # Examples
/// ```
/// use heapdrift::LabelFuture;
///
/// async fn handle() -> Vec<u8> {
///     vec![0; 1 << 20]
/// }
///
/// let response = handle().with_labels(&[("route", "/api/upload")]);
/// # let _ = response;
/// ```
pub trait LabelFuture: Future + Sized {
    /// Puts `labels` in force while this future is polled, as if [`with_labels`] enclosed each
    /// poll. The labels are copied once, by this call.
    fn with_labels(self, labels: &[(&str, &str)]) -> Labeled<Self> {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Labeled { labels, future: self }
    }
}

impl<F: Future> LabelFuture for F {}

pin_project_lite::pin_project! {
    /// A future that is polled with labels in force. [`LabelFuture::with_labels`] creates it.
    #[derive(Clone, Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Labeled<F> {
        labels: Box<[(Box<str>, Box<str>)]>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Labeled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        engine::with_owned_labels(this.labels, || this.future.poll(context))
    }
}
