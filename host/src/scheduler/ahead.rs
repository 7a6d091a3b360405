//! Looking ahead: where many entries wait, those of subscriptions that have few among them are moved ahead of the others, so
//! that nobody waits until somebody else's million are read. What a subscription has stays in its order as far as it was
//! seen: when one entry of it was left where it waits, all that come later are, until that one was received.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::delivery::{Context, Delivery};
use crate::entry::{Entry, EntryId, Handle, Stream};
use crate::event::{BodyForm, Notification};
use crate::queue::{self, Ahead, Shard};
use crate::rate::{Pace, Rate};
use crate::worker::Worker;

/// How often it is looked whether many wait.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked for who came, while many wait.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
/// Between two looks while there is more to look at, and so many times as long as the last one took: looking must not take
/// from those that deliver what they need.
const GO_ON_AFTER: Duration = Duration::from_millis(50);
const REST: u32 = 9;
/// But not for longer, however slow the store is.
const GO_ON_WITHIN: Duration = Duration::from_secs(10);
/// Entries that one look is shown.
const SHOWN_MAX: NonZeroUsize = NonZeroUsize::new(1000).expect("it is more than none");
/// Who has more among those shown is no newcomer, where what waits before them was not seen.
const FEW: usize = 100;
/// What is moved ahead of one subscription at most.
const SHARE: Rate = Rate { count: 10, per: Duration::from_secs(1), burst: 10 };
/// Subscriptions that are remembered. When it is more nothing is moved, since nobody could tell who has few.
const KNOWN_MAX: usize = 65_536;

