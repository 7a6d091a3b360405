//! Weft delivers webhooks: it takes events from Redis Streams, runs the WebAssembly plugins that a subscription
//! names, signs what comes out and POSTs it, and loses nothing on the way.
//!
//! Most people run it as a daemon, `weft serve`. To run it inside a program of your own:
//!
//! ```no_run
//! use std::time::Duration;
//! use weft::{Config, Daemon, Secret};
//!
//! # async fn example() -> Result<(), weft::daemon::Error> {
//! let mut config = Config::default();
//! config.queue.url = "redis://127.0.0.1:6379".to_owned();
//! config.delivery.worker_count = 10;
//! config.delivery.timeout = Duration::from_secs(10);
//! config.delivery.max_retries = 3;
//! config.delivery.retry_backoff = Duration::from_secs(1);
//! config.delivery.max_backoff = Duration::from_secs(300);
//! config.delivery.hmac_secret = Some(Secret::new(b"your-secret-key"));
//!
//! // Runs until the future resolves, then drains.
//! Daemon::start(config).await?.run(async { tokio::signal::ctrl_c().await.unwrap() }).await?;
//! # Ok(())
//! # }
//! ```

// Domain: no I/O, no clock, no chance, no async.
pub mod attempt;
pub mod breaker;
pub mod delivery;
pub mod entry;
pub mod event;
pub mod json;
pub mod outcome;
pub mod rate;
pub mod request;
pub mod retry;
pub mod secret;
pub mod state;
pub mod stored;
pub mod subscription;

// Edges: each knows one outside.
pub mod directory;
pub mod link;
pub mod plugin;
pub mod queue;
pub mod sender;
pub mod store;
pub mod telemetry;

// Loops: the only callers of the edges.
mod alarm;
mod backoff;
mod endpoints;
mod gate;
pub mod health;
mod host;
mod scheduler;
mod settler;
mod slots;
mod worker;

// Wiring.
pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;

pub use config::Config;
pub use daemon::Daemon;
pub use secret::Secret;
