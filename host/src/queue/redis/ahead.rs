//! Looking ahead: who comes last must not wait until all before are read. One host at a time looks at entries that nobody has
//! received, and some of them are moved ahead: into the schedule, due before all others. A stream cannot let go of an entry in
//! its middle, so that it was moved is remembered until the group comes to it: then it is acknowledged, and handed to nobody.
//!
//! The group's last delivered id decides: what it is past is not moved, so who reads asks afterwards what was moved. Workers
//! of other programs know nothing of that; while any of them is active nobody looks ahead.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use redis::{Value, cmd};

use super::{Error, Redis, millis, reply};
use crate::entry::{Content, Entry, Handle, Stream};
use crate::queue::lookout::{Lookouts, Part};
use crate::queue::{Ahead, SHOWN_BYTES_MAX};

/// Who looked says so for so long; then another may.
const LOOKS_FOR: Duration = Duration::from_secs(1);
/// Entries that one step moves.
const MOVED_MAX: usize = 200;

/// How far this host looked, if it is the one that looks.
#[derive(Debug, Default)]
pub(super) struct Looking(Mutex<Looked>);

#[derive(Debug, Default)]
struct Looked {
    lookouts: Lookouts,
    /// How large an entry was the last time.
    entry_bytes: usize,
}

impl Looking {
    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

/// `KEYS[14]`: what was moved ahead and not yet come to where it waited, by the time of its id.
///
/// `tidy_ahead` forgets some of what nobody will come to any more. What was trimmed after it was moved is not lost.
pub(super) const COMMON: &str = "
local function pass_over(stream, group, id)
  if redis.call('ZREM', KEYS[14], stream .. ':' .. id) == 0 then return false end
  count_acked(stream, redis.call('XACK', KEYS[stream], group, id))
  return true
end
local function tidy_ahead(group)
  local groups = { group_of(1, group), group_of(2, group) }
  for _, member in ipairs(redis.call('ZRANGE', KEYS[14], 0, 99)) do
    local stream, id = tonumber(string.sub(member, 1, 1)), string.sub(member, 3)
    local of = groups[stream]
    if of and padded(id) <= padded(field_of(of, 'last-delivered-id')) then
      if not owner(stream, group, id) then redis.call('ZREM', KEYS[14], member) end
    elseif of and #redis.call('XRANGE', KEYS[stream], id, id) == 0 then
      redis.call('ZREM', KEYS[14], member)
      count_acked(stream, 1)
    end
  end
end
";

/// ARGV: group, host, more than how many must wait, how long the host then is the one that looks. Answers nothing if nobody
/// need look, or another host does; else whether this host begins anew, how many are due before all others; then stream, the
/// last id delivered, the last one there, and the size of the last entry of each stream where so many wait. Redis before 7
/// does not tell how many wait.
pub(super) const LOOK: &str = "
local group, host, beyond = ARGV[1], ARGV[2], tonumber(ARGV[3])
local answer = {}
for stream = 1, 2 do
  local of, there = group_of(stream, group), redis.pcall('XINFO', 'STREAM', KEYS[stream])
  local received = of and field_of(of, 'last-delivered-id')
  if of and not there.err and received ~= field_of(there, 'last-generated-id') then
    local waiting = field_of(of, 'lag')
    if not waiting and field_of(there, 'length') > beyond then
      waiting = #redis.call('XRANGE', KEYS[stream], '(' .. received, '+', 'COUNT', beyond + 1)
    end
    local last = field_of(there, 'last-entry')
    if waiting and waiting > beyond and last then
      local bytes = 0
      for _, part in ipairs(last[2]) do bytes = bytes + #part end
      for _, part in ipairs({ stream, received, last[1], bytes }) do answer[#answer + 1] = part end
    end
  end
end
if #answer == 0 then return answer end
for stream = 1, 2 do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[stream], group)
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    local is_ours = string.find(field_of(consumer, 'name'), '/', 1, true)
    if not is_ours and field_of(consumer, 'idle') < 60000 then return {} end
  end
end
local looker, till = string.match(redis.call('HGET', KEYS[13], 'looker') or '', '^(%S+) (%d+)$')
local is_looked = looker and tonumber(till) > now
if is_looked and looker ~= host then return {} end
redis.call('HSET', KEYS[13], 'looker', host .. ' ' .. string.format('%.0f', now + tonumber(ARGV[4])))
table.insert(answer, 1, redis.call('ZCOUNT', KEYS[3], '-inf', 0))
table.insert(answer, 1, is_looked and 0 or 1)
return answer
";

/// ARGV: group; then stream, id and stored delivery of each entry. Answers how many were moved. One that is in the schedule, or
/// in line, has been received once, before somebody destroyed the group.
pub(super) const MOVE: &str = "
local group, moved, received = ARGV[1], 0, {}
for stream = 1, 2 do
  local of = group_of(stream, group)
  received[stream] = of and padded(field_of(of, 'last-delivered-id'))
end
for at = 2, #ARGV, 3 do
  local stream, id = tonumber(ARGV[at]), ARGV[at + 1]
  local member = stream .. ':' .. id
  local waits = received[stream] and padded(id) > received[stream] and #redis.call('XRANGE', KEYS[stream], id, id) > 0
  local is_elsewhere = redis.call('ZSCORE', KEYS[14], member) or redis.call('HEXISTS', KEYS[4], member) == 1
  if waits and not is_elsewhere then
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    redis.call('HSET', KEYS[4], member, ARGV[at + 2])
    -- In the order of their ids, and before all others.
    redis.call('ZADD', KEYS[3], string.format('%.0f', ms * 1000 + math.min(seq, 999) - 9e15), member)
    redis.call('ZADD', KEYS[14], ms, member)
    moved = moved + 1
  end
end
return moved
";

/// ARGV: group; then stream and id of entries that were just read. Acknowledges those that were moved ahead, and answers which
/// they are, by their place in ARGV. If somebody else has done so it is because this host was taken for dead, and then it asks
/// what it still has before it takes anything in hand.
pub(super) const PASS_OVER: &str = "
local answer = {}
for at = 2, #ARGV, 2 do
  local stream, id = tonumber(ARGV[at]), ARGV[at + 1]
  if pass_over(stream, ARGV[1], id) then answer[#answer + 1] = (at - 2) / 2 end
end
return answer
";

impl Redis {
    pub(super) async fn look(&self, beyond: usize, max: usize) -> Result<Option<Ahead>, Error> {
        let mut look = self.invocation(&self.scripts.look);
        look.arg(&self.keys.group).arg(&self.host_id).arg(beyond).arg(millis(LOOKS_FOR));
        let Some(outlook) = reply::outlook(self.run::<Value>(&look).await?)? else { return Ok(None) };
        let (stream, of, part, max) = {
            let mut looked = self.looking.looked();
            if outlook.is_fresh {
                looked.lookouts.forget();
            }
            let Some((stream, of)) = looked.lookouts.choose(outlook.streams) else { return Ok(None) };
            let entry_bytes = looked.entry_bytes.max(of.last_bytes).max(1);
            let max = max.min(SHOWN_BYTES_MAX / entry_bytes).max(1);
            let part = looked.lookouts.part(stream, of.received, of.newest);
            (stream, of, part, max)
        };
        let entries = self.look_at(stream, part, max).await?;
        let mut looked = self.looking.looked();
        looked.entry_bytes = entries.iter().map(bytes_of).sum::<usize>() / entries.len().max(1);
        let span = entries.first().zip(entries.last()).map(|(first, last)| (first.handle.id, last.handle.id));
        let seen = looked.lookouts.looked(stream, part, span, entries.len() >= max);
        let room = beyond.saturating_sub(outlook.due_first);
        Ok(Some(Ahead {
            stream,
            entries,
            received: of.received,
            is_in_order: seen.is_in_order,
            is_more: seen.is_more,
            room,
        }))
    }

    async fn look_at(&self, stream: Stream, part: Part, max: usize) -> Result<Vec<Entry>, Error> {
        let (name, from, to) = match part {
            Part::Newest { after } => ("XREVRANGE", "+".to_owned(), format!("({after}")),
            Part::Gap { after, before } => ("XRANGE", format!("({after}"), format!("({before}")),
        };
        let mut range = cmd(name);
        range.arg(self.stream_key(stream)).arg(from).arg(to).arg("COUNT").arg(max);
        let mut entries = reply::entries(stream, self.ask(&range).await?)?;
        entries.sort_unstable_by_key(|entry| entry.handle.id);
        Ok(entries)
    }

    fn stream_key(&self, stream: Stream) -> &str {
        match stream {
            Stream::Events => &self.keys.events,
            Stream::Deliveries => &self.keys.deliveries,
        }
    }

    pub(super) async fn overtake(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error> {
        let mut moved = 0;
        for chunk in entries.chunks(MOVED_MAX) {
            let mut overtake = self.invocation(&self.scripts.move_ahead);
            overtake.arg(&self.keys.group);
            for (handle, stored) in chunk {
                overtake.arg(reply::stream_number(handle.stream)).arg(handle.id.to_string()).arg(stored.as_ref());
            }
            moved += self.run::<usize>(&overtake).await?;
        }
        Ok(moved)
    }

    /// What was just read without what was moved ahead before, which is then acknowledged.
    pub(super) async fn without_moved(&self, entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        if entries.is_empty() {
            return Ok(entries);
        }
        let mut pass_over = self.invocation(&self.scripts.pass_over);
        pass_over.arg(&self.keys.group);
        for entry in &entries {
            pass_over.arg(reply::stream_number(entry.handle.stream)).arg(entry.handle.id.to_string());
        }
        let moved: Vec<usize> = self.run(&pass_over).await?;
        let mut moved = moved.into_iter().peekable();
        let is_left = |(at, _): &(usize, Entry)| moved.next_if_eq(at).is_none();
        Ok(entries.into_iter().enumerate().filter(is_left).map(|(_, entry)| entry).collect())
    }
}

fn bytes_of(entry: &Entry) -> usize {
    match &entry.content {
        Content::Fields(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
        Content::Stored(stored) => stored.len(),
    }
}
