//! The scheduler: takes deliveries that are due from the retry schedule, and entries that a dead host left pending. It
//! has slots of its own, so that a wave of retries does not starve fresh events, nor the other way round.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::health::Part;
use crate::slots::Slots;
use crate::worker::Worker;

/// What other hosts schedule is seen at the latest after this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes what is due until told to stop.
pub(crate) async fn run(worker: Arc<Worker>, in_flight: usize, scheduled: Arc<Notify>, stop: CancellationToken) {
    let slots = Slots::new(in_flight);
    let mut backoff = Backoff::default();
    loop {
        // Both branches only wait; dropping either loses nothing.
        let free = tokio::select! {
            free = slots.take() => free,
            () = stop.cancelled() => return,
        };
        let asked = free.count().get();
        let due = worker.queue().take_due(free.count()).await;
        worker.health().note(Part::Schedule, &due);
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
            () = tokio::time::sleep(pause) => {}
            () = scheduled.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Claims what dead hosts left, every `every`, until told to stop.
pub(crate) async fn claim(worker: Arc<Worker>, in_flight: usize, every: Duration, stop: CancellationToken) {
    let slots = Slots::new(in_flight);
    loop {
        // Both branches only wait; dropping either loses nothing.
        let free = tokio::select! {
            free = slots.take() => free,
            () = stop.cancelled() => return,
        };
        let asked = free.count().get();
        let claimed = worker.queue().claim(free.count()).await;
        worker.health().note(Part::Receive, &claimed);
        let entries = claimed.unwrap_or_default();
        if !entries.is_empty() {
            tracing::warn!(entries = entries.len(), "claimed what another consumer left pending");
        }
        let pause = if entries.len() == asked { Duration::ZERO } else { every };
        worker.take_on(entries, free).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}