/// Looks ahead in a shard while more than `beyond` wait, until told to stop; never if that is zero.
pub(crate) async fn look_ahead(worker: Arc<Worker>, shard: Shard, beyond: usize, stop: CancellationToken) {
    if beyond == 0 {
        return;
    }
    let (mut newcomers, mut backoff) = (Newcomers::default(), Backoff::default());
    loop {
        let began = tokio::time::Instant::now();
        let pause = match look(&worker, &shard, beyond, &mut newcomers).await {
            Ok(found) => {
                backoff.reset();
                match found {
                    Found::Nothing => LOOK_EVERY,
                    Found::All => FOLLOW_EVERY,
                    Found::Some => (began.elapsed() * REST).clamp(GO_ON_AFTER, GO_ON_WITHIN),
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot look ahead");
                worker.telemetry.queue_failed();
                backoff.next()
            }
        };
        // Both branches only wait; dropping either loses nothing.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What a look came to.
enum Found {
    /// Not many wait, or another host looks.
    Nothing,
    /// There is more to look at.
    Some,
    /// There is not.
    All,
}

async fn look(worker: &Worker, shard: &Shard, beyond: usize, newcomers: &mut Newcomers) -> Result<Found, queue::Error> {
    let Some(ahead) = shard.queue.look_ahead(beyond, SHOWN_MAX).await? else { return Ok(Found::Nothing) };
    let now = tokio::time::Instant::now().into_std();
    let picked = newcomers.pick(&ahead, now, worker.body_bytes_max, |entry| worker.movable(entry));
    if !picked.is_empty() {
        let moved = shard.queue.move_ahead(&picked).await?;
        worker.telemetry.moved_ahead(moved);
        worker.scheduled[shard.number].notify_one();
    }
    Ok(if ahead.is_more { Found::Some } else { Found::All })
}

impl Worker {
    /// The delivery in its stored form, if it may go before others: it keeps no order, and its subscription takes it now. What
    /// no delivery can be made of stays where it is.
    fn movable(&self, entry: &Entry) -> Option<Bytes> {
        let settings = |id: &str| self.directory.settings(id);
        let endpoint = |url: &str| self.endpoints.read(url);
        let (body, body_bytes_max, now) = (self.body, self.body_bytes_max, SystemTime::now());
        let context = Context { settings: &settings, endpoint: &endpoint, body, body_bytes_max, now };
        let delivery = Delivery::decode(entry, &context).ok()?;
        let may_go = delivery.turn().is_none() && self.gate.is_open(&delivery.subscription);
        may_go.then(|| delivery.as_it_is())
    }
}

/// Who has few among those that wait.
#[derive(Default)]
struct Newcomers {
    /// The last entry of a subscription that was left where it waits.
    left: HashMap<(Stream, Arc<str>), EntryId>,
    /// How much of a subscription was moved.
    moved: HashMap<Arc<str>, Pace>,
}

impl Newcomers {
    /// Which of the entries that are shown to move ahead, each as `movable` says; larger ones are not looked into.
    fn pick(
        &mut self,
        ahead: &Ahead,
        now: Instant,
        bytes_max: usize,
        movable: impl Fn(&Entry) -> Option<Bytes>,
    ) -> Vec<(Handle, Bytes)> {
        self.left.retain(|(stream, _), last| *stream != ahead.stream || *last > ahead.received);
        self.moved.retain(|_, pace| !pace.is_rested(now));
        let of: Vec<Option<Arc<str>>> = ahead.entries.iter().map(|entry| subscription_of(entry, bytes_max)).collect();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        of.iter().flatten().for_each(|id| *counts.entry(id).or_default() += 1);
        let mut picked = Vec::new();
        for (entry, id) in ahead.entries.iter().zip(&of) {
            let Some(id) = id else { continue };
            let key = (ahead.stream, Arc::clone(id));
            let is_left = self.left.contains_key(&key) || !ahead.is_in_order && counts[&**id] > FEW;
            let may_be =
                !is_left && picked.len() < ahead.room && self.left.len() < KNOWN_MAX && self.has_share(id, now);
            match may_be.then(|| movable(entry)).flatten() {
                Some(stored) => {
                    self.moved.entry(Arc::clone(id)).or_default().spend(SHARE, now);
                    picked.push((entry.handle, stored));
                }
                None => self.leave(key, entry.handle.id),
            }
        }
        picked
    }

    fn has_share(&self, id: &str, now: Instant) -> bool {
        self.moved.get(id).is_none_or(|pace| pace.room(SHARE, now) > 0)
    }

    fn leave(&mut self, key: (Stream, Arc<str>), id: EntryId) {
        if self.left.len() < KNOWN_MAX || self.left.contains_key(&key) {
            let last = self.left.entry(key).or_insert(id);
            *last = id.max(*last);
        }
    }
}

/// `None` for what no delivery can be made of.
fn subscription_of(entry: &Entry, bytes_max: usize) -> Option<Arc<str>> {
    let event = entry.field("event").filter(|event| event.len() <= bytes_max)?.clone();
    let notification = Notification::parse(event, BodyForm::Verbatim, String::new).ok()?;
    notification.subscription_id.filter(|id| !id.is_empty()).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Content, Place};

    /// Entries numbered from `first` on, of these subscriptions; `None` is no event.
    fn ahead(first: u64, of: &[Option<&str>]) -> Ahead {
        let entry = |(id, of): (u64, &Option<&str>)| {
            let event = of.map_or("?".to_owned(), |of| format!(r#"{{"subscriptionId":"{of}"}}"#));
            Entry {
                handle: Handle { id: EntryId::new(id, 0), stream: Stream::Events, place: Place::Stream },
                content: Content::Fields(vec![("event".into(), event.into())]),
                condemned: None,
            }
        };
        Ahead {
            stream: Stream::Events,
            entries: (first..).zip(of).map(entry).collect(),
            received: EntryId::MIN,
            is_in_order: true,
            is_more: false,
            room: 1000,
        }
    }

    fn pick(newcomers: &mut Newcomers, ahead: &Ahead, now: Instant) -> Vec<u64> {
        let movable = |entry: &Entry| {
            let text = String::from_utf8_lossy(entry.field("event").unwrap()).into_owned();
            (!text.contains("ordered")).then(|| "stored".into())
        };
        newcomers.pick(ahead, now, usize::MAX, movable).into_iter().map(|(handle, _)| handle.id.ms).collect()
    }

    fn of(id: &str, count: usize) -> Vec<Option<&str>> {
        vec![Some(id); count]
    }

    #[test]
    fn what_is_too_large_to_be_delivered_is_not_looked_into() {
        let (shown, now) = (ahead(1, &of("a", 1)), Instant::now());
        let bytes = shown.entries[0].field("event").unwrap().len();
        let pick = |bytes_max| Newcomers::default().pick(&shown, now, bytes_max, |_| Some("stored".into())).len();
        assert_eq!((pick(bytes), pick(bytes - 1)), (1, 0));
    }

    #[test]
    fn a_newcomer_is_moved_and_the_flood_has_its_share() {
        let (mut newcomers, now) = (Newcomers::default(), Instant::now());
        let shown = ahead(1, &[of("flood", 500), of("new", 1), of("flood", 499)].concat());
        assert_eq!(pick(&mut newcomers, &shown, now), (1..=10).chain([501]).collect::<Vec<_>>());
        // Later as well, although its share has grown again: its older ones wait.
        let later = now + Duration::from_secs(60);
        let shown = ahead(1001, &[of("new", 1), of("flood", 1)].concat());
        assert_eq!(pick(&mut newcomers, &shown, later), [1001]);
        // When the last that was left is received it is a newcomer.
        let shown = Ahead { received: EntryId::new(1002, 0), ..ahead(2001, &of("flood", 1)) };
        assert_eq!(pick(&mut newcomers, &shown, later), [2001]);
    }

    #[test]
    fn who_has_many_is_left_where_what_is_before_was_not_seen() {
        let (mut newcomers, now) = (Newcomers::default(), Instant::now());
        let of = [of("flood", 101), of("new", 100), of("one", 1)].concat();
        let shown = Ahead { is_in_order: false, ..ahead(1, &of) };
        assert_eq!(pick(&mut newcomers, &shown, now), (102..=111).chain([202]).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_moved_stays_and_what_comes_after_it_too() {
        let (mut newcomers, now) = (Newcomers::default(), Instant::now());
        let shown = ahead(1, &[Some("ordered"), None, Some("new"), Some("ordered")]);
        assert_eq!(pick(&mut newcomers, &shown, now), [3]);
        let full = Ahead { room: 1, ..ahead(5, &[Some("a"), Some("b"), Some("b")]) };
        assert_eq!(pick(&mut newcomers, &full, now), [5]);
        let shown = ahead(8, &[Some("b"), Some("a")]);
        assert_eq!(pick(&mut newcomers, &shown, now), [9], "one of b's was left before");
    }

    #[test]
    fn streams_are_told_apart() {
        let (mut newcomers, now) = (Newcomers::default(), Instant::now());
        pick(&mut newcomers, &Ahead { room: 0, ..ahead(7, &of("a", 1)) }, now);
        let replays = Ahead { stream: Stream::Deliveries, received: EntryId::new(9, 0), ..ahead(10, &of("a", 1)) };
        assert_eq!(pick(&mut newcomers, &replays, now), [10]);
        assert!(pick(&mut newcomers, &ahead(11, &of("a", 1)), now).is_empty());
    }
}
