//! What a host tells about itself: the line per attempt and all metrics. Every name stands in this file, and nothing
//! reads them to decide.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
    exponential_buckets,
};
use tokio::sync::broadcast;

use crate::attempt::AttemptResult;
use crate::delivery::Delivery;
use crate::entry::DeadLetter;
use crate::outcome::Outcome;
use crate::plugin::{BreakerState, Loads, PluginReport, ShadowTotals, State, Status};
use crate::queue::Depth;

use maker::Maker;

mod maker;

/// The seed's buckets, and finer ones below.
const LATENCY_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0];
/// What further subscriptions are counted under.
const OTHER: &str = "_other";

/// One try of a delivery, for the record.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) outcome: Outcome,
    /// `None` if it ended before there was anything to try.
    pub(crate) result: Option<AttemptResult>,
    /// From dialling to the answer's last byte, zero if nothing was sent.
    pub(crate) request: Duration,
}

impl Attempt {
    /// One that was not made.
    pub(crate) fn not_made(outcome: Outcome) -> Attempt {
        Attempt { outcome, result: None, request: Duration::ZERO }
    }
}

/// What an attempt came to, for whoever watches.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// The event's id.
    pub event: String,
    /// Whose delivery it is.
    pub subscription: String,
    /// Which attempt.
    pub attempt: u32,
    /// A status, or why there was none; empty if it ended before there was anything to try.
    pub result: String,
    /// What becomes of the delivery.
    pub outcome: Outcome,
    /// What went wrong, for people.
    pub error: String,
}

/// Attempts that a slow watcher may lag behind before it misses some.
const WATCH_BACKLOG: usize = 1024;

/// A host's metrics, in a registry of its own: two hosts in one process do not mix theirs.
pub struct Telemetry {
    registry: Registry,
    watchers: broadcast::Sender<Attempted>,
    subscription_labels_max: usize,
    subscriptions: RwLock<HashMap<Arc<str>, Arc<OfSubscription>>>,
    deliveries: IntCounterVec,
    latency: HistogramVec,
    retries: IntCounterVec,
    dead: IntCounterVec,
    stream_length: IntGauge,
    active_workers: IntGauge,
    dead_by_reason: IntCounterVec,
    attempts: IntCounterVec,
    request_seconds: Histogram,
    postponed: IntCounter,
    waits: Waits,
    settle_batch: Histogram,
    queue_failures: IntCounter,
    waiting: IntGauge,
    pending: IntGauge,
    scheduled: IntGauge,
    dead_letters: IntGauge,
    lost: IntGauge,
    dead_letters_warn: IntGauge,
    of_plugins: OfPlugins,
}

/// What waits because it may not go.
struct Waits {
    parked: IntCounterVec,
    parked_now: IntGauge,
    moved_ahead: IntCounter,
    in_line: IntGauge,
    breakers_open: IntGauge,
    disabled: IntGauge,
}

impl Waits {
    fn new(make: &Maker) -> Waits {
        Waits {
            parked: make.counters(
                "weft_parked_total",
                "Times a delivery could not go now and was parked without an attempt used, by what was in its way.",
                &["block"],
            ),
            parked_now: make.gauge("weft_queue_parked", "Deliveries that are parked because they may not go."),
            moved_ahead: make.counter(
                "weft_moved_ahead_total",
                "Deliveries that were moved ahead of others that waited before them.",
            ),
            in_line: make.gauge("weft_queue_in_line", "Deliveries that wait for the ones before them."),
            breakers_open: make.gauge("weft_breakers_open", "Subscriptions whose breaker is open on this host."),
            disabled: make.gauge(
                "weft_subscriptions_disabled",
                "Subscriptions that this host gave up because they failed for longer than disable_after.",
            ),
        }
    }
}

/// The metrics of one subscription, looked up by their labels once.
struct OfSubscription {
    label: String,
    success: IntCounter,
    latency: Histogram,
}

