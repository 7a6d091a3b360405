//! How far a stream was looked through ahead of those who receive: first what is newest, because who comes last would wait
//! longest, then what lies before it, part by part; and whatever is added meanwhile.

use crate::entry::{EntryId, Stream};

/// How far each stream was looked through.
#[derive(Debug, Default)]
pub(super) struct Lookouts {
    of: [Option<Lookout>; 2],
    last: Option<Stream>,
}

/// One stream: all after what was received was looked through up to `through`, but for the gap between `next` and `end`.
#[derive(Debug, Clone, Copy)]
struct Lookout {
    through: EntryId,
    /// The gap begins after this.
    next: EntryId,
    /// And ends before this; there is none if that is not more.
    end: EntryId,
    /// So that what is new and what is in the gap take turns.
    was_newest: bool,
}

/// Which entries are to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The newest ones after this.
    Newest { after: EntryId },
    /// The first ones after `after` and before `before`.
    Gap { after: EntryId, before: EntryId },
}

/// What looking at a part came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looked {
    /// All that waits before it was looked through.
    pub(super) is_in_order: bool,
    /// There is more to look at now.
    pub(super) is_more: bool,
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Events => 0,
        Stream::Deliveries => 1,
    }
}

impl Lookouts {
    /// Begins anew: others may have looked meanwhile, or received.
    pub(super) fn forget(&mut self) {
        *self = Lookouts::default();
    }

    /// Of these the one that was not looked at last.
    pub(super) fn choose<T>(&mut self, streams: impl IntoIterator<Item = (Stream, T)>) -> Option<(Stream, T)> {
        let chosen = streams.into_iter().max_by_key(|(stream, _)| Some(*stream) != self.last)?;
        self.last = Some(chosen.0);
        Some(chosen)
    }

    /// What to look at next in a stream that was received up to `received`, and whose last entry is `newest`.
    pub(super) fn part(&mut self, stream: Stream, received: EntryId, newest: EntryId) -> Part {
        let new = Lookout { through: received, next: received, end: received, was_newest: false };
        let of = self.of[index(stream)].get_or_insert(new);
        of.through = of.through.max(received);
        of.next = of.next.max(received);
        let is_gap_due = of.was_newest || newest <= of.through;
        if of.next < of.end && is_gap_due {
            Part::Gap { after: of.next, before: of.end }
        } else {
            Part::Newest { after: of.through }
        }
    }

    /// A part was looked at: its first and its last entry, if there was any, and whether there may be more of it.
    pub(super) fn looked(
        &mut self,
        stream: Stream,
        part: Part,
        span: Option<(EntryId, EntryId)>,
        is_cut: bool,
    ) -> Looked {
        let Some(of) = &mut self.of[index(stream)] else { return Looked { is_in_order: false, is_more: false } };
        match part {
            Part::Newest { after } => {
                of.was_newest = true;
                if let Some((first, _)) = span.filter(|_| is_cut) {
                    if of.next >= of.end {
                        of.next = after;
                    }
                    of.end = first;
                }
                of.through = span.map_or(of.through, |(_, last)| last);
                let has_gap = of.next < of.end;
                Looked { is_in_order: !has_gap, is_more: has_gap }
            }
            Part::Gap { before, .. } => {
                of.was_newest = false;
                of.next = span.filter(|_| is_cut).map_or(before, |(_, last)| last);
                Looked { is_in_order: true, is_more: of.next < of.end }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Stream = Stream::Events;

    fn id(number: u64) -> EntryId {
        EntryId::new(number, 0)
    }

    /// Looks at up to ten of those that wait: `received + 1..=newest`.
    fn look(lookouts: &mut Lookouts, received: u64, newest: u64) -> (Vec<u64>, Looked) {
        let part = lookouts.part(EVENTS, id(received), id(newest));
        let (all, is_newest): (Vec<u64>, bool) = match part {
            Part::Newest { after } => ((after.ms + 1..=newest).collect(), true),
            Part::Gap { after, before } => ((after.ms + 1..before.ms).collect(), false),
        };
        let is_cut = all.len() >= 10;
        let shown: Vec<u64> = match is_newest {
            true => all[all.len().saturating_sub(10)..].to_vec(),
            false => all.into_iter().take(10).collect(),
        };
        let span = shown.first().zip(shown.last()).map(|(first, last)| (id(*first), id(*last)));
        let looked = lookouts.looked(EVENTS, part, span, is_cut);
        (shown, looked)
    }

    #[test]
    fn the_newest_come_first_and_then_the_gap_in_order() {
        let mut lookouts = Lookouts::default();
        let (shown, looked) = look(&mut lookouts, 0, 35);
        assert_eq!((shown, looked), ((26..=35).collect(), Looked { is_in_order: false, is_more: true }));
        assert_eq!(look(&mut lookouts, 0, 35).0, (1..=10).collect::<Vec<_>>());
        // What is new and the gap take turns.
        assert_eq!(look(&mut lookouts, 0, 37), (vec![36, 37], Looked { is_in_order: false, is_more: true }));
        assert_eq!(look(&mut lookouts, 0, 38).0, (11..=20).collect::<Vec<_>>());
        assert_eq!(look(&mut lookouts, 0, 38).0, [38]);
        // What was received meanwhile is not looked at any more.
        let (shown, looked) = look(&mut lookouts, 22, 38);
        assert_eq!((shown, looked), ((23..=25).collect(), Looked { is_in_order: true, is_more: false }));
        assert_eq!(look(&mut lookouts, 22, 38), (vec![], Looked { is_in_order: true, is_more: false }));
        assert_eq!(look(&mut lookouts, 22, 40), (vec![39, 40], Looked { is_in_order: true, is_more: false }));
    }

    #[test]
    fn what_comes_faster_than_it_is_looked_at_is_looked_at_later() {
        let mut lookouts = Lookouts::default();
        look(&mut lookouts, 0, 10);
        let (mut seen, mut newest) = ((1..=10).collect::<Vec<u64>>(), 10);
        for _ in 0..5 {
            newest += 15;
            seen.extend(look(&mut lookouts, 0, newest).0);
        }
        while look_and_add(&mut lookouts, newest, &mut seen) {}
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (1..=newest).collect::<Vec<_>>());
    }

    fn look_and_add(lookouts: &mut Lookouts, newest: u64, seen: &mut Vec<u64>) -> bool {
        let (shown, looked) = look(lookouts, 0, newest);
        seen.extend(shown);
        looked.is_more
    }

    #[test]
    fn streams_take_turns() {
        let mut lookouts = Lookouts::default();
        let both = [(Stream::Events, ()), (Stream::Deliveries, ())];
        let chosen: Vec<_> = (0..4).filter_map(|_| lookouts.choose(both)).map(|(stream, ())| stream).collect();
        assert!(chosen.windows(2).all(|pair| pair[0] != pair[1]), "{chosen:?}");
        assert_eq!(lookouts.choose([(Stream::Events, 1)]), Some((Stream::Events, 1)));
        assert_eq!(lookouts.choose::<()>([]), None);
    }
}
