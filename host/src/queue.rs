//! The queue: where deliveries wait. One interface, one conformance suite that every implementation passes
//! (`tests/suite/conformance.rs`). Knows entries and records; knows nothing of HTTP, plugins or subscriptions.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::entry::{DeadLetter, Entry, EntryId, Handle, Settlement};
use crate::outcome::DeadReason;

pub mod embedded;
pub mod memory;
pub mod redis;
pub mod sharded;

/// Where deliveries wait.
///
/// An entry is *pending* from when [`receive`](Queue::receive), [`take_due`](Queue::take_due) or
/// [`claim`](Queue::claim) handed it out until it is settled. What is not settled or given back comes again when the host
/// that has it is gone, and not as long as that host says that it lives.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Appends events, each the JSON of one event; returns their ids in order once they are stored.
    async fn publish(&self, events: &[Bytes]) -> Result<Vec<EntryId>, Error>;

    /// Hands out up to `max` entries that nobody has and that need not wait for their turn, oldest first, to worker number `worker`; waits up to `wait` for the
    /// first. The future must be driven to its end: what it was about to return would else stay pending until claimed.
    async fn receive(&self, worker: usize, max: NonZeroUsize, wait: Duration) -> Result<Vec<Entry>, Error>;

    /// Hands out up to `max` scheduled deliveries that are due. They are due again after the lease, if they are not settled and
    /// nobody says that they are in hand.
    async fn take_due(&self, max: NonZeroUsize) -> Result<Due, Error>;

    /// Hands out up to `max` entries that a host which is gone left pending.
    async fn claim(&self, max: NonZeroUsize) -> Result<Vec<Entry>, Error>;

    /// Says that this host lives, and still has in hand what it was handed and did not settle. To be called every now and
    /// then, as long as that is so: from the start until all that was in hand is settled.
    async fn beat(&self) -> Result<(), Error>;

    /// Gives back what was handed out and not begun: others have it at once.
    async fn give_back(&self, handles: &[Handle]) -> Result<(), Error>;

    /// The last thing a host does that ends in good order: whatever it still has others have at once.
    async fn leave(&self) -> Result<(), Error>;

    /// Lets go of what is done and old enough, and answers how many events so far were lost before anybody received them,
    /// because somebody else trimmed them.
    async fn tidy(&self) -> Result<u64, Error>;

    /// Makes parked deliveries due at once, before all others: of each subscription up to so many, oldest first. Answers
    /// how many that were.
    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<usize>, Error>;

    /// Up to `max` subscriptions that have something parked, in the order of their ids, from the one after `after` on.
    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error>;

    /// Settles a batch in one atomic step: each entry leaves the place where it sits, and in the same step its record is
    /// made. An entry that is no longer where its handle says (somebody else settled or took it) is left alone, so that
    /// settling a batch a second time changes nothing.
    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error>;

    /// Dead letters, newest first, that match the filter and are older than `before`.
    async fn dead_letters(
        &self,
        filter: &Filter,
        before: Option<EntryId>,
        max: NonZeroUsize,
    ) -> Result<DeadPage, Error>;

    /// One dead letter.
    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error>;

    /// Turns a dead letter into a new delivery in one atomic step; `None` if it is not there (any more).
    async fn replay(&self, id: EntryId) -> Result<Option<EntryId>, Error>;

    /// Deletes a dead letter; says whether it was there.
    async fn purge(&self, id: EntryId) -> Result<bool, Error>;

    /// How much waits where.
    async fn depth(&self) -> Result<Depth, Error>;

    /// Whether the store answers, and what about its settings endangers events.
    async fn check(&self) -> Result<Vec<String>, Error>;

    /// The shards that this queue consists of, if it does: hosts do for each of them what is to be done, so that one
    /// whose store is away holds up nobody but itself.
    fn shards(&self) -> Vec<Arc<dyn Queue>> {
        Vec::new()
    }
}

/// One of the queues that a queue consists of, or all of one that is whole.
#[derive(Clone)]
pub struct Shard {
    /// Counted from 0, as ids say it.
    pub number: usize,
    /// It.
    pub queue: Arc<dyn Queue>,
}

impl Shard {
    /// All of a queue.
    #[must_use]
    pub fn all(queue: &Arc<dyn Queue>) -> Vec<Shard> {
        let shards = queue.shards();
        let shards = if shards.is_empty() { vec![Arc::clone(queue)] } else { shards };
        shards.into_iter().enumerate().map(|(number, queue)| Shard { number, queue }).collect()
    }
}

/// What [`Queue::take_due`] found.
#[derive(Debug, Default)]
pub struct Due {
    /// The deliveries.
    pub entries: Vec<Entry>,
    /// How long until the next one is due, if one is scheduled.
    pub next: Option<Duration>,
}

/// Which dead letters are meant; what is `None` matches all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this subscription.
    pub subscription_id: Option<String>,
    /// That died for this reason.
    pub reason: Option<DeadReason>,
}

impl Filter {
    /// Whether it means this one.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.subscription_id.as_ref().is_none_or(|id| *id == letter.subscription_id)
            && self.reason.is_none_or(|reason| reason == letter.reason)
    }
}

/// One page of dead letters.
#[derive(Debug, Default)]
pub struct DeadPage {
    /// Each with its own id in the dead letters.
    pub letters: Vec<(EntryId, DeadLetter)>,
    /// Ask again with this as `before`; `None` at the end.
    pub next: Option<EntryId>,
}

/// How much waits where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Entries in the events stream, acknowledged ones that are not trimmed yet included.
    pub events: u64,
    /// Entries of both streams that nobody has received yet.
    pub waiting: u64,
    /// Entries handed out and not settled.
    pub pending: u64,
    /// Deliveries in the retry schedule.
    pub scheduled: u64,
    /// Deliveries that are parked because they may not go.
    pub parked: u64,
    /// Deliveries that wait for the ones before them.
    pub in_line: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Depth {
    /// Of both together.
    #[must_use]
    pub fn and(self, other: Depth) -> Depth {
        Depth {
            events: self.events + other.events,
            waiting: self.waiting + other.waiting,
            pending: self.pending + other.pending,
            scheduled: self.scheduled + other.scheduled,
            parked: self.parked + other.parked,
            in_line: self.in_line + other.in_line,
            dead: self.dead + other.dead,
        }
    }
}

/// The queue could not do its work. Nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, or not now; trying again may help.
    #[error("{store} is not available: {why}")]
    Unavailable {
        /// Which store, without credentials.
        store: String,
        /// What it or the connection said.
        why: String,
    },
    /// The store answered with something that cannot be: another program's keys, or a damaged file.
    #[error("{0}")]
    Corrupt(String),
    /// Another process has the embedded queue open.
    #[error(
        "{path} is in use by another process: the embedded queue serves one host; stop that one, or use Redis for several"
    )]
    InUse {
        /// The file.
        path: String,
    },
    /// The URL in `queue.url` is none this build can use.
    #[error("queue.url: {0}")]
    BadUrl(String),
}
