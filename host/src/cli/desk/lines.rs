//! What a plugin logs, taken down instead of printed.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The target of plugins' lines.
const TARGET: &str = "weft::plugin";

/// A line of a plugin's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Line {
    /// As the plugin named it: trace, debug, info, warn, error.
    pub level: String,
    /// What it says.
    pub text: String,
}

/// The lines so far.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    taken: Arc<Mutex<Vec<Line>>>,
    /// More detailed lines are not taken down.
    level: Level,
}

impl Lines {
    /// Hears what the daemon would, or more if `--log-level` asks for it.
    pub(super) fn listening() -> Lines {
        let level = if tracing::enabled!(target: TARGET, Level::TRACE) {
            Level::TRACE
        } else if tracing::enabled!(target: TARGET, Level::DEBUG) {
            Level::DEBUG
        } else {
            Level::INFO
        };
        Lines { taken: Arc::default(), level }
    }

    pub(super) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.taken.lock().expect("nothing panics while it is locked")
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET && *metadata.level() <= self.level
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = event.metadata().level().as_str().to_lowercase();
        let mut reader = Reader(Line { level, text: String::new() });
        event.record(&mut reader);
        self.lock().push(reader.0);
    }
}

/// Reads the fields that the host's lines about plugins have.
struct Reader(Line);

impl Visit for Reader {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "lines" {
            self.0.text = format!("{} ({value} lines)", self.0.text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // A plugin's errors are warnings in the daemon's log.
        if field.name() == "severity" {
            value.clone_into(&mut self.0.level);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.text = format!("{value:?}{}", self.0.text);
        }
    }
}
