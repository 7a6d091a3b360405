//! The one thread that writes: it gathers what waits into one transaction, commits it once, and answers all of them. So
//! the busier the host, the fewer times the disk is waited for per delivery.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::form;
use super::store::{
    COUNTS, DEAD, ENTRIES, EntryKey, FIRST, LAST_ID, LINES, META, PARKED, ParkedKey, SCHEDULE, ScheduleKey,
    stream_number,
};
use crate::entry::{EntryId, Handle, Place, Record, Settlement, Stream, Turn};
use crate::outcome::DeadReason;
use crate::queue::Error;
use crate::stored::{self, unix_ms};

/// Operations in one transaction.
const BATCH_MAX: usize = 1024;

/// The due time of what was waiting for something else than time: before all that is due.
const AT_ONCE: u64 = 0;

/// Where an answer goes.
pub(super) type Done<T> = oneshot::Sender<Result<T, Error>>;

/// Something to write.
pub(super) enum Command {
    Publish(Vec<Bytes>, Done<Vec<EntryId>>),
    Settle(Vec<Settlement>, Done<()>),
    Replay(EntryId, Done<Option<EntryId>>),
    Purge(EntryId, Done<bool>),
    Unpark(Vec<(Arc<str>, usize)>, Done<Vec<usize>>),
    LineUp(Vec<(Handle, Turn)>, Done<()>),
}

/// What is answered once it is committed.
enum Answer {
    Published(Vec<EntryId>, Done<Vec<EntryId>>),
    Settled(Done<()>),
    Replayed(Option<EntryId>, Done<Option<EntryId>>),
    Purged(bool, Done<bool>),
    Unparked(Vec<usize>, Done<Vec<usize>>),
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, commands: mpsc::Receiver<Command>) -> Committer {
        Committer { shared, commands }
    }

    /// Until nobody can send any more.
    pub(super) fn run(mut self) {
        let mut gathered = Vec::with_capacity(BATCH_MAX);
        while self.commands.blocking_recv_many(&mut gathered, BATCH_MAX) > 0 {
            let mut answers = Vec::with_capacity(gathered.len());
            let (mut settled, mut added) = (Vec::new(), false);
            let written = self.shared.store.write().and_then(|transaction| {
                let mut batch = Batch::open(&self.shared, &transaction)?;
                for command in gathered.drain(..) {
                    answers.push(batch.apply(command)?);
                }
                (settled, added) = batch.close()?;
                Ok(transaction.commit()?)
            });
            // What the failed transaction did not get to has its answer dropped, which its caller sees as an error.
            gathered.clear();
            match written {
                Ok(()) => {
                    let suspects_wait = {
                        let mut state = self.shared.state();
                        state.settled(&settled);
                        state.suspects_wait()
                    };
                    answers.into_iter().for_each(Answer::give);
                    if added || suspects_wait {
                        self.shared.added.notify_waiters();
                    }
                }
                Err(error) => {
                    answers.into_iter().for_each(|answer| answer.refuse(self.shared.store.unavailable(&error)))
                }
            }
        }
    }
}

impl Answer {
    /// Callers that went away need no answer.
    fn give(self) {
        match self {
            Answer::Published(ids, done) => drop(done.send(Ok(ids))),
            Answer::Settled(done) => drop(done.send(Ok(()))),
            Answer::Replayed(id, done) => drop(done.send(Ok(id))),
            Answer::Purged(was_there, done) => drop(done.send(Ok(was_there))),
            Answer::Unparked(counts, done) => drop(done.send(Ok(counts))),
        }
    }

    fn refuse(self, error: Error) {
        match self {
            Answer::Published(_, done) => drop(done.send(Err(error))),
            Answer::Settled(done) => drop(done.send(Err(error))),
            Answer::Replayed(_, done) => drop(done.send(Err(error))),
            Answer::Purged(_, done) => drop(done.send(Err(error))),
            Answer::Unparked(_, done) => drop(done.send(Err(error))),
        }
    }
}

