//! Lines: deliveries that keep an order. All of a line stand in one sorted set, in the order of their publication; only
//! the first of each is ever in the schedule.
//!
//! Many workers of many hosts read the streams at once, so one that was published later may get in line before one that
//! another worker has just read. So each worker reads as one consumer and moves what it has looked through to another
//! one, whose name ends with `+`: as long as some host has read an older entry and has not looked through it, nothing
//! younger is let go. Entries that a host did not look through when it died hold the lines up until they are claimed.

use super::reply;
use crate::entry::{Entry, Stream, Turn};

/// The arguments of [`LINE_UP`] after the group and the host: whom to move what need not wait to, that, and what gets in line.
pub(super) fn arguments(looked_through: &str, free: &[Entry], waiting: &[(Entry, Turn)]) -> Vec<Vec<u8>> {
    let mut arguments = vec![looked_through.as_bytes().to_vec()];
    for stream in [Stream::Events, Stream::Deliveries] {
        let ids: Vec<_> = free.iter().filter(|entry| entry.handle.stream == stream).collect();
        arguments.push(ids.len().to_string().into());
        arguments.extend(ids.iter().map(|entry| entry.handle.id.to_string().into()));
    }
    for (entry, turn) in waiting {
        arguments.push(reply::stream_number(entry.handle.stream).to_string().into());
        arguments.push(entry.handle.id.to_string().into());
        arguments.push(turn.line.as_bytes().to_vec());
        arguments.push(turn.stored.to_vec());
    }
    arguments
}

/// What the other scripts need of lines. `KEYS[7]`: all that stand in line, as `<line> NUL <id, padded> NUL <member>`.
/// `KEYS[8]`: the line of those first in line that were let go. `KEYS[9]`: those first in line that were not yet let go,
/// as `<id, padded> NUL <member> NUL <line>`.
pub(super) const COMMON: &str = "
local function padded(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end
local function next_of(line)
  local two = redis.call('ZRANGEBYLEX', KEYS[7], '[' .. line .. '\\0', '(' .. line .. '\\1', 'LIMIT', 0, 2)
  if not two[1] then return end
  local id, member = string.match(two[1], '^[^%z]*%z([^%z]*)%z(.*)$')
  if redis.call('HEXISTS', KEYS[8], member) == 1 then return end
  redis.call('ZADD', KEYS[9], 0, id .. '\\0' .. member .. '\\0' .. line)
  if two[2] then redis.call('ZREM', KEYS[9], string.match(two[2], '%z(.*)$') .. '\\0' .. line) end
end
local function is_over(member)
  local line = redis.call('HGET', KEYS[8], member)
  if not line then return end
  redis.call('HDEL', KEYS[8], member)
  redis.call('ZREM', KEYS[7], line .. '\\0' .. padded(string.sub(member, 3)) .. '\\0' .. member)
  next_of(line)
end
local function not_looked_through(group)
  local oldest = nil
  for stream = 1, 2 do
    local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[stream], group)
    for _, consumer in ipairs(consumers.err and {} or consumers) do
      local fields = {}
      for at = 1, #consumer, 2 do fields[consumer[at]] = consumer[at + 1] end
      local looks = host_of(fields.name) and string.sub(fields.name, -1) ~= '+'
      local first = looks and fields.pending > 0
        and redis.call('XPENDING', KEYS[stream], group, '-', '+', 1, fields.name)[1]
      if first and (not oldest or padded(first[1]) < oldest) then oldest = padded(first[1]) end
    end
  end
  return oldest
end
local function let_go(group, max)
  local first = redis.call('ZRANGE', KEYS[9], 0, max - 1)
  if #first == 0 then return false end
  local oldest = not_looked_through(group)
  for _, waiting in ipairs(first) do
    local id, member, line = string.match(waiting, '^([^%z]*)%z([^%z]*)%z(.*)$')
    if oldest and oldest <= id then return true end
    redis.call('ZREM', KEYS[9], waiting)
    redis.call('HSET', KEYS[8], member, line)
    redis.call('ZADD', KEYS[3], 0, member)
  end
  return false
end
";

/// ARGV: group, the host, the consumer for what was looked through; for each of the two streams how many entries need not wait, and
/// their ids; then stream, id, line and stored delivery of each that gets in line. XCLAIM would take an entry that was
/// trimmed off the list of pending ones, and with it what settling goes by.
pub(super) const LINE_UP: &str = "
local group, host, at = ARGV[1], ARGV[2], 4
for stream = 1, 2 do
  local count = tonumber(ARGV[at])
  for of = at + 1, at + count do
    local is_there = #redis.call('XRANGE', KEYS[stream], ARGV[of], ARGV[of]) > 0
    if is_there and has(host, stream, group, ARGV[of], '') then
      redis.call('XCLAIM', KEYS[stream], group, ARGV[3], 0, ARGV[of], 'JUSTID')
    end
  end
  at = at + 1 + count
end
while at <= #ARGV do
  local stream, id, line = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local member = stream .. ':' .. id
  if redis.call('XACK', KEYS[stream], group, id) == 1 then
    count_acked(stream, 1)
    redis.call('HSET', KEYS[4], member, ARGV[at + 3])
    redis.call('ZADD', KEYS[7], 0, line .. '\\0' .. padded(id) .. '\\0' .. member)
    next_of(line)
  end
  at = at + 4
end
return redis.status_reply('OK')
";
