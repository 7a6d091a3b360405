//! The embedded queue's file: its tables, and reading them.

use std::fmt::Display;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{
    AccessGuard, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    TableDefinition, WriteTransaction,
};

use crate::entry::{EntryId, Stream};
use crate::queue::{Error, SHOWN_BYTES_MAX, Start};

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
/// What was written to see whether the disk takes it.
pub(super) const TRIED: TableDefinition<'_, (), &[u8]> = TableDefinition::new("tried");
/// `last_id`, and how many entries each stream has.
pub(super) const META: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("meta");
pub(super) const LAST_ID: &str = "last_id";
/// Events and deliveries.
pub(super) const COUNTS: &str = "counts";

const FILE: &str = "queue.redb";
/// Of pages in memory: enough for what a million deliveries touch again and again, and little beside what plugins may have.
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

/// How long a file that could not be opened again is left alone.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// The file.
pub(super) struct Store {
    file: RwLock<File>,
    path: PathBuf,
}

/// After a write or a sync that failed nobody can tell what is on the disk. So the database is closed, and what the disk
/// has is read anew.
enum File {
    Open(Database),
    Closed { why: Error, retry_at: Instant },
}

impl Store {
    pub(super) fn open(directory: &Path) -> Result<Store, Error> {
        let path = directory.join(FILE);
        std::fs::create_dir_all(directory).map_err(|error| storage_error(&path, error.into()))?;
        let file = RwLock::new(File::Open(open(&path)?));
        Ok(Store { file, path })
    }

    /// One transaction: all that `work` does is on the disk when this returns, or nothing.
    pub(super) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.with_database(|database| {
            let transaction = database.begin_write()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    pub(super) fn unavailable(&self, why: &dyn Display) -> Error {
        unavailable(&self.path, why)
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.with_database(|database| look(&database.begin_read()?))
    }

    fn with_database<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.reopen()?;
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let worked = match &*file {
            File::Open(database) => work(database),
            File::Closed { why, .. } => return Err(why.clone()),
        };
        drop(file);
        worked.map_err(|error| {
            let is_broken = matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::Corrupted(_));
            let error = storage_error(&self.path, error);
            if is_broken {
                self.close(&error);
            }
            error
        })
    }

    /// Opens a file that was closed, if it is time.
    fn reopen(&self) -> Result<(), Error> {
        let is_closed = |file: &File| match file {
            File::Open(_) => None,
            File::Closed { why, retry_at } => Some((why.clone(), *retry_at)),
        };
        if is_closed(&self.file.read().unwrap_or_else(PoisonError::into_inner)).is_none() {
            return Ok(());
        }
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        match is_closed(&file) {
            None => return Ok(()),
            Some((why, retry_at)) if retry_at > Instant::now() => return Err(why),
            Some(_) => {}
        }
        match open(&self.path) {
            Ok(database) => {
                tracing::info!(file = %self.path.display(), "opened again");
                *file = File::Open(database);
                Ok(())
            }
            Err(why) => {
                *file = File::Closed { why: why.clone(), retry_at: Instant::now() + REOPEN_EVERY };
                Err(why)
            }
        }
    }

