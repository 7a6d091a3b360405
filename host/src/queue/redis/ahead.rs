//! Looking ahead: who comes last must not wait until all before are read. One host at a time looks at entries that nobody has
//! received, and some of them are moved ahead: into the schedule, due before all others. A stream cannot let go of an entry in
//! its middle, so that it was moved is remembered until the group comes to it: then it is acknowledged, and handed to nobody.
//!
//! The group's last delivered id decides: what it is past is not moved, so who reads asks afterwards what was moved. Workers
//! of other programs know nothing of that; while any of them is active nobody looks ahead.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Value;

use super::{Error, Redis, millis, reply};
use crate::entry::{Entry, Handle, Stream};
use crate::queue::lookout::{Lookouts, Part};
use crate::queue::{Ahead, SHOWN_BYTES_MAX};

/// Who looked says so for so long; then another may. If the last look took long, so many times as long: the next one comes
/// later then.
const LOOKS_FOR: Duration = Duration::from_secs(1);
const LOOKS_FOR_TIMES: u32 = 20;
const LOOKS_FOR_MAX: Duration = Duration::from_secs(30);
/// Entries that one step moves.
const MOVED_MAX: usize = 200;

/// How far this host looked, if it is the one that looks.
#[derive(Debug, Default)]
pub(super) struct Looking(Mutex<Looked>);

#[derive(Debug, Default)]
struct Looked {
    lookouts: Lookouts,
    /// How long the last look took.
    took: Duration,
}

impl Looking {
    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}

