//! What the embedded queue keeps in memory: who has what. After a restart nobody has anything.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::journal::{Journal, Key, Note};
use super::room::Room;
use crate::entry::{Condemned, EntryId, Handle, Place, Stream};
use crate::outcome::DeadReason;

/// A scheduled delivery that was handed out.
#[derive(Debug, Clone, Copy)]
struct Leased {
    /// Its due time in the schedule, which is its key there.
    due: u64,
    /// Names who has it: when it was due again when it was handed out.
    lease: u64,
    /// When it is due again.
    until: u64,
}

/// Who has what.
#[derive(Debug)]
pub(super) struct State {
    last_id: EntryId,
    events_cursor: EntryId,
    deliveries_cursor: EntryId,
    /// Which stream was read first the last time.
    first: Stream,
    pending: HashSet<(Stream, EntryId)>,
    leased: HashMap<Key, Leased>,
    journal: Journal,
    /// The process may end so often with an entry in hand.
    claims_max: u32,
    /// What may end the process, and is in hand: one at a time, or others die with it.
    suspect: Option<Key>,
    /// What waits until that is over: entries that the cursors are past.
    suspects: BTreeSet<(EntryId, bool)>,
    /// What is about to be moved ahead.
    pub(super) moving: HashSet<Key>,
    /// What was, and was not moved in the end: entries that the cursors are past.
    pub(super) passed: BTreeSet<(EntryId, bool)>,
    /// What could not be committed.
    pub(super) room: Room,
}

/// Which stream it is in, as what is behind the cursors has it.
fn behind_of(is_event: bool) -> Stream {
    if is_event { Stream::Events } else { Stream::Deliveries }
}

fn key_of(handle: &Handle) -> Key {
    (handle.stream, handle.id)
}

const START: EntryId = EntryId::new(0, 0);

impl State {
    pub(super) fn new(last_id: EntryId, journal: Journal, claims_max: u32) -> State {
        State {
            last_id,
            events_cursor: START,
            deliveries_cursor: START,
            first: Stream::Events,
            pending: HashSet::new(),
            leased: HashMap::new(),
            journal,
            claims_max,
            suspect: None,
            suspects: BTreeSet::new(),
            moving: HashSet::new(),
            passed: BTreeSet::new(),
            room: Room::default(),
        }
    }

    /// A new id, larger than all before, also when the clock was set back.
    pub(super) fn next_id(&mut self, now_ms: u64) -> EntryId {
        self.last_id = if now_ms > self.last_id.ms {
            EntryId::new(now_ms, 0)
        } else {
            EntryId::new(self.last_id.ms, self.last_id.seq + 1)
        };
        self.last_id
    }

    /// The last entry of a stream that was handed out.
    pub(super) fn cursor(&self, stream: Stream) -> EntryId {
        match stream {
            Stream::Events => self.events_cursor,
            Stream::Deliveries => self.deliveries_cursor,
        }
    }

    /// Both streams, each of them first every other time: what one of them has would else hold up the other for as long as
    /// it fills what is asked for.
    pub(super) fn streams_in_turn(&mut self) -> [Stream; 2] {
        let last = self.first;
        self.first = match last {
            Stream::Events => Stream::Deliveries,
            Stream::Deliveries => Stream::Events,
        };
        [self.first, last]
    }

    /// How far both streams were handed out.
    pub(super) fn cursors(&self) -> [EntryId; 2] {
        [self.events_cursor, self.deliveries_cursor]
    }

    /// As if these had not been handed out since. What a process ended with before is suspect as it was.
    pub(super) fn take_back(&mut self, cursors: [EntryId; 2], handles: &[Handle]) {
        [self.events_cursor, self.deliveries_cursor] = cursors;
        // The cursors come to these once more.
        let is_behind = |stream: Stream, id: EntryId| id <= cursors[usize::from(stream == Stream::Deliveries)];
        let stays = |(id, is_event): &(EntryId, bool)| is_behind(behind_of(*is_event), *id);
        self.suspects.retain(stays);
        self.passed.retain(stays);
        let keys = handles.iter().map(key_of);
        for (stream, id) in keys.clone().filter(|(stream, id)| is_behind(*stream, *id)) {
            let behind = if self.is_suspect((stream, id)) { &mut self.suspects } else { &mut self.passed };
            behind.insert((id, stream == Stream::Events));
        }
        let claims: Vec<Key> = keys.flat_map(|key| (0..self.journal.claims(key)).map(move |_| key)).collect();
        self.settled(handles);
        self.note(Note::Claimed, claims.into_iter());
    }

