//! The queue in Redis: two streams with a consumer group, a retry schedule, and the dead letters, under the keys and
//! fields that the O2-IMS gateway's Go workers use. For any number of hosts.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Pipeline, Value, cmd};

use super::{Ahead, DeadPage, Depth, Due, Error, Filter, Queue, SHOWN_BYTES_MAX, Start, Unparked};
use crate::entry::{DeadLetter, Entry, EntryId, Handle, Settlement, Stream, Turns};
use crate::link::{Address, Link, Waits};
use ahead::Looking;
pub use claiming::Claiming;
use hand::Hand;
pub use janitor::Retention;
use liveness::Life;
use lost::Lost;
use receiving::Sizes;
use scripts::Scripts;

mod ahead;
mod claiming;
mod hand;
mod janitor;
mod kinds;
pub(crate) mod letter;
mod liveness;
mod lost;
mod parking;
mod receiving;
mod reply;
mod scripts;
mod settling;
mod turns;
mod words;

/// Dead letters read at once while looking for those that match a filter.
const SCAN_PAGE: NonZeroUsize = NonZeroUsize::new(100).expect("it is more than none");
/// And how many such pages one call reads at most, before it answers with where to go on.
const SCAN_PAGES_MAX: usize = 100;

/// The names of a queue's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The stream that producers write.
    pub events: String,
    /// The stream that fan-out and replay write.
    pub deliveries: String,
    /// The retry schedule; `:data` is appended for what is scheduled.
    pub retry: String,
    /// The stream of dead letters.
    pub dead_letters: String,
    /// The consumer group on both streams.
    pub group: String,
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            events: "o2ims:events".to_owned(),
            deliveries: "o2ims:deliveries".to_owned(),
            retry: "o2ims:retry".to_owned(),
            dead_letters: "o2ims:dlq".to_owned(),
            group: "webhook-workers".to_owned(),
        }
    }
}

impl Keys {
    /// The keys of one of several shards: its number joins what stands in braces, so that a Cluster may keep them
    /// elsewhere than those of the others.
    #[must_use]
    pub fn of_shard(&self, number: u16) -> Keys {
        let of_shard = |key: &str| key.replacen('}', &format!(":{number}}}"), 1);
        Keys {
            events: of_shard(&self.events),
            deliveries: of_shard(&self.deliveries),
            retry: of_shard(&self.retry),
            dead_letters: of_shard(&self.dead_letters),
            group: self.group.clone(),
        }
    }
}

/// The queue in Redis.
pub struct Redis {
    address: Address,
    waits: Waits,
    /// Everything but the blocking reads and the beats.
    commands: Link,
    /// Who is late is taken for dead, so nothing large may stand before them.
    beats: Link,
    /// A blocking read holds up its connection, so each worker has its own.
    readers: Mutex<Vec<Option<Link>>>,
    sizes: Sizes,
    keys: Keys,
    retry_data: String,
    parked: String,
    /// What was moved ahead and is not yet received where it waited.
    ahead: String,
    looking: Looking,
    /// Of the lines.
    lines: [String; 3],
    /// Hosts, held, claims and counts.
    liveness: [String; 4],
    retention: Retention,
    turns: Option<Turns>,
    claiming: Claiming,
    host_id: String,
    life: Life,
    hand: Hand,
    /// Held by whoever asks for suspects until it is known what came: two that ask at once would get one each.
    suspecting: tokio::sync::Mutex<()>,
    lost: Lost,
    scripts: Scripts,
}

impl Redis {
    /// A queue on the server at `url`. Connects when first used, so the server may come later.
    pub fn new(url: &str, keys: Keys, claiming: Claiming) -> Result<Redis, Error> {
        let address = Address::parse(url).map_err(|error| Error::BadUrl(error.to_string()))?;
        Ok(Redis::at(address, Waits::default(), keys, claiming))
    }

