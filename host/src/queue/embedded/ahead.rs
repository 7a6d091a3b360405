//! Looking ahead: entries beyond what was handed out, and moving some of them into the schedule. That is one transaction,
//! so where they were nobody comes to them any more. Until it is committed they are on the move, and are not handed out.

use bytes::Bytes;

use super::Shared;
use super::form;
use super::state::State;
use crate::entry::{Content, Entry, EntryId, Handle, Place, Stream};
use crate::queue::lookout::Part;
use crate::queue::{Ahead, Error};

impl Shared {
    pub(super) fn look_ahead(&self, beyond: usize, max: usize) -> Result<Option<Ahead>, Error> {
        let (counts, newest) = (self.store.counts()?, self.state().last_id());
        let enough = u64::try_from(beyond).unwrap_or(u64::MAX);
        let of = [(Stream::Events, counts.events), (Stream::Deliveries, counts.deliveries)];
        let waiting = of.map(|(stream, count)| (stream, count.saturating_sub(self.state().pending_of(stream))));
        let mut lookouts = self.lookouts.lock().expect("no holder of this lock can panic");
        let Some((stream, _)) = lookouts.choose(waiting.into_iter().filter(|(_, count)| *count > enough)) else {
            lookouts.forget();
            return Ok(None);
        };
        let received = self.state().cursor(stream);
        let part = lookouts.part(stream, received, newest);
        let (found, is_cut) = match part {
            Part::Newest { after } => self.store.newest_entries(stream, after, max)?,
            Part::Gap { after, before } => self.store.entries_between(stream, after..before, max)?,
        };
        let span = found.first().zip(found.last()).map(|((first, _), (last, _))| (*first, *last));
        let looked = lookouts.looked(stream, part, span, is_cut);
        let entries = found.iter().map(|(id, fields)| shown(stream, *id, fields)).collect::<Result<_, _>>()?;
        let room = beyond.saturating_sub(self.store.due_at_once(beyond)?);
        let (is_in_order, is_more) = (looked.is_in_order, looked.is_more);
        Ok(Some(Ahead { stream, entries, received, is_in_order, is_more, room }))
    }
}

fn shown(stream: Stream, id: EntryId, fields: &Bytes) -> Result<Entry, Error> {
    let handle = Handle { id, stream, place: Place::Stream };
    Ok(Entry { handle, content: Content::Fields(form::decode_fields(fields)?), condemned: None })
}

impl State {
    /// Which of these nobody has been handed out, nor is moving yet; from now on they are on the move.
    pub(super) fn begin_move(&mut self, entries: &[(Handle, Bytes)]) -> Vec<(Handle, Bytes)> {
        let begins = |(handle, _): &&(Handle, Bytes)| {
            let waits = handle.id > self.cursor(handle.stream) && !self.holds(handle);
            waits && self.moving.insert((handle.stream, handle.id))
        };
        entries.iter().filter(begins).cloned().collect()
    }

    /// They are on the move no more. What could not be moved waits again, although the cursor may be past it by now.
    pub(super) fn end_move(&mut self, handles: &[Handle], is_moved: bool) {
        for handle in handles {
            self.moving.remove(&(handle.stream, handle.id));
            if !is_moved && handle.id <= self.cursor(handle.stream) {
                self.passed.insert((handle.id, handle.stream == Stream::Events));
            }
        }
    }
}
