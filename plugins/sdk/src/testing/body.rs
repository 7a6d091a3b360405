//! Reads and edits JSON texts by pointer as the host does: what an edit does not touch keeps its text, so that no number is
//! rounded and no member changes its place.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::bindings::weft::plugin::types::{EditError, JsonValue};

/// The members of an object in their order; of a name that is there twice the last one.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    members.retain(|(earlier, _)| *earlier != name);
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// One level of a document. Elements have no names.
enum Level<'j> {
    Object(Vec<(String, Cow<'j, str>)>),
    Array(Vec<(String, Cow<'j, str>)>),
    Scalar,
}

impl<'j> Level<'j> {
    fn of(text: &'j str) -> Option<Level<'j>> {
        let text = text.trim_ascii();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let members: Members<'j> = serde_json::from_str(text).ok()?;
                Level::Object(members.0.into_iter().map(|(name, value)| (name, value.get().into())).collect())
            }
            b'[' => {
                let elements: Vec<&'j RawValue> = serde_json::from_str(text).ok()?;
                Level::Array(elements.into_iter().map(|value| (String::new(), value.get().into())).collect())
            }
            _ => serde_json::from_str::<&RawValue>(text).ok().map(|_| Level::Scalar)?,
        })
    }

    /// Where the child is that a pointer's token means, and whether it is there; if not, it can be added there.
    fn find(&self, token: &str) -> Option<(usize, bool)> {
        match self {
            Level::Object(members) => {
                let at = members.iter().position(|(name, _)| name == token);
                Some(at.map_or((members.len(), false), |at| (at, true)))
            }
            Level::Array(elements) => {
                let count = elements.len();
                let at = if token == "-" { count } else { position(token)? };
                (at <= count).then_some((at, at < count))
            }
            Level::Scalar => None,
        }
    }

    fn children(&mut self) -> Option<&mut Vec<(String, Cow<'j, str>)>> {
        match self {
            Level::Object(children) | Level::Array(children) => Some(children),
            Level::Scalar => None,
        }
    }

    fn write(&self) -> String {
        let join = |texts: Vec<String>| texts.join(",");
        match self {
            Level::Object(members) => {
                let member = |(name, value): &(String, Cow<'_, str>)| format!("{}:{value}", crate::Json::quote(name));
                format!("{{{}}}", join(members.iter().map(member).collect()))
            }
            Level::Array(elements) => {
                format!("[{}]", join(elements.iter().map(|(_, value)| value.to_string()).collect()))
            }
            Level::Scalar => String::new(),
        }
    }
}

/// RFC 6901 allows no leading zeros.
fn position(token: &str) -> Option<usize> {
    let is_digits = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    if is_digits { token.parse().ok() } else { None }
}

fn tokens(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let unescape = |token: &str| {
        let is_good = token.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        is_good.then(|| token.replace("~1", "/").replace("~0", "~"))
    };
    pointer.strip_prefix('/')?.split('/').map(unescape).collect()
}

pub(super) fn is_object(text: &str) -> bool {
    matches!(Level::of(text), Some(Level::Object(_)))
}

/// The value at a pointer.
pub(super) fn value(document: &str, pointer: &str) -> Option<JsonValue> {
    let mut text = Cow::Borrowed(document);
    for token in tokens(pointer)? {
        let owned = text.into_owned();
        let mut level = Level::of(&owned)?;
        let (at, is_there) = level.find(&token)?;
        text = is_there.then(|| level.children().map(|children| children.swap_remove(at).1.into_owned()))??.into();
    }
    let text = text.trim_ascii();
    Some(match text.as_bytes().first()? {
        b'{' | b'[' => Level::of(text).map(|_| JsonValue::Composite(text.to_owned()))?,
        b'"' => JsonValue::Text(serde_json::from_str(text).ok()?),
        b'n' => JsonValue::Null,
        b't' | b'f' => JsonValue::Boolean(serde_json::from_str(text).ok()?),
        _ => text.parse().map(JsonValue::Integer).ok().or_else(|| text.parse().map(JsonValue::Number).ok())?,
    })
}

/// The document with a value at a pointer, or without what stands there.
pub(super) fn edit(document: &str, pointer: &str, value: Option<&str>) -> Result<String, EditError> {
    let tokens = tokens(pointer).ok_or(EditError::BadPointer)?;
    if value.is_some_and(|value| Level::of(value).is_none()) || Level::of(document).is_none() {
        return Err(EditError::NotJson);
    }
    match value {
        None if tokens.is_empty() => Err(EditError::BadPointer),
        None => Ok(put(document, &tokens, None).unwrap_or_else(|| document.to_owned())),
        Some(value) => put(document, &tokens, Some(value)).ok_or(EditError::BadPointer),
    }
}

/// `None` where there is nothing to put it into, or nothing to remove.
fn put(document: &str, tokens: &[String], value: Option<&str>) -> Option<String> {
    let Some((token, deeper)) = tokens.split_first() else { return value.map(|value| value.trim_ascii().to_owned()) };
    let mut level = Level::of(document)?;
    let (at, is_there) = level.find(token)?;
    let children = level.children()?;
    match (is_there, value) {
        (true, None) if deeper.is_empty() => drop(children.remove(at)),
        (true, _) => children[at].1 = put(&children[at].1, deeper, value)?.into(),
        (false, Some(value)) if deeper.is_empty() => {
            children.push((token.clone(), value.trim_ascii().to_owned().into()))
        }
        (false, _) => return None,
    }
    Some(level.write())
}

/// RFC 7386.
pub(super) fn merge(document: &str, patch: &str) -> Result<String, EditError> {
    let merged = || {
        let Level::Object(members) = Level::of(patch)? else { return Some(patch.trim_ascii().to_owned()) };
        let document = Level::of(document)?;
        let mut merged = if let Level::Object(_) = document { document } else { Level::Object(Vec::new()) };
        for (name, value) in members {
            let (at, is_there) = merged.find(&name)?;
            let children = merged.children()?;
            if value == "null" {
                children.retain(|(of, _)| *of != name);
            } else if is_there {
                children[at].1 = merge(&children[at].1, &value).ok()?.into();
            } else {
                children.push((name, merge("null", &value).ok()?.into()));
            }
        }
        Some(merged.write())
    };
    merged().ok_or(EditError::NotJson)
}
