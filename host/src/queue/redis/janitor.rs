//! Keeping the streams in order: trims what nobody needs any more, counts what was trimmed before anybody had it, and
//! remembers how far everything is done, for the day that somebody destroys the group. All hosts do it, and it does not
//! matter how many do at once.

use std::time::Duration;

use super::reply::Group;
use super::{Error, Redis, millis, reply};
use crate::entry::Stream;

/// What entries are kept for although every group has acknowledged them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// In the events stream; `None` if its producers trim it.
    pub events: Option<Duration>,
    /// In the stream of replays, which nobody else trims.
    pub deliveries: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { events: None, deliveries: Duration::from_secs(60 * 60) }
    }
}

/// `KEYS[13]`: counts of the queue. `acked`: how many of the events stream left the list of pending ones. `base`, `lost` and
/// `over`: see [`TIDY`]. `resume:<stream>`: all up to there is done.
pub(super) const COMMON: &str = "
local function field_of(fields, name)
  for at = 1, #fields, 2 do if fields[at] == name then return fields[at + 1] end end
end
local function group_of(stream, name)
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[stream])
  for _, group in ipairs(groups.err and {} or groups) do
    if field_of(group, 'name') == name then return group end
  end
end
-- Workers of other programs that read the same group.
local function others_are_active(stream, group)
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[stream], group)
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    if not host_of(field_of(consumer, 'name')) and field_of(consumer, 'idle') < 60000 then return true end
  end
  return false
end
-- Entries that are read at once: all of them lie in memory, and they may be large.
local PAGE = 10
local function bytes_of(entry)
  local bytes = 0
  for _, part in ipairs(entry[2]) do bytes = bytes + #part end
  return bytes
end
-- How many there are after an id, and their bytes, until there are so many of either.
local function count_after(stream, id, max, bytes_max)
  local count, bytes = 0, 0
  while count < max and bytes < bytes_max do
    local size = math.min(PAGE, max - count)
    local page = redis.call('XRANGE', KEYS[stream], '(' .. id, '+', 'COUNT', size)
    for _, entry in ipairs(page) do bytes = bytes + bytes_of(entry) end
    count = count + #page
    if #page < size then break end
    id = page[size][1]
  end
  return count, bytes
end
local function count_acked(stream, count)
  if stream == 1 and count > 0 then redis.call('HINCRBY', KEYS[13], 'acked', count) end
end
";

