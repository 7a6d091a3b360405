//! What plugins log: bounded per call, cleaned, and under the target `weft::plugin`.

use std::sync::Arc;

use tracing::Level;

use super::Limits;
use super::contract::log;
use super::sandbox::Sandbox;
use super::text::clean;

const TARGET: &str = "weft::plugin";

/// What a call may still log.
pub(super) struct Log {
    plugin: Arc<str>,
    lines_left: usize,
    bytes_left: usize,
    dropped: usize,
}

impl Log {
    /// All of what the limits grant.
    pub(super) fn new(plugin: Arc<str>, limits: &Limits) -> Log {
        Log { plugin, lines_left: limits.log_lines_max, bytes_left: limits.log_bytes_max, dropped: 0 }
    }

    fn is_full(&self) -> bool {
        self.lines_left == 0 || self.bytes_left == 0
    }

    fn write(&mut self, delivery: &str, level: log::Level, line: &str) {
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        let line = clean(line, self.bytes_left);
        self.lines_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(line.len());
        let plugin = &*self.plugin;
        match level {
            log::Level::Trace => tracing::trace!(target: TARGET, plugin, delivery, "{line}"),
            log::Level::Debug => tracing::debug!(target: TARGET, plugin, delivery, "{line}"),
            log::Level::Info => tracing::info!(target: TARGET, plugin, delivery, "{line}"),
            log::Level::Warn => tracing::warn!(target: TARGET, plugin, delivery, "{line}"),
            // What wakes a person is the host's to say.
            log::Level::Error => tracing::warn!(target: TARGET, plugin, delivery, severity = "error", "{line}"),
        }
    }

    /// Logs what the plugin printed, line by line.
    pub(super) fn printed(&mut self, delivery: &str, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            self.write(delivery, log::Level::Info, line);
        }
    }

    /// Says so if something was left out.
    pub(super) fn finish(&self, delivery: &str) {
        if self.dropped > 0 {
            tracing::info!(target: TARGET, plugin = &*self.plugin, delivery, lines = self.dropped, "more log than is kept");
        }
    }
}

impl log::Host for Sandbox {
    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        let taken = match level {
            log::Level::Trace => tracing::enabled!(target: TARGET, Level::TRACE),
            log::Level::Debug => tracing::enabled!(target: TARGET, Level::DEBUG),
            log::Level::Info => tracing::enabled!(target: TARGET, Level::INFO),
            log::Level::Warn | log::Level::Error => tracing::enabled!(target: TARGET, Level::WARN),
        };
        Ok(taken && !self.log.is_full())
    }

    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        if self.log.is_full() {
            self.log.dropped += 1;
            return Ok(());
        }
        let mut line = message;
        for (name, value) in fields {
            line.extend([" ", &name, "=", &value]);
        }
        self.log.write(&self.input.call.event.id, level, &line);
        Ok(())
    }
}
