//! Stands for the host's delivery: the same functions, in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::body;
use crate::bindings::weft::plugin::types::{EditError, HeaderError, JsonValue};

const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 8192;
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// 2026-01-08T10:30:00Z.
const NOW: u64 = 1_767_868_200_000;

/// Headers that only the host sets.
const RESERVED: [&str; 13] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "authorization",
];

/// The request under construction.
#[derive(Clone)]
pub(super) struct Draft {
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// A delivery in memory.
#[doc(hidden)]
pub struct Double {
    /// The event's JSON without `callbackUrl`.
    event: String,
    destination: String,
    draft: RefCell<Draft>,
    pub(super) settings: String,
    pub(super) delivery: String,
    pub(super) replays: u32,
    pub(super) run: u32,
    pub(super) now: u64,
}

impl Double {
    pub(super) fn of(json: &str) -> Double {
        assert!(body::is_object(json), "an event is a JSON object: {json}");
        let callback = text_at(json, "/callbackUrl").unwrap_or_else(|| "https://receiver.example.com".to_owned());
        let (scheme, rest) = callback.split_once("://").unwrap_or(("https", &callback));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let event = body::edit(json, "/callbackUrl", None).unwrap_or_else(|_| json.to_owned());
        let headers = [("content-type".to_owned(), "application/json".to_owned())].into();
        let draft = RefCell::new(Draft { headers, body: event.clone().into_bytes() });
        Double {
            event,
            destination: format!("{scheme}://{host}"),
            draft,
            settings: "{}".to_owned(),
            delivery: format!("{NOW}-0"),
            replays: 0,
            run: 0,
            now: NOW,
        }
    }

    pub(super) fn draft(&self) -> Draft {
        self.draft.borrow().clone()
    }

    pub(crate) fn id(&self) -> String {
        text_at(&self.event, "/notificationId").unwrap_or_else(|| "test-1".to_owned())
    }

    pub(crate) fn event_type(&self) -> String {
        text_at(&self.event, "/notificationEventType").unwrap_or_default()
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let pointer = match name {
            "object-ref" | "subject" => "/objectRef",
            "resource-type-id" => "/resourceTypeId",
            "resource-pool-id" => "/resourcePoolId",
            "global-resource-id" => "/globalResourceId",
            "time" => "/timestamp",
            "tenant" => "/tenantId",
            "source" => "/source",
            "delivery" => return Some(self.delivery.clone()),
            "replays" => return Some(self.replays.to_string()),
            _ => return None,
        };
        text_at(&self.event, pointer)
    }

    pub(crate) fn subscription_id(&self) -> String {
        text_at(&self.event, "/subscriptionId").unwrap_or_else(|| "sub-1".to_owned())
    }

    pub(crate) fn destination(&self) -> String {
        self.destination.clone()
    }

    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn settings(&self) -> String {
        self.settings.clone()
    }

    /// FNV-1a of the settings.
    pub(crate) fn settings_revision(&self) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.settings.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.draft.borrow().headers.get(&name.to_ascii_lowercase()).cloned()
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        self.draft().headers.into_iter().collect()
    }

    pub(crate) fn set_header(&self, name: &str, value: &str) -> Result<(), HeaderError> {
        let name = editable(name)?;
        if name.len() + value.len() > HEADER_BYTES_MAX {
            return Err(HeaderError::TooLarge);
        }
        if value.bytes().any(|byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
            return Err(HeaderError::InvalidValue);
        }
        let headers = &mut self.draft.borrow_mut().headers;
        if headers.len() >= HEADERS_MAX && !headers.contains_key(&name) {
            return Err(HeaderError::TooLarge);
        }
        headers.insert(name, value.to_owned());
        Ok(())
    }

    pub(crate) fn remove_header(&self, name: &str) -> Result<(), HeaderError> {
        self.draft.borrow_mut().headers.remove(&editable(name)?);
        Ok(())
    }

    pub(crate) fn body_size(&self) -> u64 {
        self.draft.borrow().body.len() as u64
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.draft().body
    }

    pub(crate) fn read_body(&self, offset: u64, len: u32) -> Vec<u8> {
        let body = self.body();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        body[start..start.saturating_add(len as usize).min(body.len())].to_vec()
    }

    pub(crate) fn body_text(&self) -> Option<String> {
        String::from_utf8(self.body()).ok()
    }

    pub(crate) fn set_body(&self, body: &[u8], content_type: Option<&str>) -> Result<(), EditError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(EditError::TooLarge);
        }
        if let Some(content_type) = content_type {
            // The host ends the call with a trap.
            self.set_header("content-type", content_type).expect("a content type");
        }
        self.draft.borrow_mut().body = body.to_vec();
        Ok(())
    }

    pub(crate) fn set_body_text(&self, body: &str, content_type: Option<&str>) -> Result<(), EditError> {
        self.set_body(body.as_bytes(), content_type)
    }

    pub(crate) fn json(&self, pointer: &str) -> Option<JsonValue> {
        body::value(&self.body_text()?, pointer)
    }

    pub(crate) fn json_many(&self, pointers: &[String]) -> Vec<Option<JsonValue>> {
        pointers.iter().map(|pointer| self.json(pointer)).collect()
    }

    pub(crate) fn json_set(&self, pointer: &str, value: &str) -> Result<(), EditError> {
        self.edit(|text| body::edit(text, pointer, Some(value)))
    }

    pub(crate) fn json_remove(&self, pointer: &str) -> Result<(), EditError> {
        self.edit(|text| body::edit(text, pointer, None))
    }

    pub(crate) fn json_merge(&self, patch: &str) -> Result<(), EditError> {
        self.edit(|text| body::merge(text, patch))
    }

    fn edit(&self, edit: impl FnOnce(&str) -> Result<String, EditError>) -> Result<(), EditError> {
        let edited = edit(&self.body_text().ok_or(EditError::NotJson)?)?;
        self.set_body(edited.as_bytes(), None)
    }
}

fn text_at(json: &str, pointer: &str) -> Option<String> {
    match body::value(json, pointer)? {
        JsonValue::Text(text) => Some(text),
        _ => None,
    }
}

fn editable(name: &str) -> Result<String, HeaderError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(HeaderError::InvalidName);
    }
    let name = name.to_ascii_lowercase();
    let is_identity = ["x-o2ims-event-type", "x-o2ims-notification-id", "x-o2ims-subscription-id"].contains(&&*name)
        || ["x-o2ims-signature", "x-o2ims-timestamp"].contains(&&*name)
        || name.starts_with("webhook-");
    if is_identity || RESERVED.contains(&&*name) { Err(HeaderError::Reserved) } else { Ok(name) }
}
