//! Write Weft plugins in Rust: a plugin is one function and one macro.
//!
//! ```
//! use weft_plugin::{Delivery, Failure, Verdict, plugin};
//!
//! fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
//!     if delivery.event_type().starts_with("o2ims.test.") {
//!         return Ok(Verdict::drop("test traffic"));
//!     }
//!     delivery.set_header("x-seen-by", "my-plugin")?;
//!     Ok(Verdict::deliver())
//! }
//!
//! plugin!(handle);
//! ```
//!
//! Compile it with `cargo build --release --target wasm32-wasip2` as a `cdylib`, and put the `.wasm` file into the
//! daemon's plugin directory.

#![deny(unsafe_code)]

use std::fmt;

#[doc(hidden)]
#[allow(unsafe_code, missing_docs, clippy::all, reason = "generated from the contract, wit/plugin.wit")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "plugin",
        pub_export_macro: true,
        default_bindings_module: "weft_plugin::bindings",
        export_macro_name: "export",
    });
}

use bindings::weft::plugin::types;

/// Log lines of the plugin; they appear in the daemon's log with the plugin's name and the delivery's id.
pub mod log {
    use crate::bindings::weft::plugin::log;
    pub use log::Level;

    /// Writes a line with fields. The host bounds how much a call may write.
    pub fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
        if log::enabled(level) {
            let fields: Vec<(String, String)> =
                fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            log::write(level, message, &fields);
        }
    }

    /// Writes a line at level info.
    pub fn info(message: &str) {
        write(Level::Info, message, &[]);
    }

    /// Writes a line at level warn.
    pub fn warn(message: &str) {
        write(Level::Warn, message, &[]);
    }
}

/// What is to become of the delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send it, with the edits made.
    Deliver,
    /// Do not send it, for this reason. That is no failure.
    Drop(String),
    /// Not now: ask again after so many milliseconds.
    Postpone {
        /// From now.
        delay_ms: u32,
        /// For people.
        reason: String,
    },
    /// Give it up, for this reason.
    DeadLetter(String),
}

impl Verdict {
    /// Send it, with the edits made.
    #[must_use]
    pub fn deliver() -> Verdict {
        Verdict::Deliver
    }

    /// Do not send it.
    #[must_use]
    pub fn drop(reason: impl Into<String>) -> Verdict {
        Verdict::Drop(reason.into())
    }

    /// Ask again later.
    #[must_use]
    pub fn postpone(delay_ms: u32, reason: impl Into<String>) -> Verdict {
        Verdict::Postpone { delay_ms, reason: reason.into() }
    }

    /// Give it up.
    #[must_use]
    pub fn dead_letter(reason: impl Into<String>) -> Verdict {
        Verdict::DeadLetter(reason.into())
    }
}

/// The plugin could not reach a verdict; the operator's `on_error` decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work next time.
    Transient(String),
    /// It will be the same next time.
    Permanent(String),
}

/// An edit that the host refused becomes a failure that no retry mends.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Permanent(error.to_string())
    }
}

/// Why a header edit was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Not a header name.
    InvalidName,
    /// Not a header value; line breaks never are.
    InvalidValue,
    /// One of the host's own headers.
    Reserved,
    /// Too many, or too large.
    TooLarge,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderError::InvalidName => "not a valid header name",
            HeaderError::InvalidValue => "not a valid header value",
            HeaderError::Reserved => "this header is the host's own",
            HeaderError::TooLarge => "too many or too large headers",
        })
    }
}

impl std::error::Error for HeaderError {}

/// Why a body edit was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditError {
    /// The body, or the value to put into it, is not JSON.
    NotJson,
    /// Not an RFC 6901 pointer, or nothing there to edit.
    BadPointer,
    /// The body would be too large.
    TooLarge,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EditError::NotJson => "not JSON",
            EditError::BadPointer => "not a JSON pointer to a place in the body",
            EditError::TooLarge => "the body would be too large",
        })
    }
}

impl std::error::Error for EditError {}

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

/// One event on its way to one subscription, and the request that is being made of it. Reading copies only what is
/// asked for; edits take effect only if the verdict is to deliver.
pub struct Delivery<'a>(&'a types::Delivery);

impl<'a> Delivery<'a> {
    #[doc(hidden)]
    #[must_use]
    pub fn new(inner: &'a types::Delivery) -> Delivery<'a> {
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
    /// `time`, `subject`, `source`, `tenant`.
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

    /// This plugin's settings, read into a type of yours. What cannot be read is a permanent failure that says where.
    #[cfg(feature = "serde")]
    pub fn settings<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.settings_text()).map_err(|error| Failure::Permanent(format!("settings: {error}")))
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
        self.0.set_header(name, value).map_err(header_error)
    }

