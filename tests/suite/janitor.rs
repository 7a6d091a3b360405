//! What is done is trimmed, what somebody needs is not, and what others trimmed too early is counted.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use tests::{Answer, Event, Receiver, RedisServer, TestHost, eventually, host, until};
use weft::entry::{Record, Settlement};
use weft::queue::Queue;
use weft::queue::redis::{Claiming, Keys, Redis, Retention};

const EVENTS: usize = 2000;

fn queue(redis: &RedisServer, events: Option<Duration>) -> Redis {
    let retention = Retention { events, deliveries: Duration::from_millis(1) };
    Redis::new(&redis.url(), Keys::default(), Claiming::default()).unwrap().with_retention(retention)
}

async fn length(redis: &RedisServer) -> usize {
    redis.run(&["XLEN", "o2ims:events"]).await
}

/// Receives all there is and acknowledges it, but for so many.
async fn work_off(queue: &Redis, but: usize) {
    let all = NonZeroUsize::new(EVENTS).unwrap();
    let entries = queue.receive(0, all, Duration::from_secs(5)).await.unwrap();
    let done = |entry: &weft::entry::Entry| Settlement { handle: entry.handle, record: Record::Done };
    let batch: Vec<_> = entries.iter().take(entries.len() - but).map(done).collect();
    for some in batch.chunks(500) {
        queue.settle(some).await.unwrap();
    }
}

async fn publish(redis: &RedisServer) {
    let mut pipeline = redis::pipe();
    for number in 0..EVENTS {
        pipeline.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(number).ignore();
    }
    pipeline.query_async::<()>(&mut redis.connection().await).await.unwrap();
    let _: String = redis.run(&["XGROUP", "CREATE", "o2ims:events", "another", "0"]).await;
}

#[tokio::test]
async fn only_what_every_group_acknowledged_is_trimmed() {
    let redis = RedisServer::start().await;
    publish(&redis).await;
    let queues = [(); 3].map(|()| queue(&redis, Some(Duration::from_millis(1))));
    // Redis trims whole nodes of a hundred, so up to so many more stay.
    let tidy = async |least: usize| {
        let (a, b, c) = tokio::join!(queues[0].tidy(), queues[1].tidy(), queues[2].tidy());
        assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (0, 0, 0));
        let left = length(&redis).await;
        assert!((least..least + 102).contains(&left), "{left} are left, {least} are needed");
    };
    work_off(&queues[0], 10).await;
    tidy(EVENTS).await;
    let read = ["XREADGROUP", "GROUP", "another", "one", "COUNT", "1500", "STREAMS", "o2ims:events", ">"];
    let read: redis::Value = redis.run(&read).await;
    tidy(EVENTS).await;
    let text = format!("{read:?}");
    let words = text.split(|char: char| !char.is_ascii_digit() && char != '-');
    let ids: BTreeSet<&str> = words.filter(|word| word.parse::<weft::entry::EntryId>().is_ok()).collect();
    assert_eq!(ids.len(), 1500, "{}", &text[..200]);
    let mut acknowledge = redis::cmd("XACK");
    acknowledge.arg("o2ims:events").arg("another").arg(ids);
    acknowledge.query_async::<u64>(&mut redis.connection().await).await.unwrap();
    tidy(500).await;
    let rest = ["XREADGROUP", "GROUP", "another", "one", "NOACK", "COUNT", "1500", "STREAMS", "o2ims:events", ">"];
    let _: redis::Value = redis.run(&rest).await;
    // Ten are still pending for us.
    tidy(10).await;
    assert_eq!(redis.pending("o2ims:events").await, 10);
}

#[tokio::test]
async fn what_is_young_stays_and_without_a_retention_everything_does() {
    let redis = RedisServer::start().await;
    publish(&redis).await;
    let _: u64 = redis.run(&["XGROUP", "DESTROY", "o2ims:events", "another"]).await;
    let young = queue(&redis, Some(Duration::from_secs(3600)));
    work_off(&young, 0).await;
    for queue in [young, queue(&redis, None)] {
        queue.tidy().await.unwrap();
        assert_eq!(length(&redis).await, EVENTS);
    }
    queue(&redis, Some(Duration::from_millis(1))).tidy().await.unwrap();
    assert!(length(&redis).await < 102);
}

#[tokio::test]
async fn a_group_that_is_destroyed_goes_on_where_it_was() {
    let redis = RedisServer::start().await;
    publish(&redis).await;
    let queue = queue(&redis, None);
    work_off(&queue, 10).await;
    queue.tidy().await.unwrap();
    let _: u64 = redis.run(&["XGROUP", "DESTROY", "o2ims:events", "webhook-workers"]).await;
    let all = NonZeroUsize::new(EVENTS).unwrap();
    let again = queue.receive(0, all, Duration::from_millis(100)).await.unwrap();
    assert_eq!(again.len(), 10, "what was not done comes again, and nothing else");
}

#[tokio::test]
async fn what_a_producer_trims_too_early_is_counted() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(100)));
    let mut config = host::config(&redis.url());
    config.delivery.worker_count = 1;
    config.delivery.in_flight = 1;
    let host = TestHost::with(config.clone()).await;
    let other = TestHost::with(config).await;
    let publish = async |count: usize| {
        let mut pipeline = redis::pipe();
        for _ in 0..count {
            let event = Event::to(&receiver.url("/")).json();
            pipeline.cmd("XADD").arg("o2ims:events").arg("MAXLEN").arg("5").arg("*").arg("event").arg(event).ignore();
        }
        pipeline.query_async::<()>(&mut redis.connection().await).await.unwrap();
    };
    publish(3).await;
    receiver.wait_for(3).await;
    eventually("all is done", || async { (redis.pending("o2ims:events").await == 0).then_some(()) }).await;
    let base = || async { redis.run::<Option<String>>(&["HGET", "o2ims:retry:counts", "base"]).await };
    eventually("the count begins", base).await;
    assert_eq!(host.metric("weft_queue_lost"), 0.0);
    for _ in 0..3 {
        publish(20).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let lost = |host: &TestHost| host.metric("weft_queue_lost");
    until("each is delivered or counted", || {
        let delivered = f64::from(u32::try_from(receiver.arrived().len()).unwrap());
        lost(&host) > 0.0 && lost(&host) + delivered == 63.0
    })
    .await;
    until("all hosts say the same", || lost(&other) == lost(&host)).await;
    until("what is lost does not wait", || host.metric("weft_queue_waiting") == 0.0).await;
    host.stop().await;
    other.stop().await;
}

/// As of every group in Redis before 7.
#[tokio::test]
async fn what_waits_is_counted_where_redis_does_not_know() {
    let redis = RedisServer::start().await;
    let queue = Redis::new(&redis.url(), Keys::default(), Claiming::default()).unwrap();
    queue.beat().await.unwrap();
    let ids = queue.publish(&[const { Bytes::from_static(b"{}") }; 4]).await.unwrap();
    assert_eq!(queue.receive(0, NonZeroUsize::MIN, Duration::from_secs(5)).await.unwrap().len(), 1);
    let _: u64 = redis.run(&["XDEL", "o2ims:events", &ids[2].to_string()]).await;
    let groups: Vec<HashMap<String, redis::Value>> = redis.run(&["XINFO", "GROUPS", "o2ims:events"]).await;
    assert!(groups[0].get("lag").is_none_or(|lag| *lag == redis::Value::Nil), "{groups:?}");
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.waiting, depth.pending), (2, 1));
}
