//! Plugins: compiled `.wasm` files that decide on deliveries. Knows drafts and verdicts; knows nothing of queues or HTTP.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tracing::warn;

use crate::attempt::Lasting;
use crate::entry::EntryId;
use crate::event::Event;
use crate::request::Draft;
use crate::subscription::{Mode, OnError, PluginUse, Tenant};

mod about;
mod breaker;
mod call;
mod config;
mod console;
mod contract;
mod delivery;
pub mod difference;
mod ending;
mod engine;
mod guest;
mod haste;
mod load;
mod log;
mod origin;
mod outgoing;
mod pattern;
mod program;
mod reached;
mod registry;
mod reuse;
mod sandbox;
mod scan;
mod settings;
mod shadow;
mod shelf;
mod shim;
mod state;
mod stats;
mod status;
mod terms;
mod text;
mod tick;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod trial;
mod watch;
mod withheld;

pub use about::About;
pub use breaker::{BreakerState, Breaking};
pub use config::{Cache, Config, Grant, Limits, Named, Pace, Variable};
pub use ending::{Ending, PluginReport};
pub use engine::Allocator;
pub use origin::{BadOrigin, Origin};
pub use outgoing::{Asked, HttpGrant, Outgoing};
pub use reached::Reached;
pub use settings::SettingsMistake;
pub use shadow::{Shadowed, Totals as ShadowTotals};
pub use state::StateStore;
pub use stats::Usage;
pub use status::{Refusal, Rejected, State, Status};
pub use terms::Kind;

pub(crate) use haste::THREAD_STACK;

use call::{Called, Slots};
use contract::types::Verdict;
use ending::Failure;
use load::{Loaded, Loader};
use sandbox::Input;
use shadow::Shadows;
use shelf::Shelf;
use text::clean;
use watch::{Watcher, Watching};

/// A plugin can postpone a delivery by no more.
const POSTPONE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What a chain is told about a delivery: this, the draft and its own settings, and nothing more.
#[derive(Debug, Clone)]
pub struct Call {
    /// What happened.
    pub event: Arc<Event>,
    /// Whom it is for.
    pub subscription_id: Arc<str>,
    /// Whose that is, if the operator says so.
    pub tenant: Option<Tenant>,
    /// Scheme, host and port of the endpoint.
    pub destination: Arc<str>,
    /// Which delivery: its entry in the queue, the same whenever the chain runs for it.
    pub entry: EntryId,
    /// How often a person replayed it.
    pub replays: u32,
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

/// Why there are no plugins at all. A bad file is not among the reasons: see [`Status`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine does not start on this machine.
    #[error("the plugin engine does not start: {0}")]
    Engine(String),
    /// The thread that interrupts plugins cannot be started.
    #[error("the plugin engine has no clock: {0}")]
    Clock(#[source] std::io::Error),
    /// The thread that watches the directory cannot be started.
    #[error("plugins.dir cannot be watched: {0}")]
    Watch(#[source] std::io::Error),
    /// The directory for compiled code cannot be used.
    #[error("plugins.cache_dir {dir}: {error}")]
    Cache {
        /// Which.
        dir: String,
        /// Why.
        error: String,
    },
    /// The plugins' directory is there and cannot be read.
    #[error("plugins.dir {dir}: {error}")]
    Dir {
        /// Which.
        dir: String,
        /// Why.
        #[source]
        error: std::io::Error,
    },
}

/// How many files were looked into since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loads {
    /// They became what is called.
    pub taken: u64,
    /// They did not.
    pub refused: u64,
}

/// The plugins of one host.
pub struct Plugins {
    slots: Arc<Slots>,
    allocator: Allocator,
    shelf: Arc<Shelf>,
    shadows: Shadows,
    reason_bytes_max: usize,
    /// Ends with them.
    _watching: Option<Watching>,
}

impl Plugins {
    /// Reads the directory and compiles what is in it, off the async threads; later changes are not seen. A bad file stops
    /// no other: it is listed with the reason. A directory that is not there is an empty one.
    pub async fn load(config: Config) -> Result<Plugins, Error> {
        let load = || {
            let (plugins, mut watcher) = Plugins::prepare_dir(config)?;
            watcher.load_all();
            Ok(plugins)
        };
        tokio::task::spawn_blocking(load).await.expect("loading does not panic")
    }

