//! State of a plugin that is tried: in memory, gone when the next file of fixtures begins. Its time is the deliveries'.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use async_trait::async_trait;

use crate::plugin::StateStore;
use crate::state::{Answer, Error, Request};
use crate::store::{OpenError, Store};
use crate::stored::unix_ms;

const UNPOISONED: &str = "nothing panics while it is locked";

/// What is kept now, and what time it is there.
#[derive(Debug)]
pub(super) struct Memory {
    store: RwLock<Arc<Store>>,
    hands: Arc<AtomicU64>,
}

impl Memory {
    /// An empty one.
    pub(super) fn new() -> Result<Memory, OpenError> {
        let hands = Arc::new(AtomicU64::new(0));
        let store = RwLock::new(Arc::new(Store::in_memory(Arc::clone(&hands))?));
        Ok(Memory { store, hands })
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<(), OpenError> {
        let store = Arc::new(Store::in_memory(Arc::clone(&self.hands))?);
        *self.store.write().expect(UNPOISONED) = store;
        Ok(())
    }

    /// From now on it is this late there.
    pub(super) fn set_time(&self, now: SystemTime) {
        self.hands.store(unix_ms(now), Ordering::Relaxed);
    }
}

#[async_trait]
impl StateStore for Memory {
    async fn perform(&self, request: Request) -> Result<Answer, Error> {
        let store = Arc::clone(&self.store.read().expect(UNPOISONED));
        store.perform(request).await
    }
}
