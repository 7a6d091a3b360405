//! A desk to try a plugin on, without a daemon: it is loaded as the daemon would load it, with the same engine, limits and
//! grants, and asked about one event after the other.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Waker, Poll};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use bytes::Bytes;
use tracing::instrument::WithSubscriber;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::{self, Config};
use crate::daemon;
use crate::directory::Directory;
use crate::event::Notification;
use crate::plugin::{
    self, Breaking, Cache, Call, Decision, Ending, Grant, HttpGrant, Origin, Plugins, Reached, State, Status, Variable,
};
use crate::request::Draft;
use crate::subscription::{Endpoint, Mode, OnError, PluginUse};
use lines::Lines;
use memory::Memory;

mod lines;
mod memory;

pub(super) use lines::Line;

/// Compiling takes milliseconds in some languages and ten seconds in others: then it is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// The terms under which a plugin is tried.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Terms {
    /// What the operator would grant it: state (kept in memory), clock, random. Several with commas between.
    #[arg(long, value_name = "GRANTS", value_delimiter = ',', value_parser = grant)]
    pub grant: Vec<Grant>,
    /// Whom it may ask by HTTP, for example https://api.example.com, through the daemon's guard; may be given several times.
    #[arg(long, value_name = "ORIGIN")]
    http: Vec<Origin>,
    /// An environment variable that it sees; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<Variable>,
    /// Limits and grants as this weft.toml has them [default: Weft's own limits, nothing granted].
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Terms {
    /// Whether any of them was given.
    pub(super) fn is_given(&self) -> bool {
        !(self.grant.is_empty() && self.http.is_empty()) || self.config.is_some()
    }
}

fn grant(text: &str) -> Result<Grant, String> {
    let names = Grant::ALL.map(Grant::name);
    let known = Grant::ALL.into_iter().find(|grant| grant.name() == text);
    known.ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok(Variable { name: name.to_owned(), value: value.to_owned() })
}

/// How long the compiled code and the instances are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Compiled anew, to see how long it takes.
    Nothing,
    /// Compiled once for all commands of this user.
    Code,
    /// The same, and an instance that may serves so many deliveries: as `reuse` in the configuration, or any number, if not given.
    Instances(Option<NonZeroU32>),
}

/// A plugin's file on the desk.
pub(super) struct Desk {
    plugins: Plugins,
    status: Status,
    memory: Arc<Memory>,
    delivery: config::Delivery,
    reuse: Option<NonZeroU32>,
    /// What --config has on record.
    directory: Option<Directory>,
}

/// What a plugin is asked.
#[derive(Clone)]
pub(super) struct Question {
    /// The delivery.
    pub call: Call,
    /// The request as it is before.
    pub draft: Draft,
    /// The plugin, and what the subscription sets for it.
    pub step: PluginUse,
}

/// What came of asking.
pub(super) struct Tried {
    /// What the plugin decided.
    pub decision: Decision,
    /// How its call ended; `None` if it accepts no events of this type and was not called.
    pub ending: Option<Ending>,
    /// Limits that it reached and went on.
    pub reached: Vec<Reached>,
    /// What it logged.
    pub log: Vec<Line>,
    /// From asking to the answer.
    pub wall: Duration,
    /// Of that, what somebody computed.
    pub running: Duration,
}

