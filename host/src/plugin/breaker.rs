//! A plugin's breaker: a version that keeps failing is left alone for a while, then tried with one call. Waits double
//! as long as that call fails.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Ending;

/// Calls that are remembered; half of them failed means that it keeps failing.
const REMEMBERED: u32 = 20;

const UNPOISONED: &str = "no holder of this lock can panic";

/// When a breaker opens and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaking {
    /// So many calls one after the other that used up their time or memory open it.
    pub failures: u32,
    /// How long it stays open the first time.
    pub wait: Duration,
    /// How long it stays open at most.
    pub wait_max: Duration,
}

impl Default for Breaking {
    fn default() -> Self {
        Breaking { failures: 5, wait: Duration::from_secs(1), wait_max: Duration::from_secs(300) }
    }
}

/// How a breaker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// The plugin is called.
    Closed,
    /// It is not, for so long.
    Open(Duration),
    /// One call finds out whether it is well again; there are no others.
    Probing,
}

/// A version's breaker.
pub(super) struct Breaker {
    breaking: Breaking,
    history: Mutex<History>,
}

struct History {
    phase: Phase,
    /// The last calls, a bit each, set if it failed.
    recent: u32,
    remembered: u32,
    /// Costly failures since the last call that was none.
    costly: u32,
    wait: Duration,
}

#[derive(Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant },
    Probing { since: Instant },
}

/// What a call's end says about the plugin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Well,
    Failing,
    /// Failing, and it used up all it may have.
    Costly,
    /// Nothing: it was not called.
    Silent,
}

/// Leave to make one call. Dropped without its end being noted, a probe is free for the next.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(super) fn new(breaking: Breaking) -> Breaker {
        let wait = breaking.wait;
        let history = History { phase: Phase::Closed, recent: 0, remembered: 0, costly: 0, wait };
        Breaker { breaking, history: Mutex::new(history) }
    }

    /// Leave to call; `Err` says how long there is none.
    pub(super) fn enter(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut history = self.history();
        let is_probe = match history.phase {
            Phase::Closed => false,
            Phase::Open { until } if now < until => return Err(until - now),
            Phase::Open { .. } => true,
            Phase::Probing { .. } => return Err(Duration::ZERO),
        };
        if is_probe {
            history.phase = Phase::Probing { since: now };
        }
        Ok(Pass { breaker: self, is_probe })
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.history().phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { until } => BreakerState::Open(until.saturating_duration_since(now)),
            Phase::Probing { .. } => BreakerState::Probing,
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect(UNPOISONED)
    }
}

impl Pass<'_> {
    /// How the call ended. Says whether that opened the breaker.
    pub(super) fn ended(mut self, ending: Ending, now: Instant) -> bool {
        let mut history = self.breaker.history();
        let sign = Sign::of(ending);
        if sign == Sign::Silent {
            return false;
        }
        let breaking = &self.breaker.breaking;
        if std::mem::take(&mut self.is_probe) {
            match sign {
                Sign::Well | Sign::Silent => *history = History::fresh(breaking),
                Sign::Failing | Sign::Costly => {
                    history.wait = (history.wait * 2).min(breaking.wait_max);
                    history.phase = Phase::Open { until: now + history.wait };
                }
            }
            return false;
        }
        // Calls that were going on when it opened say nothing new.
        if !matches!(history.phase, Phase::Closed) {
            return false;
        }
        history.remember(sign);
        let opens = history.costly >= breaking.failures || history.mostly_failed();
        if opens {
            history.phase = Phase::Open { until: now + history.wait };
        }
        opens
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            let mut history = self.breaker.history();
            if let Phase::Probing { since } = history.phase {
                history.phase = Phase::Open { until: since };
            }
        }
    }
}

impl History {
    fn fresh(breaking: &Breaking) -> History {
        History { phase: Phase::Closed, recent: 0, remembered: 0, costly: 0, wait: breaking.wait }
    }

    fn remember(&mut self, sign: Sign) {
        let failed = sign != Sign::Well;
        self.recent = (self.recent << 1 | u32::from(failed)) & ((1 << REMEMBERED) - 1);
        self.remembered = (self.remembered + 1).min(REMEMBERED);
        self.costly = if sign == Sign::Costly { self.costly + 1 } else { 0 };
    }

    fn mostly_failed(&self) -> bool {
        self.remembered == REMEMBERED && self.recent.count_ones() >= REMEMBERED / 2
    }
}

