//! Where the state of plugins is kept: in Redis, for all hosts together, or in a file beside the embedded queue. Both keep
//! the same promises; `tests/suite/state.rs` holds them to it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::link::Address;
use crate::state::{Answer, Error, Request};
use embedded::Embedded;
use redis::Redis;

mod embedded;
mod redis;

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be used.
    #[error("{path}, where plugins keep their state: {why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

/// One of the two.
#[derive(Debug)]
pub struct Store(Kind);

#[derive(Debug)]
enum Kind {
    Redis(Box<Redis>),
    Embedded(Embedded),
}

impl Store {
    /// In Redis. Connects when first used.
    #[must_use]
    pub fn redis(address: Address) -> Store {
        Store(Kind::Redis(Redis::new(address).into()))
    }

    /// In a file in this directory.
    pub fn embedded(directory: &Path) -> Result<Store, OpenError> {
        Embedded::open(directory).map(|embedded| Store(Kind::Embedded(embedded)))
    }

    /// In memory, for plugins that are tried without a daemon. What ends when, says `hands`: milliseconds since the Unix epoch.
    pub fn in_memory(hands: Arc<AtomicU64>) -> Result<Store, OpenError> {
        Embedded::in_memory(hands).map(|embedded| Store(Kind::Embedded(embedded)))
    }

    /// Lets go of the file, also while somebody still holds on to the store; who asks later gets no answer.
    pub fn close(&self) {
        match &self.0 {
            Kind::Redis(_) => {}
            Kind::Embedded(embedded) => embedded.close(),
        }
    }

    /// Why nothing can be kept now, as far as is known without a question of a plugin.
    pub async fn failure(&self) -> Option<String> {
        match &self.0 {
            // Each act is tried anew there, and the queue's own store is the same server.
            Kind::Redis(_) => None,
            Kind::Embedded(embedded) => embedded.failure().await,
        }
    }

    /// Does what is asked, in one atomic step.
    pub async fn perform(&self, request: Request) -> Result<Answer, Error> {
        match &self.0 {
            Kind::Redis(redis) => redis.perform(request).await,
            Kind::Embedded(embedded) => embedded.perform(request).await,
        }
    }
}

/// At least one: what lives for no time at all would never have been there.
fn millis(lifetime: Duration) -> u64 {
    u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX).max(1)
}
