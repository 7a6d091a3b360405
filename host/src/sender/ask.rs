//! Requests that are no deliveries: what plugins ask other servers, by the same connections and past the same guard.

use bytes::{Bytes, BytesMut};
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;

use super::{Sender, USER_AGENT_OURS, certificate_error, unanswered};
use crate::attempt::{AttemptResult, NoAnswer, Unanswered};

impl Sender {
    /// Sends a request and reads the answer whole; one that is larger than it may be is none. The caller bounds the time.
    /// Redirects are answers like any other.
    pub async fn ask(&self, request: Request<Bytes>, answer_bytes_max: usize) -> Result<Response<Bytes>, Unanswered> {
        let mut request = request.map(Full::new);
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT_OURS));
        let answer = self.client.request(request).await.map_err(|error| why(&error))?;
        let (head, mut body) = answer.into_parts();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Unanswered::Broken)?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > answer_bytes_max {
                return Err(Unanswered::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Response::from_parts(head, bytes.freeze()))
    }
}

fn why(error: &legacy::Error) -> Unanswered {
    if certificate_error(error).is_some() {
        return Unanswered::Certificate;
    }
    match unanswered(error) {
        AttemptResult::Blocked { .. } => Unanswered::Blocked,
        AttemptResult::Unanswered { why: NoAnswer::Dns, .. } => Unanswered::Dns,
        AttemptResult::Unanswered { why: NoAnswer::Connect, .. } => Unanswered::Connect,
        AttemptResult::Unanswered { why: NoAnswer::Tls, .. } => Unanswered::Tls,
        AttemptResult::Unanswered { why: NoAnswer::Broken | NoAnswer::Timeout, .. }
        | AttemptResult::Answered { .. }
        | AttemptResult::PluginFailed { .. }
        | AttemptResult::GivenUp { .. }
        | AttemptResult::Disabled { .. } => Unanswered::Broken,
    }
}
