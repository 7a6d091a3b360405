//! What lies in the directory: one look at names and stamps. Reads no content.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const EXTENSION: &str = "wasm";

/// A file or directory, whatever its name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

/// What changes when a file's content may have. Size and modification time alone miss a copy that keeps both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that this path leads to, through links. `None` if there is none.
    pub(super) fn of(path: &Path) -> Option<Stamp> {
        std::fs::metadata(path).ok().map(|metadata| Stamp::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Stamp {
        Stamp {
            identity: Identity(metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A plugin's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub file: PathBuf,
    /// `None` where it leads nowhere.
    pub stamp: Option<Stamp>,
}

/// Where a plugin of this name would be.
pub(super) fn file_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{EXTENSION}"))
}

/// The plugin that a file would be; `None` if it is no plugin's file. Hidden ones are some tool's half-written copies.
pub(super) fn name_of(file: &Path) -> Option<String> {
    let name = file.file_stem()?.to_string_lossy().into_owned();
    (file.extension()? == EXTENSION && !name.starts_with('.')).then_some(name)
}

/// The plugins' files by name. A directory that is not there is an empty one.
pub(super) fn scan(dir: &Path) -> std::io::Result<BTreeMap<String, Found>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let file = entry?.path();
        if let Some(name) = name_of(&file) {
            let stamp = Stamp::of(&file);
            found.insert(name, Found { file, stamp });
        }
    }
    Ok(found)
}
