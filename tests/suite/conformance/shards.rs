//! What a shard holds that is slow to answer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tests::RedisServer;
use weft::outcome::DeadReason;
use weft::queue::{Queue, Unparked};

use super::{all_dead, bury, in_hand, letter, parked, redis, sharded};

/// The second one is slow from when [`stall`] says so.
async fn servers() -> [RedisServer; 2] {
    [RedisServer::start().await, RedisServer::start().await]
}

fn over(servers: &[RedisServer; 2]) -> Arc<dyn Queue> {
    let next = Cell::new(0);
    sharded(|keys| Arc::new(redis(&servers[next.replace(next.get() + 1)], keys)))
}

/// It answers nothing for longer than the others wait for it.
async fn stall(servers: &[RedisServer; 2], duration: Duration) {
    let _: String = servers[1].run(&["CLIENT", "PAUSE", &duration.as_millis().to_string(), "ALL"]).await;
}

#[tokio::test]
async fn a_search_of_the_dead_letters_waits_for_a_shard_that_takes_long() {
    let servers = servers().await;
    let queue = over(&servers);
    bury(&*queue, (0..12).map(|_| letter("a", DeadReason::Gone)).collect()).await;
    stall(&servers, Duration::from_secs(2)).await;
    assert_eq!(all_dead(&*queue).await.len(), 12);
    // And the shard is not taken for one that is away.
    assert_eq!(queue.unpark(&[("a".into(), 1)]).await.unwrap(), [Unparked::from(0)]);
}

#[tokio::test]
async fn what_is_parked_in_a_shard_that_does_not_answer_is_not_taken_for_none() {
    let servers = servers().await;
    let queue = over(&servers);
    let entries = in_hand(&*queue, 20).await;
    let batch: Vec<_> = entries.iter().map(|entry| parked(entry.handle, "a", "stored")).collect();
    queue.settle(&batch).await.unwrap();
    stall(&servers, Duration::from_secs(60)).await;
    let wanted = [("a".into(), 4), ("b".into(), 1)];
    let found = queue.unpark(&wanted).await.unwrap();
    assert_eq!(found, [Unparked { count: 4, is_partial: true }, Unparked { count: 0, is_partial: true }]);
}
