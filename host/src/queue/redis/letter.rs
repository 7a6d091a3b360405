//! A dead letter as a stream entry: the four fields of the Go workers, and ours.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;

use crate::entry::{Content, DeadLetter, Entry, EntryId};
use crate::outcome::DeadReason;
use crate::stored;

/// Fields of a malformed entry are kept under their name with this in front.
const RAW: &str = "raw.";
/// More of them are kept together in one field: a script hands Redis at most some thousand words.
const RAW_FIELDS_MAX: usize = 1000;
const RAW_TOGETHER: &str = "raw.fields";

/// A name and its value.
pub(crate) type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

pub(crate) fn to_fields(letter: &DeadLetter) -> Vec<Field<'_>> {
    let time = |time| humantime::format_rfc3339_seconds(time).to_string();
    let mut fields = vec![
        field("event", letter.event.as_ref()),
        field("original_id", letter.original_id.to_string()),
        field("failed_at", time(letter.failed_at)),
        field("subscription_id", letter.subscription_id.as_str()),
        field("reason", letter.reason.name()),
        field("attempts", letter.attempts.to_string()),
        field("last_status", letter.last_status.map(|status| status.to_string()).unwrap_or_default()),
        field("last_error", letter.last_error.as_str()),
        field("first_seen", humantime::format_rfc3339_millis(letter.first_seen).to_string()),
    ];
    if letter.replays > 0 {
        let trail = stored::trail_fields(letter.replays, &letter.died_before);
        fields.extend(trail.into_iter().map(|(name, value)| field(name, value)));
    }
    if letter.raw.len() > RAW_FIELDS_MAX {
        fields.push(field(RAW_TOGETHER, together(&letter.raw)));
        return fields;
    }
    fields.extend(
        letter
            .raw
            .iter()
            .map(|(name, value)| (Cow::Owned([RAW.as_bytes(), name].concat()), Cow::Borrowed(value.as_ref()))),
    );
    fields
}

/// `[["name", "value"], …]`; what is no UTF-8 as `{"base64": "…"}`.
fn together(raw: &[(Bytes, Bytes)]) -> String {
    let text = |bytes: &Bytes| match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    };
    serde_json::Value::Array(raw.iter().map(|(name, value)| json!([text(name), text(value)])).collect()).to_string()
}

/// Reads one back. One that the Go workers wrote has four fields only; they gave up for one reason.
pub(crate) fn from_entry(entry: &Entry) -> DeadLetter {
    let text = |name| entry.field(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let time = |name| humantime::parse_rfc3339(&text(name)).unwrap_or(SystemTime::UNIX_EPOCH);
    let fields = match &entry.content {
        Content::Fields(fields) => fields.as_slice(),
        Content::Stored(_) => &[],
    };
    let raw = |(name, value): &(Bytes, Bytes)| {
        name.starts_with(RAW.as_bytes()).then(|| (name.slice(RAW.len()..), value.clone()))
    };
    DeadLetter {
        event: entry.field("event").cloned().unwrap_or_default(),
        original_id: text("original_id").parse().unwrap_or(EntryId::default()),
        failed_at: time("failed_at"),
        subscription_id: text("subscription_id"),
        reason: text("reason").parse().unwrap_or(DeadReason::Exhausted),
        attempts: text("attempts").parse().unwrap_or_default(),
        last_status: text("last_status").parse().ok(),
        last_error: text("last_error"),
        first_seen: time("first_seen"),
        replays: text("replays").parse().unwrap_or_default(),
        died_before: stored::split(&text("died_before")),
        raw: fields.iter().filter_map(raw).collect(),
    }
}

/// The fields of the delivery that a replay makes of it: the entry as it was, and its trail.
pub(super) fn to_delivery_fields(letter: &DeadLetter, now: SystemTime) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    if !letter.event.is_empty() {
        fields.push(field("event", letter.event.as_ref()));
    }
    fields.extend(letter.raw.iter().map(|(name, value)| field(name.as_ref(), value.as_ref())));
    fields.extend(stored::replayed_fields(letter, now).into_iter().map(|(name, value)| field(name, value)));
    fields
}

fn field<'a>(name: impl IntoField<'a>, value: impl IntoField<'a>) -> Field<'a> {
    (name.into_field(), value.into_field())
}

trait IntoField<'a> {
    fn into_field(self) -> Cow<'a, [u8]>;
}

impl<'a> IntoField<'a> for &'a str {
    fn into_field(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }
}

impl<'a> IntoField<'a> for &'a [u8] {
    fn into_field(self) -> Cow<'a, [u8]> {
        Cow::Borrowed(self)
    }
}

impl<'a> IntoField<'a> for String {
    fn into_field(self) -> Cow<'a, [u8]> {
        Cow::Owned(self.into_bytes())
    }
}
