//! `/v1/dead-letters`: list, show, replay, purge; one by one here, many at once in [`many`].

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Admin, Refusal};
use crate::entry::{DeadLetter, Death, EntryId};
use crate::queue::{Filter, Start};

pub mod many;
pub mod moment;

const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

/// The parameters of a question: each is taken by what it is for, and none may be left.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Words(BTreeMap<String, String>);

impl Words {
    fn take<T>(&mut self, name: &str) -> Result<Option<T>, Refusal>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let wrong = |text: &str, error: T::Err| Refusal::bad_request(format!("{name}={text}: {error}"));
        self.0.remove(name).map(|text| text.parse().map_err(|error| wrong(&text, error))).transpose()
    }

    /// Which dead letters are meant.
    fn take_filter(&mut self) -> Result<Filter, Refusal> {
        let now = SystemTime::now();
        let mut time = |name: &str| {
            let text: Option<String> = self.take(name)?;
            let wrong = |text: &str, error| Refusal::bad_request(format!("{name}={text}: {error}"));
            text.map(|text| moment::parse(&text, now).map_err(|error| wrong(&text, error))).transpose()
        };
        let (since, until) = (time("since")?, time("until")?);
        Ok(Filter { subscription_id: self.take("subscription")?, reason: self.take("reason")?, since, until })
    }

    fn end(self) -> Result<(), Refusal> {
        match self.0.into_keys().next() {
            Some(name) => Err(Refusal::bad_request(format!("{name}: there is no such parameter here"))),
            None => Ok(()),
        }
    }
}

/// One page, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// The dead letters.
    pub dead_letters: Vec<Letter>,
    /// Ask with `before` set to this for the next page.
    pub next: Option<String>,
}

/// A dead letter as the API shows it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Letter {
    /// Its id among the dead letters.
    pub id: String,
    /// Whose delivery it was.
    pub subscription_id: String,
    /// Why it was given up.
    pub reason: String,
    /// What went wrong.
    pub last_error: String,
    /// The last answer's status.
    pub last_status: Option<u16>,
    /// How many attempts were made.
    pub attempts: u32,
    /// RFC 3339.
    pub first_seen: String,
    /// RFC 3339.
    pub failed_at: String,
    /// The entry it came from.
    pub original_id: String,
    /// How often it was replayed before.
    pub replays: u32,
    /// How it died before, oldest first; the last ten times.
    pub died_before: Vec<Died>,
    /// The event's JSON, if it is JSON.
    pub event: Option<Box<RawValue>>,
    /// The event as text, if it is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_text: Option<String>,
    /// Further fields of a malformed entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw: Vec<(String, String)>,
}

/// A death that a replay undid.
#[derive(Debug, Serialize, Deserialize)]
pub struct Died {
    /// Why.
    pub reason: String,
    /// When; RFC 3339, absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<String>,
    /// When it was replayed; RFC 3339, absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
}

/// The delivery that a replay made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Replayed {
    /// Its entry id.
    pub delivery: String,
}

/// Lists.
pub async fn list(State(admin): State<Arc<Admin>>, Query(mut words): Query<Words>) -> Result<Json<Page>, Refusal> {
    let filter = words.take_filter()?;
    let start = words.take("before")?.map_or(Start::Newest, Start::Before);
    let limit = words.take("limit")?.unwrap_or(PAGE).min(PAGE_MAX);
    words.end()?;
    let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
    let page = admin.queue.dead_letters(&filter, start, limit).await?;
    let dead_letters = page.letters.iter().map(|(id, letter)| Letter::of(*id, letter)).collect();
    Ok(Json(Page { dead_letters, next: page.next.map(|id| id.to_string()) }))
}

/// Shows one.
pub async fn show(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Result<Json<Letter>, Refusal> {
    let id = entry_id(&id)?;
    let letter = admin.queue.dead_letter(id).await?.ok_or_else(|| missing(id))?;
    Ok(Json(Letter::of(id, &letter)))
}

/// Turns one into a new delivery.
pub async fn replay(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Result<Json<Replayed>, Refusal> {
    let id = entry_id(&id)?;
    let delivery = admin.queue.replay(&[id]).await?.pop().flatten().ok_or_else(|| missing(id))?;
    Ok(Json(Replayed { delivery: delivery.to_string() }))
}

/// Deletes one for good.
pub async fn purge(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let id = entry_id(&id)?;
    if admin.queue.purge(&[id]).await? > 0 { Ok(StatusCode::NO_CONTENT) } else { Err(missing(id)) }
}

impl Letter {
    fn of(id: EntryId, letter: &DeadLetter) -> Letter {
        let event: Option<Box<RawValue>> = serde_json::from_slice(&letter.event).ok();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Letter {
            id: id.to_string(),
            subscription_id: letter.subscription_id.clone(),
            reason: letter.reason.name().to_owned(),
            last_error: letter.last_error.clone(),
            last_status: letter.last_status,
            attempts: letter.attempts,
            first_seen: humantime::format_rfc3339_millis(letter.first_seen).to_string(),
            failed_at: humantime::format_rfc3339_seconds(letter.failed_at).to_string(),
            original_id: letter.original_id.to_string(),
            replays: letter.replays,
            died_before: letter.died_before.iter().map(Died::of).collect(),
            event_text: (event.is_none() && !letter.event.is_empty()).then(|| text(&letter.event)),
            event,
            raw: letter.raw.iter().map(|(name, value)| (text(name), text(value))).collect(),
        }
    }
}

impl Died {
    fn of(death: &Death) -> Died {
        let text = |time: Option<SystemTime>| time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
        Died { reason: death.reason.name().to_owned(), died: text(death.died), replayed: text(death.replayed) }
    }
}

fn entry_id(text: &str) -> Result<EntryId, Refusal> {
    text.parse().map_err(|error| Refusal::bad_request(format!("{text}: {error}")))
}

fn missing(id: EntryId) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no dead letter {id}"))
}
