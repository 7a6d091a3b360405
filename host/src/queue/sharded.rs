//! One queue over several, its shards: each complete in itself, in Redis with keys of its own, so that in a Cluster the
//! work is spread over the masters. Ids say which shard they are of. What belongs together is published into one shard:
//! an order is kept within a shard only.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Ahead, DeadPage, Depth, Due, Error, Filter, Queue, Start, Unparked};
use crate::entry::{DeadLetter, Entry, EntryId, Handle, Settlement};
use crate::link::crc16;
use tagged::Tagged;

mod tagged;

/// What of an event says with which others it must stay together: its subscription.
pub type Spread = Arc<dyn Fn(&Bytes) -> String + Send + Sync>;

/// Which shard what has this name goes to. Producers that write themselves choose as they like, but the same way for all
/// of a subscription that keeps an order.
#[must_use]
pub fn shard_of(name: &str, shards: u16) -> u16 {
    crc16(name.as_bytes()) % shards.max(1)
}

/// Several queues as one.
pub struct Sharded {
    shards: Vec<Arc<Tagged>>,
    spread: Spread,
}

impl Sharded {
    /// One queue over these, in this order; at least one, and no more than `u16::MAX`.
    #[must_use]
    pub fn over(queues: Vec<Arc<dyn Queue>>, spread: Spread) -> Sharded {
        let tagged = |(number, queue)| Arc::new(Tagged::new(queue, number));
        let shards = (0..=u16::MAX).zip(queues).map(tagged).collect();
        Sharded { shards, spread }
    }

    /// `None` for the id of another queue.
    fn of(&self, id: EntryId) -> Option<&Arc<Tagged>> {
        self.shards.get(usize::from(id.shard?))
    }

    fn count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    /// Asks all shards at once what takes a moment; their answers in their order.
    async fn all<T, F>(&self, question: impl Fn(Arc<Tagged>) -> F) -> Vec<Result<T, Error>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let patiently = |shard: Arc<Tagged>| {
            let question = question(Arc::clone(&shard));
            async move { shard.patiently(question).await }
        };
        self.all_however_long(patiently).await
    }

    /// The same, however long it takes.
    async fn all_however_long<T, F>(&self, question: impl Fn(Arc<Tagged>) -> F) -> Vec<Result<T, Error>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut asked = JoinSet::new();
        for shard in &self.shards {
            let (number, question) = (shard.number, question(Arc::clone(shard)));
            asked.spawn(async move { (number, question.await) });
        }
        let answers: BTreeMap<u16, _> = asked.join_all().await.into_iter().collect();
        answers.into_values().collect()
    }
}

#[async_trait]
impl Queue for Sharded {
    fn shards(&self) -> Vec<Arc<dyn Queue>> {
        self.shards.iter().map(|shard| Arc::clone(shard) as Arc<dyn Queue>).collect()
    }

