//! What this host has in hand: handed out, and not yet settled or given back. What a host lost track of, because an answer
//! was lost with its connection, is not here, so nobody keeps it from being claimed.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::entry::{Entry, Handle};

/// What this host has in hand.
#[derive(Debug, Default)]
pub(super) struct Hand(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// With since when, or when that was last said.
    held: HashMap<Handle, Instant>,
    /// Which of them may have killed hosts.
    suspects: HashSet<Handle>,
    /// Which of them the store did not know to be ours when it was asked last.
    doubted: HashSet<Handle>,
}

impl Hand {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock can panic")
    }

    pub(super) fn take(&self, entries: &[Entry]) {
        let now = Instant::now();
        self.inner().held.extend(entries.iter().map(|entry| (entry.handle, now)));
    }

    pub(super) fn let_go<'a>(&self, handles: impl IntoIterator<Item = &'a Handle>) {
        let mut inner = self.inner();
        for handle in handles {
            inner.held.remove(handle);
            inner.suspects.remove(handle);
            inner.doubted.remove(handle);
        }
    }

    /// Lets go of these, except for some.
    pub(super) fn let_go_of_others(&self, handles: &[Handle], kept: &[Entry]) {
        let kept: HashSet<Handle> = kept.iter().map(|entry| entry.handle).collect();
        self.let_go(handles.iter().filter(|handle| !kept.contains(handle)));
    }

    pub(super) fn suspect(&self, handle: Handle) {
        self.inner().suspects.insert(handle);
    }

    /// How many suspects it may take: one that kills its host must be in hand alone, or it condemns others with it.
    pub(super) fn suspects_left(&self) -> usize {
        usize::from(self.inner().suspects.is_empty())
    }

    pub(super) fn all(&self) -> Vec<Handle> {
        self.inner().held.keys().copied().collect()
    }

    /// Of which nothing was said for so long.
    pub(super) fn unsaid_for(&self, long: Duration) -> Vec<Handle> {
        let now = Instant::now();
        let unsaid = |(handle, said): (&Handle, &Instant)| (now.duration_since(*said) >= long).then_some(*handle);
        self.inner().held.iter().filter_map(unsaid).collect()
    }

    /// These were said to be in hand at `at`, and are, but for the lost ones.
    pub(super) fn said(&self, handles: &[Handle], lost: &[Handle], at: Instant) {
        let lost: HashSet<&Handle> = lost.iter().collect();
        let mut inner = self.inner();
        for handle in handles.iter().filter(|handle| !lost.contains(handle)) {
            if let Some(said) = inner.held.get_mut(handle) {
                *said = at;
            }
            inner.doubted.remove(handle);
        }
    }

    /// Those of the lost ones that were lost the last time already. One that is being settled at the same time is only lost
    /// until this host learns that it was settled.
    pub(super) fn doubted_before(&self, lost: &[Handle]) -> Vec<Handle> {
        let mut inner = self.inner();
        let held: Vec<Handle> = lost.iter().filter(|handle| inner.held.contains_key(handle)).copied().collect();
        held.into_iter().filter(|handle| !inner.doubted.insert(*handle)).collect()
    }
}
