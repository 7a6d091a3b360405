//! Drops what was seen within a time. See README.md.

#![cfg_attr(target_arch = "wasm32", no_std)]

use core::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use weft_plugin::prelude::*;
use weft_plugin::{About, Delivery, Failure, Json, Verdict, plugin, state};

const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "drops what was seen within a time")
    .settings(include_str!("../settings.schema.json"))
    .reusable();

plugin!(handle, ABOUT);

/// This plugin's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Pointers to what makes two events the same; the event's id if there are none.
    key: Vec<String>,
    /// How long something counts as seen.
    within_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { key: Vec::new(), within_seconds: 24 * 60 * 60 }
    }
}

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    let settings = delivery.settings::<Settings>()?;
    let Some(key) = key(delivery, &settings.key) else { return Ok(Verdict::deliver()) };
    // What is kept is who came first. After a crash, or when another plugin postponed it, the same delivery comes again.
    let own = delivery.attribute("delivery").unwrap_or_else(|| delivery.id());
    if state::set_if_absent(&key, own.as_bytes(), Duration::from_secs(settings.within_seconds))? {
        return Ok(Verdict::deliver());
    }
    let first = state::get_text(&key)?;
    let is_replayed = delivery.attribute("replays").is_some_and(|replays| replays != "0");
    Ok(match first {
        Some(first) if first != own && !is_replayed => Verdict::drop(format!("the same was seen as delivery {first}")),
        // Its time is over just now, it is this one, or a person wants it once more.
        Some(_) | None => Verdict::deliver(),
    })
}

/// The same for what counts as the same to the same subscriber. `None` if there is nothing to tell it by.
fn key(delivery: &Delivery, pointers: &[String]) -> Option<String> {
    let mut key = Sha256::new();
    let mut add = |part: &str| key.update([(part.len() as u64).to_le_bytes().as_slice(), part.as_bytes()].concat());
    add(&delivery.subscription_id());
    if pointers.is_empty() {
        add(&delivery.id());
    } else {
        let values = delivery.json_many(pointers);
        if values.iter().all(Option::is_none) {
            return None;
        }
        values.iter().for_each(|value| add(&value.as_ref().map(Json::to_json).unwrap_or_default()));
    }
    Some(key.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
