//! Which master of a Cluster has which keys, for whoever wants to know how they are spread.

use std::collections::BTreeSet;

use redis::{RedisResult, cmd};

use super::address::{Address, Topology};
use super::finder::{Range, ask, failed, ranges};
use super::slot;

/// The masters of a Cluster, by their slots.
pub struct Masters {
    slots: Vec<Range>,
}

impl Masters {
    /// As the first of the URL's nodes that answers says; `None` where there is no Cluster.
    pub async fn of(address: &Address) -> RedisResult<Option<Masters>> {
        let Topology::Cluster { nodes } = &address.topology else { return Ok(None) };
        let mut question = cmd("CLUSTER");
        question.arg("SLOTS");
        let mut why = failed("the Cluster has no nodes");
        for node in nodes {
            match ask(&address.client(node)?, &question).await {
                Ok(slots) => return Ok(Some(Masters { slots: ranges(&slots, node) })),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// All that have slots, as `host:port`.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.slots.iter().filter_map(|range| Some(range.nodes.first()?.to_string())).collect()
    }

    /// Who has a key.
    #[must_use]
    pub fn of_key(&self, key: &str) -> Option<String> {
        let slot = Masters::slot_of(key);
        let range = self.slots.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        Some(range.nodes.first()?.to_string())
    }

    /// The slot of a key.
    #[must_use]
    pub fn slot_of(key: &str) -> u16 {
        slot::of(key)
    }
}
