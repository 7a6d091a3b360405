//! Looking ahead, and moving entries ahead of others: each is handed out once, whoever reads, moves, claims or dies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tests::{RedisServer, eventually};
use weft::entry::{Content, Entry, EntryId, Handle, Place};
use weft::queue::{Ahead, Depth, Queue};

use super::{SOON, Store, count, done, due, event, receive};

const WAITING: usize = 12;

/// In one shard, where there are shards.
fn named(numbers: std::ops::Range<usize>) -> Vec<Bytes> {
    numbers.map(|number| Bytes::from(format!("e{number:03}"))).collect()
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(event(entry)).into_owned()).collect()
}

/// A queue that somebody receives from, and twelve entries that nobody has received.
async fn waiting(store: &Store) -> Arc<dyn Queue> {
    let queue = store.open();
    for worker in 0..queue.shards().len().max(1) {
        assert!(queue.receive(worker, count(1), Duration::from_millis(1)).await.unwrap().is_empty());
    }
    queue.publish(&named(0..WAITING)).await.unwrap();
    queue
}

async fn look(queue: &dyn Queue, beyond: usize, max: usize) -> Ahead {
    queue.look_ahead(beyond, count(max)).await.unwrap().expect("so many wait")
}

/// The last of those that wait.
async fn last(queue: &dyn Queue, max: usize) -> Vec<Handle> {
    look(queue, 1, max).await.entries.into_iter().map(|entry| entry.handle).collect()
}

fn stored(handles: &[Handle]) -> Vec<(Handle, Bytes)> {
    handles.iter().map(|handle| (*handle, Bytes::from_static(b"moved"))).collect()
}

/// Receives and settles the others, and sees that there are no more.
async fn work_off(queue: &dyn Queue, number: usize) {
    let batch: Vec<_> = receive(queue, number).await.iter().map(|entry| done(entry.handle)).collect();
    queue.settle(&batch).await.unwrap();
    for worker in 0..queue.shards().len().max(1) {
        assert!(queue.receive(worker, count(10), Duration::from_millis(20)).await.unwrap().is_empty());
    }
    assert!(queue.claim(count(10)).await.unwrap().is_empty());
    let depth = queue.depth().await.unwrap();
    assert_eq!(depth, Depth { events: depth.events, ..Depth::default() });
}

pub(super) async fn who_comes_last_is_shown_first(store: Store) {
    let queue = waiting(&store).await;
    assert!(queue.look_ahead(WAITING, count(4)).await.unwrap().is_none(), "not so many wait");
    let ahead = look(&*queue, WAITING - 1, 4).await;
    assert_eq!(names(&ahead.entries), ["e008", "e009", "e010", "e011"]);
    assert!(!ahead.is_in_order && ahead.is_more && ahead.room > 0);
    assert!(ahead.received < ahead.entries[0].handle.id);
    let mut shown = Vec::new();
    loop {
        let ahead = look(&*queue, WAITING - 1, 4).await;
        assert!(ahead.is_in_order);
        shown.extend(names(&ahead.entries));
        if !ahead.is_more {
            break;
        }
    }
    assert_eq!(shown, names(&receive(&*queue, 8).await), "nobody has what is shown");
    queue.publish(&named(12..20)).await.unwrap();
    let ahead = look(&*queue, 9, 100).await;
    assert_eq!(names(&ahead.entries).len(), 8, "only what is new");
    receive(&*queue, 12).await;
    assert!(queue.look_ahead(0, count(4)).await.unwrap().is_none(), "nothing waits");
}

pub(super) async fn what_is_moved_ahead_is_due_at_once_and_received_no_more(store: Store) {
    let queue = waiting(&store).await;
    let all = last(&*queue, 4).await;
    let moving = stored(&[all[1], all[3]]);
    assert_eq!(queue.move_ahead(&moving).await.unwrap(), 2);
    assert_eq!(queue.move_ahead(&moving).await.unwrap(), 0, "they were");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.pending, depth.scheduled), (10, 0, 2));
    let room = look(&*queue, 5, 4).await.room;
    assert_eq!(room, 3, "what is due at once counts");
    let due = queue.take_due(count(10)).await.unwrap().entries;
    assert!(due.iter().map(|entry| entry.handle.id).eq([all[1].id, all[3].id]));
    let is_moved = |entry: &Entry| matches!(entry.handle.place, Place::Schedule { .. });
    assert!(due.iter().all(|entry| is_moved(entry) && entry.content == Content::Stored("moved".into())));
    let others = receive(&*queue, 10).await;
    assert!(others.iter().all(|other| due.iter().all(|entry| entry.handle.id != other.handle.id)));
    let batch: Vec<_> = due.iter().chain(&others).map(|entry| done(entry.handle)).collect();
    queue.settle(&batch).await.unwrap();
    work_off(&*queue, 0).await;
}

