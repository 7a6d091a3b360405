//! How a call of a plugin ends: with a verdict, or in one of a closed list of ways to fail.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::console::TooMuchPrinted;
use super::contract::types::{self, Verdict};
use super::sandbox::{OutOfTime, Refused, Sandbox};
use super::text::clean;
use super::{Asked, Reached};
use crate::attempt::Lasting;

/// Of an error's text.
const ERROR_BYTES_MAX: usize = 1024;
/// Of what the plugin printed, in an error's text.
const PRINTED_BYTES_MAX: usize = 512;
/// Frames of a trap that its error names.
const FRAMES_MAX: usize = 3;

/// How a call ended, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// Verdict `deliver`.
    Deliver,
    /// Verdict `drop`.
    Drop,
    /// Verdict `postpone`.
    Postpone,
    /// Verdict `dead-letter`.
    DeadLetter,
    /// The plugin said that it failed for now.
    Transient,
    /// The plugin said that it failed for good.
    Permanent,
    /// It crashed.
    Trap,
    /// It called `exit`, a program with another code than 0.
    Exit,
    /// A program's answer is not as the contract says.
    Answer,
    /// It made more output than it may.
    Output,
    /// It ran longer than `cpu_max`.
    Cpu,
    /// It took longer than `time_max`.
    Time,
    /// It called itself deeper than `stack_max` allows.
    Stack,
    /// Its tables would have been larger than `table_elements_max`.
    Table,
    /// It asked for more memory than `memory_max` and could not do without.
    Memory,
    /// The subscription's settings for it do not fit its schema.
    Settings,
    /// There is no plugin of that name, or its file was refused.
    Missing,
    /// Too many other calls were going on.
    Busy,
    /// It keeps failing and was not called: its breaker is open.
    Open,
}

impl Ending {
    /// All there are.
    pub const ALL: [Ending; 19] = [
        Ending::Deliver,
        Ending::Drop,
        Ending::Postpone,
        Ending::DeadLetter,
        Ending::Transient,
        Ending::Permanent,
        Ending::Trap,
        Ending::Exit,
        Ending::Answer,
        Ending::Output,
        Ending::Cpu,
        Ending::Time,
        Ending::Stack,
        Ending::Table,
        Ending::Memory,
        Ending::Settings,
        Ending::Missing,
        Ending::Busy,
        Ending::Open,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ending::Deliver => "deliver",
            Ending::Drop => "drop",
            Ending::Postpone => "postpone",
            Ending::DeadLetter => "dead-letter",
            Ending::Transient => "transient",
            Ending::Permanent => "permanent",
            Ending::Trap => "trap",
            Ending::Exit => "exit",
            Ending::Answer => "answer",
            Ending::Output => "output",
            Ending::Cpu => "cpu",
            Ending::Time => "time",
            Ending::Stack => "stack",
            Ending::Table => "table",
            Ending::Memory => "memory",
            Ending::Settings => "settings",
            Ending::Missing => "missing",
            Ending::Busy => "busy",
            Ending::Open => "open",
        }
    }

    pub(super) fn of(answer: &Result<Verdict, Failure>) -> Ending {
        match answer {
            Ok(Verdict::Deliver) => Ending::Deliver,
            Ok(Verdict::Drop(_)) => Ending::Drop,
            Ok(Verdict::Postpone(_)) => Ending::Postpone,
            Ok(Verdict::DeadLetter(_)) => Ending::DeadLetter,
            Err(failure) => failure.ending,
        }
    }
}

/// One call of a plugin, for metrics.
#[derive(Debug, Clone)]
pub struct PluginReport {
    /// Which plugin.
    pub plugin: Arc<str>,
    /// What came of it.
    pub ending: Ending,
    /// From asking for it to its end.
    pub duration: Duration,
    /// Limits that it reached and went on.
    pub reached: Vec<Reached>,
    /// How its requests to other servers ended.
    pub asked: Vec<Asked>,
}

/// Why there is no verdict.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub ending: Ending,
    pub error: String,
}

impl Failure {
    pub(super) fn new(ending: Ending, error: impl AsRef<str>) -> Failure {
        Failure { ending, error: clean(error.as_ref(), ERROR_BYTES_MAX) }
    }

    /// It took too long.
    pub(super) fn late(time_max: Duration) -> Failure {
        Failure::new(Ending::Time, format!("it took longer than time_max, {time_max:?}"))
    }

    /// What a plugin itself calls a failure.
    pub(super) fn said(failure: types::Failure) -> Failure {
        match failure {
            types::Failure::Transient(error) => Failure::new(Ending::Transient, error),
            types::Failure::Permanent(error) => Failure::new(Ending::Permanent, error),
        }
    }

    /// Its breaker is open for so long.
    pub(super) fn open(left: Duration) -> Failure {
        let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Failure::new(Ending::Open, format!("it keeps failing and is not called, for {left:?} more"))
    }

    /// Whether trying again may help: only the plugin itself can know that it will not.
    pub(super) fn lasting(&self) -> Lasting {
        if self.ending == Ending::Permanent { Lasting::Permanent } else { Lasting::Transient }
    }

    /// Finds out why a call broke off.
    pub(super) fn of(error: &wasmtime::Error, sandbox: &Sandbox) -> Failure {
        let limits = &sandbox.terms.limits;
        if error.is::<OutOfTime>() {
            return Failure::new(Ending::Cpu, format!("it ran longer than cpu_max, {:?}", limits.cpu_max));
        }
        if error.is::<TooMuchPrinted>() {
            let error = format!("its answer is larger than output_max, {} bytes", limits.output_bytes_max);
            return Failure::new(Ending::Output, error);
        }
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Failure::new(Ending::Exit, with_printed(format!("it called exit({code})"), sandbox));
        }
        match sandbox.limiter.refused {
            Some(Refused::Memory) => {
                let error = format!("it needs more than memory_max, {} bytes: {}", limits.memory_max, in_words(error));
                return Failure::new(Ending::Memory, error);
            }
            Some(Refused::Table) => {
                let (max, error) = (limits.table_elements_max, in_words(error));
                return Failure::new(Ending::Table, format!("it needs more than table_elements_max, {max}: {error}"));
            }
            None => {}
        }
        if matches!(error.downcast_ref(), Some(Trap::StackOverflow)) {
            return Failure::new(Ending::Stack, format!("it needs more stack than stack_max: {}", in_words(error)));
        }
        Failure::new(Ending::Trap, with_printed(in_words(error), sandbox))
    }
}

/// The cause and where it happened.
fn in_words(error: &wasmtime::Error) -> String {
    let cause = error.downcast_ref::<Trap>().map_or_else(|| error.root_cause().to_string(), ToString::to_string);
    // Its lines read `0: 0x1a - module!function`, with the function's name as the author wrote it.
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string).unwrap_or_default();
    let places = backtrace.lines().filter_map(|line| line.split_once(" - ")).take(FRAMES_MAX);
    let names: Vec<_> = places.map(|(_, place)| place.split_once('!').map_or(place, |(_, name)| name)).collect();
    if names.is_empty() { cause } else { format!("{cause} in {}", names.join(" < ")) }
}

/// A panic's message is on standard error and nowhere else.
fn with_printed(error: String, sandbox: &Sandbox) -> String {
    let printed = clean(&sandbox.printed(), PRINTED_BYTES_MAX);
    if printed.is_empty() { error } else { format!("{error}; it printed: {printed}") }
}
