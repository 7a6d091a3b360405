//! The sender: puts signed requests on the wire. Knows HTTP, TLS and which addresses must not be reached; knows nothing
//! of queues or plugins.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::CertificateError;
use rustls::crypto::ring;

use crate::attempt::{AttemptResult, NoAnswer, RetryAfter};
use crate::request::SignedRequest;
pub use authorities::Authorities;
use dial::{DialError, Dialer};
pub use guard::Guard;
use names::Names;

mod ask;
pub mod authorities;
mod dial;
mod guard;
mod names;
mod race;

const USER_AGENT_OURS: &str = concat!("weft/", env!("CARGO_PKG_VERSION"));

/// Node's servers close a connection after five idle seconds; a request on one that is just being closed fails.
const IDLE_MAX: Duration = Duration::from_secs(4);
const IDLE_CONNECTIONS_PER_HOST: usize = 1024;
/// An answer's status line and headers together.
const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Brings a signed request to its endpoint; in a simulation, to whatever stands for it.
#[async_trait]
pub trait Post: Send + Sync + 'static {
    /// Posts a request; its timeout covers connect, send and reading the answer. Redirects are answers like any other.
    async fn post(&self, request: SignedRequest) -> AttemptResult;
}

/// Posts signed requests by HTTP.
#[derive(Clone)]
pub struct Sender {
    client: Client<HttpsConnector<Dialer>, Full<Bytes>>,
    response_bytes_max: usize,
}

/// What a sender spends.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of an answer's body.
    pub response_bytes_max: usize,
    /// Names that are looked up at once.
    pub lookups_max: usize,
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct Error(#[from] rustls::Error);

impl Sender {
    /// A sender that reaches what the guard allows, believes these authorities, and keeps these limits.
    pub fn new(guard: Guard, authorities: Authorities, limits: Limits) -> Result<Sender, Error> {
        let Limits { response_bytes_max, lookups_max } = limits;
        let provider = Arc::new(ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(authorities.into_store());
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(Dialer::new(guard, Names::new(lookups_max)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
            .http1_max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .build(connector);
        Ok(Sender { client, response_bytes_max })
    }

    async fn exchange(&self, request: SignedRequest) -> AttemptResult {
        let (uri, headers, body) = request.into_parts();
        let mut post = Request::new(Full::new(body));
        *post.method_mut() = http::Method::POST;
        *post.uri_mut() = uri;
        *post.headers_mut() = headers;
        post.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(USER_AGENT_OURS));
        match self.client.request(post).await {
            Ok(answer) => self.read(answer).await,
            Err(error) => unanswered(&error),
        }
    }

    /// Reads the body, so that the connection can be used again, up to the limit. A body that breaks off changes nothing:
    /// the status has been said.
    async fn read(&self, answer: Response<Incoming>) -> AttemptResult {
        let (head, mut body) = answer.into_parts();
        let mut left = self.response_bytes_max;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            if size > left {
                break;
            }
            left -= size;
        }
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        AttemptResult::Answered { status: head.status, retry_after: retry_after.and_then(RetryAfter::parse) }
    }
}

#[async_trait]
impl Post for Sender {
    async fn post(&self, request: SignedRequest) -> AttemptResult {
        let limit = request.timeout();
        match tokio::time::timeout(limit, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => AttemptResult::Unanswered {
                why: NoAnswer::Timeout,
                error: format!("no complete answer within {}", humantime::format_duration(limit)),
            },
        }
    }
}

fn unanswered(error: &legacy::Error) -> AttemptResult {
    if let Some(dial) = causes(error).find_map(|cause| cause.downcast_ref::<DialError>()) {
        let error = dial.to_string();
        return match dial {
            DialError::Blocked { .. } => AttemptResult::Blocked { error },
            DialError::Dns { .. } => AttemptResult::Unanswered { why: NoAnswer::Dns, error },
            DialError::Connect { .. } => AttemptResult::Unanswered { why: NoAnswer::Connect, error },
        };
    }
    let why = if error.is_connect() { NoAnswer::Tls } else { NoAnswer::Broken };
    let is_strange = matches!(certificate_error(error), Some(CertificateError::UnknownIssuer));
    let mend = if is_strange { "; an authority of your own is named in egress.tls_ca" } else { "" };
    let error = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string) + mend;
    AttemptResult::Unanswered { why, error }
}

/// What is wrong with the certificate of the other side, if that is what is wrong.
fn certificate_error(error: &legacy::Error) -> Option<&CertificateError> {
    causes(error).find_map(|cause| {
        let mut inner = cause;
        // An error of I/O that wraps another one does not name it as its source.
        while let Some(wrapped) = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            inner = wrapped;
        }
        match inner.downcast_ref()? {
            rustls::Error::InvalidCertificate(why) => Some(why),
            _ => None,
        }
    })
}

fn causes(error: &legacy::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}
