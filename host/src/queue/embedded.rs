//! The embedded queue: the same promises on one machine, in a file, with no server. For one host.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::lookout::Lookouts;
use super::{Ahead, DeadPage, Depth, Due, Error, Filter, Queue, Start, Unparked};
use crate::entry::{Content, DeadLetter, Entry, EntryId, Handle, Place, Settlement, Stream, Turns};
use crate::stored::unix_ms;
use committer::{Answer, Command, Committer};
use journal::Journal;
use state::State;
use store::Store;

mod ahead;
mod committer;
mod file;
mod form;
mod journal;
mod room;
mod state;
mod store;
mod tables;
#[cfg(test)]
mod tests;

/// Operations that may wait for the next commit; more than a few commits take would only wait elsewhere.
const BACKLOG: usize = 4096;
/// When one that is suspect is looked at again, if another one is in hand.
const SUSPECT_MS: u64 = 100;
/// Dead letters one call looks at while it searches for those that match a filter.
const SCAN_MAX: usize = 10_000;

/// The queue in a directory.
pub struct Embedded {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    committer: Option<std::thread::JoinHandle<()>>,
    turns: Option<Turns>,
    /// Held by the one that has entries get in line, so that they do as they were published.
    lining_up: tokio::sync::Mutex<()>,
}

/// What the callers and the committer's thread share.
struct Shared {
    store: Store,
    state: Mutex<State>,
    /// Told when entries were added.
    added: Notify,
    lookouts: Mutex<Lookouts>,
    lease: Duration,
}

impl Shared {
    fn lease_from_now(&self) -> u64 {
        unix_ms(SystemTime::now()).saturating_add(u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX / 2))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }
}

impl Embedded {
    /// Opens the queue in a directory, which is created if needed. What was not settled is handed out again. `lease` is how
    /// long a scheduled delivery that was handed out may take before it is due again, if nobody says that it is in hand. What
    /// was in hand more than `claims_max` times when the process ended is condemned as poison.
    pub fn open(directory: &Path, lease: Duration, claims_max: u32) -> Result<Embedded, Error> {
        Embedded::over(Store::open(directory)?, directory, lease, claims_max)
    }

    fn over(store: Store, directory: &Path, lease: Duration, claims_max: u32) -> Result<Embedded, Error> {
        let journal = Journal::open(directory).map_err(|error| store.unavailable(&error))?;
        let state = State::new(store.last_id()?, journal, claims_max);
        let (state, added, lookouts) = (Mutex::new(state), Notify::new(), Mutex::default());
        let shared = Arc::new(Shared { store, state, added, lookouts, lease });
        let (commands, received) = mpsc::channel(BACKLOG);
        let committer = Committer::new(Arc::clone(&shared), received);
        let thread = std::thread::Builder::new().name("weft-committer".to_owned()).spawn(|| committer.run());
        let thread = thread.map_err(|error| shared.store.unavailable(&error))?;
        let lining_up = tokio::sync::Mutex::default();
        Ok(Embedded { shared, commands: Some(commands), committer: Some(thread), turns: None, lining_up })
    }

    /// The same queue for a host that has entries wait for their turn.
    #[must_use]
    pub fn with_turns(mut self, turns: Turns) -> Embedded {
        self.turns = Some(turns);
        self
    }

    /// Hands out what need not wait for its turn, and has the rest get in line. `None` if nothing was there.
    async fn hand_out_in_turn(&self, max: usize, turns: &Turns) -> Result<Option<Vec<Entry>>, Error> {
        let _alone = self.lining_up.lock().await;
        let before = self.shared.state().cursors();
        let (mut free, mut waiting) = (Vec::new(), Vec::new());
        for entry in self.hand_out(max)? {
            match turns(&entry) {
                Some(turn) => waiting.push((entry.handle, turn)),
                None => free.push(entry),
            }
        }
        if waiting.is_empty() {
            return Ok((!free.is_empty()).then_some(free));
        }
        let handles: Vec<Handle> =
            free.iter().map(|entry| entry.handle).chain(waiting.iter().map(|(handle, _)| *handle)).collect();
        let lined_up = self.commit(|answer| Command::LineUp(waiting, answer)).await;
        // What could not be recorded is handed out once more, or it would be missing from its line.
        lined_up.inspect_err(|_| self.shared.state().take_back(before, &handles))?;
        Ok(Some(free))
    }

