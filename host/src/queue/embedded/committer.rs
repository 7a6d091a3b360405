//! The one thread that writes: it gathers what waits into one transaction, commits it once, and answers all of them. So
//! the busier the host, the fewer times the disk is waited for per delivery.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::form;
use super::tables::{
    COUNTS, DEAD, ENTRIES, EntryKey, FIRST, LAST_ID, LINES, META, PARKED, ParkedKey, SCHEDULE, ScheduleKey, TRIED,
    stream_number,
};
use crate::entry::{EntryId, Handle, Place, Record, Settlement, Stream, Turn};
use crate::queue::Error;
use crate::stored::{self, unix_ms};

/// Operations in one transaction; beyond that the disk takes longer by as much, and nothing is gained.
const BATCH_MAX: usize = 1024;

/// The due time of what was waiting for something else than time: before all that is due.
const AT_ONCE: u64 = 0;

/// Where an answer goes.
pub(super) type Done<T> = oneshot::Sender<Result<T, Error>>;

/// An answer that is given once it is committed.
pub(super) struct Answer<T> {
    value: T,
    done: Done<T>,
}

impl<T: Default> Answer<T> {
    pub(super) fn to(done: Done<T>) -> Answer<T> {
        Answer { value: T::default(), done }
    }

    fn end(self, committed: Result<(), Error>) {
        // Callers that went away need no answer.
        let _ = self.done.send(committed.map(|()| self.value));
    }
}

/// Something to write.
pub(super) enum Command {
    Publish(Vec<Bytes>, Answer<Vec<EntryId>>),
    Settle(Vec<Settlement>, Answer<()>),
    Replay(Vec<EntryId>, Answer<Vec<Option<EntryId>>>),
    Purge(Vec<EntryId>, Answer<usize>),
    Unpark(Vec<(Arc<str>, usize)>, Answer<Vec<usize>>),
    MoveAhead(Vec<(Handle, Bytes)>, Answer<usize>),
    LineUp(Vec<(Handle, Turn)>, Answer<()>),
    /// So many bytes of nothing: whether the disk takes them. They are taken away again at once.
    Try(usize, Answer<()>),
}

impl Command {
    fn end(self, committed: Result<(), Error>) {
        match self {
            Command::Publish(_, answer) => answer.end(committed),
            Command::Settle(_, answer) => answer.end(committed),
            Command::Replay(_, answer) => answer.end(committed),
            Command::Purge(_, answer) => answer.end(committed),
            Command::Unpark(_, answer) => answer.end(committed),
            Command::MoveAhead(_, answer) => answer.end(committed),
            Command::LineUp(_, answer) | Command::Try(_, answer) => answer.end(committed),
        }
    }

    /// About how much it writes anew.
    fn bytes(&self) -> usize {
        match self {
            Command::Publish(events, _) => events.iter().map(Bytes::len).sum(),
            Command::Settle(lines, _) => lines.iter().map(|line| record_bytes(&line.record)).sum(),
            Command::MoveAhead(moving, _) => moving.iter().map(|(_, stored)| stored.len()).sum(),
            Command::LineUp(waiting, _) => waiting.iter().map(|(_, turn)| turn.stored.len()).sum(),
            Command::Try(bytes, _) => *bytes,
            Command::Replay(..) | Command::Purge(..) | Command::Unpark(..) => 0,
        }
    }
}

fn record_bytes(record: &Record) -> usize {
    match record {
        Record::Done => 0,
        Record::Schedule { stored, .. } | Record::Park { stored, .. } => stored.len(),
        Record::Dead(letter) => letter.event.len(),
    }
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
        // It waits for commands, and for the time when a file that failed may be opened again.
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("clocks alone take nothing of the system");
        let mut gathered = Vec::with_capacity(BATCH_MAX);
        while runtime.block_on(self.gather(&mut gathered)) > 0 {
            let mut admitted = self.admit(gathered.drain(..));
            if !admitted.is_empty() {
                let committed = self.commit(&mut admitted);
                admitted.into_iter().for_each(|command| command.end(committed.clone()));
            }
        }
    }

    /// What waits, up to a batch. Nobody else opens the file again.
    async fn gather(&mut self, gathered: &mut Vec<Command>) -> usize {
        loop {
            tokio::select! {
                biased;
                // Nothing is lost with a wait.
                () = self.shared.store.wants_reopening() => self.shared.store.reopen(),
                // Nothing has been received if this is dropped.
                count = self.commands.recv_many(gathered, BATCH_MAX) => return count,
            }
        }
    }

    /// Those that may be tried; the others are told why not.
    fn admit(&self, commands: impl Iterator<Item = Command>) -> Vec<Command> {
        let (mut admitted, mut bytes, now) = (Vec::new(), 0, Instant::now());
        for command in commands {
            let with_it = bytes + command.bytes();
            let why = self.shared.store.why_closed().or_else(|| self.shared.state().room.refuses(with_it, now));
            match why {
                Some(why) => command.end(Err(why)),
                None => {
                    bytes = with_it;
                    admitted.push(command);
                }
            }
        }
        admitted
    }

    /// One transaction with all of them.
    fn commit(&self, commands: &mut [Command]) -> Result<(), Error> {
        let store = &self.shared.store;
        let bytes = commands.iter().map(Command::bytes).sum();
        let written = store.write(|transaction| {
            let mut batch = Batch::open(&self.shared, transaction)?;
            for command in commands.iter_mut() {
                batch.apply(command)?;
            }
            batch.close()
        });
        let (settled, added) = written.inspect_err(|why| {
            self.shared.state().room.failed(bytes, why, Instant::now() + store.pause());
        })?;
        let suspects_wait = {
            let mut state = self.shared.state();
            state.room.written(bytes);
            state.settled(&settled);
            state.suspects_wait()
        };
        if added || suspects_wait {
            self.shared.added.notify_waiters();
        }
        if commands.iter().any(|command| matches!(command, Command::Try(..))) {
            // If this fails the file is closed, and it goes when that is opened again.
            let _ = store.write(|transaction| Ok(transaction.delete_table(TRIED)?));
        }
        Ok(())
    }
}

