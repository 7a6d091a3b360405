//! What every queue does. Each case runs on Redis, on two shards in Redis, on the embedded queue and on the one in
//! memory.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tempfile::TempDir;
use tests::{RedisServer, eventually};
use weft::entry::{Content, DeadLetter, Entry, EntryId, Handle, Place, Record, Settlement, Stream, Turn, Turns};
use weft::outcome::DeadReason;
use weft::queue::embedded::Embedded;
use weft::queue::memory::Memory;
use weft::queue::redis::{Claiming, Keys, Redis};
use weft::queue::sharded::{Sharded, shard_of};
use weft::queue::{Depth, Filter, Queue, Start};

use crate::topology;
use ahead::{
    each_comes_once_whoever_reads_and_moves, what_is_moved_ahead_is_due_at_once_and_received_no_more,
    what_somebody_has_is_not_moved, what_was_moved_and_is_done_does_not_come_again, what_was_moved_outlives_its_host,
    who_comes_last_is_shown_first,
};
use letters::{
    a_dead_letter_is_replayed_once, a_dead_letter_keeps_all_it_is_told, a_page_of_large_dead_letters_is_short,
    a_purged_dead_letter_is_gone, a_replay_is_a_delivery_with_its_past, a_trail_keeps_the_last_deaths_and_counts_all,
    dead_letters_are_filtered, dead_letters_are_filtered_by_the_time_they_died,
    dead_letters_are_listed_in_pages_newest_or_oldest_first, many_are_replayed_in_their_order,
};
use waiting::{
    all_due, subscriptions_with_parked_deliveries_are_found_in_pages, those_in_line_come_one_after_the_other,
    what_is_brought_back_comes_in_the_order_of_its_publication, what_is_parked_comes_back_oldest_first_when_asked_for,
    what_is_parked_from_the_schedule_keeps_its_age, who_is_first_in_line_stays_so_until_it_is_over,
};

mod ahead;
mod large;
mod letters;
mod shards;
mod waiting;

/// Short, so that what a host left is taken over while the test waits.
const IDLE: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(5);

/// A store that outlives the queues on it.
enum Store {
    Redis(RedisServer),
    Sharded(RedisServer),
    Embedded(TempDir),
    Memory(Memory),
}

/// Of a queue with shards.
const SHARDS: u16 = 2;

impl Store {
    async fn redis() -> Store {
        Store::Redis(RedisServer::start().await)
    }

    async fn sharded() -> Store {
        Store::Sharded(RedisServer::start().await)
    }

    fn embedded() -> Store {
        Store::Embedded(tempfile::tempdir().unwrap())
    }

    fn memory() -> Store {
        Store::Memory(Memory::new(IDLE))
    }

    /// As a host does when it starts.
    fn open(&self) -> Arc<dyn Queue> {
        match self {
            Store::Redis(server) => Arc::new(redis(server, Keys::default())),
            Store::Sharded(server) => sharded(|keys| Arc::new(redis(server, keys))),
            Store::Memory(memory) => Arc::new(memory.clone()),
            Store::Embedded(directory) => Arc::new(Embedded::open(&self.path_of(directory), IDLE, 5).unwrap()),
        }
    }

    /// As a host does that keeps an order: by the first letter of the event, if that is no brace.
    fn open_in_turn(&self) -> Arc<dyn Queue> {
        let turns: Turns = Arc::new(|entry| {
            let event = Bytes::copy_from_slice(event(entry));
            let line = (event.first() != Some(&b'{')).then(|| char::from(event[0]).to_string())?;
            Some(Turn { line, stored: event })
        });
        match self {
            Store::Redis(server) => Arc::new(redis(server, Keys::default()).with_turns(turns)),
            Store::Sharded(server) => sharded(|keys| Arc::new(redis(server, keys).with_turns(Arc::clone(&turns)))),
            Store::Memory(memory) => Arc::new(memory.clone().with_turns(turns)),
            Store::Embedded(directory) => {
                Arc::new(Embedded::open(&self.path_of(directory), IDLE, 5).unwrap().with_turns(turns))
            }
        }
    }

    fn path_of(&self, directory: &TempDir) -> PathBuf {
        directory.path().join("queue")
    }
}

fn redis(server: &RedisServer, keys: Keys) -> Redis {
    let claiming = Claiming { dead_after: 3 * IDLE, idle: IDLE, ..Claiming::default() };
    Redis::new(&server.url(), keys, claiming).unwrap()
}

