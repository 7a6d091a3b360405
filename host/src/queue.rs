//! The queue: where deliveries wait. One interface, one conformance suite that every implementation passes
//! (`tests/suite/conformance.rs`). Knows entries and records; knows nothing of HTTP, plugins or subscriptions.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::entry::{DeadLetter, Entry, EntryId, Handle, Settlement, Stream};
use crate::outcome::DeadReason;
use crate::stored::unix_ms;

pub mod embedded;
mod lookout;
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
    /// how many that were, in the same order.
    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<Unparked>, Error>;

    /// Up to `max` subscriptions that have something parked, in the order of their ids, from the one after `after` on.
    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error>;

    /// Shows up to `max` entries that nobody has received, where more than `beyond` wait: the newest first, later those before
    /// them. Nobody has what is shown. `None` if not so many wait, or another host looks already.
    async fn look_ahead(&self, beyond: usize, max: NonZeroUsize) -> Result<Option<Ahead>, Error>;

    /// Moves entries ahead of all that wait: each is due now as this stored delivery, before all others, and is received
    /// from its stream no more. One that somebody has received, or moved before, is left alone. Answers how many were moved.
    async fn move_ahead(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error>;

    /// Settles a batch in one atomic step: each entry leaves the place where it sits, and in the same step its record is
    /// made. An entry that is no longer where its handle says (somebody else settled or took it) is left alone, so that
    /// settling a batch a second time changes nothing. A record that cannot be made as things are is
    /// [refused](Error::Refused), and keeps no other of the batch from being made.
    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error>;

    /// Up to `max` dead letters that match the filter.
    async fn dead_letters(&self, filter: &Filter, start: Start, max: NonZeroUsize) -> Result<DeadPage, Error>;

    /// One dead letter.
    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error>;

    /// Turns dead letters into new deliveries, in this order, each in one atomic step; `None` for one that is not there
    /// (any more). Where one fails, the answer ends before it; if that is the first one, it fails as a whole.
    async fn replay(&self, ids: &[EntryId]) -> Result<Vec<Option<EntryId>>, Error>;

    /// Deletes dead letters; says how many of them were there.
    async fn purge(&self, ids: &[EntryId]) -> Result<usize, Error>;

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

/// Of what is shown, or read from a server, at once: entries are few when they are large.
const SHOWN_BYTES_MAX: usize = 4 << 20;

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

/// What [`Queue::unpark`] did of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unparked {
    /// So many are due now.
    pub count: usize,
    /// Whether more may be parked in a shard that did not answer.
    pub is_partial: bool,
}

impl From<usize> for Unparked {
    /// So many, and no more are parked if that is less than was wanted.
    fn from(count: usize) -> Unparked {
        Unparked { count, is_partial: false }
    }
}

/// What [`Queue::look_ahead`] shows of a stream.
#[derive(Debug)]
pub struct Ahead {
    /// The stream.
    pub stream: Stream,
    /// Of the stream, oldest first.
    pub entries: Vec<Entry>,
    /// The stream was received up to here.
    pub received: EntryId,
    /// Whether all that wait before these were shown already.
    pub is_in_order: bool,
    /// Whether there is more to look at now.
    pub is_more: bool,
    /// How many may be moved ahead: no more, or they would wait there.
    pub room: usize,
}

/// Which dead letters are meant; what is `None` matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of this subscription.
    pub subscription_id: Option<String>,
    /// That died for this reason.
    pub reason: Option<DeadReason>,
    /// That became dead letters then or later, by the queue's clock.
    pub since: Option<SystemTime>,
    /// That became dead letters before, by the queue's clock.
    pub until: Option<SystemTime>,
}

impl Filter {
    /// Whether it means this one, its time aside.
    fn matches(&self, letter: &DeadLetter) -> bool {
        self.subscription_id.as_ref().is_none_or(|id| *id == letter.subscription_id)
            && self.reason.is_none_or(|reason| reason == letter.reason)
    }

    /// The ids that are left from `start` on. An id holds when its letter was made, so that times need no search.
    fn span(&self, start: Start) -> Range<EntryId> {
        let mut span = self.since.map_or(EntryId::MIN, first_of)..self.until.map_or(EntryId::MAX, first_of);
        match start {
            Start::Newest | Start::Oldest => {}
            Start::Before(id) => span.end = span.end.min(id),
            Start::After(id) => span.start = span.start.max(id.next()),
        }
        span.start = span.start.min(span.end);
        span
    }
}

