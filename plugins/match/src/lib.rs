//! Delivers only what matches conditions on type, attributes and JSON pointers. See README.md.

#![cfg_attr(target_arch = "wasm32", no_std)]

use weft_plugin::prelude::*;
use weft_plugin::{About, Delivery, Failure, Verdict, plugin};

use condition::{Settings, is_type, like};

mod condition;

const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "delivers only what matches conditions")
    .settings(include_str!("../settings.schema.json"))
    .reusable();

plugin!(handle, ABOUT);

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    let settings = delivery.settings::<Settings>()?;
    Ok(mismatch(delivery, &settings).map_or_else(Verdict::deliver, Verdict::drop))
}

/// The first condition that does not hold, in words.
fn mismatch(delivery: &Delivery, settings: &Settings) -> Option<String> {
    if !settings.event_types.is_empty() {
        let event_type = delivery.event_type();
        if !settings.event_types.iter().any(|pattern| is_type(pattern, &event_type)) {
            return Some(format!("event type {event_type} matches none of {}", settings.event_types.join(", ")));
        }
    }
    for (name, pattern) in &settings.attributes {
        match delivery.attribute(name) {
            Some(value) if like(pattern, &value) => {}
            Some(value) => return Some(format!("attribute {name} is {value}, not like {pattern}")),
            None => return Some(format!("attribute {name} is missing")),
        }
    }
    let pointers: Vec<String> = settings.json.keys().cloned().collect();
    let values = delivery.json_many(&pointers);
    let mut conditions = settings.json.iter().zip(&values);
    conditions.find_map(|((pointer, condition), value)| {
        condition.violated(value.as_ref()).map(|part| format!("{pointer} does not meet {part}"))
    })
}

#[cfg(test)]
mod tests;
