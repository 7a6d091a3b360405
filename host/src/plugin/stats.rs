//! What a plugin's version has done so far, for whoever asks.

use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Ending;

/// What is measured: from a hundred nanoseconds to ten minutes, to one per cent.
const NANOS_MIN: u64 = 100;
const NANOS_MAX: u64 = 600_000_000_000;
const DIGITS: u8 = 2;

const UNPOISONED: &str = "no holder of this lock can panic";

/// Counts calls.
pub(super) struct Stats {
    counted: Mutex<Counted>,
}

struct Counted {
    endings: [u64; Ending::ALL.len()],
    nanos: Histogram<u64>,
    memory_max: u64,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Calls, however they ended.
    pub calls: u64,
    /// Each way in which at least one ended.
    pub endings: Vec<(Ending, u64)>,
    /// Half of the calls were no slower.
    pub p50: Duration,
    /// Of a hundred calls one was slower.
    pub p99: Duration,
    /// Bytes of memory that the hungriest call had.
    pub memory_max: u64,
}

impl Stats {
    pub(super) fn new() -> Stats {
        let nanos = Histogram::new_with_bounds(NANOS_MIN, NANOS_MAX, DIGITS).expect("the bounds are constant and good");
        Stats { counted: Mutex::new(Counted { endings: [0; Ending::ALL.len()], nanos, memory_max: 0 }) }
    }

    /// One call came to its end, and had so much memory.
    pub(super) fn ended(&self, ending: Ending, duration: Duration, memory: u64) {
        let mut counted = self.counted.lock().expect(UNPOISONED);
        let at = Ending::ALL.iter().position(|known| *known == ending);
        counted.endings[at.expect("ALL has them all")] += 1;
        counted.nanos.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(NANOS_MAX));
        counted.memory_max = counted.memory_max.max(memory);
    }

    pub(super) fn usage(&self) -> Usage {
        let counted = self.counted.lock().expect(UNPOISONED);
        let endings = Ending::ALL.into_iter().zip(counted.endings).filter(|(_, count)| *count > 0);
        let at = |quantile| Duration::from_nanos(counted.nanos.value_at_quantile(quantile));
        Usage {
            calls: counted.nanos.len(),
            endings: endings.collect(),
            p50: at(0.5),
            p99: at(0.99),
            memory_max: counted.memory_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_comes_out() {
        let stats = Stats::new();
        assert_eq!(stats.usage().calls, 0);
        for micros in 1..=100 {
            stats.ended(Ending::Deliver, Duration::from_micros(micros), 10);
        }
        stats.ended(Ending::Trap, Duration::from_secs(3600), 5);
        let usage = stats.usage();
        assert_eq!((usage.calls, usage.memory_max), (101, 10));
        assert_eq!(usage.endings, [(Ending::Deliver, 100), (Ending::Trap, 1)]);
        assert!(usage.p50.abs_diff(Duration::from_micros(51)) < Duration::from_micros(1), "{usage:?}");
        assert!(usage.p99.abs_diff(Duration::from_micros(100)) < Duration::from_micros(2), "{usage:?}");
    }
}