pub(super) async fn what_somebody_has_is_not_moved(store: Store) {
    let queue = waiting(&store).await;
    let all = last(&*queue, WAITING).await;
    let entries = receive(&*queue, WAITING).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 0);
    let batch: Vec<_> = entries.iter().map(|entry| done(entry.handle)).collect();
    queue.settle(&batch).await.unwrap();
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 0);
    let nowhere = Handle { id: EntryId { ms: 1, ..all[0].id }, ..all[0] };
    assert_eq!(queue.move_ahead(&stored(&[nowhere])).await.unwrap(), 0);
    assert_eq!(queue.move_ahead(&[]).await.unwrap(), 0);
    assert!(queue.take_due(count(10)).await.unwrap().entries.is_empty());
    work_off(&*queue, 0).await;
}

pub(super) async fn what_was_moved_and_is_done_does_not_come_again(store: Store) {
    let queue = waiting(&store).await;
    let all = last(&*queue, 2).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 2);
    let due = queue.take_due(count(10)).await.unwrap().entries;
    queue.settle(&due.iter().map(|entry| done(entry.handle)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 0);
    work_off(&*queue, 10).await;
}

pub(super) async fn what_was_moved_outlives_its_host(store: Store) {
    let queue = waiting(&store).await;
    let all = last(&*queue, 2).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 2);
    // One is in hand when the host ends.
    assert_eq!(queue.take_due(count(1)).await.unwrap().entries.len(), 1);
    drop(queue);
    let queue = store.open();
    for _ in 0..2 {
        let due = due(&*queue).await;
        assert!(all.iter().any(|moved| moved.id == due.handle.id));
        queue.settle(&[done(due.handle)]).await.unwrap();
    }
    work_off(&*queue, 10).await;
}

pub(super) async fn each_comes_once_whoever_reads_and_moves(store: Store) {
    const ALL: usize = 600;
    let queue = waiting(&store).await;
    queue.publish(&named(WAITING..ALL)).await.unwrap();
    let another = if let Store::Redis(_) | Store::Sharded(_) = store { store.open() } else { Arc::clone(&queue) };
    let reading = (0..4).map(|worker| {
        let queue = Arc::clone(if worker % 3 == 0 { &queue } else { &another });
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let some = queue.receive(worker, count(5), Duration::from_millis(200)).await.unwrap();
                if some.is_empty() {
                    return mine;
                }
                mine.extend(some.into_iter().map(|entry| entry.handle.id));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    });
    let reading: Vec<_> = reading.collect();
    let (mut times, mut moved, began): (HashMap<EntryId, usize>, _, _) = (HashMap::new(), 0, Instant::now());
    while let Some(ahead) = queue.look_ahead(1, count(20)).await.unwrap() {
        let some: Vec<Handle> = ahead.entries.iter().map(|entry| entry.handle).step_by(3).collect();
        let some = stored(&some);
        let both = tokio::join!(queue.move_ahead(&some), another.move_ahead(&some));
        moved += both.0.unwrap() + both.1.unwrap();
        let due = another.take_due(count(100)).await.unwrap().entries;
        another.settle(&due.iter().map(|entry| done(entry.handle)).collect::<Vec<_>>()).await.unwrap();
        due.iter().for_each(|entry| *times.entry(entry.handle.id).or_default() += 1);
        assert!(began.elapsed() < 4 * SOON, "{moved} were moved");
        // The queue in memory never waits for anything, and the others must get on.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for entry in queue.take_due(count(ALL)).await.unwrap().entries {
        *times.entry(entry.handle.id).or_default() += 1;
    }
    assert!(times.len() == moved && moved > 0, "{moved} were moved, {} came", times.len());
    for reader in reading {
        reader.await.unwrap().into_iter().for_each(|id| *times.entry(id).or_default() += 1);
    }
    assert!(times.len() == ALL && times.values().all(|times| *times == 1), "{} came, {moved} were moved", times.len());
}

/// A store in Redis, a queue on it with twelve that wait, and the server.
async fn in_redis() -> (Store, Arc<dyn Queue>) {
    let store = Store::redis().await;
    let queue = waiting(&store).await;
    (store, queue)
}

