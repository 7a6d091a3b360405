//! `/v1/breakers`: the subscriptions that are held up on this host, because their endpoint fails, and why.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::gate::OpenBreaker;

const PAGE: usize = 1000;

/// Which to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// From the one after this subscription on.
    after: Option<String>,
}

/// A subscription whose breaker is open on this host.
#[derive(Debug, Serialize, Deserialize)]
pub struct Breaker {
    /// Its id.
    pub subscription_id: String,
    /// What becomes of its deliveries.
    pub state: Held,
    /// Why it is disabled, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// For how long all of them have.
    pub failing_for_ms: u64,
    /// When one delivery is tried to see whether the endpoint is back.
    pub probe_in_ms: u64,
}

/// What becomes of deliveries that may not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// They are parked until the endpoint is back.
    Open,
    /// They become dead letters until the endpoint is back.
    Disabled,
}

/// Lists, in the order of the ids, up to a thousand.
pub async fn list(State(admin): State<Arc<Admin>>, Query(ask): Query<Ask>) -> Json<Vec<Breaker>> {
    let open = admin.gate.open_breakers(|id| admin.directory.settings(id), ask.after.as_deref(), PAGE);
    Json(open.iter().map(Breaker::of).collect())
}

impl Breaker {
    fn of(open: &OpenBreaker) -> Breaker {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Breaker {
            subscription_id: open.subscription.to_string(),
            state: if open.disabled.is_some() { Held::Disabled } else { Held::Open },
            why: open.disabled.map(|why| why.to_string()),
            failures: open.failures,
            failing_for_ms: millis(open.failing_for),
            probe_in_ms: millis(open.probe_in),
        }
    }
}
