//! Plugins: compiled `.wasm` files that decide on deliveries. Knows drafts and verdicts; knows nothing of queues or HTTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::attempt::Lasting;
use crate::event::Event;
use crate::request::Draft;

/// What a chain is told about a delivery: this, the draft and its own settings, and nothing more.
#[derive(Debug, Clone)]
pub struct Call {
    /// What happened.
    pub event: Arc<Event>,
    /// Whom it is for.
    pub subscription_id: Arc<str>,
    /// Scheme, host and port of the endpoint.
    pub destination: Arc<str>,
    /// How often the chain ran for this delivery before.
    pub run: u32,
    /// When this run began.
    pub now: SystemTime,
}

/// What a chain decided.
#[derive(Debug)]
pub enum Decision {
    /// Deliver this.
    Deliver {
        /// The draft with the edits of all plugins.
        draft: Draft,
        /// The plugins that ran, as `name@digest` (first 12 hex digits of the file's SHA-256).
        plugins: Vec<String>,
    },
    /// Do not deliver.
    Drop {
        /// Which plugin said so.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// Not now.
    Postpone {
        /// Which plugin said so.
        plugin: String,
        /// From now.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// Give it up.
    DeadLetter {
        /// Which plugin said so.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// A plugin could not reach a verdict and its `on_error` is `retry`.
    Failed {
        /// Which plugin.
        plugin: String,
        /// What happened, in words.
        error: String,
        /// Whether trying again may help.
        lasting: Lasting,
    },
}