fn server(store: &Store) -> &RedisServer {
    match store {
        Store::Redis(server) | Store::Sharded(server) => server,
        Store::Embedded(_) | Store::Memory(_) => unreachable!("it is in Redis"),
    }
}

async fn left_ahead(store: &Store) -> u64 {
    server(store).run(&["ZCARD", "o2ims:retry:ahead"]).await
}

async fn read_by(store: &Store, consumer: &str, number: &str) {
    let read = ["XREADGROUP", "GROUP", "webhook-workers", consumer, "COUNT", number, "STREAMS", "o2ims:events", ">"];
    let _: ::redis::Value = server(store).run(&read).await;
}

#[tokio::test]
async fn what_was_moved_and_then_read_by_a_host_that_died_is_not_claimed() {
    let (store, queue) = in_redis().await;
    let all = last(&*queue, 4).await;
    assert_eq!(queue.move_ahead(&stored(&all[1..3])).await.unwrap(), 2);
    // It died between the read and the question what was moved.
    read_by(&store, "weft-dead/0", "100").await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 0, "somebody has read the others");
    let claimed = eventually("the others are claimed", || async {
        let claimed = queue.claim(count(100)).await.unwrap();
        (!claimed.is_empty()).then_some(claimed)
    });
    let claimed: Vec<Handle> = claimed.await.iter().map(|entry| entry.handle).collect();
    assert_eq!(claimed.len(), 10);
    let due = queue.take_due(count(10)).await.unwrap().entries;
    assert_eq!(due.len(), 2);
    assert!(claimed.iter().all(|handle| due.iter().all(|entry| entry.handle.id != handle.id)));
    let batch: Vec<_> =
        claimed.iter().chain(due.iter().map(|entry| &entry.handle)).map(|handle| done(*handle)).collect();
    queue.settle(&batch).await.unwrap();
    work_off(&*queue, 0).await;
    assert_eq!(left_ahead(&store).await, 0);
}

#[tokio::test]
async fn what_is_trimmed_after_it_was_moved_is_not_lost() {
    let store = Store::redis().await;
    let queue = store.open();
    assert!(queue.receive(0, count(1), Duration::from_millis(1)).await.unwrap().is_empty());
    assert_eq!(queue.tidy().await.unwrap(), 0);
    queue.publish(&named(0..WAITING)).await.unwrap();
    let all = last(&*queue, 2).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 2);
    let _: u64 = server(&store).run(&["XTRIM", "o2ims:events", "MAXLEN", "0"]).await;
    assert_eq!(queue.tidy().await.unwrap(), 10);
    assert_eq!(left_ahead(&store).await, 0);
    let due = queue.take_due(count(10)).await.unwrap().entries;
    assert_eq!(due.len(), 2, "they are delivered");
    queue.settle(&due.iter().map(|entry| done(entry.handle)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(queue.tidy().await.unwrap(), 10);
    work_off(&*queue, 0).await;
}

#[tokio::test]
async fn however_many_are_trimmed_after_they_were_moved_none_is_lost() {
    let store = Store::redis().await;
    let queue = store.open();
    assert!(queue.receive(0, count(1), Duration::from_millis(1)).await.unwrap().is_empty());
    queue.publish(&named(0..250)).await.unwrap();
    let all = last(&*queue, 1000).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 250);
    assert_eq!(queue.tidy().await.unwrap(), 0);
    let _: u64 = server(&store).run(&["XTRIM", "o2ims:events", "MAXLEN", "0"]).await;
    for _ in 0..4 {
        assert_eq!(queue.tidy().await.unwrap(), 0);
    }
    assert_eq!(left_ahead(&store).await, 0);
    // What was not moved is lost, also while others that were moved wait.
    queue.publish(&named(0..250)).await.unwrap();
    let all = last(&*queue, 249).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 249);
    let _: u64 = server(&store).run(&["XTRIM", "o2ims:events", "MAXLEN", "240"]).await;
    assert_eq!(queue.tidy().await.unwrap(), 1);
}

#[tokio::test]
async fn ids_that_are_no_times_are_due_at_once_as_well() {
    let (store, queue) = in_redis().await;
    for id in ["1795716724703969-0", "1795716724703969-1", "1795716724703970-0"] {
        let _: String = server(&store).run(&["XADD", "o2ims:events", id, "event", "e"]).await;
    }
    let all = last(&*queue, 3).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 3);
    let due = queue.take_due(count(10)).await.unwrap().entries;
    assert!(due.iter().map(|entry| entry.handle.id).eq(all.iter().map(|handle| handle.id)));
}

