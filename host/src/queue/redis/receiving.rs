//! Receiving: blocking reads, each worker on a link of its own, and what of it must wait for its turn.

use std::num::NonZeroUsize;
use std::time::Duration;

use redis::{Value, cmd};

use super::{Error, Redis, millis, reply, turns};
use crate::entry::Entry;
use crate::link::{Link, Waits};

impl Redis {
    /// Has entries wait for their turn, and returns those that need not. What cannot be recorded stays pending.
    pub(super) async fn line_up(&self, consumer: &str, entries: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let Some(turns) = self.turns.as_ref().filter(|_| !entries.is_empty()) else { return Ok(entries) };
        let (mut free, mut waiting) = (Vec::new(), Vec::new());
        for entry in entries {
            match turns(&entry) {
                Some(turn) => waiting.push((entry, turn)),
                None => free.push(entry),
            }
        }
        let mut line_up = self.invocation(&self.scripts.line_up);
        line_up.arg(&self.keys.group).arg(&self.host_id).arg(turns::arguments(
            &format!("{consumer}+"),
            &free,
            &waiting,
        ));
        self.run::<()>(&line_up).await?;
        Ok(free)
    }

    /// The link of one worker's blocking reads.
    fn reader(&self, worker: usize, wait: Duration) -> Link {
        let mut readers = self.readers.lock().expect("no holder of this lock can panic");
        if readers.len() <= worker {
            readers.resize(worker + 1, None);
        }
        let waits = Waits { response: wait + self.waits.response, ..self.waits };
        readers[worker].get_or_insert_with(|| Link::new(&self.address, &self.keys.events, waits)).clone()
    }

    /// `None` if the group was missing; it is there now.
    pub(super) async fn with_group(&self, answer: redis::RedisResult<Value>) -> Result<Option<Value>, Error> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.code() == Some("NOGROUP") => self.create_groups().await.map(|()| None),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    pub(super) async fn read(
        &self,
        worker: usize,
        consumer: &str,
        max: NonZeroUsize,
        wait: Duration,
    ) -> Result<Vec<Entry>, Error> {
        let mut reader = self.reader(worker, wait);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.keys.group).arg(consumer);
        read.arg("COUNT").arg(max.get()).arg("BLOCK").arg(millis(wait).max(1));
        read.arg("STREAMS").arg(&self.keys.events).arg(&self.keys.deliveries).arg(">").arg(">");
        let answer = read.query_async(&mut reader).await;
        let value = match self.with_group(answer).await? {
            Some(value) => value,
            None => read.query_async(&mut reader).await.map_err(|error| self.unavailable(&error))?,
        };
        self.take_in_hand(consumer, reply::streams(value, &self.keys.events)?).await
    }
}
