//! How long a loop waits before it asks a store again that did not answer: doubling, with jitter, so that many hosts do
//! not ask in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// Short, because those who wait when the store is back keep what is pending for them waiting; and still next to nothing
/// for a store that is away.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits that grow until something works.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait: between half and all of 100 ms, 200 ms, … 1 s.
    pub(crate) fn next(&mut self) -> Duration {
        let longest = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
    }

    /// It works again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}
