//! What a project is compiled of, as far as its age tells whether that was done.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Extensions of what is compiled. Other files are nobody's business: what `make` does not know it does not build anew.
const SOURCES: [&str; 11] = ["c", "go", "h", "js", "mjs", "mod", "py", "rs", "toml", "ts", "wit"];
/// Where toolchains put what they make of it, and what they install.
const MADE: [&str; 7] = ["__pycache__", "build", "node_modules", "target", "types", "venv", "wit_world"];

/// A source that is newer than that; one that cannot be looked at is none.
pub(super) fn newer(dir: &Path, than: SystemTime) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_str()?;
        if name.starts_with('.') || MADE.contains(&name) {
            return None;
        }
        // Not what a link leads to: it may be a directory above.
        if entry.file_type().ok()?.is_dir() {
            return newer(&path, than);
        }
        let is_source = path.extension().is_some_and(|extension| SOURCES.iter().any(|source| extension == *source));
        let is_newer = || std::fs::metadata(&path).and_then(|it| it.modified()).is_ok_and(|changed| changed > than);
        (is_source && is_newer()).then_some(path)
    })
}
