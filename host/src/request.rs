//! The request under construction and the request that is sent. Only signing a draft makes a signed request, and
//! nothing else can be posted; so what was signed is what is sent.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};

use crate::delivery::Identity;
use crate::event::Event;
use crate::json::{Index, Pointer};
use crate::secret::Scheme;
use crate::subscription::Subscription;
pub use headers::{HeaderError, HeaderLimits, Headers};

mod headers;

const EVENT_TYPE: HeaderName = HeaderName::from_static("x-o2ims-event-type");
const NOTIFICATION_ID: HeaderName = HeaderName::from_static("x-o2ims-notification-id");
const SUBSCRIPTION_ID: HeaderName = HeaderName::from_static("x-o2ims-subscription-id");
const SIGNATURE: HeaderName = HeaderName::from_static("x-o2ims-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-o2ims-timestamp");

/// Why a body edit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The body, or the value to put into it, is not JSON.
    #[error("not JSON")]
    NotJson,
    /// Not an RFC 6901 pointer, or nothing there to edit.
    #[error("not a JSON pointer to a place in the body")]
    BadPointer,
    /// The body would be larger than `delivery.body_bytes_max`.
    #[error("the body would be too large")]
    TooLarge,
}

/// The request under construction: the only thing a plugin may change.
#[derive(Debug, Clone)]
pub struct Draft {
    event: Arc<Event>,
    headers: Headers,
    /// `None` while it is the event's.
    body: Option<Bytes>,
    index: OnceLock<Option<Arc<Index>>>,
    body_bytes_max: usize,
}

impl Draft {
    /// The request as it is when no plugin changes anything.
    #[must_use]
    pub fn new(event: Arc<Event>, body_bytes_max: usize) -> Draft {
        Draft { event, headers: Headers::default(), body: None, index: OnceLock::new(), body_bytes_max }
    }

    /// The request as plugins left it before, read back from its stored form.
    #[must_use]
    pub fn restored(event: Arc<Event>, headers: Headers, body: Option<Bytes>, body_bytes_max: usize) -> Draft {
        Draft { event, headers, body, index: OnceLock::new(), body_bytes_max }
    }

