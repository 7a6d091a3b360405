//! The circuit breaker of one subscription: after so many failures in a row nothing goes for a while, then one probe.

use std::time::{Duration, Instant};

/// How much an open time may be lengthened by chance, as a share of it, so that hosts do not probe in step.
const JITTER_MAX: f64 = 0.2;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row.
    pub failures: u32,
    /// How long nothing goes then, jitter aside.
    pub open: Duration,
    /// A subscription all of whose attempts have failed for so long is disabled; never if not given.
    pub disable_after: Option<Duration>,
    /// Whether one whose endpoint answers 410 is disabled.
    pub disable_on_gone: bool,
}

/// Why a subscription is disabled. It is until an attempt succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Disabled {
    /// Its endpoint said that it is gone.
    #[error("its endpoint answered 410 Gone (disable_on_gone)")]
    Gone,
    /// It failed for too long.
    #[error("it failed for longer than disable_after")]
    Failing,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        BreakerPolicy { failures: 100, open: Duration::from_secs(10), disable_after: None, disable_on_gone: false }
    }
}

/// Whether attempts may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They may.
    Closed,
    /// None until then.
    Open(Instant),
    /// One may, to see whether the endpoint is back.
    HalfOpen,
}

/// What is known of a subscription's endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    failing_since: Option<Instant>,
    opens_again: Option<Instant>,
    is_gone: bool,
}

impl Breaker {
    /// Whether attempts may be made now.
    #[must_use]
    pub fn state(&self, now: Instant) -> State {
        match self.opens_again {
            None => State::Closed,
            Some(until) if until > now => State::Open(until),
            Some(_) => State::HalfOpen,
        }
    }

    /// An attempt succeeded. Whether the breaker had been open.
    pub fn succeeded(&mut self) -> bool {
        std::mem::take(self).opens_again.is_some()
    }

    /// An attempt failed. Whether that opened a breaker that was closed. `chance` is in `0.0..1.0`.
    pub fn failed(&mut self, policy: BreakerPolicy, now: Instant, chance: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let was_closed = self.opens_again.is_none();
        if self.failures >= policy.failures || self.disabled(policy, now).is_some() {
            // Attempts that were under way when it opened fail as well, and say nothing new.
            if matches!(self.state(now), State::Open(_)) {
                return false;
            }
            self.opens_again = Some(now + policy.open + policy.open.mul_f64(chance.clamp(0.0, 1.0) * JITTER_MAX));
        }
        was_closed && self.opens_again.is_some()
    }

    /// An attempt was answered 410, which is a failure as well. Whether that opened a breaker that was closed.
    pub fn gone(&mut self, policy: BreakerPolicy, now: Instant, chance: f64) -> bool {
        self.is_gone = true;
        self.failed(policy, now, chance)
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Since when all attempts have failed.
    #[must_use]
    pub fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// Whether it is open, or waits for its probe.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opens_again.is_some()
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether it is disabled, and why.
    #[must_use]
    pub fn disabled(&self, policy: BreakerPolicy, now: Instant) -> Option<Disabled> {
        let failing = self.failing_since.zip(policy.disable_after);
        let for_too_long = failing.is_some_and(|(since, after)| now.duration_since(since) >= after);
        let is_gone = (self.is_gone && policy.disable_on_gone).then_some(Disabled::Gone);
        is_gone.or(for_too_long.then_some(Disabled::Failing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy =
        BreakerPolicy { failures: 3, open: secs(10), disable_after: Some(secs(60)), disable_on_gone: true };

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(!breaker.failed(POLICY, now, 0.0) && !breaker.failed(POLICY, now, 0.0));
        assert!(!breaker.succeeded());
        assert!(!breaker.failed(POLICY, now, 0.0) && !breaker.failed(POLICY, now, 0.0));
        assert_eq!(breaker.state(now), State::Closed);
        assert!(breaker.failed(POLICY, now, 0.0));
        assert_eq!(breaker.state(now), State::Open(now + secs(10)));
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_one_that_succeeds_closes_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            breaker.failed(POLICY, now, 1.0);
        }
        assert_eq!(breaker.state(now + secs(11)), State::Open(now + secs(12)), "with jitter");
        // What was still under way changes nothing.
        assert!(!breaker.failed(POLICY, now + secs(5), 0.0));
        let later = now + secs(12);
        assert_eq!(breaker.state(later), State::HalfOpen);
        assert!(!breaker.failed(POLICY, later, 0.0), "it had not been closed");
        assert_eq!(breaker.state(later), State::Open(later + secs(10)));
        assert!(breaker.succeeded());
        assert_eq!((breaker.state(later), breaker.is_failing()), (State::Closed, false));
    }

    #[test]
    fn one_that_fails_for_long_is_disabled_until_it_succeeds() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.failed(POLICY, now, 0.0);
        assert_eq!(breaker.disabled(POLICY, now + secs(59)), None);
        assert_eq!(breaker.disabled(POLICY, now + secs(60)), Some(Disabled::Failing));
        assert_eq!(breaker.disabled(BreakerPolicy { disable_after: None, ..POLICY }, now + secs(600)), None);
        breaker.succeeded();
        assert_eq!(breaker.disabled(POLICY, now + secs(600)), None);
    }

    #[test]
    fn one_whose_endpoint_is_gone_is_disabled_at_once_until_it_succeeds() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let unless = BreakerPolicy { disable_on_gone: false, ..POLICY };
        assert!(!{ breaker }.gone(unless, now, 0.0), "a failure like any other");
        assert!(breaker.gone(POLICY, now, 0.0));
        assert_eq!(breaker.disabled(POLICY, now), Some(Disabled::Gone));
        assert_eq!(breaker.disabled(unless, now), None);
        let probe = now + secs(10);
        assert_eq!(breaker.state(probe), State::HalfOpen);
        breaker.failed(POLICY, probe, 0.0);
        assert_eq!(breaker.disabled(POLICY, probe), Some(Disabled::Gone), "whatever it answers since");
        assert!(breaker.succeeded());
        assert_eq!((breaker.disabled(POLICY, probe), breaker.state(probe)), (None, State::Closed));
    }
}