    /// The same with one file, wherever it lies; there may be no directory.
    pub async fn load_file(config: Config, file: PathBuf) -> Result<Plugins, Error> {
        let load = move || {
            let (plugins, mut watcher) = Plugins::prepare(config)?;
            watcher.load_only(&file);
            Ok(plugins)
        };
        tokio::task::spawn_blocking(load).await.expect("loading does not panic")
    }

    /// The same as [`Plugins::load`] without waiting: what is in the directory, and what comes into it, is compiled in the background, what the
    /// chains name before all else.
    pub async fn watch(config: Config, chained: BTreeSet<String>) -> Result<Plugins, Error> {
        let start = || {
            let (plugins, watcher) = Plugins::prepare_dir(config)?;
            let watching = watcher.start(chained).map_err(Error::Watch)?;
            Ok(Plugins { _watching: Some(watching), ..plugins })
        };
        tokio::task::spawn_blocking(start).await.expect("starting does not panic")
    }

    fn prepare(config: Config) -> Result<(Plugins, Watcher), Error> {
        let (engines, allocator) = engine::start(&config)?;
        let slots = Arc::new(Slots::new(engines.clone(), &config)?);
        let shadows = Shadows::new(Arc::clone(&slots), config.calls_max);
        let reason_bytes_max = config.reason_bytes_max;
        let (config, shelf) = (Arc::new(config), Arc::new(Shelf::new()));
        let loader = Loader::new(engines, Arc::clone(&config), Arc::clone(&slots))
            .map_err(|error| Error::Engine(format!("{error:#}")))?;
        let watcher = Watcher::new(config, loader, Arc::clone(&shelf));
        Ok((Plugins { slots, allocator, shelf, shadows, reason_bytes_max, _watching: None }, watcher))
    }

    fn prepare_dir(config: Config) -> Result<(Plugins, Watcher), Error> {
        let dir = config.dir.display().to_string();
        let (plugins, mut watcher) = Plugins::prepare(config)?;
        watcher.take_stock().map_err(|error| Error::Dir { dir, error })?;
        Ok((plugins, watcher))
    }

    /// All files that were found, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Status> {
        self.shelf.list()
    }

