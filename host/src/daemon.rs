//! The daemon: a configuration turned into a running host with its admin listener.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::alarm::Panicked;

use crate::admin::{self, Admin};
use crate::config::{self, Config, Mistakes, PluginRef};
use crate::delivery::{Context, Delivery};
use crate::directory::Directory;
use crate::entry::Turns;
use crate::event::{BodyForm, Notification};
use crate::health::{Health, Part};
use crate::host::{self, Limits, Parts};
use crate::plugin::{self, Plugins};
use crate::queue::embedded::Embedded;
use crate::queue::redis::{Claiming, Keys, Redis, Retention};
use crate::queue::sharded::Sharded;
use crate::queue::{self, Queue};
use crate::request::HeaderLimits;
use crate::sender::{self, Authorities, Guard, Sender, authorities};
use crate::store::{self, Store};
use crate::subscription::Endpoint;
use crate::telemetry::Telemetry;
use dangers::Dangers;

mod dangers;
mod outgoing;
mod shards;
mod spread;
mod state;

/// Why a daemon cannot start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The plugins.
    #[error(transparent)]
    Plugins(#[from] plugin::Error),
    /// What plugins keep.
    #[error(transparent)]
    State(#[from] store::OpenError),
    /// The sender.
    #[error(transparent)]
    Sender(#[from] sender::Error),
    /// Whom endpoints are believed by.
    #[error("egress.tls_ca: {0}")]
    Authorities(#[from] authorities::Error),
    /// The admin listener's address.
    #[error("cannot listen on {address} (admin.listen)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A bug in Weft.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// A host that is ready to run, and its admin listener.
pub struct Daemon {
    parts: Parts,
    /// What the chains name.
    chained: BTreeSet<String>,
    /// What plugins keep.
    state: Option<Arc<Store>>,
    /// What of the store somebody should know.
    dangers: Dangers,
    tokens: Vec<admin::Token>,
    bounds: admin::Bounds,
    listener: TcpListener,
}

impl Daemon {
    /// Opens the queue, starts to load the plugins and binds the admin listener; delivers nothing yet.
    pub async fn start(config: Config) -> Result<Daemon, Error> {
        config.check()?;
        let address = config.admin.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let directory = config.directory();
        let queue = open_queue(&config.queue, &config.delivery, turns(&directory, &config.delivery))?;
        let chained = directory.plugins();
        let state = state::open(&config)?;
        let kept = state.clone().map(|store| store as Arc<dyn plugin::StateStore>);
        let sender = sender(&config)?;
        let outgoing = Arc::new(outgoing::Through(Arc::clone(&sender)));
        let settings = plugin::Config { state: kept, outgoing: Some(outgoing), ..plugin_config(&config) };
        let plugins = Arc::new(Plugins::watch(settings, chained.clone()).await?);
        let delivery = &config.delivery;
        let limits = Limits {
            worker_count: delivery.worker_count,
            in_flight: delivery.in_flight,
            look_ahead: config.queue.look_ahead,
            drain_timeout: delivery.drain_timeout,
            settle_timeout: delivery.settle_timeout,
            unrecorded_max: delivery.unrecorded_max,
            stall_after: config.queue.stall_after,
            claim_every: (config.queue.claim_idle / 4).clamp(Duration::from_millis(100), Duration::from_secs(1)),
            beat_every: config.queue.heartbeat,
            body: delivery.body,
            body_bytes_max: delivery.body_bytes_max,
            dead_letters_warn: config.queue.dead_letters_warn,
        };
        let telemetry = Arc::new(Telemetry::new(config.metrics.subscription_labels));
        let health = Arc::new(Health::starting());
        let gate = limits.gate();
        let parts = Parts { queue, directory, plugins, sender, health, telemetry, gate, limits };
        let dangers = Dangers::of(&config, state.clone(), Arc::clone(&parts.plugins), chained.clone())?;
        let config::Admin { tokens, connections_max, head_timeout, .. } = config.admin;
        let bounds = admin::Bounds { connections_max, head_timeout };
        Ok(Daemon { parts, chained, state, dangers, tokens, bounds, listener })
    }

    /// Where the admin listener is.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// The queue, for whoever embeds the daemon and wants to publish without HTTP.
    #[must_use]
    pub fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.parts.queue)
    }

    /// The metrics.
    #[must_use]
    pub fn telemetry(&self) -> Arc<Telemetry> {
        Arc::clone(&self.parts.telemetry)
    }

    /// Delivers until `shutdown` resolves, then drains and returns. It ends early, with an error, if a task panics.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Daemon { parts, chained, state, dangers, tokens, bounds, listener } = self;
        let plugins = Arc::clone(&parts.plugins);
        let stop = CancellationToken::new();
        let admin = Admin {
            queue: Arc::clone(&parts.queue),
            health: Arc::clone(&parts.health),
            telemetry: Arc::clone(&parts.telemetry),
            tokens,
            body_bytes_max: parts.limits.body_bytes_max,
            plugins: Arc::clone(&parts.plugins),
            gate: Arc::clone(&parts.gate),
            directory: parts.directory.clone(),
            stop: stop.clone(),
        };
        let warning = dangers.watch(Arc::clone(&parts.queue), Arc::clone(&parts.health));
        let warning = tokio::spawn(stop.clone().run_until_cancelled_owned(warning));
        let serving = tokio::spawn(admin::serve(admin, listener, bounds, stop.clone().cancelled_owned()));
        let mut shutdown = pin!(shutdown);
        // Dropping either loses nothing: one only waits, and the other is not asked again once it resolved.
        let compiled = tokio::select! {
            () = compiled(&parts.plugins, &chained, &parts.health) => true,
            () = &mut shutdown => false,
        };
        let ended = if compiled { host::run(parts, shutdown).await.map_err(Error::from) } else { Ok(()) };
        plugins.stop().await;
        if let Some(state) = state {
            state.close();
        }
        stop.cancel();
        let _ = warning.await;
        // Connections that are kept open must not keep a stopping daemon.
        if tokio::time::timeout(Duration::from_secs(1), serving).await.is_err() {
            tracing::debug!("admin connections were still open");
        }
        ended
    }
}

fn sender(config: &Config) -> Result<Arc<Sender>, Error> {
    let mut authorities = Authorities::of_system();
    if let Some(file) = &config.egress.tls_ca {
        authorities = authorities.and(file)?;
    }
    let response_bytes_max = config.delivery.response_bytes_max;
    let limits = sender::Limits { response_bytes_max, lookups_max: config.egress.lookups_max };
    Ok(Arc::new(Sender::new(Guard::new(&config.egress.allow), authorities, limits)?))
}

/// What sends the requests of plugins, for those that are tried without a daemon.
pub(crate) fn outgoing(config: &Config) -> Result<Arc<dyn plugin::Outgoing>, Error> {
    Ok(Arc::new(outgoing::Through(sender(config)?)))
}

/// Waits until each plugin that a chain names is ready or refused: before that its deliveries would fail for want of it.
async fn compiled(plugins: &Plugins, chained: &BTreeSet<String>, health: &Health) {
    let mut changes = plugins.changes();
    loop {
        let waiting = plugins.waiting(chained);
        let what = (!waiting.is_empty()).then(|| format!("being compiled: {}", waiting.join(", ")));
        let is_done = what.is_none();
        health.awaits(Part::Plugins, what);
        if is_done || changes.changed().await.is_err() {
            return;
        }
    }
}

/// Settings that do not fit what a plugin says of them, with where they stand. Their deliveries will fail; that is no reason not
/// to start.
pub(crate) fn unfit(used: &[(String, PluginRef)], plugins: &Plugins) -> BTreeSet<String> {
    let mistakes = used.iter().flat_map(|(path, used)| {
        let mistakes = plugins.check_settings(&used.name, &used.settings).into_iter();
        mistakes.map(move |mistake| format!("{path}.{mistake} (plugin {})", used.name))
    });
    mistakes.collect()
}

/// How the queue tells which entries wait for their turn; `None` if no subscription keeps an order.
pub(crate) fn turns(directory: &Directory, delivery: &config::Delivery) -> Option<Turns> {
    let (directory, body, body_bytes_max) = (directory.clone(), delivery.body, delivery.body_bytes_max);
    directory.keeps_order().then(|| -> Turns {
        Arc::new(move |entry| {
            let settings = |id: &str| directory.settings(id);
            let endpoint = |url: &str| Endpoint::parse(url).map(Arc::new);
            let now = SystemTime::now();
            let context = Context { settings: &settings, endpoint: &endpoint, body, body_bytes_max, now };
            // What no delivery can be made of waits for nobody: the worker gives it up.
            Delivery::decode(entry, &context).ok()?.turn()
        })
    })
}

fn open_queue(
    config: &config::Queue,
    delivery: &config::Delivery,
    turns: Option<Turns>,
) -> Result<Arc<dyn Queue>, queue::Error> {
    if let Some(directory) = config.url.strip_prefix("embedded:") {
        let embedded = Embedded::open(&PathBuf::from(directory), config.claim_idle, config.max_claims)?;
        return Ok(match turns {
            Some(turns) => Arc::new(embedded.with_turns(turns)),
            None => Arc::new(embedded),
        });
    }
    let keys = shards::keys(config);
    let claiming = Claiming {
        dead_after: config.dead_after,
        idle: config.claim_idle,
        claims_max: config.max_claims,
        adopt_older_than: config.adopt_older_than,
    };
    let retention = Retention { events: config.retention, deliveries: config.deliveries_retention };
    let address = config.address().map_err(|error| queue::Error::BadUrl(error.to_string()))?;
    let open = |keys: Keys| -> Arc<dyn Queue> {
        let redis = Redis::at(address.clone(), config.waits, keys, claiming).with_retention(retention);
        match &turns {
            Some(turns) => Arc::new(redis.with_turns(Arc::clone(turns))),
            None => Arc::new(redis),
        }
    };
    if config.shards == 1 {
        return Ok(open(keys));
    }
    let shards = (0..config.shards).map(|number| open(keys.of_shard(number))).collect();
    let bytes_max = delivery.body_bytes_max;
    Ok(Arc::new(Sharded::over(shards, Arc::new(move |event| subscription_of(event, bytes_max)))))
}

/// By what events are spread over shards: an order is one subscription's. What names none, or is too large to be delivered,
/// goes where others like it go.
fn subscription_of(event: &Bytes, bytes_max: usize) -> String {
    let read = || Notification::parse(event.clone(), BodyForm::Verbatim, String::new).ok()?.subscription_id;
    if event.len() <= bytes_max { read().unwrap_or_default() } else { String::new() }
}

/// Where compiled code is kept unless the operator says otherwise, when there is no data of a queue to be beside.
const DATA: &str = "weft-data";
const CACHE: &str = "plugin-cache";

pub(crate) fn plugin_config(config: &Config) -> plugin::Config {
    let beside = config.queue.url.strip_prefix("embedded:").unwrap_or(DATA);
    let cache = match &config.plugins.cache_dir {
        Some(dir) => plugin::Cache::In(dir.clone()),
        None => plugin::Cache::Try(PathBuf::from(beside).join(CACHE)),
    };
    let config = &config.plugins;
    let named = config.named.iter().map(|(name, named)| {
        let overrides = plugin::Named {
            memory_max: named.memory_max,
            cpu_max: named.cpu_max,
            time_max: named.time_max,
            state_bytes_max: named.state_max,
            grants: named.grants.clone(),
            http: named.http.clone(),
            env: named.env.clone(),
            reuse: named.reuse,
            sha256: named.sha256.as_ref().map(|sha256| sha256.0.clone()),
        };
        (name.clone(), overrides)
    });
    let pace = plugin::Pace { settle: config.settle, rescan_every: config.rescan_every, gone_after: config.gone_after };
    plugin::Config {
        limits: plugin_limits(config),
        stack_bytes_max: bytes(config.stack_max),
        calls_max: config.calls_max,
        idle_max: config.idle_max,
        wait_max: config.calls_wait_max,
        idle_bytes_max: config.idle_memory_max,
        idle_age_max: config.idle_age_max,
        reason_bytes_max: bytes(config.reason_max),
        named: named.collect(),
        cache,
        file_bytes_max: config.file_bytes_max,
        pace,
        breaking: plugin::Breaking {
            failures: config.breaker_failures,
            wait: config.breaker_wait,
            wait_max: config.breaker_wait_max,
        },
        ..plugin::Config::new(&config.dir)
    }
}

fn plugin_limits(config: &config::Plugins) -> plugin::Limits {
    plugin::Limits {
        memory_max: config.memory_max,
        cpu_max: config.cpu_max,
        time_max: config.time_max,
        table_elements_max: config.table_elements_max,
        core_instances_max: config.core_instances_max,
        memories_max: config.memories_max,
        output_bytes_max: bytes(config.output_max),
        headers: HeaderLimits { count_max: config.headers_max, bytes_max: bytes(config.header_max) },
        hostcall_bytes_max: bytes(config.hostcall_max),
        handles_max: config.handles_max,
        pointers_max: config.pointers_max,
        json_bytes_max: bytes(config.json_max),
        random_bytes_max: config.random_max,
        accepts_max: config.accepts_max,
        schema_bytes_max: bytes(config.schema_max),
        log_lines_max: config.log_lines_max,
        log_bytes_max: bytes(config.log_max),
        state_bytes_max: config.state_max,
        state_time_max: config.state_time_max,
        http_requests_max: config.http_requests_max,
        http_request_bytes_max: bytes(config.http_request_max),
        http_answer_bytes_max: bytes(config.http_answer_max),
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
