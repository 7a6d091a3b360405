//! One shard of a queue: the queue that it is, with ids that say so, and no more patience than the others can wait.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::entry::{DeadLetter, Entry, EntryId, Handle, Record, Settlement};
use crate::queue::{Ahead, DeadPage, Depth, Due, Error, Filter, Queue, Start, Unparked};

/// How long a shard may take to answer what all of them are asked, before the others go on without it.
const PATIENCE: Duration = Duration::from_secs(1);
/// It is not asked again for so long: the others would wait for it each time.
const REST: Duration = Duration::from_secs(5);

/// One of several queues; its ids say which.
pub(super) struct Tagged {
    queue: Arc<dyn Queue>,
    pub(super) number: u16,
    /// When it was last asked in vain.
    late: Mutex<Option<Instant>>,
}

impl Tagged {
    /// A queue that has the ids of this shard.
    pub(super) fn new(queue: Arc<dyn Queue>, number: u16) -> Tagged {
        Tagged { queue, number, late: Mutex::default() }
    }

    /// Its answer, or that it has none in time. What it was asked may be done nevertheless, later.
    pub(super) async fn patiently<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        const UNPOISONED: &str = "no holder of this lock can panic";
        let late = *self.late.lock().expect(UNPOISONED);
        if late.is_none_or(|late| late.elapsed() >= REST) {
            let answer = timeout(PATIENCE, question).await;
            *self.late.lock().expect(UNPOISONED) = answer.is_err().then(Instant::now);
            if let Ok(answer) = answer {
                return answer;
            }
        }
        let store = format!("shard {}", self.number);
        Err(Error::Unavailable { store, why: format!("it does not answer within {} s", PATIENCE.as_secs()) })
    }

    fn named<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        answer.map_err(|error| error.of_shard(self.number))
    }

    fn ours(&self, id: EntryId) -> EntryId {
        EntryId { shard: Some(self.number), ..id }
    }

    fn our_entries(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        for entry in &mut entries {
            entry.handle.id = self.ours(entry.handle.id);
        }
        entries
    }
}

/// The id as the shard itself knows it.
fn its(id: EntryId) -> EntryId {
    EntryId { shard: None, ..id }
}

#[async_trait]
impl Queue for Tagged {
    async fn publish(&self, events: &[Bytes]) -> Result<Vec<EntryId>, Error> {
        Ok(self.named(self.queue.publish(events).await)?.into_iter().map(|id| self.ours(id)).collect())
    }

    async fn receive(&self, worker: usize, max: NonZeroUsize, wait: Duration) -> Result<Vec<Entry>, Error> {
        Ok(self.our_entries(self.named(self.queue.receive(worker, max, wait).await)?))
    }

    async fn take_due(&self, max: NonZeroUsize) -> Result<Due, Error> {
        let due = self.named(self.queue.take_due(max).await)?;
        Ok(Due { entries: self.our_entries(due.entries), ..due })
    }

    async fn claim(&self, max: NonZeroUsize) -> Result<Vec<Entry>, Error> {
        Ok(self.our_entries(self.named(self.queue.claim(max).await)?))
    }

    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<Unparked>, Error> {
        self.named(self.queue.unpark(wanted).await)
    }

    async fn look_ahead(&self, beyond: usize, max: NonZeroUsize) -> Result<Option<Ahead>, Error> {
        let ahead = self.named(self.queue.look_ahead(beyond, max).await)?;
        let tagged = |ahead: Ahead| {
            let (entries, received) = (self.our_entries(ahead.entries), self.ours(ahead.received));
            Ahead { entries, received, ..ahead }
        };
        Ok(ahead.map(tagged))
    }

    async fn move_ahead(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error> {
        let plain = |(handle, stored): &(Handle, Bytes)| (Handle { id: its(handle.id), ..*handle }, stored.clone());
        self.named(self.queue.move_ahead(&entries.iter().map(plain).collect::<Vec<_>>()).await)
    }

    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error> {
        self.named(self.queue.parked(after, max).await)
    }

    async fn beat(&self) -> Result<(), Error> {
        self.named(self.queue.beat().await)
    }

    async fn give_back(&self, handles: &[Handle]) -> Result<(), Error> {
        let plain = |handle: &Handle| Handle { id: its(handle.id), ..*handle };
        self.named(self.queue.give_back(&handles.iter().map(plain).collect::<Vec<_>>()).await)
    }

    async fn leave(&self) -> Result<(), Error> {
        self.named(self.queue.leave().await)
    }

    async fn tidy(&self) -> Result<u64, Error> {
        self.named(self.queue.tidy().await)
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error> {
        let plain = |line: &Settlement| {
            let mut line = line.clone();
            line.handle.id = its(line.handle.id);
            if let Record::Dead(letter) = &mut line.record {
                letter.original_id = its(letter.original_id);
            }
            line
        };
        self.named(self.queue.settle(&batch.iter().map(plain).collect::<Vec<_>>()).await)
    }

    async fn dead_letters(&self, filter: &Filter, start: Start, max: NonZeroUsize) -> Result<DeadPage, Error> {
        // The ids of all shards are in one order, by time, and for the same time by shard.
        let start = match start {
            Start::Newest | Start::Oldest => start,
            Start::Before(id) if id.shard > Some(self.number) => Start::Before(its(id).next()),
            Start::After(id) if id.shard < Some(self.number) => Start::After(its(id).previous()),
            Start::Before(id) => Start::Before(its(id)),
            Start::After(id) => Start::After(its(id)),
        };
        let page = self.named(self.queue.dead_letters(filter, start, max).await)?;
        let letters = page.letters.into_iter().map(|(id, letter)| (self.ours(id), letter)).collect();
        Ok(DeadPage::new(letters, page.next.map(|id| self.ours(id))))
    }

    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error> {
        self.named(self.queue.dead_letter(its(id)).await)
    }

    async fn replay(&self, ids: &[EntryId]) -> Result<Vec<Option<EntryId>>, Error> {
        let ids: Vec<EntryId> = ids.iter().copied().map(its).collect();
        Ok(self.named(self.queue.replay(&ids).await)?.into_iter().map(|id| id.map(|id| self.ours(id))).collect())
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<usize, Error> {
        self.named(self.queue.purge(&ids.iter().copied().map(its).collect::<Vec<_>>()).await)
    }

    async fn depth(&self) -> Result<Depth, Error> {
        self.named(self.queue.depth().await)
    }

    async fn check(&self) -> Result<Vec<String>, Error> {
        self.named(self.queue.check().await)
    }
}
