//! What the operator may set about plugins, with the defaults.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Allocator, Breaking, HttpGrant, Outgoing, StateStore};
use crate::request::HeaderLimits;

/// Which plugins there are and what they may use.
#[derive(Debug, Clone)]
pub struct Config {
    /// Every `.wasm` file in it is a plugin.
    pub dir: PathBuf,
    /// Where compiled code is kept from one start to the next.
    pub cache: Cache,
    /// Of every plugin that has no limits of its own.
    pub limits: Limits,
    /// What is different for single plugins.
    pub named: HashMap<String, Named>,
    /// Bytes of stack that a call may use.
    pub stack_bytes_max: usize,
    /// Calls at once, over all plugins.
    pub calls_max: u32,
    /// Instances that may wait for their next delivery, over all plugins.
    pub idle_max: u32,
    /// Bytes of memory that they may have together.
    pub idle_bytes_max: u64,
    /// No instance is used for longer, so that what it holds on to is given back some time.
    pub idle_age_max: Duration,
    /// Bytes of a verdict's reason; the rest is cut off.
    pub reason_bytes_max: usize,
    /// How long a call waits for its turn when there are more.
    pub wait_max: Duration,
    /// Memory that each of the `calls_max` idle slots may keep, so that the next call finds it mapped.
    pub keep_bytes: usize,
    /// Where the memory of instances comes from; `None` takes the best that this machine can have.
    pub allocator: Option<Allocator>,
    /// Larger files are refused.
    pub file_bytes_max: u64,
    /// When the directory is looked at.
    pub pace: Pace,
    /// When a plugin that keeps failing is left alone.
    pub breaking: Breaking,
    /// Where plugins that were granted state keep it; if there is none, nobody has any.
    pub state: Option<Arc<dyn StateStore>>,
    /// What sends the requests of plugins that were granted http; if there is none, all are denied.
    pub outgoing: Option<Arc<dyn Outgoing>>,
}

/// When the directory is looked at, and when what is seen there counts.
#[derive(Debug, Clone)]
pub struct Pace {
    /// A file must have been the same for so long: one that is being written is left alone.
    pub settle: Duration,
    /// The directory is looked at this often even if nothing tells that it changed, as on network file systems.
    pub rescan_every: Duration,
    /// A file must have been gone for so long before its plugin is: some tools replace a file by deleting it first.
    pub gone_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            settle: Duration::from_millis(250),
            rescan_every: Duration::from_secs(30),
            gone_after: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The defaults, for the plugins in this directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Config {
        Config {
            dir: dir.into(),
            cache: Cache::Off,
            limits: Limits::default(),
            named: HashMap::new(),
            stack_bytes_max: 512 << 10,
            calls_max: 64,
            idle_max: 256,
            idle_bytes_max: 512 << 20,
            idle_age_max: Duration::from_secs(60),
            reason_bytes_max: 1024,
            wait_max: Duration::from_secs(10),
            keep_bytes: 2 << 20,
            allocator: None,
            file_bytes_max: 32 << 20,
            pace: Pace::default(),
            breaking: Breaking::default(),
            state: None,
            outgoing: None,
        }
    }

    /// The environment variables that a plugin sees.
    pub(super) fn env_of(&self, name: &str) -> Vec<Variable> {
        self.named.get(name).map(|named| named.env.clone()).unwrap_or_default()
    }

    /// Calls that one instance of a plugin may serve, if the operator lets it serve more than one.
    pub(super) fn reuse_of(&self, name: &str) -> Option<NonZeroU32> {
        self.named.get(name).and_then(|named| named.reuse)
    }

    /// Whether a plugin was granted this.
    pub(super) fn grants(&self, name: &str, grant: Grant) -> bool {
        self.named.get(name).is_some_and(|named| match grant {
            Grant::State | Grant::Clock | Grant::Random => named.grants.contains(&grant),
            Grant::Http => named.http.is_some(),
        })
    }

    /// What a plugin was granted, in words.
    pub(super) fn granted_to(&self, name: &str) -> Vec<String> {
        let Some(named) = self.named.get(name) else { return Vec::new() };
        let words = named.grants.iter().map(|grant| grant.name().to_owned());
        let http = named.http.iter().flat_map(|http| &http.allow).map(|origin| format!("http {origin}"));
        let env = named.env.iter().map(|variable| format!("env {}", variable.name));
        words.chain(http).chain(env).collect()
    }

    /// The limits of one plugin.
    pub(super) fn limits_of(&self, name: &str) -> Limits {
        let mut limits = self.limits.clone();
        if let Some(named) = self.named.get(name) {
            limits.memory_max = named.memory_max.unwrap_or(limits.memory_max);
            limits.cpu_max = named.cpu_max.unwrap_or(limits.cpu_max);
            limits.time_max = named.time_max.unwrap_or(limits.time_max);
            limits.state_bytes_max = named.state_bytes_max.unwrap_or(limits.state_bytes_max);
        }
        limits
    }