/// Two shards. Numbered events are spread by tens; the first ten and all others go to the first shard.
fn sharded(open: impl Fn(Keys) -> Arc<dyn Queue>) -> Arc<dyn Queue> {
    let keys = topology::keys();
    let spread = |event: &Bytes| {
        let digits = |byte: &u8| byte.is_ascii_digit().then(|| usize::from(*byte - b'0'));
        let number = if event.starts_with(b"{") {
            event.iter().filter_map(digits).fold(0, |all, digit| 10 * all + digit)
        } else {
            0
        };
        let shard = u16::try_from(number / 10).unwrap() % SHARDS;
        // A name that leads there.
        let mut names = (0..100).map(|name| name.to_string());
        names.find(|name| shard_of(name, SHARDS) == shard).unwrap()
    };
    Arc::new(Sharded::over((0..SHARDS).map(|number| open(keys.of_shard(number))).collect(), Arc::new(spread)))
}

macro_rules! on_each {
    ($($case:ident)*) => {
        mod redis {
            $(#[tokio::test] async fn $case() { super::$case(super::Store::redis().await).await; })*
        }
        mod sharded {
            $(#[tokio::test] async fn $case() { super::$case(super::Store::sharded().await).await; })*
        }
        mod embedded {
            $(#[tokio::test] async fn $case() { super::$case(super::Store::embedded()).await; })*
        }
        mod memory {
            $(#[tokio::test] async fn $case() { super::$case(super::Store::memory()).await; })*
        }
    };
}

on_each! {
    entries_come_in_the_order_of_their_publication
    receiving_waits_for_the_first_entry
    nothing_comes_when_nothing_is_there
    no_entry_is_handed_out_twice
    what_is_done_never_comes_again
    what_was_not_settled_comes_again_when_its_host_is_gone
    a_scheduled_delivery_comes_when_it_is_due
    the_schedule_says_when_the_next_one_is_due
    a_due_delivery_that_is_not_settled_is_due_again
    settling_with_an_old_lease_changes_nothing
    what_a_living_host_has_in_hand_is_its_own
    what_is_given_back_comes_at_once
    what_is_given_back_comes_before_what_is_due
    settling_twice_changes_nothing
    a_batch_settles_each_entry_in_its_own_way
    a_dead_letter_keeps_all_it_is_told
    dead_letters_are_listed_in_pages_newest_or_oldest_first
    a_page_of_large_dead_letters_is_short
    dead_letters_are_filtered
    dead_letters_are_filtered_by_the_time_they_died
    a_replay_is_a_delivery_with_its_past
    a_trail_keeps_the_last_deaths_and_counts_all
    a_dead_letter_is_replayed_once
    many_are_replayed_in_their_order
    a_purged_dead_letter_is_gone
    depth_counts_what_waits_where
    what_is_settled_while_it_is_counted_is_not_missed
    what_is_parked_comes_back_oldest_first_when_asked_for
    what_is_parked_from_the_schedule_keeps_its_age
    what_is_brought_back_comes_in_the_order_of_its_publication
    subscriptions_with_parked_deliveries_are_found_in_pages
    those_in_line_come_one_after_the_other
    who_is_first_in_line_stays_so_until_it_is_over
    any_bytes_survive
    what_is_stored_outlives_its_host
    who_comes_last_is_shown_first
    what_is_moved_ahead_is_due_at_once_and_received_no_more
    what_somebody_has_is_not_moved
    what_was_moved_and_is_done_does_not_come_again
    what_was_moved_outlives_its_host
    each_comes_once_whoever_reads_and_moves
}

fn count(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<Bytes> {
    numbers.map(|number| Bytes::from(format!("{{\"n\":{number}}}"))).collect()
}

fn event(entry: &Entry) -> &[u8] {
    entry.field("event").expect("it has an event")
}

fn done(handle: Handle) -> Settlement {
    Settlement { handle, record: Record::Done }
}

fn scheduled(handle: Handle, after: Duration, stored: &'static str) -> Settlement {
    Settlement { handle, record: Record::Schedule { after, stored: stored.into() } }
}

fn parked(handle: Handle, subscription: &str, stored: &'static str) -> Settlement {
    Settlement { handle, record: Record::Park { subscription: subscription.into(), stored: stored.into() } }
}

fn dead(handle: Handle, letter: DeadLetter) -> Settlement {
    Settlement { handle, record: Record::Dead(Box::new(letter)) }
}

fn letter(subscription: &str, reason: DeadReason) -> DeadLetter {
    let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    DeadLetter {
        event: Bytes::from_static(b"{\"a\":1.10}"),
        original_id: EntryId::new(1_767_868_200_000, 7),
        failed_at: time(1_767_868_207),
        subscription_id: subscription.to_owned(),
        reason,
        attempts: 4,
        last_status: Some(500),
        last_error: "the endpoint answered 500".to_owned(),
        first_seen: time(1_767_868_200),
        replays: 0,
        died_before: Vec::new(),
        raw: Vec::new(),
    }
}

/// Publishes and receives so many, all at once.
async fn in_hand(queue: &dyn Queue, number: usize) -> Vec<Entry> {
    queue.publish(&numbered(0..number)).await.unwrap();
    receive(queue, number).await
}

/// Receives so many in as many steps as it takes.
async fn receive(queue: &dyn Queue, number: usize) -> Vec<Entry> {
    let (mut all, started) = (Vec::new(), Instant::now());
    // Each worker reads one shard. Whose read waits reads as soon as something comes.
    let workers = queue.shards().len().max(1);
    let wait = if workers > 1 { Duration::from_millis(10) } else { SOON };
    for worker in (0..workers).cycle() {
        let Some(left) = NonZeroUsize::new(number - all.len()) else { break };
        all.extend(queue.receive(worker, left, wait).await.unwrap());
        assert!(started.elapsed() < 6 * SOON, "{} of {number} came", all.len());
    }
    all
}

/// Takes due ones until there is one.
async fn due(queue: &dyn Queue) -> Entry {
    eventually("a due delivery", || async { queue.take_due(count(10)).await.unwrap().entries.pop() }).await
}

/// Takes what a dead host left, in whichever way the queue gives it.
async fn left_behind(queue: &dyn Queue) -> Entry {
    eventually("what was left behind", || async {
        let mut received = queue.receive(0, count(10), Duration::from_millis(10)).await.unwrap();
        received.extend(queue.claim(count(10)).await.unwrap());
        received.pop()
    })
    .await
}

/// How many were brought back of each.
async fn unpark(queue: &dyn Queue, wanted: &[(Arc<str>, usize)]) -> Vec<usize> {
    queue.unpark(wanted).await.unwrap().iter().map(|of| of.count).collect()
}

async fn bury(queue: &dyn Queue, letters: Vec<DeadLetter>) {
    let entries = in_hand(queue, letters.len()).await;
    // One by one, so that their order is theirs.
    for (entry, letter) in entries.into_iter().zip(letters) {
        queue.settle(&[dead(entry.handle, letter)]).await.unwrap();
        // The order of two shards is that of their milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn all_dead(queue: &dyn Queue) -> Vec<(EntryId, DeadLetter)> {
    queue.dead_letters(&Filter::default(), Start::Newest, count(100)).await.unwrap().letters
}

async fn entries_come_in_the_order_of_their_publication(store: Store) {
    let queue = store.open();
    let ids = queue.publish(&numbered(0..100)).await.unwrap();
    let entries = receive(&*queue, 100).await;
    let by_shard = |mut all: Vec<(EntryId, Bytes)>| {
        all.sort_by_key(|(id, _)| id.shard);
        all
    };
    let received = entries.iter().map(|entry| (entry.handle.id, Bytes::copy_from_slice(event(entry)))).collect();
    assert_eq!(by_shard(received), by_shard(ids.into_iter().zip(numbered(0..100)).collect()));
    let stream = |entry: &Entry| entry.handle.stream == Stream::Events && entry.handle.place == Place::Stream;
    assert!(entries.iter().all(stream));
}

async fn receiving_waits_for_the_first_entry(store: Store) {
    let queue = store.open();
    let waiting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.receive(0, count(5), SOON).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let published = Instant::now();
    queue.publish(&numbered(0..1)).await.unwrap();
    assert_eq!(waiting.await.unwrap().len(), 1);
    assert!(published.elapsed() < SOON, "it came only when the wait was over");
}

async fn nothing_comes_when_nothing_is_there(store: Store) {
    let queue = store.open();
    assert!(queue.receive(0, count(5), Duration::from_millis(20)).await.unwrap().is_empty());
    assert!(queue.claim(count(5)).await.unwrap().is_empty());
    let due = queue.take_due(count(5)).await.unwrap();
    assert!(due.entries.is_empty() && due.next.is_none());
    assert!(all_dead(&*queue).await.is_empty());
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

async fn no_entry_is_handed_out_twice(store: Store) {
    let queue = store.open();
    queue.publish(&numbered(0..500)).await.unwrap();
    let workers = (0..4).map(|worker| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let some = queue.receive(worker, count(7), Duration::from_millis(50)).await.unwrap();
                if some.is_empty() {
                    return mine;
                }
                mine.extend(some.into_iter().map(|entry| entry.handle.id));
            }
        })
    });
    let mut all = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        all.extend(worker.await.unwrap());
    }
    assert_eq!(all.len(), 500);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 500);
}

async fn what_is_done_never_comes_again(store: Store) {
    let queue = store.open();
    let batch: Vec<_> = in_hand(&*queue, 20).await.iter().map(|entry| done(entry.handle)).collect();
    queue.settle(&batch).await.unwrap();
    drop(queue);
    let queue = store.open();
    tokio::time::sleep(2 * IDLE).await;
    assert!(queue.claim(count(50)).await.unwrap().is_empty());
    assert!(queue.receive(0, count(50), Duration::from_millis(20)).await.unwrap().is_empty());
}

async fn what_was_not_settled_comes_again_when_its_host_is_gone(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 2).await;
    queue.settle(&[done(entries[0].handle)]).await.unwrap();
    drop(queue);
    let queue = store.open();
    let again = left_behind(&*queue).await;
    assert_eq!((again.handle, event(&again)), (entries[1].handle, event(&entries[1])));
    queue.settle(&[done(again.handle)]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().pending, 0);
}