#[tokio::test]
async fn who_looks_slowly_goes_on_where_it_was() {
    let (store, queue) = in_redis().await;
    assert_eq!(names(&look(&*queue, 5, 4).await.entries), ["e008", "e009", "e010", "e011"]);
    // Longer than a host is the one that looks.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(names(&look(&*queue, 5, 4).await.entries), ["e000", "e001", "e002", "e003"]);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let another = store.open();
    assert_eq!(names(&look(&*another, 5, 4).await.entries), ["e008", "e009", "e010", "e011"]);
    assert!(queue.look_ahead(5, count(4)).await.unwrap().is_none());
}

#[tokio::test]
async fn few_are_shown_where_they_are_large() {
    let store = Store::redis().await;
    let queue = store.open();
    assert!(queue.receive(0, count(1), Duration::from_millis(1)).await.unwrap().is_empty());
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    queue.publish(&vec![large; 30]).await.unwrap();
    queue.publish(&named(0..20)).await.unwrap();
    let ahead = look(&*queue, 5, 1000).await;
    assert!((20..=30).contains(&ahead.entries.len()), "{}", ahead.entries.len());
    assert!(ahead.is_more && !ahead.is_in_order);
    let mut shown = ahead.entries.len();
    loop {
        let ahead = look(&*queue, 5, 1000).await;
        assert!(ahead.entries.len() <= 10, "{}", ahead.entries.len());
        shown += ahead.entries.len();
        if !ahead.is_more {
            break;
        }
    }
    assert_eq!(shown, 50, "each once");
    // Where nobody knows how many wait, so many bytes are many.
    let first = queue.receive(0, count(2), SOON).await.unwrap();
    let _: u64 = server(&store).run(&["XDEL", "o2ims:events", &first[1].handle.id.to_string()]).await;
    assert!(queue.look_ahead(40, count(4)).await.unwrap().is_some());
}

#[tokio::test]
async fn what_another_program_acknowledged_is_not_remembered_for_ever() {
    let (store, queue) = in_redis().await;
    let all = last(&*queue, 1).await;
    assert_eq!(queue.move_ahead(&stored(&all)).await.unwrap(), 1);
    queue.tidy().await.unwrap();
    assert_eq!(left_ahead(&store).await, 1, "it waits still");
    read_by(&store, "worker-0", "100").await;
    queue.tidy().await.unwrap();
    assert_eq!(left_ahead(&store).await, 1, "somebody has it");
    let id = all[0].id.to_string();
    let _: u64 = server(&store).run(&["XACK", "o2ims:events", "webhook-workers", &id]).await;
    queue.tidy().await.unwrap();
    assert_eq!(left_ahead(&store).await, 0);
}

#[tokio::test]
async fn one_host_looks_at_a_time_and_another_when_it_is_gone() {
    let (store, queue) = in_redis().await;
    let another = store.open();
    assert_eq!(look(&*queue, 5, 4).await.entries.len(), 4);
    assert!(another.look_ahead(5, count(4)).await.unwrap().is_none());
    drop(queue);
    let ahead = eventually("the other's turn", || async { another.look_ahead(5, count(4)).await.unwrap() }).await;
    assert_eq!(names(&ahead.entries), ["e008", "e009", "e010", "e011"], "it begins anew");
}

#[tokio::test]
async fn nobody_looks_while_another_program_reads_the_same_group() {
    let (store, queue) = in_redis().await;
    read_by(&store, "worker-0", "1").await;
    assert!(queue.look_ahead(5, count(4)).await.unwrap().is_none(), "it would deliver again what was moved");
    let _: u64 = server(&store).run(&["XGROUP", "DELCONSUMER", "o2ims:events", "webhook-workers", "worker-0"]).await;
    assert_eq!(look(&*queue, 5, 4).await.entries.len(), 4);
}

#[tokio::test]
async fn how_many_wait_is_found_out_also_where_redis_does_not_tell() {
    let (store, queue) = in_redis().await;
    let all = last(&*queue, WAITING).await;
    // With a hole in the stream it does not know; Redis before 7 never does.
    let _: u64 = server(&store).run(&["XDEL", "o2ims:events", &all[5].id.to_string()]).await;
    assert!(queue.look_ahead(11, count(4)).await.unwrap().is_none());
    assert!(queue.look_ahead(10, count(4)).await.unwrap().is_some());
    assert_eq!(queue.move_ahead(&stored(&all[8..])).await.unwrap(), 4);
    assert_eq!(queue.depth().await.unwrap().waiting, 11, "as many as are there");
}
