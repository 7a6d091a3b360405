//! Who had what when the process was killed. What is handed out and settled is noted in a small file beside the queue,
//! without waiting for the disk: the process may be killed in the middle, and what it wrote is there all the same. That
//! is enough to find an entry that kills the process each time; a power failure costs no more than that.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::entry::{EntryId, Stream};

use super::tables::{stream_number, stream_of};

const FILE: &str = "in-hand";
/// Kind, stream, id.
const RECORD: usize = 18;
/// The file is written anew when it is longer, with what still counts; it is read whole at the start, which takes a moment.
const BYTES_MAX: u64 = 1024 * 1024;

/// An entry, wherever it sits.
pub(super) type Key = (Stream, EntryId);

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// It was handed out.
    InHand,
    /// It was settled, or given back.
    Over,
    /// The process ended while it was in hand.
    Claimed,
}

impl Note {
    fn byte(self) -> u8 {
        match self {
            Note::InHand => b'H',
            Note::Over => b'O',
            Note::Claimed => b'C',
        }
    }
}

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Those in hand, and how often the process ended while they were.
    known: HashMap<Key, Known>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    in_hand: bool,
    claims: u32,
}

impl Journal {
    /// Reads what an earlier process left behind.
    pub(super) fn open(directory: &Path) -> io::Result<Journal> {
        let path = directory.join(FILE);
        let known = match std::fs::read(&path) {
            Ok(records) => read(&records),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        let (file, bytes) = write_anew(&path, &known)?;
        Ok(Journal { path, file, bytes, known })
    }

    /// How often the process ended while this was in hand.
    pub(super) fn claims(&self, key: Key) -> u32 {
        self.known.get(&key).map_or(0, |known| known.claims)
    }

    /// Notes the same of some entries.
    pub(super) fn note(&mut self, note: Note, keys: impl Iterator<Item = Key>) -> io::Result<()> {
        let mut records = Vec::new();
        for key in keys {
            apply(&mut self.known, note, key);
            records.extend_from_slice(&record(note, key));
        }
        if self.bytes > BYTES_MAX {
            (self.file, self.bytes) = write_anew(&self.path, &self.known)?;
            return Ok(());
        }
        // What was half-written would have all that comes after it read wrong: the next note writes the file anew.
        self.file.write_all(&records).inspect_err(|_| self.bytes = u64::MAX)?;
        self.bytes += u64::try_from(records.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

fn record(note: Note, (stream, id): Key) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[0] = note.byte();
    record[1] = stream_number(stream);
    record[2..10].copy_from_slice(&id.ms.to_be_bytes());
    record[10..].copy_from_slice(&id.seq.to_be_bytes());
    record
}

fn apply(known: &mut HashMap<Key, Known>, note: Note, key: Key) {
    match note {
        Note::InHand => known.entry(key).or_default().in_hand = true,
        Note::Over => drop(known.remove(&key)),
        Note::Claimed => known.entry(key).or_default().claims += 1,
    }
}

/// What the records say; whoever was in hand at their end is so no more, and was claimed once more.
fn read(records: &[u8]) -> HashMap<Key, Known> {
    let mut known = HashMap::new();
    for record in records.chunks_exact(RECORD) {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or_default();
        let key = (stream_of(record[1]), EntryId::new(number(&record[2..10]), number(&record[10..])));
        let all = [Note::InHand, Note::Over, Note::Claimed];
        // A kind that nobody wrote is damage, and says nothing.
        if let Some(note) = all.into_iter().find(|note| note.byte() == record[0]) {
            apply(&mut known, note, key);
        }
    }
    for known in known.values_mut() {
        known.claims += u32::from(std::mem::take(&mut known.in_hand));
    }
    known
}

/// Whole or not at all: the file in its place is never half-written.
fn write_anew(path: &Path, known: &HashMap<Key, Known>) -> io::Result<(File, u64)> {
    let mut records = Vec::new();
    for (key, known) in known {
        (0..known.claims).for_each(|_| records.extend_from_slice(&record(Note::Claimed, *key)));
        if known.in_hand {
            records.extend_from_slice(&record(Note::InHand, *key));
        }
    }
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&records)?;
    std::fs::rename(&new, path)?;
    Ok((file, u64::try_from(records.len()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seq: u64) -> Key {
        (Stream::Events, EntryId::new(1, seq))
    }

    #[test]
    fn what_was_in_hand_at_the_end_was_claimed() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let mut journal = Journal::open(directory.path()).unwrap();
            assert_eq!([0, 1, 2].map(|seq| journal.claims(key(seq))), [round, 0, 0]);
            journal.note(Note::InHand, [0, 1].map(key).into_iter()).unwrap();
            journal.note(Note::Over, [1].map(key).into_iter()).unwrap();
        }
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.note(Note::Over, [0].map(key).into_iter()).unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().claims(key(0)), 0);
    }

    #[test]
    fn what_was_half_written_spoils_nothing_that_comes_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        // A disk that is full took some bytes and no more.
        journal.file.write_all(&record(Note::InHand, key(0))[..7]).unwrap();
        let file = std::mem::replace(&mut journal.file, File::create("/dev/full").unwrap());
        journal.note(Note::InHand, [0].map(key).into_iter()).unwrap_err();
        journal.file = file;
        journal.note(Note::InHand, [1].map(key).into_iter()).unwrap();
        drop(journal);
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!([0, 1].map(|seq| journal.claims(key(seq))), [1, 1]);
    }

    #[test]
    fn it_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.note(Note::InHand, [0].map(key).into_iter()).unwrap();
        for _ in 0..200 {
            journal.note(Note::InHand, (1..1000).map(key)).unwrap();
            journal.note(Note::Over, (1..1000).map(key)).unwrap();
        }
        let bytes = std::fs::metadata(directory.path().join(FILE)).unwrap().len();
        assert!(bytes < 2 * BYTES_MAX, "{bytes}");
        assert_eq!(Journal::open(directory.path()).unwrap().claims(key(0)), 1);
    }
}