async fn a_scheduled_delivery_comes_when_it_is_due(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 2).await;
    let settled = Instant::now();
    let batch = [
        scheduled(entries[0].handle, Duration::from_millis(150), "later"),
        scheduled(entries[1].handle, Duration::from_secs(3600), "much later"),
    ];
    queue.settle(&batch).await.unwrap();
    assert!(queue.take_due(count(10)).await.unwrap().entries.is_empty());
    let entry = due(&*queue).await;
    assert!(settled.elapsed() >= Duration::from_millis(145), "too early: {:?}", settled.elapsed());
    assert_eq!(entry.content, Content::Stored("later".into()));
    assert_eq!((entry.handle.id, entry.handle.stream), (entries[0].handle.id, Stream::Events));
    queue.settle(&[done(entry.handle)]).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.scheduled, depth.pending), (1, 0));
}

async fn the_schedule_says_when_the_next_one_is_due(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 1).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::from_secs(60), "x")]).await.unwrap();
    let next = queue.take_due(count(10)).await.unwrap().next.expect("one is scheduled");
    assert!(next > Duration::from_secs(50) && next <= Duration::from_secs(60), "{next:?}");
}

async fn a_due_delivery_that_is_not_settled_is_due_again(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 1).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::ZERO, "x")]).await.unwrap();
    let first = due(&*queue).await;
    assert!(queue.take_due(count(10)).await.unwrap().entries.is_empty(), "it is leased");
    let second = due(&*queue).await;
    assert_eq!((second.handle.id, second.content), (first.handle.id, first.content));
}

