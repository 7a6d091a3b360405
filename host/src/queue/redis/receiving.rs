//! Receiving: blocking reads, each worker on a link of its own, and what of it must wait for its turn.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Pipeline, Value, cmd};

use super::{Error, Redis, millis, reply, turns};
use crate::entry::{Content, Entry};
use crate::link::{Link, Waits};
use crate::queue::SHOWN_BYTES_MAX;

/// How large entries are taken to be when a read was not answered: what was asked for may have been too much.
const LARGE: usize = SHOWN_BYTES_MAX / 8;

/// How large entries are, as far as was seen: a read asks for a number of them, and its answer must come in time.
#[derive(Debug, Default)]
pub(super) struct Sizes(AtomicUsize);

impl Sizes {
    /// Large, until some were seen.
    pub(super) fn large() -> Sizes {
        Sizes(LARGE.into())
    }

    /// As many of `max` as fit into one answer.
    pub(super) fn fit(&self, max: NonZeroUsize) -> usize {
        (SHOWN_BYTES_MAX / self.0.load(Relaxed).max(1)).clamp(1, max.get())
    }

    pub(super) fn read(&self, answer: &Result<Vec<Entry>, Error>) {
        match answer {
            Ok(entries) if entries.is_empty() => {}
            Ok(entries) => self.0.store(entries.iter().map(bytes_of).sum::<usize>() / entries.len(), Relaxed),
            Err(_) => self.0.store(self.0.load(Relaxed).saturating_mul(8).clamp(LARGE, SHOWN_BYTES_MAX), Relaxed),
        }
    }
}

fn bytes_of(entry: &Entry) -> usize {
    match &entry.content {
        Content::Fields(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
        Content::Stored(stored) => stored.len(),
    }
}

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

    /// `None` if the group was missing; it is there now. A read that waited is told `UNBLOCKED` when its stream goes, and its
    /// group with it; it says so of a master that becomes a replica as well, and then making the group tells why not.
    pub(super) async fn with_group(&self, answer: redis::RedisResult<Value>) -> Result<Option<Value>, Error> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => {
                self.create_groups().await.map(|()| None)
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    /// Reads entries that nobody has received, and takes them in hand.
    pub(super) async fn read(
        &self,
        worker: usize,
        consumer: &str,
        max: NonZeroUsize,
        wait: Duration,
    ) -> Result<Vec<Entry>, Error> {
        let read = self.read_new(worker, consumer, max, wait).await;
        self.sizes.read(&read);
        self.take_in_hand(consumer, read?).await
    }

    async fn read_new(
        &self,
        worker: usize,
        consumer: &str,
        max: NonZeroUsize,
        wait: Duration,
    ) -> Result<Vec<Entry>, Error> {
        let mut reader = self.reader(worker, wait);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.keys.group).arg(consumer);
        read.arg("COUNT").arg(self.sizes.fit(max)).arg("BLOCK").arg(millis(wait).max(1));
        read.arg("STREAMS").arg(&self.keys.events).arg(&self.keys.deliveries).arg(">").arg(">");
        let mut pipeline = Pipeline::new();
        // What was moved ahead before the read is seen by what is asked after it, and nothing is once it was read.
        pipeline.add_command(read).cmd("EXISTS").arg(&self.ahead);
        let (value, is_any_ahead) = match self.ask_reader(&mut reader, &pipeline).await? {
            (Some(value), is_any_ahead) => (value, is_any_ahead),
            (None, _) => {
                let (value, is_any_ahead) = self.ask_reader(&mut reader, &pipeline).await?;
                (value.unwrap_or(Value::Nil), is_any_ahead)
            }
        };
        let mut entries = reply::streams(value, &self.keys.events)?;
        if is_any_ahead {
            entries = self.without_moved(entries).await?;
        }
        Ok(entries)
    }

    /// What was read, `None` if the group was missing; and whether anything was moved ahead.
    async fn ask_reader(&self, reader: &mut Link, pipeline: &Pipeline) -> Result<(Option<Value>, bool), Error> {
        let answers = reader.req_packed_commands(pipeline, 0, 2).await.map_err(|error| self.unavailable(&error))?;
        let mut answers = answers.into_iter().map(|answer| answer.extract_error());
        let read = self.with_group(answers.next().unwrap_or(Ok(Value::Nil))).await?;
        let exists = answers.next().unwrap_or(Ok(Value::Nil)).map_err(|error| self.unavailable(&error))?;
        Ok((read, exists != Value::Int(0)))
    }
}
