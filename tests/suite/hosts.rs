//! Many hosts on one Redis: what is due and what a dead one left is done once, whoever does it, and doing nothing costs little.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::host::metric;
use tests::{Answer, Event, Receiver, RedisServer, WeftProcess, eventually};

const RETRIES: usize = 2000;
const HELD: usize = 100;

/// Of one host, those within scripts counted. A Redis does more than a hundred thousand a second, so that fifty idle hosts take
/// less than a tenth of it.
const IDLE_COMMANDS_PER_SECOND: u64 = 150;

fn file(redis: &RedisServer) -> String {
    format!(
        r#"
        [queue]
        url = "{}"
        heartbeat = "1s"
        dead_after = "3s"
        claim_idle = "1h"
        retention = "1s"
        [delivery]
        timeout = "50m"
        max_retries = 20
        retry_backoff = "15s"
        [defaults]
        breaker_failures = 1000000
        [egress]
        allow = ["127.0.0.0/8"]
        "#,
        redis.url()
    )
}

async fn publish(redis: &RedisServer, receiver: &Receiver, path: &str, count: usize) {
    let mut pipeline = redis::pipe();
    for number in 0..count {
        let event = Event::to(&receiver.url(path)).id(format!("{path}-{number}"));
        let event = event.subscription(&format!("s{path}-{}", number % 100));
        pipeline.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(event.json()).ignore();
    }
    pipeline.query_async::<()>(&mut redis.connection().await).await.unwrap();
}

async fn scheduled(redis: &RedisServer) -> usize {
    redis.run(&["ZCARD", "o2ims:retry"]).await
}

/// How often each event arrived at a path, the first so many requests aside.
fn times(receiver: &Receiver, path: &str, after: usize) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for arrived in &receiver.arrived_at(path)[after..] {
        *times.entry(arrived.header("x-o2ims-notification-id").to_owned()).or_default() += 1;
    }
    times
}

/// Commands that Redis did, those of scripts included, and for how many seconds it has been up.
async fn commands_and_uptime(redis: &RedisServer) -> (u64, u64) {
    let (stats, server): (String, String) =
        (redis.run(&["INFO", "commandstats"]).await, redis.run(&["INFO", "server"]).await);
    let calls = stats.lines().filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok());
    let uptime = server.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:")).unwrap();
    (calls.sum(), uptime.trim().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hosts_do_what_a_killed_one_left_once_and_cost_little_when_idle() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = file(&redis);
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = Arc::clone(&is_mended);
    receiver.answers("/retry", move |_| Answer::status(if mended.load(Ordering::SeqCst) { 204 } else { 500 }));
    let mended = Arc::clone(&is_mended);
    receiver.answers("/held", move |_| {
        let wait = if mended.load(Ordering::SeqCst) { 0 } else { 3600 };
        Answer::status(204).after(Duration::from_secs(wait))
    });
    let killed = WeftProcess::serve(&config).await;
    publish(&redis, &receiver, "/retry", RETRIES).await;
    eventually("all have failed", || async { (scheduled(&redis).await == RETRIES).then_some(()) }).await;
    publish(&redis, &receiver, "/held", HELD).await;
    eventually("it has them in hand", || async { (receiver.arrived_at("/held").len() == HELD).then_some(()) }).await;
    killed.kill().await;
    let failed = receiver.arrived_at("/retry").len();
    is_mended.store(true, Ordering::SeqCst);
    let serve = || WeftProcess::serve(&config);
    let (one, two, three) = tokio::join!(serve(), serve(), serve());
    let hosts = [one, two, three];
    redis.all_settled().await;
    let once = |times: BTreeMap<String, usize>| times.into_iter().filter(|(_, times)| *times == 1).count();
    assert_eq!((once(times(&receiver, "/retry", failed)), once(times(&receiver, "/held", HELD))), (RETRIES, HELD));
    assert_eq!(receiver.arrived_at("/retry").len(), failed + RETRIES, "each due one once");
    assert!(redis.dead_letters().await.is_empty());
    assert!(hosts.iter().all(|host| host.log().contains("\"attempted\"")), "all of them had their share");

    // All three trim at once; what is left are nodes of the stream that are not full, or not old.
    eventually("what is done is trimmed", || async {
        let left: usize = redis.run(&["XLEN", "o2ims:events"]).await;
        (left <= 200).then_some(())
    })
    .await;
    for host in &hosts {
        let metrics = reqwest::get(format!("{}/metrics", host.admin)).await.unwrap().text().await.unwrap();
        assert_eq!(metric(&metrics, "weft_queue_lost"), 0.0);
    }
    let consumers: Vec<Vec<redis::Value>> = redis.run(&["XINFO", "CONSUMERS", "o2ims:events", "webhook-workers"]).await;
    let names: BTreeSet<String> = consumers.iter().map(|of| redis::from_redis_value(of[1].clone()).unwrap()).collect();
    let is_of = |host: &WeftProcess, name: &String| name.contains(&format!("-{}-", host.pid()));
    assert!(names.iter().all(|name| hosts.iter().any(|host| is_of(host, name))), "{names:?}");

    let _: String = redis.run(&["CONFIG", "RESETSTAT"]).await;
    let (_, began) = commands_and_uptime(&redis).await;
    let (commands, seconds) = eventually("some seconds pass", || async {
        let (commands, now) = commands_and_uptime(&redis).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        (now >= began + 6).then_some((commands, now - began))
    })
    .await;
    let allowed = IDLE_COMMANDS_PER_SECOND * u64::try_from(hosts.len()).unwrap() * seconds;
    assert!(commands < allowed, "{commands} commands in {seconds} s, {allowed} allowed");
}
