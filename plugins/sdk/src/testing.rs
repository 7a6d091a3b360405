//! Calls a plugin's function in a plain `#[test]`, without wasm, host or queue: on a delivery that is in memory, with
//! [`state`](crate::state) and [`log`](crate::log) of its own.
//!
//! ```
//! use weft_plugin::{Delivery, Failure, Verdict, testing};
//!
//! fn handle(delivery: &Delivery) -> Result<Verdict, Failure> {
//!     if let Some(object) = delivery.text("/objectRef") {
//!         delivery.set_header("x-object", &object)?;
//!     }
//!     Ok(Verdict::deliver())
//! }
//!
//! let left = testing::event(r#"{"notificationEventType":"o2ims.Resource.Created","objectRef":"/r/1"}"#).call(handle);
//! assert_eq!(left.verdict, Ok(Verdict::deliver()));
//! assert_eq!(left.header("x-object"), Some("/r/1"));
//! ```
//!
//! Settings are not checked against the plugin's schema here, and objects that an edit touches are written without
//! spaces; all else is as the host does it. The host itself judges by fixtures, on the compiled file.

use crate::{Delivery, Failure, Json, Verdict};
pub use double::Double;
pub use kept::State;

mod body;
mod double;
#[cfg(feature = "http")]
pub(crate) mod http;
mod kept;

pub(crate) mod log;
/// As the host's interface of that name.
pub(crate) mod state {
    pub(crate) use super::kept::{delete, get, increment, set, set_if_absent};
}

/// A plugin's function.
type Handle = fn(&Delivery<'_>) -> Result<Verdict, Failure>;

/// A delivery to be asked about. Begin with [`event`].
pub struct Call<'s> {
    double: Double,
    state: Option<&'s mut State>,
    #[cfg(feature = "http")]
    servers: Option<http::Servers>,
}

/// What a call left.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// What the function returned.
    pub verdict: Result<Verdict, Failure>,
    /// The request's headers, in the order of their names; without the edits, unless the verdict is to deliver.
    pub headers: Vec<(String, String)>,
    /// The request's body, likewise.
    pub body: Vec<u8>,
    /// What was logged, as `level: message name=value`.
    pub log: Vec<String>,
}

/// A delivery of this event, JSON as a producer writes it: to `subscriptionId` (`sub-1` if it says none) at `callbackUrl`.
/// Its time is 2026-01-08T10:30:00Z.
///
/// # Panics
/// If it is not a JSON object.
#[must_use]
pub fn event(json: &str) -> Call<'static> {
    Call {
        double: Double::of(json),
        state: None,
        #[cfg(feature = "http")]
        servers: None,
    }
}

impl<'s> Call<'s> {
    /// With these settings, a JSON object.
    #[must_use]
    pub fn settings(mut self, json: &str) -> Call<'s> {
        self.double.settings = json.to_owned();
        self
    }

    /// After the chain ran so often before.
    #[must_use]
    pub fn run(mut self, run: u32) -> Call<'s> {
        self.double.run = run;
        self
    }

    /// As this delivery: the same each time the chain runs for it.
    #[must_use]
    pub fn delivery(mut self, id: &str) -> Call<'s> {
        self.double.delivery = id.to_owned();
        self
    }

    /// After a person replayed it so often.
    #[must_use]
    pub fn replays(mut self, replays: u32) -> Call<'s> {
        self.double.replays = replays;
        self
    }

    /// At this time, in milliseconds since the Unix epoch; state ends by it.
    #[must_use]
    pub fn now_ms(mut self, now: u64) -> Call<'s> {
        self.double.now = now;
        self
    }

    /// With a header that a plugin before it set.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Call<'s> {
        self.double.set_header(name, value).expect("a header that a plugin may set");
        self
    }

    /// With a body that a plugin before it left.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>, content_type: &str) -> Call<'s> {
        self.double.set_body(body.as_ref(), Some(content_type)).expect("a body that a plugin may set");
        self
    }

    /// With what was kept before; otherwise each call begins with nothing.
    #[must_use]
    pub fn state<'n>(self, state: &'n mut State) -> Call<'n> {
        Call {
            double: self.double,
            state: Some(state),
            #[cfg(feature = "http")]
            servers: self.servers,
        }
    }

    /// With other servers that answer like this; without any, every request is denied.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn servers(
        mut self,
        answer: impl Fn(&crate::http::Request<'_>) -> Result<crate::http::Answer, crate::http::NoAnswer> + 'static,
    ) -> Call<'s> {
        self.servers = Some(Box::new(answer));
        self
    }

    /// Asks the plugin.
    #[must_use]
    pub fn call(self, handle: Handle) -> Left {
        #[cfg(feature = "http")]
        http::put(self.servers);
        let Call { double, state, .. } = self;
        let before = double.draft();
        let kept = state.as_ref().map(|state| (**state).clone()).unwrap_or_default();
        kept::put(kept, double.now);
        log::take();
        let verdict = handle(&Delivery::new(&double));
        if let Some(state) = state {
            *state = kept::take();
        }
        let draft = if verdict == Ok(Verdict::Deliver) { double.draft() } else { before };
        Left { verdict, headers: draft.headers.into_iter().collect(), body: draft.body, log: log::take() }
    }
}

impl Left {
    /// A header, by its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The value at a pointer into the body.
    #[must_use]
    pub fn json(&self, pointer: &str) -> Option<Json> {
        body::value(std::str::from_utf8(&self.body).ok()?, pointer).map(Json::from)
    }
}

#[cfg(test)]
mod tests;
