//! What the disk did not take. Each write that fails costs the file a check, so what is as large is left alone for a while.
//! What is smaller goes on: a disk that is full takes it for a long time, and what is settled makes room in the file.

use std::time::Instant;

use crate::queue::Error;

/// No more is tried to see whether the disk takes it.
const TRIED_BYTES_MAX: usize = 16 << 20;

/// Whether the disk takes what is to be written, as far as anybody knows.
#[derive(Debug, Default)]
pub(super) struct Room {
    lacking: Option<Lacking>,
}

#[derive(Debug)]
struct Lacking {
    why: Error,
    /// As much failed, and less may do.
    smallest: usize,
    /// As much must be written before all is well.
    largest: usize,
    retry_at: Instant,
}

impl Room {
    /// So many bytes could not be written, and are best left alone until `retry_at`.
    pub(super) fn failed(&mut self, bytes: usize, why: &Error, retry_at: Instant) {
        let bytes = bytes.min(TRIED_BYTES_MAX);
        let (smallest, largest) = match &self.lacking {
            Some(before) => (before.smallest.min(bytes), before.largest.max(bytes)),
            None => (bytes, bytes),
        };
        self.lacking = Some(Lacking { why: why.clone(), smallest, largest, retry_at });
    }

    /// So many bytes were written.
    pub(super) fn written(&mut self, bytes: usize) {
        self.lacking = self.lacking.take().filter(|lacking| lacking.largest > bytes);
        if let Some(lacking) = &mut self.lacking {
            lacking.smallest = lacking.smallest.max(bytes + 1);
        }
    }

    /// How much must be written to see whether there is room again.
    pub(super) fn wanted(&self) -> Option<usize> {
        self.lacking.as_ref().map(|lacking| lacking.largest)
    }

    /// Why so many bytes are not even tried now, if so.
    pub(super) fn refuses(&self, bytes: usize, now: Instant) -> Option<Error> {
        let lacking = self.lacking.as_ref()?;
        (bytes >= lacking.smallest && now < lacking.retry_at).then(|| lacking.why.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn full() -> Error {
        Error::Corrupt("full".to_owned())
    }

    /// Which of 10, 100 and 1000 bytes are tried.
    fn tried(room: &Room, now: Instant) -> [bool; 3] {
        [10, 100, 1000].map(|bytes| room.refuses(bytes, now).is_none())
    }

    #[test]
    fn what_is_smaller_goes_on_and_the_rest_is_left_alone_for_a_while() {
        let (mut room, now) = (Room::default(), Instant::now());
        assert_eq!((tried(&room, now), room.wanted()), ([true, true, true], None));
        room.failed(1000, &full(), now + PAUSE);
        assert_eq!((tried(&room, now), room.wanted()), ([true, true, false], Some(1000)));
        room.failed(50, &full(), now + PAUSE);
        assert_eq!((tried(&room, now), room.wanted()), ([true, false, false], Some(1000)));
        room.written(10);
        assert_eq!((tried(&room, now), room.wanted()), ([true, false, false], Some(1000)));
        room.written(100);
        assert_eq!((tried(&room, now), room.wanted()), ([true, true, false], Some(1000)));
        assert_eq!(tried(&room, now + PAUSE), [true, true, true]);
        room.written(1000);
        assert_eq!((tried(&room, now), room.wanted()), ([true, true, true], None));
    }

    #[test]
    fn not_even_nothing_is_tried_when_nothing_could_be_written() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.failed(0, &full(), now + PAUSE);
        assert!(room.refuses(0, now).is_some() && room.refuses(0, now + PAUSE).is_none());
        room.written(0);
        assert_eq!(room.wanted(), None);
    }

    #[test]
    fn no_more_is_tried_than_is_sensible() {
        let (mut room, now) = (Room::default(), Instant::now());
        room.failed(usize::MAX, &full(), now + PAUSE);
        assert_eq!(room.wanted(), Some(TRIED_BYTES_MAX));
        assert!(room.refuses(TRIED_BYTES_MAX, now).is_some());
    }
}
