//! An HTTP client of the service, for the load generator: HTTP/1.1 over connections that stay open.
//!
//! It is a thin layer over hyper, which the service brings anyway. A larger client would take
//! longer to compile than the rest of an outage.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::http::{self, HeaderName, Method, StatusCode, header, request};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Separates the parts of a multipart body. Pictures do not contain it.
const BOUNDARY: &str = "outage-4c1f6e0b9d2a4b7f8e35";

/// An HTTP client of the service. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: legacy::Client<HttpConnector, Chunks>,
    address: SocketAddr,
}

impl Client {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { http: legacy::Client::builder(TokioExecutor::new()).build(connector), address }
    }

    /// A `GET` request; `path` begins with a slash.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// A `POST` request, without a body unless it is given one.
    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let uri = format!("http://{}{path}", self.address);
        let head = http::Request::builder().method(method).uri(uri);
        Request { http: self.http.clone(), head, body: Chunks::default() }
    }
}

/// A request to be sent with [`answer`].
#[derive(Debug)]
#[must_use = "a request is sent by `answer`"]
pub struct Request {
    http: legacy::Client<HttpConnector, Chunks>,
    head: request::Builder,
    body: Chunks,
}

impl Request {
    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Chunks([body.into()].into());
        self
    }

    /// Sends a token along.
    pub fn bearer_auth(self, token: impl AsRef<str>) -> Self {
        self.header(header::AUTHORIZATION, &format!("Bearer {}", token.as_ref()))
    }

    /// Makes this the upload of one file, as the part `file` of a form. The file is not copied.
    pub fn file(mut self, file_name: &str, mime: &str, file: Bytes) -> Self {
        let head = format!(
            "--{BOUNDARY}\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\n\
             content-type: {mime}\r\n\r\n"
        );
        self.body = Chunks([head.into(), file, format!("\r\n--{BOUNDARY}--\r\n").into()].into());
        self.header(header::CONTENT_TYPE, &format!("multipart/form-data; boundary={BOUNDARY}"))
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.head = self.head.header(name, value);
        self
    }
}

/// What a request came back with, its body read to the end.
pub type Answer = Result<(StatusCode, Bytes)>;

/// Sends a request and reads the whole answer.
pub async fn answer(request: Request) -> Answer {
    let Request { http, head, body } = request;
    let request = head.body(body).context("cannot make the request")?;
    let exchange = async {
        let response = http.request(request).await.context("cannot send the request")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("cannot read the answer")?;
        Ok((status, body.to_bytes()))
    };
    tokio::time::timeout(REQUEST_TIMEOUT, exchange).await.context("waited in vain for an answer")?
}

/// A body of a known length, sent chunk by chunk.
#[derive(Debug, Default)]
struct Chunks(VecDeque<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|chunk| chunk.len() as u64).sum())
    }
}