    async fn commit<T: Default>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Error> {
        const GONE: &str = "the thread that commits ended; restart the daemon";
        if let Some(why) = self.shared.store.why_closed() {
            return Err(why);
        }
        let (done, answer) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or_else(|| self.shared.store.unavailable(&GONE))?;
        commands.send(command(Answer::to(done))).await.map_err(|_| self.shared.store.unavailable(&GONE))?;
        answer.await.map_err(|_| self.shared.store.unavailable(&GONE))?
    }

    fn hand_out(&self, max: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let read = self.shared.read_into(&mut entries, max);
        what_there_is(read, entries.is_empty())?;
        Ok(entries)
    }
}

impl Shared {
    /// Hands out up to `max`, also of what is read before an error.
    fn read_into(&self, entries: &mut Vec<Entry>, max: usize) -> Result<(), Error> {
        let mut state = self.state();
        for stream in state.streams_in_turn() {
            for (id, fields) in self.store.entries_after(stream, state.cursor(stream), max - entries.len())? {
                if state.pass(stream, id) {
                    entries.push(hand_out(&mut state, stream, id, &fields)?);
                }
            }
        }
        while entries.len() < max
            && let Some((stream, id)) = state.next_behind()
        {
            let fields = self.store.entry(stream, id)?;
            state.came_back((stream, id));
            if let Some(fields) = fields {
                entries.push(hand_out(&mut state, stream, id, &fields)?);
            }
        }
        Ok(())
    }

    /// The same of what is due.
    fn read_due_into(&self, due: &mut Due, max: usize) -> Result<(), Error> {
        let (now, lease) = (unix_ms(SystemTime::now()), self.lease_from_now());
        let mut state = self.state();
        let mut next: Option<u64> = None;
        for scheduled in self.store.schedule()? {
            let (due_at, stream, id, stored) = scheduled?;
            let ready_at = state.lease_of(stream, id).unwrap_or(due_at);
            if ready_at > now || due.entries.len() == max {
                next = Some(next.map_or(ready_at, |next| next.min(ready_at)));
                // The schedule is in order, but for those that are leased.
                if due_at > now || due.entries.len() == max {
                    break;
                }
                continue;
            }
            if state.must_wait((stream, id)) {
                next = Some(next.map_or(now + SUSPECT_MS, |next| next.min(now + SUSPECT_MS)));
                continue;
            }
            state.lease(stream, id, due_at, lease);
            let handle = Handle { id, stream, place: Place::Schedule { lease } };
            state.handed_out(std::iter::once(&handle));
            let condemned = state.condemn((stream, id));
            due.entries.push(Entry { handle, content: Content::Stored(stored()), condemned });
        }
        due.next = next.map(|next| Duration::from_millis(next.saturating_sub(now)));
        Ok(())
    }
}

