//! How the shards of a queue lie on the masters of a Cluster. Their names decide, so several may lie on one master while
//! another has none, and then throughput does not grow with the masters: somebody must be told.

use std::collections::BTreeMap;

use crate::config;
use crate::link::{Address, Masters, hash_tag};
use crate::queue;
use crate::queue::redis::Keys;

/// So many other words for what stands in the braces are tried.
const WORDS_MAX: u16 = 1000;

/// The shards of a queue, and where they are.
pub(super) struct Spread {
    /// `None` where there is nothing to spread, or nothing to spread it over.
    at: Option<Address>,
    keys: Keys,
    shards: u16,
}

impl Spread {
    pub(super) fn of(config: &config::Queue) -> Result<Spread, queue::Error> {
        let address = (config.shards > 1).then(|| config.address()).transpose();
        let at = address.map_err(|error| queue::Error::BadUrl(error.to_string()))?.filter(Address::is_cluster);
        Ok(Spread { at, keys: super::shards::keys(config), shards: config.shards })
    }

    /// That some masters have more of them than they must, and the mend.
    pub(super) async fn danger(&self) -> Result<Option<String>, queue::Error> {
        let Some(address) = &self.at else { return Ok(None) };
        let masters = Masters::of(address)
            .await
            .map_err(|error| queue::Error::Unavailable { store: address.to_string(), why: error.to_string() })?;
        Ok(masters.and_then(|masters| danger(&self.keys, self.shards, &masters)))
    }
}

fn danger(keys: &Keys, shards: u16, masters: &Masters) -> Option<String> {
    let counts = counts(keys, shards, masters);
    if is_even(&counts) {
        return None;
    }
    let (fewest, _) = counts.iter().min_by_key(|(_, count)| **count)?;
    let (most, _) = counts.iter().max_by_key(|(_, count)| **count)?;
    let moved = (0..shards).rev().map(|number| keys.of_shard(number).events);
    let moved = moved.into_iter().find(|key| masters.of_key(key).as_ref() == Some(most))?;
    let each: Vec<String> = counts.iter().map(|(master, count)| format!("{count} on {master}")).collect();
    let slot = Masters::slot_of(&moved);
    let word = other_word(keys, shards, masters)
        .map(|word| format!(", or, while the queue is empty, write {word} for what stands in the braces of its keys"));
    Some(format!(
        "the shards lie unevenly on the masters, {}, so throughput grows by less than there are masters: \
         move slot {slot}, which has {moved}, to {fewest}{}",
        each.join(", "),
        word.unwrap_or_default()
    ))
}

/// How many shards each master has.
fn counts(keys: &Keys, shards: u16, masters: &Masters) -> BTreeMap<String, u16> {
    let mut counts: BTreeMap<String, u16> = masters.names().into_iter().map(|name| (name, 0)).collect();
    for master in (0..shards).filter_map(|number| masters.of_key(&keys.of_shard(number).events)) {
        *counts.entry(master).or_default() += 1;
    }
    counts
}

fn is_even(counts: &BTreeMap<String, u16>) -> bool {
    let fewest = counts.values().min().copied().unwrap_or_default();
    counts.values().all(|count| *count <= fewest + 1)
}

/// What could stand in the braces for the shards to lie evenly.
fn other_word(keys: &Keys, shards: u16, masters: &Masters) -> Option<String> {
    let word = hash_tag(&keys.events)?;
    (2..WORDS_MAX).map(|number| format!("{word}-{number}")).find(|other| {
        let events = keys.events.replacen(word, other, 1);
        is_even(&counts(&Keys { events, ..keys.clone() }, shards, masters))
    })
}
