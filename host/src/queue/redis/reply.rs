//! Reading what Redis answers. By hand and without copies: the client's own types put every entry into a hash map.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use super::Error;
use super::claiming::Claimed;
use crate::entry::{Content, Entry, EntryId, Handle, Place, Stream};

/// The answer of `XREADGROUP` on both streams; nil is none.
pub(super) fn streams(value: Value, events_key: &str) -> Result<Vec<Entry>, Error> {
    let mut all = Vec::new();
    for stream in array(value)? {
        let [key, entries_of] = parts(stream)?;
        let stream = if bytes(key)? == events_key.as_bytes() { Stream::Events } else { Stream::Deliveries };
        all.extend(entries(stream, entries_of)?);
    }
    Ok(all)
}

/// A list of stream entries. Those that were trimmed meanwhile come as nil, or without fields, and are left out.
pub(super) fn entries(stream: Stream, value: Value) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for entry in array(value)? {
        if entry == Value::Nil {
            continue;
        }
        let [id_of, fields] = parts(entry)?;
        if fields == Value::Nil {
            continue;
        }
        entries.push(entry_of(stream, id_of, fields)?);
    }
    Ok(entries)
}

fn entry_of(stream: Stream, id_of: Value, fields: Value) -> Result<Entry, Error> {
    let mut flat = array(fields)?.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        pairs.push((bytes(name)?, bytes(value)?));
    }
    let handle = Handle { id: id(&bytes(id_of)?)?, stream, place: Place::Stream };
    Ok(Entry { handle, content: Content::Fields(pairs), condemned: None })
}

/// The answer of the script that takes due deliveries: what is due, and how long until the next one is.
pub(super) fn due(value: Value) -> Result<(Vec<Claimed>, Option<Duration>), Error> {
    let mut parts = array(value)?.into_iter();
    let (Some(lease), Some(next)) = (parts.next(), parts.next()) else { return Err(unexpected("a script's answer")) };
    let lease = number(&bytes(lease)?)?;
    let next = match next {
        Value::Int(ms) => u64::try_from(ms).ok().map(Duration::from_millis),
        _ => return Err(unexpected("a script's answer")),
    };
    let mut entries = Vec::with_capacity(parts.len() / 3);
    while let (Some(member), Some(data), Some(from)) = (parts.next(), parts.next(), parts.next()) {
        let (stream, id) = split_member(&bytes(member)?)?;
        let handle = Handle { id, stream, place: Place::Schedule { lease } };
        let entry = Entry { handle, content: Content::Stored(bytes(data)?), condemned: None };
        entries.push(Claimed { entry, is_stale: false, from: text(from)? });
    }
    Ok((entries, next))
}

/// The answer of the script that claims: how many leases of the dead are over, and the entries.
pub(super) fn claimed(value: Value) -> Result<(u64, Vec<Claimed>), Error> {
    let mut parts = array(value)?.into_iter();
    let leases = count(&parts.next().unwrap_or(Value::Nil))?;
    let mut claimed = Vec::with_capacity(parts.len() / 5);
    while let (Some(stream), Some(id_of), Some(fields)) = (parts.next(), parts.next(), parts.next()) {
        let (Some(is_stale), Some(from)) = (parts.next(), parts.next()) else { return Err(unexpected("a claim")) };
        let stream = if count(&stream)? == 1 { Stream::Events } else { Stream::Deliveries };
        let entry = entry_of(stream, id_of, fields)?;
        claimed.push(Claimed { entry, is_stale: count(&is_stale)? == 1, from: text(from)? });
    }
    Ok((leases, claimed))
}

/// What the script that looks ahead tells, if this host is the one to look.
pub(super) struct Outlook {
    /// It was not before.
    pub(super) is_fresh: bool,
    /// How many are due before all others.
    pub(super) due_first: usize,
    /// Where many wait.
    pub(super) streams: Vec<(Stream, Waiting)>,
}

/// What waits in a stream.
pub(super) struct Waiting {
    /// The last id that was delivered.
    pub(super) received: EntryId,
    /// The last one there.
    pub(super) newest: EntryId,
}

