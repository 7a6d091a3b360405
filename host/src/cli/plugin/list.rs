//! `weft plugin list`.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Method;

use crate::admin::plugins::{Breaker, Plugin, State, Usages};
use crate::cli::client::AdminArgs;

/// Digits of a digest that tell plugins apart, as deliveries record them.
const DIGITS: usize = 12;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    admin: AdminArgs,
    /// One JSON object per line, with imports and all counts.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let plugins: Vec<Plugin> = self.admin.ask(Method::GET, "/v1/plugins", Bytes::new()).await?;
        for plugin in &plugins {
            if self.json {
                println!("{}", serde_json::to_string(plugin)?);
            } else {
                print(plugin);
            }
        }
        if plugins.is_empty() {
            eprintln!("there are no plugins: put NAME.wasm into the daemon's plugins.dir");
        }
        Ok(())
    }
}

/// A line, and further ones for what needs a look.
fn print(plugin: &Plugin) {
    let Plugin { name, size, why, .. } = plugin;
    let digest = plugin.sha256.get(..DIGITS).unwrap_or("-");
    let state = match (plugin.state, &plugin.rejected) {
        (State::Waiting, _) => "waiting",
        (State::Ready, None) => "ready",
        (State::Ready, Some(_)) => "ready, but its file has changed to what is refused",
        (State::Refused, _) => "refused",
    };
    let usage = plugin.usage.as_ref().map(in_words).unwrap_or_default();
    let name = on_one_line(name);
    println!("{name:<24} {digest:<DIGITS$} {size:>10}  {state}{usage}");
    let line = |text: &str| println!("{:<24} {text}", "");
    if !plugin.version.is_empty() || !plugin.summary.is_empty() {
        line(format!("version {}: {}", plugin.version, plugin.summary).trim_end_matches(": "));
    }
    match plugin.breaker {
        Breaker::Closed => {}
        Breaker::Open { for_ms } => line(&format!("it keeps failing and is not called, for {for_ms} ms more")),
        Breaker::Probing => line("it kept failing; one call tries whether it still does"),
    }
    if !plugin.grants.is_empty() {
        line(&format!("granted: {}", plugin.grants.join(", ")));
    }
    if let Some(setting) = &plugin.in_vain {
        line(setting);
    }
    if let Some(shadow) = &plugin.shadow {
        line(&format!("in shadow{}", in_words(&shadow.usage)));
        line(&format!("in shadow  {} would have changed, {} not", shadow.changed, shadow.unchanged));
        shadow.places.iter().for_each(|(place, count)| line(&format!("in shadow  {count:>8} {place}")));
    }
    if let Some(why) = why {
        line(why);
    }
    if !plugin.imports.is_empty() {
        line(&format!("imports: {}", in_short(&plugin.imports)));
    }
    // Languages import for all programs what few of them use, so it matters only beside what was granted or refused.
    if !plugin.asked_for.is_empty() && (!plugin.grants.is_empty() || plugin.state == State::Refused) {
        line(&format!("asks for: {}", plugin.asked_for.join(", ")));
    }
}

/// A file may have any name; here it is a word in a line.
fn on_one_line(name: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    name.chars().map(escaped).collect()
}

/// Of WASI the packages, of all else the interfaces, without versions.
fn in_short(imports: &[String]) -> String {
    let short = |import: &String| {
        let (path, _) = import.split_once('@').unwrap_or((import, ""));
        let shown = if path.starts_with("wasi:") { path.split('/').next().unwrap_or(path) } else { path };
        on_one_line(shown)
    };
    imports.iter().map(short).collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(", ")
}

fn in_words(usage: &Usages) -> String {
    let Usages { calls, results, p50_us, p99_us, memory_bytes_max } = usage;
    if *calls == 0 {
        return "  no calls yet".to_owned();
    }
    let results: Vec<String> = results.iter().map(|(result, count)| format!("{count} {result}")).collect();
    let kibibytes = memory_bytes_max / 1024;
    format!("  {calls} calls: {}; p50 {p50_us} µs, p99 {p99_us} µs, {kibibytes} KiB", results.join(", "))
}
