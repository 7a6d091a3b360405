//! Which calls are made at once: on the thread's own stack, which is in the processor's caches, where a stack of the
//! instance's own is not. Nothing can interrupt such a call for the sake of others, so it must be short. What turns out
//! longer is begun anew in the way that gives way, and nothing of the first time is left.

use std::sync::atomic::{AtomicU32, Ordering};

/// Interfaces of the host that never wait. What imports another one may have to.
const WAITLESS: [&str; 3] = ["weft:plugin/types@", "weft:plugin/log@", "weft:plugin/registry@"];
/// The plugin's share of a thread's stack, which has [`THREAD_STACK`].
const STACK_MAX: usize = THREAD_STACK / 2;
/// Calls that are not made at once after one that turned out longer.
const REST: u32 = 1000;

/// What threads that call plugins need.
pub(crate) const THREAD_STACK: usize = 2 << 20;
/// How many interruptions a call at once may last.
pub(super) const TICKS_MAX: u8 = 2;

/// It is not over yet.
#[derive(Debug, thiserror::Error)]
#[error("goes on for longer than a call at once may")]
pub(super) struct NotOver;

/// Whether calls of a plugin are made at once.
pub(super) struct Haste {
    is_possible: bool,
    /// Calls until it is tried again.
    resting: AtomicU32,
}

impl Haste {
    /// Of one that imports these, and may use so much stack.
    pub(super) fn new(imports: &[String], stack_bytes_max: usize) -> Haste {
        let is_waitless = |import: &String| WAITLESS.iter().any(|waitless| import.starts_with(waitless));
        let is_possible = stack_bytes_max <= STACK_MAX && imports.iter().all(is_waitless);
        Haste { is_possible, resting: AtomicU32::new(0) }
    }

    /// Whether the next call is.
    pub(super) fn is_due(&self) -> bool {
        if !self.is_possible {
            return false;
        }
        // Two calls that count the same one down only shorten the rest.
        let resting = self.resting.load(Ordering::Relaxed);
        if resting > 0 {
            self.resting.store(resting - 1, Ordering::Relaxed);
        }
        resting == 0
    }

    /// One turned out longer.
    pub(super) fn rest(&self) {
        self.resting.store(REST, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Haste, REST, STACK_MAX};

    fn of(imports: &[&str]) -> Haste {
        let imports: Vec<String> = imports.iter().map(|&import| import.to_owned()).collect();
        Haste::new(&imports, STACK_MAX)
    }

    #[test]
    fn only_what_never_waits_is_called_at_once() {
        assert!(of(&["weft:plugin/types@0.1.0", "weft:plugin/log@0.1.0", "weft:plugin/registry@0.1.3"]).is_due());
        assert!(!of(&["weft:plugin/types@0.1.0", "weft:plugin/state@0.1.0"]).is_due());
        assert!(!of(&["weft:plugin/types@0.1.0", "wasi:clocks/monotonic-clock@0.2.6"]).is_due());
        assert!(!of(&["wasi_snapshot_preview1"]).is_due());
    }

    #[test]
    fn what_may_use_more_stack_than_a_thread_has_is_not() {
        assert!(!Haste::new(&[], STACK_MAX + 1).is_due());
    }

    #[test]
    fn after_a_long_one_it_rests() {
        let haste = of(&[]);
        haste.rest();
        assert_eq!((0..REST).filter(|_| haste.is_due()).count(), 0);
        assert!(haste.is_due());
    }
}
