//! What may not go now: parked until somebody asks for it, or in line behind others.

use std::time::Duration;

use bytes::Bytes;
use tests::RedisServer;
use weft::entry::{Content, Entry, EntryId, Handle};
use weft::outcome::DeadReason;
use weft::queue::Queue;

use super::{SOON, Store, count, dead, done, due, event, in_hand, letter, parked, receive, scheduled, unpark};

pub(super) async fn what_is_parked_comes_back_oldest_first_when_asked_for(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 5).await;
    let names = ["a", "b", "a", "a", "b"].into_iter().zip(["0", "1", "2", "3", "4"]);
    // Parked in no order, once more than once.
    let mut batch: Vec<_> =
        entries.iter().zip(names).map(|(entry, (id, stored))| parked(entry.handle, id, stored)).collect();
    batch.reverse();
    queue.settle(&batch).await.unwrap();
    queue.settle(&batch).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.pending, depth.scheduled, depth.parked), (0, 0, 5));
    assert!(queue.take_due(count(10)).await.unwrap().entries.is_empty(), "it waits until it is asked for");
    let counts = unpark(&*queue, &[("a".into(), 2), ("b".into(), 9), ("nobody".into(), 1)]).await;
    assert_eq!(counts, [2, 2, 0]);
    let due = queue.take_due(count(10)).await.unwrap().entries;
    let mut found: Vec<_> = due.iter().map(|entry| format!("{:?}", entry.content)).collect();
    found.sort();
    let expected = ["0", "1", "2", "4"].map(|stored| format!("{:?}", Content::Stored(stored.into())));
    assert_eq!(found, expected);
    queue.settle(&due.iter().map(|entry| done(entry.handle)).collect::<Vec<_>>()).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.scheduled, depth.parked), (0, 1));
    drop(queue);
    let queue = store.open();
    assert_eq!(unpark(&*queue, &[("a".into(), 1)]).await, [1]);
    assert_eq!(self::due(&*queue).await.content, Content::Stored("3".into()));
}

pub(super) async fn what_is_parked_from_the_schedule_keeps_its_age(store: Store) {
    let queue = store.open();
    let entries = in_hand(&*queue, 2).await;
    queue.settle(&[scheduled(entries[0].handle, Duration::ZERO, "old")]).await.unwrap();
    queue.settle(&[parked(entries[1].handle, "a", "young")]).await.unwrap();
    let old = due(&*queue).await;
    queue.settle(&[parked(old.handle, "a", "old, again")]).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.scheduled, depth.parked), (0, 2));
    // One that is due goes after what is brought back.
    for expected in ["old, again", "young"] {
        assert_eq!(unpark(&*queue, &[("a".into(), 1)]).await, [1]);
        assert_eq!(due(&*queue).await.content, Content::Stored(expected.into()));
    }
}

pub(super) async fn what_is_brought_back_comes_in_the_order_of_its_publication(store: Store) {
    const MANY: usize = 120;
    let queue = store.open();
    let entries = in_hand(&*queue, MANY).await;
    queue.settle(&entries.iter().map(|entry| parked(entry.handle, "a", "x")).collect::<Vec<_>>()).await.unwrap();
    // Not all at once, and what comes later is taken later.
    assert_eq!(unpark(&*queue, &[("a".into(), MANY / 2)]).await, [MANY / 2]);
    assert_eq!(unpark(&*queue, &[("a".into(), MANY)]).await, [MANY / 2]);
    assert_in_order(&queue.take_due(count(MANY)).await.unwrap().entries, MANY);
}

/// Each shard's by itself.
#[track_caller]
fn assert_in_order(entries: &[Entry], number: usize) {
    let ids: Vec<_> = entries.iter().map(|entry| entry.handle.id).collect();
    let mut sorted = ids.clone();
    sorted.sort();
    sorted.dedup();
    let of_shard = |ids: &[EntryId], shard| ids.iter().filter(|id| id.shard == shard).copied().collect::<Vec<_>>();
    for shard in [None, Some(0), Some(1)] {
        assert_eq!(of_shard(&ids, shard), of_shard(&sorted, shard));
    }
    assert_eq!(sorted.len(), number);
}

