//! The tables in the embedded queue's file.

use redb::{Database, TableDefinition};

use crate::entry::Stream;

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

/// Makes those that are missing.
pub(super) fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(SCHEDULE)?;
    transaction.open_table(PARKED)?;
    transaction.open_table(LINES)?;
    transaction.open_table(FIRST)?;
    transaction.open_table(DEAD)?;
    transaction.open_table(META)?;
    // What the process before did not take away any more.
    transaction.delete_table(TRIED)?;
    transaction.commit()?;
    Ok(())
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
