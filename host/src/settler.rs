//! The settler: records outcomes in batches. While one batch is on its way the next one gathers, so that the busier the
//! host, the fewer round trips per delivery.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use crate::backoff::Backoff;
use crate::entry::{Place, Record, Settlement};
use crate::health::{Health, Part};
use crate::queue::{self, Queue, Shard};
use crate::slots::Slot;
use crate::telemetry::Telemetry;

/// Settlements in one step.
const BATCH_MAX: usize = 512;

/// Where deliveries hand in their settlements.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    /// One for each shard of the queue. Unbounded, because each settlement comes with the slot it holds, and slots are
    /// bounded.
    senders: Vec<mpsc::UnboundedSender<(Settlement, Slot)>>,
}

impl Inbox {
    /// Hands one in; its slot is free again once it is recorded.
    pub(crate) fn hand_in(&self, settlement: Settlement, slot: Slot) {
        let shard = settlement.handle.id.shard.map_or(0, usize::from);
        // Without a settler the host is gone, and the entry comes again.
        let _ = self.senders[shard].send((settlement, slot));
    }
}

/// Records outcomes in one shard of the queue.
pub(crate) struct Settler {
    receiver: mpsc::UnboundedReceiver<(Settlement, Slot)>,
    pub(crate) shard: Shard,
    pub(crate) health: Arc<Health>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Its shard's is told when something was scheduled, which may be due before what the scheduler waits for.
    pub(crate) scheduled: Arc<[Notify]>,
}

impl Settler {
    /// One for each shard, and the inbox of all.
    pub(crate) fn for_each(
        shards: &[Shard],
        health: &Arc<Health>,
        telemetry: &Arc<Telemetry>,
        scheduled: &Arc<[Notify]>,
    ) -> (Inbox, Vec<Settler>) {
        let settler = |shard: &Shard| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (shard, health) = (shard.clone(), Arc::clone(health));
            let (telemetry, scheduled) = (Arc::clone(telemetry), Arc::clone(scheduled));
            (sender, Settler { receiver, shard, health, telemetry, scheduled })
        };
        let (senders, settlers) = shards.iter().map(settler).unzip();
        (Inbox { senders }, settlers)
    }

    fn queue(&self) -> &dyn Queue {
        &*self.shard.queue
    }

    /// Runs until every inbox is gone and what they handed in is recorded.
    pub(crate) async fn run(mut self) {
        let mut handed_in = Vec::with_capacity(BATCH_MAX);
        while self.receiver.recv_many(&mut handed_in, BATCH_MAX).await > 0 {
            let (batch, slots): (Vec<Settlement>, Vec<Slot>) = handed_in.drain(..).unzip();
            self.telemetry.settling(batch.len());
            self.settle(&batch).await;
            drop(slots);
            // What was in the schedule may have been the first in its line.
            let from_schedule = |line: &Settlement| matches!(line.handle.place, Place::Schedule { .. });
            if batch.iter().any(|line| from_schedule(line) || matches!(line.record, Record::Schedule { .. })) {
                self.scheduled[self.shard.number].notify_one();
            }
        }
    }

    /// Until it is recorded: giving up would mean delivering again what was delivered.
    async fn settle(&self, batch: &[Settlement]) {
        let mut backoff = Backoff::default();
        loop {
            let settled = self.queue().settle(batch).await;
            self.health.note_of(Part::Settle, self.shard.number, &settled);
            match settled {
                Ok(()) => return,
                Err(queue::Error::Corrupt(_)) if batch.len() > 1 => return self.settle_one_by_one(batch).await,
                Err(_) => {
                    self.telemetry.queue_failed();
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// One record that cannot be made must not keep the others from being made.
    async fn settle_one_by_one(&self, batch: &[Settlement]) {
        for line in batch {
            let settled = self.queue().settle(std::slice::from_ref(line)).await;
            if let Err(error) = settled {
                tracing::error!(entry = %line.handle.id, %error, "cannot be settled; it stays pending");
                self.telemetry.queue_failed();
            }
        }
    }
}
