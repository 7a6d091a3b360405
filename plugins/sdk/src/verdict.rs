//! What a plugin says, and why what it asked for cannot be had.

use alloc::string::{String, ToString};
use core::any::Any;
use core::error::Error;
use core::fmt;

use crate::bindings::weft::plugin::{state, types};

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

impl Failure {
    /// It may work next time.
    #[must_use]
    pub fn transient(why: impl Into<String>) -> Failure {
        Failure::Transient(why.into())
    }

    /// It will be the same next time.
    #[must_use]
    pub fn permanent(why: impl Into<String>) -> Failure {
        Failure::Permanent(why.into())
    }
}

/// So that `?` works with every error. No retry mends an edit that the host refused or a number that is none; only a state
/// that does not answer or has no room, and another server, may do so another time.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let why = error.to_string();
        #[cfg(feature = "http")]
        if (&error as &dyn Any).is::<crate::http::NoAnswer>() {
            return Failure::Transient(why);
        }
        match (&error as &dyn Any).downcast_ref() {
            Some(StateError::Unavailable(_) | StateError::Quota) => Failure::Transient(why),
            Some(StateError::TooLarge | StateError::NotANumber) | None => Failure::Permanent(why),
        }
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

impl Error for HeaderError {}

impl From<types::HeaderError> for HeaderError {
    fn from(error: types::HeaderError) -> HeaderError {
        match error {
            types::HeaderError::InvalidName => HeaderError::InvalidName,
            types::HeaderError::InvalidValue => HeaderError::InvalidValue,
            types::HeaderError::Reserved => HeaderError::Reserved,
            types::HeaderError::TooLarge => HeaderError::TooLarge,
        }
    }
}

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

impl Error for EditError {}

impl From<types::EditError> for EditError {
    fn from(error: types::EditError) -> EditError {
        match error {
            types::EditError::NotJson => EditError::NotJson,
            types::EditError::BadPointer => EditError::BadPointer,
            types::EditError::TooLarge => EditError::TooLarge,
        }
    }
}

/// Why state cannot be read or kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateError {
    /// The plugin's quota is used up.
    Quota,
    /// The key or the value is too large.
    TooLarge,
    /// What is to be added to is no number, or the sum would be none.
    NotANumber,
    /// The store does not answer.
    Unavailable(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Quota => f.write_str("state: the quota is used up"),
            StateError::TooLarge => f.write_str("state: the key or the value is too large"),
            StateError::NotANumber => f.write_str("state: no number of 64 bits"),
            StateError::Unavailable(why) => write!(f, "state: {why}"),
        }
    }
}

impl Error for StateError {}

impl From<state::StateError> for StateError {
    fn from(error: state::StateError) -> StateError {
        match error {
            state::StateError::Quota => StateError::Quota,
            state::StateError::TooLarge => StateError::TooLarge,
            state::StateError::NotANumber => StateError::NotANumber,
            state::StateError::Unavailable(why) => StateError::Unavailable(why),
        }
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
