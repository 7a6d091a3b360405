//! What is on its way: was brought back for a subscription and has not come here yet, or is about to be parked. Where hosts share a queue another one may have taken it,
//! and nobody says so: what is not here in time is not waited for. Each has its own time, or those that go on coming would
//! have the others waited for without end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// By then it is here, or another host has it.
pub(super) const COMING_MAX: Duration = Duration::from_secs(1);
/// What is brought back within so long is given up together, so that few times must be kept.
const TOGETHER: Duration = Duration::from_millis(100);

/// How many, by when they are given up, the first to be at the front.
#[derive(Debug, Default)]
pub(super) struct Coming(VecDeque<(Instant, usize)>);

impl Coming {
    /// So many set out.
    pub(super) fn expect(&mut self, count: usize, now: Instant) {
        let until = now + COMING_MAX;
        match self.0.back_mut() {
            Some((last, some)) if *last + TOGETHER > until => *some += count,
            _ => self.0.push_back((until, count)),
        }
    }

    /// So many are here, or were never there. It takes milliseconds to come, so they are the last ones; taken for the first, they would
    /// leave their own time to those that another host has. Answers how many of them were waited for.
    pub(super) fn came(&mut self, count: usize) -> usize {
        let mut left = count;
        while let Some((_, last)) = self.0.back_mut() {
            let of_these = left.min(*last);
            (left, *last) = (left - of_these, *last - of_these);
            if *last > 0 {
                break;
            }
            self.0.pop_back();
        }
        count - left
    }

    /// How many may still come.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        while self.0.front().is_some_and(|(until, _)| *until <= now) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_given_up_while_others_come() {
        let (mut coming, mut now) = (Coming::default(), Instant::now());
        coming.expect(30, now);
        for _ in 0..3 {
            now += Duration::from_millis(300);
            coming.expect(2, now);
            coming.came(2);
            assert_eq!(coming.count(now), 30);
        }
        now += Duration::from_millis(100);
        assert_eq!(coming.count(now), 0);
        coming.came(1);
        coming.expect(1, now);
        assert_eq!(coming.count(now), 1, "what comes unexpected is no debt");
    }

    #[test]
    fn many_small_ones_take_little_room() {
        let (mut coming, now) = (Coming::default(), Instant::now());
        for ms in 0..1000 {
            coming.expect(1, now + Duration::from_millis(ms));
        }
        assert_eq!(coming.count(now + Duration::from_millis(999)), 1000);
        assert!(coming.0.len() <= 10, "{}", coming.0.len());
    }
}
