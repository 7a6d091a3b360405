//! The slots a loop has for deliveries in hand. A slot is taken before an entry is, and held until its settlement is
//! recorded, or overload and a store that is away would turn into memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a loop that has few slots free waits for more, so that it does not fetch entries one by one.
const GATHER: Duration = Duration::from_millis(1);

/// A number of slots.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    /// Fetching is worth while from here on.
    enough: u32,
}

/// Slots that were taken. Each entry gets one of them; the rest is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Free(OwnedSemaphorePermit);

/// The slot of one entry.
#[derive(Debug)]
pub(crate) struct Slot(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Slots {
    pub(crate) fn new(count: usize) -> Slots {
        let enough = u32::try_from(count / 4).unwrap_or(u32::MAX).max(1);
        Slots { semaphore: Arc::new(Semaphore::new(count)), enough }
    }

    /// All that are free, at least one. Must not be called by two loops on the same slots.
    pub(crate) async fn take(&self) -> Free {
        const OPEN: &str = "slots are never closed";
        let mut permit = Arc::clone(&self.semaphore).acquire_owned().await.expect(OPEN);
        if self.semaphore.available_permits() + 1 < self.enough as usize {
            // Dropped half-way it gives back what it had; nothing is lost.
            let _ = tokio::time::timeout(GATHER, self.semaphore.acquire_many(self.enough - 1)).await;
        }
        let more = u32::try_from(self.semaphore.available_permits()).unwrap_or(u32::MAX);
        if let Ok(rest) = Arc::clone(&self.semaphore).try_acquire_many_owned(more) {
            permit.merge(rest);
        }
        Free(permit)
    }
}

impl Free {
    pub(crate) fn count(&self) -> std::num::NonZeroUsize {
        std::num::NonZeroUsize::new(self.0.num_permits()).unwrap_or(std::num::NonZeroUsize::MIN)
    }

    /// One of them; `None` when all are given out.
    pub(crate) fn one(&mut self) -> Option<Slot> {
        self.0.split(1).map(Slot)
    }
}
