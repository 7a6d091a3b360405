//! The slots a loop has for deliveries in hand. A slot is taken before an entry is, and held until its settlement is
//! recorded, or overload and a store that is away would turn into memory.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a loop that has few slots free waits for more, so that it does not fetch entries one by one.
const GATHER: Duration = Duration::from_millis(1);

const OPEN: &str = "slots are never closed";

/// A number of slots.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    /// Fetching is worth while from here on.
    enough: u32,
}

/// Slots that were taken. Each entry gets one of them; the rest is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Free {
    permit: OwnedSemaphorePermit,
    semaphore: Arc<Semaphore>,
}

/// The slot of one entry.
#[derive(Debug)]
pub(crate) struct Slot(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Slots {
    pub(crate) fn new(count: usize) -> Slots {
        let enough = u32::try_from(count / 4).unwrap_or(u32::MAX).max(1);
        Slots { semaphore: Arc::new(Semaphore::new(count)), enough }
    }

    /// All that are free, at least one. Must not be called by two loops on the same slots.
    async fn take(&self) -> Free {
        let mut permit = Arc::clone(&self.semaphore).acquire_owned().await.expect(OPEN);
        if self.semaphore.available_permits() + 1 < self.enough as usize {
            // Dropped half-way it gives back what it had; nothing is lost.
            let _ = tokio::time::timeout(GATHER, self.semaphore.acquire_many(self.enough - 1)).await;
        }
        let more = u32::try_from(self.semaphore.available_permits()).unwrap_or(u32::MAX);
        if let Ok(rest) = Arc::clone(&self.semaphore).try_acquire_many_owned(more) {
            permit.merge(rest);
        }
        Free { permit, semaphore: Arc::clone(&self.semaphore) }
    }

    /// The same; `None` as soon as this is cancelled, also if some are free.
    pub(crate) async fn take_unless(&self, stop: &CancellationToken) -> Option<Free> {
        // Both branches only wait; dropping either loses nothing.
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            free = self.take() => Some(free),
        }
    }
}

impl Free {
    pub(crate) fn count(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.permit.num_permits()).unwrap_or(NonZeroUsize::MIN)
    }

    /// One of them; when all are given out, the next that becomes free.
    pub(crate) async fn one(&mut self) -> Slot {
        match self.permit.split(1) {
            Some(permit) => Slot(permit),
            None => Slot(Arc::clone(&self.semaphore).acquire_owned().await.expect(OPEN)),
        }
    }
}
