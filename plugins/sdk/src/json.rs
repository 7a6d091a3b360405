//! Single JSON values. The host parses documents; a plugin needs no JSON library for what is here.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::fmt::Write;

use crate::bindings::weft::plugin::types;

/// A value taken out of a JSON document.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A whole number that fits.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(String),
    /// An array or object, as its JSON text.
    Composite(String),
}

impl Json {
    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            Json::Null | Json::Boolean(_) | Json::Integer(_) | Json::Number(_) | Json::Composite(_) => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Json::Integer(number) => Some(*number as f64),
            Json::Number(number) => Some(*number),
            Json::Null | Json::Boolean(_) | Json::Text(_) | Json::Composite(_) => None,
        }
    }

    /// As people read it: a text without its quotes, everything else as JSON.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.as_text().map_or_else(|| self.to_json(), str::to_owned)
    }

    /// As JSON text. A number that no 64-bit integer holds may have been rounded.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Json::Null => "null".to_owned(),
            Json::Boolean(yes) => yes.to_string(),
            Json::Integer(number) => number.to_string(),
            Json::Number(number) if number.is_finite() => number.to_string(),
            // It was one, before it was read: JSON has no word for what is too large.
            Json::Number(_) => "null".to_owned(),
            Json::Text(text) => Json::quote(text),
            Json::Composite(text) => text.clone(),
        }
    }

    /// A text as JSON: in quotes, with what needs it escaped.
    ///
    /// ```
    /// assert_eq!(weft_plugin::Json::quote("a \"b\"\n"), r#""a \"b\"\n""#);
    /// ```
    #[must_use]
    pub fn quote(text: &str) -> String {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        for char in text.chars() {
            match char {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                char if char < ' ' => {
                    let _ = write!(quoted, "\\u{:04x}", u32::from(char));
                }
                char => quoted.push(char),
            }
        }
        quoted.push('"');
        quoted
    }
}

impl From<types::JsonValue> for Json {
    fn from(value: types::JsonValue) -> Json {
        match value {
            types::JsonValue::Null => Json::Null,
            types::JsonValue::Boolean(yes) => Json::Boolean(yes),
            types::JsonValue::Integer(number) => Json::Integer(number),
            types::JsonValue::Number(number) => Json::Number(number),
            types::JsonValue::Text(text) => Json::Text(text),
            types::JsonValue::Composite(text) => Json::Composite(text),
        }
    }
}
