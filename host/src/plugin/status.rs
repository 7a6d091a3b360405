//! What is known about a plugin's file.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{About, BreakerState, Grant, Kind, Shadowed, Usage};

const NAME_BYTES_MAX: usize = 64;
/// What a component that is a plugin exports.
pub(super) const FILTER: &str = "weft:plugin/filter@0.1.0";
/// What makes a component a program.
pub(super) const RUN: &str = "wasi:cli/run@0.2.0";
/// What makes a core module a program.
pub(super) const START: &str = "_start";

/// What is known about one plugin's file.
#[derive(Debug, Clone)]
pub struct Status {
    /// The file's name without `.wasm`.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// SHA-256 of the content in use in hex; empty if it was not read.
    pub digest: String,
    /// Bytes of it.
    pub size: u64,
    /// Whether it can be called.
    pub state: State,
    /// What the file holds now, if that is no plugin and an earlier content is in use.
    pub rejected: Option<Rejected>,
    /// What it is inside; `None` where that was not found out.
    pub kind: Option<Kind>,
    /// What it exports.
    pub exports: Vec<String>,
    /// The interfaces it imports, which say what it may use.
    pub imports: Vec<String>,
    /// What it was granted, in words.
    pub grants: Vec<String>,
    /// What of that the operator has to grant.
    pub asks: Vec<Grant>,
    /// Deliveries that the operator lets one instance serve, if more than one.
    pub reuse: Option<NonZeroU32>,
    /// What it says about itself.
    pub about: About,
    /// How long compiling took; next to nothing if the result was in the cache.
    pub compile: Duration,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// What this content has done so far; `None` if it cannot be called.
    pub usage: Option<Usage>,
    /// How its breaker is doing.
    pub breaker: BreakerState,
    /// What this content did in shadow; `None` if nothing.
    pub shadowed: Option<Shadowed>,
}

/// What a plugin can be granted, and the interfaces that it imports to use it.
const ASKED_BY: [(&str, &str); 5] = [
    ("state", "weft:plugin/state@"),
    ("clock", "wasi:clocks/"),
    ("random", "wasi:random/"),
    ("http", "wasi:http/"),
    ("env", "wasi:cli/environment@"),
];

impl Status {
    /// What it could be granted and imports the interfaces for. Where its language imports them for all programs it need
    /// not use them, and what a preview 1 program uses cannot be told.
    #[must_use]
    pub fn asked_for(&self) -> Vec<&'static str> {
        let is_imported = |prefix: &str| self.imports.iter().any(|import| import.starts_with(prefix));
        ASKED_BY.into_iter().filter(|(_, prefix)| is_imported(prefix)).map(|(grant, _)| grant).collect()
    }

    /// What the operator set for it that has no effect, in words.
    #[must_use]
    pub fn in_vain(&self) -> Option<String> {
        let reuse = self.reuse.filter(|_| self.state == State::Ready && !self.about.is_reusable)?;
        Some(format!("reuse = {reuse} has no effect: it does not say that an instance may serve many deliveries"))
    }

    /// Of a file that nobody has looked into.
    pub(super) fn waiting(name: &str, file: PathBuf) -> Status {
        Status {
            name: name.to_owned(),
            file,
            digest: String::new(),
            size: 0,
            state: State::Waiting,
            rejected: None,
            kind: None,
            exports: Vec::new(),
            imports: Vec::new(),
            grants: Vec::new(),
            asks: Vec::new(),
            reuse: None,
            about: About::default(),
            compile: Duration::ZERO,
            since: SystemTime::now(),
            usage: None,
            breaker: BreakerState::Closed,
            shadowed: None,
        }
    }
}

/// Whether a plugin can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not yet: its file waits to be compiled, or is being.
    Waiting,
    /// It can.
    Ready,
    /// It cannot.
    Refused(Refusal),
}

/// A content that did not take the place of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its SHA-256 in hex; empty if it was not read.
    pub digest: String,
    /// Bytes of it.
    pub size: u64,
    /// What is wrong with it.
    pub why: Refusal,
    /// Since when.
    pub since: SystemTime,
}

/// Why a file is not a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration names it, and there is no such file.
    #[error("the configuration names it, but there is no such file")]
    Missing,
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// Not a name that goes into settings, logs and metrics.
    #[error("the name must be lower-case letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX} of them")]
    BadName,
    /// Larger than `plugins.file_bytes_max`.
    #[error("larger than {max} bytes (plugins.file_bytes_max)")]
    TooLarge {
        /// That.
        max: u64,
    },
    /// Not the content that the configuration demands.
    #[error("its SHA-256 is {found}, the configuration demands {demanded}")]
    OtherContent {
        /// By the configuration.
        demanded: String,
        /// Of the file.
        found: String,
    },
    /// Not WebAssembly.
    #[error("not a WebAssembly file")]
    NotWasm,
    /// WebAssembly, but not valid, or it uses what is switched off here.
    #[error("does not compile: {0}")]
    Invalid(String),
    /// A component that exports neither the filter nor a program.
    #[error("exports neither {FILTER} nor {RUN}; it exports {}", list(.0))]
    NoFilter(Vec<String>),
    /// A core module that is no program.
    #[error("a core module without {START}: neither a component nor a WASI program; it exports {}", list(.0))]
    NoStart(Vec<String>),
    /// It imports what the operator could grant, and did not.
    #[error("imports what it was not granted: {}; grants stand under [plugins.named] in weft.toml", list(.0))]
    NotGranted(Vec<String>),
    /// It imports what is not offered.
    #[error("imports what is not offered: {}", list(.0))]
    NotOffered(Vec<String>),
    /// It imports or exports the right names with the wrong types.
    #[error("does not fit the contract: {0}")]
    Unfit(String),
    /// What it registered cannot be used.
    #[error("what it registers is not right: {0}")]
    Misdescribed(String),
    /// It cannot even be instantiated within its limits, or its `register` fails.
    #[error("fails before its first call: {0}")]
    Lifeless(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Whether a name can go into settings, logs and metrics.
pub(super) fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_good)
}