async fn settling_with_an_old_lease_changes_nothing(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 1).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::ZERO, "x")]).await.unwrap();
    let first = due(&*queue).await;
    let second = due(&*queue).await;
    assert_ne!(first.handle, second.handle);
    queue.settle(&[dead(first.handle, letter("a", DeadReason::Exhausted))]).await.unwrap();
    assert!(all_dead(&*queue).await.is_empty(), "somebody else has it now");
    queue.settle(&[done(second.handle)]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().scheduled, 0);
}

/// As a host does that works on what it has for longer than others wait.
async fn work_for(queue: &dyn Queue, long: Duration) {
    let began = Instant::now();
    while began.elapsed() < long {
        queue.beat().await.unwrap();
        tokio::time::sleep(IDLE / 10).await;
    }
}

async fn what_a_living_host_has_in_hand_is_its_own(store: Store) {
    // Clones of the queue in memory are not told apart.
    if matches!(store, Store::Memory(_)) {
        return;
    }
    let queue = store.open();
    let entries = in_hand(&*queue, 2).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::ZERO, "x")]).await.unwrap();
    let leased = due(&*queue).await;
    let other = if let Store::Redis(_) = store { store.open() } else { Arc::clone(&queue) };
    let began = Instant::now();
    while began.elapsed() < 4 * IDLE {
        work_for(&*queue, IDLE / 5).await;
        other.beat().await.unwrap();
        assert!(other.claim(count(10)).await.unwrap().is_empty(), "it is robbed");
        assert!(other.take_due(count(10)).await.unwrap().entries.is_empty(), "it is robbed");
    }
    queue.settle(&[done(entries[1].handle), done(leased.handle)]).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.pending, depth.scheduled), (0, 0));
}