impl Sign {
    /// A failure that a plugin reports is its way to work.
    fn of(ending: Ending) -> Sign {
        match ending {
            Ending::Deliver
            | Ending::Drop
            | Ending::Postpone
            | Ending::DeadLetter
            | Ending::Transient
            | Ending::Permanent => Sign::Well,
            Ending::Trap | Ending::Exit | Ending::Answer | Ending::Output | Ending::Stack | Ending::Table => {
                Sign::Failing
            }
            Ending::Cpu | Ending::Time | Ending::Memory => Sign::Costly,
            Ending::Settings | Ending::Missing | Ending::Busy | Ending::Open => Sign::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker, and a clock that only this test turns.
    struct Bench {
        breaker: Breaker,
        now: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { breaker: Breaker::new(Breaking::default()), now: Instant::now() }
        }

        fn call(&self, ending: Ending) -> bool {
            self.breaker.enter(self.now).is_ok_and(|pass| pass.ended(ending, self.now))
        }

        fn calls(&self, endings: &[(Ending, usize)]) -> bool {
            endings.iter().flat_map(|(ending, count)| vec![*ending; *count]).any(|ending| self.call(ending))
        }

        fn state(&self) -> BreakerState {
            self.breaker.state(self.now)
        }
    }

    #[track_caller]
    fn opens(endings: &[(Ending, usize)], expected: bool) {
        let bench = Bench::new();
        assert_eq!(bench.calls(endings), expected, "{endings:?}");
        assert_eq!(bench.state() != BreakerState::Closed, expected, "{endings:?}");
    }

    #[test]
    fn it_opens_for_what_keeps_failing() {
        opens(&[(Ending::Cpu, 4)], false);
        opens(&[(Ending::Cpu, 3), (Ending::Time, 1), (Ending::Memory, 1)], true);
        opens(&[(Ending::Cpu, 4), (Ending::Deliver, 1), (Ending::Cpu, 4)], false);
        opens(&[(Ending::Trap, 19)], false);
        opens(&[(Ending::Trap, 20)], true);
        opens(&[(Ending::Deliver, 11), (Ending::Trap, 9)], false);
        opens(&[(Ending::Deliver, 100), (Ending::Exit, 10)], true);
        opens(&[(Ending::Transient, 100), (Ending::Permanent, 100), (Ending::Drop, 100)], false);
        opens(&[(Ending::Busy, 100), (Ending::Missing, 100)], false);
    }

    #[test]
    fn one_call_probes_and_a_failure_doubles_the_wait() {
        let mut bench = Bench::new();
        assert!(bench.calls(&[(Ending::Cpu, 5)]));
        assert_eq!(bench.state(), BreakerState::Open(SECOND));
        assert_eq!(bench.breaker.enter(bench.now).err(), Some(SECOND));
        for wait in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let BreakerState::Open(left) = bench.state() else { panic!("it is open") };
            bench.now += left;
            let probe = bench.breaker.enter(bench.now).expect("one may try");
            assert_eq!(bench.state(), BreakerState::Probing);
            assert_eq!(bench.breaker.enter(bench.now).err(), Some(Duration::ZERO), "no other may");
            probe.ended(Ending::Trap, bench.now);
            assert_eq!(bench.state(), BreakerState::Open(wait * SECOND));
        }
    }

    #[test]
    fn a_probe_that_works_closes_it() {
        let mut bench = Bench::new();
        assert!(bench.calls(&[(Ending::Cpu, 5)]));
        bench.now += SECOND;
        assert!(!bench.call(Ending::Transient), "it works, it only says that it cannot");
        assert_eq!(bench.state(), BreakerState::Closed);
        assert!(!bench.calls(&[(Ending::Cpu, 4)]), "what was is forgotten");
        assert!(bench.call(Ending::Cpu));
        assert_eq!(bench.state(), BreakerState::Open(SECOND));
    }

    #[test]
    fn a_probe_that_nobody_waits_for_is_free_again() {
        let mut bench = Bench::new();
        assert!(bench.calls(&[(Ending::Cpu, 5)]));
        bench.now += SECOND;
        drop(bench.breaker.enter(bench.now));
        assert_eq!(bench.state(), BreakerState::Open(Duration::ZERO));
        assert!(bench.breaker.enter(bench.now).is_ok_and(|probe| !probe.ended(Ending::Busy, bench.now)));
        assert!(bench.breaker.enter(bench.now).is_ok(), "a call that never was tells nothing");
    }

    #[test]
    fn calls_that_were_going_on_do_not_count() {
        let mut bench = Bench::new();
        let old = bench.breaker.enter(bench.now).expect("closed");
        assert!(bench.calls(&[(Ending::Cpu, 5)]));
        bench.now += SECOND;
        assert!(!old.ended(Ending::Deliver, bench.now));
        assert_eq!(bench.state(), BreakerState::Open(Duration::ZERO));
    }
}