/// `KEYS[14]`: what was moved ahead and not yet come to where it waited, in the order of their ids.
///
/// `before_all` is a due time before all that is due by time. Those of one `rank` are in the order of their ids: of equal
/// scores Redis goes by the text, so the score has how many digits the second number has. An id whose first number is no time
/// in milliseconds, but more, is due before all as well.
///
/// `tidy_ahead` forgets some of what nobody will come to any more, and tells whether there is no event left that was trimmed
/// after it was moved: such a one is not lost. What is trimmed is the oldest, so after one that is there are none.
pub(super) const COMMON: &str = "
local MOVED, BROUGHT_BACK = -9e15, -45e14
local function before_all(rank, id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.format('%.0f', rank + math.min(ms * 20 + #seq, 4e15))
end
local function pass_over(stream, group, id)
  if redis.call('ZREM', KEYS[14], stream .. ':' .. id) == 0 then return false end
  count_acked(stream, redis.call('XACK', KEYS[stream], group, id))
  return true
end
local function tidy_ahead(group)
  local groups, members = { group_of(1, group), group_of(2, group) }, redis.call('ZRANGE', KEYS[14], 0, 99)
  local is_done = #members < 100
  for _, member in ipairs(members) do
    local stream, id = tonumber(string.sub(member, 1, 1)), string.sub(member, 3)
    local of = groups[stream]
    if of and padded(id) <= padded(field_of(of, 'last-delivered-id')) then
      if not owner(stream, group, id) then redis.call('ZREM', KEYS[14], member) end
    elseif of and #redis.call('XRANGE', KEYS[stream], id, id) == 0 then
      redis.call('ZREM', KEYS[14], member)
      count_acked(stream, 1)
    elseif stream == 1 then
      is_done = true
    end
  end
  return is_done
end
";

/// ARGV: group, host, more than how many must wait, how long the host then is the one that looks, how many bytes are many.
/// Answers nothing if nobody need look, or another host does; else whether this host begins anew, how many are due before all
/// others; then stream, the last id delivered and the last one there of each stream where so many wait. Redis before 7 does
/// not tell how many wait, and others do not after somebody deleted entries; then so many bytes are enough as well.
pub(super) const LOOK: &str = "
local group, host, beyond = ARGV[1], ARGV[2], tonumber(ARGV[3])
local looker, till = string.match(redis.call('HGET', KEYS[13], 'looker') or '', '^(%S+) (%d+)$')
if looker and looker ~= host and tonumber(till) > now then return {} end
local answer = {}
for stream = 1, 2 do
  local of, there = group_of(stream, group), redis.pcall('XINFO', 'STREAM', KEYS[stream])
  local received = of and field_of(of, 'last-delivered-id')
  if of and not there.err and received ~= field_of(there, 'last-generated-id') then
    local waiting, is_many = field_of(of, 'lag'), false
    if waiting then
      if stream == 1 then waiting = waiting - (redis.call('HGET', KEYS[13], 'over') or 0) end
      is_many = waiting > beyond
    elseif field_of(there, 'length') > beyond then
      local count, bytes = count_after(stream, received, beyond + 1, tonumber(ARGV[5]))
      is_many = count > beyond or bytes >= tonumber(ARGV[5])
    end
    local last = field_of(there, 'last-entry')
    if is_many and last then
      for _, part in ipairs({ stream, received, last[1] }) do answer[#answer + 1] = part end
    end
  end
end
if #answer == 0 or others_are_active(1, group) or others_are_active(2, group) then return {} end
redis.call('HSET', KEYS[13], 'looker', host .. ' ' .. string.format('%.0f', now + tonumber(ARGV[4])))
table.insert(answer, 1, redis.call('ZCOUNT', KEYS[3], '-inf', 0))
table.insert(answer, 1, looker == host and 0 or 1)
return answer
";

/// ARGV: stream, first and last id, `newest` if those at the end are asked for, how many at most, after how many bytes it is
/// enough. Answers whether there may be more, and the entries.
pub(super) const SHOW: &str = "
local stream, first, last, is_newest = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4] == 'newest'
local max, bytes_max, shown, bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), {}, 0
while #shown < max and bytes < bytes_max do
  local size = math.min(PAGE, max - #shown)
  local page
  if is_newest then page = redis.call('XREVRANGE', KEYS[stream], last, first, 'COUNT', size)
  else page = redis.call('XRANGE', KEYS[stream], first, last, 'COUNT', size) end
  for _, entry in ipairs(page) do
    shown[#shown + 1] = entry
    bytes = bytes + bytes_of(entry)
  end
  if #page < size then return { 0, shown } end
  if is_newest then last = '(' .. page[size][1] else first = '(' .. page[size][1] end
end
return { 1, shown }
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
    redis.call('HSET', KEYS[4], member, ARGV[at + 2])
    -- In the order of their ids.
    local due = before_all(MOVED, id)
    redis.call('ZADD', KEYS[3], due, member)
    redis.call('ZADD', KEYS[14], due, member)
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
        let began = Instant::now();
        let looks_for = (self.looking.looked().took * LOOKS_FOR_TIMES).clamp(LOOKS_FOR, LOOKS_FOR_MAX);
        let mut look = self.invocation(&self.scripts.look);
        look.arg(&self.keys.group).arg(&self.host_id).arg(beyond).arg(millis(looks_for)).arg(SHOWN_BYTES_MAX);
        let Some(outlook) = reply::outlook(self.run::<Value>(&look).await?)? else { return Ok(None) };
        let (stream, of, part) = {
            let lookouts = &mut self.looking.looked().lookouts;
            if outlook.is_fresh {
                lookouts.forget();
            }
            let Some((stream, of)) = lookouts.choose(outlook.streams) else { return Ok(None) };
            let part = lookouts.part(stream, of.received, of.newest);
            (stream, of, part)
        };
        let (entries, is_cut) = self.show(stream, part, max).await?;
        let span = entries.first().zip(entries.last()).map(|(first, last)| (first.handle.id, last.handle.id));
        let mut looked = self.looking.looked();
        looked.took = began.elapsed();
        let seen = looked.lookouts.looked(stream, part, span, is_cut);
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

    /// Entries of a part, oldest first, and whether there may be more of them.
    async fn show(&self, stream: Stream, part: Part, max: usize) -> Result<(Vec<Entry>, bool), Error> {
        let (first, last, end) = match part {
            Part::Newest { after } => (format!("({after}"), "+".to_owned(), "newest"),
            Part::Gap { after, before } => (format!("({after}"), format!("({before}"), "oldest"),
        };
        let mut show = self.invocation(&self.scripts.show);
        show.arg(reply::stream_number(stream)).arg(first).arg(last).arg(end).arg(max).arg(SHOWN_BYTES_MAX);
        let (mut entries, is_cut) = reply::shown(stream, self.run(&show).await?)?;
        entries.sort_unstable_by_key(|entry| entry.handle.id);
        Ok((entries, is_cut))
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