    fn close(&self, why: &Error) {
        let mut file = self.file.write().unwrap_or_else(PoisonError::into_inner);
        // Dropping the database closes the file, so that it can be opened again.
        *file = File::Closed { why: why.clone(), retry_at: Instant::now() };
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

    /// The newest entries of a stream after an id, oldest first: up to `max` and not too large together; and whether there
    /// are more.
    pub(super) fn newest_entries(&self, stream: Stream, after: EntryId, max: usize) -> Result<Shown, Error> {
        self.read(|transaction| {
            let entries = transaction.open_table(ENTRIES)?;
            let mut shown = show(entries.range(span(stream, after..EntryId::MAX))?.rev(), max)?;
            shown.0.reverse();
            Ok(shown)
        })
    }

    /// The oldest ones after the span's start and before its end, likewise.
    pub(super) fn entries_between(&self, stream: Stream, between: Range<EntryId>, max: usize) -> Result<Shown, Error> {
        self.read(|transaction| {
            let entries = transaction.open_table(ENTRIES)?;
            show(entries.range(span(stream, between))?, max)
        })
    }

    /// How many are due before all that are due by time, counted up to `max`.
    pub(super) fn due_at_once(&self, max: usize) -> Result<usize, Error> {
        self.read(|transaction| {
            let schedule = transaction.open_table(SCHEDULE)?;
            Ok(schedule.range::<ScheduleKey>(..(1, 0, 0, 0))?.take(max).count())
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
            let (key, stored) = line.map_err(|error| storage_error(&self.path, error.into()))?;
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

    /// Dead letters of these ids, in the order that looking through them from `start` on has.
    pub(super) fn dead_in(
        &self,
        span: Range<EntryId>,
        start: Start,
    ) -> Result<impl Iterator<Item = Result<(EntryId, Vec<u8>), Error>>, Error> {
        let key = |id: EntryId| (id.ms, id.seq);
        let mut letters =
            self.read(|transaction| Ok(transaction.open_table(DEAD)?.range(key(span.start)..key(span.end))?))?;
        let next = move || if start.is_forward() { letters.next() } else { letters.next_back() };
        Ok(std::iter::from_fn(next).map(|letter| {
            let (key, letter) = letter.map_err(|error| storage_error(&self.path, error.into()))?;
            let (ms, seq) = key.value();
            Ok((EntryId::new(ms, seq), letter.value().to_vec()))
        }))
    }
}

/// Entries, and whether there are more.
pub(super) type Shown = (Vec<(EntryId, Bytes)>, bool);

/// The keys after the start and before the end.
fn span(stream: Stream, ids: Range<EntryId>) -> Range<EntryKey> {
    let key = |id: EntryId| (stream_number(stream), id.ms, id.seq);
    let (start, end) = (key(ids.start.next()), key(ids.end));
    start.min(end)..end
}

fn show<'a>(
    entries: impl Iterator<Item = Result<(AccessGuard<'a, EntryKey>, AccessGuard<'a, &'static [u8]>), StorageError>>,
    max: usize,
) -> Result<Shown, redb::Error> {
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        if shown.len() == max || bytes >= SHOWN_BYTES_MAX {
            return Ok((shown, true));
        }
        let (key, fields) = entry?;
        let (_, ms, seq) = key.value();
        bytes += fields.value().len();
        shown.push((EntryId::new(ms, seq), Bytes::copy_from_slice(fields.value())));
    }
    Ok((shown, false))
}

/// Opens the file, or makes it. All of it is read and checked: what was damaged would else come up in the middle of a
/// delivery.
fn open(path: &Path) -> Result<Database, Error> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(path);
    let database = database.map_err(|error| storage_error(path, error.into()))?;
    create_tables(&database).map_err(|error| storage_error(path, error))?;
    Ok(database)
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
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

/// What went wrong, as the operator can mend it.
fn storage_error(path: &Path, error: redb::Error) -> Error {
    match error {
        redb::Error::DatabaseAlreadyOpen => Error::InUse { path: path.display().to_string() },
        redb::Error::Io(error) => match error.kind() {
            // What redb says of a file that is none of its own, or only a part of one.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => corrupt(path, &error),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                unavailable(path, &format_args!("the disk is full ({error}); make room, and it goes on by itself"))
            }
            _ => unavailable(path, &error),
        },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            unavailable(path, &"the disk failed, and the file is about to be opened again")
        }
        error @ (redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }) => corrupt(path, &error),
        error => unavailable(path, &error),
    }
}

fn corrupt(path: &Path, why: &dyn Display) -> Error {
    Error::Corrupt(format!(
        "{} is damaged, or no embedded queue ({why}): restore it from a backup, or move it away to start with an empty queue",
        path.display()
    ))
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
