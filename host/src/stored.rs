//! The form in which a delivery waits in the retry schedule, and the fields by which a replayed one keeps its trail.
//! Stored forms carry a version; a host reads its own and the one before (there is none before 1).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::delivery::Trail;
use crate::entry::{DEATHS_MAX, DeadLetter, Death, Entry};
use crate::event::Event;
use crate::request::{Draft, Headers};

const VERSION: u32 = 1;
/// The end of the year 9999: later times have no text.
const LATEST_MS: u64 = 253_402_300_799_999;
const REPLAYS: &str = "replays";
const DIED_BEFORE: &str = "died_before";

/// A delivery between two attempts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) event: Bytes,
    pub(crate) attempt: NonZeroU32,
    pub(crate) run: u32,
    pub(crate) draft: Option<StoredDraft>,
    pub(crate) plugins: Vec<String>,
    pub(crate) trail: Trail,
}

/// A draft without its event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredDraft {
    headers: Headers,
    /// `None` while it is the event's.
    body: Option<Bytes>,
}

/// Why a stored form cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the stored delivery cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    #[error("the stored delivery has version {0}, this host reads {VERSION}")]
    Version(u32),
    #[error("the stored delivery's {0} cannot be read")]
    Part(&'static str),
}

/// Version 1, as JSON, so that an operator can read it with `HGET`.
#[derive(Serialize, Deserialize)]
struct V1 {
    v: u32,
    event: String,
    attempt: NonZeroU32,
    #[serde(default)]
    run: u32,
    first_seen_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    replays: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    died_before: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draft: Option<DraftV1>,
}

#[derive(Serialize, Deserialize)]
struct DraftV1 {
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Stored {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let form = V1 {
            v: VERSION,
            event: String::from_utf8(self.event.to_vec()).expect("an event that was decoded is UTF-8"),
            attempt: self.attempt,
            run: self.run,
            first_seen_ms: unix_ms(self.trail.first_seen),
            replays: self.trail.replays,
            died_before: join(&self.trail.died_before),
            plugins: self.plugins.clone(),
            draft: self.draft.as_ref().map(StoredDraft::to_form),
        };
        serde_json::to_vec(&form).expect("strings and numbers are always JSON").into()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Stored, Error> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let version: Version = serde_json::from_slice(bytes)?;
        if version.v != VERSION {
            return Err(Error::Version(version.v));
        }
        let form: V1 = serde_json::from_slice(bytes)?;
        if form.first_seen_ms > LATEST_MS {
            return Err(Error::Part("first_seen_ms"));
        }
        Ok(Stored {
            event: form.event.into(),
            attempt: form.attempt,
            run: form.run,
            draft: form.draft.map(StoredDraft::from_form).transpose()?,
            plugins: form.plugins,
            trail: Trail {
                first_seen: SystemTime::UNIX_EPOCH + Duration::from_millis(form.first_seen_ms),
                replays: form.replays,
                died_before: split(&form.died_before),
            },
        })
    }
}

impl StoredDraft {
    pub(crate) fn of(draft: &Draft) -> StoredDraft {
        StoredDraft { headers: draft.headers().clone(), body: draft.changed_body().cloned() }
    }

    pub(crate) fn restore(self, event: Arc<Event>, body_bytes_max: usize) -> Draft {
        Draft::restored(event, self.headers, self.body, body_bytes_max)
    }

    fn to_form(&self) -> DraftV1 {
        // Latin-1, so that bytes beyond ASCII survive.
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
        let headers = self.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let (body, body_base64) = match self.body.as_deref().map(|body| (std::str::from_utf8(body), body)) {
            None => (None, None),
            Some((Ok(text), _)) => (Some(text.to_owned()), None),
            Some((Err(_), bytes)) => (None, Some(STANDARD.encode(bytes))),
        };
        DraftV1 { headers, body, body_base64 }
    }

    fn from_form(form: DraftV1) -> Result<StoredDraft, Error> {
        let pair = |(name, value): (String, String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Part("header name"))?;
            let bytes: Option<Vec<u8>> = value.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect();
            let value =
                bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).ok_or(Error::Part("header value"))?;
            Ok((name, value))
        };
        let headers = form.headers.into_iter().map(pair).collect::<Result<Headers, Error>>()?;
        let body = match (form.body, form.body_base64) {
            (Some(text), _) => Some(Bytes::from(text)),
            (None, Some(base64)) => Some(STANDARD.decode(base64).map_err(|_| Error::Part("body"))?.into()),
            (None, None) => None,
        };
        Ok(StoredDraft { headers, body })
    }
}

/// Whether a stream entry's field is one that replay wrote.
pub(crate) fn is_trail_field(name: &[u8]) -> bool {
    name == REPLAYS.as_bytes() || name == DIED_BEFORE.as_bytes()
}

