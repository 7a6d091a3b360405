//! A host: one running Weft, with its loops joined. No globals, so two can run in one process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alarm::{Alarm, Panicked};
use crate::directory::Directory;
use crate::endpoints::Endpoints;
use crate::event::BodyForm;
use crate::gate::Gate;
use crate::health::{Health, Part};
use crate::plugin::Plugins;
use crate::queue::{Queue, Shard};
use crate::scheduler;
use crate::sender::Post;
use crate::settler::{self, Settler};
use crate::telemetry::Telemetry;
use crate::worker::{self, Worker};
use heart::Heart;
use watch::Watch;

mod heart;
mod watch;

/// How often the queue's depth is looked up for the metrics, and the store asked how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The parts of a host, made by [`crate::daemon`] from a configuration.
pub(crate) struct Parts {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) directory: Directory,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) sender: Arc<dyn Post>,
    pub(crate) health: Arc<Health>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: Limits,
}

/// How much a host does at once, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) worker_count: usize,
    /// Deliveries in hand per worker.
    pub(crate) in_flight: usize,
    /// Looks ahead where more than so many wait; never if zero.
    pub(crate) look_ahead: usize,
    pub(crate) drain_timeout: Duration,
    /// For the last outcomes to be recorded.
    pub(crate) settle_timeout: Duration,
    /// Outcomes that the store refuses to record, per shard, which hold no slot.
    pub(crate) unrecorded_max: usize,
    /// A store that does not answer for so long is in the way.
    pub(crate) stall_after: Duration,
    /// Between two looks for what dead hosts left pending.
    pub(crate) claim_every: Duration,
    /// Between two times that this host says that it lives.
    pub(crate) beat_every: Duration,
    pub(crate) body: BodyForm,
    pub(crate) body_bytes_max: usize,
    /// More dead letters are worth a warning; none if zero.
    pub(crate) dead_letters_warn: u64,
}

impl Limits {
    /// What decides on who may go within them.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        let slots = self.in_flight * self.worker_count;
        // Dead endpoints hold their places for long, so all of them together get a part of what a host has; and what was parked
        // gets most of what is for all that is due.
        Arc::new(Gate::new(slots / 4, slots / 2 * 3 / 4))
    }
}

/// Runs until `shutdown` resolves or a task panics, then drains: receives nothing more, lets attempts finish, records their
/// outcomes.
pub(crate) async fn run(parts: Parts, shutdown: impl Future<Output = ()>) -> Result<(), Panicked> {
    let Parts { queue, directory, plugins, sender, health, telemetry, gate, limits } = parts;
    let shards = Shard::all(&queue);
    let scheduled: Arc<[Notify]> = shards.iter().map(|_| Notify::new()).collect();
    let shared = settler::Shared {
        health: Arc::clone(&health),
        telemetry: Arc::clone(&telemetry),
        gate: Arc::clone(&gate),
        scheduled: Arc::clone(&scheduled),
        unrecorded_max: limits.unrecorded_max,
    };
    let (inbox, settlers) = Settler::for_each(&shards, &shared);
    let stop = CancellationToken::new();
    let worker = Arc::new(Worker {
        queue: Arc::clone(&queue),
        directory,
        plugins,
        sender,
        inbox,
        telemetry: Arc::clone(&telemetry),
        health: Arc::clone(&health),
        endpoints: Endpoints::default(),
        gate,
        scheduled,
        body: limits.body,
        body_bytes_max: limits.body_bytes_max,
        in_hand: TaskTracker::new(),
        stop: stop.clone(),
        abandon: CancellationToken::new(),
        alarm: Alarm::default(),
    });

    let loops = start_loops(&worker, &shards, limits);
    let alarm = worker.alarm.clone();
    let settling: Vec<_> = settlers.into_iter().map(|settler| tokio::spawn(alarm.guard(settler.run()))).collect();
    let hearts: Vec<_> = shards.iter().map(|shard| Heart::start(shard, &health, limits.beat_every, &alarm)).collect();

    // Both branches only wait; dropping either loses nothing.
    tokio::select! {
        () = shutdown => {}
        () = alarm.rings() => tracing::error!(cause = %Panicked, "the host ends"),
    }
    health.stopping();
    stop.cancel();
    loops.close();
    worker.in_hand.close();
    let drained = tokio::time::timeout(limits.drain_timeout, async {
        loops.wait().await;
        worker.in_hand.wait().await;
    });
    if drained.await.is_err() {
        tracing::warn!(
            deliveries = worker.in_hand.len(),
            "not finished within delivery.drain_timeout; they come again"
        );
        worker.abandon.cancel();
        loops.wait().await;
        worker.in_hand.wait().await;
    }
    // The last inbox goes with the worker, and with it the settler's reason to wait.
    drop(worker);
    settle_and_leave(settling, hearts, limits.settle_timeout, &alarm).await;
    alarm.check()
}

