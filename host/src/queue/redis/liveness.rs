//! Who lives. Each host says so every now and then: its name stands in one sorted set, with until when it counts as alive
//! by Redis's clock. What a host has in hand is its own for as long as it lives, however long that takes: it says so of
//! each entry as well, which keeps the entry from looking abandoned.
//!
//! A store that was away has everybody's time run out at once. So a host judges others only after it has itself said that
//! it lives, without a gap, for as long as anybody has time to do so. And because a question may reach a store that
//! stalls long after it was asked, the scripts that take from others look whether the last beat is recent by the store's clock.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Error, Redis, millis, reply};
use crate::entry::{Entry, Handle, Place};

/// Entries of which one call says that they are in hand: Redis does nothing else meanwhile.
const SAID_MAX: usize = 500;

/// How this host did at saying that it lives.
#[derive(Debug, Default)]
pub(super) struct Life(Mutex<Said>);

#[derive(Debug, Clone, Copy, Default)]
struct Said {
    /// Since when without a gap.
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Life {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().expect("no holder of this lock can panic")
    }

    /// A beat at `at` was answered now; `in_time` is what the store thinks of it. After a wait of half the time that anybody
    /// has, the store may have been away for so long that others did not get through in time.
    fn note(&self, at: Instant, in_time: bool, dead_after: Duration) {
        let (mut said, now) = (self.said(), Instant::now());
        let is_steady = in_time && said.last.is_some_and(|last| now.duration_since(last) < dead_after / 2);
        said.since = said.since.filter(|_| is_steady).or(Some(now));
        said.last = said.last.max(Some(at));
    }

    /// Whether the last beat was less than `long` ago.
    pub(super) fn beat_within(&self, long: Duration) -> bool {
        self.said().last.is_some_and(|last| last.elapsed() < long)
    }

    /// Whether all beats of the last while, so `long`, came in time.
    pub(super) fn steady_for(&self, long: Duration) -> bool {
        self.said().since.is_some_and(|since| since.elapsed() >= long)
    }

    fn end(&self) {
        *self.said() = Said::default();
    }
}

/// Scripts before which this stands have what it takes to see whose an entry is.
/// `KEYS[10]`: hosts, until when they live. `KEYS[11]`: who holds what is in the schedule, by member, as `host lease`.
pub(super) const COMMON: &str = "
local function starts_with(text, start) return string.sub(text, 1, #start) == start end
local function owner(stream, group, id)
  local pending = redis.pcall('XPENDING', KEYS[stream], group, id, id, 1)
  if pending.err and starts_with(pending.err, 'NOGROUP') then return false end
  -- Any other error is one.
  if pending.err then pending = redis.call('XPENDING', KEYS[stream], group, id, id, 1) end
  return pending[1] and pending[1][2]
end
local function has(host, stream, group, id, lease)
  if lease ~= '' then return redis.call('HGET', KEYS[11], stream .. ':' .. id) == host .. ' ' .. lease end
  local owned_by = owner(stream, group, id)
  return owned_by and starts_with(owned_by, host .. '/') and owned_by
end
local function is_fresh(host, dead_after)
  local till = redis.call('ZSCORE', KEYS[10], host)
  return till and tonumber(till) - now > dead_after / 2
end
";

/// ARGV: group, host, how long it counts as alive, lease; then stream, id and lease of each entry that it has in hand.
/// Answers whether it was still alive, and which of the entries it has no more, by their place in ARGV. An entry that was
/// trimmed is left alone: XCLAIM would take it off the list of pending ones, and with it what settling goes by.
pub(super) const BEAT: &str = "
local group, host, answer = ARGV[1], ARGV[2], {}
local before = redis.call('ZSCORE', KEYS[10], host)
answer[1] = (before and tonumber(before) > now) and 1 or 0
redis.call('ZADD', KEYS[10], now + tonumber(ARGV[3]), host)
for at = 5, #ARGV, 3 do
  local stream, id, lease = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  local has_it = has(host, stream, group, id, lease)
  if not has_it then answer[#answer + 1] = (at - 5) / 3
  elseif lease ~= '' then redis.call('ZADD', KEYS[3], 'XX', now + tonumber(ARGV[4]), stream .. ':' .. id)
  elseif #redis.call('XRANGE', KEYS[stream], id, id) > 0 then
    redis.call('XCLAIM', KEYS[stream], group, has_it, 0, id, 'JUSTID')
  end
end
return answer
";

/// ARGV: group, host; then stream, id and lease of each entry that is given back. They go to a consumer of which everybody
/// may claim at once, and which killed nobody; or to the front of the schedule, from where they had been taken.
pub(super) const GIVE_BACK: &str = "
local group, host = ARGV[1], ARGV[2]
for at = 3, #ARGV, 3 do
  local stream, id, lease = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
  if has(host, stream, group, id, lease) then
    if lease ~= '' then
      redis.call('ZADD', KEYS[3], 'XX', before_all(BROUGHT_BACK, id), stream .. ':' .. id)
      redis.call('HDEL', KEYS[11], stream .. ':' .. id)
    elseif #redis.call('XRANGE', KEYS[stream], id, id) > 0 then
      redis.call('XCLAIM', KEYS[stream], group, host .. '/back+', 0, id, 'JUSTID')
    end
  end
end
return redis.status_reply('OK')
";

/// ARGV: group, host. It lives no more, and goes without a trace where it has nothing pending. What it had taken from the
/// schedule and lost track of is due: nobody looks for leases of hosts that are not even dead.
pub(super) const LEAVE: &str = "
redis.call('ZREM', KEYS[10], ARGV[2])
local held = redis.call('HGETALL', KEYS[11])
for at = 1, #held, 2 do
  if starts_with(held[at + 1], ARGV[2] .. ' ') then
    redis.call('ZADD', KEYS[3], 'XX', now, held[at])
    redis.call('HDEL', KEYS[11], held[at])
  end
end
for stream = 1, 2 do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[stream], ARGV[1])
  for _, consumer in ipairs(consumers.err and {} or consumers) do
    local name, pending = consumer[2], consumer[4]
    if pending == 0 and starts_with(name, ARGV[2] .. '/') then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[stream], ARGV[1], name)
    end
  end
