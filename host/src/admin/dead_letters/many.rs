//! Replaying and purging all dead letters that match a filter: oldest first, those that were there when it began, and a
//! line of the answer for each. Each is one atomic step, so that whatever ends it leaves none half-way: what is not done
//! yet is still a dead letter. It ends when nobody reads the answer any more.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Words;
use crate::admin::lines::{self, Lines};
use crate::admin::{Admin, Refusal};
use crate::entry::EntryId;
use crate::queue::{self, Filter, Start};
use crate::rate::{Pace, Rate};

/// Looked for at once.
const FOUND_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("it is more than none");
/// Something is said at least so often, so that both ends know of each other.
const BEAT: Duration = Duration::from_secs(10);

const STOPPING: &str = "the daemon is stopping";

/// Which dead letters, and how.
struct Ask {
    filter: Filter,
    /// None that is newer than this one.
    last: Option<EntryId>,
    /// At most so many in a time: `50/s`.
    rate: Option<Rate>,
    dry_run: bool,
    /// Needed to purge without a filter.
    all: bool,
}

impl Ask {
    fn of(mut words: Words) -> Result<Ask, Refusal> {
        let ask = Ask {
            filter: words.take_filter()?,
            last: words.take("last")?,
            rate: words.take("rate")?,
            dry_run: words.take("dry_run")?.unwrap_or_default(),
            all: words.take("all")?.unwrap_or_default(),
        };
        words.end()?;
        Ok(ask)
    }
}

/// A line of the answer: of one dead letter, or the last one, which has the total. An answer without a last line was cut
/// off.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Line {
    /// The dead letter that is done. A purge names each that is gone, also where somebody else deleted it meanwhile; `total` counts
    /// what it deleted itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The delivery that its replay made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// How many were done; in the last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// None that is newer was looked at; in the last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Why it ended early; in the last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Replays all that match.
pub async fn replay(State(admin): State<Arc<Admin>>, Query(words): Query<Words>) -> Result<Response, Refusal> {
    begin(admin, Ask::of(words)?, Deed::Replay).await
}

/// Deletes all that match, for good.
pub async fn purge(State(admin): State<Arc<Admin>>, Query(words): Query<Words>) -> Result<Response, Refusal> {
    let ask = Ask::of(words)?;
    if ask.filter == Filter::default() && !ask.all && !ask.dry_run {
        return Err(Refusal::bad_request("this would delete all dead letters: give a filter, or all=true"));
    }
    begin(admin, ask, Deed::Purge).await
}

async fn begin(admin: Arc<Admin>, ask: Ask, deed: Deed) -> Result<Response, Refusal> {
    // What dies again meanwhile is newer, and left alone.
    let newest = admin.queue.dead_letters(&Filter::default(), Start::Newest, NonZeroUsize::MIN).await?.letters;
    let newest = newest.first().map_or(EntryId::MIN, |(id, _)| *id);
    let last = ask.last.map_or(newest, |last| last.min(newest));
    Ok(lines::answer(Work {
        admin,
        filter: ask.filter,
        deed: if ask.dry_run { Deed::Nothing } else { deed },
        last,
        next: Some(Start::Oldest),
        found: VecDeque::new(),
        rate: ask.rate,
        pace: Pace::default(),
        total: 0,
        has_ended: false,
    }))
}

/// What is done with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Replay,
    Purge,
    /// It is only named.
    Nothing,
}

struct Work {
    admin: Arc<Admin>,
    filter: Filter,
    deed: Deed,
    last: EntryId,
    /// Where to look for more; `None` at the end.
    next: Option<Start>,
    found: VecDeque<EntryId>,
    rate: Option<Rate>,
    pace: Pace,
    total: u64,
    has_ended: bool,
}

impl Lines for Work {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.has_ended {
            return None;
        }
        let lines = match self.step().await {
            Ok(lines) => lines,
            Err(error) => vec![self.end(Some(error))],
        };
        let text = lines.iter().map(|line| serde_json::to_string(line).expect("texts and numbers are JSON") + "\n");
        let text: String = text.collect();
        // An empty line says that it goes on.
        let text = if text.is_empty() { "\n".to_owned() } else { text };
        Some((text.into(), self))
    }
}

impl Work {
    /// Some lines; none while it looks, or waits for its rate.
    async fn step(&mut self) -> Result<Vec<Line>, String> {
        if self.admin.stop.is_cancelled() {
            return Err(STOPPING.to_owned());
        }
        if self.found.is_empty() {
            let Some(start) = self.next else { return Ok(vec![self.end(None)]) };
            self.look(start).await.map_err(|error| error.to_string())?;
        }
        if self.found.is_empty() {
            // Nothing that would have to wait for the rate.
            return Ok(Vec::new());
        }
        let room = match self.rate {
            None => self.found.len(),
            Some(rate) => self.wait(rate).await?.min(self.found.len()),
        };
        let ids: Vec<EntryId> = self.found.drain(..room).collect();
        if let Some(rate) = self.rate {
            let now = Instant::now();
            ids.iter().for_each(|_| self.pace.spend(rate, now));
        }
        self.deed(&ids).await.map_err(|error| error.to_string())
    }

    async fn look(&mut self, start: Start) -> Result<(), queue::Error> {
        let page = self.admin.queue.dead_letters(&self.filter, start, FOUND_MAX).await?;
        self.found.extend(page.letters.into_iter().map(|(id, _)| id).filter(|id| *id <= self.last));
        self.next = page.next.filter(|next| *next < self.last).map(|next| start.past(next));
        Ok(())
    }

    /// How many may go now; none after a while, for then something has to be said.
    async fn wait(&self, rate: Rate) -> Result<usize, String> {
        let wait = self.pace.wait(rate, Instant::now()).min(BEAT);
        // Both only wait; dropping either loses nothing.
        tokio::select! {
            biased;
            () = self.admin.stop.cancelled() => Err(STOPPING.to_owned()),
            () = tokio::time::sleep(wait) => Ok(self.pace.room(rate, Instant::now())),
        }
    }

    async fn deed(&mut self, ids: &[EntryId]) -> Result<Vec<Line>, queue::Error> {
        let one = |id: &EntryId| Line { id: Some(id.to_string()), ..Line::default() };
        let lines: Vec<Line> = match self.deed {
            Deed::Nothing => ids.iter().map(one).collect(),
            Deed::Purge => {
                let count = self.admin.queue.purge(ids).await?;
                self.total += count as u64;
                return Ok(ids.iter().map(one).collect());
            }
            Deed::Replay => {
                let deliveries = self.admin.queue.replay(ids).await?;
                // Those after one that failed are next, so that the lines of those before it are written first.
                ids.iter().skip(deliveries.len()).rev().for_each(|id| self.found.push_front(*id));
                let done = ids.iter().zip(deliveries).filter_map(|(id, delivery)| Some((id, delivery?)));
                done.map(|(id, delivery)| Line { delivery: Some(delivery.to_string()), ..one(id) }).collect()
            }
        };
        self.total += lines.len() as u64;
        Ok(lines)
    }

    fn end(&mut self, error: Option<String>) -> Line {
        self.has_ended = true;
        Line { total: Some(self.total), last: Some(self.last.to_string()), error, ..Line::default() }
    }
}
