//! The Lua scripts, each one atomic step on the keys of one queue. All time is Redis's own, so that the clocks of the
//! hosts do not matter. `KEYS` is always events, deliveries, retry, retry data, dead letters, parked,
//! and the three of lines.

use redis::Script;

use super::{parking, turns};

/// The scripts, hashed once.
pub(super) struct Scripts {
    pub(super) settle: Script,
    pub(super) take_due: Script,
    pub(super) replay: Script,
    pub(super) unpark: Script,
    pub(super) parked: Script,
    pub(super) line_up: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let with_clock = |body: &str| Script::new(&format!("{CLOCK}{}{body}", turns::COMMON));
        Scripts {
            settle: with_clock(SETTLE),
            take_due: with_clock(TAKE_DUE),
            replay: Script::new(REPLAY),
            unpark: Script::new(parking::UNPARK),
            parked: Script::new(parking::FIND),
            line_up: with_clock(turns::LINE_UP),
        }
    }
}

const CLOCK: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";

/// ARGV: group; for each of the two streams how many entries are done, and their ids; then the operations:
///   X stream id lease                    done, from the schedule
///   S stream id lease after data         schedule
///   D stream id lease count name value…  dead letter
///   P stream id lease member data        park
/// `lease` is empty for an entry in its stream. The record is made before the entry leaves, so that a record that
/// cannot be made (a key of the wrong type, no memory) leaves the entry where it is.
const SETTLE: &str = "
local group, at = ARGV[1], 2
for stream = 1, 2 do
  local count = tonumber(ARGV[at])
  if count > 0 then redis.call('XACK', KEYS[stream], group, unpack(ARGV, at + 1, at + count)) end
  at = at + 1 + count
end
local function is_ours(stream, id, lease)
  if lease ~= '' then return redis.call('ZSCORE', KEYS[3], stream .. ':' .. id) == lease end
  if redis.call('EXISTS', KEYS[stream]) == 0 then return true end
  local pending = redis.pcall('XPENDING', KEYS[stream], group, id, id, 1)
  return not pending.err and #pending == 1
end
local function leave(stream, id, lease)
  if lease ~= '' then
    redis.call('ZREM', KEYS[3], stream .. ':' .. id)
    redis.call('HDEL', KEYS[4], stream .. ':' .. id)
  else
    redis.call('XACK', KEYS[stream], group, id)
  end
end
while at <= #ARGV do
  local kind, stream, id, lease = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local ours = is_ours(stream, id, lease)
  if kind == 'X' then
    if ours then
      leave(stream, id, lease)
      is_over(stream .. ':' .. id)
    end
  elseif kind == 'S' then
    if ours then
      redis.call('HSET', KEYS[4], stream .. ':' .. id, ARGV[at + 1])
      redis.call('ZADD', KEYS[3], now + tonumber(ARGV[at]), stream .. ':' .. id)
      if lease == '' then leave(stream, id, lease) end
    end
    at = at + 2
  elseif kind == 'P' then
    if ours then
      redis.call('ZADD', KEYS[6], 0, ARGV[at])
      redis.call('HSET', KEYS[4], stream .. ':' .. id, ARGV[at + 1])
      if lease == '' then leave(stream, id, lease) else redis.call('ZREM', KEYS[3], stream .. ':' .. id) end
    end
    at = at + 2
  else
    local count = tonumber(ARGV[at])
    if ours then
      redis.call('XADD', KEYS[5], '*', unpack(ARGV, at + 1, at + count))
      leave(stream, id, lease)
      is_over(stream .. ':' .. id)
    end
    at = at + 1 + count
  end
end
return redis.status_reply('OK')
";

/// ARGV: how many at most, lease in ms, group. Answers the leased due time, ms until the next one is due (-1: none), then
/// member and data of each.
const TAKE_DUE: &str = "
local lease = string.format('%.0f', now + tonumber(ARGV[2]))
local answer = { lease, -1 }
local is_held_up = let_go(ARGV[3], tonumber(ARGV[1]))
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local data = redis.call('HGET', KEYS[4], member)
  if data then
    redis.call('ZADD', KEYS[3], lease, member)
    answer[#answer + 1] = member
    answer[#answer + 1] = data
  else
    redis.call('ZREM', KEYS[3], member)
    is_over(member)
  end
end
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if first[2] then answer[2] = math.max(0, math.ceil(tonumber(first[2]) - now)) end
if is_held_up then answer[2] = 10 end
return answer
";

/// ARGV: id of the dead letter, then names and values of the new entry. Nil if the dead letter is gone.
const REPLAY: &str = "
if #redis.call('XRANGE', KEYS[5], ARGV[1], ARGV[1]) == 0 then return nil end
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XDEL', KEYS[5], ARGV[1])
return id
";
