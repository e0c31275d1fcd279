//! Labels: what the program was doing when it allocated, in its own words.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::recorder::LabelScope;

/// Runs `scope` with labels in force on this thread: allocations sampled inside carry them.
///
/// Scopes nest; an inner scope adds to the labels of the outer ones and overrides equal keys.
/// Labels belong to a thread and a scope: they do not follow a spawned thread or task. For futures
/// there is [`LabelFuture`].
///
/// Entering copies the labels into a buffer of the thread. Text is compared only when a sample is
/// taken. A stack seen with different labels counts as different stacks, so keep values few: a
/// route, a tenant, a job kind; not a request id. At most 16 labels are kept, of 1,024 bytes in all
/// (keys and values, and one byte after each), and the labels in force on a thread, including those
/// that are overridden, may take 2,048 bytes; samples that exceed that are kept without labels and
/// counted.
///
/// Stackful coroutines that switch stacks inside a scope take the labels of that scope with them to
/// whatever runs next on the thread, and scopes that are not left in the reverse order of entering
/// end the labels of all. Labels are then wrong or missing, and nothing else is; leave scopes
/// before switching.
///
/// # Examples
/// ```
/// let body = heapdrift::with_labels(&[("route", "/api/upload")], || vec![0_u8; 1 << 20]);
/// # assert_eq!(body.len(), 1 << 20);
/// ```
pub fn with_labels<R>(labels: &[(&str, &str)], scope: impl FnOnce() -> R) -> R {
    LabelScope::run(labels, scope)
}

/// Labels for futures, kept across `.await` and across threads of an executor.
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
    /// Puts `labels` in force whenever this future is polled, like a [`with_labels`] around each
    /// poll. The text is copied, once.
    fn with_labels(self, labels: &[(&str, &str)]) -> Labeled<Self> {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Labeled { labels, future: self }
    }
}

impl<F: Future> LabelFuture for F {}

pin_project_lite::pin_project! {
    /// A future that is polled with labels in force; made by [`LabelFuture::with_labels`].
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
        LabelScope::run_owned(this.labels, || this.future.poll(context))
    }
}
