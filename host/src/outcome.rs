//! What becomes of a delivery after an attempt.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a delivery was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeadReason {
    /// All attempts failed.
    Exhausted,
    /// The endpoint answered 410.
    Gone,
    /// The endpoint's address is one that must not be reached.
    Blocked,
    /// The endpoint is not a usable URL.
    BadUrl,
    /// The entry is not an event that Weft can read.
    Malformed,
    /// The event is larger than `delivery.body_bytes_max`.
    TooLarge,
    /// A plugin gave it up.
    Plugin,
    /// The entry was claimed too often without being settled.
    Poison,
    /// The entry had been pending for another program's consumer for too long.
    Stale,
}

impl DeadReason {
    /// All there are.
    pub const ALL: [DeadReason; 9] = [
        DeadReason::Exhausted,
        DeadReason::Gone,
        DeadReason::Blocked,
        DeadReason::BadUrl,
        DeadReason::Malformed,
        DeadReason::TooLarge,
        DeadReason::Plugin,
        DeadReason::Poison,
        DeadReason::Stale,
    ];

    /// Its name in dead letters, metrics and the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "exhausted",
            DeadReason::Gone => "gone",
            DeadReason::Blocked => "blocked",
            DeadReason::BadUrl => "bad-url",
            DeadReason::Malformed => "malformed",
            DeadReason::TooLarge => "too-large",
            DeadReason::Plugin => "plugin",
            DeadReason::Poison => "poison",
            DeadReason::Stale => "stale",
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reason; known are exhausted, gone, blocked, bad-url, malformed, too-large, plugin, poison and stale")]
pub struct UnknownReason;

impl FromStr for DeadReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DeadReason::ALL.into_iter().find(|reason| reason.name() == text).ok_or(UnknownReason)
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint took it.
    Delivered,
    /// A plugin decided that it is not to be delivered, for this reason.
    Dropped(String),
    /// Tried again after this time.
    Retry {
        /// From now.
        after: Duration,
    },
    /// It could not go now. No attempt was used up; the chain runs again if it had not reached a verdict.
    Postponed {
        /// From now.
        after: Duration,
        /// For people.
        reason: String,
    },
    /// Given up.
    Dead(DeadReason),
}
