//! Log lines of the plugin; they appear in the daemon's log with the plugin's name and the delivery's id.
//!
//! ```no_run
//! use weft_plugin::log::{self, Level};
//!
//! log::info("nothing to do");
//! log::write(Level::Warn, "no such pool", &[("pool", "pool-1")]);
//! ```

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

#[cfg(target_arch = "wasm32")]
use crate::bindings::weft::plugin::log as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::log as host;

pub use crate::bindings::weft::plugin::log::Level;

/// Writes a line with fields. The host bounds how much a call may write.
pub fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    if host::enabled(level) {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        host::write(level, message, &fields);
    }
}

/// Writes a line at level debug.
pub fn debug(message: &str) {
    write(Level::Debug, message, &[]);
}

/// Writes a line at level info.
pub fn info(message: &str) {
    write(Level::Info, message, &[]);
}

/// Writes a line at level warn.
pub fn warn(message: &str) {
    write(Level::Warn, message, &[]);
}
