//! Conditions on single values.

use serde::Deserialize;
use serde_json::Value;
use weft_plugin::Json;
use weft_plugin::prelude::*;

/// This plugin's settings: all that is given must match.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Patterns, one of which must match: `*` is one segment, `**` any number of them.
    pub event_types: Vec<String>,
    /// Attribute name to pattern: `*` is any text.
    pub attributes: BTreeMap<String, String>,
    /// JSON pointer into the body to what must hold there.
    pub json: BTreeMap<String, Condition>,
}

/// What must hold of the value at a pointer: all that is given.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// Whether there is a value at all.
    pub exists: Option<bool>,
    /// Equal to this.
    pub equals: Option<Value>,
    /// Equal to one of these.
    pub one_of: Option<Vec<Value>>,
    /// Equal to none of these; a value that is absent is none of them.
    pub none_of: Option<Vec<Value>>,
    /// A text like this: `*` is any text.
    pub like: Option<String>,
    /// A number not below this.
    pub at_least: Option<f64>,
    /// A number not above this.
    pub at_most: Option<f64>,
}

impl Condition {
    /// The first part that does not hold of a value.
    pub fn violated(&self, value: Option<&Json>) -> Option<&'static str> {
        let equals = |expected: &Value| value.is_some_and(|value| equals(value, expected));
        let number = match value {
            Some(Json::Integer(number)) => Some(*number as f64),
            Some(Json::Number(number)) => Some(*number),
            _ => None,
        };
        let like = |pattern: &str| matches!(value, Some(Json::Text(text)) if like(pattern, text));
        let holds = [
            ("exists", self.exists.is_none_or(|exists| exists == value.is_some())),
            ("equals", self.equals.as_ref().is_none_or(equals)),
            ("one_of", self.one_of.as_ref().is_none_or(|values| values.iter().any(equals))),
            ("none_of", self.none_of.as_ref().is_none_or(|values| !values.iter().any(equals))),
            ("like", self.like.as_deref().is_none_or(like)),
            ("at_least", self.at_least.is_none_or(|bound| number.is_some_and(|number| number >= bound))),
            ("at_most", self.at_most.is_none_or(|bound| number.is_some_and(|number| number <= bound))),
        ];
        holds.into_iter().find(|(_, holds)| !holds).map(|(name, _)| name)
    }
}

fn equals(value: &Json, expected: &Value) -> bool {
    match value {
        Json::Null => expected.is_null(),
        Json::Boolean(yes) => expected.as_bool() == Some(*yes),
        Json::Integer(number) => expected.as_i64() == Some(*number) || expected.as_f64() == Some(*number as f64),
        Json::Number(number) => expected.as_f64() == Some(*number),
        Json::Text(text) => expected.as_str() == Some(text),
        Json::Composite(text) => serde_json::from_str::<Value>(text).is_ok_and(|value| value == *expected),
    }
}

/// Whether a text matches a pattern in which `*` is any text.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.len() >= end.len() && text.ends_with(end)
}

/// Whether an event type matches a pattern in which `*` is one segment and `**` any number of them.
pub fn is_type(pattern: &str, event_type: &str) -> bool {
    fn matches(pattern: &[&str], segments: &[&str]) -> bool {
        match (pattern.split_first(), segments.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => (0..=segments.len()).any(|skipped| matches(rest, &segments[skipped..])),
            (Some((&first, rest)), Some((segment, further))) => {
                (first == "*" || first == *segment) && matches(rest, further)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    matches(&pattern.split('.').collect::<Vec<_>>(), &event_type.split('.').collect::<Vec<_>>())
}
