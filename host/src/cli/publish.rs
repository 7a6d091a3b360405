//! `weft publish`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use serde_json::value::RawValue;

use super::client::AdminArgs;
use crate::admin::BATCH_BYTES;
use crate::admin::events::Published;

/// Events in one request.
const BATCH: usize = 500;

#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    #[command(flatten)]
    admin: AdminArgs,
    /// Files with events; `-`, or none at all, is standard input.
    files: Vec<PathBuf>,
    /// Print the entry ids as JSON.
    #[arg(long)]
    json: bool,
}

impl Publish {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let standard_input = [PathBuf::from("-")];
        let files = if self.files.is_empty() { &standard_input } else { self.files.as_slice() };
        // All files are read before the first event is sent, so that a typo in the last one sends nothing.
        let mut events = Vec::new();
        for file in files {
            let text = read(file).with_context(|| format!("cannot read {}", file.display()))?;
            events.extend(split(&text).with_context(|| file.display().to_string())?);
        }
        if events.is_empty() {
            bail!("no events: give files, or JSON on standard input");
        }
        let mut ids = Vec::with_capacity(events.len());
        for batch in batches(&events) {
            let body = Bytes::from(format!("[{}]", batch.join(",")));
            let published: Published = self
                .admin
                .ask(Method::POST, "/v1/events", body)
                .await
                .with_context(|| format!("{} of {} events were published before this", ids.len(), events.len()))?;
            if !self.json {
                published.ids.iter().for_each(|id| println!("{id}"));
            }
            ids.extend(published.ids);
        }
        if self.json {
            println!("{}", serde_json::to_string(&Published { ids })?);
        }
        Ok(())
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file)?.read_to_string(&mut text)
    }?;
    Ok(text)
}

/// So many at once as a daemon takes; one that is larger than all of them may be goes alone, to be taken or refused.
fn batches(events: &[String]) -> impl Iterator<Item = &[String]> {
    let mut left = events;
    std::iter::from_fn(move || {
        let mut bytes = "[]".len();
        let fitting = left.iter().take(BATCH).take_while(|event| {
            bytes += event.len() + ",".len();
            bytes <= BATCH_BYTES
        });
        let count = fitting.count().max(1).min(left.len());
        let (batch, rest) = left.split_at(count);
        left = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The events in a text: objects one after the other, and those in arrays.
fn split(text: &str) -> anyhow::Result<Vec<String>> {
    let mut events = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let value = value.context("not JSON")?.get();
        if value.starts_with('[') {
            let array: Vec<&RawValue> = serde_json::from_str(value)?;
            events.extend(array.iter().map(|event| event.get().to_owned()));
        } else {
            events.push(value.to_owned());
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_arrays_and_lines_are_events() {
        assert_eq!(split("{\"a\":1.0}").unwrap(), ["{\"a\":1.0}"]);
        assert_eq!(split("{}\n{\"b\":[1]}\n").unwrap(), ["{}", "{\"b\":[1]}"]);
        assert_eq!(split("[{}, {\"c\":1}]{}").unwrap(), ["{}", "{\"c\":1}", "{}"]);
        assert!(split("{} nonsense").is_err());
        assert!(split(" \n").unwrap().is_empty());
    }

    #[test]
    fn batches_are_bounded_by_number_and_by_bytes() {
        let sizes = |events: &[String]| batches(events).map(<[String]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&vec!["{}".to_owned(); 1100]), [500, 500, 100]);
        let half = "x".repeat(BATCH_BYTES / 2);
        let (large, small) = ("x".repeat(2 * BATCH_BYTES), "{}".to_owned());
        assert_eq!(sizes(&[half.clone(), half, small.clone(), large, small]), [1, 2, 1, 1]);
    }
}