    /// The next entry after the cursor: whether it may be handed out now. One that may not waits, and the cursor is past it.
    pub(super) fn pass(&mut self, stream: Stream, id: EntryId) -> bool {
        match stream {
            Stream::Events => self.events_cursor = id,
            Stream::Deliveries => self.deliveries_cursor = id,
        }
        let key = (stream, id);
        if self.moving.contains(&key)
            || self.pending.contains(&key)
            || self.passed.contains(&(id, stream == Stream::Events))
        {
            return false;
        }
        let waits = self.must_wait((stream, id));
        if waits {
            self.suspects.insert((id, stream == Stream::Events));
        }
        !waits
    }

    /// Whether it is suspect, and another suspect is in hand.
    pub(super) fn must_wait(&self, key: Key) -> bool {
        self.suspect.is_some() && self.is_suspect(key)
    }

    fn is_suspect(&self, key: Key) -> bool {
        let claims = self.journal.claims(key);
        claims > 1 && claims <= self.claims_max
    }

    /// The oldest that the cursors are past and that may go now: a suspect, if none is in hand, or what was not moved.
    pub(super) fn next_behind(&self) -> Option<Key> {
        let suspect = self.suspect.is_none().then(|| self.suspects.first()).flatten();
        let (id, is_event) = *suspect.or_else(|| self.passed.first())?;
        Some((behind_of(is_event), id))
    }

    /// It waits behind the cursors no more.
    pub(super) fn came_back(&mut self, (stream, id): Key) {
        let key = (id, stream == Stream::Events);
        self.suspects.remove(&key);
        self.passed.remove(&key);
    }

    pub(super) fn hand_out(&mut self, stream: Stream, id: EntryId) {
        self.pending.insert((stream, id));
    }