/// One transaction's tables, and what it changes.
struct Batch<'t> {
    shared: &'t Shared,
    entries: Table<'t, EntryKey, &'static [u8]>,
    schedule: Table<'t, ScheduleKey, &'static [u8]>,
    parked: Table<'t, ParkedKey<'static>, &'static [u8]>,
    lines: Table<'t, ParkedKey<'static>, &'static [u8]>,
    first: Table<'t, EntryKey, &'static str>,
    dead: Table<'t, (u64, u64), &'static [u8]>,
    meta: Table<'t, &'static str, (u64, u64)>,
    now_ms: u64,
    last_id: Option<EntryId>,
    counts: (u64, u64),
    settled: HashSet<Handle>,
    added: bool,
}

impl<'t> Batch<'t> {
    fn open(shared: &'t Shared, transaction: &'t WriteTransaction) -> Result<Batch<'t>, redb::Error> {
        let meta = transaction.open_table(META)?;
        let counts = meta.get(COUNTS)?.map(|counts| counts.value()).unwrap_or_default();
        Ok(Batch {
            shared,
            entries: transaction.open_table(ENTRIES)?,
            schedule: transaction.open_table(SCHEDULE)?,
            parked: transaction.open_table(PARKED)?,
            lines: transaction.open_table(LINES)?,
            first: transaction.open_table(FIRST)?,
            dead: transaction.open_table(DEAD)?,
            meta,
            now_ms: unix_ms(SystemTime::now()),
            last_id: None,
            counts,
            settled: HashSet::new(),
            added: false,
        })
    }

    /// Writes what goes with the batch as a whole; says what was settled and whether entries were added.
    fn close(mut self) -> Result<(Vec<Handle>, bool), redb::Error> {
        if let Some(EntryId { ms, seq, .. }) = self.last_id {
            self.meta.insert(LAST_ID, (ms, seq))?;
        }
        self.meta.insert(COUNTS, self.counts)?;
        Ok((self.settled.into_iter().collect(), self.added))
    }

    fn apply(&mut self, command: Command) -> Result<Answer, redb::Error> {
        match command {
            Command::Publish(events, done) => {
                let mut ids = Vec::with_capacity(events.len());
                for event in &events {
                    let fields = form::encode_fields([(b"event".as_slice(), event.as_ref())].into_iter());
                    ids.push(self.add(Stream::Events, &fields)?);
                }
                Ok(Answer::Published(ids, done))
            }
            Command::Settle(lines, done) => {
                for line in &lines {
                    self.settle(line)?;
                }
                Ok(Answer::Settled(done))
            }
            Command::Replay(id, done) => Ok(Answer::Replayed(self.replay(id)?, done)),
            Command::Unpark(wanted, done) => {
                let counts: Result<_, redb::Error> = wanted.iter().map(|(id, max)| self.unpark(id, *max)).collect();
                Ok(Answer::Unparked(counts?, done))
            }
            Command::LineUp(waiting, done) => {
                for (handle, turn) in &waiting {
                    self.line_up(*handle, turn)?;
                }
                Ok(Answer::Settled(done))
            }
            Command::Purge(id, done) => Ok(Answer::Purged(self.dead.remove((id.ms, id.seq))?.is_some(), done)),
        }
    }

    fn settle(&mut self, line: &Settlement) -> Result<(), redb::Error> {
        let handle = line.handle;
        let due = {
            let state = self.shared.state();
            if !state.holds(&handle) || !self.settled.insert(handle) {
                return Ok(());
            }
            state.due_of(&handle)
        };
        let (stream, EntryId { ms, seq, .. }) = (stream_number(handle.stream), handle.id);
        match (handle.place, due) {
            (Place::Schedule { .. }, Some(due)) => drop(self.schedule.remove((due, stream, ms, seq))?),
            (Place::Schedule { .. }, None) => {}
            (Place::Stream, _) => self.leave_stream(handle)?,
        }
        match &line.record {
            Record::Done => self.is_over(handle)?,
            Record::Schedule { after, stored } => {
                let due = self.now_ms + u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2);
                self.schedule.insert((due, stream, ms, seq), stored.as_ref())?;
            }
            Record::Park { subscription, stored } => {
                self.parked.insert((&**subscription, ms, seq, stream), stored.as_ref())?;
            }
            Record::Dead(letter) => {
                let id = self.next_id();
                self.dead.insert((id.ms, id.seq), form::encode_letter(letter).as_slice())?;
                self.is_over(handle)?;
            }
        }
        Ok(())
    }

    fn leave_stream(&mut self, handle: Handle) -> Result<(), redb::Error> {
        if self.entries.remove((stream_number(handle.stream), handle.id.ms, handle.id.seq))?.is_some() {
            let count = self.count(handle.stream);
            *count = count.saturating_sub(1);
        }
        Ok(())
    }

    fn line_up(&mut self, handle: Handle, turn: &Turn) -> Result<(), redb::Error> {
        let (stream, EntryId { ms, seq, .. }) = (stream_number(handle.stream), handle.id);
        self.leave_stream(handle)?;
        self.settled.insert(handle);
        self.lines.insert((&*turn.line, ms, seq, stream), turn.stored.as_ref())?;
        self.next_of(&turn.line)
    }

    /// The next in its line may go.
    fn is_over(&mut self, handle: Handle) -> Result<(), redb::Error> {
        let (stream, EntryId { ms, seq, .. }) = (stream_number(handle.stream), handle.id);
        let line = self.first.remove((stream, ms, seq))?.map(|line| line.value().to_owned());
        let Some(line) = line else { return Ok(()) };
        self.lines.remove((&*line, ms, seq, stream))?;
        self.next_of(&line)
    }

    fn next_of(&mut self, line: &str) -> Result<(), redb::Error> {
        let all = (line, 0, 0, 0)..=(line, u64::MAX, u64::MAX, u8::MAX);
        let Some(next) = self.lines.range(all)?.next().transpose()? else { return Ok(()) };
        let (_, ms, seq, stream) = next.0.value();
        if self.first.get((stream, ms, seq))?.is_none() {
            self.first.insert((stream, ms, seq), line)?;
            self.schedule.insert((AT_ONCE, stream, ms, seq), next.1.value())?;
        }
        Ok(())
    }

    fn unpark(&mut self, subscription: &str, max: usize) -> Result<usize, redb::Error> {
        let (first, last) = ((subscription, 0, 0, 0), (subscription, u64::MAX, u64::MAX, u8::MAX));
        for count in 0..max {
            let Some(oldest) = self.parked.range(first..=last)?.next().transpose()? else { return Ok(count) };
            let (_, ms, seq, stream) = oldest.0.value();
            self.schedule.insert((AT_ONCE, stream, ms, seq), oldest.1.value())?;
            drop(oldest);
            self.parked.remove((subscription, ms, seq, stream))?;
        }
        Ok(max)
    }

    fn replay(&mut self, id: EntryId) -> Result<Option<EntryId>, redb::Error> {
        let letter = self.dead.get((id.ms, id.seq))?.map(|letter| form::decode_letter(letter.value()));
        // One that cannot be read stays where it is, for a version that can read it.
        let Some(Ok(letter)) = letter else { return Ok(None) };
        let died: Vec<DeadReason> = letter.died_before.iter().copied().chain([letter.reason]).collect();
        let trail = stored::trail_fields(letter.replays + 1, &died);
        let event = (!letter.event.is_empty()).then_some((b"event".as_slice(), letter.event.as_ref()));
        let raw = letter.raw.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let trail = trail.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let fields = form::encode_fields(event.into_iter().chain(raw).chain(trail));
        self.dead.remove((id.ms, id.seq))?;
        self.add(Stream::Deliveries, &fields).map(Some)
    }

    fn add(&mut self, stream: Stream, fields: &[u8]) -> Result<EntryId, redb::Error> {
        let id = self.next_id();
        self.entries.insert((stream_number(stream), id.ms, id.seq), fields)?;
        *self.count(stream) += 1;
        self.added = true;
        Ok(id)
    }

    fn count(&mut self, stream: Stream) -> &mut u64 {
        match stream {
            Stream::Events => &mut self.counts.0,
            Stream::Deliveries => &mut self.counts.1,
        }
    }

    fn next_id(&mut self) -> EntryId {
        let id = self.shared.state().next_id(self.now_ms);
        self.last_id = Some(id);
        id
    }
}
