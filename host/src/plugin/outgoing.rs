//! Requests of plugins to other servers, for those that the operator granted some: to the origins that he listed and no others,
//! through whatever the host gives for it, within limits of their own. Knows nothing of addresses: that is the host's business.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::origin::Origin;
use super::{Config, Limits};
use crate::attempt::Unanswered;

/// Requests of one call that are counted: one that is denied costs a plugin next to nothing.
const NOTED_MAX: usize = 1024;

const UNPOISONED: &str = "nothing panics while it is locked";

/// Sends requests for plugins.
#[async_trait]
pub trait Outgoing: fmt::Debug + Send + Sync {
    /// Sends one and reads the answer whole. The caller bounds the time; redirects are answers like any other.
    async fn send(&self, request: Request<Bytes>, answer_bytes_max: usize) -> Result<Response<Bytes>, Unanswered>;
}

/// What a plugin was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// Whom it may ask.
    pub allow: Vec<Origin>,
    /// For one request, from its beginning to the end of the answer.
    pub timeout: Duration,
}

/// How a request of a plugin ended, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// With an answer, whatever its status.
    Answered,
    /// It was not made: not to this origin, or not so many in one call.
    Denied,
    /// The address must not be reached.
    Blocked,
    /// It took too long.
    Time,
    /// The request or the answer is larger than it may be.
    Size,
    /// In any other way.
    Failed,
}

impl Asked {
    /// All there are.
    pub const ALL: [Asked; 6] =
        [Asked::Answered, Asked::Denied, Asked::Blocked, Asked::Time, Asked::Size, Asked::Failed];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Asked::Answered => "answered",
            Asked::Denied => "denied",
            Asked::Blocked => "blocked",
            Asked::Time => "time",
            Asked::Size => "size",
            Asked::Failed => "failed",
        }
    }

    fn of(ended: &Result<Response<Bytes>, Error>) -> Asked {
        match ended {
            Ok(_) => Asked::Answered,
            Err(Error::HttpRequestDenied) => Asked::Denied,
            Err(Error::DestinationIpProhibited) => Asked::Blocked,
            Err(Error::HttpResponseTimeout) => Asked::Time,
            Err(Error::HttpRequestBodySize(_) | Error::HttpResponseBodySize(_)) => Asked::Size,
            // The list is wasi-http's, and may grow.
            Err(_) => Asked::Failed,
        }
    }
}

/// One plugin's way out.
pub(super) struct WayOut {
    outgoing: Option<Arc<dyn Outgoing>>,
    grant: HttpGrant,
    requests_max: usize,
    request_bytes_max: usize,
    answer_bytes_max: usize,
}

impl WayOut {
    /// `None` if it was granted none.
    pub(super) fn of(name: &str, config: &Config, limits: &Limits) -> Option<Arc<WayOut>> {
        let grant = config.named.get(name)?.http.clone()?;
        Some(Arc::new(WayOut {
            outgoing: config.outgoing.clone(),
            grant,
            requests_max: limits.http_requests_max,
            request_bytes_max: limits.http_request_bytes_max,
            answer_bytes_max: limits.http_answer_bytes_max,
        }))
    }

    async fn ask(&self, request: Request<WasiBody>, wish: Duration) -> Result<Response<Bytes>, Error> {
        let outgoing = self.outgoing.as_ref().ok_or(Error::HttpRequestDenied)?;
        let asking = async {
            let (head, body) = request.into_parts();
            let body = whole(body, self.request_bytes_max).await?;
            let sent = outgoing.send(Request::from_parts(head, body), self.answer_bytes_max).await;
            sent.map_err(|why| match why {
                Unanswered::Blocked => Error::DestinationIpProhibited,
                Unanswered::Dns => Error::DnsError { rcode: None, info_code: None },
                Unanswered::Connect => Error::ConnectionRefused,
                Unanswered::Tls => Error::TlsProtocolError,
                Unanswered::Certificate => Error::TlsCertificateError,
                Unanswered::TooLarge => Error::HttpResponseBodySize(Some(self.answer_bytes_max as u64)),
                Unanswered::Broken => Error::ConnectionTerminated,
            })
        };
        let ended = tokio::time::timeout(self.grant.timeout.min(wish), asking).await;
        ended.unwrap_or(Err(Error::HttpResponseTimeout))
    }
}

