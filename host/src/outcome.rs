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
    /// The subscription was disabled: it had failed for longer than `disable_after`, or its endpoint is gone.
    Disabled,
}

impl DeadReason {
    /// All there are.
    pub const ALL: [DeadReason; 10] = [
        DeadReason::Exhausted,
        DeadReason::Gone,
        DeadReason::Blocked,
        DeadReason::BadUrl,
        DeadReason::Malformed,
        DeadReason::TooLarge,
        DeadReason::Plugin,
        DeadReason::Poison,
        DeadReason::Stale,
        DeadReason::Disabled,
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
            DeadReason::Disabled => "disabled",
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
#[error(
    "not a reason; known are exhausted, gone, blocked, bad-url, malformed, too-large, plugin, poison, stale and disabled"
)]
pub struct UnknownReason;

impl FromStr for DeadReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DeadReason::ALL.into_iter().find(|reason| reason.name() == text).ok_or(UnknownReason)
    }
}

/// What is in the way of a delivery that may not go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Block {
    /// All places of its subscription are taken.
    Places,
    /// All places that failing subscriptions share are taken.
    Failing,
    /// The subscription's rate is used up.
    Rate,
    /// The endpoint asked to be left alone for a while.
    Paused,
    /// The subscription's breaker is open.
    Open,
    /// Others of its subscription are parked, and go first.
    Backlog,
}

impl Block {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Block::Places => "places",
            Block::Failing => "failing",
            Block::Rate => "rate",
            Block::Paused => "paused",
            Block::Open => "open",
            Block::Backlog => "backlog",
        }
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
    /// It may not go now: it waits with others of its subscription until it may. No attempt was used up.
    Parked(Block),
    /// A plugin wants it to go later. No attempt was used up; the chain runs again if it had not reached a verdict.
    Postponed {
        /// From now.
        after: Duration,
        /// For people.
        reason: String,
    },
    /// Given up.
    Dead(DeadReason),
}