impl Desk {
    /// Looks into a file, whether it is a plugin or not.
    pub(super) async fn open(file: &Path, terms: &Terms, keep: Keep) -> anyhow::Result<Desk> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let whole = match &terms.config {
            Some(file) => Config::load(Some(file), super::environment())?,
            None => Config::default(),
        };
        let memory = Arc::new(Memory::new()?);
        let (state, outgoing) = (Some(Arc::clone(&memory) as _), Some(daemon::outgoing(&whole)?));
        let mut config = plugin::Config { state, outgoing, ..daemon::plugin_config(&whole) };
        // A plugin that is tried may fail as often as it likes.
        config.breaking = Breaking { wait: Duration::ZERO, wait_max: Duration::ZERO, ..Breaking::default() };
        config.cache = if keep == Keep::Nothing { Cache::Off } else { cache() };
        let named = config.named.entry(name).or_default();
        named.grants.extend(terms.grant.iter().filter(|grant| **grant != Grant::Http));
        let asks_nobody = terms.grant.contains(&Grant::Http).then(Vec::new);
        if let Some(allow) = Some(&terms.http).filter(|allow| !allow.is_empty()).cloned().or(asks_nobody) {
            let grant = named.http.get_or_insert(HttpGrant { allow: Vec::new(), timeout: config::HTTP_TIMEOUT });
            grant.allow.extend(allow);
        }
        named.env.extend(terms.env.iter().cloned());
        named.reuse = match keep {
            // Nobody calls it.
            Keep::Nothing => named.reuse,
            Keep::Code => None,
            Keep::Instances(reuse) => reuse.or(named.reuse).or(Some(NonZeroU32::MAX)),
        };
        let reuse = named.reuse;
        let mut loading = pin!(Plugins::load_file(config, file.to_owned()));
        let plugins = match tokio::time::timeout(PATIENCE, &mut loading).await {
            Ok(loaded) => loaded?,
            Err(_) => {
                eprintln!("compiling {}: the first time that takes a while", file.display());
                loading.await?
            }
        };
        let status = plugins.list().into_iter().next().context("the file was not looked into")?;
        let directory = terms.config.is_some().then(|| whole.directory());
        Ok(Desk { plugins, status, memory, delivery: whole.delivery, reuse, directory })
    }

    /// The same with a file that must be a plugin.
    pub(super) async fn load(file: &Path, terms: &Terms, keep: Keep) -> anyhow::Result<Desk> {
        let desk = Desk::open(file, terms, keep).await?;
        if let State::Refused(refusal) = &desk.status.state {
            let is_wanting = matches!(refusal, plugin::Refusal::NotGranted(_));
            let mend = if is_wanting { " (here: --grant, --http or --config weft.toml)" } else { "" };
            bail!("{}: {refusal}{mend}", file.display());
        }
        Ok(desk)
    }

    /// What is known about the file.
    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Deliveries that an instance may serve here, if the plugin says that it may serve more than one.
    pub(super) fn reuse(&self) -> Option<NonZeroU32> {
        self.reuse
    }

    /// Its settings in a subscription's chain, as --config has them; `None` if it is not in there.
    pub(super) fn settings_for(&self, subscription_id: &str) -> Option<Arc<str>> {
        let settings = self.directory.as_ref()?.settings(subscription_id);
        let used = settings.chain.iter().find(|used| *used.name == self.status.name)?;
        Some(Arc::clone(&used.settings))
    }

    /// Bytes of memory that the hungriest call had.
    pub(super) fn memory_max(&self) -> u64 {
        let usage = self.plugins.list().into_iter().find_map(|status| status.usage);
        usage.map_or(0, |usage| usage.memory_max)
    }

    /// Forgets what the plugin kept.
    pub(super) fn forget_state(&self) -> anyhow::Result<()> {
        Ok(self.memory.clear()?)
    }

    /// The delivery of an event, as a worker would begin it. `id` is its entry's, and the event's if that has none.
    pub(super) fn question(&self, event: Bytes, id: &str, now: SystemTime) -> anyhow::Result<Question> {
        let (bytes, bytes_max) = (event.len(), self.delivery.body_bytes_max);
        if bytes > bytes_max {
            bail!("the event has {bytes} bytes, and delivery.body_bytes_max is {bytes_max}: it would be a dead letter");
        }
        let notification = Notification::parse(event, self.delivery.body, || id.to_owned())?;
        let endpoint = notification.callback_url.as_deref().and_then(|url| Endpoint::parse(url).ok());
        let event = Arc::new(notification.event);
        let draft = Draft::new(Arc::clone(&event), self.delivery.body_bytes_max);
        let call = Call {
            event,
            subscription_id: notification.subscription_id.unwrap_or_default().into(),
            tenant: None,
            destination: endpoint.map_or_else(|| "".into(), |endpoint| endpoint.destination),
            entry: id.parse().unwrap_or_default(),
            replays: 0,
            run: 0,
            now,
        };
        Ok(Question { call, draft, step: self.step("{}") })
    }

    /// The plugin as it stands in the chain of a subscription with these settings, JSON text.
    pub(super) fn step(&self, settings: &str) -> PluginUse {
        PluginUse {
            name: self.status.name.as_str().into(),
            settings: settings.into(),
            settings_revision: config::revision(settings),
            on_error: OnError::Retry,
            mode: Mode::Live,
        }
    }

    /// Asks, and nothing else: for those who measure.
    pub(super) async fn ask(&self, question: Question) -> (Decision, Option<Ending>, Vec<Reached>) {
        let Question { call, draft, step } = question;
        let (decision, reports) = self.plugins.run(&[step], call, draft).await;
        let report = reports.into_iter().next();
        (decision, report.as_ref().map(|report| report.ending), report.map(|report| report.reached).unwrap_or_default())
    }

    /// Asks, and takes down what happens.
    pub(super) async fn watch(&self, question: Question) -> Tried {
        self.memory.set_time(question.call.now);
        let lines = Lines::listening();
        let dispatch = tracing_subscriber::registry().with(lines.clone());
        let began = Instant::now();
        let asked = Polled { future: Box::pin(self.ask(question)), running: Duration::ZERO };
        let ((decision, ending, reached), running) = asked.with_subscriber(dispatch).await;
        Tried { decision, ending, reached, log: lines.take(), wall: began.elapsed(), running }
    }
}