/// Redis sorts what is due at the same time by its text, where 10 is before 9.
#[tokio::test]
async fn what_was_published_in_one_millisecond_is_brought_back_and_moved_ahead_in_its_order() {
    const NUMBERS: [u64; 9] = [8, 9, 10, 98, 101, 999, 1000, 9999, 10_000];
    let server = RedisServer::start().await;
    let store = Store::Redis(server);
    let Store::Redis(server) = &store else { unreachable!("it is in Redis") };
    let queue = store.open();
    assert!(queue.receive(0, count(1), Duration::from_millis(1)).await.unwrap().is_empty());
    let publish = async |ms: u64| {
        for number in NUMBERS {
            let _: String = server.run(&["XADD", "o2ims:events", &format!("{ms}-{number}"), "event", "{}"]).await;
        }
    };
    for ms in [1, 999, 1000, 1_800_000_000_000] {
        publish(ms).await;
    }
    let all = 4 * NUMBERS.len();
    let entries = receive(&*queue, all).await;
    queue.settle(&entries.iter().map(|entry| parked(entry.handle, "a", "x")).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(unpark(&*queue, &[("a".into(), all)]).await, [all]);
    // What is moved ahead of all that wait goes before what is brought back.
    publish(1_800_000_000_001).await;
    let ahead = queue.look_ahead(1, count(100)).await.unwrap().expect("so many wait").entries;
    let moving: Vec<_> = ahead.iter().map(|entry| (entry.handle, Bytes::from_static(b"x"))).collect();
    assert_eq!(queue.move_ahead(&moving).await.unwrap(), NUMBERS.len());
    let due = queue.take_due(count(100)).await.unwrap().entries;
    let (moved, back) = due.split_at(NUMBERS.len());
    assert!(moved.iter().all(|entry| entry.handle.id.ms == 1_800_000_000_001));
    assert_in_order(moved, NUMBERS.len());
    assert_in_order(back, all);
    // Whoever gives something back lets others have it where it was.
    queue.give_back(&due.iter().map(|entry| entry.handle).collect::<Vec<_>>()).await.unwrap();
    assert_in_order(&queue.take_due(count(100)).await.unwrap().entries, due.len());
    // Ids of producers that count something else than milliseconds are due as well.
    let _: String = server.run(&["XADD", "o2ims:events", "9223372036854775807-1", "event", "{}"]).await;
    let far = receive(&*queue, 1).await;
    queue.settle(&[parked(far[0].handle, "b", "far")]).await.unwrap();
    assert_eq!(unpark(&*queue, &[("b".into(), 1)]).await, [1]);
    assert_eq!(queue.take_due(count(1)).await.unwrap().entries[0].content, Content::Stored("far".into()));
}

pub(super) async fn subscriptions_with_parked_deliveries_are_found_in_pages(store: Store) {
    let queue = store.open();
    assert!(queue.parked(None, count(10)).await.unwrap().is_empty());
    let entries = in_hand(&*queue, 6).await;
    let ids = ["a", "aa", "a", "b", "é", "a b"];
    let batch: Vec<_> = entries.iter().zip(ids).map(|(entry, id)| parked(entry.handle, id, "x")).collect();
    queue.settle(&batch).await.unwrap();
    let page = async |after: Option<&str>, max| {
        let found = queue.parked(after, count(max)).await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 10).await, ["a", "a b", "aa", "b", "é"]);
    assert_eq!(page(None, 2).await, ["a", "a b"]);
    assert_eq!(page(Some("a b"), 2).await, ["aa", "b"]);
    assert_eq!(page(Some("b"), 2).await, ["é"]);
    assert!(page(Some("é"), 2).await.is_empty());
}

/// What is due, in any order.
pub(super) async fn all_due(queue: &dyn Queue) -> Vec<(Handle, String)> {
    let text = |content: &Content| match content {
        Content::Stored(stored) => String::from_utf8_lossy(stored).into_owned(),
        Content::Fields(_) => panic!("it was stored"),
    };
    let due = queue.take_due(count(10)).await.unwrap().entries;
    let mut due: Vec<_> = due.iter().map(|entry| (entry.handle, text(&entry.content))).collect();
    due.sort_by(|a, b| a.1.cmp(&b.1));
    due
}

pub(super) async fn those_in_line_come_one_after_the_other(store: Store) {
    let queue = store.open_in_turn();
    let events = ["a1", "b1", "{}", "a2", "a3", "b2"].map(|event| Bytes::from_static(event.as_bytes()));
    queue.publish(&events).await.unwrap();
    // Only what need not wait is received.
    let free = queue.receive(0, count(10), SOON).await.unwrap();
    assert_eq!(free.iter().map(event).collect::<Vec<_>>(), [b"{}"]);
    let free = &free[0];
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.pending), (0, 1));
    let mut order = Vec::new();
    for _ in 0..3 {
        let due = all_due(&*queue).await;
        assert!(all_due(&*queue).await.is_empty(), "nobody goes before the first is over");
        for (handle, text) in due {
            order.push(text);
            let over = if order.len() == 2 { dead(handle, letter("b", DeadReason::Gone)) } else { done(handle) };
            queue.settle(&[over.clone(), over]).await.unwrap();
        }
    }
    assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    queue.settle(&[done(free.handle)]).await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.pending, depth.scheduled, depth.in_line), (0, 0, 0, 0));
}

pub(super) async fn who_is_first_in_line_stays_so_until_it_is_over(store: Store) {
    let queue = store.open_in_turn();
    let events = ["a1", "a2", "a3"].map(|event| Bytes::from_static(event.as_bytes()));
    queue.publish(&events).await.unwrap();
    assert!(queue.receive(0, count(10), Duration::from_millis(10)).await.unwrap().is_empty());
    let first = all_due(&*queue).await.remove(0);
    assert_eq!(queue.depth().await.unwrap().in_line, 2);
    queue.settle(&[scheduled(first.0, Duration::ZERO, "a1, again")]).await.unwrap();
    let again = due(&*queue).await;
    assert_eq!(again.content, Content::Stored("a1, again".into()));
    queue.settle(&[parked(again.handle, "a", "a1, parked")]).await.unwrap();
    assert!(all_due(&*queue).await.is_empty());
    drop(queue);
    let queue = store.open_in_turn();
    assert_eq!(unpark(&*queue, &[("a".into(), 5)]).await, [1]);
    let again = due(&*queue).await;
    assert_eq!(again.content, Content::Stored("a1, parked".into()));
    queue.settle(&[done(again.handle)]).await.unwrap();
    let second = due(&*queue).await;
    assert_eq!(second.content, Content::Stored("a2".into()));
    // Its host is gone: it comes again, and still nobody overtakes it.
    let second = due(&*queue).await;
    assert_eq!(second.content, Content::Stored("a2".into()));
    queue.settle(&[done(second.handle)]).await.unwrap();
    assert_eq!(due(&*queue).await.content, Content::Stored("a3".into()));
}