end
return redis.status_reply('OK')
";

impl Redis {
    /// Says that this host lives, and of what it has had in hand for a while that it still has it.
    pub(super) async fn say_alive(&self) -> Result<(), Error> {
        // After a gap nobody can tell whose turn came first: then it says so of everything.
        let unsaid = if self.is_alive() { self.claiming.idle / 4 } else { Duration::ZERO };
        let in_hand = self.hand.unsaid_for(unsaid);
        let mut chunks = in_hand.chunks(SAID_MAX);
        let first = self.beat_with(chunks.next().unwrap_or_default()).await?;
        self.claimed_by_others(&self.hand.doubted_before(&first));
        for chunk in chunks {
            let lost = self.beat_with(chunk).await?;
            self.claimed_by_others(&self.hand.doubted_before(&lost));
        }
        Ok(())
    }

    /// Lets go of what others have.
    fn claimed_by_others(&self, lost: &[Handle]) {
        if !lost.is_empty() {
            tracing::warn!(
                entries = lost.len(),
                "others have claimed what this host had in hand: it was taken for dead"
            );
            self.hand.let_go(lost);
        }
    }

    /// What a host hands out must not look as if a dead one had it.
    pub(super) async fn stay_alive(&self) -> Result<(), Error> {
        if self.life.beat_within(self.claiming.dead_after / 3) { Ok(()) } else { self.beat_with(&[]).await.map(drop) }
    }

    /// Whether it can tell the dead from those whom the store kept from saying that they live.
    pub(super) fn may_judge(&self) -> bool {
        self.life.steady_for(self.claiming.dead_after)
    }

    fn is_alive(&self) -> bool {
        self.life.beat_within(self.claiming.dead_after)
    }

    /// Answers which of the entries this host has no more.
    pub(super) async fn beat_with(&self, in_hand: &[Handle]) -> Result<Vec<Handle>, Error> {
        let mut beat = self.invocation(&self.scripts.beat);
        beat.arg(&self.keys.group).arg(&self.host_id);
        beat.arg(millis(self.claiming.dead_after)).arg(millis(self.claiming.idle)).arg(arguments(in_hand));
        let at = Instant::now();
        let answer: Vec<usize> = self.run_over(&self.beats, &beat).await?;
        let (in_time, lost) = answer.split_first().map_or((false, [].as_slice()), |(first, lost)| (*first == 1, lost));
        self.life.note(at, in_time, self.claiming.dead_after);
        let lost: Vec<Handle> = lost.iter().filter_map(|at| in_hand.get(*at).copied()).collect();
        self.hand.said(in_hand, &lost, at);
        Ok(lost)
    }

    /// Takes what came for a consumer of this host in hand, but for what must wait for its turn.
    pub(super) async fn take_in_hand(&self, consumer: &str, entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let came: Vec<Handle> = entries.iter().map(|entry| entry.handle).collect();
        let taken = async { self.line_up(consumer, self.still_ours(entries).await?).await }.await;
        match &taken {
            Ok(entries) if entries.len() == came.len() => {}
            // What got in line is in hand no more. Of what is lost track of nobody says that it is in hand.
            Ok(_) | Err(_) => self.hand.let_go_of_others(&came, taken.as_deref().unwrap_or_default()),
        }
        self.hand.take(taken.as_deref().unwrap_or_default());
        taken
    }

    /// Without what others have claimed. If this host was taken for dead before it saw the answer with these entries, because
    /// it was stopped, others may have delivered them.
    pub(super) async fn still_ours(&self, mut entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        if !entries.is_empty() && !self.is_alive() {
            let mut lost = Vec::new();
            for chunk in entries.chunks(SAID_MAX) {
                let handles: Vec<Handle> = chunk.iter().map(|entry| entry.handle).collect();
                let said = self.beat_with(&handles).await;
                lost.extend(said.inspect_err(|_| self.hand.let_go(entries.iter().map(|entry| &entry.handle)))?);
            }
            self.claimed_by_others(&lost);
            entries.retain(|entry| !lost.contains(&entry.handle));
        }
        Ok(entries)
    }

    /// Gives back at once what others would else wait for.
    pub(super) async fn hand_back(&self, handles: &[Handle]) -> Result<(), Error> {
        for chunk in handles.chunks(SAID_MAX) {
            let mut give_back = self.invocation(&self.scripts.give_back);
            give_back.arg(&self.keys.group).arg(&self.host_id).arg(arguments(chunk));
            self.run::<()>(&give_back).await?;
            self.hand.let_go(chunk);
        }
        Ok(())
    }

    /// Gives everything back and lives no more.
    pub(super) async fn say_gone(&self) -> Result<(), Error> {
        self.hand_back(&self.hand.all()).await?;
        let mut leave = self.invocation(&self.scripts.leave);
        leave.arg(&self.keys.group).arg(&self.host_id);
        self.life.end();
        self.run(&leave).await
    }
}

fn arguments(handles: &[Handle]) -> Vec<String> {
    let each = |handle: &Handle| {
        let lease = match handle.place {
            Place::Stream => String::new(),
            Place::Schedule { lease } => lease.to_string(),
        };
        [reply::stream_number(handle.stream).to_string(), handle.id.to_string(), lease]
    };
    handles.iter().flat_map(each).collect()
}
