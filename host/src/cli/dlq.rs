//! `weft dlq`: list, show, replay, purge.

use std::time::SystemTime;

use bytes::Bytes;
use clap::ArgGroup;
use http::Method;

use super::client::AdminArgs;
use crate::admin::dead_letters::moment::{self, NoMoment};
use crate::admin::dead_letters::{Letter, Page, Replayed};
use crate::rate::Rate;
use dry_run::DryRun;

mod dry_run;
mod many;

/// Dead letters fetched at once.
const PAGE: usize = 500;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Dlq {
    /// List dead letters, newest first.
    List {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter with its event, as JSON.
    Show {
        #[command(flatten)]
        admin: AdminArgs,
        /// Its id, as `weft dlq list` shows it.
        id: String,
    },
    /// Turn dead letters into deliveries again, run by today's plugins; with --all the oldest first.
    Replay {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        which: Which,
        /// At most so many in a time, such as 50/s, 90/min or 1000/h. The daemon keeps the pace as long as this command runs.
        #[arg(long, requires = "all", value_parser = rate)]
        rate: Option<String>,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Delete dead letters for good.
    Purge {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        which: Which,
        /// Do not ask. Without it --all asks on a terminal, and refuses elsewhere: it cannot be undone.
        #[arg(long)]
        yes: bool,
        /// Delete nothing: count what would be.
        #[arg(long, requires = "all")]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Only of this subscription.
    #[arg(long, value_name = "ID")]
    subscription: Option<String>,
    /// Only that died for this reason: exhausted, gone, blocked, bad-url, malformed, too-large, plugin, poison, stale,
    /// disabled.
    #[arg(long)]
    reason: Option<String>,
    /// Only that died then or later: 2026-01-08T10:30:00Z, 2026-01-08, or 90m, 12h, 7d for so long ago.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Only that died before.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
}

/// Resolved here and once, so that all requests of one command mean the same.
fn time(text: &str) -> Result<String, NoMoment> {
    moment::parse(text, SystemTime::now()).map(|time| humantime::format_rfc3339_millis(time).to_string())
}

fn rate(text: &str) -> Result<String, &'static str> {
    let rate: Result<Rate, _> = text.parse();
    rate.map(|rate| rate.to_string()).map_err(|_| "rates look like 50/s, 90/min or 1000/h")
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("letters").required(true).args(["ids", "all"])))]
pub(super) struct Which {
    /// Their ids, as `weft dlq list` shows them.
    #[arg(conflicts_with = "FilterArgs")]
    ids: Vec<String>,
    /// All that match the filter.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Dlq {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Dlq::List { admin, filter, limit, json } => list(&admin, &filter, limit, json).await,
            Dlq::Show { admin, id } => {
                let letter: Letter = admin.ask(Method::GET, &format!("/v1/dead-letters/{id}"), Bytes::new()).await?;
                println!("{}", serde_json::to_string_pretty(&letter)?);
                Ok(())
            }
            Dlq::Replay { admin, which, dry_run, .. } if dry_run.is_wanted() => {
                dry_run.run(which.letters(&admin).await?).await
            }
            Dlq::Replay { admin, which, rate, .. } if which.all => {
                many::replay(&admin, &which.filter, rate.as_deref()).await
            }
            Dlq::Replay { admin, which, .. } => {
                for id in &which.ids {
                    let path = format!("/v1/dead-letters/{id}/replay");
                    let replayed: Replayed = admin.ask(Method::POST, &path, Bytes::new()).await?;
                    println!("{id} {}", replayed.delivery);
                }
                eprintln!("{} replayed", which.ids.len());
                Ok(())
            }
            Dlq::Purge { admin, which, dry_run: true, .. } => many::would_purge(&admin, &which.filter).await,
            Dlq::Purge { admin, which, yes, .. } if which.all => many::purge(&admin, &which.filter, yes).await,
            Dlq::Purge { admin, which, .. } => {
                for id in &which.ids {
                    admin.send(Method::DELETE, &format!("/v1/dead-letters/{id}"), Bytes::new()).await?;
                }
                eprintln!("{} deleted", which.ids.len());
                Ok(())
            }
        }
    }
}

impl Letter {
    fn line(&self) -> String {
        let Letter { id, failed_at, reason, subscription_id, attempts, last_error, replays, .. } = self;
        let past = if *replays > 0 { format!(" after {replays} replays") } else { String::new() };
        format!("{id}  {failed_at}  {reason:<10} {subscription_id:<24} {attempts} attempts{past}  {last_error}")
    }
}

impl FilterArgs {
    /// As the API takes it, with what is asked beside it.
    fn query(&self, further: &[(&str, Option<&str>)]) -> String {
        let own = [
            ("subscription", self.subscription.as_deref()),
            ("reason", self.reason.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
        ];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in own.iter().chain(further) {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

impl Which {
    async fn letters(self, admin: &AdminArgs) -> anyhow::Result<Vec<Letter>> {
        if self.all {
            let mut letters = self.matching(admin).await?;
            // As a replay takes them: the oldest first.
            letters.reverse();
            return Ok(letters);
        }
        let mut letters = Vec::new();
        for id in &self.ids {
            letters.push(admin.ask(Method::GET, &format!("/v1/dead-letters/{id}"), Bytes::new()).await?);
        }
        Ok(letters)
    }

    async fn matching(&self, admin: &AdminArgs) -> anyhow::Result<Vec<Letter>> {
        let mut letters = Vec::new();
        let mut before = None;
        loop {
            let page = fetch(admin, &self.filter, before, PAGE).await?;
            letters.extend(page.dead_letters);
            before = page.next;
            if before.is_none() {
                return Ok(letters);
            }
        }
    }
}

async fn list(admin: &AdminArgs, filter: &FilterArgs, limit: usize, json: bool) -> anyhow::Result<()> {
    let (mut left, mut before) = (limit, None);
    while left > 0 {
        let page = fetch(admin, filter, before, left.min(PAGE)).await?;
        for letter in page.dead_letters {
            left -= 1;
            if json {
                println!("{}", serde_json::to_string(&letter)?);
            } else {
                println!("{}", letter.line());
            }
        }
        before = page.next;
        if before.is_none() {
            return Ok(());
        }
    }
    eprintln!("there may be more: --limit");
    Ok(())
}

async fn fetch(admin: &AdminArgs, filter: &FilterArgs, before: Option<String>, limit: usize) -> anyhow::Result<Page> {
    let (limit, before) = (limit.to_string(), before.as_deref());
    let query = filter.query(&[("limit", Some(&limit)), ("before", before)]);
    admin.ask(Method::GET, &format!("/v1/dead-letters?{query}"), Bytes::new()).await
}