    /// The same at an address that was read before, with other waits.
    #[must_use]
    pub fn at(address: Address, waits: Waits, keys: Keys, claiming: Claiming) -> Redis {
        let [commands, beats] = [(); 2].map(|()| Link::new(&address, &keys.events, waits));
        let retry_data = format!("{}:data", keys.retry);
        let [parked, ahead] = ["parked", "ahead"].map(|name| format!("{}:{name}", keys.retry));
        let lines = ["lines", "first", "next"].map(|name| format!("{}:{name}", keys.retry));
        let liveness = ["hosts", "held", "claims", "counts"].map(|name| format!("{}:{name}", keys.retry));
        let (readers, host_id, scripts) = (Mutex::default(), host_id(), Scripts::new());
        Redis {
            address,
            waits,
            commands,
            beats,
            readers,
            sizes: Sizes::default(),
            keys,
            retry_data,
            parked,
            ahead,
            looking: Looking::default(),
            lines,
            liveness,
            retention: Retention::default(),
            turns: None,
            claiming,
            host_id,
            life: Life::default(),
            hand: Hand::default(),
            suspecting: tokio::sync::Mutex::default(),
            lost: Lost::default(),
            scripts,
        }
    }

    /// The same queue, with what is done kept for so long.
    #[must_use]
    pub fn with_retention(self, retention: Retention) -> Redis {
        Redis { retention, ..self }
    }

    /// The same queue for a host that has entries wait for their turn.
    #[must_use]
    pub fn with_turns(self, turns: Turns) -> Redis {
        Redis { turns: Some(turns), ..self }
    }

    /// Whether there is anything of such a queue, be it empty.
    pub async fn is_used(&self) -> Result<bool, Error> {
        let there: u64 = self.ask(cmd("EXISTS").arg(&self.keys.events).arg(&self.keys.deliveries)).await?;
        Ok(there > 0)
    }

    async fn take_due_ones(&self, max: NonZeroUsize) -> Result<Due, Error> {
        let suspecting = self.suspecting.lock().await;
        let mut take = self.invocation(&self.scripts.take_due);
        take.arg(max.get()).arg(millis(self.claiming.idle)).arg(&self.keys.group).arg(&self.host_id);
        take.arg(self.hand.suspects_left()).arg(self.claiming.claims_max);
        take.arg(u8::from(self.may_judge())).arg(millis(self.claiming.dead_after));
        take.arg(SHOWN_BYTES_MAX);
        let (taken, next) = reply::due(self.run(&take).await?)?;
        let judged = taken.into_iter().map(|taken| self.judge(taken)).collect();
        drop(suspecting);
        let entries = self.still_ours(judged).await?;
        self.hand.take(&entries);
        Ok(Due { entries, next })
    }

    async fn replay_one(&self, id: EntryId) -> Result<Option<EntryId>, Error> {
        let Some(letter) = self.dead_letter(id).await? else { return Ok(None) };
        let mut replay = self.invocation(&self.scripts.replay);
        replay.arg(id.to_string());
        for (name, value) in letter::to_delivery_fields(&letter, SystemTime::now()) {
            replay.arg(name.as_ref()).arg(value.as_ref());
        }
        let answer: Option<String> = self.run(&replay).await?;
        answer.map(|id| reply::id(id.as_bytes())).transpose()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Error> {
        self.answer(command.query_async(&mut self.commands.clone()).await).await
    }

    async fn ask_all<T: redis::FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Error> {
        self.answer(pipeline.query_async(&mut self.commands.clone()).await).await
    }

    async fn run<T: redis::FromRedisValue>(&self, script: &redis::ScriptInvocation<'_>) -> Result<T, Error> {
        self.run_over(&self.commands, script).await
    }

    async fn run_over<T: redis::FromRedisValue>(
        &self,
        link: &Link,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<T, Error> {
        self.answer(script.invoke_async(&mut link.clone()).await).await
    }

    async fn answer<T>(&self, answer: redis::RedisResult<T>) -> Result<T, Error> {
        match answer {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(error).await),
        }
    }

    async fn failed(&self, error: redis::RedisError) -> Error {
        if words::is_wrong_type(&error.to_string())
            && let Some(why) = self.wrong_types().await
        {
            return Error::Corrupt(format!("{}: {why}", self.commands));
        }
        self.unavailable(&error)
    }

    fn unavailable(&self, error: &redis::RedisError) -> Error {
        Error::Unavailable { store: self.commands.to_string(), why: words::of(error) }
    }

    fn invocation<'a>(&'a self, script: &'a redis::Script) -> redis::ScriptInvocation<'a> {
        let mut invocation = script.prepare_invoke();
        for key in self.all_keys() {
            invocation.key(key);
        }
        invocation
    }

    /// In the order in which scripts are told them.
    fn all_keys(&self) -> [&String; kinds::KEYS] {
        let keys = &self.keys;
        let [lines, first, next] = &self.lines;
        let [hosts, held, claims, counts] = &self.liveness;
        let (events, deliveries, retry, data) = (&keys.events, &keys.deliveries, &keys.retry, &self.retry_data);
        let (dead, parked, ahead) = (&keys.dead_letters, &self.parked, &self.ahead);
        [events, deliveries, retry, data, dead, parked, lines, first, next, hosts, held, claims, counts, ahead]
    }
}

#[async_trait]
impl Queue for Redis {
    async fn publish(&self, events: &[Bytes]) -> Result<Vec<EntryId>, Error> {
        let mut pipeline = redis::pipe();
        for event in events {
            pipeline.cmd("XADD").arg(&self.keys.events).arg("*").arg("event").arg(event.as_ref());
        }
        let ids: Vec<String> = self.ask_all(&pipeline).await?;
        ids.iter().map(|id| reply::id(id.as_bytes())).collect()
    }

