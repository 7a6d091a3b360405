//! A producer that publishes at a steady rate; each event's id says when, so that the receiver knows how long it took.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use tests::{Event, RedisServer};

use crate::stack::Receiver;

/// Events go to so many subscriptions.
const SUBSCRIPTIONS: u32 = 100;

/// It.
pub(crate) struct Producer {
    connection: MultiplexedConnection,
    url: String,
    per_second: u32,
}

impl Producer {
    pub(crate) async fn new(redis: &RedisServer, receiver: &Receiver, per_second: u32) -> Producer {
        Producer { connection: redis.connection().await, url: receiver.url("/"), per_second }
    }

    pub(crate) async fn publish(&mut self, count: u32) -> Result<()> {
        let began = tokio::time::Instant::now();
        for number in 0..count {
            tokio::time::sleep_until(began + Duration::from_secs(1) / self.per_second * number).await;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
            let subscription = format!("sub-{}", number % SUBSCRIPTIONS);
            let event = Event::to(&self.url).subscription(&subscription).id(format!("t{now}")).json();
            let mut add = redis::cmd("XADD");
            add.arg("o2ims:events").arg("*").arg("event").arg(event);
            add.query_async::<String>(&mut self.connection).await?;
        }
        Ok(())
    }
}
