//! The gate: whether a delivery of a subscription may go now. Each subscription has places for attempts at once, a rate,
//! a circuit breaker and, for as long as its endpoint asks for it, a pause. What may not go is parked in the queue, and
//! the gate remembers whose deliveries are parked, so that they come back exactly when they may go.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::Notify;

use crate::attempt::AttemptResult;
use crate::breaker::{Breaker, Disabled, State};
use crate::entry::Place as Origin;
use crate::outcome::Block;
use crate::queue::Unparked;
use crate::rate::Pace;
use crate::subscription::{Settings, Subscription};

mod coming;
mod flow;

use coming::{COMING_MAX, Coming};
use flow::{Backlog, Flow, Room};

/// Subscriptions that are remembered although nothing of theirs is under way or parked.
const IDLE_FLOWS_MAX: usize = 65_536;
/// How many of one subscription are brought back at a time, so that many get their turn.
const TURN_MAX: usize = 64;
/// When it is asked again for what was not parked yet.
const PARKED_WITHIN: Duration = Duration::from_millis(20);
/// When it is asked again for what may be parked where nobody answered.
const ANSWERS_WITHIN: Duration = Duration::from_millis(200);
/// When it is looked again whether there is a place for what is to be brought back.
const FREE_WITHIN: Duration = Duration::from_millis(20);

/// Decides what may go. One per host.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: Mutex<Inner>,
    /// Told when a parked delivery may be able to go.
    pub(crate) freed: Notify,
    /// Places that subscriptions whose last attempt failed have all together, so that many dead endpoints cannot take
    /// all slots of a host, one place each.
    failing_places: usize,
    /// Places for what was parked, of all subscriptions together. It comes before all that is due, so if it could have all
    /// slots of the scheduler, retries and lines would wait until nothing is parked any more.
    brought_places: usize,
}

#[derive(Debug, Default)]
struct Inner {
    flows: HashMap<Arc<str>, Flow>,
    /// Taken by subscriptions that are failing.
    failing_places_taken: usize,
    /// Taken by what was parked.
    brought_places_taken: usize,
    /// Of all subscriptions.
    coming: Coming,
    /// Subscriptions with parked deliveries, by when they may be able to go. Who had a turn comes after who waits for it.
    backlog: BTreeSet<(Instant, Arc<str>)>,
}

/// Why a delivery may not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not now.
    Parked(Block),
    /// Its subscription is disabled.
    Disabled(Disabled),
}

/// An attempt under way; counted until dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    gate: &'a Gate,
    id: Arc<str>,
    of_failing: bool,
    was_parked: bool,
    is_probe: bool,
}

/// How many subscriptions are held up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HeldUp {
    pub(crate) open: usize,
    pub(crate) disabled: usize,
}

/// A subscription that is held up.
#[derive(Debug, Clone)]
pub(crate) struct OpenBreaker {
    pub(crate) subscription: Arc<str>,
    /// In a row.
    pub(crate) failures: u32,
    pub(crate) failing_for: Duration,
    /// When the next delivery is tried; zero if now, or if one is.
    pub(crate) probe_in: Duration,
    pub(crate) disabled: Option<Disabled>,
}

/// Parked deliveries that may go now, by subscription.
pub(crate) type Wanted = Vec<(Arc<str>, usize)>;

fn now() -> Instant {
    // Tokio's clock, so that a simulation can have its own time.
    tokio::time::Instant::now().into_std()
}

impl Gate {
    pub(crate) fn new(failing_places: usize, brought_places: usize) -> Gate {
        let (failing_places, brought_places) = (failing_places.max(1), brought_places.max(1));
        Gate { inner: Mutex::default(), freed: Notify::new(), failing_places, brought_places }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock can panic")
    }

