//! The settler: records outcomes in batches. While one batch is on its way the next one gathers, so that the busier the
//! host, the fewer round trips per delivery.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::entry::{Place, Record, Settlement};
use crate::gate::Gate;
use crate::health::{Health, Part};
use crate::queue::{self, Queue, Shard};
use crate::slots::Slot;
use crate::telemetry::Telemetry;

/// Settlements in one step: Redis does nothing else meanwhile, and Lua hands it only some thousand words at once.
const BATCH_MAX: usize = 512;
/// And after so many bytes it is enough: the answer must come in time.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What is to be recorded, and the slot it holds, if it holds one still.
type Line = (Settlement, Option<Slot>);

/// Where deliveries hand in their settlements.
#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    /// One for each shard of the queue. Unbounded, because each settlement comes with the slot it holds, and slots are
    /// bounded.
    senders: Vec<mpsc::UnboundedSender<Line>>,
}

impl Inbox {
    /// Hands one in; its slot is free again once it is recorded.
    pub(crate) fn hand_in(&self, settlement: Settlement, slot: Slot) {
        let shard = settlement.handle.id.shard.map_or(0, usize::from);
        // Without a settler the host is gone, and the entry comes again.
        let _ = self.senders[shard].send((settlement, Some(slot)));
    }
}

/// What all settlers of a host have.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) health: Arc<Health>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Told what is parked.
    pub(crate) gate: Arc<Gate>,
    /// A shard's is told when something was scheduled, which may be due before what the scheduler waits for.
    pub(crate) scheduled: Arc<[Notify]>,
    /// So many that the store of a shard refuses wait without a slot.
    pub(crate) unrecorded_max: usize,
}

/// Records outcomes in one shard of the queue.
pub(crate) struct Settler {
    receiver: mpsc::UnboundedReceiver<Line>,
    shard: Shard,
    shared: Shared,
}

