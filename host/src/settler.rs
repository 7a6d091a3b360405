//! The settler: records outcomes in batches. While one batch is on its way the next one gathers, so that the busier the
//! host, the fewer round trips per delivery.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};

use crate::backoff::Backoff;
use crate::entry::{Place, Record, Settlement};
use crate::health::{Health, Part};
use crate::queue::{self, Queue};
use crate::slots::Slot;
use crate::telemetry::Telemetry;

/// Settlements in one step.
const BATCH_MAX: usize = 512;

/// Where deliveries hand in their settlements.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    /// Unbounded, because each settlement comes with the slot it holds, and slots are bounded.
    sender: mpsc::UnboundedSender<(Settlement, Slot)>,
}

impl Inbox {
    /// Hands one in; its slot is free again once it is recorded.
    pub(crate) fn hand_in(&self, settlement: Settlement, slot: Slot) {
        // Without a settler the host is gone, and the entry comes again.
        let _ = self.sender.send((settlement, slot));
    }
}

/// Records outcomes.
pub(crate) struct Settler {
    receiver: mpsc::UnboundedReceiver<(Settlement, Slot)>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) health: Arc<Health>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Told when something was scheduled, which may be due before what the scheduler waits for.
    pub(crate) scheduled: Arc<Notify>,
}

impl Settler {
    pub(crate) fn new(
        queue: Arc<dyn Queue>,
        health: Arc<Health>,
        telemetry: Arc<Telemetry>,
        scheduled: Arc<Notify>,
    ) -> (Inbox, Settler) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Inbox { sender }, Settler { receiver, queue, health, telemetry, scheduled })
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
                self.scheduled.notify_one();
            }
        }
    }

    /// Until it is recorded: giving up would mean delivering again what was delivered.
    async fn settle(&self, batch: &[Settlement]) {
        let mut backoff = Backoff::default();
        loop {
            let settled = self.queue.settle(batch).await;
            self.health.note(Part::Settle, &settled);
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
            let settled = self.queue.settle(std::slice::from_ref(line)).await;
            if let Err(error) = settled {
                tracing::error!(entry = %line.handle.id, %error, "cannot be settled; it stays pending");
                self.telemetry.queue_failed();
            }
        }
    }
}