async fn what_is_given_back_comes_at_once(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 3).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::ZERO, "x")]).await.unwrap();
    let leased = due(&*queue).await;
    queue.give_back(&[entries[1].handle, leased.handle]).await.unwrap();
    assert_eq!(due(&*queue).await.content, leased.content);
    // The embedded queue serves one host: what it gives back comes when it is opened again.
    if !matches!(store, Store::Embedded(_)) {
        let back = eventually("it comes again", || async {
            let mut received = queue.receive(0, count(10), Duration::from_millis(10)).await.unwrap();
            received.extend(queue.claim(count(10)).await.unwrap());
            received.into_iter().find(|entry| entry.handle == entries[1].handle)
        });
        let back = back.await;
        queue.settle(&[done(back.handle)]).await.unwrap();
    }
    queue.leave().await.unwrap();
    drop(queue);
    let queue = store.open();
    let left = left_behind(&*queue).await;
    assert!(entries[1..].iter().any(|entry| entry.handle == left.handle), "{left:?}");
}

async fn what_is_given_back_comes_before_what_is_due(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 3).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::ZERO, "taken")]).await.unwrap();
    let taken = due(&*queue).await;
    let rest = entries[1..].iter().map(|entry| scheduled(entry.handle, Duration::ZERO, "due"));
    queue.settle(&rest.collect::<Vec<_>>()).await.unwrap();
    // By the clock of the store it is later now, so what is given back now must not be due from now on only.
    tokio::time::sleep(Duration::from_millis(5)).await;
    queue.give_back(&[taken.handle]).await.unwrap();
    let first = queue.take_due(count(1)).await.unwrap().entries;
    assert_eq!(first[0].content, taken.content);
}

async fn settling_twice_changes_nothing(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 3).await;
    let batch = [
        done(entries[0].handle),
        dead(entries[1].handle, letter("a", DeadReason::Gone)),
        scheduled(entries[2].handle, Duration::from_secs(60), "x"),
    ];
    queue.settle(&batch).await.unwrap();
    let once = queue.depth().await.unwrap();
    queue.settle(&batch).await.unwrap();
    assert_eq!(queue.depth().await.unwrap(), once);
    assert_eq!((once.dead, once.scheduled, once.pending), (1, 1, 0));
}

async fn a_batch_settles_each_entry_in_its_own_way(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 300).await;
    let settle = |(at, entry): (usize, &Entry)| match at % 3 {
        0 => done(entry.handle),
        1 => scheduled(entry.handle, Duration::from_secs(60), "x"),
        _ => dead(entry.handle, letter("a", DeadReason::Exhausted)),
    };
    let batch: Vec<_> = entries.iter().enumerate().map(settle).collect();
    queue.settle(&batch).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.pending, depth.scheduled, depth.dead), (0, 100, 100));
}

async fn what_is_settled_while_it_is_counted_is_not_missed(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 300).await;
    let settling = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            for entry in entries {
                queue.settle(&[scheduled(entry.handle, Duration::from_secs(3600), "x")]).await.unwrap();
            }
        }
    });
    while !settling.is_finished() {
        let depth = queue.depth().await.unwrap();
        assert!(depth.waiting + depth.pending + depth.scheduled >= 300, "{depth:?}");
        // The queue in memory never waits for anything.
        tokio::task::yield_now().await;
    }
    settling.await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.pending, depth.scheduled), (0, 300));
}

async fn depth_counts_what_waits_where(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 3).await;
    queue.publish(&numbered(3..5)).await.unwrap();
    queue.settle(&[scheduled(entries[0].handle, Duration::from_secs(60), "x")]).await.unwrap();
    queue.settle(&[dead(entries[1].handle, letter("a", DeadReason::Gone))]).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!(
        depth,
        Depth { events: depth.events, waiting: 2, pending: 1, scheduled: 1, parked: 0, in_line: 0, dead: 1 }
    );
    assert!(depth.events >= 3, "{depth:?}");
}