/// Counts one active worker until dropped.
pub(crate) struct Active<'a>(&'a IntGauge);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Telemetry {
    /// Metrics that count at most so many subscriptions by name.
    #[must_use]
    pub fn new(subscription_labels_max: usize) -> Telemetry {
        let make = Maker(Registry::new());
        let fine = exponential_buckets(0.000_25, 2.0, 16).expect("the buckets are constant and good");
        let build = make.counters("weft_build_info", "The version that runs, as a label; always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).inc();
        Telemetry {
            deliveries: make.counters(
                "o2ims_webhook_deliveries_total",
                "Deliveries that are over, by subscription and how they ended: success, failed, dropped.",
                &["subscription_id", "status"],
            ),
            latency: make.histograms(
                "o2ims_webhook_latency_seconds",
                "From first seen to delivered, waits between attempts included.",
                &["subscription_id"],
                LATENCY_BUCKETS.to_vec(),
            ),
            retries: make.counters(
                "o2ims_webhook_retries_total",
                "Retries, by subscription and which retry it is.",
                &["subscription_id", "attempt"],
            ),
            dead: make.counters(
                "o2ims_webhook_dlq_total",
                "Deliveries that became dead letters.",
                &["subscription_id"],
            ),
            stream_length: make.gauge("o2ims_event_stream_length", "Entries in the events stream."),
            active_workers: make.gauge("o2ims_active_webhook_workers", "Workers that receive."),
            dead_by_reason: make.counters(
                "weft_dead_total",
                "Deliveries that became dead letters, by reason.",
                &["reason"],
            ),
            attempts: make.counters(
                "weft_attempts_total",
                "Attempts, by result: a status, or why there was none.",
                &["result"],
            ),
            request_seconds: make.histogram(
                "weft_request_seconds",
                "From dialling to the answer's last byte.",
                fine.clone(),
            ),
            postponed: make
                .counter("weft_postponed_total", "Deliveries that a plugin put off without an attempt used."),
            waits: Waits::new(&make),
            settle_batch: make.histogram(
                "weft_settle_batch_size",
                "Outcomes recorded in one step.",
                exponential_buckets(1.0, 2.0, 10).expect("the buckets are constant and good"),
            ),
            queue_failures: make.counter("weft_queue_failures_total", "Times the queue's store could not do its work."),
            waiting: make.gauge("weft_queue_waiting", "Entries that nobody has received yet."),
            pending: make.gauge("weft_queue_pending", "Entries handed out and not settled, on all hosts."),
            scheduled: make.gauge("weft_queue_scheduled", "Deliveries in the retry schedule."),
            dead_letters: make.gauge("weft_dead_letters", "Dead letters that are kept."),
            lost: make.gauge(
                "weft_queue_lost",
                "Events that somebody trimmed off the stream before any host received them: they are lost.",
            ),
            dead_letters_warn: make.gauge(
                "weft_dead_letters_warn",
                "More dead letters than this are worth a look (queue.dead_letters_warn); 0 if any number is fine.",
            ),
            of_plugins: OfPlugins::new(&make, fine),
            watchers: broadcast::Sender::new(WATCH_BACKLOG),
            subscription_labels_max,
            subscriptions: RwLock::default(),
            registry: make.0,
        }
    }

    /// All metrics in Prometheus's text form.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a Vec takes all that is written");
        String::from_utf8(text).expect("the text form is UTF-8")
    }

