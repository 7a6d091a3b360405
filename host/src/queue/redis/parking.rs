//! Where deliveries are parked: a sorted set of members that are in order by themselves, first of their subscription,
//! then of their age. What they hold stands in the retry data, so that parking and bringing back moves a member only.

use crate::entry::Handle;

/// `<subscription> NUL <id, padded> NUL <stream>:<id>`. No subscription id has a NUL in it: it could not be sent.
pub(super) fn member(subscription: &str, handle: &Handle) -> String {
    let (id, stream) = (handle.id, super::reply::stream_number(handle.stream));
    format!("{subscription}\0{:020}-{:020}\0{stream}:{id}", id.ms, id.seq)
}

/// Where the members of the subscription after this one begin, as `ZRANGEBYLEX` wants it.
pub(super) fn after(subscription: Option<&str>) -> String {
    subscription.map_or_else(|| "-".to_owned(), |subscription| format!("[{subscription}\x01"))
}

/// ARGV: subscription and how many at most, for each. Makes their oldest due before all that is due by time, in the order
/// of their ids; answers how many.
pub(super) const UNPARK: &str = "
local counts = {}
for at = 1, #ARGV, 2 do
  local from, to = '[' .. ARGV[at] .. '\\0', '(' .. ARGV[at] .. '\\1'
  local oldest = redis.call('ZRANGEBYLEX', KEYS[6], from, to, 'LIMIT', 0, ARGV[at + 1])
  for _, member in ipairs(oldest) do
    local back = string.match(member, '%z([^%z]*)$')
    redis.call('ZADD', KEYS[3], before_all(BROUGHT_BACK, string.sub(back, 3)), back)
    redis.call('ZREM', KEYS[6], member)
  end
  counts[#counts + 1] = #oldest
end
return counts
";

/// ARGV: where to begin, how many at most. Answers subscriptions, going from one straight to the next.
pub(super) const FIND: &str = "
local found, from = {}, ARGV[1]
while #found < tonumber(ARGV[2]) do
  local first = redis.call('ZRANGEBYLEX', KEYS[6], from, '+', 'LIMIT', 0, 1)[1]
  if not first then break end
  local subscription = string.match(first, '^([^%z]*)%z')
  found[#found + 1] = subscription
  from = '[' .. subscription .. '\\1'
end
return found
";
