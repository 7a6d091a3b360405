//! What an attempt's result means: the one table that decides on delivered, retry and dead.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::attempt::{AttemptResult, Lasting, RetryAfter};
use crate::outcome::{DeadReason, Outcome};

/// How much a wait may be lengthened by chance, as a share of it. Never shortened: the seed's schedule is a lower bound.
pub const JITTER_MAX: f64 = 0.1;

/// How often and when a delivery is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// The wait before the first retry; it doubles with each further one.
    pub backoff: Duration,
    /// No wait is longer, jitter aside.
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { max_retries: 3, backoff: Duration::from_secs(1), backoff_max: Duration::from_secs(300) }
    }
}

impl RetryPolicy {
    /// The wait before retry `retry`, without jitter: `min(backoff · 2^(retry-1), backoff_max)`.
    #[must_use]
    pub fn wait(&self, retry: NonZeroU32) -> Duration {
        let doubled = 2_u32.checked_pow(retry.get() - 1).and_then(|factor| self.backoff.checked_mul(factor));
        doubled.unwrap_or(self.backoff_max).min(self.backoff_max)
    }

    /// What becomes of a delivery whose `attempt`th attempt came to `result`. `chance` is in `0.0..1.0`.
    #[must_use]
    pub fn conclude(&self, attempt: NonZeroU32, result: &AttemptResult, now: SystemTime, chance: f64) -> Outcome {
        match result {
            AttemptResult::Answered { status, .. } if status.is_success() => Outcome::Delivered,
            AttemptResult::Answered { status: StatusCode::GONE, .. } => Outcome::Dead(DeadReason::Gone),
            AttemptResult::Answered { retry_after, .. } => {
                let not_before = retry_after.map_or(Duration::ZERO, |wish| not_before(wish, now));
                self.again(attempt, DeadReason::Exhausted, not_before, chance)
            }
            AttemptResult::Unanswered { .. } => self.again(attempt, DeadReason::Exhausted, Duration::ZERO, chance),
            AttemptResult::Blocked { .. } => Outcome::Dead(DeadReason::Blocked),
            AttemptResult::Disabled { .. } => Outcome::Dead(DeadReason::Disabled),
            AttemptResult::GivenUp { .. } | AttemptResult::PluginFailed { lasting: Lasting::Permanent, .. } => {
                Outcome::Dead(DeadReason::Plugin)
            }
            AttemptResult::PluginFailed { lasting: Lasting::Transient, .. } => {
                self.again(attempt, DeadReason::Plugin, Duration::ZERO, chance)
            }
        }
    }

    /// How long the endpoint is to be left alone altogether after `result`: what it asks for with `Retry-After`, and one
    /// backoff when it says that it is overloaded (429) or that nobody is behind it (502, 504).
    #[must_use]
    pub fn pause(&self, result: &AttemptResult, now: SystemTime) -> Option<Duration> {
        let AttemptResult::Answered { status, retry_after } = result else { return None };
        let overloaded =
            matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
        let wish = retry_after.filter(|_| !status.is_success()).map(|wish| not_before(wish, now));
        let pause = wish.or(overloaded.then_some(self.backoff))?;
        (!pause.is_zero()).then(|| pause.min(self.backoff_max))
    }

    fn again(&self, attempt: NonZeroU32, if_not: DeadReason, not_before: Duration, chance: f64) -> Outcome {
        if attempt.get() > self.max_retries {
            return Outcome::Dead(if_not);
        }
        let wait = self.wait(attempt).max(not_before.min(self.backoff_max));
        Outcome::Retry { after: wait + wait.mul_f64(chance.clamp(0.0, 1.0) * JITTER_MAX) }
    }
}