async fn any_bytes_survive(store: Store) {
    let queue = store.open();
    let big = Bytes::from(vec![b'x'; 10 << 20]);
    let odd = Bytes::from((0..=255).collect::<Vec<u8>>());
    let events = [odd, Bytes::new(), big];
    queue.publish(&events).await.unwrap();
    let entries = receive(&*queue, 3).await;
    assert!(entries.iter().map(event).eq(events));
}

async fn what_is_stored_outlives_its_host(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 2).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::ZERO, "x")]).await.unwrap();
    queue.settle(&[dead(entries[1].handle, letter("a", DeadReason::Gone))]).await.unwrap();
    let ids = queue.publish(&numbered(2..3)).await.unwrap();
    drop(queue);
    let queue = store.open();
    assert_eq!(due(&*queue).await.content, Content::Stored("x".into()));
    assert_eq!(all_dead(&*queue).await.len(), 1);
    assert_eq!(receive(&*queue, 1).await[0].handle.id, ids[0]);
    let later = queue.publish(&numbered(3..4)).await.unwrap();
    assert!(later[0] > ids[0], "ids grow over restarts");
}

#[tokio::test]
async fn nobody_overtakes_what_another_host_has_read_and_not_looked_through() {
    let server = RedisServer::start().await;
    let store = Store::Redis(server);
    let queue = store.open_in_turn();
    let Store::Redis(server) = &store else { unreachable!("it was just made") };
    queue.publish(&["a1", "a2"].map(|event| Bytes::from_static(event.as_bytes()))).await.unwrap();
    // The group is made, and a host reads the first one and stops there.
    assert!(queue.receive(0, count(1), Duration::from_millis(1)).await.unwrap().is_empty());
    let _: u64 = server.run(&["XGROUP", "DESTROY", "o2ims:events", "webhook-workers"]).await;
    let _: u64 = server.run(&["DEL", "o2ims:retry:lines", "o2ims:retry:next", "o2ims:retry:data"]).await;
    let _: String = server.run(&["XGROUP", "CREATE", "o2ims:events", "webhook-workers", "0"]).await;
    let read =
        ["XREADGROUP", "GROUP", "webhook-workers", "weft-stopped/0", "COUNT", "1", "STREAMS", "o2ims:events", ">"];
    let _: ::redis::Value = server.run(&read).await;
    assert!(queue.receive(0, count(1), Duration::from_millis(1)).await.unwrap().is_empty());
    let due = queue.take_due(count(10)).await.unwrap();
    assert!(due.entries.is_empty() && due.next.is_some_and(|next| next < Duration::from_millis(50)), "{due:?}");
    // When it is claimed it gets in line before the other.
    eventually("it is claimed", || async {
        queue.claim(count(10)).await.unwrap();
        let stopped: Vec<::redis::Value> =
            server.run(&["XPENDING", "o2ims:events", "webhook-workers", "-", "+", "1", "weft-stopped/0"]).await;
        stopped.is_empty().then_some(())
    })
    .await;
    assert_eq!(all_due(&*queue).await.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), ["a1"]);
}

#[tokio::test]
async fn ids_name_their_shard_and_lead_back_to_it() {
    let store = Store::sharded().await;
    let queue = store.open();
    let entries = in_hand(&*queue, 20).await;
    let shards: HashSet<_> = entries.iter().map(|entry| entry.handle.id.shard).collect();
    assert_eq!(shards, HashSet::from([Some(0), Some(1)]));
    let batch: Vec<_> = entries.iter().map(|entry| dead(entry.handle, letter("a", DeadReason::Gone))).collect();
    queue.settle(&batch).await.unwrap();
    let letters = all_dead(&*queue).await;
    assert_eq!(letters.len(), 20);
    for (id, letter) in &letters {
        let again: EntryId = id.to_string().parse().unwrap();
        assert_eq!(queue.dead_letter(again).await.unwrap().as_ref(), Some(letter));
        assert_eq!(letter.original_id.shard, None, "as the shard itself writes it");
        assert_eq!(queue.dead_letter(EntryId { shard: Some(7), ..*id }).await.unwrap(), None);
    }
    let ((first, _), (last, _)) = (&letters[0], letters.iter().find(|(id, _)| id.shard != letters[0].0.shard).unwrap());
    let delivery = queue.replay(&[*first]).await.unwrap()[0].unwrap();
    assert_eq!(delivery.shard, first.shard);
    assert_eq!(queue.purge(&[*last]).await.unwrap(), 1);
    assert_eq!(queue.depth().await.unwrap().dead, 18);
    assert_eq!(receive(&*queue, 1).await[0].handle.id, delivery);
}