    /// Sets the gauges of how much waits where.
    pub fn depth(&self, depth: &Depth) {
        let set = |gauge: &IntGauge, count| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.stream_length, depth.events);
        set(&self.waiting, depth.waiting);
        set(&self.pending, depth.pending);
        set(&self.scheduled, depth.scheduled);
        set(&self.waits.parked_now, depth.parked);
        set(&self.waits.in_line, depth.in_line);
        set(&self.dead_letters, depth.dead);
    }

    /// Sets how many events were lost so far; says whether that is more than before.
    pub(crate) fn lost(&self, total: u64) -> bool {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        let before = self.lost.get();
        self.lost.set(total);
        total > before
    }

    /// Sets the gauge that dead letters are compared with.
    pub(crate) fn dead_letters_warn(&self, limit: u64) {
        self.dead_letters_warn.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Sets what is told about the plugins there are.
    pub fn plugins(&self, plugins: &[Status], loads: Loads, shadows: &ShadowTotals) {
        self.of_plugins.set(plugins, loads, shadows);
    }

    /// Sets the gauges of how many subscriptions are held up.
    pub(crate) fn held_up(&self, open: usize, disabled: usize) {
        self.waits.breakers_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.waits.disabled.set(i64::try_from(disabled).unwrap_or(i64::MAX));
    }

    pub(crate) fn moved_ahead(&self, count: usize) {
        self.waits.moved_ahead.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Every attempt from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Attempted> {
        self.watchers.subscribe()
    }

    pub(crate) fn worker_active(&self) -> Active<'_> {
        self.active_workers.inc();
        Active(&self.active_workers)
    }

    pub(crate) fn settling(&self, batch: usize) {
        self.settle_batch.observe(f64::from(u32::try_from(batch).unwrap_or(u32::MAX)));
    }

    pub(crate) fn queue_failed(&self) {
        self.queue_failures.inc();
    }

    pub(crate) fn plugins_ran(&self, reports: &[PluginReport]) {
        for report in reports {
            self.of_plugins.calls.with_label_values(&[&*report.plugin, report.ending.name()]).inc();
            self.of_plugins.seconds.with_label_values(&[&*report.plugin]).observe(report.duration.as_secs_f64());
            for limit in &report.reached {
                self.of_plugins.limits.with_label_values(&[&*report.plugin, limit.name()]).inc();
            }
            for asked in &report.asked {
                self.of_plugins.requests.with_label_values(&[&*report.plugin, asked.name()]).inc();
            }
        }
    }

    /// The one line of an attempt, and its metrics.
    pub(crate) fn record(&self, delivery: &Delivery, attempt: &Attempt) {
        let of = self.of_subscription(&delivery.subscription.id);
        match &attempt.outcome {
            Outcome::Delivered => {
                of.success.inc();
                let latency = SystemTime::now().duration_since(delivery.trail.first_seen).unwrap_or_default();
                of.latency.observe(latency.as_secs_f64());
            }
            Outcome::Dropped(_) => self.deliveries.with_label_values(&[of.label.as_str(), "dropped"]).inc(),
            Outcome::Retry { .. } => {
                self.retries.with_label_values(&[of.label.as_str(), &delivery.attempt.to_string()]).inc();
            }
            Outcome::Postponed { .. } => self.postponed.inc(),
            Outcome::Parked(block) => self.waits.parked.with_label_values(&[block.name()]).inc(),
            Outcome::Dead(reason) => self.died(&of, reason.name()),
        }
        let result = attempt.result.as_ref().map(AttemptResult::name);
        if let Some(result) = &result {
            self.attempts.with_label_values(&[result]).inc();
        }
        if attempt.request > Duration::ZERO {
            self.request_seconds.observe(attempt.request.as_secs_f64());
        }
        let result = result.unwrap_or_default();
        log(delivery, attempt, &result);
        if self.watchers.receiver_count() > 0 {
            // Nobody left to tell is no failure.
            let _ = self.watchers.send(Attempted {
                event: delivery.event.id.clone(),
                subscription: delivery.subscription.id.to_string(),
                attempt: delivery.attempt.get(),
                result,
                outcome: attempt.outcome.clone(),
                error: attempt.result.as_ref().and_then(AttemptResult::error).unwrap_or_default(),
            });
        }
    }

    /// The same for an entry that no delivery could be made of.
    pub(crate) fn undeliverable(&self, letter: &DeadLetter) {
        let id: Arc<str> = letter.subscription_id.as_str().into();
        self.died(&self.of_subscription(&id), letter.reason.name());
        tracing::warn!(
            delivery = %letter.original_id,
            subscription = letter.subscription_id,
            outcome = "dead",
            reason = letter.reason.name(),
            error = letter.last_error,
            "given up"
        );
    }

    fn died(&self, of: &OfSubscription, reason: &str) {
        self.deliveries.with_label_values(&[of.label.as_str(), "failed"]).inc();
        self.dead.with_label_values(&[of.label.as_str()]).inc();
        self.dead_by_reason.with_label_values(&[reason]).inc();
    }

    fn of_subscription(&self, id: &Arc<str>) -> Arc<OfSubscription> {
        const UNPOISONED: &str = "no holder of this lock can panic";
        let known = self.subscriptions.read().expect(UNPOISONED).get(id).cloned();
        known.unwrap_or_else(|| {
            let mut subscriptions = self.subscriptions.write().expect(UNPOISONED);
            let key: Arc<str> =
                if subscriptions.len() < self.subscription_labels_max { Arc::clone(id) } else { OTHER.into() };
            let of = subscriptions.entry(Arc::clone(&key)).or_insert_with(|| {
                Arc::new(OfSubscription {
                    success: self.deliveries.with_label_values(&[&*key, "success"]),
                    latency: self.latency.with_label_values(&[&*key]),
                    label: key.to_string(),
                })
            });
            Arc::clone(of)
        })
    }
}

