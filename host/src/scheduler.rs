//! The scheduler: takes deliveries that are due from the retry schedule, brings parked ones back when they may go, and
//! claims entries that a dead host left pending. Where many wait it looks ahead for those who would wait for them. It has slots of its own, so that a wave of retries does not starve fresh
//! events, nor the other way round.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::health::Part;
use crate::queue::{self, Shard};
use crate::slots::Slots;
use crate::worker::Worker;
pub(crate) use ahead::look_ahead;

mod ahead;

/// What other hosts schedule is seen at the latest after this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Subscriptions with parked deliveries that one look finds at most; the next one goes on from there.
const FOUND_MAX: NonZeroUsize = NonZeroUsize::new(1000).expect("it is more than none");
/// Parked deliveries that are brought back in one step: Redis does nothing else meanwhile.
const BROUGHT_BACK_MAX: usize = 512;
/// How long an attempt of one that is suspect may well take.
const SUSPECT_TIME: Duration = Duration::from_millis(50);
/// How long what ends at the same time may gather, so that parked deliveries are not brought back one by one.
const GATHER: Duration = Duration::from_millis(1);

/// Takes what is due in a shard until told to stop.
pub(crate) async fn run(worker: Arc<Worker>, shard: Shard, in_flight: usize, stop: CancellationToken) {
    let slots = Slots::new(in_flight);
    let mut backoff = Backoff::default();
    loop {
        let Some(free) = slots.take_unless(&stop).await else { return };
        let asked = free.count().get();
        let due = shard.queue.take_due(free.count()).await;
        worker.health().note_of(Part::Schedule, shard.number, &due);
        let pause = match due {
            Ok(due) => {
                backoff.reset();
                let taken = due.entries.len();
                worker.take_on(due.entries, free).await;
                if taken == asked { Duration::ZERO } else { due.next.map_or(LOOK_EVERY, |next| next.min(LOOK_EVERY)) }
            }
            Err(_) => backoff.next(),
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            () = worker.scheduled[shard.number].notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Brings parked deliveries back as soon as their subscriptions take them, until told to stop. What this host parked it
/// knows; what others parked, or itself before a restart, it finds by looking.
pub(crate) async fn feed(worker: Arc<Worker>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let (mut found_up_to, mut look_at) = (None, Instant::now());
    loop {
        let fed = if look_at <= Instant::now() {
            look_at += LOOK_EVERY;
            find(&worker, &mut found_up_to).await
        } else {
            Ok(())
        };
        let (wanted, next) = worker.gate.wanted(BROUGHT_BACK_MAX, |id| worker.directory.settings(id));
        let fed = match fed {
            Ok(()) if wanted.is_empty() => Ok(()),
            Ok(()) => worker.queue().unpark(&wanted).await.map(|found| {
                worker.gate.brought_back(&wanted, &found);
                worker.scheduled.iter().for_each(Notify::notify_one);
            }),
            Err(error) => Err(error),
        };
        worker.health().note(Part::Parked, &fed);
        let next = next.map_or(look_at, |next| look_at.min(next.into()));
        let pause = if fed.is_ok() { GATHER } else { backoff.next() };
        if fed.is_ok() {
            backoff.reset();
        }
        // All branches only wait; dropping any loses nothing.
        tokio::select! {
           biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
           biased;
            () = stop.cancelled() => return,
            () = worker.gate.freed.notified() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// Tells the gate of some more subscriptions that have something parked.
async fn find(worker: &Worker, up_to: &mut Option<Arc<str>>) -> Result<(), queue::Error> {
    let found = worker.queue().parked(up_to.as_deref(), FOUND_MAX).await?;
    *up_to = found.last().filter(|_| found.len() == FOUND_MAX.get()).cloned();
    worker.gate.found_parked(found);
    Ok(())
}

/// Claims what dead hosts left in a shard, every `every`, until told to stop.
pub(crate) async fn claim(
    worker: Arc<Worker>,
    shard: Shard,
    in_flight: usize,
    every: Duration,
    stop: CancellationToken,
) {
    let slots = Slots::new(in_flight);
    loop {
        let Some(free) = slots.take_unless(&stop).await else { return };
        let asked = free.count().get();
        let claimed = shard.queue.claim(free.count()).await;
        worker.health().note_of(Part::Claim, shard.number, &claimed);
        let entries = claimed.unwrap_or_default();
        if !entries.is_empty() {
            tracing::warn!(entries = entries.len(), "claimed what another consumer left pending");
        }
        let pause = match entries.len() {
            0 => every,
            some if some == asked => Duration::ZERO,
            // What may have killed hosts comes one by one, so the next waits for this one.
            _ => every.min(SUSPECT_TIME),
        };
        worker.take_on(entries, free).await;
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}
