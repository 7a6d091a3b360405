//! The heart: says in a shard of the queue that the host lives, from its start until all that it had in hand is settled.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::alarm::Alarm;
use crate::health::{Health, Part};
use crate::queue::{Queue, Shard};

/// A heart that beats.
pub(super) struct Heart {
    queue: Arc<dyn Queue>,
    stopped: CancellationToken,
    beating: JoinHandle<()>,
}

impl Heart {
    pub(super) fn start(shard: &Shard, health: &Arc<Health>, every: Duration, alarm: &Alarm) -> Heart {
        let stopped = CancellationToken::new();
        let beating = beat(shard.clone(), Arc::clone(health), every, stopped.clone());
        let beating = tokio::spawn(alarm.guard(beating));
        Heart { queue: Arc::clone(&shard.queue), stopped, beating }
    }

    /// Only stops: what the host had in hand others take when they notice.
    pub(super) fn stop(self) {
        self.stopped.cancel();
    }

    /// Stops and leaves the queue, within `limit`.
    pub(super) async fn leave(self, limit: Duration) {
        let Heart { queue, stopped, beating } = self;
        stopped.cancel();
        let leaving = async {
            // A beat after leaving would look like a host that came back. One that panicked beats no more either.
            let _ = beating.await;
            queue.leave().await
        };
        if !matches!(tokio::time::timeout(limit, leaving).await, Ok(Ok(()))) {
            tracing::warn!("the queue was not told that this host ends; others find out by themselves");
        }
    }
}

/// Each time at its time: hosts that wait longer and longer for a store that was away would be taken for dead when it is back.
async fn beat(shard: Shard, health: Arc<Health>, every: Duration, stopped: CancellationToken) {
    loop {
        health.note_of(Part::Heartbeat, shard.number, &shard.queue.beat().await);
        // Both branches only wait; dropping either loses nothing.
        tokio::select! {
            biased;
            () = tokio::time::sleep(every) => {}
            () = stopped.cancelled() => return,
        }
    }
}
