//! Settling: one script for a batch. A record that cannot be made, because a key holds something else, keeps no other from
//! being made: the script says which ones they are, and goes on.

use super::{Error, Redis, letter, millis, parking, reply, words};
use crate::entry::{Place, Record, Settlement, Stream};

/// ARGV: group, host; for each of the two streams how many entries are done, and their ids; then the operations:
///   X stream id lease                    done, from the schedule
///   S stream id lease after data         schedule
///   D stream id lease count name value…  dead letter
///   P stream id lease member data        park
/// `lease` is empty for an entry in its stream. That something is done is true whoever says it: the endpoint took it.
/// All else counts only if the host has the entry still. An operation is done whole or not at all: the keys that it needs are
/// looked at before it writes. What is wrong with the whole store (no memory, a replica, no permission) is an error of
/// the whole; the rest is answered: how many operations were about what the host has no more, then of each that was refused its number
/// (from 1; -1 and -2 for what is done in the streams) and why.
pub(super) const SETTLE: &str = "
local group, host, at = ARGV[1], ARGV[2], 3
local answer = { 0 }
local claimed = redis.call('EXISTS', KEYS[12]) == 1
local function try(number, operation, ...)
  local is_done, why = pcall(operation, ...)
  if is_done then return end
  local text = type(why) == 'table' and why.err or tostring(why)
  local is_of_record = string.find(text, 'WRONGTYPE', 1, true) or string.find(text, 'ERR ', 1, true)
  if not is_of_record or string.find(text, 'user executing the script', 1, true) then error(why, 0) end
  answer[#answer + 1] = number
  answer[#answer + 1] = text
end
local is_good = {}
local NEEDS = { X = { 3, 4 }, S = { 3, 4 }, P = { 3, 4, 6 }, D = { 3, 4, 5 } }
local function need(keys)
  for _, key in ipairs(keys) do
    is_good[key] = is_good[key] or redis.call(SIZE[key], KEYS[key])
  end
end
local function done(stream, first, last)
  need({ stream, 12, 13 })
  count_acked(stream, redis.call('XACK', KEYS[stream], group, unpack(ARGV, first, last)))
  for of = first, claimed and last or first - 1 do redis.call('HDEL', KEYS[12], stream .. ':' .. ARGV[of]) end
end
for stream = 1, 2 do
  local count = tonumber(ARGV[at])
  if count > 0 then try(-stream, done, stream, at + 1, at + count) end
  at = at + 1 + count
end
local function is_ours(stream, id, lease)
  if lease == '' and redis.call('EXISTS', KEYS[stream]) == 0 then return true end
  return has(host, stream, group, id, lease)
end
local function let_go(stream, id, lease)
  if claimed then redis.call('HDEL', KEYS[12], stream .. ':' .. id) end
  if lease == '' then count_acked(stream, redis.call('XACK', KEYS[stream], group, id))
  else redis.call('HDEL', KEYS[11], stream .. ':' .. id) end
end
local function leave(stream, id, lease)
  if lease ~= '' then
    redis.call('ZREM', KEYS[3], stream .. ':' .. id)
    redis.call('HDEL', KEYS[4], stream .. ':' .. id)
  end
  let_go(stream, id, lease)
end
local function operate(kind, stream, id, lease, at)
  local member = stream .. ':' .. id
  need({ stream, 7, 8, 9, 11, 12, 13 })
  need(NEEDS[kind])
  if not is_ours(stream, id, lease) then
    answer[1] = answer[1] + 1
  elseif kind == 'X' then
    leave(stream, id, lease)
    is_over(member)
  elseif kind == 'S' then
    redis.call('HSET', KEYS[4], member, ARGV[at + 1])
    redis.call('ZADD', KEYS[3], now + tonumber(ARGV[at]), member)
    let_go(stream, id, lease)
  elseif kind == 'P' then
    redis.call('ZADD', KEYS[6], 0, ARGV[at])
    redis.call('HSET', KEYS[4], member, ARGV[at + 1])
    if lease ~= '' then redis.call('ZREM', KEYS[3], member) end
    let_go(stream, id, lease)
  else
    redis.call('XADD', KEYS[5], '*', unpack(ARGV, at + 1, at + tonumber(ARGV[at])))
    leave(stream, id, lease)
    is_over(member)
  end
end
local number = 0
while at <= #ARGV do
  local kind, stream, id, lease = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  number, at = number + 1, at + 4
  try(number, operate, kind, stream, id, lease, at)
  if kind == 'S' or kind == 'P' then at = at + 2 elseif kind == 'D' then at = at + 1 + tonumber(ARGV[at]) end
end
return answer
";

/// What a script is told of a batch, and what of the batch it is told how.
struct Told<'a> {
    batch: &'a [Settlement],
    /// Places of those that are operations, in their order; the others are done in a stream.
    operations: Vec<usize>,
}

impl<'a> Told<'a> {
    fn of(batch: &'a [Settlement]) -> Told<'a> {
        let is_operation = |at: &usize| !is_done_in(&batch[*at], None);
        Told { batch, operations: (0..batch.len()).filter(is_operation).collect() }
    }

    fn tell(&self, settle: &mut redis::ScriptInvocation<'_>) {
        for stream in [Stream::Events, Stream::Deliveries] {
            let done = |line: &&Settlement| is_done_in(line, Some(stream));
            settle.arg(self.batch.iter().filter(done).count());
            self.batch.iter().filter(done).for_each(|line| {
                settle.arg(line.handle.id.to_string());
            });
        }
        self.operations.iter().for_each(|at| operation(settle, &self.batch[*at]));
    }

    /// Whose records the script means by this number.
    fn places(&self, number: i64) -> Vec<usize> {
        let stream = match number {
            -1 => Stream::Events,
            -2 => Stream::Deliveries,
            operation => {
                let at = usize::try_from(operation - 1).ok().and_then(|at| self.operations.get(at));
                return at.copied().into_iter().collect();
            }
        };
        (0..self.batch.len()).filter(|at| is_done_in(&self.batch[*at], Some(stream))).collect()
    }
}

/// Whether it is done in this stream, or in any.
fn is_done_in(line: &Settlement, stream: Option<Stream>) -> bool {
    line.handle.place == Place::Stream
        && stream.is_none_or(|stream| line.handle.stream == stream)
        && matches!(line.record, Record::Done)
}

fn operation(settle: &mut redis::ScriptInvocation<'_>, Settlement { handle, record }: &Settlement) {
    let kind = match record {
        Record::Done => "X",
        Record::Schedule { .. } => "S",
        Record::Park { .. } => "P",
        Record::Dead(_) => "D",
    };
    let lease = match handle.place {
        Place::Stream => String::new(),
        Place::Schedule { lease } => lease.to_string(),
    };
    settle.arg(kind).arg(reply::stream_number(handle.stream)).arg(handle.id.to_string()).arg(lease);
    match record {
        Record::Done => {}
        Record::Schedule { after, stored } => {
            settle.arg(millis(*after)).arg(stored.as_ref());
        }
        Record::Park { subscription, stored } => {
            settle.arg(parking::member(subscription, handle)).arg(stored.as_ref());
        }
        Record::Dead(letter) => {
            let fields = letter::to_fields(letter);
            settle.arg(fields.len() * 2);
            for (name, value) in fields {
                settle.arg(name.as_ref()).arg(value.as_ref());
            }
        }
    }
}

impl Redis {
    /// Settles a batch.
    pub(super) async fn settle_all(&self, batch: &[Settlement]) -> Result<(), Error> {
        let told = Told::of(batch);
        let mut settle = self.invocation(&self.scripts.settle);
        settle.arg(&self.keys.group).arg(&self.host_id);
        told.tell(&mut settle);
        let (not_ours, refused) = reply::settled(self.run(&settle).await?)?;
        if not_ours > 0 {
            let why = "it was taken for dead, or an answer was lost and they are recorded already";
            tracing::warn!(entries = not_ours, "outcomes of what this host has no more are not recorded: {why}");
        }
        let places: Vec<usize> = refused.iter().flat_map(|(number, _)| told.places(*number)).collect();
        let is_over = |(at, line)| (!places.contains(&at)).then_some(line);
        self.hand.let_go(batch.iter().enumerate().filter_map(is_over).map(|line: &Settlement| &line.handle));
        let Some((_, text)) = refused.into_iter().next() else { return Ok(()) };
        let why = if words::is_wrong_type(&text) { self.wrong_types().await.unwrap_or(text) } else { text };
        Err(Error::Refused { store: self.commands.to_string(), why, places })
    }
}
