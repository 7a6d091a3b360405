//! What lies under the keys of shards that `queue.shards` leaves out: nobody looks for it, so somebody must be told.

use crate::config;
use crate::link::{Address, Waits};
use crate::queue::redis::{Claiming, Keys, Redis};
use crate::queue::{self, Depth, Queue};

/// The names of the keys, before shards have their numbers in them.
pub(super) fn keys(config: &config::Queue) -> Keys {
    Keys {
        events: config.events.clone(),
        deliveries: config.deliveries.clone(),
        retry: config.retry.clone(),
        dead_letters: config.dead_letters.clone(),
        group: config.group.clone(),
    }
}

/// Where shards may be that are not the queue's.
pub(super) struct LeftOut {
    /// `None` for the embedded queue, which has none, and for keys without braces for a number.
    at: Option<Address>,
    waits: Waits,
    keys: Keys,
    shards: u16,
}

impl LeftOut {
    pub(super) fn of(config: &config::Queue) -> Result<LeftOut, queue::Error> {
        let is_in_redis = !config.url.starts_with("embedded:") && config.events.contains('}');
        let address = is_in_redis.then(|| config.address()).transpose();
        let at = address.map_err(|error| queue::Error::BadUrl(error.to_string()))?;
        Ok(LeftOut { at, waits: config.waits, keys: keys(config), shards: config.shards })
    }

    /// What waits there, shard by shard. A host makes the keys of all its shards when it starts, so the first one without is
    /// beyond the last.
    pub(super) async fn dangers(&self) -> Result<Vec<String>, queue::Error> {
        let Some(address) = &self.at else { return Ok(Vec::new()) };
        let open = |keys: &Keys| Redis::at(address.clone(), self.waits, keys.clone(), Claiming::default());
        let mut dangers = Vec::new();
        if self.shards > 1 {
            let whole = open(&self.keys);
            if whole.is_used().await? {
                dangers.extend(danger(&self.keys, &whole.depth().await?, self.shards, 1));
            }
        }
        let first = if self.shards > 1 { self.shards } else { 0 };
        for number in first..u16::MAX {
            let keys = self.keys.of_shard(number);
            let shard = open(&keys);
            if !shard.is_used().await? {
                break;
            }
            // One shard alone is the queue without a number in its keys.
            dangers.extend(danger(&keys, &shard.depth().await?, self.shards, (number + 1).max(2)));
        }
        Ok(dangers)
    }
}

fn danger(keys: &Keys, depth: &Depth, shards: u16, mend: u16) -> Option<String> {
    let deliveries = depth.waiting + depth.pending + depth.scheduled + depth.parked + depth.in_line;
    let dead = depth.dead;
    (deliveries + dead > 0).then(|| {
        format!(
            "{deliveries} deliveries and {dead} dead letters lie under {} and the keys beside it, where no host looks with \
             queue.shards = {shards}: let a host with queue.shards = {mend} run until they are delivered",
            keys.events
        )
    })
}