    /// Those of `names` whose files were found and not looked into yet.
    #[must_use]
    pub fn waiting<'a>(&self, names: &'a BTreeSet<String>) -> Vec<&'a str> {
        names.iter().map(String::as_str).filter(|name| self.shelf.is_waiting(name)).collect()
    }

    /// Those of `names` that cannot be called, and why.
    #[must_use]
    pub fn in_want(&self, names: &BTreeSet<String>) -> Vec<String> {
        let of_chains = self.shelf.list().into_iter().filter(|status| names.contains(&status.name));
        let refused = of_chains.filter_map(|Status { name, state, .. }| match state {
            State::Refused(why) => Some(format!("plugin {name}, which a chain names: {why}")),
            State::Waiting | State::Ready => None,
        });
        refused.collect()
    }

    /// Tells from now on when there is something new in [`Plugins::list`].
    #[must_use]
    pub fn changes(&self) -> Receiver<()> {
        self.shelf.changes()
    }

    /// How many files were looked into.
    #[must_use]
    pub fn loads(&self) -> Loads {
        self.shelf.loads()
    }

    /// How often plugins in shadow ended how, by name, over all their versions.
    #[must_use]
    pub fn shadows(&self) -> ShadowTotals {
        self.shadows.totals()
    }

    /// Ends the shadows that run; nothing else is left to end when no chain runs.
    pub async fn stop(&self) {
        self.shadows.stop().await;
    }

    /// Where settings do not fit what a plugin registered. A plugin that is not there has nothing against any.
    #[must_use]
    pub fn check_settings(&self, name: &str, settings: &str) -> Vec<SettingsMistake> {
        self.shelf.version(name).map(|version| version.profile.mistakes(settings)).unwrap_or_default()
    }

    /// Where the memory of instances comes from.
    #[must_use]
    pub fn allocator(&self) -> Allocator {
        self.allocator
    }

    /// Runs a chain: each plugin sees the edits of those before it, and the first verdict other than `deliver` ends it.
    /// Dropping the future ends the call that is going on.
    pub async fn run(&self, chain: &[PluginUse], call: Call, draft: Draft) -> (Decision, Vec<PluginReport>) {
        let call = Arc::new(call);
        let mut draft = draft;
        let mut plugins = Vec::with_capacity(chain.len());
        let mut reports = Vec::with_capacity(chain.len());
        for step in chain {
            let version = self.shelf.version(&step.name);
            if version.as_ref().is_some_and(|version| !version.profile.wants(&call.event.event_type)) {
                continue;
            }
            if step.mode == Mode::Shadow {
                self.cast(step, version, &call, &draft);
                continue;
            }
            let began = Instant::now();
            let Called { answer, draft: left, reached, asked, memory, ended } =
                self.step(step, version.as_ref(), input(step, &call, draft), began).await;
            draft = left;
            let (plugin, ending, duration) = (Arc::clone(&step.name), Ending::of(&answer), ended - began);
            reports.push(PluginReport { plugin, ending, duration, reached, asked });
            if let Some(version) = &version {
                version.stats.ended(ending, duration, memory);
            }
            let decision = match answer {
                Ok(verdict) => decide(step, verdict, self.reason_bytes_max),
                Err(failure) => judge(step, &call, failure),
            };
            match decision {
                Some(decision) => return (decision, reports),
                None if ending == Ending::Deliver => plugins.extend(version.map(|version| version.tag.clone())),
                None => {}
            }
        }
        (Decision::Deliver { draft, plugins }, reports)
    }

    /// Calls, unless the breaker is open.
    async fn step(&self, step: &PluginUse, version: Option<&Arc<Loaded>>, input: Input, now: Instant) -> Called {
        let Some(version) = version else {
            return Called::not(Failure::new(Ending::Missing, self.shelf.why_missing(&step.name)), input.draft);
        };
        if let Err(error) = version.profile.check(step) {
            return Called::not(
                Failure::new(Ending::Settings, format!("its settings do not fit: {error}")),
                input.draft,
            );
        }
        let pass = match version.breaker.enter(now.into_std()) {
            Ok(pass) => pass,
            Err(left) => return Called::not(Failure::open(left), input.draft),
        };
        let called = self.slots.call(version, input, now).await;
        if pass.ended(Ending::of(&called.answer), called.ended.into_std()) {
            warn!(plugin = &*step.name, digest = version.digest, "plugin keeps failing: not called for a while");
        }
        called
    }

    fn cast(&self, step: &PluginUse, version: Option<Arc<Loaded>>, call: &Arc<Call>, draft: &Draft) {
        match version {
            Some(version) => self.shadows.cast(version, input(step, call, draft.clone())),
            None => self.shadows.missing(&step.name),
        }
    }
}

fn input(step: &PluginUse, call: &Arc<Call>, draft: Draft) -> Input {
    Input {
        call: Arc::clone(call),
        draft,
        settings: Arc::clone(&step.settings),
        settings_revision: step.settings_revision,
    }
}

/// What a verdict means for the chain; `None` goes on.
fn decide(step: &PluginUse, verdict: Verdict, reason_bytes_max: usize) -> Option<Decision> {
    let plugin = step.name.to_string();
    let reason = |text: String| clean(&text, reason_bytes_max);
    match verdict {
        Verdict::Deliver => None,
        Verdict::Drop(text) => Some(Decision::Drop { plugin, reason: reason(text) }),
        Verdict::Postpone(wish) => {
            let after = Duration::from_millis(wish.delay_ms.into()).min(POSTPONE_MAX);
            Some(Decision::Postpone { plugin, after, reason: reason(wish.reason) })
        }
        Verdict::DeadLetter(text) => Some(Decision::DeadLetter { plugin, reason: reason(text) }),
    }
}

/// What a failure means for the chain; `None` goes on.
fn judge(step: &PluginUse, call: &Call, failure: Failure) -> Option<Decision> {
    let plugin = step.name.to_string();
    let (lasting, error) = (failure.lasting(), failure.error);
    match step.on_error {
        OnError::Retry => Some(Decision::Failed { plugin, error, lasting }),
        OnError::Drop => Some(Decision::Drop { plugin, reason: format!("the plugin failed: {error}") }),
        OnError::Deliver => {
            // Nothing else would tell that it failed.
            warn!(plugin, delivery = call.event.id, error, "delivering without this plugin");
            None
        }
    }
}

#[cfg(test)]
mod tests;