impl Tried {
    /// Its name in fixtures and answers; a failure is one too.
    pub(super) fn verdict(&self) -> &'static str {
        match &self.decision {
            Decision::Deliver { .. } => "deliver",
            Decision::Drop { .. } => "drop",
            Decision::Postpone { .. } => "postpone",
            Decision::DeadLetter { .. } => "dead-letter",
            Decision::Failed { .. } => "failure",
        }
    }

    /// Why; empty if it is to deliver.
    pub(super) fn reason(&self) -> &str {
        match &self.decision {
            Decision::Deliver { .. } => "",
            Decision::Drop { reason, .. } | Decision::Postpone { reason, .. } | Decision::DeadLetter { reason, .. } => {
                reason
            }
            Decision::Failed { error, .. } => error,
        }
    }

    /// How long it is postponed.
    pub(super) fn delay(&self) -> Option<Duration> {
        match &self.decision {
            Decision::Postpone { after, .. } => Some(*after),
            Decision::Deliver { .. }
            | Decision::Drop { .. }
            | Decision::DeadLetter { .. }
            | Decision::Failed { .. } => None,
        }
    }

    /// The request with the plugin's edits, if it is to be delivered.
    pub(super) fn after(&self) -> Option<&Draft> {
        match &self.decision {
            Decision::Deliver { draft, .. } => Some(draft),
            Decision::Drop { .. }
            | Decision::Postpone { .. }
            | Decision::DeadLetter { .. }
            | Decision::Failed { .. } => None,
        }
    }
}

/// Where compiled code is kept: it takes seconds for some languages. Without a place for it nothing is.
fn cache() -> Cache {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    caches.map_or(Cache::Off, |caches| Cache::Try(caches.join("weft/plugins")))
}

/// Tells beside a future's answer how long it was at work, waiting left out.
struct Polled<F> {
    future: Pin<Box<F>>,
    running: Duration,
}

impl<F: Future> Future for Polled<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<Self::Output> {
        let began = Instant::now();
        let polled = self.future.as_mut().poll(waker);
        self.running += began.elapsed();
        polled.map(|answer| (answer, self.running))
    }
}