    /// Its headers, without the host's own.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        self.body.as_ref().unwrap_or(&self.event.body)
    }

    /// Its body if that is no longer the event's.
    #[must_use]
    pub fn changed_body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// Sets a header, replacing what it was.
    pub fn set_header(
        &mut self,
        name: &str,
        value: impl Into<String>,
        limits: HeaderLimits,
    ) -> Result<(), HeaderError> {
        self.headers.edit(name, value.into(), limits)
    }

    /// Removes a header; one that is not there is no error.
    pub fn remove_header(&mut self, name: &str) -> Result<(), HeaderError> {
        self.headers.remove(name)
    }

    /// Replaces the body.
    pub fn set_body(&mut self, body: Bytes) -> Result<(), EditError> {
        if body.len() > self.body_bytes_max {
            return Err(EditError::TooLarge);
        }
        self.body = Some(body);
        self.index = OnceLock::new();
        Ok(())
    }

    /// The JSON text at a pointer into the body.
    #[must_use]
    pub fn json(&self, pointer: Pointer<'_>) -> Option<(crate::json::Kind, &[u8])> {
        let place = self.index()?.find(self.body(), pointer)?;
        Some((place.kind, &self.body()[place.value]))
    }

    /// Puts a JSON text at a pointer, adding the last member or element if only its parent is there.
    pub fn json_set(&mut self, pointer: Pointer<'_>, value: &[u8]) -> Result<(), EditError> {
        if self.body().len() + value.len() > self.body_bytes_max.saturating_mul(2) {
            return Err(EditError::TooLarge);
        }
        Index::build(value).map_err(|_| EditError::NotJson)?;
        let index = self.index().ok_or(EditError::NotJson)?;
        let edited = index.set(self.body(), pointer, value).ok_or(EditError::BadPointer)?;
        self.set_body(edited.into())
    }

    /// Removes what stands at a pointer; nothing there is no error.
    pub fn json_remove(&mut self, pointer: Pointer<'_>) -> Result<(), EditError> {
        if pointer == Pointer::ROOT {
            return Err(EditError::BadPointer);
        }
        let index = self.index().ok_or(EditError::NotJson)?;
        match index.remove(self.body(), pointer) {
            Some(edited) => self.set_body(edited.into()),
            None => Ok(()),
        }
    }

    /// Applies an RFC 7386 merge patch.
    pub fn json_merge(&mut self, patch: &[u8]) -> Result<(), EditError> {
        if self.body().len() + patch.len() > self.body_bytes_max.saturating_mul(2) {
            return Err(EditError::TooLarge);
        }
        let merged = crate::json::merge(self.body(), patch).ok_or(EditError::NotJson)?;
        self.set_body(merged.into())
    }

    fn index(&self) -> Option<&Index> {
        match &self.body {
            None => Some(self.event.index()),
            Some(body) => self.index.get_or_init(|| Index::build(body).ok().map(Arc::new)).as_deref(),
        }
    }

    /// The one way to a request that can be sent.
    #[must_use]
    pub fn sign(&self, identity: &Identity, subscription: &Subscription, now: SystemTime) -> SignedRequest {
        let body = self.body().clone();
        // And room for those of the client.
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 10);
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.extend(identity.event_type.clone().map(|value| (EVENT_TYPE, value)));
        headers.insert(NOTIFICATION_ID, identity.notification_id.clone());
        headers.insert(SUBSCRIPTION_ID, identity.subscription_id.clone());
        headers.extend(subscription.endpoint.authorization.clone().map(|value| (AUTHORIZATION, value)));
        let settings = &subscription.settings;
        if let Some(secret) = &settings.secret {
            for scheme in &settings.schemes {
                let signature = match scheme {
                    Scheme::O2ims => secret.hmac_hex(&[&body]),
                    Scheme::O2imsTimestamped => {
                        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                        headers.insert(TIMESTAMP, HeaderValue::from(seconds));
                        secret.hmac_hex(&[seconds.to_string().as_bytes(), b".", &body])
                    }
                };
                headers.insert(SIGNATURE, HeaderValue::try_from(signature).expect("hex is visible ASCII"));
            }
        }
        SignedRequest { uri: subscription.endpoint.uri.clone(), headers, body, timeout: settings.timeout }
    }
}

/// What is sent. Nobody can change it.
#[derive(Debug)]
pub struct SignedRequest {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
}

impl SignedRequest {
    /// For the whole attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Where it goes.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// URI, headers and body, for the sender to put on the wire.
    #[must_use]
    pub fn into_parts(self) -> (Uri, HeaderMap, Bytes) {
        (self.uri, self.headers, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{BodyForm, Notification};

    fn draft(body: &'static str) -> Draft {
        let raw = Bytes::from_static(body.as_bytes());
        let notification = Notification::parse(raw, BodyForm::Verbatim, String::new).unwrap();
        Draft::new(Arc::new(notification.event), 64)
    }

    fn pointer(text: &str) -> Pointer<'_> {
        Pointer::parse(text).unwrap()
    }

    #[test]
    fn bodies_are_edited_in_place_and_bounded() {
        let mut draft = draft(r#"{"n":1.10,"a":{"b":2}}"#);
        draft.json_set(pointer("/a/b"), b"[3]").unwrap();
        draft.json_remove(pointer("/missing")).unwrap();
        draft.json_merge(br#"{"c":"x","a":null}"#).unwrap();
        assert_eq!(draft.body(), r#"{"n":1.10,"c":"x"}"#);
        assert_eq!(draft.json(pointer("/n")).unwrap().1, b"1.10");
        assert_eq!(draft.json_set(pointer("/n"), b"nope"), Err(EditError::NotJson));
        assert_eq!(draft.json_set(pointer("/x/y"), b"1"), Err(EditError::BadPointer));
        assert_eq!(draft.json_remove(pointer("")), Err(EditError::BadPointer));
        assert_eq!(draft.set_body(Bytes::from(vec![b'x'; 65])), Err(EditError::TooLarge));
        draft.set_body(Bytes::from_static(b"plain")).unwrap();
        assert_eq!(draft.json_remove(pointer("/a")), Err(EditError::NotJson));
    }
}