    /// Removes a header; one that is not there is no error.
    pub fn remove_header(&self, name: &str) -> Result<(), HeaderError> {
        self.0.remove_header(name).map_err(header_error)
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

    /// The body as text, if it is UTF-8.
    #[must_use]
    pub fn body_text(&self) -> Option<String> {
        self.0.body_text()
    }

    /// Replaces the body, and the content type if one is given.
    pub fn set_body(&self, body: &[u8], content_type: Option<&str>) -> Result<(), EditError> {
        self.0.set_body(body, content_type).map_err(edit_error)
    }

    /// The value at an RFC 6901 pointer. The host parses the body, so the plugin needs no JSON library for this.
    #[must_use]
    pub fn json(&self, pointer: &str) -> Option<Json> {
        self.0.json(pointer).map(json)
    }

    /// The values at several pointers in one crossing to the host.
    #[must_use]
    pub fn json_many(&self, pointers: &[String]) -> Vec<Option<Json>> {
        self.0.json_many(pointers).into_iter().map(|value| value.map(json)).collect()
    }

    /// Puts a JSON text at a pointer, adding the last member or element if only its parent is there.
    pub fn json_set(&self, pointer: &str, value: &str) -> Result<(), EditError> {
        self.0.json_set(pointer, value).map_err(edit_error)
    }

    /// Removes what stands at a pointer; nothing there is no error.
    pub fn json_remove(&self, pointer: &str) -> Result<(), EditError> {
        self.0.json_remove(pointer).map_err(edit_error)
    }

    /// Applies an RFC 7386 merge patch.
    pub fn json_merge(&self, patch: &str) -> Result<(), EditError> {
        self.0.json_merge(patch).map_err(edit_error)
    }
}

fn json(value: types::JsonValue) -> Json {
    match value {
        types::JsonValue::Null => Json::Null,
        types::JsonValue::Boolean(yes) => Json::Boolean(yes),
        types::JsonValue::Integer(number) => Json::Integer(number),
        types::JsonValue::Number(number) => Json::Number(number),
        types::JsonValue::Text(text) => Json::Text(text),
        types::JsonValue::Composite(text) => Json::Composite(text),
    }
}

fn header_error(error: types::HeaderError) -> HeaderError {
    match error {
        types::HeaderError::InvalidName => HeaderError::InvalidName,
        types::HeaderError::InvalidValue => HeaderError::InvalidValue,
        types::HeaderError::Reserved => HeaderError::Reserved,
        types::HeaderError::TooLarge => HeaderError::TooLarge,
    }
}

fn edit_error(error: types::EditError) -> EditError {
    match error {
        types::EditError::NotJson => EditError::NotJson,
        types::EditError::BadPointer => EditError::BadPointer,
        types::EditError::TooLarge => EditError::TooLarge,
    }
}

#[doc(hidden)]
pub fn answer(decided: Result<Verdict, Failure>) -> Result<types::Verdict, types::Failure> {
    match decided {
        Ok(Verdict::Deliver) => Ok(types::Verdict::Deliver),
        Ok(Verdict::Drop(reason)) => Ok(types::Verdict::Drop(reason)),
        Ok(Verdict::Postpone { delay_ms, reason }) => {
            Ok(types::Verdict::Postpone(types::Postponement { delay_ms, reason }))
        }
        Ok(Verdict::DeadLetter(reason)) => Ok(types::Verdict::DeadLetter(reason)),
        Err(Failure::Transient(why)) => Err(types::Failure::Transient(why)),
        Err(Failure::Permanent(why)) => Err(types::Failure::Permanent(why)),
    }
}

/// Makes a function the plugin: `plugin!(handle);`, once per crate.
#[macro_export]
macro_rules! plugin {
    ($handle:path) => {
        struct WeftPlugin;

        impl $crate::bindings::exports::weft::plugin::filter::Guest for WeftPlugin {
            fn handle(
                delivery: &$crate::bindings::weft::plugin::types::Delivery,
            ) -> Result<
                $crate::bindings::weft::plugin::types::Verdict,
                $crate::bindings::weft::plugin::types::Failure,
            > {
                $crate::answer($handle(&$crate::Delivery::new(delivery)))
            }
        }

        $crate::bindings::export!(WeftPlugin with_types_in $crate::bindings);
    };
}
