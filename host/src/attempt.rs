//! One try of a delivery and what came of it.

use http::StatusCode;

/// When an answer asked not to be tried again before (`Retry-After`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// After so many seconds.
    Seconds(u64),
    /// Not before this time.
    Date(std::time::SystemTime),
}

impl RetryAfter {
    /// Reads the header's value; what is neither seconds nor an HTTP date is ignored, as RFC 9110 has it.
    #[must_use]
    pub fn parse(value: &str) -> Option<RetryAfter> {
        let value = value.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(RetryAfter::Seconds(value.parse().unwrap_or(u64::MAX)));
        }
        httpdate::parse_http_date(value).ok().map(RetryAfter::Date)
    }
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoAnswer {
    /// Connect, send and answer together took longer than `delivery.timeout`.
    Timeout,
    /// The host's name has no address.
    Dns,
    /// No connection could be made.
    Connect,
    /// TLS failed.
    Tls,
    /// The connection broke, or what came is not HTTP.
    Broken,
}

impl NoAnswer {
    /// All there are.
    pub const ALL: [NoAnswer; 5] =
        [NoAnswer::Timeout, NoAnswer::Dns, NoAnswer::Connect, NoAnswer::Tls, NoAnswer::Broken];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NoAnswer::Timeout => "timeout",
            NoAnswer::Dns => "dns",
            NoAnswer::Connect => "connect",
            NoAnswer::Tls => "tls",
            NoAnswer::Broken => "broken",
        }
    }
}

/// Why a request that is no delivery has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// The address must not be reached.
    Blocked,
    /// The host's name cannot be resolved.
    Dns,
    /// Nobody listens there.
    Connect,
    /// No TLS with whoever listens.
    Tls,
    /// The certificate of whoever listens is not to be trusted.
    Certificate,
    /// The answer is larger than it may be.
    TooLarge,
    /// The connection broke off, or what came is no HTTP.
    Broken,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// The endpoint answered.
    Answered {
        /// With this status.
        status: StatusCode,
        /// And this wish, if any.
        retry_after: Option<RetryAfter>,
    },
    /// No answer came.
    Unanswered {
        /// Why.
        why: NoAnswer,
        /// In words.
        error: String,
    },
    /// The address must not be reached; nothing was sent.
    Blocked {
        /// Which address and why.
        error: String,
    },
    /// A plugin could not reach a verdict; nothing was sent.
    PluginFailed {
        /// Which plugin and why.
        error: String,
        /// Whether trying again may help.
        lasting: Lasting,
    },
    /// A plugin gave the delivery up; nothing was sent.
    GivenUp {
        /// Which plugin and why.
        error: String,
    },
    /// The subscription is disabled; nothing was sent.
    Disabled {
        /// Why it is.
        error: String,
    },
}

/// Whether a failure is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lasting {
    /// It may pass.
    Transient,
    /// It will be the same next time.
    Permanent,
}

impl AttemptResult {
    /// Its name in logs and metrics: the status, or why there was none.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            AttemptResult::Answered { status, .. } => status.as_str().to_owned(),
            AttemptResult::Unanswered { why, .. } => why.name().to_owned(),
            AttemptResult::Blocked { .. } => "blocked".to_owned(),
            AttemptResult::PluginFailed { .. } => "plugin-failed".to_owned(),
            AttemptResult::GivenUp { .. } => "given-up".to_owned(),
            AttemptResult::Disabled { .. } => "disabled".to_owned(),
        }
    }

    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            AttemptResult::Answered { status, .. } => Some(*status),
            AttemptResult::Unanswered { .. }
            | AttemptResult::Blocked { .. }
            | AttemptResult::PluginFailed { .. }
            | AttemptResult::GivenUp { .. }
            | AttemptResult::Disabled { .. } => None,
        }
    }

    /// What went wrong, for people; `None` if nothing did.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            AttemptResult::Answered { status, .. } if status.is_success() => None,
            AttemptResult::Answered { status, .. } => Some(format!("the endpoint answered {status}")),
            AttemptResult::Unanswered { error, .. }
            | AttemptResult::Blocked { error }
            | AttemptResult::PluginFailed { error, .. }
            | AttemptResult::GivenUp { error }
            | AttemptResult::Disabled { error } => Some(error.clone()),
        }
    }
}
