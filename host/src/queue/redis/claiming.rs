//! Claiming what others left pending: what a dead host had in hand at once, what has been idle for long from whomever. All
//! hosts do it all the time and at once; each claim is one atomic step, so each entry has one new owner.
//!
//! What was claimed once too often killed its hosts. Whoever was in hand beside it died as often, innocent; so what was
//! claimed twice is *suspect*, and a host has one suspect in hand at a time.

use std::time::Duration;

use redis::Value;

use super::{Error, Redis, millis, reply};
use crate::entry::{Condemned, Entry};
use crate::outcome::DeadReason;
use crate::queue::SHOWN_BYTES_MAX;

/// When what others left pending is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claiming {
    /// A host that did not say for so long that it lives is dead, and what it had in hand is claimed.
    pub dead_after: Duration,
    /// What is pending for so long, and nobody says that he has it in hand, is claimed as well.
    pub idle: Duration,
    /// An entry claimed more often is condemned as poison.
    pub claims_max: u32,
    /// An entry left by a consumer that is not Weft's is condemned as stale when older than this.
    pub adopt_older_than: Duration,
}

impl Default for Claiming {
    fn default() -> Self {
        Claiming {
            dead_after: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            claims_max: 5,
            adopt_older_than: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// An entry out of the answer of [`CLAIM`].
pub(super) struct Claimed {
    pub(super) entry: Entry,
    /// Left by another program, too long ago.
    pub(super) is_stale: bool,
    /// Whose it was, each time that it was claimed.
    pub(super) from: String,
}

/// `KEYS[12]`: whose an entry was each time that it was claimed, by member, apart by spaces.
pub(super) const COMMON: &str = "
local function claims(member)
  local from = redis.call('HGET', KEYS[12], member) or ''
  local _, count = string.gsub(from, '%S+', '')
  return count, from
end
local function mark(member, from)
  local count, before = claims(member)
  if count > 0 then from = before .. ' ' .. from end
  redis.call('HSET', KEYS[12], member, from)
  return count + 1, from
end
local function is_suspect(count, claims_max) return count > 1 and count <= claims_max end
";

/// ARGV: group, the consumer that claims, how many at most, idle time, how often a claim is no poison, age of what is
/// stale, how many suspects at most, the host, after how long one is dead, after how many bytes it is enough. Answers how many leases of the dead are over, then stream, id, fields, whether it is stale, and former owners of each entry.
/// Consumers of the dead go when they have nothing pending, and never before. What was moved ahead is elsewhere already.
pub(super) const CLAIM: &str = "
local group, consumer, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local idle, claims_max, stale, suspects = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local bytes_left = tonumber(ARGV[10])
local answer, alive = { 0 }, {}
if not is_fresh(ARGV[8], tonumber(ARGV[9])) then return answer end
-- Suspects that wait must not hide what is behind them.
local LOOK = 256
local function is_alive(host)
  if alive[host] == nil then
    local till = redis.call('ZSCORE', KEYS[10], host)
    alive[host] = till and tonumber(till) > now or false
  end
  return alive[host]
end
local dead, is_dead = redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', now, 'LIMIT', 0, 100), {}
for _, host in ipairs(dead) do is_dead[host] = true end
local held = #dead > 0 and redis.call('HGETALL', KEYS[11]) or {}
for at = 1, #held, 2 do
  local member, host = held[at], string.match(held[at + 1], '^%S*')
  if is_dead[host] then
    mark(member, host)
    redis.call('ZADD', KEYS[3], 'XX', now, member)
    redis.call('HDEL', KEYS[11], member)
    answer[1] = answer[1] + 1
  end
end
if #dead > 0 then redis.call('ZREM', KEYS[10], unpack(dead)) end
local function claim(stream, id, from, is_given_back)
  local entry, member = redis.call('XRANGE', KEYS[stream], id, id)[1], stream .. ':' .. id
  local host = host_of(from)
  if pass_over(stream, group, id) then return end
  if not entry then
    if host and is_alive(host) then return end
    count_acked(stream, redis.call('XACK', KEYS[stream], group, id))
    if stream == 1 then redis.call('HINCRBY', KEYS[13], 'lost in hand', 1) end
    redis.call('HDEL', KEYS[12], member)
    return
  end
  local count, owners = claims(member)
  if is_suspect(is_given_back and count or count + 1, claims_max) then
    if suspects == 0 then return end
    suspects = suspects - 1
  end
  if not is_given_back then count, owners = mark(member, from) end
  redis.call('XCLAIM', KEYS[stream], group, consumer, 0, id, 'JUSTID')
  local is_stale = not host and now - tonumber(string.match(id, '^%d+')) > stale
  for _, part in ipairs({ stream, id, entry[2], is_stale and 1 or 0, owners }) do answer[#answer + 1] = part end
  left, bytes_left = left - 1, bytes_left - bytes_of(entry)
  if bytes_left <= 0 then left = 0 end
end
for stream = 1, 2 do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[stream], group)
  for _, of in ipairs(consumers.err and {} or consumers) do
    local name, pending = of[2], of[4]
    local host, is_given_back = host_of(name), string.sub(name, -6) == '/back+'
    if host and pending == 0 and not is_alive(host) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[stream], group, name)
    elseif host and pending > 0 and left > 0 and (is_given_back or not is_alive(host)) then
      for _, line in ipairs(redis.call('XPENDING', KEYS[stream], group, '-', '+', left + LOOK, name)) do
        if left > 0 then claim(stream, line[1], name, is_given_back) end
      end
    end
  end
  if left > 0 and not consumers.err then
    for _, line in ipairs(redis.call('XPENDING', KEYS[stream], group, 'IDLE', idle, '-', '+', left + LOOK)) do
      if left > 0 then claim(stream, line[1], line[2], false) end
    end
  end
end
return answer
";

impl Redis {
    /// Claims up to so many. None as long as this host cannot tell the dead from those whom the store kept from saying that
    /// they live.
    pub(super) async fn claim_abandoned(&self, max: usize) -> Result<Vec<Entry>, Error> {
        self.beat_with(&[]).await?;
        let consumer = format!("{}/claim", self.host_id);
        let found = self.found_again(&consumer, max).await?;
        if !found.is_empty() || !self.may_judge() {
            return Ok(found);
        }
        let claimed = self.claim_for(&consumer, max).await;
        self.may_have_lost(&consumer, &claimed);
        claimed
    }

    async fn claim_for(&self, consumer: &str, max: usize) -> Result<Vec<Entry>, Error> {
        let suspecting = self.suspecting.lock().await;
        let mut claim = self.invocation(&self.scripts.claim);
        claim.arg(&self.keys.group).arg(consumer).arg(max).arg(millis(self.claiming.idle));
        claim.arg(self.claiming.claims_max).arg(millis(self.claiming.adopt_older_than));
        claim.arg(self.hand.suspects_left()).arg(&self.host_id).arg(millis(self.claiming.dead_after));
        claim.arg(SHOWN_BYTES_MAX);
        let (leases, claimed) = reply::claimed(self.run::<Value>(&claim).await?)?;
        if leases > 0 {
            tracing::warn!(
                deliveries = leases,
                "a host is gone; scheduled deliveries that it had in hand are due again"
            );
        }
        let entries = claimed.into_iter().map(|claimed| self.judge(claimed)).collect();
        drop(suspecting);
        self.take_in_hand(consumer, entries).await
    }

    /// Condemns what must not be tried, and notes what is suspect.
    pub(super) fn judge(&self, claimed: Claimed) -> Entry {
        let Claimed { mut entry, is_stale, from } = claimed;
        let count = from.split_whitespace().count();
        let claims_max = usize::try_from(self.claiming.claims_max).unwrap_or(usize::MAX);
        if count > claims_max {
            let from = from.replace(' ', ", ");
            let why = format!("claimed {count} times without being settled (queue.max_claims), after {from} had it");
            entry.condemned = Some(Condemned { reason: DeadReason::Poison, why });
        } else if is_stale {
            let than = humantime::format_duration(self.claiming.adopt_older_than);
            let why = format!("older than {than} (queue.adopt_older_than) when it was adopted from {from}");
            entry.condemned = Some(Condemned { reason: DeadReason::Stale, why });
        } else if count > 1 {
            self.hand.suspect(entry.handle);
        }
        entry
    }
}