/// One transaction's tables, and what it changes.
struct Batch<'t> {
    shared: &'t Shared,
    transaction: &'t WriteTransaction,
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
            transaction,
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

    fn apply(&mut self, command: &mut Command) -> Result<(), redb::Error> {
        match command {
            Command::Publish(events, answer) => {
                for event in events {
                    let fields = form::encode_fields([(b"event".as_slice(), event.as_ref())].into_iter());
                    answer.value.push(self.add(Stream::Events, &fields)?);
                }
            }
            Command::Settle(lines, _) => {
                for line in lines {
                    self.settle(line)?;
                }
            }
            Command::Replay(ids, answer) => {
                for id in ids {
                    answer.value.push(self.replay(*id)?);
                }
            }
            Command::Purge(ids, answer) => {
                for id in ids {
                    answer.value += usize::from(self.dead.remove((id.ms, id.seq))?.is_some());
                }
            }
            Command::Unpark(wanted, answer) => {
                for (id, max) in wanted {
                    answer.value.push(self.unpark(id, *max)?);
                }
            }
            Command::MoveAhead(moving, answer) => {
                for (handle, stored) in moving {
                    answer.value += usize::from(self.move_ahead(*handle, stored)?);
                }
            }
            Command::LineUp(waiting, _) => {
                for (handle, turn) in waiting {
                    self.line_up(*handle, turn)?;
                }
            }
            Command::Try(bytes, _) => {
                self.transaction.open_table(TRIED)?.insert((), vec![0; *bytes].as_slice())?;
            }
        }
        Ok(())
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
        let was_there = match (handle.place, due) {
            (Place::Schedule { .. }, Some(due)) => self.schedule.remove((due, stream, ms, seq))?.is_some(),
            (Place::Schedule { .. }, None) => false,
            (Place::Stream, _) => self.leave_stream(handle)?,
        };
        // A commit that failed may be on the disk nevertheless, and is tried again.
        if was_there { self.record(line) } else { Ok(()) }
    }

    fn record(&mut self, line: &Settlement) -> Result<(), redb::Error> {
        let (stream, EntryId { ms, seq, .. }) = (stream_number(line.handle.stream), line.handle.id);
        match &line.record {
            Record::Done => self.is_over(line.handle)?,
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
                self.is_over(line.handle)?;
            }
        }
        Ok(())
    }

    fn leave_stream(&mut self, handle: Handle) -> Result<bool, redb::Error> {
        let was_there = self.entries.remove((stream_number(handle.stream), handle.id.ms, handle.id.seq))?.is_some();
        if was_there {
            let count = self.count(handle.stream);
            *count = count.saturating_sub(1);
        }
        Ok(was_there)
    }

    fn move_ahead(&mut self, handle: Handle, stored: &Bytes) -> Result<bool, redb::Error> {
        let was_there = self.leave_stream(handle)?;
        if was_there {
            let (stream, EntryId { ms, seq, .. }) = (stream_number(handle.stream), handle.id);
            self.schedule.insert((AT_ONCE, stream, ms, seq), stored.as_ref())?;
        }
        Ok(was_there)
    }

    fn line_up(&mut self, handle: Handle, turn: &Turn) -> Result<(), redb::Error> {
        let (stream, EntryId { ms, seq, .. }) = (stream_number(handle.stream), handle.id);
        self.settled.insert(handle);
        if !self.leave_stream(handle)? {
            return Ok(());
        }
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
        let trail = stored::replayed_fields(&letter, SystemTime::now());
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
