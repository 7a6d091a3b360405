//! The configuration: `weft.toml`, laid over the defaults, with the environment laid over it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::admin::Token;
use crate::breaker::BreakerPolicy;
use crate::directory::Directory;
use crate::event::BodyForm;
use crate::link::{Address, BadAddress, TlsFiles, Waits};
use crate::rate::Rate;
use crate::retry::RetryPolicy;
use crate::secret::{Scheme, Secret};
use crate::subscription::{Ordering, PluginUse, Settings, Tenant};
pub use mistake::{Mistake, Mistakes};
pub use plugins::{NamedPlugin, PluginRef, Plugins};

mod check;
mod mistake;
mod plugins;
mod read;
mod reader;
mod source;

/// The file that is read when none is named.
pub const FILE: &str = "weft.toml";
/// For one request of a plugin.
pub(crate) const HTTP_TIMEOUT: Duration = Duration::from_secs(1);

/// All of it. Every field has a default; sizes are in bytes.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `[queue]`
    pub queue: Queue,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[defaults]`
    pub defaults: Defaults,
    /// `[subscriptions."id"]`
    pub subscriptions: BTreeMap<String, Overrides>,
    /// `[plugins]`
    pub plugins: Plugins,
    /// `[egress]`
    pub egress: Egress,
    /// `[admin]`
    pub admin: Admin,
    /// `[metrics]`
    pub metrics: Metrics,
}

/// Where deliveries wait.
#[derive(Clone)]
pub struct Queue {
    /// `embedded:DIRECTORY`, `redis://…`, `redis+sentinel://…` or `redis+cluster://…`; `rediss…` for TLS.
    pub url: String,
    /// Certificates for TLS.
    pub tls: TlsFiles,
    /// For a connection to Redis, and for an answer of it.
    pub waits: Waits,
    /// The key of the stream that producers write.
    pub events: String,
    /// The key of the stream that replays write.
    pub deliveries: String,
    /// The key of the retry schedule; `:data` is appended for a second one.
    pub retry: String,
    /// The key of the stream of dead letters.
    pub dead_letters: String,
    /// The consumer group.
    pub group: String,
    /// How many sets of these keys there are; each has its number in the braces.
    pub shards: u16,
    /// How often a host says that it lives.
    pub heartbeat: Duration,
    /// One that did not for so long is dead, and what it had in hand is claimed.
    pub dead_after: Duration,
    /// Entries that nobody says are in hand are claimed after this.
    pub claim_idle: Duration,
    /// An entry claimed more often is given up as poison.
    pub max_claims: u32,
    /// What another program's consumer left pending longer ago is given up as stale.
    pub adopt_older_than: Duration,
    /// How long events are kept that every group has acknowledged; for ever, as far as Weft is concerned, if not given.
    pub retention: Option<Duration>,
    /// The same for replays.
    pub deliveries_retention: Duration,
    /// Where more entries wait than this, those of subscriptions with few are looked for and moved ahead; 0 for never.
    pub look_ahead: usize,
    /// More dead letters than this are worth a warning; 0 for never.
    pub dead_letters_warn: u64,
    /// A store that does not answer for so long is in the way of being ready.
    pub stall_after: Duration,
}

/// How deliveries are made: the six settings of the Go workers by their names, and ours.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Workers, each a consumer of its own.
    pub worker_count: usize,
    /// For one attempt: connect, send, answer and its body together.
    pub timeout: Duration,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// The wait before the first retry; it doubles with each further one.
    pub retry_backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// What requests are signed with, where a subscription has no secret of its own.
    pub hmac_secret: Option<Secret>,
    /// Deliveries in hand, per worker.
    pub in_flight: usize,
    /// Attempts at once, per subscription and host.
    pub in_flight_per_subscription: usize,
    /// How long a stopping host lets attempts finish.
    pub drain_timeout: Duration,
    /// How long it then lets their last outcomes be recorded.
    pub settle_timeout: Duration,
    /// Outcomes that the queue's store refuses to record, per shard, which hold up no other delivery.
    pub unrecorded_max: usize,
    /// The largest event and the largest body that plugins may make.
    pub body_bytes_max: usize,
    /// What of an event is sent.
    pub body: BodyForm,
    /// How much of an answer's body is read.
    pub response_bytes_max: usize,
}

