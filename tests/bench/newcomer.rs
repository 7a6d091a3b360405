//! How long a newcomer's first delivery takes behind a million that wait, of one other subscription.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use tests::{Event, RedisServer};
use weft::queue::Queue;
use weft::queue::redis::{Claiming, Keys, Redis};

use crate::scenario::{load, number};
use crate::stack::{Receiver, Weft, config};
use crate::table::{Budget, Figure};

const WAITING: usize = 1_000_000;
/// Published one after the other, each of a subscription of its own, from when the daemon is ready on.
const NEWCOMERS: usize = 5;
/// Of the other subscription.
const HEALTHY: &str = "worst newcomer behind 1,000,000 of a healthy endpoint";
const SLOW: &str = "worst newcomer behind 1,000,000 of one that takes 200 ms";
const DOWN: &str = "worst newcomer behind 1,000,000 of one that is down";
/// In seconds.
const WORST: f64 = 1.0;

/// Behind each kind, and how many were still unread when the last newcomer arrived.
pub(crate) async fn newcomer() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let receiver = Receiver::start()?;
    let kinds =
        [(HEALTHY, receiver.url("/")), (SLOW, receiver.url("/wait200")), (DOWN, "http://127.0.0.1:9/".to_owned())];
    for (name, url) in kinds {
        let (worst, waiting) = behind(&url).await?;
        figures.push(Figure::bound(name, worst, "s", Budget::AtMost(WORST)));
        figures.push(Figure::plain("  unread when the last of them arrived", waiting, "events"));
    }
    Ok(figures)
}

async fn behind(url: &str) -> Result<(f64, f64)> {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start()?);
    let event = |at: usize| Event::to(url).subscription("flood").id(format!("n-{at}")).json();
    for some in (0..WAITING).collect::<Vec<_>>().chunks(10_000) {
        load(&redis, &some.iter().map(|at| event(*at)).collect::<Vec<_>>()).await?;
    }
    let _weft = Weft::start(&config(&redis.url(), None, "")).await?;
    let mut worst: f64 = 0.0;
    for newcomer in 0..NEWCOMERS {
        let began = Instant::now();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let event = Event::to(&receiver.url("/")).subscription(&format!("newcomer-{newcomer}")).id(format!("t{now}"));
        redis.publish(&event.json()).await;
        while receiver.count().await? == 0 {
            ensure!(began.elapsed() < Duration::from_secs(60), "newcomer {newcomer} does not arrive");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let latencies = receiver.figures().await?.latencies_us;
        worst = latencies.iter().fold(worst, |worst, us| worst.max(number(*us) / 1e6));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let queue = Redis::new(&redis.url(), Keys::default(), Claiming::default())?;
    Ok((worst, number(queue.depth().await?.waiting)))
}
