//! The worker: reads as the flow does. An entry becomes a delivery, its chain makes a draft, signing makes the request,
//! posting it makes a result, the policy concludes, and the settlement is handed in.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarm::Alarm;
use crate::attempt::AttemptResult;
use crate::backoff::Backoff;
use crate::delivery::{Context, Delivery};
use crate::directory::Directory;
use crate::endpoints::Endpoints;
use crate::entry::{Entry, Handle, Record, Settlement};
use crate::event::BodyForm;
use crate::gate::{Gate, Refusal};
use crate::health::{Health, Part};
use crate::outcome::Outcome;
use crate::plugin::{Call, Decision, Plugins};
use crate::queue::Queue;
use crate::request::{Draft, SignedRequest};
use crate::sender::Post;
use crate::settler::Inbox;
use crate::slots::{Free, Slots};
use crate::telemetry::{Attempt, Telemetry};

/// A blocking read ends after this, so that a stopping host does not wait longer.
const RECEIVE_WAIT: Duration = Duration::from_millis(500);

/// What handling entries takes. One per host, shared by its loops.
pub(crate) struct Worker {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) directory: Directory,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) sender: Arc<dyn Post>,
    pub(crate) inbox: Inbox,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) health: Arc<Health>,
    pub(crate) endpoints: Endpoints,
    pub(crate) gate: Arc<Gate>,
    /// For each shard, told when something may have become due before what the scheduler waits for.
    pub(crate) scheduled: Arc<[Notify]>,
    pub(crate) body: BodyForm,
    pub(crate) body_bytes_max: usize,
    /// Every delivery in hand.
    pub(crate) in_hand: TaskTracker,
    /// Nothing more is begun from when this is cancelled.
    pub(crate) stop: CancellationToken,
    /// Ends deliveries in hand that outlast the drain; their entries come again.
    pub(crate) abandon: CancellationToken,
    /// Rings when a task panics.
    pub(crate) alarm: Alarm,
}

