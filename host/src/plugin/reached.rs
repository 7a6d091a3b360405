//! Limits that a call reached and went on: the plugin was told, or something of it was left out.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// More log than `log_lines_max` or `log_max`: the rest was left out.
    Log,
    /// A header that is too large, or one too many.
    Headers,
    /// A body larger than `delivery.body_bytes_max`.
    Body,
    /// More state than `state_max`, or a key or value that is too large.
    State,
    /// No answer about its state within `state_time_max`, or none at all.
    StateTime,
}

impl Reached {
    /// All there are.
    pub const ALL: [Reached; 5] = [Reached::Log, Reached::Headers, Reached::Body, Reached::State, Reached::StateTime];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reached::Log => "log",
            Reached::Headers => "headers",
            Reached::Body => "body",
            Reached::State => "state",
            Reached::StateTime => "state-time",
        }
    }
}