/// Of every subscription.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The chain.
    pub plugins: Vec<PluginRef>,
    /// How requests are signed, when there is a secret.
    pub signatures: Vec<Scheme>,
    /// How often attempts may be made, per host; as often as they come if not given.
    pub rate: Option<Rate>,
    /// How many may go at once after a pause, where there is a rate.
    pub burst: Option<u32>,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// How long it stays open before one delivery is tried.
    pub breaker_open: Duration,
    /// A subscription all of whose attempts have failed for so long is disabled.
    pub disable_after: Option<Duration>,
    /// A subscription on record whose endpoint answers 410 is disabled.
    pub disable_on_gone: bool,
    /// Whether deliveries wait for the ones before them.
    pub ordering: Ordering,
    /// Whose a subscription is: those of one tenant may share instances of plugins.
    pub tenant: Option<Tenant>,
}

/// What one subscription has otherwise.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `plugins`
    pub plugins: Option<Vec<PluginRef>>,
    /// `signatures`
    pub signatures: Option<Vec<Scheme>>,
    /// `hmac_secret`
    pub hmac_secret: Option<Secret>,
    /// `timeout`
    pub timeout: Option<Duration>,
    /// `max_retries`
    pub max_retries: Option<u32>,
    /// `retry_backoff`
    pub retry_backoff: Option<Duration>,
    /// `max_backoff`
    pub max_backoff: Option<Duration>,
    /// `in_flight`: attempts at once
    pub in_flight: Option<usize>,
    /// `rate`
    pub rate: Option<Rate>,
    /// `burst`
    pub burst: Option<u32>,
    /// `breaker_failures`
    pub breaker_failures: Option<u32>,
    /// `breaker_open`
    pub breaker_open: Option<Duration>,
    /// `disable_after`
    pub disable_after: Option<Duration>,
    /// `disable_on_gone`
    pub disable_on_gone: Option<bool>,
    /// `ordering`
    pub ordering: Option<Ordering>,
    /// `tenant`
    pub tenant: Option<Tenant>,
}

/// What may be reached.
#[derive(Debug, Clone)]
pub struct Egress {
    /// Ranges that are reachable although they are not public.
    pub allow: Vec<IpNet>,
    /// Who signed the certificates of endpoints, beside the authorities that the system knows; a PEM file.
    pub tls_ca: Option<PathBuf>,
    /// Names that are looked up at once.
    pub lookups_max: usize,
}

/// The admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// Who may ask.
    pub tokens: Vec<Token>,
    /// Connections at once; further ones wait.
    pub connections_max: usize,
    /// How long a connection may be without a whole head of a request.
    pub head_timeout: Duration,
}

/// How metrics are kept.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Subscriptions that are counted by name; further ones are counted together as `_other`.
    pub subscription_labels: usize,
}

/// Without the URL, in which a password may stand.
impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("events", &self.events).field("group", &self.group).finish_non_exhaustive()
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            url: "embedded:weft-data".to_owned(),
            tls: TlsFiles::default(),
            waits: Waits::default(),
            events: "o2ims:events".to_owned(),
            deliveries: "o2ims:deliveries".to_owned(),
            retry: "o2ims:retry".to_owned(),
            dead_letters: "o2ims:dlq".to_owned(),
            group: "webhook-workers".to_owned(),
            shards: 1,
            heartbeat: Duration::from_secs(1),
            dead_after: Duration::from_secs(5),
            claim_idle: Duration::from_secs(60),
            max_claims: 5,
            adopt_older_than: Duration::from_secs(24 * 60 * 60),
            retention: None,
            deliveries_retention: Duration::from_secs(60 * 60),
            look_ahead: 1000,
            dead_letters_warn: 10_000,
            stall_after: Duration::from_secs(2),
        }
    }
}

impl Queue {
    /// Where Redis is, if the queue is in Redis.
    pub fn address(&self) -> Result<Address, BadAddress> {
        Ok(Address::parse(&self.url)?.with_tls(self.tls.clone()))
    }
}

impl Default for Delivery {
    fn default() -> Self {
        let retry = RetryPolicy::default();
        Delivery {
            worker_count: 10,
            timeout: Duration::from_secs(10),
            max_retries: retry.max_retries,
            retry_backoff: retry.backoff,
            max_backoff: retry.backoff_max,
            hmac_secret: None,
            in_flight: 64,
            in_flight_per_subscription: 32,
            drain_timeout: Duration::from_secs(30),
            settle_timeout: Duration::from_secs(5),
            unrecorded_max: 4096,
            body_bytes_max: 1024 * 1024,
            body: BodyForm::default(),
            response_bytes_max: 16 * 1024,
        }
    }
}

