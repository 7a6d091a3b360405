//! `weft dlq replay --dry-run --plugin FILE`: what a version of a plugin would do with dead letters. Runs here, on letters
//! that the daemon showed; nothing is replayed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bytes::Bytes;
use serde::Serialize;

use crate::admin::dead_letters::Letter;
use crate::cli::desk::{Desk, Keep, Question, Terms};
use crate::cli::plugin::source;
use crate::plugin::Decision;
use crate::plugin::difference::changes;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DryRun {
    /// Replay nothing: show which would be, and with --plugin what that plugin would do with each.
    #[arg(long)]
    dry_run: bool,
    /// A compiled plugin, wherever it is.
    #[arg(long, value_name = "FILE.wasm", requires = "dry_run")]
    plugin: Option<PathBuf>,
    /// Its settings, a file of JSON [default: what --config has for the letter's subscription and the plugin of the file's name, or {}].
    #[arg(long, value_name = "FILE", requires = "plugin")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    terms: Terms,
    /// One JSON object per letter.
    #[arg(long, requires = "dry_run")]
    json: bool,
}

/// What would become of one letter.
#[derive(Serialize)]
struct Shown {
    id: String,
    subscription_id: String,
    /// A verdict, `failed`, or `unreadable`.
    result: &'static str,
    /// A verdict's reason, or what went wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    /// What the plugin would have changed.
    changes: Vec<String>,
}

impl DryRun {
    pub(super) fn is_wanted(&self) -> bool {
        self.dry_run
    }

    pub(super) async fn run(self, letters: Vec<Letter>) -> anyhow::Result<()> {
        let Some(file) = self.plugin.clone() else { return self.name(&letters) };
        let (desk, settings) = self.load(&file).await?;
        let settings = settings.as_deref();
        let mut results = BTreeMap::new();
        for letter in &letters {
            let shown = show(&desk, settings, letter).await;
            *results.entry(shown.result).or_insert(0) += 1;
            if self.json {
                println!("{}", serde_json::to_string(&shown)?);
            } else {
                println!("{}  {:<24} {:<12} {}", shown.id, shown.subscription_id, shown.result, shown.why);
                shown.changes.iter().for_each(|change| println!("    {change}"));
            }
        }
        let results: Vec<String> = results.iter().map(|(result, count)| format!("{count} {result}")).collect();
        eprintln!("{} letters, nothing replayed: {}", letters.len(), results.join(", "));
        Ok(())
    }

    fn name(&self, letters: &[Letter]) -> anyhow::Result<()> {
        for letter in letters {
            if self.json { println!("{}", serde_json::to_string(letter)?) } else { println!("{}", letter.line()) }
        }
        eprintln!("{} letters, nothing replayed", letters.len());
        Ok(())
    }

    async fn load(&self, file: &Path) -> anyhow::Result<(Desk, Option<String>)> {
        let settings = self.settings.as_deref().map(|file| source::settings(Some(file))).transpose()?;
        Ok((Desk::load(file, &self.terms, Keep::Code).await?, settings))
    }
}

async fn show(desk: &Desk, settings: Option<&str>, letter: &Letter) -> Shown {
    let shown = |result, why: String, changes| Shown {
        id: letter.id.clone(),
        subscription_id: letter.subscription_id.clone(),
        result,
        why,
        changes,
    };
    let question = match original(desk, settings, letter) {
        Ok(question) => question,
        Err(error) => return shown("unreadable", format!("{error}; a replay would end there too"), Vec::new()),
    };
    let before = question.draft.clone();
    match desk.watch(question).await.decision {
        Decision::Deliver { draft: after, .. } => {
            let changes = changes(&before, &after).iter().map(ToString::to_string).collect();
            shown("deliver", String::new(), changes)
        }
        Decision::Drop { reason, .. } => shown("drop", reason, Vec::new()),
        Decision::Postpone { after, reason, .. } => {
            shown("postpone", format!("{}: {reason}", humantime::format_duration(after)), Vec::new())
        }
        Decision::DeadLetter { reason, .. } => shown("dead-letter", reason, Vec::new()),
        Decision::Failed { error, .. } => shown("failed", error, Vec::new()),
    }
}

/// The delivery as a replay would begin it.
fn original(desk: &Desk, settings: Option<&str>, letter: &Letter) -> anyhow::Result<Question> {
    let event = letter.event.as_ref().context("the event is not JSON")?;
    let raw = Bytes::copy_from_slice(event.get().as_bytes());
    let mut question = desk.question(raw, &letter.original_id, SystemTime::now())?;
    if question.call.subscription_id.is_empty() {
        question.call.subscription_id = letter.subscription_id.as_str().into();
    }
    question.call.replays = 1;
    let on_record = || desk.settings_for(&question.call.subscription_id);
    if let Some(settings) = settings.map(Arc::from).or_else(on_record) {
        question.step = desk.step(&settings);
    }
    Ok(question)
}
