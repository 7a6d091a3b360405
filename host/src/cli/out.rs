//! What commands print. Whoever reads it may go away, as `head` does: then the command ends, and quietly.

use std::fmt;
use std::io::{ErrorKind, Write};

/// What a shell says of a program that SIGPIPE ended, as it ends others in that place.
const READER_GONE: i32 = 141;
const FAILURE: i32 = 1;

/// Writes it, or ends the process: nobody is left to work for.
pub(super) fn write(mut stream: impl Write, words: fmt::Arguments<'_>) {
    if let Err(error) = stream.write_fmt(words) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(READER_GONE);
        }
        // The last place to say so may be what failed.
        let _ = writeln!(std::io::stderr(), "weft: cannot print: {error}");
        std::process::exit(FAILURE);
    }
}
