//! The queue in memory: the same promises for as long as the process lives, for simulations of whole hosts in virtual
//! time, and for programs that embed Weft and can lose what is in it. Clones are hosts on the same queue.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lookout::{Lookouts, Part};
use super::{Ahead, DeadPage, Depth, Due, Error, Filter, Queue, Start, Unparked};
use crate::entry::{Content, DeadLetter, Entry, EntryId, Handle, Place, Record, Settlement, Stream, Turn, Turns};
use crate::stored::{self, unix_ms};

/// The due time of what was waiting for something else than time: before all that is due.
const FIRST: u64 = 0;

/// The queue.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    added: Arc<Notify>,
    began: Instant,
    /// By the clock on the wall.
    began_ms: u64,
    lease: Duration,
    turns: Option<Turns>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("state", &self.state).finish_non_exhaustive()
    }
}

type Fields = Vec<(Bytes, Bytes)>;
/// Replays come before events, as in the other queues.
type Key = (bool, EntryId);

#[derive(Debug, Default)]
struct State {
    last_id: EntryId,
    waiting: BTreeMap<Key, Fields>,
    /// With since when somebody has it.
    pending: BTreeMap<Key, (u64, Fields)>,
    /// Due time and delivery.
    scheduled: BTreeMap<Key, (u64, Bytes)>,
    by_due: BTreeSet<(u64, Key)>,
    parked: BTreeMap<(Arc<str>, EntryId, bool), Bytes>,
    /// All that stand in line, with what they are.
    lines: BTreeMap<(String, EntryId, bool), Bytes>,
    /// The first of each line, which are elsewhere as well.
    first: BTreeMap<Key, String>,
    dead: BTreeMap<EntryId, DeadLetter>,
    lookouts: Lookouts,
}

impl Memory {
    /// An empty queue. What somebody has and does not settle within `lease` comes again.
    #[must_use]
    pub fn new(lease: Duration) -> Memory {
        let (began, began_ms) = (Instant::now(), unix_ms(SystemTime::now()));
        Memory { state: Arc::default(), added: Arc::default(), began, began_ms, lease, turns: None }
    }

