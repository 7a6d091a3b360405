//! The event as an O-RAN O2-IMS InventoryChangeNotification. See README.md.

#![cfg_attr(target_arch = "wasm32", no_std)]

use serde::Deserialize;
use weft_plugin::prelude::*;
use weft_plugin::{About, Delivery, Failure, Json, Verdict, plugin};

const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "the event as an O-RAN InventoryChangeNotification")
    .accept(&["**.Created", "**.Updated", "**.Modified", "**.Deleted"])
    .settings(include_str!("../settings.schema.json"))
    .reusable();

plugin!(handle, ABOUT);

/// This plugin's settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The id that the consumer gave its subscription.
    consumer_subscription_id: Option<String>,
    /// Where the event has the object as it was.
    prior_state: String,
    /// And as it is now.
    post_state: String,
    event_types: EventTypes,
}

/// How the kind of change is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EventTypes {
    /// `"CREATE"`
    Names,
    /// `0`
    Numbers,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            consumer_subscription_id: None,
            prior_state: "/priorObjectState".to_owned(),
            post_state: "/postObjectState".to_owned(),
            event_types: EventTypes::Names,
        }
    }
}

/// What happened to the object, with the number that some consumers know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Create = 0,
    Modify = 1,
    Delete = 2,
}

impl Change {
    fn of(event_type: &str) -> Option<Change> {
        match event_type.rsplit('.').next()? {
            "Created" => Some(Change::Create),
            "Updated" | "Modified" => Some(Change::Modify),
            "Deleted" => Some(Change::Delete),
            _ => None,
        }
    }

    fn written(self, as_what: EventTypes) -> String {
        match (as_what, self) {
            (EventTypes::Numbers, change) => (change as u8).to_string(),
            (EventTypes::Names, Change::Create) => "\"CREATE\"".to_owned(),
            (EventTypes::Names, Change::Modify) => "\"MODIFY\"".to_owned(),
            (EventTypes::Names, Change::Delete) => "\"DELETE\"".to_owned(),
        }
    }
}

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    let settings = delivery.settings::<Settings>()?;
    // The host asks only about these; without it everything else passes as it is.
    let Some(change) = Change::of(&delivery.event_type()) else { return Ok(Verdict::deliver()) };
    let body = notification(delivery, &settings, change);
    delivery.set_body_text(&body, Some("application/json"))?;
    Ok(Verdict::deliver())
}

/// Its members in the order of the specification; what the event does not say is left out.
fn notification(delivery: &Delivery, settings: &Settings, change: Change) -> String {
    let consumer = settings.consumer_subscription_id.clone();
    let consumer = consumer.or_else(|| delivery.text("/consumerSubscriptionId"));
    let consumer = consumer.unwrap_or_else(|| delivery.subscription_id());
    let text = |text: Option<String>| text.map(|text| Json::quote(&text));
    let state = |pointer: &str| delivery.json(pointer).map(|state| state.to_json());
    let members = [
        ("notificationId", text(Some(delivery.id()))),
        ("consumerSubscriptionId", text(Some(consumer))),
        ("notificationEventType", Some(change.written(settings.event_types))),
        ("objectRef", text(delivery.attribute("object-ref"))),
        ("updateTime", text(delivery.attribute("time"))),
        ("priorObjectState", state(&settings.prior_state).filter(|_| change != Change::Create)),
        ("postObjectState", state(&settings.post_state).filter(|_| change != Change::Delete)),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests;
