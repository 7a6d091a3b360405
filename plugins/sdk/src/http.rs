//! Requests to other servers, for plugins that enrich what they send (feature `http`). The operator has to grant it and says
//! whom the plugin may ask; a plugin that uses it and was not granted it is refused when it is loaded.
//!
//! ```no_run
//! use weft_plugin::{Delivery, Failure, Verdict, http};
//!
//! fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
//!     let pool = delivery.text("/resourcePoolId").unwrap_or_default();
//!     let answer = http::get(&format!("https://inventory.example.com/pools/{pool}"))?;
//!     if answer.status == 200 {
//!         delivery.json_set("/pool", &String::from_utf8_lossy(&answer.body))?;
//!     }
//!     Ok(Verdict::deliver())
//! }
//! ```
//!
//! Redirects are answers like any other. Size, number and time of requests are bounded by the host. A chain may run twice for a
//! delivery: ask for what changes nothing.

use std::fmt;

#[cfg(target_arch = "wasm32")]
mod wasi;

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::http as host;
#[cfg(target_arch = "wasm32")]
use wasi as host;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// With its scheme.
    pub url: &'a str,
    /// Beside those that the host sets.
    pub headers: &'a [(&'a str, &'a str)],
    /// Empty for none.
    pub body: &'a [u8],
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in small letters.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// There is no answer; why, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer(pub String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http: {}", self.0)
    }
}

impl std::error::Error for NoAnswer {}

/// Gets what is at a URL.
pub fn get(url: &str) -> Result<Answer, NoAnswer> {
    ask(&Request { method: "GET", url, headers: &[], body: b"" })
}

/// Sends a request and waits for the whole answer.
pub fn ask(request: &Request<'_>) -> Result<Answer, NoAnswer> {
    host::ask(request)
}
