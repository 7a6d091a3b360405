//! Makes the body from a template over the event, for example for chat webhooks. See README.md.

#![cfg_attr(target_arch = "wasm32", no_std)]

use serde::Deserialize;
use serde_json::Value;
use weft_plugin::prelude::*;
use weft_plugin::{About, Delivery, Failure, Json, Verdict, plugin};

const ABOUT: About = About::new(env!("CARGO_PKG_VERSION"), "makes the body from a template over the event")
    .settings(include_str!("../settings.schema.json"))
    .reusable();

plugin!(handle, ABOUT);

/// This plugin's settings; one of `json` and `text` is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    json: Option<Value>,
    text: Option<String>,
    content_type: Option<String>,
}

fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    let settings = delivery.settings::<Settings>()?;
    let (body, content_type) = match (&settings.json, &settings.text) {
        (Some(json), None) => (made(json, delivery), "application/json"),
        (None, Some(text)) => (filled(text, delivery), "text/plain; charset=utf-8"),
        (Some(_), Some(_)) | (None, None) => (Err("one of json and text is needed".to_owned()), ""),
    };
    let body = body.map_err(|what| Failure::permanent(format!("settings: {what}")))?;
    delivery.set_body_text(&body, Some(settings.content_type.as_deref().unwrap_or(content_type)))?;
    Ok(Verdict::deliver())
}

/// A JSON document, every text in it filled. A text that is nothing but a place becomes the value itself.
fn made(json: &Value, delivery: &Delivery) -> Result<String, String> {
    let all = |texts: Vec<Result<String, String>>| texts.into_iter().collect::<Result<Vec<_>, _>>();
    Ok(match json {
        Value::String(text) => match only_place(text) {
            Some(place) => value_at(place, delivery)?.map_or_else(|| "null".to_owned(), |value| value.to_json()),
            None => Json::quote(&filled(text, delivery)?),
        },
        Value::Array(elements) => {
            format!("[{}]", all(elements.iter().map(|element| made(element, delivery)).collect())?.join(","))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| Ok(Json::quote(name) + ":" + &made(value, delivery)?);
            format!("{{{}}}", all(members.iter().map(member).collect())?.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => json.to_string(),
    })
}

fn only_place(text: &str) -> Option<&str> {
    text.strip_prefix("{{")?.strip_suffix("}}").filter(|place| !place.contains("{{"))
}

/// `text {{/pointer | filter}} {{@attribute}} text` with its places filled; what is not there is empty.
fn filled(text: &str, delivery: &Delivery) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (place, after) = after.split_once("}}").ok_or_else(|| format!("{{{{{after} has no }}}}"))?;
        filled += before;
        filled += &value_at(place, delivery)?.map(|value| value.to_text()).unwrap_or_default();
        rest = after;
    }
    Ok(filled + rest)
}

/// The value that fills a place, through its filters.
fn value_at(place: &str, delivery: &Delivery) -> Result<Option<Json>, String> {
    let mut words = place.split('|').map(str::trim);
    let source = words.next().unwrap_or_default();
    let value = if source.starts_with('/') {
        delivery.json(source)
    } else if let Some(name) = source.strip_prefix('@') {
        attribute(name, delivery).map(Json::Text)
    } else {
        return Err(format!("{{{{{place}}}}} begins neither with / (a JSON pointer) nor with @ (an attribute)"));
    };
    words.try_fold(value, |value, word| {
        let (filter, argument) = word.split_once(' ').unwrap_or((word, ""));
        Ok(match (filter, value) {
            ("json", value) => value.map(|value| Json::Text(value.to_json())),
            ("upper", value) => value.map(|value| Json::Text(value.to_text().to_uppercase())),
            ("lower", value) => value.map(|value| Json::Text(value.to_text().to_lowercase())),
            ("default", None | Some(Json::Null)) => Some(Json::Text(argument.trim().trim_matches('"').to_owned())),
            ("default", value) => value,
            _ => return Err(format!("{word:?} is none of json, upper, lower, default \"…\"")),
        })
    })
}

fn attribute(name: &str, delivery: &Delivery) -> Option<String> {
    match name {
        "id" => Some(delivery.id()),
        "event-type" => Some(delivery.event_type()),
        "subscription-id" => Some(delivery.subscription_id()),
        name => delivery.attribute(name),
    }
}

#[cfg(test)]
mod tests;