/// What was handed out before an error is given all the same: it is noted as in hand, so nobody else would ever get it.
/// The rest is asked for again.
fn what_there_is(read: Result<(), Error>, is_empty: bool) -> Result<(), Error> {
    match read {
        Err(error) if is_empty => Err(error),
        Err(error) => {
            tracing::warn!(%error, "not all that waits could be read");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn hand_out(state: &mut State, stream: Stream, id: EntryId, fields: &Bytes) -> Result<Entry, Error> {
    let handle = Handle { id, stream, place: Place::Stream };
    let content = Content::Fields(form::decode_fields(fields)?);
    state.hand_out(stream, id);
    state.handed_out(std::iter::once(&handle));
    Ok(Entry { handle, content, condemned: state.condemn((stream, id)) })
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The thread ends when nobody can send any more; the file is free again when it has ended.
        self.commands = None;
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
    }
}

#[async_trait]
impl Queue for Embedded {
    async fn publish(&self, events: &[Bytes]) -> Result<Vec<EntryId>, Error> {
        let events = events.to_vec();
        self.commit(|answer| Command::Publish(events, answer)).await
    }

    async fn receive(&self, _worker: usize, max: NonZeroUsize, wait: Duration) -> Result<Vec<Entry>, Error> {
        let deadline = Instant::now() + wait;
        loop {
            let mut added = std::pin::pin!(self.shared.added.notified());
            // From here on no wake-up is missed, also not one that comes while we look.
            added.as_mut().enable();
            let entries = match &self.turns {
                Some(turns) => self.hand_out_in_turn(max.get(), turns).await?,
                None => Some(self.hand_out(max.get())?).filter(|entries| !entries.is_empty()),
            };
            if entries.is_some() || tokio::time::timeout_at(deadline, added).await.is_err() {
                return Ok(entries.unwrap_or_default());
            }
        }
    }

    async fn take_due(&self, max: NonZeroUsize) -> Result<Due, Error> {
        let mut due = Due::default();
        let read = self.shared.read_due_into(&mut due, max.get());
        what_there_is(read, due.entries.is_empty())?;
        Ok(due)
    }

    async fn claim(&self, _max: NonZeroUsize) -> Result<Vec<Entry>, Error> {
        // There is no other host that could have left anything.
        Ok(Vec::new())
    }

    async fn beat(&self) -> Result<(), Error> {
        // Nobody else could have it.
        self.shared.state().extend_leases(self.shared.lease_from_now());
        Ok(())
    }

    async fn give_back(&self, handles: &[Handle]) -> Result<(), Error> {
        // The rest is handed out again when the queue is opened again.
        let leased = |handle: &&Handle| matches!(handle.place, Place::Schedule { .. });
        let leased: Vec<Handle> = handles.iter().filter(leased).copied().collect();
        self.shared.state().settled(&leased);
        Ok(())
    }

    async fn leave(&self) -> Result<(), Error> {
        self.shared.state().leave();
        Ok(())
    }

    async fn tidy(&self) -> Result<u64, Error> {
        // What is done is not kept.
        Ok(0)
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error> {
        let batch = batch.to_vec();
        self.commit(|answer| Command::Settle(batch, answer)).await
    }

    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<Unparked>, Error> {
        let wanted = wanted.to_vec();
        let counts = self.commit(|answer| Command::Unpark(wanted, answer)).await?;
        Ok(counts.into_iter().map(Unparked::from).collect())
    }

    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error> {
        self.shared.store.parked(after, max.get())
    }

    async fn look_ahead(&self, beyond: usize, max: NonZeroUsize) -> Result<Option<Ahead>, Error> {
        self.shared.look_ahead(beyond, max.get())
    }

    async fn move_ahead(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error> {
        let moving = self.shared.state().begin_move(entries);
        if moving.is_empty() {
            return Ok(0);
        }
        let handles: Vec<Handle> = moving.iter().map(|(handle, _)| *handle).collect();
        let moved = self.commit(|answer| Command::MoveAhead(moving, answer)).await;
        self.shared.state().end_move(&handles, moved.is_ok());
        moved
    }

    async fn dead_letters(&self, filter: &Filter, start: Start, max: NonZeroUsize) -> Result<DeadPage, Error> {
        let mut page = DeadPage::default();
        for (looked_at, found) in self.shared.store.dead_in(filter.span(start), start)?.enumerate() {
            if page.is_full(max) || looked_at == SCAN_MAX {
                return Ok(page);
            }
            let (id, letter) = found?;
            page.next = Some(id);
            let letter = form::decode_letter(&letter)?;
            if filter.matches(&letter) {
                page.add(id, letter);
            }
        }
        page.next = None;
        Ok(page)
    }

    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error> {
        self.shared.store.dead(id)?.map(|letter| form::decode_letter(&letter)).transpose()
    }

    async fn replay(&self, ids: &[EntryId]) -> Result<Vec<Option<EntryId>>, Error> {
        self.commit(|answer| Command::Replay(ids.to_vec(), answer)).await
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<usize, Error> {
        self.commit(|answer| Command::Purge(ids.to_vec(), answer)).await
    }

    async fn depth(&self) -> Result<Depth, Error> {
        let wanted = self.shared.state().room.wanted();
        if let Some(bytes) = wanted {
            // Nobody else may write as much for a while, and this is asked every second.
            self.commit(|answer| Command::Try(bytes, answer)).await?;
        }
        let counts = self.shared.store.counts()?;
        let pending = self.shared.state().pending();
        Ok(Depth {
            events: counts.events,
            waiting: (counts.events + counts.deliveries).saturating_sub(pending),
            pending,
            scheduled: counts.scheduled,
            parked: counts.parked,
            in_line: counts.in_line,
            dead: counts.dead,
        })
    }

    async fn check(&self) -> Result<Vec<String>, Error> {
        self.shared.store.counts().map(|_| Vec::new())
    }
}
