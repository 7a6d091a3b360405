//! Reading and writing what the embedded queue's file has.

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redb::{
    AccessGuard, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    WriteTransaction,
};

use super::file::File;
use super::tables::{
    COUNTS, DEAD, ENTRIES, EntryKey, FIRST, LAST_ID, LINES, META, PARKED, SCHEDULE, ScheduleKey, stream_number,
    stream_of,
};
use crate::entry::{EntryId, Stream};
use crate::queue::{Error, SHOWN_BYTES_MAX, Start};

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

/// The file and what is in it.
pub(super) struct Store {
    file: File,
}

impl Store {
    pub(super) fn open(directory: &Path) -> Result<Store, Error> {
        File::open(directory).map(Store::over)
    }

    pub(super) fn over(file: File) -> Store {
        Store { file }
    }

    /// One transaction: all that `work` does is on the disk when this returns, or nothing.
    pub(super) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.file.with(|database| {
            let transaction = database.begin_write()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// Why nothing can be read or written now, if so.
    pub(super) fn why_closed(&self) -> Option<Error> {
        self.file.why_closed()
    }

    /// How long what failed is best left alone.
    pub(super) fn pause(&self) -> Duration {
        self.file.pause()
    }

    /// Until it is time to open the file again.
    pub(super) async fn wants_reopening(&self) {
        self.file.wants_reopening().await;
    }

    /// For the committer's thread alone: it takes seconds for each million deliveries.
    pub(super) fn reopen(&self) {
        self.file.reopen();
    }

    pub(super) fn unavailable(&self, why: &dyn Display) -> Error {
        self.file.unavailable(why)
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, Error> {
        self.file.with(|database| look(&database.begin_read()?))
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
        let opened = self.file.opened();
        let lines = self.read(|transaction| Ok(transaction.open_table(SCHEDULE)?.range::<ScheduleKey>(..)?))?;
        Ok(lines.map(move |line| {
            let (key, stored) = line.map_err(|error| self.file.failed(opened, error.into()))?;
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
        let opened = self.file.opened();
        let mut letters =
            self.read(|transaction| Ok(transaction.open_table(DEAD)?.range(key(span.start)..key(span.end))?))?;
        let next = move || if start.is_forward() { letters.next() } else { letters.next_back() };
        Ok(std::iter::from_fn(next).map(move |letter| {
            let (key, letter) = letter.map_err(|error| self.file.failed(opened, error.into()))?;
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
