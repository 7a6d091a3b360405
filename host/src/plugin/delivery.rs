//! The `delivery` resource: the event and the draft as a plugin sees them. Getters copy only what they return; edits
//! are made on a copy of the draft that counts only if the verdict is `deliver`.

use std::time::SystemTime;

use bytes::Bytes;
use wasmtime::component::Resource;

use super::contract::types::{EditError, HeaderError, Host, HostDelivery, JsonValue};
use super::sandbox::Sandbox;
use super::{Call, Reached};
use crate::json::{self, Kind, Pointer};
use crate::request;

/// The one delivery of a store. There is nothing in it: what it stands for is the [`Sandbox`].
#[expect(unreachable_pub, reason = "the bindings re-export it, inside a private module")]
pub struct Delivery;

/// What one merge may cost, as members of the patch times bytes to read for each.
const MERGE_WORK_MAX: usize = 64 << 20;

const CONTENT_TYPE: &str = "content-type";

impl Host for Sandbox {}

impl HostDelivery for Sandbox {
    fn id(&mut self, _: Resource<Delivery>) -> wasmtime::Result<String> {
        Ok(self.input()?.call.event.id.clone())
    }

    fn event_type(&mut self, _: Resource<Delivery>) -> wasmtime::Result<String> {
        Ok(self.input()?.call.event.event_type.clone())
    }

    fn attribute(&mut self, _: Resource<Delivery>, name: String) -> wasmtime::Result<Option<String>> {
        let call = &self.input()?.call;
        Ok(match name.as_str() {
            "delivery" => Some(call.entry.to_string()),
            "replays" => Some(call.replays.to_string()),
            name => call.event.attribute(name),
        })
    }

    fn subscription_id(&mut self, _: Resource<Delivery>) -> wasmtime::Result<String> {
        Ok(self.input()?.call.subscription_id.as_ref().to_owned())
    }

    fn destination(&mut self, _: Resource<Delivery>) -> wasmtime::Result<String> {
        Ok(self.input()?.call.destination.as_ref().to_owned())
    }

    fn run(&mut self, _: Resource<Delivery>) -> wasmtime::Result<u32> {
        Ok(self.input()?.call.run)
    }

    fn now(&mut self, _: Resource<Delivery>) -> wasmtime::Result<u64> {
        Ok(self.input()?.call.now_ms())
    }

    fn settings(&mut self, _: Resource<Delivery>) -> wasmtime::Result<String> {
        Ok(self.input()?.settings.as_ref().to_owned())
    }

    fn settings_revision(&mut self, _: Resource<Delivery>) -> wasmtime::Result<u64> {
        Ok(self.input()?.settings_revision)
    }

