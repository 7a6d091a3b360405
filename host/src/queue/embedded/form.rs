//! How the embedded queue writes entries and dead letters. Every form starts with its version.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::entry::{DeadLetter, EntryId};
use crate::queue::Error;
use crate::stored::{self, unix_ms};

const VERSION: u8 = 1;

/// Version, then for each name and value its length and its bytes.
pub(super) fn encode_fields<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut form = vec![VERSION];
    for (name, value) in fields {
        for part in [name, value] {
            form.put_u32_le(u32::try_from(part.len()).expect("larger events are refused"));
            form.extend_from_slice(part);
        }
    }
    form
}

pub(super) fn decode_fields(form: &Bytes) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let mut rest = form.clone();
    if rest.try_get_u8().ok() != Some(VERSION) {
        return Err(unreadable("entry"));
    }
    let mut fields = Vec::new();
    while rest.has_remaining() {
        let mut part = || {
            let length = rest.try_get_u32_le().map_err(|_| unreadable("entry"))? as usize;
            if length > rest.len() { Err(unreadable("entry")) } else { Ok(rest.split_to(length)) }
        };
        fields.push((part()?, part()?));
    }
    Ok(fields)
}

#[derive(Serialize, Deserialize)]
struct LetterV1 {
    v: u8,
    event: String,
    original_ms: u64,
    original_seq: u64,
    failed_at_ms: u64,
    subscription_id: String,
    reason: String,
    attempts: u32,
    last_status: Option<u16>,
    last_error: String,
    first_seen_ms: u64,
    replays: u32,
    died_before: String,
    raw: Vec<(String, String)>,
}

pub(super) fn encode_letter(letter: &DeadLetter) -> Vec<u8> {
    let text = |bytes: &Bytes| STANDARD.encode(bytes);
    let form = LetterV1 {
        v: VERSION,
        event: text(&letter.event),
        original_ms: letter.original_id.ms,
        original_seq: letter.original_id.seq,
        failed_at_ms: unix_ms(letter.failed_at),
        subscription_id: letter.subscription_id.clone(),
        reason: letter.reason.name().to_owned(),
        attempts: letter.attempts,
        last_status: letter.last_status,
        last_error: letter.last_error.clone(),
        first_seen_ms: unix_ms(letter.first_seen),
        replays: letter.replays,
        died_before: stored::join(&letter.died_before),
        raw: letter.raw.iter().map(|(name, value)| (text(name), text(value))).collect(),
    };
    serde_json::to_vec(&form).expect("texts and numbers are always JSON")
}

pub(super) fn decode_letter(form: &[u8]) -> Result<DeadLetter, Error> {
    let form: LetterV1 = serde_json::from_slice(form).map_err(|_| unreadable("dead letter"))?;
    let bytes = |text: String| STANDARD.decode(text).map(Bytes::from).map_err(|_| unreadable("dead letter"));
    let time = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    let raw = form.raw.into_iter().map(|(name, value)| Ok((bytes(name)?, bytes(value)?)));
    Ok(DeadLetter {
        original_id: EntryId::new(form.original_ms, form.original_seq),
        failed_at: time(form.failed_at_ms),
        subscription_id: form.subscription_id,
        reason: form.reason.parse().map_err(|_| unreadable("dead letter"))?,
        attempts: form.attempts,
        last_status: form.last_status,
        last_error: form.last_error,
        first_seen: time(form.first_seen_ms),
        replays: form.replays,
        died_before: stored::split(&form.died_before),
        raw: raw.collect::<Result<_, Error>>()?,
        event: bytes(form.event)?,
    })
}

fn unreadable(what: &str) -> Error {
    Error::Corrupt(format!("an {what} in the embedded queue cannot be read: was the file written by a newer Weft?"))
}