impl Default for Defaults {
    fn default() -> Self {
        let breaker = BreakerPolicy::default();
        Defaults {
            plugins: Vec::new(),
            signatures: vec![Scheme::O2ims],
            rate: None,
            burst: None,
            breaker_failures: breaker.failures,
            breaker_open: breaker.open,
            disable_after: breaker.disable_after,
            disable_on_gone: true,
            ordering: Ordering::None,
            tenant: None,
        }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Egress { allow: Vec::new(), tls_ca: None, lookups_max: 64 }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            tokens: Vec::new(),
            connections_max: 256,
            head_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { subscription_labels: 1000 }
    }
}

impl Config {
    /// Reads a file (or [`FILE`], if it exists) and lays variables named `WEFT_SECTION__KEY` over it. Reports every
    /// mistake at once.
    pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Config, Mistakes> {
        let default = Path::new(FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let (config, mut mistakes) = read::config(file, environment);
        mistakes.extend(check::all(&config));
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
    }

    /// What is wrong with values that are each good by themselves; for configurations that no file was read for.
    pub fn check(&self) -> Result<(), Mistakes> {
        let mistakes = check::all(self);
        if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
    }

    /// What is on record for each subscription, with the defaults filled in.
    #[must_use]
    pub fn directory(&self) -> Directory {
        // Where each event brings its URL with it, one that is gone says nothing of the next.
        let defaults = Overrides { disable_on_gone: Some(false), ..Overrides::default() };
        let defaults = Arc::new(self.settings(&defaults));
        let on_record = self.subscriptions.iter();
        Directory { defaults, by_id: on_record.map(|(id, over)| (id.clone(), Arc::new(self.settings(over)))).collect() }
    }

    /// Every use of a plugin, with where it stands.
    #[must_use]
    pub fn plugins_used(&self) -> Vec<(String, PluginRef)> {
        let on_record = self
            .subscriptions
            .iter()
            .filter_map(|(id, over)| over.plugins.as_ref().map(|plugins| (format!("subscriptions.{id:?}"), plugins)));
        let chains = on_record.chain([("defaults".to_owned(), &self.defaults.plugins)]);
        chains
            .flat_map(|(path, plugins)| {
                plugins.iter().enumerate().map(move |(at, plugin)| (format!("{path}.plugins[{at}]"), plugin.clone()))
            })
            .collect()
    }

    fn settings(&self, over: &Overrides) -> Settings {
        let (delivery, defaults) = (&self.delivery, &self.defaults);
        let burst = over.burst.or(defaults.burst);
        let with_burst = |rate: Rate| Rate { burst: burst.unwrap_or(rate.burst), ..rate };
        let chain = over.plugins.as_ref().unwrap_or(&self.defaults.plugins);
        Settings {
            chain: chain.iter().map(|plugin| self.plugin_use(plugin)).collect(),
            schemes: over.signatures.as_ref().unwrap_or(&self.defaults.signatures).clone(),
            secret: over.hmac_secret.as_ref().or(delivery.hmac_secret.as_ref()).cloned(),
            retry: RetryPolicy {
                max_retries: over.max_retries.unwrap_or(delivery.max_retries),
                backoff: over.retry_backoff.unwrap_or(delivery.retry_backoff),
                backoff_max: over.max_backoff.unwrap_or(delivery.max_backoff),
            },
            timeout: over.timeout.unwrap_or(delivery.timeout),
            in_flight_max: over.in_flight.unwrap_or(delivery.in_flight_per_subscription),
            rate: over.rate.or(defaults.rate).map(with_burst),
            breaker: BreakerPolicy {
                failures: over.breaker_failures.unwrap_or(defaults.breaker_failures),
                open: over.breaker_open.unwrap_or(defaults.breaker_open),
                disable_after: over.disable_after.or(defaults.disable_after),
                disable_on_gone: over.disable_on_gone.unwrap_or(defaults.disable_on_gone),
            },
            ordering: over.ordering.unwrap_or(defaults.ordering),
            tenant: over.tenant.as_ref().or(defaults.tenant.as_ref()).cloned(),
        }
    }

    fn plugin_use(&self, plugin: &PluginRef) -> PluginUse {
        let named = self.plugins.named.get(&plugin.name).and_then(|named| named.on_error);
        PluginUse {
            name: plugin.name.as_str().into(),
            settings: plugin.settings.as_str().into(),
            settings_revision: revision(&plugin.settings),
            on_error: plugin.on_error.or(named).unwrap_or_default(),
            mode: plugin.mode,
        }
    }
}

/// The first eight bytes of the settings' SHA-256: the same on every host and after every restart.
pub(crate) fn revision(settings: &str) -> u64 {
    let digest = <sha2::Sha256 as sha2::Digest>::digest(settings);
    digest.iter().take(8).fold(0, |revision, byte| revision << 8 | u64::from(*byte))
}