pub(super) fn outlook(value: Value) -> Result<Option<Outlook>, Error> {
    let size = |value: &Value| count(value).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let mut parts = array(value)?.into_iter();
    let (Some(is_fresh), Some(due_first)) = (parts.next(), parts.next()) else { return Ok(None) };
    let mut outlook = Outlook { is_fresh: count(&is_fresh)? == 1, due_first: size(&due_first)?, streams: Vec::new() };
    while let (Some(stream), Some(received), Some(newest)) = (parts.next(), parts.next(), parts.next()) {
        let stream = if count(&stream)? == 1 { Stream::Events } else { Stream::Deliveries };
        let waiting = Waiting { received: id(&bytes(received)?)?, newest: id(&bytes(newest)?)? };
        outlook.streams.push((stream, waiting));
    }
    Ok(Some(outlook))
}

/// The answer of the script that shows what waits: the entries, and whether there may be more.
pub(super) fn shown(stream: Stream, value: Value) -> Result<(Vec<Entry>, bool), Error> {
    let [is_cut, shown] = parts(value)?;
    Ok((entries(stream, shown)?, count(&is_cut)? == 1))
}

/// The answer of the script that settles: how many operations were about what the host has no more, and the number of each
/// that was refused, with why.
pub(super) fn settled(value: Value) -> Result<(u64, Vec<(i64, String)>), Error> {
    let mut parts = array(value)?.into_iter();
    let not_ours = count(&parts.next().unwrap_or(Value::Nil))?;
    let mut refused = Vec::new();
    while let (Some(number), Some(why)) = (parts.next(), parts.next()) {
        let Value::Int(number) = number else { return Err(unexpected("a number")) };
        refused.push((number, text(why)?));
    }
    Ok((not_ours, refused))
}

/// What `XINFO GROUPS` tells of a group.
pub(super) struct Group {
    /// How many nobody has received; unknown to Redis before 7, and when somebody deleted entries.
    pub(super) waiting: Option<u64>,
    pub(super) pending: u64,
    /// The id of the one that was received last.
    pub(super) last: String,
}

/// The group of this name; `None` if there is no such group.
pub(super) fn group(groups: &Value, name: &str) -> Option<Group> {
    let number = |group: &Value, field: &str| match map_value(group, field) {
        Some(Value::Int(count)) => u64::try_from(*count).ok(),
        _ => None,
    };
    let groups = groups.as_sequence().unwrap_or_default();
    let ours = groups
        .iter()
        .find(|group| matches!(map_value(group, "name"), Some(Value::BulkString(found)) if found == name.as_bytes()))?;
    let last = match map_value(ours, "last-delivered-id") {
        Some(Value::BulkString(id)) => String::from_utf8_lossy(id).into_owned(),
        _ => "0".to_owned(),
    };
    Some(Group { waiting: number(ours, "lag"), pending: number(ours, "pending").unwrap_or_default(), last })
}

fn map_value<'a>(map: &'a Value, field: &str) -> Option<&'a Value> {
    let is_field = |name: &Value| matches!(name, Value::BulkString(name) if name == field.as_bytes());
    map.as_map_iter()?.find(|(name, _)| is_field(name)).map(|(_, value)| value)
}

/// Members of the schedule are `1:<id>` for the events stream and `2:<id>` for deliveries.
pub(super) fn stream_number(stream: Stream) -> u8 {
    match stream {
        Stream::Events => 1,
        Stream::Deliveries => 2,
    }
}

pub(super) fn split_member(member: &[u8]) -> Result<(Stream, EntryId), Error> {
    match member {
        [b'1', b':', rest @ ..] => Ok((Stream::Events, id(rest)?)),
        [b'2', b':', rest @ ..] => Ok((Stream::Deliveries, id(rest)?)),
        _ => Err(unexpected("a member of the retry schedule")),
    }
}

pub(super) fn id(text: &[u8]) -> Result<EntryId, Error> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| unexpected("an entry id"))
}

fn number(text: &[u8]) -> Result<u64, Error> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| unexpected("a number"))
}

fn count(value: &Value) -> Result<u64, Error> {
    match value {
        Value::Int(count) => u64::try_from(*count).map_err(|_| unexpected("a count")),
        _ => Err(unexpected("a count")),
    }
}

fn text(value: Value) -> Result<String, Error> {
    bytes(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn array(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected("a list")),
    }
}

fn parts<const N: usize>(value: Value) -> Result<[Value; N], Error> {
    array(value)?.try_into().map_err(|_| unexpected("a list's length"))
}

fn bytes(value: Value) -> Result<Bytes, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into_bytes().into()),
        _ => Err(unexpected("a string")),
    }
}

fn unexpected(what: &str) -> Error {
    Error::Corrupt(format!("Redis answered with something else than {what}: do other programs write to Weft's keys?"))
}
