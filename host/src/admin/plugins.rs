//! `/v1/plugins`: each plugin's file, whether it is in use or why not, and what it has done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::plugin::{self, BreakerState, Shadowed, Status, Usage};

/// A plugin's file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name without `.wasm`.
    pub name: String,
    /// Where it is.
    pub file: String,
    /// SHA-256 of the content in use, in hex; empty if it was not read.
    pub sha256: String,
    /// Bytes of it.
    pub size: u64,
    /// Whether it can be called.
    pub state: State,
    /// Why it cannot, or why the file's present content is not in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The file's present content, if an earlier one is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// The interfaces it imports.
    pub imports: Vec<String>,
    /// What it was granted: `state`, `clock`, `random`, `http` and an origin, `env` and a variable's name.
    #[serde(default)]
    pub grants: Vec<String>,
    /// What it imports the interfaces for, whether it was granted it or not.
    #[serde(default)]
    pub asked_for: Vec<String>,
    /// Its version, in its author's words; empty if it does not say.
    #[serde(default)]
    pub version: String,
    /// What it does, in a line; empty if it does not say.
    #[serde(default)]
    pub summary: String,
    /// Patterns of the event types it wants; empty if it wants all.
    #[serde(default)]
    pub accepts: Vec<String>,
    /// Whether one instance may serve many deliveries.
    #[serde(default)]
    pub reusable: bool,
    /// What is set for it and has no effect, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_vain: Option<String>,
    /// Since when it is in this state; RFC 3339.
    pub since: String,
    /// How long compiling took, in milliseconds.
    pub compile_ms: u64,
    /// What this content has done so far; absent if it cannot be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usages>,
    /// Whether it keeps failing and is not called.
    pub breaker: Breaker,
    /// What this content did in shadow; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// A plugin's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Breaker {
    /// The plugin is called.
    Closed,
    /// It is not.
    Open {
        /// For so long, in milliseconds.
        for_ms: u64,
    },
    /// One call tries.
    Probing,
}

/// What a plugin did in shadow: `usage` as if it had counted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shadow {
    /// Its calls.
    pub usage: Usages,
    /// Deliveries that it would have let go as they were.
    pub unchanged: u64,
    /// Deliveries that it would have changed.
    pub changed: u64,
    /// Where, and how often.
    pub places: BTreeMap<String, u64>,
}

/// Whether a plugin can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its file waits to be compiled, or is being.
    Waiting,
    /// It can.
    Ready,
    /// It cannot.
    Refused,
}

/// A content that did not take the place of the one before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rejected {
    /// Its SHA-256 in hex; empty if it was not read.
    pub sha256: String,
    /// Bytes of it.
    pub size: u64,
    /// Since when; RFC 3339.
    pub since: String,
}

/// What a plugin has done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Usages {
    /// Calls, however they ended.
    pub calls: u64,
    /// How often they ended how: verdicts and failures.
    pub results: BTreeMap<String, u64>,
    /// Half of the calls took no longer, in microseconds.
    pub p50_us: u64,
    /// Of a hundred calls one took longer, in microseconds.
    pub p99_us: u64,
    /// Memory of the hungriest call, in bytes.
    pub memory_bytes_max: u64,
}

/// Lists.
pub async fn list(extract::State(admin): extract::State<Arc<Admin>>) -> Json<Vec<Plugin>> {
    Json(admin.plugins.list().iter().map(Plugin::of).collect())
}

impl Plugin {
    fn of(status: &Status) -> Plugin {
        let (state, refusal) = match &status.state {
            plugin::State::Waiting => (State::Waiting, None),
            plugin::State::Ready => (State::Ready, None),
            plugin::State::Refused(refusal) => (State::Refused, Some(refusal)),
        };
        let refusal = refusal.or(status.rejected.as_ref().map(|rejected| &rejected.why));
        Plugin {
            name: status.name.clone(),
            file: status.file.display().to_string(),
            sha256: status.digest.clone(),
            size: status.size,
            state,
            why: refusal.map(ToString::to_string),
            rejected: status.rejected.as_ref().map(Rejected::of),
            imports: status.imports.clone(),
            grants: status.grants.clone(),
            asked_for: status.asked_for().into_iter().map(str::to_owned).collect(),
            version: status.about.version.clone(),
            summary: status.about.summary.clone(),
            accepts: status.about.accepts.clone(),
            reusable: status.about.is_reusable,
            in_vain: status.in_vain(),
            since: rfc3339(status.since),
            compile_ms: u64::try_from(status.compile.as_millis()).unwrap_or(u64::MAX),
            usage: status.usage.as_ref().map(Usages::of),
            breaker: Breaker::of(status.breaker),
            shadow: status.shadowed.as_ref().map(Shadow::of),
        }
    }
}

impl Breaker {
    fn of(state: BreakerState) -> Breaker {
        match state {
            BreakerState::Closed => Breaker::Closed,
            BreakerState::Open(left) => Breaker::Open { for_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX) },
            BreakerState::Probing => Breaker::Probing,
        }
    }
}

impl Shadow {
    fn of(shadowed: &Shadowed) -> Shadow {
        let Shadowed { usage, unchanged, changed, places } = shadowed;
        Shadow { usage: Usages::of(usage), unchanged: *unchanged, changed: *changed, places: places.clone() }
    }
}

impl Rejected {
    fn of(rejected: &plugin::Rejected) -> Rejected {
        Rejected { sha256: rejected.digest.clone(), size: rejected.size, since: rfc3339(rejected.since) }
    }
}

impl Usages {
    fn of(usage: &Usage) -> Usages {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Usages {
            calls: usage.calls,
            results: usage.endings.iter().map(|(ending, count)| (ending.name().to_owned(), *count)).collect(),
            p50_us: micros(usage.p50),
            p99_us: micros(usage.p99),
            memory_bytes_max: usage.memory_max,
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
