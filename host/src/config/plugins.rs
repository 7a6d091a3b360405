//! `[plugins]`: what the operator may set about plugins, as written.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::plugin::{Grant, HttpGrant, Variable};
use crate::subscription::{Mode, OnError};

/// A plugin in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRef {
    /// The file's name without `.wasm`.
    pub name: String,
    /// Its settings, as JSON text.
    pub settings: String,
    /// What a failed call means; if not given, what `[plugins.named.NAME]` says.
    pub on_error: Option<OnError>,
    /// Whether what it says counts.
    pub mode: Mode,
}

/// Where plugins are and what they may use up.
#[derive(Debug, Clone)]
pub struct Plugins {
    /// The directory of compiled plugins.
    pub dir: PathBuf,
    /// Memory of one instance.
    pub memory_max: u64,
    /// Running time of one call.
    pub cpu_max: Duration,
    /// Wall time of one call.
    pub time_max: Duration,
    /// Stack of one call.
    pub stack_max: u64,
    /// Elements of all tables of an instance.
    pub table_elements_max: usize,
    /// Core instances that an instance consists of.
    pub core_instances_max: u32,
    /// Memories that they have.
    pub memories_max: u32,
    /// What a WASI program may answer.
    pub output_max: u64,
    /// Headers of a request.
    pub headers_max: usize,
    /// Name and value of one together.
    pub header_max: u64,
    /// What one call of a host function may carry to the host.
    pub hostcall_max: u64,
    /// Host resources that one instance may hold.
    pub handles_max: usize,
    /// Pointers that one `json-many` may ask for.
    pub pointers_max: usize,
    /// What one `json-many` may answer.
    pub json_max: u64,
    /// Random bytes that one request for some may ask for.
    pub random_max: u64,
    /// Of a verdict's reason; the rest is cut off.
    pub reason_max: u64,
    /// Event types that a plugin may accept one by one.
    pub accepts_max: usize,
    /// Of a settings schema.
    pub schema_max: u64,
    /// Lines of log of one call.
    pub log_lines_max: usize,
    /// Log of one call.
    pub log_max: u64,
    /// Calls at once, over all plugins.
    pub calls_max: u32,
    /// How long one waits for its turn when there are more.
    pub calls_wait_max: Duration,
    /// Instances that wait for their next delivery, over all plugins.
    pub idle_max: u32,
    /// Memory that they may have together.
    pub idle_memory_max: u64,
    /// None of them is used for longer.
    pub idle_age_max: Duration,
    /// Larger files are refused.
    pub file_bytes_max: u64,
    /// State that one plugin may keep.
    pub state_max: u64,
    /// How long a plugin waits for its state.
    pub state_time_max: Duration,
    /// Requests to other servers that one call may make.
    pub http_requests_max: usize,
    /// What one of them may carry.
    pub http_request_max: u64,
    /// What its answer may.
    pub http_answer_max: u64,
    /// Where compiled code is kept; if not given, `plugin-cache` beside the embedded queue's data.
    pub cache_dir: Option<PathBuf>,
    /// How long a file must have been the same before it is looked into.
    pub settle: Duration,
    /// How often the directory is looked at if nothing tells of changes.
    pub rescan_every: Duration,
    /// How long a file must have been gone before its plugin is.
    pub gone_after: Duration,
    /// So many calls one after the other that use up time or memory open the plugin's breaker.
    pub breaker_failures: u32,
    /// How long the breaker stays open at first; it doubles with each failed probe.
    pub breaker_wait: Duration,
    /// How long it stays open at most.
    pub breaker_wait_max: Duration,
    /// `[plugins.named.NAME]`
    pub named: BTreeMap<String, NamedPlugin>,
}

/// What one plugin has otherwise.
#[derive(Debug, Clone, Default)]
pub struct NamedPlugin {
    /// `memory_max`
    pub memory_max: Option<u64>,
    /// `cpu_max`
    pub cpu_max: Option<Duration>,
    /// `time_max`
    pub time_max: Option<Duration>,
    /// `state_max`
    pub state_max: Option<u64>,
    /// What it may have beyond its delivery.
    pub grants: BTreeSet<Grant>,
    /// Whom it may ask by HTTP.
    pub http: Option<HttpGrant>,
    /// Environment variables that it sees.
    pub env: Vec<Variable>,
    /// Calls that one of its instances may serve, if it says that it can serve more than one.
    pub reuse: Option<NonZeroU32>,
    /// What a failed call means.
    pub on_error: Option<OnError>,
    /// The only content that is accepted.
    pub sha256: Option<Sha256Hex>,
}

/// A SHA-256 in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha256Hex(pub String);

impl FromStr for Sha256Hex {
    type Err = String;

    fn from_str(text: &str) -> Result<Sha256Hex, String> {
        if let Some(other) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(format!("{other:?} is no hex digit"));
        }
        if text.len() != 64 { Err(format!("it has {} digits", text.len())) } else { Ok(Sha256Hex(text.to_owned())) }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins {
            dir: "plugins".into(),
            memory_max: 64 * 1024 * 1024,
            cpu_max: Duration::from_millis(50),
            time_max: Duration::from_millis(500),
            stack_max: 512 * 1024,
            table_elements_max: 100_000,
            core_instances_max: 64,
            memories_max: 4,
            output_max: 4 * 1024 * 1024,
            headers_max: 64,
            header_max: 8 * 1024,
            hostcall_max: 4 * 1024 * 1024,
            handles_max: 256,
            pointers_max: 256,
            json_max: 4 * 1024 * 1024,
            random_max: 4096,
            reason_max: 1024,
            accepts_max: 64,
            schema_max: 64 * 1024,
            log_lines_max: 32,
            log_max: 4096,
            calls_max: 64,
            calls_wait_max: Duration::from_secs(10),
            idle_max: 256,
            idle_memory_max: 512 * 1024 * 1024,
            idle_age_max: Duration::from_secs(60),
            file_bytes_max: 32 * 1024 * 1024,
            state_max: 16 * 1024 * 1024,
            state_time_max: Duration::from_millis(100),
            http_requests_max: 4,
            http_request_max: 64 * 1024,
            http_answer_max: 1024 * 1024,
            cache_dir: None,
            settle: Duration::from_millis(250),
            rescan_every: Duration::from_secs(30),
            gone_after: Duration::from_secs(5),
            breaker_failures: 5,
            breaker_wait: Duration::from_secs(1),
            breaker_wait_max: Duration::from_secs(300),
            named: BTreeMap::new(),
        }
    }
}
