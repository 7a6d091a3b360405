//! Commands that people copy into their shell.

use std::path::Path;

/// A path as one word.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    shlex::try_quote(&text).expect("arguments have no NUL").into_owned()
}