/// The smallest id that can be of this time or later.
fn first_of(time: SystemTime) -> EntryId {
    let ms = unix_ms(time);
    let is_past_it = SystemTime::UNIX_EPOCH + Duration::from_millis(ms) < time;
    EntryId::new(ms.saturating_add(u64::from(is_past_it)), 0)
}

/// Where looking through dead letters begins, and so in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the newest, to the oldest.
    Newest,
    /// With the next older one.
    Before(EntryId),
    /// With the oldest, to the newest.
    Oldest,
    /// With the next newer one.
    After(EntryId),
}

impl Start {
    /// Where to go on in the same order.
    #[must_use]
    pub fn past(self, id: EntryId) -> Start {
        if self.is_forward() { Start::After(id) } else { Start::Before(id) }
    }

    fn is_forward(self) -> bool {
        match self {
            Start::Oldest | Start::After(_) => true,
            Start::Newest | Start::Before(_) => false,
        }
    }
}

/// One page of dead letters.
#[derive(Debug, Default)]
pub struct DeadPage {
    /// Each with its own id in the dead letters.
    pub letters: Vec<(EntryId, DeadLetter)>,
    /// Go on [`past`](Start::past) this; `None` at the end.
    pub next: Option<EntryId>,
    /// How much the letters are together.
    bytes: usize,
}

impl DeadPage {
    fn new(letters: Vec<(EntryId, DeadLetter)>, next: Option<EntryId>) -> DeadPage {
        let bytes = letters.iter().map(|(_, letter)| letter.bytes()).sum();
        DeadPage { letters, next, bytes }
    }

    /// Whether there is no room for one more: there are as many as were asked for, or they are large.
    fn is_full(&self, max: NonZeroUsize) -> bool {
        self.letters.len() >= max.get() || self.bytes >= SHOWN_BYTES_MAX
    }

    fn add(&mut self, id: EntryId, letter: DeadLetter) {
        self.bytes += letter.bytes();
        self.letters.push((id, letter));
    }
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
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store does not answer, or not now; trying again may help.
    #[error("{store} is not available: {why}")]
    Unavailable {
        /// Which store, without credentials.
        store: String,
        /// What it or the connection said.
        why: String,
    },
    /// The store will not make some records as things are, whoever asks; it made the others of the batch.
    #[error("{store} does not record {} of the outcomes: {why}", places.len())]
    Refused {
        /// Which store, without credentials.
        store: String,
        /// What is in the way, and the mend.
        why: String,
        /// Whose records they are, by their places in the batch.
        places: Vec<usize>,
    },
    /// The store answered with something that cannot be: another program's keys, or a damaged file. Trying again does not help.
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

impl Error {
    /// The same, said of one of several shards.
    fn of_shard(self, number: u16) -> Error {
        let of_shard = |what: String| format!("shard {number}: {what}");
        match self {
            Error::Unavailable { store, why } => Error::Unavailable { store: of_shard(store), why },
            Error::Refused { store, why, places } => Error::Refused { store: of_shard(store), why, places },
            Error::Corrupt(what) => Error::Corrupt(of_shard(what)),
            Error::InUse { .. } | Error::BadUrl(_) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: SystemTime = SystemTime::UNIX_EPOCH;

    #[track_caller]
    fn check(since_us: Option<u64>, until_us: Option<u64>, start: Start, expected: [(u64, u64); 2]) {
        let time = |us: u64| TIME + Duration::from_micros(us);
        let filter = Filter { since: since_us.map(time), until: until_us.map(time), ..Filter::default() };
        let Range { start, end } = filter.span(start);
        assert_eq!([(start.ms, start.seq), (end.ms, end.seq)], expected);
    }

    #[test]
    fn times_and_where_to_go_on_are_ranges_of_ids() {
        const MAX: (u64, u64) = (u64::MAX, u64::MAX);
        let (id, old) = (EntryId::new(5, 3), EntryId::new(0, 1));
        check(None, None, Start::Newest, [(0, 0), MAX]);
        check(Some(2000), Some(9000), Start::Oldest, [(2, 0), (9, 0)]);
        check(Some(2001), Some(9001), Start::Newest, [(3, 0), (10, 0)]);
        check(Some(2000), Some(9000), Start::Before(id), [(2, 0), (5, 3)]);
        check(Some(2000), Some(9000), Start::After(id), [(5, 4), (9, 0)]);
        check(Some(2000), Some(9000), Start::After(old), [(2, 0), (9, 0)]);
        check(Some(2000), Some(9000), Start::Before(old), [(0, 1), (0, 1)]);
        check(Some(9000), Some(2000), Start::Newest, [(2, 0), (2, 0)]);
        check(None, None, Start::After(EntryId::new(5, u64::MAX)), [(6, 0), MAX]);
    }
}
