//! What is logged in a test.

use std::cell::RefCell;

use crate::bindings::weft::plugin::log::Level;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn enabled(_: Level) -> bool {
    true
}

pub(crate) fn write(level: Level, message: &str, fields: &[(String, String)]) {
    let level = match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    LINES.with_borrow_mut(|lines| lines.push(format!("{level}: {message}{fields}")));
}

pub(super) fn take() -> Vec<String> {
    LINES.take()
}