    /// Each shard's part is stored as a whole; an error may leave the parts of others stored.
    async fn publish(&self, events: &[Bytes]) -> Result<Vec<EntryId>, Error> {
        let mut parts: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            parts.entry(shard_of(&(self.spread)(event), self.count())).or_default().push(at);
        }
        let mut ids = vec![EntryId::default(); events.len()];
        for (shard, places) in parts {
            let part: Vec<Bytes> = places.iter().map(|at| events[*at].clone()).collect();
            let published = self.shards[usize::from(shard)].publish(&part).await?;
            places.into_iter().zip(published).for_each(|(at, id)| ids[at] = id);
        }
        Ok(ids)
    }

    /// Each worker reads one shard, so there must be as many workers as shards.
    async fn receive(&self, worker: usize, max: NonZeroUsize, wait: Duration) -> Result<Vec<Entry>, Error> {
        self.shards[worker % self.shards.len()].receive(worker, max, wait).await
    }

    async fn take_due(&self, max: NonZeroUsize) -> Result<Due, Error> {
        let (mut all, mut answers) = (Due::default(), Answers::default());
        for shard in &self.shards {
            let Some(left) = NonZeroUsize::new(max.get().saturating_sub(all.entries.len())) else { break };
            if let Some(due) = answers.of(shard.take_due(left).await) {
                all.entries.extend(due.entries);
                all.next = all.next.into_iter().chain(due.next).min();
            }
        }
        answers.with(all)
    }

    async fn claim(&self, max: NonZeroUsize) -> Result<Vec<Entry>, Error> {
        let (mut all, mut answers) = (Vec::new(), Answers::default());
        for shard in &self.shards {
            let Some(left) = NonZeroUsize::new(max.get().saturating_sub(all.len())) else { break };
            all.extend(answers.of(shard.claim(left).await).into_iter().flatten());
        }
        answers.with(all)
    }

    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<Unparked>, Error> {
        let mut all = vec![Unparked::default(); wanted.len()];
        let mut answers = Answers::default();
        for shard in &self.shards {
            let left = wanted.iter().zip(&all).map(|((id, max), of)| (Arc::clone(id), max.saturating_sub(of.count)));
            let left: Vec<_> = left.collect();
            if left.iter().all(|(_, max)| *max == 0) {
                break;
            }
            match answers.of(shard.patiently(shard.unpark(&left)).await) {
                Some(got) => all.iter_mut().zip(got).for_each(|(of, got)| of.count += got.count),
                // Nobody knows what is parked there.
                None => all.iter_mut().for_each(|of| of.is_partial = true),
            }
        }
        answers.with(all)
    }

    /// Of the first shard in which so many wait: a host looks in each by itself.
    async fn look_ahead(&self, beyond: usize, max: NonZeroUsize) -> Result<Option<Ahead>, Error> {
        let mut answers = Answers::default();
        for shard in &self.shards {
            if let Some(Some(ahead)) = answers.of(shard.look_ahead(beyond, max).await) {
                return Ok(Some(ahead));
            }
        }
        answers.with(None)
    }

    async fn move_ahead(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error> {
        let mut moved = 0;
        for shard in &self.shards {
            let of_it = entries.iter().filter(|(handle, _)| handle.id.shard == Some(shard.number));
            let part: Vec<(Handle, Bytes)> = of_it.cloned().collect();
            if !part.is_empty() {
                moved += shard.move_ahead(&part).await?;
            }
        }
        Ok(moved)
    }

    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error> {
        let mut all = BTreeSet::new();
        let mut answers = Answers::default();
        let after: Option<Arc<str>> = after.map(Arc::from);
        let parked = |shard: Arc<Tagged>| {
            let after = after.clone();
            async move { shard.parked(after.as_deref(), max).await }
        };
        for answer in self.all(parked).await {
            all.extend(answers.of(answer).into_iter().flatten());
        }
        answers.with(all.into_iter().take(max.get()).collect())
    }

    /// In each shard by itself: a host has a heart for each.
    async fn beat(&self) -> Result<(), Error> {
        let mut all = Ok(());
        for shard in &self.shards {
            all = all.and(shard.beat().await);
        }
        all
    }

    async fn give_back(&self, handles: &[Handle]) -> Result<(), Error> {
        let mut all = Ok(());
        for shard in &self.shards {
            let part: Vec<Handle> =
                handles.iter().filter(|handle| handle.id.shard == Some(shard.number)).copied().collect();
            if !part.is_empty() {
                all = all.and(shard.give_back(&part).await);
            }
        }
        all
    }

    async fn leave(&self) -> Result<(), Error> {
        let mut all = Ok(());
        for shard in &self.shards {
            all = all.and(shard.leave().await);
        }
        all
    }

    async fn tidy(&self) -> Result<u64, Error> {
        self.all(|shard| async move { shard.tidy().await }).await.into_iter().sum()
    }

    /// Atomic in each shard. All are tried, so that one that is away keeps nothing of the others'.
    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error> {
        let mut all = Ok(());
        for shard in &self.shards {
            let is_its = |at: &usize| batch[*at].handle.id.shard == Some(shard.number);
            let its: Vec<usize> = (0..batch.len()).filter(is_its).collect();
            let part: Vec<Settlement> = its.iter().map(|at| batch[*at].clone()).collect();
            if part.is_empty() {
                continue;
            }
            let settled = match shard.settle(&part).await {
                Err(Error::Refused { store, why, places }) => {
                    let places = places.iter().filter_map(|at| its.get(*at).copied()).collect();
                    Err(Error::Refused { store, why, places })
                }
                settled => settled,
            };
            all = both(all, settled);
        }
        all
    }

    async fn dead_letters(&self, filter: &Filter, start: Start, max: NonZeroUsize) -> Result<DeadPage, Error> {
        let mut letters = Vec::new();
        // Each shard was looked through to somewhere; what is beyond that may have others in between.
        let mut through: Vec<EntryId> = Vec::new();
        let dead_letters = |shard: Arc<Tagged>| {
            let filter = filter.clone();
            async move { shard.dead_letters(&filter, start, max).await }
        };
        // A search asks the store many times, and each time has its own limit.
        for page in self.all_however_long(dead_letters).await {
            let page = page?;
            letters.extend(page.letters);
            through.extend(page.next);
        }
        letters.sort_by_key(|(id, _)| *id);
        let through = if start.is_forward() {
            through.into_iter().min()
        } else {
            letters.reverse();
            through.into_iter().max()
        };
        let is_beyond = |id: EntryId, through: EntryId| if start.is_forward() { id > through } else { id < through };
        letters.retain(|(id, _)| !through.is_some_and(|through| is_beyond(*id, through)));
        if letters.len() <= max.get() {
            return Ok(DeadPage::new(letters, through));
        }
        letters.truncate(max.get());
        let next = letters.last().map(|(id, _)| *id);
        Ok(DeadPage::new(letters, next))
    }

    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error> {
        let Some(shard) = self.of(id) else { return Ok(None) };
        shard.dead_letter(id).await
    }

    async fn replay(&self, ids: &[EntryId]) -> Result<Vec<Option<EntryId>>, Error> {
        let mut deliveries = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(shard) = self.of(*id) else {
                deliveries.push(None);
                continue;
            };
            match shard.replay(&[*id]).await {
                Ok(delivery) => deliveries.extend(delivery),
                Err(error) if deliveries.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(deliveries)
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<usize, Error> {
        let mut count = 0;
        for shard in &self.shards {
            let of_it: Vec<EntryId> = ids.iter().copied().filter(|id| id.shard == Some(shard.number)).collect();
            count += shard.purge(&of_it).await?;
        }
        Ok(count)
    }

    async fn depth(&self) -> Result<Depth, Error> {
        let depths = self.all(|shard| async move { shard.depth().await }).await;
        depths.into_iter().try_fold(Depth::default(), |all, depth| Ok(all.and(depth?)))
    }

    async fn check(&self) -> Result<Vec<String>, Error> {
        let mut dangers = BTreeSet::new();
        for of_shard in self.all(|shard| async move { shard.check().await }).await {
            dangers.extend(of_shard?);
        }
        Ok(dangers.into_iter().collect())
    }
}

/// What two shards did of one batch. What one of them did not do at all is asked for again, with all of the batch.
fn both(one: Result<(), Error>, other: Result<(), Error>) -> Result<(), Error> {
    match (one, other) {
        (Ok(()), result) | (result, Ok(())) => result,
        (Err(Error::Refused { store, why, mut places }), Err(Error::Refused { places: more, .. })) => {
            places.extend(more);
            Err(Error::Refused { store, why, places })
        }
        (Err(Error::Refused { .. }), Err(error)) | (Err(error), Err(_)) => Err(error),
    }
}

/// What several shards answered: an error only if none did what it was asked.
#[derive(Default)]
struct Answers {
    is_any_good: bool,
    error: Option<Error>,
}

impl Answers {
    fn of<T>(&mut self, answer: Result<T, Error>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.is_any_good = true;
                Some(answer)
            }
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    fn with<T>(self, all: T) -> Result<T, Error> {
        match self.error {
            Some(error) if !self.is_any_good => Err(error),
            Some(_) | None => Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_chosen_as_the_manual_says() {
        // CRC-16/XMODEM of the subscription's id, modulo the number of shards.
        for (name, shards, shard) in [("123456789", 3, 0x31C3 % 3), ("sub-67890", 1, 0), ("", 5, 0)] {
            assert_eq!(shard_of(name, shards), shard, "{name}");
        }
    }
}
