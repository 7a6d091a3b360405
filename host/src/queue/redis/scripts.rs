//! The Lua scripts, each one atomic step on the keys of one queue. All time is Redis's own, so that the clocks of the
//! hosts do not matter. `KEYS` is always events, deliveries, retry, retry data, dead letters, parked, the three of lines,
//! hosts, held, claims, counts and ahead.

use redis::Script;

use super::{ahead, claiming, janitor, kinds, liveness, parking, settling, turns};

/// The scripts, hashed once.
pub(super) struct Scripts {
    pub(super) settle: Script,
    pub(super) take_due: Script,
    pub(super) replay: Script,
    pub(super) unpark: Script,
    pub(super) parked: Script,
    pub(super) line_up: Script,
    pub(super) beat: Script,
    pub(super) claim: Script,
    pub(super) give_back: Script,
    pub(super) leave: Script,
    pub(super) tidy: Script,
    pub(super) count_after: Script,
    pub(super) create_groups: Script,
    pub(super) look: Script,
    pub(super) show: Script,
    pub(super) move_ahead: Script,
    pub(super) pass_over: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let common =
            [FIRST, turns::COMMON, liveness::COMMON, claiming::COMMON, janitor::COMMON, ahead::COMMON].concat();
        let with_common = |body: &str| Script::new(&[common.as_str(), body].concat());
        Scripts {
            settle: with_common(&[kinds::sizes().as_str(), settling::SETTLE].concat()),
            take_due: with_common(TAKE_DUE),
            replay: Script::new(REPLAY),
            unpark: with_common(parking::UNPARK),
            parked: Script::new(parking::FIND),
            line_up: with_common(turns::LINE_UP),
            beat: with_common(liveness::BEAT),
            claim: with_common(claiming::CLAIM),
            give_back: with_common(liveness::GIVE_BACK),
            leave: with_common(liveness::LEAVE),
            tidy: with_common(janitor::TIDY),
            count_after: with_common(janitor::COUNT_AFTER),
            create_groups: with_common(janitor::CREATE_GROUPS),
            look: with_common(ahead::LOOK),
            show: with_common(ahead::SHOW),
            move_ahead: with_common(ahead::MOVE),
            pass_over: with_common(ahead::PASS_OVER),
        }
    }
}

/// Consumers are named `<host>/<worker>`; others are not Weft's, whatever their names.
const FIRST: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function host_of(consumer) return string.match(consumer, '^(weft%-.*)/[^/]*$') end
";

/// ARGV: how many at most, lease in ms, group, host, how many suspects at most, how often a claim is no poison, whether this host
/// may judge others, after how long one is dead, after how many bytes it is enough. A delivery that somebody has whose lease is over is left alone, unless this
/// host may judge that he is gone or lost it: the store may have stalled for longer than a lease. Answers the leased due time, ms until the next one is due (-1: none), then member, data and former owners of each.
const TAKE_DUE: &str = "
local lease = string.format('%.0f', now + tonumber(ARGV[2]))
local answer = { lease, -1 }
-- Of a host that was taken for dead meanwhile nobody would ever claim what it takes now.
if not redis.call('ZSCORE', KEYS[10], ARGV[4]) then return { lease, 10 } end
local is_held_up = let_go(ARGV[3], tonumber(ARGV[1]))
local suspects, claims_max, claimed = tonumber(ARGV[5]), tonumber(ARGV[6]), redis.call('EXISTS', KEYS[12]) == 1
local bytes_left = tonumber(ARGV[9])
local may_judge = ARGV[7] == '1' and is_fresh(ARGV[4], tonumber(ARGV[8]))
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  if bytes_left <= 0 then break end
  local data, count, from = redis.call('HGET', KEYS[4], member), 0, ''
  if data and claimed then count, from = claims(member) end
  local suspect = is_suspect(count, claims_max)
  if suspect and suspects == 0 or not may_judge and redis.call('HEXISTS', KEYS[11], member) == 1 then
    -- Out of the way of the others for a while.
    redis.call('ZADD', KEYS[3], now + 100, member)
  elseif data then
    if suspect then suspects = suspects - 1 end
    bytes_left = bytes_left - #data
    redis.call('ZADD', KEYS[3], lease, member)
    redis.call('HSET', KEYS[11], member, ARGV[4] .. ' ' .. lease)
    answer[#answer + 1] = member
    answer[#answer + 1] = data
    answer[#answer + 1] = from
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
