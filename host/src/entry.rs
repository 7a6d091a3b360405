//! An entry: a delivery as it sits in the queue, and what settling it records.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::outcome::DeadReason;

/// An entry's id as Redis Streams write it, `milliseconds-sequence`. The embedded queue uses the same form. Where a queue
/// has shards `@` and the shard's number follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch, by the queue's clock.
    pub ms: u64,
    /// Tells entries of the same millisecond apart.
    pub seq: u64,
    /// Which of the queue's shards has it; none if the queue is one.
    pub shard: Option<u16>,
}

impl EntryId {
    /// Before all others.
    pub const MIN: EntryId = EntryId::new(0, 0);
    /// After all others.
    pub const MAX: EntryId = EntryId::new(u64::MAX, u64::MAX);

    /// An id in a queue without shards.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> EntryId {
        EntryId { ms, seq, shard: None }
    }

    /// The first id that can be larger, in a queue without shards.
    #[must_use]
    pub fn next(self) -> EntryId {
        match self.seq.checked_add(1) {
            Some(seq) => EntryId::new(self.ms, seq),
            None => EntryId::new(self.ms.saturating_add(1), 0),
        }
    }

    /// The last id that can be smaller, in a queue without shards.
    #[must_use]
    pub fn previous(self) -> EntryId {
        match self.seq.checked_sub(1) {
            Some(seq) => EntryId::new(self.ms, seq),
            None => EntryId::new(self.ms.saturating_sub(1), u64::MAX),
        }
    }

    /// When the entry was made, by the queue's clock.
    #[must_use]
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.ms)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)?;
        self.shard.map_or(Ok(()), |shard| write!(f, "@{shard}"))
    }
}

/// The text is not an entry id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an entry id; they look like 1767868200000-0")]
pub struct BadEntryId;

impl FromStr for EntryId {
    type Err = BadEntryId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, rest) = text.split_once('-').ok_or(BadEntryId)?;
        let (seq, shard) = rest.split_once('@').map_or((rest, None), |(seq, shard)| (seq, Some(shard)));
        let number = |text: &str| text.parse().map_err(|_| BadEntryId);
        let shard = shard.map(|shard| shard.parse().map_err(|_| BadEntryId)).transpose()?;
        Ok(EntryId { ms: number(ms)?, seq: number(seq)?, shard })
    }
}

/// Which of the queue's two streams an entry first came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// What producers write.
    Events,
    /// What fan-out and replay write.
    Deliveries,
}

/// Where an entry sits now; settling it must name this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// In its stream, pending for this host.
    Stream,
    /// In the retry schedule, leased until this due time (ms). Another host that took it since has another due time.
    Schedule {
        /// The due time the lease gave it.
        lease: u64,
    },
}

/// What settling an entry takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Its id in the stream it first came from.
    pub id: EntryId,
    /// That stream.
    pub stream: Stream,
    /// Where it sits now.
    pub place: Place,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The fields of a stream entry, as found.
    Fields(Vec<(Bytes, Bytes)>),
    /// A delivery as Weft stored it in the retry schedule.
    Stored(Bytes),
}

/// A delivery as it sits in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What settling it takes.
    pub handle: Handle,
    /// What it holds.
    pub content: Content,
    /// Set when the queue itself found that it must not be tried: claimed too often, or adopted too old.
    pub condemned: Option<Condemned>,
}

/// Why the queue itself found that an entry must not be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    /// Poison or stale.
    pub reason: DeadReason,
    /// For people.
    pub why: String,
}

impl Entry {
    /// The value of a stream entry's field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Bytes> {
        match &self.content {
            Content::Fields(fields) => {
                fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value)
            }
            Content::Stored(_) => None,
        }
    }
}

/// Where an entry stands in line: it is handed out when all before it in the same line are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Names the line.
    pub line: String,
    /// The delivery in its stored form, which waits in its place.
    pub stored: Bytes,
}

/// Tells the turn of an entry that was just received; `None` for one that need not wait.
pub type Turns = Arc<dyn Fn(&Entry) -> Option<Turn> + Send + Sync>;

/// What becomes of an entry, recorded in the same step that removes it from where it sits.
#[derive(Debug, Clone)]
pub enum Record {
    /// Nothing remains to be done.
    Done,
    /// Due again after a while, as this stored delivery.
    Schedule {
        /// From now, by the queue's clock.
        after: Duration,
        /// The delivery in its stored form.
        stored: Bytes,
    },
    /// Waits with others of its subscription until they are brought back, as this stored delivery.
    Park {
        /// Whose it is.
        subscription: Arc<str>,
        /// The delivery in its stored form.
        stored: Bytes,
    },
    /// Given up.
    Dead(Box<DeadLetter>),
}

impl Record {
    /// How large it is, but for what is always small.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Record::Done => 0,
            Record::Schedule { stored, .. } | Record::Park { stored, .. } => stored.len(),
            Record::Dead(letter) => {
                let raw = letter.raw.iter().map(|(name, value)| name.len() + value.len());
                letter.event.len() + raw.sum::<usize>()
            }
        }
    }
}

/// An entry and its record: one line of a settle batch.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which entry.
    pub handle: Handle,
    /// What becomes of it.
    pub record: Record,
}

/// A delivery that was given up, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event's JSON as the producer wrote it; empty if the entry had none.
    pub event: Bytes,
    /// The id of the entry it came from.
    pub original_id: EntryId,
    /// When it was given up.
    pub failed_at: SystemTime,
    /// Whose delivery it was; empty if that could not be read.
    pub subscription_id: String,
    /// Why.
    pub reason: DeadReason,
    /// How many attempts were made.
    pub attempts: u32,
    /// The last answer's status, if there was one.
    pub last_status: Option<u16>,
    /// What went wrong, for people.
    pub last_error: String,
    /// When a host first saw the entry.
    pub first_seen: SystemTime,
    /// How often it was replayed before.
    pub replays: u32,
    /// How it died before, oldest first; the last [`DEATHS_MAX`] times.
    pub died_before: Vec<Death>,
    /// Fields of a malformed entry beside `event`, as found.
    pub raw: Vec<(Bytes, Bytes)>,
}

/// Deaths that a trail keeps: the most recent ones. How often it was replayed is counted beyond that.
pub const DEATHS_MAX: usize = 10;

/// A death that a replay undid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Why.
    pub reason: DeadReason,
    /// When it was given up; `None` if the version of Weft that replayed it did not say.
    pub died: Option<SystemTime>,
    /// When it was replayed; `None` likewise.
    pub replayed: Option<SystemTime>,
}

impl DeadLetter {
    /// How much it is, as far as that can be much.
    pub(crate) fn bytes(&self) -> usize {
        let raw: usize = self.raw.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.event.len() + raw
    }

    /// The deaths that a replay at this time leaves behind, this one included.
    #[must_use]
    pub fn deaths(&self, replayed: SystemTime) -> Vec<Death> {
        let last = Death { reason: self.reason, died: Some(self.failed_at), replayed: Some(replayed) };
        let all = self.died_before.len() + 1;
        self.died_before.iter().copied().chain([last]).skip(all.saturating_sub(DEATHS_MAX)).collect()
    }
}