    /// The most memory that any plugin may have.
    pub(super) fn memory_max(&self) -> u64 {
        let named = self.named.values().filter_map(|named| named.memory_max);
        named.fold(self.limits.memory_max, u64::max)
    }
}

/// Where compiled code is kept from one start to the next. It is native code: nobody but this user may write there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// Nowhere: everything is compiled at every start.
    Off,
    /// In this directory if it can be used, else nowhere.
    Try(PathBuf),
    /// In this directory; if it cannot be used there are no plugins.
    In(PathBuf),
}

/// What one call may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory of an instance.
    pub memory_max: u64,
    /// Running time, counted in steps of a millisecond.
    pub cpu_max: Duration,
    /// Time from start to verdict, waiting included.
    pub time_max: Duration,
    /// Headers that it may make.
    pub headers: HeaderLimits,
    /// Elements of all its tables.
    pub table_elements_max: usize,
    /// Core instances that an instance of a component consists of.
    pub core_instances_max: u32,
    /// Memories that they have. `memory_max` is for all of them together.
    pub memories_max: u32,
    /// Host resources held at once.
    pub handles_max: usize,
    /// Bytes that one call of a host function may carry from the plugin to the host.
    pub hostcall_bytes_max: usize,
    /// Bytes of a program's answer.
    pub output_bytes_max: usize,
    /// Pointers that one `json-many` may ask for.
    pub pointers_max: usize,
    /// Bytes that one `json-many` may answer.
    pub json_bytes_max: usize,
    /// Random bytes that one request for some may ask for.
    pub random_bytes_max: u64,
    /// Event types that a plugin may accept one by one.
    pub accepts_max: usize,
    /// Bytes of a settings schema.
    pub schema_bytes_max: usize,
    /// Lines of log, what it prints included.
    pub log_lines_max: usize,
    /// Bytes of log, what it prints included.
    pub log_bytes_max: usize,
    /// Bytes of all the state that it keeps.
    pub state_bytes_max: u64,
    /// It waits no longer for its state.
    pub state_time_max: Duration,
    /// Requests to other servers.
    pub http_requests_max: usize,
    /// Bytes of the body of one.
    pub http_request_bytes_max: usize,
    /// Bytes of the body of its answer.
    pub http_answer_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_max: 64 << 20,
            cpu_max: Duration::from_millis(50),
            time_max: Duration::from_millis(500),
            headers: HeaderLimits::default(),
            table_elements_max: 100_000,
            core_instances_max: 64,
            memories_max: 4,
            handles_max: 256,
            hostcall_bytes_max: 4 << 20,
            output_bytes_max: 4 << 20,
            pointers_max: 256,
            json_bytes_max: 4 << 20,
            random_bytes_max: 4096,
            accepts_max: 64,
            schema_bytes_max: 64 << 10,
            log_lines_max: 32,
            log_bytes_max: 4096,
            state_bytes_max: 16 << 20,
            state_time_max: Duration::from_millis(100),
            http_requests_max: 4,
            http_request_bytes_max: 64 << 10,
            http_answer_bytes_max: 1 << 20,
        }
    }
}

/// What an operator may grant a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// The interface `state`.
    State,
    /// What time it is, instead of when the delivery's chain began.
    Clock,
    /// Random numbers that nobody can foretell.
    Random,
    /// Requests to other servers. It says to which, so it is no word among the others.
    Http,
}

impl Grant {
    /// All that are a word in the configuration.
    pub const ALL: [Grant; 3] = [Grant::State, Grant::Clock, Grant::Random];

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Grant::State => "state",
            Grant::Clock => "clock",
            Grant::Random => "random",
            Grant::Http => "http",
        }
    }
}

/// An environment variable. Its value may be a secret, and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=..", self.name)
    }
}

/// What is different for one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Instead of [`Limits::memory_max`].
    pub memory_max: Option<u64>,
    /// Instead of [`Limits::cpu_max`].
    pub cpu_max: Option<Duration>,
    /// Instead of [`Limits::time_max`].
    pub time_max: Option<Duration>,
    /// Instead of [`Limits::state_bytes_max`].
    pub state_bytes_max: Option<u64>,
    /// Calls that one of its instances may serve, if it says that it can serve more than one.
    pub reuse: Option<NonZeroU32>,
    /// What it may have beyond its delivery.
    pub grants: BTreeSet<Grant>,
    /// Whom it may ask by HTTP.
    pub http: Option<HttpGrant>,
    /// Environment variables that it sees.
    pub env: Vec<Variable>,
    /// SHA-256 of the file in hex; any other content is refused.
    pub sha256: Option<String>,
}