    /// A place for an attempt. What comes fresh out of a stream does not overtake what is parked.
    pub(crate) fn enter(&self, subscription: &Subscription, origin: Origin) -> Result<Place<'_>, Refusal> {
        let (id, settings, now) = (&subscription.id, &*subscription.settings, now());
        let mut inner = self.inner();
        let failing_left = self.failing_places.saturating_sub(inner.failing_places_taken);
        inner.forget_idle(now);
        let inner = &mut *inner;
        let flow = inner.flows.entry(Arc::clone(id)).or_default();
        let was_parked = origin != Origin::Stream && flow.coming.came(1) > 0;
        inner.coming.came(usize::from(was_parked));
        if origin == Origin::Stream && flow.backlog != Backlog::None {
            flow.parking.expect(1, now);
            return Err(Refusal::Parked(Block::Backlog));
        }
        match flow.room(settings, failing_left, now) {
            Room::Some(_) => {
                let of_failing = flow.breaker.is_failing();
                let is_probe = flow.enter(settings, now);
                inner.failing_places_taken += usize::from(of_failing);
                inner.brought_places_taken += usize::from(was_parked);
                Ok(Place { gate: self, id: Arc::clone(id), of_failing, was_parked, is_probe })
            }
            Room::Disabled(why) => Err(Refusal::Disabled(why)),
            Room::None(block, until) => {
                flow.parking.expect(1, now);
                inner.wait(id, until);
                Err(Refusal::Parked(block))
            }
        }
    }

    /// Whether something of it could go now, and nothing of it is parked that would have to go first.
    pub(crate) fn is_open(&self, subscription: &Subscription) -> bool {
        let (inner, now) = (self.inner(), now());
        let failing_left = self.failing_places.saturating_sub(inner.failing_places_taken);
        inner.flows.get(&subscription.id).is_none_or(|flow| {
            flow.backlog == Backlog::None
                && matches!(flow.room(&subscription.settings, failing_left, now), Room::Some(_))
        })
    }

    /// What was refused is parked now, one for each of these: whoever asks from now on finds it.
    pub(crate) fn parked<'a>(&self, ids: impl Iterator<Item = &'a Arc<str>>) {
        let mut inner = self.inner();
        for id in ids {
            if let Some(flow) = inner.flows.get_mut(id) {
                flow.parking.came(1);
                flow.has_parked = true;
            }
        }
    }

    /// Notes subscriptions that have something parked.
    pub(crate) fn found_parked(&self, ids: Vec<Arc<str>>) {
        let (mut inner, now) = (self.inner(), now());
        for id in ids {
            if inner.flows.entry(Arc::clone(&id)).or_default().backlog == Backlog::None {
                inner.set(&id, Backlog::At(now));
            }
        }
    }

    /// How many parked deliveries may go now, up to `max`, and when to ask again at the latest.
    pub(crate) fn wanted(&self, max: usize, settings: impl Fn(&str) -> Arc<Settings>) -> (Wanted, Option<Instant>) {
        let (mut inner, now) = (self.inner(), now());
        let inner = &mut *inner;
        let out = inner.brought_places_taken + inner.coming.count(now);
        let (mut wanted, mut left) = (Wanted::new(), max.min(self.brought_places.saturating_sub(out)));
        let is_full = left == 0;
        let mut failing_left = self.failing_places.saturating_sub(inner.failing_places_taken);
        while left > 0
            && let Some((at, id)) = inner.backlog.first().cloned()
            && at <= now
        {
            inner.set(&id, Backlog::Crowded);
            let Some(flow) = inner.flows.get_mut(&id) else { continue };
            let count = match flow.room(&settings(&id), failing_left, now) {
                Room::Some(room) => room.saturating_sub(flow.coming.count(now)),
                Room::Disabled(_) => TURN_MAX,
                Room::None(_, until) => {
                    inner.wait(&id, until);
                    continue;
                }
            };
            let count = count.min(left).min(TURN_MAX);
            if count == 0 {
                inner.wait(&id, Some(now + COMING_MAX));
                continue;
            }
            flow.coming.expect(count, now);
            flow.has_parked = false;
            inner.coming.expect(count, now);
            if flow.breaker.is_failing() {
                failing_left = failing_left.saturating_sub(count);
            }
            left -= count;
            wanted.push((id, count));
        }
        wanted.iter().for_each(|(id, _)| inner.wait(id, Some(now)));
        let soonest = if is_full { now + FREE_WITHIN } else { now };
        (wanted, inner.backlog.first().map(|(at, _)| soonest.max(*at)))
    }

    /// What of `wanted` there was. A subscription that had less than could go has nothing parked any more, unless something
    /// was still on its way there, or not all were asked: what comes fresh would overtake that.
    pub(crate) fn brought_back(&self, wanted: &Wanted, found: &[Unparked]) {
        let (mut inner, now) = (self.inner(), now());
        let inner = &mut *inner;
        for ((id, asked), Unparked { count, is_partial }) in wanted.iter().zip(found) {
            if count < asked
                && let Some(flow) = inner.flows.get_mut(id)
            {
                let not_there = flow.coming.came(asked - count);
                inner.coming.came(not_there);
                let backlog = if flow.has_parked || flow.parking.count(now) > 0 {
                    Backlog::At(now + PARKED_WITHIN)
                } else if *is_partial {
                    Backlog::At(now + ANSWERS_WITHIN)
                } else {
                    Backlog::None
                };
                inner.set(id, backlog);
            }
        }
    }

    pub(crate) fn held_up(&self, settings: impl Fn(&str) -> Arc<Settings>) -> HeldUp {
        let (inner, now) = (self.inner(), now());
        let mut held_up = HeldUp::default();
        for (id, flow) in inner.flows.iter().filter(|(_, flow)| flow.breaker.is_failing()) {
            held_up.open += usize::from(flow.breaker.is_open());
            held_up.disabled += usize::from(flow.breaker.disabled(settings(id).breaker, now).is_some());
        }
        held_up
    }

    /// The subscriptions whose breaker is open, in the order of their ids, from the one after `after` on.
    pub(crate) fn open_breakers(
        &self,
        settings: impl Fn(&str) -> Arc<Settings>,
        after: Option<&str>,
        max: usize,
    ) -> Vec<OpenBreaker> {
        let (inner, now) = (self.inner(), now());
        let is_meant = |id: &str| after.is_none_or(|after| id > after);
        let open = inner.flows.iter().filter(|(id, flow)| flow.breaker.is_open() && is_meant(id));
        let mut open: Vec<(&Arc<str>, &Flow)> = open.collect();
        open.sort_unstable_by_key(|(id, _)| *id);
        let shown = open.into_iter().take(max).map(|(id, flow)| OpenBreaker {
            subscription: Arc::clone(id),
            failures: flow.breaker.failures(),
            failing_for: flow.breaker.failing_since().map_or(Duration::ZERO, |since| now.duration_since(since)),
            probe_in: match flow.breaker.state(now) {
                State::Open(until) => until.duration_since(now),
                State::HalfOpen | State::Closed => Duration::ZERO,
            },
            disabled: flow.breaker.disabled(settings(id).breaker, now),
        });
        shown.collect()
    }
}

