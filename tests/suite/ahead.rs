//! Who comes last does not wait until all that others have waiting is read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tests::{Answer, Event, Receiver, RedisServer, TestHost, eventually, host, until};
use weft::Config;
use weft::config::Overrides;
use weft::queue::Queue;
use weft::subscription::Ordering;

/// Of a healthy subscription, and of one whose endpoint is down.
const HEALTHY: usize = 4000;
const DOWN: usize = 2000;
/// Of one that keeps an order.
const STRICT: usize = 5;
const NEWCOMERS: usize = 2;

/// A host that has few in hand at once, and so reads slowly.
fn config(url: &str) -> Config {
    let mut config = host::config(url);
    config.delivery.worker_count = 2;
    config.delivery.in_flight = 16;
    let down = Overrides {
        breaker_failures: Some(1),
        breaker_open: Some(Duration::from_millis(500)),
        max_retries: Some(1000),
        ..Overrides::default()
    };
    let strict = Overrides { ordering: Some(Ordering::Subscription), ..Overrides::default() };
    config.subscriptions.extend([("down".to_owned(), down), ("strict".to_owned(), strict)]);
    config
}

async fn publish(queue: &dyn Queue, receiver: &Receiver, id: &str, numbers: std::ops::Range<usize>) {
    let url = receiver.url(&format!("/{id}"));
    let event = |number| Bytes::from(Event::to(&url).subscription(id).id(format!("{id}-{number}")).json());
    for some in numbers.collect::<Vec<_>>().chunks(1000) {
        queue.publish(&some.iter().map(|number| event(*number)).collect::<Vec<_>>()).await.unwrap();
    }
}

/// What waits is read so slowly that a newcomer would wait for long; and in the end all have arrived once.
async fn behind_many(url: &str) {
    let receiver = Receiver::start().await;
    let is_up = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&is_up);
    receiver.answers("/down", move |_| Answer::status(if answer.load(Relaxed) { 204 } else { 500 }));
    receiver.answers("/healthy", |_| Answer::status(204).after(Duration::from_millis(30)));
    let newcomers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&newcomers);
    receiver.answers("/newcomer", move |asked| {
        count.store(asked + 1, Relaxed);
        Answer::status(204)
    });
    let host = TestHost::with(config(url)).await;
    publish(&*host.queue, &receiver, "down", 0..DOWN).await;
    publish(&*host.queue, &receiver, "healthy", 0..HEALTHY).await;
    publish(&*host.queue, &receiver, "strict", 0..STRICT).await;

    for round in 0..NEWCOMERS {
        publish(&*host.queue, &receiver, "newcomer", round..round + 1).await;
        until("the newcomer's", || newcomers.load(Relaxed) > round).await;
        let waiting = host.queue.depth().await.unwrap().waiting;
        assert!(waiting > u64::try_from(HEALTHY / 2).unwrap(), "{waiting} wait when number {round} arrives");
    }
    assert!(receiver.arrived_at("/strict").is_empty(), "who keeps an order is not moved");
    assert!(host.metric("weft_moved_ahead_total") >= 2.0);

    is_up.store(true, Relaxed);
    eventually("all is done", || async {
        let depth = host.queue.depth().await.unwrap();
        (depth.waiting + depth.pending + depth.scheduled + depth.parked + depth.in_line == 0).then_some(())
    })
    .await;
    assert_eq!((receiver.arrived_at("/healthy").len(), receiver.arrived_at("/newcomer").len()), (HEALTHY, NEWCOMERS));
    let ids: HashSet<String> = receiver.ids().into_iter().collect();
    assert_eq!(ids.len(), DOWN + HEALTHY + STRICT + NEWCOMERS);
    let strict: Vec<_> = receiver.ids().into_iter().filter(|id| id.starts_with("strict")).collect();
    assert_eq!(strict, (0..STRICT).map(|number| format!("strict-{number}")).collect::<Vec<_>>());
    let dead = host.queue.depth().await.unwrap().dead;
    assert_eq!(dead, 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_does_not_wait_until_all_before_it_are_read() {
    let redis = RedisServer::start().await;
    behind_many(&redis.url()).await;
    assert_eq!(redis.run::<u64>(&["EXISTS", "o2ims:retry:ahead"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_on_the_embedded_queue() {
    let directory = tempfile::tempdir().unwrap();
    behind_many(&format!("embedded:{}", directory.path().join("queue").display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_looking_ahead_it_waits() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = config(&redis.url());
    config.queue.look_ahead = 0;
    let host = TestHost::with(config).await;
    publish(&*host.queue, &receiver, "healthy", 0..3000).await;
    publish(&*host.queue, &receiver, "newcomer", 0..1).await;
    until("the newcomer's", || receiver.arrived_at("/newcomer").len() == 1).await;
    assert!(receiver.arrived_at("/healthy").len() > 2900);
    assert_eq!(host.metric("weft_moved_ahead_total"), 0.0);
    host.stop().await;
}