impl Settler {
    /// One for each shard, and the inbox of all.
    pub(crate) fn for_each(shards: &[Shard], shared: &Shared) -> (Inbox, Vec<Settler>) {
        let settler = |shard: &Shard| {
            let (sender, receiver) = mpsc::unbounded_channel();
            (sender, Settler { receiver, shard: shard.clone(), shared: shared.clone() })
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
        let mut bench = Bench::of(self.shared.unrecorded_max);
        loop {
            // Both branches only wait, and what was handed in stays in the inbox; dropping either loses nothing.
            let is_open = tokio::select! {
                count = self.receiver.recv_many(&mut handed_in, BATCH_MAX) => count > 0,
                () = bench.is_due() => true,
            };
            if bench.due.is_some_and(|due| due <= Instant::now()) || !is_open {
                let again = bench.take();
                self.settle_all(again.into_iter(), &mut bench).await;
            }
            if !handed_in.is_empty() {
                self.shared.telemetry.settling(handed_in.len());
                self.settle_all(handed_in.drain(..), &mut bench).await;
            }
            if !is_open && bench.refused.is_empty() {
                return;
            }
            if !is_open {
                bench.is_due().await;
            }
        }
    }

    /// Records what can be, in batches.
    async fn settle_all(&self, lines: impl Iterator<Item = Line>, bench: &mut Bench) {
        let mut lines = lines.peekable();
        while lines.peek().is_some() {
            let mut bytes = 0;
            let mut fits = |(line, _): &Line| {
                let fits = bytes < BATCH_BYTES_MAX;
                bytes += line.record.bytes();
                fits
            };
            let (batch, slots) = std::iter::from_fn(|| lines.next_if(&mut fits)).take(BATCH_MAX).unzip();
            self.settle(batch, slots, bench).await;
        }
    }

    /// Has what cannot be recorded wait on the bench.
    async fn settle(&self, batch: Vec<Settlement>, slots: Vec<Option<Slot>>, bench: &mut Bench) {
        let refused = self.record(&batch, bench).await;
        self.tell_what_is_parked(&batch, &refused);
        // What was in the schedule may have been the first in its line.
        let from_schedule = |line: &Settlement| matches!(line.handle.place, Place::Schedule { .. });
        let is_scheduled = |line: &Settlement| from_schedule(line) || matches!(line.record, Record::Schedule { .. });
        if batch.iter().any(is_scheduled) {
            self.shared.scheduled[self.shard.number].notify_one();
        }
        if refused.is_empty() {
            bench.rest();
            return;
        }
        self.shared.telemetry.queue_failed();
        let lines = batch.into_iter().zip(slots).enumerate();
        bench.add(lines.filter(|(at, _)| refused.contains(at)).map(|(_, line)| line));
    }

    fn tell_what_is_parked(&self, batch: &[Settlement], refused: &[usize]) {
        let recorded = batch.iter().enumerate().filter(|(at, _)| !refused.contains(at));
        let mut parked = recorded.filter_map(|(_, line)| match &line.record {
            Record::Park { subscription, .. } => Some(subscription),
            Record::Done | Record::Schedule { .. } | Record::Dead(_) => None,
        });
        if let Some(first) = parked.next() {
            self.shared.gate.parked(std::iter::once(first).chain(parked));
        }
    }

    /// Answers which records, by their places, the store will not make as things are.
    async fn record(&self, batch: &[Settlement], bench: &mut Bench) -> Vec<usize> {
        let error = match self.answer(batch, bench).await {
            Ok(()) => return Vec::new(),
            Err(error) => error,
        };
        bench.cause = Some(error.clone());
        let mut refused = Vec::new();
        match error {
            queue::Error::Refused { places, .. } => return places,
            // A store that does not say which ones it cannot make is asked for each.
            _ if batch.len() > 1 => {
                for (at, line) in batch.iter().enumerate() {
                    if self.answer(std::slice::from_ref(line), bench).await.is_err() {
                        refused.push(at);
                    }
                }
            }
            _ => refused.push(0),
        }
        refused
    }

    /// Asks until the store says yes or no: giving up would mean delivering again what was delivered.
    async fn answer(&self, batch: &[Settlement], bench: &Bench) -> Result<(), queue::Error> {
        let mut backoff = Backoff::default();
        loop {
            let settled = self.queue().settle(batch).await;
            let cause = settled.as_ref().err().or_else(|| bench.cause.as_ref().filter(|_| !bench.refused.is_empty()));
            self.shared.health.note_of(Part::Settle, self.shard.number, &cause.map_or(Ok(()), Err));
            match settled {
                Ok(()) => return Ok(()),
                Err(error @ (queue::Error::Refused { .. } | queue::Error::Corrupt(_))) => return Err(error),
                Err(queue::Error::Unavailable { .. } | queue::Error::InUse { .. } | queue::Error::BadUrl(_)) => {
                    self.shared.telemetry.queue_failed();
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// What the store would not record. It is tried again until somebody has mended what was in the way: its entries stay pending, and
/// nobody else takes them as long as this host lives. Slots are for what can go on, so the first ones hold none; those beyond
/// that keep theirs, and so the slots bound how many there are.
struct Bench {
    refused: Vec<Line>,
    without_slot_max: usize,
    cause: Option<queue::Error>,
    due: Option<Instant>,
    backoff: Backoff,
}

impl Bench {
    fn of(without_slot_max: usize) -> Bench {
        Bench { refused: Vec::new(), without_slot_max, cause: None, due: None, backoff: Backoff::default() }
    }

    fn add(&mut self, lines: impl Iterator<Item = Line>) {
        for (settlement, slot) in lines {
            let slot = slot.filter(|_| self.refused.len() >= self.without_slot_max);
            self.refused.push((settlement, slot));
        }
        if self.due.is_none() {
            self.due = Some(Instant::now() + self.backoff.next());
        }
    }

    fn take(&mut self) -> Vec<Line> {
        self.due = None;
        std::mem::take(&mut self.refused)
    }

    /// Something was recorded: all is well if nobody waits here.
    fn rest(&mut self) {
        if self.refused.is_empty() {
            self.backoff.reset();
        }
    }

    /// Never if nobody waits.
    async fn is_due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}
