//! The delivery that a plugin is asked about.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

#[cfg(target_arch = "wasm32")]
use crate::bindings::weft::plugin::types::Delivery as Inner;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::Double as Inner;

use crate::{EditError, HeaderError, Json};

/// One event on its way to one subscription, and the request that is being made of it. Reading copies only what is
/// asked for; edits take effect only if the verdict is to deliver.
pub struct Delivery<'a>(&'a Inner);

impl<'a> Delivery<'a> {
    #[doc(hidden)]
    #[must_use]
    pub fn new(inner: &'a Inner) -> Delivery<'a> {
        Delivery(inner)
    }

    /// The event's id, the same for every subscriber and every attempt.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// The event's type, for example `o2ims.Resource.Created`.
    #[must_use]
    pub fn event_type(&self) -> String {
        self.0.event_type()
    }

    /// A further attribute of the event: `object-ref`, `resource-type-id`, `resource-pool-id`, `global-resource-id`,
    /// `time`, `subject`, `source`, `tenant`; or of the delivery: `delivery`, its own id, which stays the same whenever the chain
    /// runs for it and is another one where the same event comes a second time, and `replays`, how often a person replayed it.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.0.attribute(name)
    }

    /// Whom it is for.
    #[must_use]
    pub fn subscription_id(&self) -> String {
        self.0.subscription_id()
    }

    /// Scheme, host and port of the endpoint.
    #[must_use]
    pub fn destination(&self) -> String {
        self.0.destination()
    }

    /// How often the chain ran for this delivery before; 0 at first.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.0.run()
    }

    /// When this run of the chain began, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.0.now()
    }

    /// This plugin's settings on this subscription, as JSON text; `{}` if there are none.
    #[must_use]
    pub fn settings_text(&self) -> String {
        self.0.settings()
    }

    /// Changes when the settings would.
    #[must_use]
    pub fn settings_revision(&self) -> u64 {
        self.0.settings_revision()
    }

    /// This plugin's settings, read into a type of yours, once for as long as they stay the same and the instance lives. What
    /// cannot be read is a permanent failure that says where.
    ///
    /// ```
    /// use weft_plugin::{Delivery, Failure, Verdict};
    ///
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Settings {
    ///     tag: String,
    /// }
    ///
    /// fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
    ///     let settings = delivery.settings::<Settings>()?;
    ///     delivery.set_header("x-tag", &settings.tag)?;
    ///     Ok(Verdict::deliver())
    /// }
    /// ```
    #[cfg(feature = "serde")]
    pub fn settings<T: serde::de::DeserializeOwned + 'static>(&self) -> Result<Rc<T>, crate::Failure> {
        self.settings_with(|text| {
            serde_json::from_str(text).map_err(|error| crate::Failure::permanent(alloc::format!("settings: {error}")))
        })
    }

    /// The same, read by a function of yours.
    pub fn settings_with<T: 'static, E>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Result<Rc<T>, E> {
        crate::settings::cached(self.settings_revision(), || read(&self.settings_text()))
    }

    /// A header of the request.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.header(name)
    }

    /// All headers of the request that a plugin may change.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        self.0.headers()
    }

    /// Sets a header, replacing what it was.
    pub fn set_header(&self, name: &str, value: &str) -> Result<(), HeaderError> {
        Ok(self.0.set_header(name, value)?)
    }

    /// Removes a header; one that is not there is no error.
    pub fn remove_header(&self, name: &str) -> Result<(), HeaderError> {
        Ok(self.0.remove_header(name)?)
    }

    /// How many bytes the body has.
    #[must_use]
    pub fn body_size(&self) -> u64 {
        self.0.body_size()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.0.body()
    }

    /// A part of the body; shorter, or empty, at its end.
    #[must_use]
    pub fn read_body(&self, offset: u64, len: u32) -> Vec<u8> {
        self.0.read_body(offset, len)
    }

    /// The body as text, if it is UTF-8.
    #[must_use]
    pub fn body_text(&self) -> Option<String> {
        self.0.body_text()
    }

    /// Replaces the body, and the content type if one is given.
    pub fn set_body(&self, body: &[u8], content_type: Option<&str>) -> Result<(), EditError> {
        Ok(self.0.set_body(body, content_type)?)
    }

    /// The same with text.
    pub fn set_body_text(&self, body: &str, content_type: Option<&str>) -> Result<(), EditError> {
        Ok(self.0.set_body_text(body, content_type)?)
    }

    /// The value at an RFC 6901 pointer. The host parses the body, so the plugin needs no JSON library for this.
    #[must_use]
    pub fn json(&self, pointer: &str) -> Option<Json> {
        self.0.json(pointer).map(Json::from)
    }

    /// The text at a pointer, if there is one.
    #[must_use]
    pub fn text(&self, pointer: &str) -> Option<String> {
        match self.json(pointer) {
            Some(Json::Text(text)) => Some(text),
            Some(Json::Null | Json::Boolean(_) | Json::Integer(_) | Json::Number(_) | Json::Composite(_)) | None => {
                None
            }
        }
    }

    /// The values at several pointers in one crossing to the host.
    #[must_use]
    pub fn json_many(&self, pointers: &[String]) -> Vec<Option<Json>> {
        self.0.json_many(pointers).into_iter().map(|value| value.map(Json::from)).collect()
    }

    /// Puts a JSON text at a pointer, adding the last member or element if only its parent is there.
    pub fn json_set(&self, pointer: &str, value: &str) -> Result<(), EditError> {
        Ok(self.0.json_set(pointer, value)?)
    }

    /// Puts a text at a pointer: the same, with the quotes.
    pub fn set_text(&self, pointer: &str, text: &str) -> Result<(), EditError> {
        self.json_set(pointer, &Json::quote(text))
    }

    /// Removes what stands at a pointer; nothing there is no error.
    pub fn json_remove(&self, pointer: &str) -> Result<(), EditError> {
        Ok(self.0.json_remove(pointer)?)
    }

    /// Applies an RFC 7386 merge patch.
    pub fn json_merge(&self, patch: &str) -> Result<(), EditError> {
        Ok(self.0.json_merge(patch)?)
    }
}