/// ARGV: group; for each of the two streams how long to keep what is done (ms, empty: for ever); how many to trim at most.
/// Answers how many events were trimmed before anybody received them.
///
/// What was added is waiting, pending, acknowledged, or lost. How many wait is certain when none do, and when the oldest
/// there is has not been received; then what is missing is lost. Acknowledgements of other programs are not counted, so while
/// one is active nothing is taken for lost. Redis before 7 does not tell how many were added. Redis 7 goes on counting what was lost as
/// waiting; `over` is by how much it does.
pub(super) const TIDY: &str = "
local group = ARGV[1]
local function before(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. string.format('%.0f', tonumber(seq) - 1) end
  return string.format('%.0f', math.max(0, tonumber(ms) - 1)) .. '-18446744073709551615'
end
local function done_up_to(stream, of)
  if field_of(of, 'pending') == 0 then return field_of(of, 'last-delivered-id') end
  return before(redis.call('XPENDING', KEYS[stream], field_of(of, 'name'))[2])
end
for stream = 1, 2 do
  local groups, keep, cut = redis.pcall('XINFO', 'GROUPS', KEYS[stream]), ARGV[1 + stream], nil
  for _, of in ipairs(groups.err and {} or groups) do
    local done = done_up_to(stream, of)
    if not cut or padded(done) < padded(cut) then cut = done end
    if field_of(of, 'name') == group then redis.call('HSET', KEYS[13], 'resume:' .. stream, done) end
  end
  if cut and keep ~= '' then
    local old = string.format('%.0f-0', math.max(0, now - tonumber(keep)))
    if padded(old) < padded(cut) then cut = old end
    redis.call('XTRIM', KEYS[stream], 'MINID', '~', cut, 'LIMIT', ARGV[4])
  end
end
local are_moved_tidy = tidy_ahead(group)
local function count(name) return tonumber(redis.call('HGET', KEYS[13], name) or 0) end
local function total() return count('lost') + count('lost in hand') end
local stream, of = redis.pcall('XINFO', 'STREAM', KEYS[1]), group_of(1, group)
local added = not stream.err and field_of(stream, 'entries-added')
if not added or not of or not are_moved_tidy then return total() end
local last, length, first = field_of(of, 'last-delivered-id'), field_of(stream, 'length'), field_of(stream, 'first-entry')
local waiting = nil
if length == 0 or field_of(stream, 'last-generated-id') == last then waiting = 0
elseif padded(first[1]) > padded(last) then waiting = length end
if not waiting then return total() end
local lag = field_of(of, 'lag')
if lag then redis.call('HSET', KEYS[13], 'over', string.format('%.0f', math.max(0, lag - waiting))) end
local missing = added - waiting - count('acked') - field_of(of, 'pending')
local lost = missing - tonumber(redis.call('HGET', KEYS[13], 'base') or missing)
if others_are_active(1, group) or lost < count('lost') then lost = count('lost') end
redis.call('HSET', KEYS[13], 'base', string.format('%.0f', missing - lost), 'lost', string.format('%.0f', lost))
return total()
";

/// ARGV: group. Creates it on both streams where it is missing, and answers on how many. What was there before the first
/// time is delivered; of a group that somebody destroyed, what was not done.
pub(super) const CREATE_GROUPS: &str = "
local created = 0
for stream = 1, 2 do
  if not group_of(stream, ARGV[1]) then
    local from, there = redis.call('HGET', KEYS[13], 'resume:' .. stream), redis.pcall('XINFO', 'STREAM', KEYS[stream])
    local is_known = from and not there.err and padded(from) <= padded(field_of(there, 'last-generated-id'))
    redis.call('XGROUP', 'CREATE', KEYS[stream], ARGV[1], is_known and from or '0', 'MKSTREAM')
    created = created + 1
  end
end
return created
";

/// Entries that one step trims at most, because Redis does nothing else meanwhile.
const TRIMMED_MAX: usize = 100_000;
/// Entries that are counted one by one at most, for the same reason, and their bytes.
const COUNTED_MAX: usize = 1000;
const COUNTED_BYTES_MAX: usize = 4 << 20;

/// ARGV: a stream, an id, after how many it is enough, and after how many bytes. Answers how many there are after it.
pub(super) const COUNT_AFTER: &str = "
local count = count_after(tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
return count
";

impl Redis {
    pub(super) async fn tidy_up(&self) -> Result<u64, Error> {
        let mut tidy = self.invocation(&self.scripts.tidy);
        tidy.arg(&self.keys.group);
        tidy.arg(self.retention.events.map(|keep| millis(keep).to_string()).unwrap_or_default());
        tidy.arg(millis(self.retention.deliveries)).arg(TRIMMED_MAX);
        self.run(&tidy).await
    }

    /// How many entries of a stream nobody has received; where Redis does not know, at most so many as it is made to count.
    pub(super) async fn waiting(&self, stream: &str, group: &Group) -> Result<u64, Error> {
        if let Some(waiting) = group.waiting {
            return Ok(waiting);
        }
        let number = if stream == self.keys.events { Stream::Events } else { Stream::Deliveries };
        let mut count = self.invocation(&self.scripts.count_after);
        count.arg(reply::stream_number(number)).arg(&group.last).arg(COUNTED_MAX).arg(COUNTED_BYTES_MAX);
        self.run(&count).await
    }

    /// Creates the group on both streams where it is missing.
    pub(super) async fn create_groups(&self) -> Result<(), Error> {
        let mut create = self.invocation(&self.scripts.create_groups);
        create.arg(&self.keys.group);
        let created: u64 = self.run(&create).await?;
        if created > 0 {
            tracing::info!(streams = created, group = %self.keys.group, "created the consumer group");
        }
        Ok(())
    }
}
