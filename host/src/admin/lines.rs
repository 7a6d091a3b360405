//! A body that comes line by line, as long as somebody reads it: nothing goes on for a client that left.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;

/// What makes the lines of a body.
pub(super) trait Lines: Sized + Send + 'static {
    /// The next ones, and what makes those after them; `None` at the end.
    fn next(self) -> impl Future<Output = Option<(Bytes, Self)>> + Send;
}

type Step<T> = Pin<Box<dyn Future<Output = Option<(Bytes, T)>> + Send>>;

/// Dropped half-way it makes no further line.
struct ByLine<T>(Option<Step<T>>);

impl<T: Lines> HttpBody for ByLine<T> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(step) = &mut this.0 else { return Poll::Ready(None) };
        match ready!(step.as_mut().poll(context)) {
            Some((lines, rest)) => {
                this.0 = Some(Box::pin(rest.next()));
                Poll::Ready(Some(Ok(Frame::data(lines))))
            }
            None => {
                this.0 = None;
                Poll::Ready(None)
            }
        }
    }
}

/// An answer of lines of JSON.
pub(super) fn answer(lines: impl Lines) -> Response {
    let body = Body::new(ByLine(Some(Box::pin(lines.next()))));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