impl Inner {
    /// Nothing of this subscription can go before `until`; without it, before one of its attempts ends.
    fn wait(&mut self, id: &Arc<str>, until: Option<Instant>) {
        self.set(id, until.map_or(Backlog::Crowded, Backlog::At));
    }

    fn set(&mut self, id: &Arc<str>, backlog: Backlog) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        if let Backlog::At(at) = std::mem::replace(&mut flow.backlog, backlog) {
            self.backlog.remove(&(at, Arc::clone(id)));
        }
        if let Backlog::At(at) = backlog {
            self.backlog.insert((at, Arc::clone(id)));
        }
    }

    /// Forgets subscriptions of which nothing must be known, when there are many; those that fail last.
    fn forget_idle(&mut self, now: Instant) {
        let most = IDLE_FLOWS_MAX + self.backlog.len();
        if self.flows.len() > most {
            self.flows.retain(|_, flow| !flow.is_idle(now));
        }
        if self.flows.len() > most {
            self.flows.retain(|_, flow| flow.under_way > 0 || flow.backlog != Backlog::None);
        }
    }
}

impl Place<'_> {
    /// What the attempt came to. `pause`: how long the endpoint wants to be left alone.
    pub(crate) fn conclude(self, settings: &Settings, result: &AttemptResult, pause: Option<Duration>) {
        let now = now();
        let mut inner = self.gate.inner();
        let Some(flow) = inner.flows.get_mut(&self.id) else { return };
        if let Some(pause) = pause {
            flow.paused_until = flow.paused_until.max(Some(now + pause));
        }
        match result {
            AttemptResult::Answered { status, .. } if status.is_success() => {
                if flow.breaker.succeeded() {
                    tracing::info!(subscription = &*self.id, "the breaker closed");
                }
            }
            AttemptResult::Answered { .. } | AttemptResult::Unanswered { .. } => {
                let (policy, was_disabled) = (settings.breaker, flow.breaker.disabled(settings.breaker, now));
                let opened = if result.status() == Some(StatusCode::GONE) {
                    flow.breaker.gone(policy, now, fastrand::f64())
                } else {
                    flow.breaker.failed(policy, now, fastrand::f64())
                };
                if opened {
                    tracing::info!(subscription = &*self.id, result = result.name(), "the breaker opened");
                }
                if let Some(why) = flow.breaker.disabled(policy, now).filter(|_| was_disabled.is_none()) {
                    tracing::warn!(
                        subscription = &*self.id,
                        result = result.name(),
                        why = %why,
                        "the subscription is disabled; a probe that succeeds enables it again"
                    );
                }
            }
            AttemptResult::Blocked { .. }
            | AttemptResult::PluginFailed { .. }
            | AttemptResult::GivenUp { .. }
            | AttemptResult::Disabled { .. } => {}
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut inner = self.gate.inner();
        inner.failing_places_taken -= usize::from(self.of_failing);
        inner.brought_places_taken -= usize::from(self.was_parked);
        let Some(flow) = inner.flows.get_mut(&self.id) else { return };
        flow.under_way -= 1;
        flow.is_probing &= !self.is_probe;
        if flow.backlog != Backlog::None {
            inner.set(&self.id, Backlog::At(now()));
            self.gate.freed.notify_one();
        } else if flow.is_idle(now()) {
            inner.flows.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
