//! What plugins log: bounded per call, cleaned, and under the target `weft::plugin`.

use tracing::Level;

use super::Limits;
use super::contract::log;
use super::sandbox::Sandbox;
use super::text::clean;

const TARGET: &str = "weft::plugin";

/// Who logs, about what.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub plugin: &'a str,
    pub delivery: &'a str,
}

/// What a call may still log.
pub(super) struct Log {
    lines_left: usize,
    bytes_left: usize,
    dropped: usize,
    /// Lines that are written when the call is over, if they are not written at once.
    held: Option<Vec<(log::Level, String)>>,
}

impl Log {
    /// All of what the limits grant.
    pub(super) fn new(limits: &Limits) -> Log {
        Log { lines_left: limits.log_lines_max, bytes_left: limits.log_bytes_max, dropped: 0, held: None }
    }

    fn is_full(&self) -> bool {
        self.lines_left == 0 || self.bytes_left == 0
    }

    /// Keeps all lines until [`Log::finish`].
    pub(super) fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    fn write(&mut self, origin: Origin<'_>, level: log::Level, line: &str) {
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        let line = clean(line, self.bytes_left);
        self.lines_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(line.len());
        match &mut self.held {
            Some(held) => held.push((level, line)),
            None => emit(origin, level, &line),
        }
    }

    /// Logs what the plugin printed, line by line.
    pub(super) fn printed(&mut self, origin: Origin<'_>, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.write(origin, log::Level::Info, line);
        }
    }

    /// Whether something was left out.
    pub(super) fn is_cut(&self) -> bool {
        self.dropped > 0
    }

    /// Writes what was kept, and says so if something was left out.
    pub(super) fn finish(&mut self, origin: Origin<'_>) {
        for (level, line) in self.held.take().into_iter().flatten() {
            emit(origin, level, &line);
        }
        let Origin { plugin, delivery } = origin;
        if self.dropped > 0 {
            tracing::info!(target: TARGET, plugin, delivery, lines = self.dropped, "more log than is kept");
        }
    }
}

fn emit(origin: Origin<'_>, level: log::Level, line: &str) {
    let Origin { plugin, delivery } = origin;
    match level {
        log::Level::Trace => tracing::trace!(target: TARGET, plugin, delivery, "{line}"),
        log::Level::Debug => tracing::debug!(target: TARGET, plugin, delivery, "{line}"),
        log::Level::Info => tracing::info!(target: TARGET, plugin, delivery, "{line}"),
        log::Level::Warn => tracing::warn!(target: TARGET, plugin, delivery, "{line}"),
        // What wakes a person is the host's to say.
        log::Level::Error => tracing::warn!(target: TARGET, plugin, delivery, severity = "error", "{line}"),
    }
}

/// Whether anybody listens at this level.
fn is_taken(level: log::Level) -> bool {
    match level {
        log::Level::Trace => tracing::enabled!(target: TARGET, Level::TRACE),
        log::Level::Debug => tracing::enabled!(target: TARGET, Level::DEBUG),
        log::Level::Info => tracing::enabled!(target: TARGET, Level::INFO),
        log::Level::Warn | log::Level::Error => tracing::enabled!(target: TARGET, Level::WARN),
    }
}

impl log::Host for Sandbox {
    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        Ok(is_taken(level) && !self.log.is_full())
    }

    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        if !is_taken(level) {
            return Ok(());
        }
        if self.log.is_full() {
            self.log.dropped += 1;
            return Ok(());
        }
        let mut line = message;
        for (name, value) in fields {
            line.extend([" ", &name, "=", &value]);
        }
        // A plugin may also log while it registers itself.
        let delivery = self.input().map(|input| input.call.event.id.clone()).unwrap_or_default();
        let origin = Origin { plugin: &self.terms.name, delivery: &delivery };
        self.log.write(origin, level, &line);
        Ok(())
    }
}
