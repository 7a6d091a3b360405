//! Where what a plugin is asked about comes from: files, or standard input.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};

/// A file's content; `-` is standard input.
pub(super) fn read(option: &str, file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.with_context(|| format!("{option} {}", file.display()))?;
    Ok(text)
}

/// Settings out of a file; `{}` if there is none.
pub(in crate::cli) fn settings(file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = file else { return Ok("{}".to_owned()) };
    let text = read("--settings", file)?;
    if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        bail!("--settings {}: not a JSON object: {error}", file.display());
    }
    Ok(text)
}