fn not_before(wish: RetryAfter, now: SystemTime) -> Duration {
    match wish {
        RetryAfter::Seconds(seconds) => Duration::from_secs(seconds),
        RetryAfter::Date(date) => date.duration_since(now).unwrap_or(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::NoAnswer;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + secs(1_767_868_200)
    }

    fn answered(status: u16, retry_after: Option<&str>) -> AttemptResult {
        let retry_after = retry_after.and_then(RetryAfter::parse);
        AttemptResult::Answered { status: StatusCode::from_u16(status).unwrap(), retry_after }
    }

    fn unanswered(why: NoAnswer) -> AttemptResult {
        AttemptResult::Unanswered { why, error: String::new() }
    }

    fn plugin(lasting: Lasting) -> AttemptResult {
        AttemptResult::PluginFailed { error: String::new(), lasting }
    }

    #[track_caller]
    fn check(result: &AttemptResult, attempt: u32, expected: &Outcome) {
        let outcome = RetryPolicy::default().conclude(NonZeroU32::new(attempt).unwrap(), result, now(), 0.0);
        assert_eq!(&outcome, expected, "attempt {attempt}: {result:?}");
    }

    fn retry(seconds: u64) -> Outcome {
        Outcome::Retry { after: secs(seconds) }
    }

    #[test]
    fn any_2xx_is_delivered() {
        for status in [200, 201, 202, 204, 206, 299] {
            check(&answered(status, None), 1, &Outcome::Delivered);
            check(&answered(status, Some("10")), 4, &Outcome::Delivered);
        }
    }

    #[test]
    fn gone_is_final() {
        check(&answered(410, None), 1, &Outcome::Dead(DeadReason::Gone));
        check(&answered(410, Some("5")), 1, &Outcome::Dead(DeadReason::Gone));
    }

    #[test]
    fn every_other_answer_is_tried_again() {
        for status in [301, 302, 304, 307, 308, 400, 401, 403, 404, 409, 418, 422, 429, 500, 502, 503, 504, 599] {
            check(&answered(status, None), 1, &retry(1));
            check(&answered(status, None), 4, &Outcome::Dead(DeadReason::Exhausted));
        }
    }

    #[test]
    fn no_answer_is_tried_again() {
        for why in NoAnswer::ALL {
            check(&unanswered(why), 2, &retry(2));
            check(&unanswered(why), 4, &Outcome::Dead(DeadReason::Exhausted));
        }
    }

    #[test]
    fn a_blocked_address_is_final() {
        check(&AttemptResult::Blocked { error: String::new() }, 1, &Outcome::Dead(DeadReason::Blocked));
    }

    #[test]
    fn what_a_disabled_subscription_gets_is_dead() {
        check(&AttemptResult::Disabled { error: String::new() }, 1, &Outcome::Dead(DeadReason::Disabled));
    }

    #[test]
    fn a_failed_plugin_is_tried_again_unless_it_says_that_this_is_useless() {
        check(&plugin(Lasting::Transient), 1, &retry(1));
        check(&plugin(Lasting::Transient), 4, &Outcome::Dead(DeadReason::Plugin));
        check(&plugin(Lasting::Permanent), 1, &Outcome::Dead(DeadReason::Plugin));
    }

    #[test]
    fn what_a_plugin_gives_up_is_dead() {
        check(&AttemptResult::GivenUp { error: String::new() }, 1, &Outcome::Dead(DeadReason::Plugin));
    }

    #[test]
    fn four_attempts_at_0_1_3_and_7_seconds() {
        for (attempt, wait) in [(1, 1), (2, 2), (3, 4)] {
            check(&answered(500, None), attempt, &retry(wait));
        }
        check(&answered(500, None), 4, &Outcome::Dead(DeadReason::Exhausted));
    }

    #[test]
    fn retry_after_lengthens_the_wait_up_to_the_longest() {
        check(&answered(503, Some("30")), 1, &retry(30));
        check(&answered(503, Some("0")), 1, &retry(1));
        check(&answered(503, Some("99999999999999999999999")), 1, &retry(300));
        check(&answered(503, Some("soon")), 1, &retry(1));
        check(&answered(503, Some("-5")), 1, &retry(1));
        let date = httpdate::fmt_http_date(now() + secs(60));
        check(&answered(503, Some(&date)), 1, &retry(60));
        let past = httpdate::fmt_http_date(now() - secs(60));
        check(&answered(503, Some(&past)), 1, &retry(1));
        check(&answered(503, Some("30")), 4, &Outcome::Dead(DeadReason::Exhausted));
    }

    #[test]
    fn an_endpoint_that_asks_for_it_is_left_alone() {
        let pause =
            |status, wish| RetryPolicy::default().pause(&answered(status, wish), now()).map(|pause| pause.as_secs());
        for status in [429, 502, 504] {
            assert_eq!((pause(status, None), pause(status, Some("30"))), (Some(1), Some(30)), "{status}");
        }
        assert_eq!((pause(503, None), pause(500, None), pause(404, None)), (None, None, None));
        assert_eq!((pause(503, Some("7")), pause(503, Some("0")), pause(503, Some("soon"))), (Some(7), None, None));
        assert_eq!(pause(503, Some("99999999")), Some(300));
        assert_eq!((pause(200, Some("30")), pause(204, None)), (None, None));
        assert_eq!(RetryPolicy::default().pause(&unanswered(NoAnswer::Timeout), now()), None);
    }

    proptest::proptest! {
        #[test]
        fn a_wait_is_never_shorter_than_the_schedule_nor_more_than_a_tenth_longer(
            attempt in 1..200_u32, chance in 0.0..1.0_f64, backoff_ms in 1..10_000_u64, longest_ms in 1..1_000_000_u64,
        ) {
            let policy = RetryPolicy {
                max_retries: 200,
                backoff: Duration::from_millis(backoff_ms),
                backoff_max: Duration::from_millis(longest_ms),
            };
            let attempt = NonZeroU32::new(attempt).unwrap();
            let Outcome::Retry { after } = policy.conclude(attempt, &answered(500, None), now(), chance) else {
                panic!("attempts remain")
            };
            let exact = policy.wait(attempt);
            proptest::prop_assert!(after >= exact && after <= exact.mul_f64(1.0 + JITTER_MAX) + Duration::from_nanos(1));
            proptest::prop_assert!(exact <= policy.backoff_max);
            if let Some(next) = attempt.checked_add(1) {
                proptest::prop_assert!(policy.wait(next) >= exact);
            }
        }
    }
}
