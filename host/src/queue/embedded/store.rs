//! The embedded queue's file: its tables, and reading them.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    TableDefinition, WriteTransaction,
};

use crate::entry::{EntryId, Stream};
use crate::queue::Error;

/// Stream, then id.
pub(super) type EntryKey = (u8, u64, u64);
/// Due time, then stream and id.
pub(super) type ScheduleKey = (u64, u8, u64, u64);

pub(super) const ENTRIES: TableDefinition<'_, EntryKey, &[u8]> = TableDefinition::new("entries");
pub(super) const SCHEDULE: TableDefinition<'_, ScheduleKey, &[u8]> = TableDefinition::new("schedule");
/// Subscription, then stream and id.
pub(super) type ParkedKey<'a> = (&'a str, u64, u64, u8);
pub(super) const PARKED: TableDefinition<'_, ParkedKey<'static>, &[u8]> = TableDefinition::new("parked");
/// All that stand in line, by line, id and stream.
pub(super) const LINES: TableDefinition<'_, ParkedKey<'static>, &[u8]> = TableDefinition::new("lines");
/// The line of those that are first in theirs, which are elsewhere as well.
pub(super) const FIRST: TableDefinition<'_, EntryKey, &str> = TableDefinition::new("first");
pub(super) const DEAD: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("dead");
/// `last_id`, and how many entries each stream has.
pub(super) const META: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("meta");
pub(super) const LAST_ID: &str = "last_id";
/// Events and deliveries.
pub(super) const COUNTS: &str = "counts";

const FILE: &str = "queue.redb";
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How many there are of each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) events: u64,
    pub(super) deliveries: u64,
    pub(super) scheduled: u64,
    pub(super) parked: u64,
    pub(super) in_line: u64,
    pub(super) dead: u64,
}