/// The loops that take on work, until the worker is told to stop.
fn start_loops(worker: &Arc<Worker>, shards: &[Shard], limits: Limits) -> TaskTracker {
    /// One that waits for a store which does not answer is abandoned like a delivery in hand.
    fn start(loops: &TaskTracker, worker: &Worker, running: impl Future<Output = ()> + Send + 'static) {
        loops.spawn(worker.alarm.guard(worker.abandon.clone().run_until_cancelled_owned(running)));
    }
    let (loops, stop) = (TaskTracker::new(), &worker.stop);
    for number in 0..limits.worker_count {
        start(&loops, worker, worker::run(Arc::clone(worker), number, limits.in_flight, stop.clone()));
    }
    let due_in_flight = (limits.in_flight * limits.worker_count / 2 / shards.len()).max(1);
    for shard in shards {
        start(&loops, worker, scheduler::run(Arc::clone(worker), shard.clone(), due_in_flight, stop.clone()));
        let (in_flight, every) = (limits.in_flight, limits.claim_every);
        let claiming = scheduler::claim(Arc::clone(worker), shard.clone(), in_flight, every, stop.clone());
        start(&loops, worker, claiming);
        let looking = scheduler::look_ahead(Arc::clone(worker), shard.clone(), limits.look_ahead, stop.clone());
        start(&loops, worker, looking);
    }
    start(&loops, worker, scheduler::feed(Arc::clone(worker), stop.clone()));
    start(&loops, worker, observe(Arc::clone(worker), limits, stop.clone()));
    loops
}

/// Has the last outcomes recorded, and leaves the queue. After a panic it does not take its leave: what it had in hand is what a
/// dead host left.
async fn settle_and_leave(settling: Vec<JoinHandle<()>>, hearts: Vec<Heart>, limit: Duration, alarm: &Alarm) {
    let settled = async {
        for settling in settling {
            let _ = settling.await;
        }
    };
    if tokio::time::timeout(limit, settled).await.is_err() {
        tracing::warn!("the queue did not take the last outcomes; those deliveries come again");
        hearts.into_iter().for_each(Heart::stop);
    } else if alarm.check().is_err() {
        hearts.into_iter().for_each(Heart::stop);
    } else {
        let leaving: Vec<_> = hearts.into_iter().map(|heart| tokio::spawn(heart.leave(limit))).collect();
        for leaving in leaving {
            let _ = leaving.await;
        }
    }
}

/// Keeps the gauges and the store's health up to date.
async fn observe(worker: Arc<Worker>, limits: Limits, stop: CancellationToken) {
    let (mut started, mut graveyard) = (false, Graveyard { warn_beyond: limits.dead_letters_warn, is_crowded: false });
    let mut watch = Watch::over(Shard::all(&worker.queue), limits.stall_after);
    worker.telemetry.dead_letters_warn(limits.dead_letters_warn);
    let unanswered = "starting: the queue's store has not answered yet";
    worker.health().awaits(Part::Lifecycle, Some(unanswered.to_owned()));
    loop {
        let plugins = &worker.plugins;
        worker.telemetry.plugins(&plugins.list(), plugins.loads(), &plugins.shadows());
        if watch.look(worker.health()).await {
            let depth = watch.depth();
            worker.telemetry.depth(&depth);
            graveyard.look(depth.dead);
            let lost = watch.lost();
            if worker.telemetry.lost(lost) {
                let mend = "raise the producers' MAXLEN, or add hosts";
                tracing::warn!(lost, "events were trimmed before any host received them: {mend}");
            }
            if !started {
                worker.health().started();
                started = true;
            }
        }
        let held_up = worker.gate.held_up(|id| worker.directory.settings(id));
        worker.telemetry.held_up(held_up.open, held_up.disabled);
        tokio::select! {
            biased;
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Says once when there are too many dead letters.
struct Graveyard {
    /// Never if zero.
    warn_beyond: u64,
    is_crowded: bool,
}

impl Graveyard {
    fn look(&mut self, dead_letters: u64) {
        let limit = self.warn_beyond;
        if limit > 0 && dead_letters > limit && !self.is_crowded {
            self.is_crowded = true;
            tracing::warn!(dead_letters, limit, "more dead letters than queue.dead_letters_warn: see weft dlq list");
        }
        // Not at each letter more or less around the limit.
        if dead_letters <= limit - limit / 10 {
            self.is_crowded = false;
        }
    }
}

#[cfg(test)]
mod tests;
