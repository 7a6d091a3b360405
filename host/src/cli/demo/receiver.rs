//! The demo's subscriber: verifies every signature and keeps what it got. `/ok` always takes it, `/flaky` fails twice per
//! notification, `/down` fails until it is repaired.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::secret::Secret;

const FLAKY_FAILURES: u32 = 2;

/// One POST that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) notification: String,
    pub(super) body: String,
    /// Whether its signature is that of its body.
    pub(super) verified: bool,
    pub(super) answered: u16,
}

pub(super) struct Receiver {
    address: SocketAddr,
    secret: Secret,
    repaired: AtomicBool,
    failures: Mutex<HashMap<String, u32>>,
    arrivals: mpsc::UnboundedSender<Arrived>,
    arrived: tokio::sync::Mutex<mpsc::UnboundedReceiver<Arrived>>,
}

impl Receiver {
    pub(super) async fn start(secret: &str) -> std::io::Result<Arc<Receiver>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (arrivals, arrived) = mpsc::unbounded_channel();
        let receiver = Arc::new(Receiver {
            address: listener.local_addr()?,
            secret: Secret::new(secret.as_bytes()),
            repaired: AtomicBool::new(false),
            failures: Mutex::default(),
            arrivals,
            arrived: tokio::sync::Mutex::new(arrived),
        });
        let app = Router::new().route("/{endpoint}", post(take)).with_state(Arc::clone(&receiver));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(receiver)
    }

    pub(super) fn url(&self, endpoint: &str) -> String {
        format!("http://{}/{endpoint}", self.address)
    }

    pub(super) fn repair(&self) {
        self.repaired.store(true, Ordering::SeqCst);
    }

    /// The next POST.
    pub(super) async fn next(&self) -> Option<Arrived> {
        self.arrived.lock().await.recv().await
    }

    fn answer(&self, endpoint: &str, notification: &str) -> StatusCode {
        let fails = match endpoint {
            "flaky" => {
                let mut failures = self.failures.lock().expect("no holder of this lock can panic");
                let failed = failures.entry(notification.to_owned()).or_default();
                *failed += 1;
                *failed <= FLAKY_FAILURES
            }
            "down" => !self.repaired.load(Ordering::SeqCst),
            _ => false,
        };
        if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
    }
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let verified = header("x-o2ims-signature") == receiver.secret.hmac_hex(&[&body]);
    let notification = header("x-o2ims-notification-id");
    let status = if verified { receiver.answer(&endpoint, &notification) } else { StatusCode::UNAUTHORIZED };
    let body = String::from_utf8_lossy(&body).into_owned();
    // Once the story is told nobody listens any more.
    let _ = receiver.arrivals.send(Arrived { notification, body, verified, answered: status.as_u16() });
    status
}
