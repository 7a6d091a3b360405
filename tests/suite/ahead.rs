//! Who comes last does not wait until all that others have waiting is read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tests::{Answer, Event, Proxy, Receiver, RedisServer, TestHost, WeftProcess, eventually, host, until};
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
        let depth = host.queue.depth().await.ok()?;
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

/// Of the host that reads one after the other, and moves newcomers ahead.
fn file(queue_url: &str, more: &str) -> String {
    format!(
        r#"
        [queue]
        url = "{queue_url}"
        look_ahead = 20
        heartbeat = "200ms"
        dead_after = "10s"
        claim_idle = "1h"
        max_claims = {CLAIMS_MAX}
        [delivery]
        worker_count = 1
        timeout = "60s"
        drain_timeout = "60s"
        {more}
        [egress]
        allow = ["127.0.0.0/8"]
        "#
    )
}

/// A number that stands in what a host asks Redis when it takes what is due.
const CLAIMS_MAX: u32 = 7919;
const FLOOD: usize = 120;
/// Newcomers that come behind it.
const FEW: usize = 8;

/// The flood and behind it the newcomers, each of a subscription of its own.
fn flood_and_newcomers(receiver: &Receiver) -> Vec<String> {
    let of = |path: &str, subscription: &str, number: usize| {
        let id = format!("{subscription}-{number}");
        Event::to(&receiver.url(path)).subscription(subscription).id(id).json()
    };
    let flood = (0..FLOOD).map(|number| of("/flood", "flood", number));
    flood.chain((0..FEW).map(|number| of("/new", &format!("new-{number}"), number))).collect()
}

async fn metrics(weft: &WeftProcess) -> String {
    reqwest::get(format!("{}/metrics", weft.admin)).await.unwrap().text().await.unwrap()
}

async fn newcomers_are_moved(weft: &WeftProcess) {
    eventually("newcomers are moved ahead", async || {
        (host::metric(&metrics(weft).await, "weft_moved_ahead_total") >= FEW as f64).then_some(())
    })
    .await;
}

fn assert_each_once(receiver: &Receiver, number: usize) {
    let ids: HashSet<String> = receiver.ids().into_iter().collect();
    assert_eq!((receiver.arrived().len(), ids.len()), (number, number), "each once");
}

/// Takes what another host has moved ahead, when it is told to stop: its question is on the way then, and the answer comes
/// when it may begin nothing any more.
#[tokio::test]
async fn a_host_that_is_told_to_stop_gives_back_what_was_moved_ahead() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let proxy = Proxy::to(redis.port()).await;
    let mut told = WeftProcess::serve(&file(&format!("redis://127.0.0.1:{}", proxy.port()), "in_flight = 64")).await;
    // What it is delivering keeps it from ending for a while.
    receiver.answers("/slow", |_| Answer::status(204).after(Duration::from_secs(12)));
    redis.publish(&Event::to(&receiver.url("/slow")).id("slow").subscription("slow").json()).await;
    receiver.wait_for(1).await;
    proxy.hold();
    let asks_for_what_is_due = format!("\r\n{CLAIMS_MAX}\r\n$1\r\n");
    until("both its questions are held", || proxy.holds("XREADGROUP") && proxy.holds(&asks_for_what_is_due)).await;

    // The other one has a single place for what is due, and for some seconds a newcomer has it.
    let slow_first = |asked| Answer::status(204).after(Duration::from_secs(if asked == 0 { 6 } else { 0 }));
    receiver.answers("/new", slow_first);
    receiver.answers("/flood", |_| Answer::status(204).after(Duration::from_millis(30)));
    let other = WeftProcess::serve(&file(&redis.url(), "in_flight = 1")).await;
    let mut pipeline = redis::pipe();
    for event in flood_and_newcomers(&receiver) {
        pipeline.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(event).ignore();
    }
    pipeline.query_async::<()>(&mut redis.connection().await).await.unwrap();
    newcomers_are_moved(&other).await;
    until("one of them is on its way", || receiver.arrived_at("/new").len() == 1).await;
    assert!(redis.run::<usize>(&["ZCOUNT", "o2ims:retry", "-inf", "0"]).await >= FEW - 1, "the others wait");

    told.signal("TERM").await;
    let ready = async || reqwest::get(format!("{}/readyz", told.admin)).await.ok()?.text().await.ok();
    eventually("it is stopping", async || ready().await.filter(|text| text.contains("stopping"))).await;
    proxy.let_go();
    until("it gives both back", || told.log().matches("given back what had not begun").count() == 2).await;
    until("the newcomers arrive", || receiver.arrived_at("/new").len() == FEW).await;
    assert!(!told.log().contains("attempted"), "they did not have to wait: {}", told.log());
    assert_eq!(told.ended().await, Some(0), "{}", told.log());
    receiver.wait_for(1 + FLOOD + FEW).await;
    eventually("all is settled", async || {
        let left = redis.unsettled().await;
        let held: u64 = redis.run(&["EXISTS", "o2ims:retry:held"]).await;
        (left + held == 0).then_some(())
    })
    .await;
    assert_each_once(&receiver, 1 + FLOOD + FEW);
    assert!(redis.dead_letters().await.is_empty());
}

/// The embedded queue has no other host: what its own has not begun, the next one begins.
#[tokio::test]
async fn what_was_moved_ahead_on_the_embedded_queue_outlives_a_host_that_is_told_to_stop() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let url = format!("embedded:{}", directory.path().join("queue").display());
    receiver.answers("/new", |_| Answer::status(204).after(Duration::from_millis(500)));
    receiver.answers("/flood", |_| Answer::status(204).after(Duration::from_millis(100)));
    let weft = WeftProcess::serve(&file(&url, "in_flight = 4")).await;
    let events = format!("[{}]", flood_and_newcomers(&receiver).join(","));
    let answer = reqwest::Client::new().post(format!("{}/v1/events", weft.admin)).body(events).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    newcomers_are_moved(&weft).await;
    let weft = weft.terminate_and_restart().await;
    assert!(receiver.arrived().len() < FLOOD, "it had not begun all of them");
    let waits = ["weft_queue_waiting", "weft_queue_pending", "weft_queue_scheduled"];
    receiver.wait_for(FLOOD + FEW).await;
    eventually("all is settled", async || {
        let text = metrics(&weft).await;
        waits.iter().all(|line| host::metric(&text, line) == 0.0).then_some(())
    })
    .await;
    assert_each_once(&receiver, FLOOD + FEW);
}
