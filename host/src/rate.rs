//! How often attempts may be made: a rate with a burst, and the pace that keeps to it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// At most so many attempts in a time, for example `100/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which time.
    pub per: Duration,
    /// How many may go at once after a pause.
    pub burst: u32,
}

/// The text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a rate; rates look like 50/s, 90/min or 1000/h")]
pub struct BadRate;

const UNITS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3600)];

impl Rate {
    /// The time from one attempt to the next when all is used.
    #[must_use]
    pub fn spacing(self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// The burst is a tenth of a second's worth, at least one.
impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Rate, BadRate> {
        let (count, unit) = text.split_once('/').ok_or(BadRate)?;
        let count: u32 = count.trim().parse().map_err(|_| BadRate)?;
        let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit.trim()).ok_or(BadRate)?;
        let in_a_tenth = u64::from(count) / (10 * seconds);
        let burst = u32::try_from(in_a_tenth).unwrap_or(u32::MAX).max(1);
        if count == 0 { Err(BadRate) } else { Ok(Rate { count, per: Duration::from_secs(seconds), burst }) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.into_iter().find(|(_, seconds)| self.per.as_secs() == *seconds);
        write!(f, "{}/{}", self.count, unit.map_or("s", |(name, _)| name))
    }
}

/// What was used of a rate so far: the time at which it would all be paid back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    paid_back: Option<Instant>,
}

impl Pace {
    /// How many attempts may be made now.
    #[must_use]
    pub fn room(self, rate: Rate, now: Instant) -> usize {
        let spacing = rate.spacing().as_nanos().max(1);
        let free = (spacing * u128::from(rate.burst)).saturating_sub(self.owed(now).as_nanos());
        usize::try_from(free / spacing).unwrap_or(usize::MAX)
    }

    /// How long until one may be made.
    #[must_use]
    pub fn wait(self, rate: Rate, now: Instant) -> Duration {
        self.owed(now).saturating_sub(rate.spacing() * rate.burst.saturating_sub(1))
    }

    /// One is made.
    pub fn spend(&mut self, rate: Rate, now: Instant) {
        self.paid_back = Some(now + self.owed(now) + rate.spacing());
    }

    fn owed(self, now: Instant) -> Duration {
        self.paid_back.map_or(Duration::ZERO, |paid_back| paid_back.saturating_duration_since(now))
    }

    /// Whether nothing of the rate is used.
    #[must_use]
    pub fn is_rested(self, now: Instant) -> bool {
        self.owed(now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u32, u64, u32)>) {
        let read = text.parse::<Rate>().ok().map(|rate| (rate.count, rate.per.as_secs(), rate.burst));
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn rates_are_read() {
        check("100/s", Some((100, 1, 10)));
        check("5/s", Some((5, 1, 1)));
        check("6000 / min", Some((6000, 60, 10)));
        check("1/h", Some((1, 3600, 1)));
        for wrong in ["", "100", "0/s", "-1/s", "1.5/s", "1/day", "/s", "9999999999/s"] {
            check(wrong, None);
        }
        assert_eq!("90/min".parse::<Rate>().unwrap().to_string(), "90/min");
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_the_rate_and_one_burst(
            count in 1..500_u32, burst in 1..50_u32, pauses in proptest::collection::vec(0..200_u64, 1..200),
        ) {
            let rate = Rate { count, per: Duration::from_secs(1), burst };
            let (mut pace, start) = (Pace::default(), Instant::now());
            let (mut now, mut made) = (start, 0_u32);
            for pause in pauses {
                now += Duration::from_millis(pause);
                let room = pace.room(rate, now);
                proptest::prop_assert_eq!(room == 0, !pace.wait(rate, now).is_zero());
                for _ in 0..room {
                    pace.spend(rate, now);
                    made += 1;
                }
                proptest::prop_assert_eq!(pace.room(rate, now), 0);
                let passed = now - start;
                let allowed = f64::from(burst) + passed.as_secs_f64() / rate.spacing().as_secs_f64();
                proptest::prop_assert!(f64::from(made) <= allowed + 0.001);
                let next = now + pace.wait(rate, now);
                proptest::prop_assert!(pace.room(rate, next) >= 1, "what is waited for is there");
            }
        }
    }
}
