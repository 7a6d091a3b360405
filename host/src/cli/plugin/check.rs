//! `weft plugin check`.

use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;

use crate::cli::desk::{Desk, Keep, Terms};
use crate::plugin::{Grant, State, Status};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Check {
    /// Compiled plugins, wherever they are.
    #[arg(value_name = "FILE.wasm", required = true)]
    files: Vec<PathBuf>,
    /// One JSON object per file.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    terms: Terms,
}

/// What is known about a file.
#[derive(Serialize)]
struct Found<'a> {
    file: String,
    name: &'a str,
    /// Whether the daemon would take it.
    good: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    size: u64,
    sha256: &'a str,
    compile_ms: u128,
    exports: &'a [String],
    imports: &'a [String],
    /// What the operator has to grant.
    asks: Vec<&'static str>,
    version: &'a str,
    summary: &'a str,
    accepts: &'a [String],
    reusable: bool,
    /// What the configuration sets for it without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_vain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_schema: Option<serde_json::Value>,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut refused = 0;
        for file in &self.files {
            let desk = Desk::open(file, &self.generous(), Keep::Nothing).await?;
            let found = Found::of(desk.status());
            refused += u32::from(!found.good);
            if self.json {
                println!("{}", serde_json::to_string(&found)?);
            } else {
                found.print();
            }
        }
        if refused > 0 {
            bail!("the daemon would refuse {refused} of {}", self.files.len());
        }
        Ok(())
    }

    /// What it asks for is shown, and no reason to refuse it, unless the question is whether a certain daemon would.
    fn generous(&self) -> Terms {
        let mut terms = self.terms.clone();
        if !terms.is_given() {
            terms.grant = vec![Grant::State, Grant::Http];
        }
        terms
    }
}

impl Found<'_> {
    fn of(status: &Status) -> Found<'_> {
        let why = match &status.state {
            State::Refused(refusal) => Some(refusal.to_string()),
            State::Ready | State::Waiting => None,
        };
        let schema = status.about.settings_schema.as_deref();
        Found {
            file: status.file.display().to_string(),
            name: &status.name,
            good: why.is_none(),
            why,
            kind: status.kind.map(|kind| kind.name()),
            size: status.size,
            sha256: &status.digest,
            compile_ms: status.compile.as_millis(),
            exports: &status.exports,
            imports: &status.imports,
            asks: status.asks.iter().map(|grant| grant.name()).collect(),
            version: &status.about.version,
            summary: &status.about.summary,
            accepts: &status.about.accepts,
            reusable: status.about.is_reusable,
            in_vain: status.in_vain(),
            settings_schema: schema.and_then(|schema| serde_json::from_str(schema).ok()),
        }
    }

    fn print(&self) {
        let line = |name: &str, text: &str| {
            if !text.is_empty() {
                println!("  {name:<9} {text}");
            }
        };
        println!("{}: {}", self.file, if self.good { "good" } else { "refused" });
        line("why", self.why.as_deref().unwrap_or_default());
        line("kind", self.kind.unwrap_or_default());
        line("size", &format!("{} bytes, compiled in {} ms", self.size, self.compile_ms));
        line("sha256", self.sha256);
        line("version", self.version);
        line("summary", self.summary);
        line("accepts", &self.accepts.join(", "));
        line("reusable", if self.reusable { "yes: may serve many deliveries in one instance" } else { "" });
        line("but", self.in_vain.as_deref().unwrap_or_default());
        line("exports", &self.exports.join(", "));
        line("imports", &self.imports.join(", "));
        if !self.asks.is_empty() {
            line(
                "asks for",
                &format!("{}; in weft.toml, under [plugins.named.{:?}]:", self.asks.join(", "), self.name),
            );
        }
        for grant in &self.asks {
            let is_http = *grant == Grant::Http.name();
            let mend = if is_http {
                "http = { allow = [\"https://…\"] }".to_owned()
            } else {
                format!("grants = [{grant:?}]")
            };
            line("", &mend);
        }
        if let Some(schema) = &self.settings_schema {
            line("settings", &schema.to_string());
        }
    }
}