/// Receives for one consumer until told to stop.
pub(crate) async fn run(worker: Arc<Worker>, number: usize, in_flight: usize, stop: CancellationToken) {
    let slots = Slots::new(in_flight);
    let mut backoff = Backoff::default();
    let _active = worker.telemetry.worker_active();
    // As queues with shards share out their workers.
    let shard = number % worker.scheduled.len();
    loop {
        let Some(free) = slots.take_unless(&stop).await else { return };
        let asked = Instant::now();
        let received = worker.queue.receive(number, free.count(), RECEIVE_WAIT).await;
        worker.health.note_of(Part::Receive, shard, &received);
        match received {
            Ok(entries) => {
                backoff.reset();
                // What came and had to wait for its turn may have it already.
                if worker.directory.keeps_order() && asked.elapsed() < RECEIVE_WAIT {
                    worker.scheduled[shard].notify_one();
                }
                worker.take_on(entries, free).await;
            }
            Err(_) => {
                worker.telemetry.queue_failed();
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

impl Worker {
    pub(crate) fn queue(&self) -> &dyn Queue {
        &*self.queue
    }

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Handles entries, each in its slot. What has not begun when the host is told to stop is given back.
    pub(crate) async fn take_on(self: &Arc<Self>, entries: Vec<Entry>, mut free: Free) {
        let mut entries = entries.into_iter();
        while let Some(entry) = entries.next() {
            // Redis counts each of the two streams by itself, so there may be more entries than slots were free. Both branches
            // only wait; dropping either loses nothing.
            let slot = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return self.give_back(std::iter::once(entry).chain(entries).collect()).await;
                }
                slot = free.one() => slot,
            };
            let worker = Arc::clone(self);
            let armed = self.alarm.arm();
            self.in_hand.spawn(async move {
                let _armed = armed;
                // Abandoned half-way, the entry was not settled and comes again.
                tokio::select! {
                    biased;
                    settlement = worker.handle(&entry) => worker.inbox.hand_in(settlement, slot),
                    () = worker.abandon.cancelled() => {}
                }
            });
        }
    }

    async fn give_back(&self, entries: Vec<Entry>) {
        let handles: Vec<Handle> = entries.iter().map(|entry| entry.handle).collect();
        tracing::info!(entries = handles.len(), "stopping: given back what had not begun");
        // Those of a host that is gone come again anyway, only later.
        if let Err(error) = self.queue.give_back(&handles).await {
            tracing::warn!(%error, "could not give back what had not begun");
        }
    }

    async fn handle(&self, entry: &Entry) -> Settlement {
        let now = SystemTime::now();
        let settings = |id: &str| self.directory.settings(id);
        let endpoint = |url: &str| self.endpoints.read(url);
        let (body, body_bytes_max) = (self.body, self.body_bytes_max);
        let context = Context { settings: &settings, endpoint: &endpoint, body, body_bytes_max, now };
        let handle = entry.handle;
        match Delivery::decode(entry, &context) {
            Ok(mut delivery) => {
                let attempt = self.attempt(&mut delivery, now).await;
                self.telemetry.record(&delivery, &attempt);
                let record = delivery.record(&attempt.outcome, attempt.result.as_ref(), SystemTime::now());
                Settlement { handle, record }
            }
            Err(undeliverable) => {
                self.telemetry.undeliverable(&undeliverable.0);
                Settlement { handle, record: Record::Dead(undeliverable.0) }
            }
        }
    }

    /// One try: place, chain, signature, POST, conclusion.
    async fn attempt(&self, delivery: &mut Delivery, now: SystemTime) -> Attempt {
        let place = match self.gate.enter(&delivery.subscription, delivery.handle.place) {
            Ok(place) => place,
            Err(Refusal::Parked(block)) => return Attempt::not_made(Outcome::Parked(block)),
            Err(Refusal::Disabled(why)) => {
                let result = AttemptResult::Disabled { error: format!("the subscription is disabled: {why}") };
                let outcome = conclude(delivery, &result);
                return Attempt { result: Some(result), ..Attempt::not_made(outcome) };
            }
        };
        let had_draft = delivery.draft.is_some();
        if let Err(ended) = self.run_chain(delivery, now).await {
            return ended;
        }
        let request = self.sign(delivery);
        if delivery.draft.is_some() && !had_draft {
            // The chains of a bundle run one after the other, then their requests go out: what each of the two is made of stays in
            // the processor's caches meanwhile. The body that is signed is there while its chain runs.
            tokio::task::yield_now().await;
        }
        let started = Instant::now();
        let result = self.sender.post(request).await;
        let request = started.elapsed();
        let settings = &delivery.subscription.settings;
        place.conclude(settings, &result, settings.retry.pause(&result, SystemTime::now()));
        Attempt { outcome: conclude(delivery, &result), result: Some(result), request }
    }

    fn sign(&self, delivery: &Delivery) -> SignedRequest {
        let unchanged = || Cow::Owned(Draft::new(Arc::clone(&delivery.event), self.body_bytes_max));
        let draft = delivery.draft.as_ref().map_or_else(unchanged, Cow::Borrowed);
        draft.sign(&delivery.identity, &delivery.subscription, SystemTime::now())
    }

    /// Leaves the draft with the delivery if there is a chain; `Err` if that ends the attempt. The chain is done once it
    /// let the delivery go: a retry sends the same draft.
    async fn run_chain(&self, delivery: &mut Delivery, now: SystemTime) -> Result<(), Attempt> {
        let settings = Arc::clone(&delivery.subscription.settings);
        if delivery.draft.is_some() || settings.chain.is_empty() {
            return Ok(());
        }
        let draft = Draft::new(Arc::clone(&delivery.event), self.body_bytes_max);
        let call = Call {
            event: Arc::clone(&delivery.event),
            subscription_id: Arc::clone(&delivery.subscription.id),
            tenant: settings.tenant.clone(),
            destination: Arc::clone(&delivery.subscription.endpoint.destination),
            entry: delivery.handle.id,
            replays: delivery.trail.replays,
            run: delivery.run,
            now,
        };
        // Boxed, so that a delivery without plugins does not carry the room for their call with it.
        let (decision, reports) = Box::pin(self.plugins.run(&settings.chain, call, draft)).await;
        self.telemetry.plugins_ran(&reports);
        let ended = |outcome, result| Err(Attempt { outcome, result, request: Duration::ZERO });
        match decision {
            Decision::Deliver { draft, plugins } => {
                delivery.plugins = plugins;
                delivery.draft = Some(draft);
                Ok(())
            }
            Decision::Drop { plugin, reason } => ended(Outcome::Dropped(format!("{plugin}: {reason}")), None),
            Decision::Postpone { plugin, after, reason } => {
                ended(Outcome::Postponed { after, reason: format!("{plugin}: {reason}") }, None)
            }
            Decision::DeadLetter { plugin, reason } => {
                let result = AttemptResult::GivenUp { error: format!("{plugin}: {reason}") };
                ended(conclude(delivery, &result), Some(result))
            }
            Decision::Failed { plugin, error, lasting } => {
                let result = AttemptResult::PluginFailed { error: format!("{plugin}: {error}"), lasting };
                ended(conclude(delivery, &result), Some(result))
            }
        }
    }
}

fn conclude(delivery: &Delivery, result: &AttemptResult) -> Outcome {
    delivery.subscription.settings.retry.conclude(delivery.attempt, result, SystemTime::now(), fastrand::f64())
}