fn log(delivery: &Delivery, attempt: &Attempt, result: &str) {
    let (outcome, detail) = match &attempt.outcome {
        // No attempt, and a million of them may be parked at once.
        Outcome::Parked(block) => {
            tracing::debug!(delivery = %delivery.handle.id, subscription = &*delivery.subscription.id, block = block.name(), "parked");
            return;
        }
        Outcome::Delivered => ("delivered", None),
        Outcome::Dropped(reason) => ("dropped", Some(reason.clone())),
        Outcome::Retry { after } => ("retry", Some(format!("in {} ms", after.as_millis()))),
        Outcome::Postponed { after, reason } => ("postponed", Some(format!("for {} ms: {reason}", after.as_millis()))),
        Outcome::Dead(reason) => ("dead", Some(reason.name().to_owned())),
    };
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        delivery = %delivery.handle.id,
        event = delivery.event.id,
        event_type = delivery.event.event_type,
        subscription = &*delivery.subscription.id,
        attempt = delivery.attempt.get(),
        result,
        outcome,
        detail,
        error = attempt.result.as_ref().and_then(AttemptResult::error),
        request_us = micros(attempt.request),
        "attempted"
    );
}

/// The metrics of plugins.
struct OfPlugins {
    calls: IntCounterVec,
    limits: IntCounterVec,
    requests: IntCounterVec,
    seconds: HistogramVec,
    states: IntGaugeVec,
    memory: IntGaugeVec,
    loads: IntCounterVec,
    breakers: IntGaugeVec,
    shadows: IntCounterVec,
}

impl OfPlugins {
    const STATES: [&str; 4] = ["waiting", "ready", "stale", "refused"];

    fn new(make: &Maker, buckets: Vec<f64>) -> OfPlugins {
        OfPlugins {
            calls: make.counters("weft_plugin_calls_total", "Plugin calls, by result.", &["plugin", "result"]),
            limits: make.counters(
                "weft_plugin_limits_total",
                "Plugin calls that reached a limit and went on, by limit: log, headers, body, state, state-time.",
                &["plugin", "limit"],
            ),
            requests: make.counters(
                "weft_plugin_http_requests_total",
                "Requests of plugins to other servers, by result: answered, denied, blocked, time, size, failed.",
                &["plugin", "result"],
            ),
            seconds: make.histograms("weft_plugin_call_seconds", "How long plugin calls take.", &["plugin"], buckets),
            states: make.gauges(
                "weft_plugins",
                "Plugins by state: waiting, ready, refused; stale: ready, while the file holds what was refused.",
                &["state"],
            ),
            memory: make.gauges(
                "weft_plugin_memory_bytes",
                "Memory of the hungriest call of the version in use.",
                &["plugin"],
            ),
            loads: make.counters(
                "weft_plugin_loads_total",
                "Plugin files looked into, by what came of it: taken, refused.",
                &["result"],
            ),
            breakers: make.gauges(
                "weft_plugin_breaker_open",
                "1 while a plugin keeps failing and is not called.",
                &["plugin"],
            ),
            shadows: make.counters(
                "weft_plugin_shadow_calls_total",
                "Calls of plugins in shadow, by what would have come of them.",
                &["plugin", "result"],
            ),
        }
    }

    fn set(&self, plugins: &[Status], loads: Loads, shadows: &ShadowTotals) {
        let mut states = OfPlugins::STATES.map(|state| (state, 0));
        self.memory.reset();
        self.breakers.reset();
        for plugin in plugins {
            let is_open = i64::from(plugin.breaker != BreakerState::Closed);
            self.breakers.with_label_values(&[plugin.name.as_str()]).set(is_open);
            let state = OfPlugins::state(plugin);
            states.iter_mut().filter(|(known, _)| *known == state).for_each(|(_, count)| *count += 1);
            let memory = plugin.usage.as_ref().map_or(0, |usage| usage.memory_max);
            self.memory.with_label_values(&[plugin.name.as_str()]).set(i64::try_from(memory).unwrap_or(i64::MAX));
        }
        for (state, count) in states {
            self.states.with_label_values(&[state]).set(count);
        }
        for (result, total) in [("taken", loads.taken), ("refused", loads.refused)] {
            let counter = self.loads.with_label_values(&[result]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        for ((plugin, ending), total) in shadows {
            let counter = self.shadows.with_label_values(&[plugin.as_str(), ending.name()]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    fn state(plugin: &Status) -> &'static str {
        match (&plugin.state, &plugin.rejected) {
            (State::Waiting, _) => "waiting",
            (State::Ready, None) => "ready",
            (State::Ready, Some(_)) => "stale",
            (State::Refused(_), _) => "refused",
        }
    }
}
