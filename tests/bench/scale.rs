//! The figures of many: many hosts, many scheduled retries, many tarpits, and a host that is killed in the middle.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::{Event, RedisServer};
use weft::queue::Queue;
use weft::queue::redis::{Claiming, Keys, Redis};

use crate::scenario::{load, median, number};
use crate::stack::{Receiver, Weft, config};
use crate::table::{Budget, Figure};

/// Deliveries that three hosts share.
const SHARED: usize = 6_000;
const SCHEDULED: usize = 1_000_000;
const TARPITS: usize = 10_000;
/// How much a host may grow beside a million scheduled retries or thousands of tarpits.
const GROWTH_MIB: f64 = 64.0;
const MIB: f64 = 1024.0;

/// Deliveries to endpoints that take 50 ms: three hosts beside one.
pub(crate) async fn hosts() -> Result<Vec<Figure>> {
    let receiver = Receiver::start()?;
    let url = receiver.url("/wait50");
    let event = |at: usize| Event::to(&url).subscription(&format!("sub-{}", at % 100)).id(format!("n-{at}")).json();
    let events: Vec<String> = (0..SHARED).map(event).collect();
    // So few in flight that the wait is the bound, and not the CPU.
    let small = "worker_count = 2\nin_flight = 16";
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let mut rates = Vec::new();
        for count in [1, 3] {
            let redis = RedisServer::start().await;
            let mut running = Vec::new();
            for _ in 0..count {
                running.push(Weft::start(&config(&redis.url(), None, small)).await?);
            }
            load(&redis, &events).await?;
            let figures = receiver.take(u64::try_from(SHARED)?).await?;
            rates.push(number(figures.count) / figures.seconds);
        }
        ratios.push(rates[1] / rates[0]);
    }
    let name = "three hosts / one, endpoints that take 50 ms";
    Ok(vec![Figure::bound(name, median(ratios.into_iter()), "×", Budget::AtLeast(2.8))])
}

/// What a million scheduled retries cost: taking due ones beside them, and the memory of the host.
pub(crate) async fn scheduled() -> Result<Vec<Figure>> {
    let redis = RedisServer::start().await;
    let event = Event::to("http://127.0.0.1:9/").json();
    schedule(&redis, 1000, 0, &event).await?;
    let few = take_due(&redis).await?;
    schedule(&redis, 1000, 1, &event).await?;
    schedule(&redis, SCHEDULED, 2, &event).await?;
    let many = take_due(&redis).await?;
    let weft = Weft::start(&config(&redis.url(), None, "")).await?;
    let empty = RedisServer::start().await;
    let idle = Weft::start(&config(&empty.url(), None, "")).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let growth = weft.resident_kib()? - idle.resident_kib()?;
    Ok(vec![
        Figure::plain("taking 100 due ones, 1,000 scheduled", few, "µs"),
        Figure::plain("taking 100 due ones, 1,000,000 scheduled", many, "µs"),
        Figure::bound("1,000,000 scheduled / 1,000", many / few, "×", Budget::AtMost(2.0)),
        Figure::bound("host memory beside them", growth / MIB, "MiB more", Budget::AtMost(GROWTH_MIB)),
    ])
}

/// Puts deliveries into the schedule: the first lot due, the others in an hour.
async fn schedule(redis: &RedisServer, count: usize, lot: usize, event: &str) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    let stored = serde_json::json!({ "v": 1, "event": event, "attempt": 2, "first_seen_ms": now }).to_string();
    let due = if lot < 2 { 1 } else { now + 3_600_000 };
    let mut connection = redis.connection().await;
    for batch in (0..count).collect::<Vec<_>>().chunks(1000) {
        let mut pipeline = redis::pipe();
        for at in batch {
            let member = format!("1:{lot}-{at}");
            pipeline.cmd("HSET").arg("o2ims:retry:data").arg(&member).arg(&stored).ignore();
            pipeline.cmd("ZADD").arg("o2ims:retry").arg(due.to_string()).arg(&member).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await?;
    }
    Ok(())
}

/// Microseconds of a call that takes a hundred due ones.
async fn take_due(redis: &RedisServer) -> Result<f64> {
    let queue = Redis::new(&redis.url(), Keys::default(), Claiming::default())?;
    let hundred = NonZeroUsize::new(100).context("a hundred")?;
    let mut times = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let due = queue.take_due(hundred).await?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
        ensure!(due.entries.len() == 100, "{} were due", due.entries.len());
    }
    Ok(median(times.into_iter()))
}

/// Ten thousand subscriptions whose endpoints never answer, a few deliveries each.
pub(crate) async fn tarpits() -> Result<Vec<Figure>> {
    let (receiver, redis) = (Receiver::start()?, RedisServer::start().await);
    let weft = Weft::start(&config(&redis.url(), None, "timeout = \"5s\"")).await?;
    let before = weft.resident_kib()?;
    let url = receiver.url("/slow");
    let event = |at: usize| Event::to(&url).subscription(&format!("sub-{}", at % TARPITS)).id(format!("n-{at}")).json();
    load(&redis, &(0..3 * TARPITS).map(event).collect::<Vec<_>>()).await?;
    let mut most = before;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        most = most.max(weft.resident_kib()?);
    }
    let growth = (most - before) / MIB;
    let name = "host memory beside 10,000 tarpits";
    Ok(vec![Figure::bound(name, growth, "MiB more", Budget::AtMost(GROWTH_MIB))])
}

/// From the kill of one of two hosts until all that it had in hand is delivered by the other.
pub(crate) async fn recovery() -> Result<Vec<Figure>> {
    let (receiver, redis) = (Receiver::start()?, RedisServer::start().await);
    let url = receiver.url("/wait50");
    let event = |at: usize| Event::to(&url).subscription(&format!("sub-{}", at % 100)).id(format!("n-{at}")).json();
    let small = "worker_count = 2\nin_flight = 16";
    let killed = Weft::start(&config(&redis.url(), None, small)).await?;
    let _survivor = Weft::start(&config(&redis.url(), None, small)).await?;
    load(&redis, &(0..2000).map(event).collect::<Vec<_>>()).await?;
    receiver.wait_for(500).await?;
    drop(killed);
    let began = Instant::now();
    loop {
        let left = redis.pending("o2ims:events").await;
        let waiting: u64 = redis.run(&["ZCARD", "o2ims:retry"]).await;
        if left == 0 && waiting == 0 && receiver.count().await? >= 2000 {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(120), "{left} are still pending");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(vec![Figure::plain("from kill -9 of a host until all is delivered", began.elapsed().as_secs_f64(), "s")])
}
