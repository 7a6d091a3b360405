//! The admin listener: health, metrics, and what the CLI's `publish` and `dlq` need. Speaks to the queue like any other
//! caller of it; knows nothing of how deliveries are made.

use std::future::Future;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::gate::Gate;
use crate::health::Health;
use crate::plugin::Plugins;
use crate::queue::{self, Queue};
use crate::telemetry::Telemetry;
pub use auth::{Role, Token, TokenSecret};
pub use connections::Bounds;

mod auth;
pub mod breakers;
mod connections;
pub mod dead_letters;
pub mod events;
mod lines;
pub mod plugins;
mod stranger;

/// Events in one request.
const BATCH_MAX: usize = 1000;
/// Bytes of events in one request that every daemon takes, however small its `delivery.body_bytes_max` is.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// What the routes need.
pub struct Admin {
    /// Where events go and dead letters are.
    pub queue: Arc<dyn Queue>,
    /// What is in the way.
    pub health: Arc<Health>,
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// Who may ask; empty: everybody who can reach the listener.
    pub tokens: Vec<Token>,
    /// Of one event.
    pub body_bytes_max: usize,
    /// The plugins.
    pub plugins: Arc<Plugins>,
    /// Who is held up.
    pub(crate) gate: Arc<Gate>,
    /// What is on record.
    pub directory: Directory,
    /// Ends answers that take long.
    pub stop: CancellationToken,
}

/// Serves until `shutdown` resolves, and ends what is being answered then.
pub async fn serve(admin: Admin, listener: TcpListener, bounds: Bounds, shutdown: impl Future<Output = ()> + Send) {
    connections::serve(router(Arc::new(admin)), listener, bounds, shutdown).await;
}

fn router(admin: Arc<Admin>) -> Router {
    let batch_bytes_max = admin.body_bytes_max.saturating_mul(8).max(BATCH_BYTES);
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/events", post(events::publish).layer(DefaultBodyLimit::max(batch_bytes_max)))
        .route("/v1/dead-letters", get(dead_letters::list).delete(dead_letters::many::purge))
        .route("/v1/dead-letters/replay", post(dead_letters::many::replay))
        .route("/v1/dead-letters/{id}", get(dead_letters::show))
        .route("/v1/dead-letters/{id}", delete(dead_letters::purge))
        .route("/v1/dead-letters/{id}/replay", post(dead_letters::replay))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/breakers", get(breakers::list))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), auth::check));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .merge(guarded)
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "no such page; the API is under /v1"))
        .with_state(admin)
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    causes: Vec<Cause>,
    /// In the way of nothing.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Cause {
    part: &'static str,
    cause: String,
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, Json<Readiness>) {
    let causes = admin.health.causes().into_iter().map(|(part, cause)| Cause { part: part.name(), cause });
    let causes: Vec<Cause> = causes.collect();
    let status = if causes.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: causes.is_empty(), causes, warnings: admin.health.warnings() }))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.telemetry.text())
}

/// An answer that says what is wrong: `{"error": "…"}`.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, error: error.into() }
    }

    fn bad_request(error: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, error)
    }
}

impl From<queue::Error> for Refusal {
    fn from(error: queue::Error) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.error }))).into_response()
    }
}
