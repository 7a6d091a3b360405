//! `weft dlq`: list, show, replay, purge.

use anyhow::bail;
use bytes::Bytes;
use http::Method;

use super::client::AdminArgs;
use crate::admin::dead_letters::{Letter, Page, Replayed};
use dry_run::DryRun;

mod dry_run;

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
    /// Turn dead letters into deliveries again, run by today's plugins.
    Replay {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Delete dead letters for good.
    Purge {
        #[command(flatten)]
        admin: AdminArgs,
        #[command(flatten)]
        which: Which,
        /// Needed with --all: it cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Only of this subscription.
    #[arg(long, value_name = "ID")]
    subscription: Option<String>,
    /// Only that died for this reason: exhausted, gone, blocked, bad-url, malformed, too-large, plugin, poison, stale.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Their ids, as `weft dlq list` shows them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
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
            Dlq::Replay { admin, which, dry_run } if dry_run.is_wanted() => {
                dry_run.run(which.letters(&admin).await?).await
            }
            Dlq::Replay { admin, which, .. } => {
                let ids = which.find(&admin).await?;
                for id in &ids {
                    let path = format!("/v1/dead-letters/{id}/replay");
                    let replayed: Replayed = admin.ask(Method::POST, &path, Bytes::new()).await?;
                    println!("{id} {}", replayed.delivery);
                }
                eprintln!("{} replayed", ids.len());
                Ok(())
            }
            Dlq::Purge { admin, which, yes } => {
                if which.all && !yes {
                    bail!("this deletes all that match, for good; say --yes");
                }
                let ids = which.find(&admin).await?;
                for id in &ids {
                    admin.send(Method::DELETE, &format!("/v1/dead-letters/{id}"), Bytes::new()).await?;
                }
                eprintln!("{} deleted", ids.len());
                Ok(())
            }
        }
    }
}

impl Which {
    async fn find(self, admin: &AdminArgs) -> anyhow::Result<Vec<String>> {
        if !self.all {
            return Ok(self.ids);
        }
        Ok(self.matching(admin).await?.into_iter().map(|letter| letter.id).collect())
    }

    async fn letters(self, admin: &AdminArgs) -> anyhow::Result<Vec<Letter>> {
        if self.all {
            return self.matching(admin).await;
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
                let Letter { id, failed_at, reason, subscription_id, attempts, last_error, .. } = letter;
                println!("{id}  {failed_at}  {reason:<10} {subscription_id:<24} {attempts} attempts  {last_error}");
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
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    for (name, value) in [("subscription", &filter.subscription), ("reason", &filter.reason), ("before", &before)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    admin.ask(Method::GET, &format!("/v1/dead-letters?{}", query.finish()), Bytes::new()).await
}