    /// The same queue for a host that has entries wait for their turn.
    #[must_use]
    pub fn with_turns(self, turns: Turns) -> Memory {
        Memory { turns: Some(turns), ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    /// By a clock that nobody sets; in a simulation that is virtual time.
    fn now(&self) -> u64 {
        self.began_ms + millis(self.began.elapsed())
    }

    /// `None` if nothing was there.
    fn hand_out(&self, max: usize) -> Option<Vec<Entry>> {
        let (mut state, now) = (self.state(), self.now());
        state.waiting.first_key_value()?;
        let mut entries = Vec::new();
        while entries.len() < max
            && let Some((key, fields)) = state.waiting.pop_first()
        {
            let entry = entry(key, Place::Stream, Content::Fields(fields.clone()));
            if let Some(turn) = self.turns.as_ref().and_then(|turns| turns(&entry)) {
                state.line_up(key, turn);
                continue;
            }
            entries.push(entry);
            state.pending.insert(key, (now, fields));
        }
        Some(entries)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

fn key(handle: &Handle) -> Key {
    (handle.stream == Stream::Events, handle.id)
}

fn entry(key: Key, place: Place, content: Content) -> Entry {
    let stream = if key.0 { Stream::Events } else { Stream::Deliveries };
    Entry { handle: Handle { id: key.1, stream, place }, content, condemned: None }
}

impl State {
    fn next_id(&mut self, now: u64) -> EntryId {
        self.last_id = if now > self.last_id.ms {
            EntryId::new(now, 0)
        } else {
            EntryId::new(self.last_id.ms, self.last_id.seq + 1)
        };
        self.last_id
    }

    fn schedule(&mut self, key: Key, due: u64, stored: Bytes) {
        if let Some((before, _)) = self.scheduled.insert(key, (due, stored)) {
            self.by_due.remove(&(before, key));
        }
        self.by_due.insert((due, key));
    }

    /// Takes the entry from where its handle says it sits; `false` if it does not sit there.
    fn leave(&mut self, handle: &Handle) -> bool {
        let key = key(handle);
        match handle.place {
            Place::Stream => self.pending.remove(&key).is_some(),
            Place::Schedule { lease } => {
                let sits = self.scheduled.get(&key).is_some_and(|(due, _)| *due == lease);
                sits && self.scheduled.remove(&key).is_some() && self.by_due.remove(&(lease, key))
            }
        }
    }

    fn give_back(&mut self, handle: &Handle) {
        let key = key(handle);
        match handle.place {
            Place::Stream => {
                if let Some((_, fields)) = self.pending.remove(&key) {
                    self.waiting.insert(key, fields);
                }
            }
            Place::Schedule { lease } => {
                if let Some((_, stored)) = self.scheduled.get(&key).filter(|(due, _)| *due == lease).cloned() {
                    self.schedule(key, FIRST, stored);
                }
            }
        }
    }

    fn settle(&mut self, line: &Settlement, now: u64) {
        if !self.leave(&line.handle) {
            return;
        }
        let key = key(&line.handle);
        match &line.record {
            Record::Done => self.is_over(key),
            Record::Schedule { after, stored } => self.schedule(key, now + millis(*after), stored.clone()),
            Record::Park { subscription, stored } => {
                self.parked.insert((Arc::clone(subscription), key.1, key.0), stored.clone());
            }
            Record::Dead(letter) => {
                let id = self.next_id(now);
                self.dead.insert(id, (**letter).clone());
                self.is_over(key);
            }
        }
    }

    fn line_up(&mut self, key: Key, turn: Turn) {
        self.lines.insert((turn.line.clone(), key.1, key.0), turn.stored);
        self.next_of(&turn.line);
    }

    /// The next in its line may go.
    fn is_over(&mut self, key: Key) {
        if let Some(line) = self.first.remove(&key) {
            self.lines.remove(&(line.clone(), key.1, key.0));
            self.next_of(&line);
        }
    }

    fn next_of(&mut self, line: &String) {
        let next = self.lines.range((line.clone(), EntryId::default(), false)..).next();
        let Some(((of, id, is_event), stored)) = next.filter(|((of, ..), _)| of == line) else { return };
        let (key, stored, of) = ((*is_event, *id), stored.clone(), of.clone());
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.first.entry(key) {
            vacant.insert(of);
            self.schedule(key, FIRST, stored);
        }
    }

    fn replay(&mut self, letter: DeadLetter, now: u64) -> EntryId {
        let trail = stored::replayed_fields(&letter, SystemTime::UNIX_EPOCH + Duration::from_millis(now));
        let event = (!letter.event.is_empty()).then(|| (Bytes::from_static(b"event"), letter.event));
        let trail = trail.into_iter().map(|(name, value)| (Bytes::from(name), Bytes::from(value)));
        let fields = event.into_iter().chain(letter.raw).chain(trail).collect();
        let id = self.next_id(now);
        self.waiting.insert((false, id), fields);
        id
    }

    fn look_ahead(&mut self, beyond: usize, max: usize) -> Option<Ahead> {
        let waiting = |stream: Stream| {
            let is_event = stream == Stream::Events;
            self.waiting.keys().filter(move |key| key.0 == is_event).map(|key| key.1)
        };
        let streams =
            [Stream::Events, Stream::Deliveries].into_iter().filter(|stream| waiting(*stream).count() > beyond);
        let spans: Vec<_> =
            streams.filter_map(|stream| Some((stream, (waiting(stream).min()?, waiting(stream).max()?)))).collect();
        let (stream, (first, newest)) = self.lookouts.choose(spans)?;
        let part = self.lookouts.part(stream, first.previous(), newest);
        let of = |(key, fields): (&Key, &Fields)| entry(*key, Place::Stream, Content::Fields(fields.clone()));
        let key = |id| (stream == Stream::Events, id);
        let mut entries: Vec<Entry> = match part {
            Part::Newest { after } if after >= newest => Vec::new(),
            Part::Newest { after } => {
                self.waiting.range(key(after.next())..=key(newest)).rev().take(max).map(of).collect()
            }
            Part::Gap { after, before } => {
                self.waiting.range(key(after.next())..key(before)).take(max).map(of).collect()
            }
        };
        entries.sort_unstable_by_key(|entry| entry.handle.id);
        let span = entries.first().zip(entries.last()).map(|(first, last)| (first.handle.id, last.handle.id));
        let looked = self.lookouts.looked(stream, part, span, entries.len() >= max);
        let room = beyond.saturating_sub(self.by_due.range(..(FIRST + 1, (false, EntryId::MIN))).count());
        let (is_in_order, is_more) = (looked.is_in_order, looked.is_more);
        Some(Ahead { stream, entries, received: first.previous(), is_in_order, is_more, room })
    }

    fn move_ahead(&mut self, handle: &Handle, stored: &Bytes) -> usize {
        let key = key(handle);
        if self.waiting.remove(&key).is_none() {
            return 0;
        }
        self.schedule(key, FIRST, stored.clone());
        1
    }

    fn unpark(&mut self, subscription: &Arc<str>, max: usize) -> usize {
        let none = EntryId::default();
        for count in 0..max {
            let oldest = self.parked.range((Arc::clone(subscription), none, false)..).next();
            let Some(key) = oldest.map(|(key, _)| key.clone()).filter(|key| key.0 == *subscription) else {
                return count;
            };
            if let Some(stored) = self.parked.remove(&key) {
                self.schedule((key.2, key.1), FIRST, stored);
            }
        }
        max
    }
}

#[async_trait]
impl Queue for Memory {
    async fn publish(&self, events: &[Bytes]) -> Result<Vec<EntryId>, Error> {
        let (mut state, now) = (self.state(), self.now());
        let ids = events.iter().map(|event| {
            let id = state.next_id(now);
            state.waiting.insert((true, id), vec![(Bytes::from_static(b"event"), event.clone())]);
            id
        });
        let ids = ids.collect();
        self.added.notify_waiters();
        Ok(ids)
    }

    async fn receive(&self, _worker: usize, max: NonZeroUsize, wait: Duration) -> Result<Vec<Entry>, Error> {
        let deadline = Instant::now() + wait;
        loop {
            let mut added = std::pin::pin!(self.added.notified());
            added.as_mut().enable();
            let entries = self.hand_out(max.get());
            if entries.is_some() || tokio::time::timeout_at(deadline, added).await.is_err() {
                return Ok(entries.unwrap_or_default());
            }
        }
    }

    async fn take_due(&self, max: NonZeroUsize) -> Result<Due, Error> {
        let (mut state, now) = (self.state(), self.now());
        let lease = now + millis(self.lease).max(1);
        let mut due = Due::default();
        while due.entries.len() < max.get()
            && let Some((at, key)) = state.by_due.first().copied()
            && at <= now
        {
            let Some((_, stored)) = state.scheduled.get(&key).cloned() else { break };
            state.schedule(key, lease, stored.clone());
            due.entries.push(entry(key, Place::Schedule { lease }, Content::Stored(stored)));
        }
        due.next = state.by_due.first().map(|(at, _)| Duration::from_millis(at.saturating_sub(now)));
        Ok(due)
    }

    async fn claim(&self, max: NonZeroUsize) -> Result<Vec<Entry>, Error> {
        let (mut state, now) = (self.state(), self.now());
        let lease = millis(self.lease);
        let idle = state.pending.iter_mut().filter(|(_, (since, _))| now - *since >= lease).take(max.get());
        Ok(idle
            .map(|(key, (since, fields))| {
                *since = now;
                entry(*key, Place::Stream, Content::Fields(fields.clone()))
            })
            .collect())
    }

    async fn beat(&self) -> Result<(), Error> {
        // Clones are not told apart, so what one has in hand is its own for the lease and no longer.
        Ok(())
    }

    async fn give_back(&self, handles: &[Handle]) -> Result<(), Error> {
        let mut state = self.state();
        handles.iter().for_each(|handle| state.give_back(handle));
        drop(state);
        self.added.notify_waiters();
        Ok(())
    }

    async fn leave(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn tidy(&self) -> Result<u64, Error> {
        // What is done is not kept.
        Ok(0)
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error> {
        let (mut state, now) = (self.state(), self.now());
        batch.iter().for_each(|line| state.settle(line, now));
        Ok(())
    }

    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<Unparked>, Error> {
        let mut state = self.state();
        Ok(wanted.iter().map(|(subscription, max)| state.unpark(subscription, *max).into()).collect())
    }

    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error> {
        let state = self.state();
        let ids: BTreeSet<&Arc<str>> = state.parked.keys().map(|(subscription, ..)| subscription).collect();
        let rest = ids.into_iter().filter(|id| after.is_none_or(|after| &***id > after));
        Ok(rest.take(max.get()).cloned().collect())
    }

    async fn look_ahead(&self, beyond: usize, max: NonZeroUsize) -> Result<Option<Ahead>, Error> {
        Ok(self.state().look_ahead(beyond, max.get()))
    }

    async fn move_ahead(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error> {
        let mut state = self.state();
        Ok(entries.iter().map(|(handle, stored)| state.move_ahead(handle, stored)).sum())
    }

    async fn dead_letters(&self, filter: &Filter, start: Start, max: NonZeroUsize) -> Result<DeadPage, Error> {
        let state = self.state();
        let matching = state.dead.range(filter.span(start)).filter(|(_, letter)| filter.matches(letter));
        let in_order: Box<dyn Iterator<Item = _>> =
            if start.is_forward() { Box::new(matching) } else { Box::new(matching.rev()) };
        let mut page = DeadPage::default();
        for (id, letter) in in_order {
            if page.is_full(max) {
                return Ok(page);
            }
            page.next = Some(*id);
            page.add(*id, letter.clone());
        }
        page.next = None;
        Ok(page)
    }

    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error> {
        Ok(self.state().dead.get(&id).cloned())
    }

    async fn replay(&self, ids: &[EntryId]) -> Result<Vec<Option<EntryId>>, Error> {
        let (mut state, now) = (self.state(), self.now());
        let deliveries = ids.iter().map(|id| state.dead.remove(id).map(|letter| state.replay(letter, now))).collect();
        self.added.notify_waiters();
        Ok(deliveries)
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<usize, Error> {
        let mut state = self.state();
        Ok(ids.iter().filter(|id| state.dead.remove(id).is_some()).count())
    }

    async fn depth(&self) -> Result<Depth, Error> {
        let state = self.state();
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let events = state.waiting.keys().chain(state.pending.keys()).filter(|(is_event, _)| *is_event).count();
        Ok(Depth {
            events: count(events),
            waiting: count(state.waiting.len()),
            pending: count(state.pending.len()),
            scheduled: count(state.scheduled.len()),
            in_line: count(state.lines.len() - state.first.len()),
            parked: count(state.parked.len()),
            dead: count(state.dead.len()),
        })
    }

    async fn check(&self) -> Result<Vec<String>, Error> {
        Ok(vec!["the queue is in memory: what is in it ends with the process".to_owned()])
    }
}