async fn whole(mut body: WasiBody, bytes_max: usize) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > bytes_max {
                return Err(Error::HttpRequestBodySize(Some(bytes_max as u64)));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// How much longer than `time_max` a call may take: its requests give it time of their own.
#[derive(Default)]
pub(super) struct Patience(AtomicU64);

impl Patience {
    pub(super) fn so_far(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn extend(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX / 2), Ordering::Relaxed);
    }
}

/// What stands between a plugin and the way out: it counts, and lets through what was granted.
pub(super) struct Doorkeeper {
    way_out: Arc<WayOut>,
    patience: Arc<Patience>,
    /// Requests of the call that is going on; `None` while none is: a plugin that registers itself asks nobody.
    begun: Option<usize>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Doorkeeper {
    pub(super) fn new(way_out: Arc<WayOut>) -> Doorkeeper {
        Doorkeeper { way_out, patience: Arc::default(), begun: None, asked: Arc::default() }
    }

    /// For the next call. What the one before asked for and did not wait for is not this one's.
    pub(super) fn begin(&mut self) {
        self.begun = Some(0);
        self.patience = Arc::default();
        self.asked = Arc::default();
    }

    pub(super) fn patience(&self) -> Arc<Patience> {
        Arc::clone(&self.patience)
    }

    /// The call is over: how its requests ended.
    pub(super) fn end(&mut self) -> Vec<Asked> {
        self.begun = None;
        std::mem::take(&mut *lock(&self.asked))
    }

    fn admit(&mut self, request: &Request<WasiBody>) -> Result<Arc<WayOut>, Error> {
        let (way_out, Some(begun)) = (&self.way_out, self.begun.as_mut()) else { return Err(Error::HttpRequestDenied) };
        let is_listed = way_out.grant.allow.iter().any(|origin| origin.is_of(request.uri()));
        // CONNECT would be a way to where nobody looks.
        if !is_listed || *request.method() == Method::CONNECT || *begun >= way_out.requests_max {
            return Err(Error::HttpRequestDenied);
        }
        *begun += 1;
        self.patience.extend(way_out.grant.timeout);
        Ok(Arc::clone(way_out))
    }
}

fn note(asked: &Mutex<Vec<Asked>>, ended: Asked) {
    let mut asked = lock(asked);
    if asked.len() < NOTED_MAX {
        asked.push(ended);
    }
}

fn lock(asked: &Mutex<Vec<Asked>>) -> MutexGuard<'_, Vec<Asked>> {
    asked.lock().expect(UNPOISONED)
}

type Ending = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(Response<WasiBody>, Ending), Error>> + Send>;

impl WasiHttpHooks for Doorkeeper {
    fn send_request(&mut self, request: Request<WasiBody>, options: Option<RequestOptions>, _: Ending) -> Sending {
        let (admitted, asked) = (self.admit(&request), Arc::clone(&self.asked));
        Box::new(async move {
            let ended = match admitted {
                Ok(way_out) => way_out.ask(request, wish(options)).await,
                Err(error) => Err(error),
            };
            note(&asked, Asked::of(&ended));
            let body = |bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
            ended.map(|answer| (answer.map(body), Box::new(async { Ok(()) }) as Ending))
        })
    }
}

/// Lets nothing through.
pub(super) struct Closed;

impl WasiHttpHooks for Closed {
    fn send_request(&mut self, _: Request<WasiBody>, _: Option<RequestOptions>, _: Ending) -> Sending {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

/// A plugin may want to wait less.
fn wish(options: Option<RequestOptions>) -> Duration {
    let options = options.unwrap_or_default();
    // One for connecting alone says nothing about the answer.
    let connect = options.connect_timeout.unwrap_or_default();
    options.first_byte_timeout.map_or(Duration::MAX, |first_byte| connect.saturating_add(first_byte))
}