/// What a replayed entry says of its past; an entry that never died has none.
pub(crate) fn trail_of(entry: &Entry, now: SystemTime) -> Trail {
    let text = |name| entry.field(name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    Trail { first_seen: now, replays: text(REPLAYS).parse().unwrap_or_default(), died_before: split(text(DIED_BEFORE)) }
}

/// The fields that tell of a past beside `event`.
pub(crate) fn trail_fields(replays: u32, died_before: &[Death]) -> [(&'static str, String); 2] {
    [(REPLAYS, replays.to_string()), (DIED_BEFORE, join(died_before))]
}

/// The same for the delivery that a replay at this time makes of a dead letter.
pub(crate) fn replayed_fields(letter: &DeadLetter, now: SystemTime) -> [(&'static str, String); 2] {
    trail_fields(letter.replays.saturating_add(1), &letter.deaths(now))
}

/// Deaths as one text, oldest first: `reason@died/replayed`, times as RFC 3339 and left out where not known.
pub(crate) fn join(deaths: &[Death]) -> String {
    let time = |time: Option<SystemTime>| time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    let one = |death: &Death| match (time(death.died), time(death.replayed)) {
        (None, None) => death.reason.name().to_owned(),
        (died, replayed) => {
            format!("{}@{}/{}", death.reason, died.unwrap_or_default(), replayed.unwrap_or_default())
        }
    };
    deaths.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Reads what [`join`] wrote; what this version does not know is left out, and what is beyond the limit.
pub(crate) fn split(text: &str) -> Vec<Death> {
    let one = |text: &str| {
        let (reason, times) = text.split_once('@').unwrap_or((text, ""));
        let (died, replayed) = times.split_once('/').unwrap_or((times, ""));
        let time = |text: &str| humantime::parse_rfc3339(text).ok();
        Some(Death { reason: reason.parse().ok()?, died: time(died), replayed: time(replayed) })
    };
    let mut deaths: Vec<Death> = text.rsplit(',').filter_map(one).take(DEATHS_MAX).collect();
    deaths.reverse();
    deaths
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::DeadReason;

    fn stored(draft: Option<StoredDraft>) -> Stored {
        Stored {
            event: Bytes::from_static("{\"a\":\"é\\u00e9\",\"n\":1.10}".as_bytes()),
            attempt: NonZeroU32::new(3).unwrap(),
            run: 1,
            draft,
            plugins: vec!["redact@abc".to_owned()],
            trail: Trail {
                first_seen: SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_868_200_123),
                replays: 2,
                died_before: vec![
                    Death { reason: DeadReason::Exhausted, died: None, replayed: None },
                    Death { reason: DeadReason::Gone, died: Some(seconds(7)), replayed: Some(seconds(9)) },
                ],
            },
        }
    }

    fn seconds(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_868_200 + seconds)
    }

    #[test]
    fn deaths_are_a_text_that_versions_before_and_after_can_read() {
        let deaths = stored(None).trail.died_before;
        let text = "exhausted,gone@2026-01-08T10:30:07Z/2026-01-08T10:30:09Z";
        assert_eq!((join(&deaths).as_str(), split(text)), (text, deaths));
        assert!(split("").is_empty() && split("boredom,,@/").is_empty());
        let [odd] = split("boredom@x/y,gone@never/2026-01-08T10:30:09Z")[..] else { panic!("one is known") };
        assert_eq!(odd, Death { reason: DeadReason::Gone, died: None, replayed: Some(seconds(9)) });
        let many = split(&format!("stale,{}", ["gone"; DEATHS_MAX].join(",")));
        assert!(many.len() == DEATHS_MAX && many.iter().all(|death| death.reason == DeadReason::Gone));
    }

    #[test]
    fn a_stored_delivery_comes_back_as_it_was() {
        let pairs = [("x-a", &b"caf\xe9"[..]), ("x-b", b"2")];
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        let headers: Headers = pairs.into_iter().map(pair).collect();
        for body in [None, Some(Bytes::from_static(b"text")), Some(Bytes::from_static(b"\xff\0"))] {
            let stored = stored(Some(StoredDraft { headers: headers.clone(), body }));
            assert_eq!(Stored::from_bytes(&stored.to_bytes()).unwrap(), stored);
        }
        assert_eq!(Stored::from_bytes(&stored(None).to_bytes()).unwrap(), stored(None));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let error = Stored::from_bytes(br#"{"v":2,"anything":1}"#).unwrap_err();
        assert_eq!(error.to_string(), "the stored delivery has version 2, this host reads 1");
        assert!(Stored::from_bytes(b"garbage").is_err());
    }

    #[test]
    fn a_time_that_has_no_text_is_refused() {
        let form = |ms: u64| format!(r#"{{"v":1,"event":"{{}}","attempt":1,"first_seen_ms":{ms}}}"#);
        let latest = Stored::from_bytes(form(LATEST_MS).as_bytes()).unwrap().trail.first_seen;
        assert_eq!(humantime::format_rfc3339_millis(latest).to_string(), "9999-12-31T23:59:59.999Z");
        for beyond in [LATEST_MS + 1, u64::MAX] {
            let error = Stored::from_bytes(form(beyond).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "the stored delivery's first_seen_ms cannot be read");
        }
    }
}
