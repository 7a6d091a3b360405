//! Small state kept beside the queue: shared by all instances of the plugin on all hosts, and by nobody else. The operator
//! has to grant it (`grants = ["state"]`); a plugin that uses it and was not granted it is refused when it is loaded.
//!
//! ```no_run
//! use std::time::Duration;
//! use weft_plugin::{Delivery, Failure, Verdict, state};
//!
//! fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
//!     let minute = Duration::from_secs(60);
//!     if state::increment(&delivery.subscription_id(), 1, minute)? > 100 {
//!         return Ok(Verdict::postpone(60_000, "more than a hundred within a minute"));
//!     }
//!     Ok(Verdict::deliver())
//! }
//! ```
//!
//! A delivery may be asked about twice (`run`, or a host that died in the middle): what is kept for one should be kept under its
//! id, or hold its id, so that it does not meet its own trace.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

#[cfg(target_arch = "wasm32")]
use crate::bindings::weft::plugin::state as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::state as host;

use crate::StateError;

/// What is kept under a key.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    Ok(host::get(key)?)
}

/// The same as text; bytes that are no UTF-8 become U+FFFD.
pub fn get_text(key: &str) -> Result<Option<String>, StateError> {
    Ok(get(key)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Keeps a value, for a time if one is given: `set("a", b"1", None)`, `set("a", b"1", Duration::from_secs(60))`.
pub fn set(key: &str, value: &[u8], lifetime: impl Into<Option<Duration>>) -> Result<(), StateError> {
    Ok(host::set(key, value, milliseconds(lifetime.into()))?)
}

/// The same, if nothing is kept there yet; says whether it was so. Atomic, also between hosts.
pub fn set_if_absent(key: &str, value: &[u8], lifetime: impl Into<Option<Duration>>) -> Result<bool, StateError> {
    Ok(host::set_if_absent(key, value, milliseconds(lifetime.into()))?)
}

/// Adds to a number, which begins at 0, and returns the sum. Atomic. The time counts from its beginning and is not prolonged.
pub fn increment(key: &str, by: i64, lifetime: impl Into<Option<Duration>>) -> Result<i64, StateError> {
    Ok(host::increment(key, by, milliseconds(lifetime.into()))?)
}

/// Forgets a key; one that is not there is no error.
pub fn delete(key: &str) -> Result<(), StateError> {
    Ok(host::delete(key)?)
}

fn milliseconds(lifetime: Option<Duration>) -> Option<u64> {
    lifetime.map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
}
