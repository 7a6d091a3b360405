//! `weft dlq replay|purge --all`: the daemon does it, line by line, as long as this command runs.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, bail};
use http::Method;

use super::FilterArgs;
use crate::admin::dead_letters::many::Line;
use crate::cli::client::AdminArgs;
use crate::cli::progress::Progress;

/// What was done with how many.
struct Done {
    total: u64,
    /// None that is newer was looked at.
    last: Option<String>,
}

pub(super) async fn replay(admin: &AdminArgs, filter: &FilterArgs, rate: Option<&str>) -> anyhow::Result<()> {
    let count = match Progress::is_seen() {
        true => Some(count(admin, filter).await?),
        false => None,
    };
    let last = count.as_ref().and_then(|count| count.last.as_deref());
    let mut progress = Progress::new("replayed", count.as_ref().map(|count| count.total));
    let path = format!("/v1/dead-letters/replay?{}", filter.query(&[("rate", rate), ("last", last)]));
    let done = follow(admin, Method::POST, &path, |line| {
        if let (Some(id), Some(delivery)) = (&line.id, &line.delivery) {
            progress.say(&format!("{id} {delivery}"));
        }
    });
    let done = done.await;
    progress.end();
    eprintln!("{} replayed", done?.total);
    Ok(())
}

pub(super) async fn would_purge(admin: &AdminArgs, filter: &FilterArgs) -> anyhow::Result<()> {
    eprintln!("{} would be deleted, nothing is", count(admin, filter).await?.total);
    Ok(())
}

pub(super) async fn purge(admin: &AdminArgs, filter: &FilterArgs, yes: bool) -> anyhow::Result<()> {
    let count = count(admin, filter).await?;
    if count.total == 0 {
        eprintln!("0 deleted");
        return Ok(());
    }
    if !yes && !is_confirmed(count.total)? {
        bail!("nothing is deleted");
    }
    let mut progress = Progress::new("deleted", Some(count.total));
    let last = count.last.as_deref();
    let path = format!("/v1/dead-letters?{}", filter.query(&[("all", Some("true")), ("last", last)]));
    let done = follow(admin, Method::DELETE, &path, |_| progress.step()).await;
    progress.end();
    eprintln!("{} deleted", done?.total);
    Ok(())
}

async fn count(admin: &AdminArgs, filter: &FilterArgs) -> anyhow::Result<Done> {
    let path = format!("/v1/dead-letters?{}", filter.query(&[("dry_run", Some("true"))]));
    follow(admin, Method::DELETE, &path, |_| {}).await
}

/// Until the last line.
async fn follow(admin: &AdminArgs, method: Method, path: &str, mut each: impl FnMut(&Line)) -> anyhow::Result<Done> {
    let (mut so_far, mut end) = (0, None);
    let lines = admin.lines(method, path, |line: Line| {
        if line.id.is_some() {
            so_far += 1;
            each(&line);
        }
        if let Some(total) = line.total {
            end = Some((Done { total, last: line.last }, line.error));
        }
        Ok(())
    });
    lines.await.with_context(|| format!("ended after {so_far}; the others are dead letters as before"))?;
    match end {
        Some((done, None)) => Ok(done),
        Some((done, Some(error))) => {
            bail!("{error}; {} were done before this, the others are dead letters as before", done.total)
        }
        None => bail!("the daemon ended after {so_far}; the others are dead letters as before"),
    }
}

fn is_confirmed(total: u64) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("this deletes {total} dead letters for good; say --yes");
    }
    eprint!("delete {total} dead letters for good? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("no answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