/// The file.
pub(super) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    pub(super) fn open(directory: &Path) -> Result<Store, Error> {
        let path = directory.join(FILE);
        let failed = |error: &dyn Display| unavailable(&path, error);
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: path.display().to_string() },
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => failed(&error),
            other => Error::Corrupt(format!(
                "{} cannot be read as an embedded queue ({other}): restore it from a backup, or move it away to start with an empty queue",
                path.display()
            )),
        })?;
        let store = Store { database, path };
        store.create_tables().map_err(|error| store.unavailable(&error))?;
        Ok(store)
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(SCHEDULE)?;
        transaction.open_table(PARKED)?;
        transaction.open_table(LINES)?;
        transaction.open_table(FIRST)?;
        transaction.open_table(DEAD)?;
        transaction.open_table(META)?;
        transaction.commit()?;
        Ok(())
    }

    pub(super) fn unavailable(&self, why: &dyn Display) -> Error {
        unavailable(&self.path, why)
    }

    pub(super) fn write(&self) -> Result<WriteTransaction, redb::Error> {
        Ok(self.database.begin_write()?)
    }

    pub(super) fn last_id(&self) -> Result<EntryId, Error> {
        self.read(|transaction| {
            let last = transaction.open_table(META)?.get(LAST_ID)?;
            let (ms, seq) = last.map(|last| last.value()).unwrap_or_default();
            Ok(EntryId::new(ms, seq))
        })
    }

    pub(super) fn counts(&self) -> Result<Counts, Error> {
        self.read(|transaction| {
            let counts = transaction.open_table(META)?.get(COUNTS)?;
            let (events, deliveries) = counts.map(|counts| counts.value()).unwrap_or_default();
            let scheduled = transaction.open_table(SCHEDULE)?.len()?;
            let (parked, dead) = (transaction.open_table(PARKED)?.len()?, transaction.open_table(DEAD)?.len()?);
            let in_line = transaction.open_table(LINES)?.len()?.saturating_sub(transaction.open_table(FIRST)?.len()?);
            Ok(Counts { events, deliveries, scheduled, parked, in_line, dead })
        })
    }

    /// Up to `max` entries of a stream after an id, oldest first.
    pub(super) fn entries_after(
        &self,
        stream: Stream,
        id: EntryId,
        max: usize,
    ) -> Result<Vec<(EntryId, Bytes)>, Error> {
        let stream = stream_number(stream);
        self.read(|transaction| {
            let entries = transaction.open_table(ENTRIES)?;
            let found = entries.range((stream, id.ms, id.seq + 1)..(stream + 1, 0, 0))?.take(max);
            found
                .map(|found| {
                    let (key, fields) = found?;
                    let (_, ms, seq) = key.value();
                    Ok((EntryId::new(ms, seq), Bytes::copy_from_slice(fields.value())))
                })
                .collect()
        })
    }

    /// The fields of one entry, if it is there.
    pub(super) fn entry(&self, stream: Stream, id: EntryId) -> Result<Option<Bytes>, Error> {
        self.read(|transaction| {
            let entry = transaction.open_table(ENTRIES)?.get((stream_number(stream), id.ms, id.seq))?;
            Ok(entry.map(|fields| Bytes::copy_from_slice(fields.value())))
        })
    }

    /// The schedule in order of due time. The stored delivery is copied only when asked for.
    #[expect(
        clippy::type_complexity,
        reason = "one line of the schedule: due time, stream, id, and how to get the delivery"
    )]
    pub(super) fn schedule(
        &self,
    ) -> Result<impl Iterator<Item = Result<(u64, Stream, EntryId, impl FnOnce() -> Bytes), Error>>, Error> {
        let lines = self.read(|transaction| Ok(transaction.open_table(SCHEDULE)?.range::<ScheduleKey>(..)?))?;
        Ok(lines.map(|line| {
            let (key, stored) = line.map_err(|error| self.unavailable(&error))?;
            let (due, stream, ms, seq) = key.value();
            let stored = move || Bytes::copy_from_slice(stored.value());
            Ok((due, stream_of(stream), EntryId::new(ms, seq), stored))
        }))
    }

    /// Subscriptions that have something parked, in order, from the one after `after` on.
    pub(super) fn parked(&self, after: Option<&str>, max: usize) -> Result<Vec<Arc<str>>, Error> {
        self.read(|transaction| {
            let parked = transaction.open_table(PARKED)?;
            let mut found: Vec<Arc<str>> = Vec::new();
            while found.len() < max {
                // From one subscription straight to the next, however much either has.
                let last = found.last().map(|last| &**last).or(after);
                let first_of_next = match last {
                    Some(last) => parked.range((last, u64::MAX, u64::MAX, u8::MAX)..)?.next(),
                    None => parked.first()?.map(Ok),
                };
                let Some(next) = first_of_next.transpose()? else { break };
                found.push(next.0.value().0.into());
            }
            Ok(found)
        })
    }

    pub(super) fn dead(&self, id: EntryId) -> Result<Option<Vec<u8>>, Error> {
        self.read(|transaction| {
            let letter = transaction.open_table(DEAD)?.get((id.ms, id.seq))?;
            Ok(letter.map(|letter| letter.value().to_vec()))
        })
    }

    /// Dead letters older than an id, newest first.
    pub(super) fn dead_before(
        &self,
        id: Option<EntryId>,
    ) -> Result<impl Iterator<Item = Result<(EntryId, Vec<u8>), Error>>, Error> {
        let end = id.map_or((u64::MAX, u64::MAX), |id| (id.ms, id.seq));
        let letters = self.read(|transaction| Ok(transaction.open_table(DEAD)?.range(..end)?))?;
        Ok(letters.rev().map(|letter| {
            let (key, letter) = letter.map_err(|error| self.unavailable(&error))?;
            let (ms, seq) = key.value();
            Ok((EntryId::new(ms, seq), letter.value().to_vec()))
        }))
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        let transaction = self.database.begin_read().map_err(|error| self.unavailable(&error))?;
        look(&transaction).map_err(|error| self.unavailable(&error))
    }
}

fn unavailable(path: &Path, why: &dyn Display) -> Error {
    Error::Unavailable { store: format!("the embedded queue at {}", path.display()), why: why.to_string() }
}

pub(super) fn stream_number(stream: Stream) -> u8 {
    match stream {
        Stream::Events => 0,
        Stream::Deliveries => 1,
    }
}

pub(super) fn stream_of(number: u8) -> Stream {
    if number == stream_number(Stream::Events) { Stream::Events } else { Stream::Deliveries }
}
