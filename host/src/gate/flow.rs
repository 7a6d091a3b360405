//! What the gate knows of one subscription.

use std::time::{Duration, Instant};

use super::coming::Coming;
use super::{Block, Breaker, Disabled, Pace, Settings};
use crate::breaker::State;

/// How long a failing subscription waits for one of the places that all failing ones share.
const FAILING_WAIT: Duration = Duration::from_secs(1);

/// Attempts under way, and what is in their way.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) under_way: usize,
    pub(super) is_probing: bool,
    pub(super) pace: Pace,
    pub(super) breaker: Breaker,
    pub(super) paused_until: Option<Instant>,
    pub(super) backlog: Backlog,
    /// Brought back from where it was parked, and not here yet.
    pub(super) coming: Coming,
    /// Told to be parked, and not in the queue as such yet.
    pub(super) parking: Coming,
    /// Whether some were parked since it was last said how many may come back: the answer may not know of them.
    pub(super) has_parked: bool,
}

/// Whether something of it is parked, and when that may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Backlog {
    /// Nothing is parked, as far as this host knows.
    #[default]
    None,
    /// It may be able to go from then on.
    At(Instant),
    /// Not before an attempt ends.
    Crowded,
}

/// How many attempts may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// So many.
    Some(usize),
    /// None before that time; without one, before an attempt ends.
    None(Block, Option<Instant>),
    /// None; what comes is given up.
    Disabled(Disabled),
}

impl Flow {
    /// How many attempts may be made now. `failing_left` are the places that failing subscriptions share.
    pub(super) fn room(&self, settings: &Settings, failing_left: usize, now: Instant) -> Room {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Room::None(Block::Paused, Some(until));
        }
        let free = settings.in_flight_max.saturating_sub(self.under_way);
        let free = match self.breaker.state(now) {
            State::Open(until) => {
                let disabled = self.breaker.disabled(settings.breaker, now).map(Room::Disabled);
                return disabled.unwrap_or(Room::None(Block::Open, Some(until)));
            }
            State::HalfOpen if self.is_probing => return Room::None(Block::Open, None),
            State::HalfOpen => free.min(1),
            State::Closed => free,
        };
        if free == 0 {
            return Room::None(Block::Places, None);
        }
        let free = if self.breaker.is_failing() { free.min(failing_left) } else { free };
        if free == 0 {
            let wait = FAILING_WAIT.mul_f64(0.5 + fastrand::f64());
            return Room::None(Block::Failing, Some(now + wait));
        }
        match settings.rate.map(|rate| (self.pace.room(rate, now), self.pace.wait(rate, now))) {
            None => Room::Some(free),
            Some((0, wait)) => Room::None(Block::Rate, Some(now + wait)),
            Some((room, _)) => Room::Some(free.min(room)),
        }
    }

    /// An attempt begins; whether it is the breaker's probe.
    pub(super) fn enter(&mut self, settings: &Settings, now: Instant) -> bool {
        self.under_way += 1;
        if let Some(rate) = settings.rate {
            self.pace.spend(rate, now);
        }
        let is_probe = self.breaker.state(now) == State::HalfOpen;
        self.is_probing |= is_probe;
        is_probe
    }

    /// Whether it can be forgotten.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.under_way == 0
            && self.backlog == Backlog::None
            && !self.breaker.is_failing()
            && self.pace.is_rested(now)
            && self.paused_until.is_none_or(|until| until <= now)
    }
}
