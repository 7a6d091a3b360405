//! A line on a terminal that says how far long work is. Where standard error is none, nothing is said.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Drawn no more often.
const EVERY: Duration = Duration::from_millis(100);
const BAR: usize = 24;

/// How far something is.
pub(super) struct Progress {
    verb: &'static str,
    total: Option<u64>,
    done: u64,
    began: Instant,
    drawn: Option<Instant>,
    is_seen: bool,
}

impl Progress {
    /// Whether anybody would see one.
    pub(super) fn is_seen() -> bool {
        std::io::stderr().is_terminal()
    }

    pub(super) fn new(verb: &'static str, total: Option<u64>) -> Progress {
        Progress { verb, total, done: 0, began: Instant::now(), drawn: None, is_seen: Progress::is_seen() }
    }

    /// One more is done, and this is a line of data about it.
    pub(super) fn say(&mut self, line: &str) {
        // The two may be the same terminal.
        if self.drawn.is_some() && std::io::stdout().is_terminal() {
            self.wipe();
        }
        println!("{line}");
        self.step();
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.is_seen && self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY) {
            eprint!("\r\x1b[K{}", text(self.verb, self.done, self.total, self.began.elapsed()));
            // Nothing is lost if it cannot be shown.
            let _ = std::io::stderr().flush();
            self.drawn = Some(Instant::now());
        }
    }

    /// Takes the line away.
    pub(super) fn end(&mut self) {
        if self.drawn.take().is_some() {
            self.wipe();
        }
    }

    fn wipe(&self) {
        eprint!("\r\x1b[K");
        let _ = std::io::stderr().flush();
    }
}

fn text(verb: &str, done: u64, total: Option<u64>, took: Duration) -> String {
    let per_second = |count: u64| count as f64 / took.as_secs_f64().max(0.001);
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{verb} {done}, {:.0}/s", per_second(done));
    };
    let share = (done as f64 / total as f64).min(1.0);
    let full: String = (0..BAR).map(|at| if (at as f64) < share * BAR as f64 { '█' } else { '░' }).collect();
    let left = took.mul_f64((1.0 - share) / share.max(f64::EPSILON)).as_secs();
    let left = humantime::format_duration(Duration::from_secs(left));
    format!("{full} {verb} {done} of {total}, {:.0}/s, {left} left", per_second(done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_it_is_and_how_long_it_takes() {
        let after = Duration::from_secs(10);
        assert_eq!(text("replayed", 500, None, after), "replayed 500, 50/s");
        assert_eq!(
            text("deleted", 250, Some(1000), after),
            "██████░░░░░░░░░░░░░░░░░░ deleted 250 of 1000, 25/s, 30s left"
        );
        assert!(text("deleted", 7, Some(7), after).ends_with("deleted 7 of 7, 1/s, 0s left"));
    }
}