    /// Notes that these are in hand, for the next process.
    pub(super) fn handed_out<'a>(&mut self, handles: impl Iterator<Item = &'a Handle> + Clone) {
        for handle in handles.clone() {
            let key = (handle.stream, handle.id);
            if self.is_suspect(key) {
                self.suspect = Some(key);
            }
        }
        self.note(Note::InHand, handles.map(key_of));
    }

    fn note(&mut self, note: Note, keys: impl Iterator<Item = Key>) {
        if let Err(error) = self.journal.note(note, keys) {
            tracing::warn!(%error, "cannot note what is in hand: an entry that ends the process would not be found");
        }
    }

    /// Why an entry must not be tried.
    pub(super) fn condemn(&self, key: Key) -> Option<Condemned> {
        let claims = self.journal.claims(key);
        let why = || {
            format!("in hand each of the {claims} times that the process ended without settling it (queue.max_claims)")
        };
        (claims > self.claims_max).then(|| Condemned { reason: DeadReason::Poison, why: why() })
    }

    /// Whether a suspect waits for its turn, and may have it.
    pub(super) fn suspects_wait(&self) -> bool {
        self.suspect.is_none() && !self.suspects.is_empty()
    }

    /// The host ends in good order.
    pub(super) fn leave(&mut self) {
        let all: Vec<Key> = self.pending.iter().chain(self.leased.keys()).copied().collect();
        self.note(Note::Over, all.into_iter());
    }

    /// The last id that was given.
    pub(super) fn last_id(&self) -> EntryId {
        self.last_id
    }

    /// How many of a stream are in hand.
    pub(super) fn pending_of(&self, stream: Stream) -> u64 {
        u64::try_from(self.pending.iter().filter(|(of, _)| *of == stream).count()).unwrap_or(u64::MAX)
    }

    pub(super) fn pending(&self) -> u64 {
        u64::try_from(self.pending.len()).unwrap_or(u64::MAX)
    }

    /// When a scheduled delivery that was handed out is due again.
    pub(super) fn lease_of(&self, stream: Stream, id: EntryId) -> Option<u64> {
        self.leased.get(&(stream, id)).map(|leased| leased.until)
    }

    pub(super) fn lease(&mut self, stream: Stream, id: EntryId, due: u64, lease: u64) {
        self.leased.insert((stream, id), Leased { due, lease, until: lease });
    }

    pub(super) fn extend_leases(&mut self, until: u64) {
        self.leased.values_mut().for_each(|leased| leased.until = until);
    }

    /// Whether the entry still sits where its handle says.
    pub(super) fn holds(&self, handle: &Handle) -> bool {
        let key = (handle.stream, handle.id);
        match handle.place {
            Place::Stream => self.pending.contains(&key),
            Place::Schedule { lease } => self.leased.get(&key).is_some_and(|leased| leased.lease == lease),
        }
    }

    /// The due time under which it stands in the schedule.
    pub(super) fn due_of(&self, handle: &Handle) -> Option<u64> {
        self.leased.get(&(handle.stream, handle.id)).map(|leased| leased.due)
    }

    pub(super) fn settled(&mut self, handles: &[Handle]) {
        for handle in handles {
            let key = (handle.stream, handle.id);
            match handle.place {
                Place::Stream => drop(self.pending.remove(&key)),
                Place::Schedule { .. } => drop(self.leased.remove(&key)),
            }
            self.suspect = self.suspect.filter(|suspect| *suspect != key);
        }
        self.note(Note::Over, handles.iter().map(key_of));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let mut state = State::new(EntryId::new(100, 3), journal, 5);
        let ids: Vec<String> = [100, 50, 101, 101, 7].map(|now| state.next_id(now).to_string()).into();
        assert_eq!(ids, ["100-4", "100-5", "101-0", "101-1", "101-2"]);
    }

    /// Hands out an entry of the events after the cursor, if it may go.
    fn hand_out(state: &mut State, id: EntryId) -> Option<Handle> {
        let may_go = state.pass(Stream::Events, id);
        may_go.then(|| hand_out_any(state, id))
    }

    fn hand_out_any(state: &mut State, id: EntryId) -> Handle {
        let handle = Handle { id, stream: Stream::Events, place: Place::Stream };
        state.hand_out(Stream::Events, id);
        state.handed_out(std::iter::once(&handle));
        handle
    }

    #[test]
    fn what_is_taken_back_is_as_suspect_as_before_and_comes_once() {
        let directory = tempfile::tempdir().unwrap();
        let suspects = [1, 2].map(|seq| EntryId::new(1, seq));
        for _ in 0..2 {
            let mut journal = Journal::open(directory.path()).unwrap();
            journal.note(Note::InHand, suspects.map(|id| (Stream::Events, id)).into_iter()).unwrap();
        }
        let mut state = State::new(EntryId::new(1, 2), Journal::open(directory.path()).unwrap(), 5);
        let start = state.cursors();
        for _ in 0..3 {
            let first = hand_out(&mut state, suspects[0]).expect("no other suspect is in hand");
            assert_eq!(hand_out(&mut state, suspects[1]), None);
            state.take_back(start, &[first]);
            assert_eq!(state.next_behind(), None, "the cursor comes to both again");
        }
        let first = hand_out(&mut state, suspects[0]).unwrap();
        assert_eq!(hand_out(&mut state, suspects[1]), None);
        state.settled(&[first]);
        let behind = Some((Stream::Events, suspects[1]));
        for _ in 0..3 {
            assert_eq!(state.next_behind(), behind);
            state.came_back((Stream::Events, suspects[1]));
            let second = hand_out_any(&mut state, suspects[1]);
            assert_eq!(state.next_behind(), None);
            state.take_back(state.cursors(), &[second]);
        }
        assert_eq!(state.next_behind(), behind);
    }
}
