//! A subscriber that records what it gets and answers as it is told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::Certificates;
use crate::wait::until;

/// One request that arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// When its body had been read.
    pub at: Instant,
    /// POST, hopefully.
    pub method: Method,
    /// With its query.
    pub path: String,
    /// As sent.
    pub headers: HeaderMap,
    /// As sent.
    pub body: Bytes,
}

impl Arrived {
    /// A header's value; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII")).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// What the receiver says.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    after: Duration,
    body: Bytes,
}

impl Answer {
    /// Nothing but a status.
    #[must_use]
    pub fn status(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), after: Duration::ZERO, body: Bytes::new() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    /// Not before this has passed.
    #[must_use]
    pub fn after(self, after: Duration) -> Answer {
        Answer { after, ..self }
    }

    /// With a body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Answer {
        Answer { body: body.into(), ..self }
    }
}

type Script = Box<dyn FnMut(usize) -> Answer + Send>;

#[derive(Default)]
struct Inner {
    arrived: Vec<Arrived>,
    /// By path: how often it was asked, and what it says.
    scripts: HashMap<String, (usize, Script)>,
}

/// A subscriber. Answers 204 unless told otherwise.
#[derive(Clone)]
pub struct Receiver {
    scheme: &'static str,
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Receiver {
    /// Starts one on a port of its own.
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Receiver::on(listener, "http", address)
    }

    /// The same with TLS.
    pub async fn with_tls(certificates: &Certificates) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        Receiver::on(WithTls { listener, acceptor: certificates.acceptor() }, "https", address)
    }

    fn on<L>(listener: L, scheme: &'static str, address: SocketAddr) -> Receiver
    where
        L: Listener<Addr = SocketAddr>,
    {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let app = Router::new().fallback(take).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Receiver { scheme, address, inner }
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Decides what a path answers; the script is told how often it was asked before. It must not wait: nobody else is
    /// answered meanwhile.
    pub fn answers(&self, path: &str, script: impl FnMut(usize) -> Answer + Send + 'static) {
        self.lock().scripts.insert(path.to_owned(), (0, Box::new(script)));
    }

    /// All that arrived.
    #[must_use]
    pub fn arrived(&self) -> Vec<Arrived> {
        self.lock().arrived.clone()
    }

    /// All that arrived at a path.
    #[must_use]
    pub fn arrived_at(&self, path: &str) -> Vec<Arrived> {
        self.arrived().into_iter().filter(|arrived| arrived.path == path).collect()
    }

    /// The `notificationId`s in order of arrival.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.arrived().iter().map(|arrived| arrived.header("x-o2ims-notification-id").to_owned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panicked with it")
    }

    /// Waits until so many arrived in all.
    pub async fn wait_for(&self, count: usize) -> Vec<Arrived> {
        until(&format!("{count} requests"), || self.lock().arrived.len() >= count).await;
        self.arrived()
    }
}

struct WithTls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for WithTls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    /// Whoever does not like the certificate is none.
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn take(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let answer = {
        let mut inner = inner.lock().expect("nobody panicked with it");
        let (at, method, headers) = (Instant::now(), head.method, head.headers);
        inner.arrived.push(Arrived { at, method, path: path.clone(), headers, body });
        match inner.scripts.get_mut(&path) {
            Some((asked, script)) => {
                *asked += 1;
                script(*asked - 1)
            }
            None => Answer::status(204),
        }
    };
    tokio::time::sleep(answer.after).await;
    let mut response = Response::builder().status(StatusCode::from_u16(answer.status).expect("a status"));
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).expect("a good answer")
}
