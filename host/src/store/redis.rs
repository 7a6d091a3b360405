//! Plugin state in Redis: for each plugin a hash of its keys, a sorted set of when they end, and how many bytes there are.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use redis::{Script, Value};

use super::millis;
use crate::link::{Address, Link, Waits};
use crate::state::{Act, Answer, ENTRY_BYTES, Error, Request};

/// How long a command may take before the connection is given up. Plugins wait for less.
const WAITS: Waits = Waits { connect: Duration::from_secs(2), response: Duration::from_secs(2) };

/// One atomic step on the keys of one plugin. All time is Redis's own, so that the clocks of the hosts do not matter.
/// KEYS: values, ends, bytes. ARGV: act, key, quota, bytes of an entry, lifetime (ms or empty), value or number.
/// What has ended is forgotten here, a hundred keys at a time, since Redis of today does not do it for members of a hash.
/// Sums are answered as text: a Lua number is exact only to 2^53.
const PERFORM: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local act, key, quota, entry, lifetime, value = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
local function forget(name)
  local size = redis.call('HSTRLEN', KEYS[1], name)
  if redis.call('HDEL', KEYS[1], name) == 1 then redis.call('DECRBY', KEYS[3], size + #name + entry) end
  redis.call('ZREM', KEYS[2], name)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 100)) do forget(name) end
local ends = redis.call('ZSCORE', KEYS[2], key)
if ends and tonumber(ends) <= now then forget(key) end
local is_there = redis.call('HEXISTS', KEYS[1], key) == 1
local function room(more)
  return tonumber(redis.call('GET', KEYS[3]) or '0') + more <= quota
end
local function live()
  if lifetime ~= '' then redis.call('ZADD', KEYS[2], now + tonumber(lifetime), key)
  else redis.call('ZREM', KEYS[2], key) end
end
if act == 'get' then
  return redis.call('HGET', KEYS[1], key)
elseif act == 'delete' then
  forget(key)
  return 1
elseif act == 'set' or act == 'set-if-absent' then
  if act == 'set-if-absent' and is_there then return 0 end
  local more = #value - redis.call('HSTRLEN', KEYS[1], key)
  if not is_there then more = more + #key + entry end
  if more > 0 and not room(more) then return redis.error_reply('QUOTA is used up') end
  redis.call('HSET', KEYS[1], key, value)
  redis.call('INCRBY', KEYS[3], more)
  live()
  return 1
end
local before = redis.call('HSTRLEN', KEYS[1], key)
if not is_there and not room(#key + entry + 20) then return redis.error_reply('QUOTA is used up') end
local sum = redis.pcall('HINCRBY', KEYS[1], key, value)
if type(sum) == 'table' and sum.err then return redis.error_reply('NOTANUMBER ' .. sum.err) end
local more = redis.call('HSTRLEN', KEYS[1], key) - before
if not is_there then
  more = more + #key + entry
  live()
end
redis.call('INCRBY', KEYS[3], more)
return redis.call('HGET', KEYS[1], key)
";

/// The store.
#[derive(Debug)]
pub(super) struct Redis {
    address: Address,
    /// In a Cluster each plugin's keys may be on another server. Plugins are few.
    links: Mutex<HashMap<String, Link>>,
    perform: Script,
}

impl Redis {
    pub(super) fn new(address: Address) -> Redis {
        Redis { address, links: Mutex::default(), perform: Script::new(PERFORM) }
    }

    fn link(&self, key: &str) -> Link {
        let of = if self.address.is_cluster() { key } else { "" };
        let mut links = self.links.lock().expect("no holder of this lock can panic");
        links.entry(of.to_owned()).or_insert_with(|| Link::new(&self.address, of, WAITS)).clone()
    }

    pub(super) async fn perform(&self, request: Request) -> Result<Answer, Error> {
        let Request { plugin, key, act, quota } = request;
        let (word, value, lifetime) = words(&act);
        let mut invocation = self.perform.prepare_invoke();
        // The braces keep the keys of one plugin together where keys are spread over servers.
        let values = format!("weft:state:{{{plugin}}}");
        let mut link = self.link(&values);
        for part in ["", ":ends", ":bytes"] {
            invocation.key(format!("{values}{part}"));
        }
        invocation.arg(word).arg(key).arg(quota).arg(ENTRY_BYTES).arg(lifetime).arg(&value[..]);
        let answer = invocation.invoke_async(&mut link).await;
        match answer.map_err(|error| refused(&link, &error))? {
            Value::Nil if act == Act::Get => Ok(Answer::Value(None)),
            Value::BulkString(bytes) => read(&act, bytes),
            Value::Int(kept) => Ok(if word == "set-if-absent" { Answer::Kept(kept == 1) } else { Answer::Done }),
            other => Err(Error::Unavailable(format!("{link} answers {other:?}"))),
        }
    }
}

fn refused(link: &Link, error: &redis::RedisError) -> Error {
    match error.code() {
        Some("QUOTA") => Error::Quota,
        Some("NOTANUMBER") => Error::NotANumber,
        Some(_) | None => Error::Unavailable(format!("{link}: {error}")),
    }
}

/// The script's name of the act, what it takes, and how long that lives.
fn words(act: &Act) -> (&'static str, Bytes, String) {
    let (word, value, lifetime) = match act {
        Act::Get => ("get", Bytes::new(), None),
        Act::Delete => ("delete", Bytes::new(), None),
        Act::Set { value, lifetime } => ("set", value.clone(), *lifetime),
        Act::SetIfAbsent { value, lifetime } => ("set-if-absent", value.clone(), *lifetime),
        Act::Increment { by, lifetime } => ("increment", by.to_string().into(), *lifetime),
    };
    (word, value, lifetime.map(|lifetime| millis(lifetime).to_string()).unwrap_or_default())
}

fn read(act: &Act, bytes: Vec<u8>) -> Result<Answer, Error> {
    match act {
        Act::Increment { .. } => {
            let sum = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
            sum.map(Answer::Number).ok_or(Error::NotANumber)
        }
        Act::Get | Act::Set { .. } | Act::SetIfAbsent { .. } | Act::Delete => Ok(Answer::Value(Some(bytes.into()))),
    }
}