    async fn receive(&self, worker: usize, max: NonZeroUsize, wait: Duration) -> Result<Vec<Entry>, Error> {
        self.stay_alive().await?;
        let consumer = format!("{}/{worker}", self.host_id);
        let found = self.found_again(&consumer, max.get()).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        let read = self.read(worker, &consumer, max, wait).await;
        self.may_have_lost(&consumer, &read);
        read
    }

    async fn take_due(&self, max: NonZeroUsize) -> Result<Due, Error> {
        self.stay_alive().await?;
        self.give_back_lost_due().await?;
        let taken = self.take_due_ones(max).await;
        self.may_have_lost_due(&taken);
        taken
    }

    async fn claim(&self, max: NonZeroUsize) -> Result<Vec<Entry>, Error> {
        self.claim_abandoned(max.get()).await
    }

    async fn beat(&self) -> Result<(), Error> {
        self.say_alive().await
    }

    async fn give_back(&self, handles: &[Handle]) -> Result<(), Error> {
        self.hand_back(handles).await
    }

    async fn leave(&self) -> Result<(), Error> {
        self.say_gone().await
    }

    async fn tidy(&self) -> Result<u64, Error> {
        self.tidy_up().await
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error> {
        self.settle_all(batch).await
    }

    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<Unparked>, Error> {
        let mut unpark = self.invocation(&self.scripts.unpark);
        for (subscription, max) in wanted {
            unpark.arg(&**subscription).arg(*max);
        }
        let counts: Vec<usize> = self.run(&unpark).await?;
        Ok(counts.into_iter().map(Unparked::from).collect())
    }

    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error> {
        let mut find = self.invocation(&self.scripts.parked);
        find.arg(parking::after(after)).arg(max.get());
        let found: Vec<String> = self.run(&find).await?;
        Ok(found.into_iter().map(Arc::from).collect())
    }

    async fn look_ahead(&self, beyond: usize, max: NonZeroUsize) -> Result<Option<Ahead>, Error> {
        self.look(beyond, max.get()).await
    }

    async fn move_ahead(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error> {
        self.overtake(entries).await
    }

    async fn dead_letters(&self, filter: &Filter, start: Start, max: NonZeroUsize) -> Result<DeadPage, Error> {
        let (mut page, mut at, sizes) = (DeadPage::default(), start, Sizes::large());
        for _ in 0..SCAN_PAGES_MAX {
            let span = filter.span(at);
            if span.is_empty() {
                return Ok(DeadPage { next: None, ..page });
            }
            let (oldest, newest) = (span.start.to_string(), format!("({}", span.end));
            let (name, from, to) =
                if at.is_forward() { ("XRANGE", oldest, newest) } else { ("XREVRANGE", newest, oldest) };
            let count = sizes.fit(SCAN_PAGE);
            let mut range = cmd(name);
            range.arg(&self.keys.dead_letters).arg(from).arg(to).arg("COUNT").arg(count);
            let entries = self.ask(&range).await.and_then(|answer| reply::entries(Stream::Deliveries, answer));
            sizes.read(&entries);
            let entries = entries?;
            let is_last = entries.len() < count;
            for entry in entries {
                if page.is_full(max) {
                    return Ok(page);
                }
                page.next = Some(entry.handle.id);
                at = at.past(entry.handle.id);
                let letter = letter::from_entry(&entry);
                if filter.matches(&letter) {
                    page.add(entry.handle.id, letter);
                }
            }
            if is_last {
                page.next = None;
                break;
            }
        }
        Ok(page)
    }

    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error> {
        let mut range = cmd("XRANGE");
        range.arg(&self.keys.dead_letters).arg(id.to_string()).arg(id.to_string());
        let entries = reply::entries(Stream::Deliveries, self.ask(&range).await?)?;
        Ok(entries.first().map(letter::from_entry))
    }

    async fn replay(&self, ids: &[EntryId]) -> Result<Vec<Option<EntryId>>, Error> {
        let mut deliveries = Vec::with_capacity(ids.len());
        for id in ids {
            match self.replay_one(*id).await {
                Ok(delivery) => deliveries.push(delivery),
                Err(error) if deliveries.is_empty() => return Err(error),
                // What was done is told; who asks for the others meets it again.
                Err(_) => break,
            }
        }
        Ok(deliveries)
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<usize, Error> {
        if ids.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        self.ask(cmd("XDEL").arg(&self.keys.dead_letters).arg(ids)).await
    }

    async fn depth(&self) -> Result<Depth, Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XLEN").arg(&self.keys.events);
        pipeline.cmd("HGET").arg(&self.liveness[3]).arg("over");
        let (events, over): (u64, Option<u64>) = self.ask_all(&pipeline).await?;
        let mut depth = Depth { events, ..Depth::default() };
        let mut is_known = true;
        for (stream, all, over) in [(&self.keys.events, events, over), (&self.keys.deliveries, 0, None)] {
            // A stream that does not exist yet is an error here, and holds nothing.
            let mut groups = cmd("XINFO");
            groups.arg("GROUPS").arg(stream);
            let answer: redis::RedisResult<Value> = groups.query_async(&mut self.commands.clone()).await;
            match answer {
                Ok(groups) => {
                    let (waiting, pending) = match reply::group(&groups, &self.keys.group) {
                        Some(mut group) => {
                            is_known &= group.waiting.is_some();
                            group.waiting =
                                group.waiting.map(|waiting| waiting.saturating_sub(over.unwrap_or_default()));
                            (self.waiting(stream, &group).await?, group.pending)
                        }
                        // Nobody has received any.
                        None => (all, 0),
                    };
                    depth.waiting += waiting;
                    depth.pending += pending;
                }
                Err(error) if error.code() == Some("ERR") => {}
                Err(error) => return Err(self.failed(error).await),
            }
        }
        // After what is pending: what is settled meanwhile is counted twice, and not missed.
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZCARD").arg(&self.keys.retry);
        pipeline.cmd("XLEN").arg(&self.keys.dead_letters);
        pipeline.cmd("ZCARD").arg(&self.parked);
        pipeline.cmd("ZCARD").arg(&self.lines[0]);
        pipeline.cmd("HLEN").arg(&self.lines[1]);
        pipeline.cmd("ZCARD").arg(&self.ahead);
        let (lines, first, ahead): (u64, u64, u64);
        (depth.scheduled, depth.dead, depth.parked, lines, first, ahead) = self.ask_all(&pipeline).await?;
        depth.in_line = lines.saturating_sub(first);
        // Of what was only counted so far nobody knows how many those are.
        if is_known {
            depth.waiting = depth.waiting.saturating_sub(ahead);
        }
        Ok(depth)
    }

    async fn check(&self) -> Result<Vec<String>, Error> {
        self.ask::<()>(&cmd("PING")).await?;
        let mut dangers = Vec::new();
        // CONFIG may be forbidden to us; then nobody can tell.
        let setting = async |name: &str| {
            let mut get = cmd("CONFIG");
            get.arg("GET").arg(name);
            self.ask::<Vec<String>>(&get).await.ok().and_then(|pair| pair.into_iter().nth(1))
        };
        if let Some(policy) = setting("maxmemory-policy").await.filter(|policy| policy != "noeviction") {
            dangers.push(format!("Redis may evict events: maxmemory-policy is {policy}; set it to noeviction"));
        }
        let (aof, rdb) = (setting("appendonly").await, setting("save").await);
        if aof.as_deref() == Some("no") && rdb.as_deref() == Some("") {
            dangers.push("Redis keeps nothing over a restart: set appendonly to yes".to_owned());
        }
        Ok(dangers)
    }
}

/// Names this host among the consumers: machine, process and a random part, so that no two are ever the same.
fn host_id() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "host".to_owned());
    format!("weft-{}-{}-{:08x}", machine.trim(), std::process::id(), fastrand::u32(..))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