    fn header(&mut self, _: Resource<Delivery>, name: String) -> wasmtime::Result<Option<String>> {
        let value = self.draft()?.headers().get(&name);
        Ok(value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()))
    }

    fn headers(&mut self, _: Resource<Delivery>) -> wasmtime::Result<Vec<(String, String)>> {
        let pairs = self.draft()?.headers().iter();
        Ok(pairs
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect())
    }

    fn set_header(
        &mut self,
        _: Resource<Delivery>,
        name: String,
        value: String,
    ) -> wasmtime::Result<Result<(), HeaderError>> {
        let limits = self.terms.limits.headers;
        let set = self.draft_mut()?.set_header(&name, value, limits);
        if set == Err(request::HeaderError::TooLarge) {
            self.reached(Reached::Headers);
        }
        Ok(set.map_err(HeaderError::from))
    }

    fn remove_header(&mut self, _: Resource<Delivery>, name: String) -> wasmtime::Result<Result<(), HeaderError>> {
        Ok(self.draft_mut()?.remove_header(&name).map_err(HeaderError::from))
    }

    fn body_size(&mut self, _: Resource<Delivery>) -> wasmtime::Result<u64> {
        Ok(self.draft()?.body().len() as u64)
    }

    fn body(&mut self, _: Resource<Delivery>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.draft()?.body().to_vec())
    }

    fn body_text(&mut self, _: Resource<Delivery>) -> wasmtime::Result<Option<String>> {
        Ok(std::str::from_utf8(self.draft()?.body()).ok().map(str::to_owned))
    }

    fn read_body(&mut self, _: Resource<Delivery>, offset: u64, len: u32) -> wasmtime::Result<Vec<u8>> {
        let body = self.draft()?.body();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        let end = start.saturating_add(len as usize).min(body.len());
        Ok(body[start..end].to_vec())
    }

    fn set_body(
        &mut self,
        _: Resource<Delivery>,
        body: Vec<u8>,
        content_type: Option<String>,
    ) -> wasmtime::Result<Result<(), EditError>> {
        self.replace_body(body.into(), content_type.as_deref())
    }

    fn set_body_text(
        &mut self,
        _: Resource<Delivery>,
        body: String,
        content_type: Option<String>,
    ) -> wasmtime::Result<Result<(), EditError>> {
        self.replace_body(body.into(), content_type.as_deref())
    }

    fn json(&mut self, _: Resource<Delivery>, pointer: String) -> wasmtime::Result<Option<JsonValue>> {
        self.json_at(&pointer)
    }

    fn json_many(&mut self, _: Resource<Delivery>, pointers: Vec<String>) -> wasmtime::Result<Vec<Option<JsonValue>>> {
        let (count_max, bytes_max) = (self.terms.limits.pointers_max, self.terms.limits.json_bytes_max);
        if pointers.len() > count_max {
            return Err(wasmtime::format_err!("json-many takes at most {count_max} pointers"));
        }
        let mut bytes = 0;
        let mut values = Vec::with_capacity(pointers.len());
        for pointer in &pointers {
            let value = self.json_at(pointer)?;
            bytes += value.as_ref().map_or(0, text_bytes);
            if bytes > bytes_max {
                return Err(wasmtime::format_err!("json-many answers at most {bytes_max} bytes"));
            }
            values.push(value);
        }
        Ok(values)
    }

    fn json_set(
        &mut self,
        _: Resource<Delivery>,
        pointer: String,
        value: String,
    ) -> wasmtime::Result<Result<(), EditError>> {
        let Some(pointer) = Pointer::parse(&pointer) else { return Ok(Err(EditError::BadPointer)) };
        Ok(self.draft_mut()?.json_set(pointer, value.as_bytes()).map_err(EditError::from))
    }

    fn json_remove(&mut self, _: Resource<Delivery>, pointer: String) -> wasmtime::Result<Result<(), EditError>> {
        let Some(pointer) = Pointer::parse(&pointer) else { return Ok(Err(EditError::BadPointer)) };
        Ok(self.draft_mut()?.json_remove(pointer).map_err(EditError::from))
    }

    fn json_merge(&mut self, _: Resource<Delivery>, patch: String) -> wasmtime::Result<Result<(), EditError>> {
        // Merging reads the document once for each member of the patch, and nothing interrupts the host meanwhile.
        let members = patch.bytes().filter(|&byte| byte == b':').count();
        if members.saturating_mul(self.draft()?.body().len() + patch.len()) > MERGE_WORK_MAX {
            return Ok(Err(EditError::TooLarge));
        }
        Ok(self.draft_mut()?.json_merge(patch.as_bytes()).map_err(EditError::from))
    }

    fn drop(&mut self, _: Resource<Delivery>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl Call {
    /// `now` in milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> u64 {
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Sandbox {
    /// Both or neither: a body with the content type of another would be worse than an error.
    fn replace_body(&mut self, body: Bytes, content_type: Option<&str>) -> wasmtime::Result<Result<(), EditError>> {
        let mut draft = self.draft()?.clone();
        if let Err(error) = draft.set_body(body) {
            self.reached(Reached::Body);
            return Ok(Err(error.into()));
        }
        let limits = self.terms.limits.headers;
        match content_type.map_or(Ok(()), |content_type| draft.set_header(CONTENT_TYPE, content_type, limits)) {
            Ok(()) => self.replace_draft(draft),
            Err(request::HeaderError::TooLarge) => return Ok(Err(EditError::TooLarge)),
            // `edit-error` has no word for it.
            Err(error) => return Err(wasmtime::format_err!("{content_type:?} as content type: {error}")),
        }
        Ok(Ok(()))
    }

    fn json_at(&self, pointer: &str) -> wasmtime::Result<Option<JsonValue>> {
        let draft = self.draft()?;
        let found = Pointer::parse(pointer).and_then(|pointer| draft.json(pointer));
        let utf8 = |value| std::str::from_utf8(value).expect("only UTF-8 is indexed, and values end at its boundaries");
        Ok(found.map(|(kind, value)| match kind {
            Kind::Null => JsonValue::Null,
            Kind::Boolean => JsonValue::Boolean(value == b"true"),
            Kind::Number => number(utf8(value)),
            Kind::Text => JsonValue::Text(json::text(value).into_owned()),
            Kind::Array | Kind::Object => JsonValue::Composite(utf8(value).to_owned()),
        }))
    }
}

/// An integer if it is written as one and fits, so that ids beyond 2^53 stay what they are.
fn number(text: &str) -> JsonValue {
    match text.parse() {
        Ok(integer) => JsonValue::Integer(integer),
        Err(_) => JsonValue::Number(text.parse().expect("a JSON number is a Rust number")),
    }
}

fn text_bytes(value: &JsonValue) -> usize {
    match value {
        JsonValue::Text(text) | JsonValue::Composite(text) => text.len(),
        JsonValue::Null | JsonValue::Boolean(_) | JsonValue::Integer(_) | JsonValue::Number(_) => 0,
    }
}

impl From<request::HeaderError> for HeaderError {
    fn from(error: request::HeaderError) -> Self {
        match error {
            request::HeaderError::InvalidName => HeaderError::InvalidName,
            request::HeaderError::InvalidValue => HeaderError::InvalidValue,
            request::HeaderError::Reserved => HeaderError::Reserved,
            request::HeaderError::TooLarge => HeaderError::TooLarge,
        }
    }
}

impl From<request::EditError> for EditError {
    fn from(error: request::EditError) -> Self {
        match error {
            request::EditError::NotJson => EditError::NotJson,
            request::EditError::BadPointer => EditError::BadPointer,
            request::EditError::TooLarge => EditError::TooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_integer(text: &str, expected: i64) {
        assert!(matches!(number(text), JsonValue::Integer(value) if value == expected), "{text}");
    }

    #[track_caller]
    fn is_number(text: &str, expected: f64) {
        assert!(matches!(number(text), JsonValue::Number(value) if value.to_bits() == expected.to_bits()), "{text}");
    }

    #[test]
    fn integers_stay_exact() {
        is_integer("0", 0);
        is_integer("-5", -5);
        is_integer("9007199254740993", 9_007_199_254_740_993);
        is_integer("-9223372036854775808", i64::MIN);
    }

    #[test]
    fn all_other_numbers_are_floating() {
        is_number("1.0", 1.0);
        is_number("1E+2", 100.0);
        is_number("-0.0", -0.0);
        is_number("9223372036854775808", 9_223_372_036_854_775_808.0);
        is_number("1e999", f64::INFINITY);
    }
}
