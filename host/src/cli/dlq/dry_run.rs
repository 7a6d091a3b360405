//! `weft dlq replay --dry-run --plugin FILE`: what a version of a plugin would do with dead letters. Runs here, on letters
//! that the daemon showed; nothing is replayed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use bytes::Bytes;
use serde::Serialize;

use crate::admin::dead_letters::Letter;
use crate::config;
use crate::event::{BodyForm, Notification};
use crate::plugin::difference::changes;
use crate::plugin::{Call, Config, Decision, Plugins, State};
use crate::request::Draft;
use crate::subscription::{Endpoint, Mode, OnError, PluginUse};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DryRun {
    /// Replay nothing: show what the plugin of --plugin would do with each.
    #[arg(long, requires = "plugin")]
    dry_run: bool,
    /// A compiled plugin, wherever it is.
    #[arg(long, value_name = "FILE.wasm", requires = "dry_run")]
    plugin: Option<PathBuf>,
    /// Its settings, a file of JSON [default: {}].
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    settings: Option<PathBuf>,
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
        let (plugins, step) = self.load().await?;
        let mut results = BTreeMap::new();
        for letter in &letters {
            let shown = show(&plugins, &step, letter).await;
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

    async fn load(&self) -> anyhow::Result<(Plugins, PluginUse)> {
        let file = self.plugin.clone().expect("clap asks for it");
        let settings = match &self.settings {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("--settings {}", file.display()))?,
            None => "{}".to_owned(),
        };
        if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&settings) {
            bail!("--settings: not a JSON object: {error}");
        }
        let plugins = Plugins::load_file(Config::new(""), file.clone()).await?;
        let status = plugins.list().into_iter().next().context("there is no plugin")?;
        if let State::Refused(refusal) = &status.state {
            bail!("{}: {refusal}", file.display());
        }
        let (on_error, mode) = (OnError::Retry, Mode::Live);
        Ok((plugins, PluginUse { name: status.name, settings, settings_revision: 0, on_error, mode }))
    }
}

async fn show(plugins: &Plugins, step: &PluginUse, letter: &Letter) -> Shown {
    let shown = |result, why: String, changes| Shown {
        id: letter.id.clone(),
        subscription_id: letter.subscription_id.clone(),
        result,
        why,
        changes,
    };
    let Some((call, draft)) = original(letter) else {
        return shown("unreadable", "the event is none; a replay would end there too".to_owned(), Vec::new());
    };
    let (decision, _) = plugins.run(std::slice::from_ref(step), call, draft.clone()).await;
    match decision {
        Decision::Deliver { draft: after, .. } => {
            let changes = changes(&draft, &after).iter().map(ToString::to_string).collect();
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
fn original(letter: &Letter) -> Option<(Call, Draft)> {
    let raw = Bytes::copy_from_slice(letter.event.as_ref()?.get().as_bytes());
    let id = || letter.original_id.clone();
    let notification = Notification::parse(raw, BodyForm::WithoutCallback, id).ok()?;
    let endpoint = notification.callback_url.as_deref().and_then(|url| Endpoint::parse(url).ok());
    let event = Arc::new(notification.event);
    let draft = Draft::new(Arc::clone(&event), config::Delivery::default().body_bytes_max);
    let call = Call {
        event,
        subscription_id: notification.subscription_id.unwrap_or_else(|| letter.subscription_id.clone()).into(),
        destination: endpoint.map_or_else(|| "".into(), |endpoint| endpoint.destination),
        entry: letter.original_id.parse().unwrap_or_default(),
        replays: 1,
        run: 0,
        now: SystemTime::now(),
    };
    Some((call, draft))
}
