//! Small state that plugins keep: what is asked of it and what it answers. Each plugin has its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Of a key.
pub const KEY_BYTES_MAX: usize = 512;
/// Of a value.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// What a key counts beside its own bytes and its value's, so that many small ones are bounded too.
pub const ENTRY_BYTES: u64 = 64;

/// What a plugin wants done with one of its keys.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose state it is.
    pub plugin: Arc<str>,
    /// Which key.
    pub key: String,
    /// What with it.
    pub act: Act,
    /// Bytes that all of the plugin's state may have.
    pub quota: u64,
}

/// What can be done with a key. A lifetime counts from the act that made the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Reads it.
    Get,
    /// Keeps a value.
    Set {
        /// That.
        value: Bytes,
        /// For how long; without one, for ever.
        lifetime: Option<Duration>,
    },
    /// Keeps a value if there is none.
    SetIfAbsent {
        /// That.
        value: Bytes,
        /// For how long; without one, for ever.
        lifetime: Option<Duration>,
    },
    /// Adds to a number.
    Increment {
        /// So much.
        by: i64,
        /// How long a number that begins here is kept; one that is there keeps its time.
        lifetime: Option<Duration>,
    },
    /// Forgets it.
    Delete,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of [`Act::Get`].
    Value(Option<Bytes>),
    /// Of [`Act::Set`] and [`Act::Delete`].
    Done,
    /// Of [`Act::SetIfAbsent`]: whether it was kept.
    Kept(bool),
    /// Of [`Act::Increment`]: the sum.
    Number(i64),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The plugin's state would be larger than its quota.
    #[error("the quota is used up")]
    Quota,
    /// What is to be added to is no number, or the sum would be none of 64 bits.
    #[error("no number of 64 bits")]
    NotANumber,
    /// The store does not answer.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}
