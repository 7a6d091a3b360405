//! What the embedded queue keeps in memory: who has what. After a restart nobody has anything.

use std::collections::{HashMap, HashSet};

use crate::entry::{EntryId, Handle, Place, Stream};

/// A scheduled delivery that was handed out.
#[derive(Debug, Clone, Copy)]
struct Leased {
    /// Its due time in the schedule, which is its key there.
    due: u64,
    /// When it is due again.
    until: u64,
}

/// Who has what.
#[derive(Debug)]
pub(super) struct State {
    last_id: EntryId,
    events_cursor: EntryId,
    deliveries_cursor: EntryId,
    pending: HashSet<(Stream, EntryId)>,
    leased: HashMap<(Stream, EntryId), Leased>,
}

const START: EntryId = EntryId::new(0, 0);

impl State {
    pub(super) fn new(last_id: EntryId) -> State {
        State {
            last_id,
            events_cursor: START,
            deliveries_cursor: START,
            pending: HashSet::new(),
            leased: HashMap::new(),
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

    /// How far both streams were handed out.
    pub(super) fn cursors(&self) -> [EntryId; 2] {
        [self.events_cursor, self.deliveries_cursor]
    }

    /// As if these had not been handed out since.
    pub(super) fn take_back(&mut self, cursors: [EntryId; 2], handles: &[Handle]) {
        [self.events_cursor, self.deliveries_cursor] = cursors;
        handles.iter().for_each(|handle| self.settled(handle));
    }

    pub(super) fn hand_out(&mut self, stream: Stream, id: EntryId) {
        match stream {
            Stream::Events => self.events_cursor = id,
            Stream::Deliveries => self.deliveries_cursor = id,
        }
        self.pending.insert((stream, id));
    }

    pub(super) fn pending(&self) -> u64 {
        u64::try_from(self.pending.len()).unwrap_or(u64::MAX)
    }

    /// When a scheduled delivery that was handed out is due again.
    pub(super) fn lease_of(&self, stream: Stream, id: EntryId) -> Option<u64> {
        self.leased.get(&(stream, id)).map(|leased| leased.until)
    }

    pub(super) fn lease(&mut self, stream: Stream, id: EntryId, due: u64, until: u64) {
        self.leased.insert((stream, id), Leased { due, until });
    }

    /// Whether the entry still sits where its handle says.
    pub(super) fn holds(&self, handle: &Handle) -> bool {
        let key = (handle.stream, handle.id);
        match handle.place {
            Place::Stream => self.pending.contains(&key),
            Place::Schedule { lease } => self.leased.get(&key).is_some_and(|leased| leased.until == lease),
        }
    }

    /// The due time under which it stands in the schedule.
    pub(super) fn due_of(&self, handle: &Handle) -> Option<u64> {
        self.leased.get(&(handle.stream, handle.id)).map(|leased| leased.due)
    }

    pub(super) fn settled(&mut self, handle: &Handle) {
        let key = (handle.stream, handle.id);
        match handle.place {
            Place::Stream => {
                self.pending.remove(&key);
            }
            Place::Schedule { .. } => {
                self.leased.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let mut state = State::new(EntryId::new(100, 3));
        let ids: Vec<String> = [100, 50, 101, 101, 7].map(|now| state.next_id(now).to_string()).into();
        assert_eq!(ids, ["100-4", "100-5", "101-0", "101-1", "101-2"]);
    }
}
