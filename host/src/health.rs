//! Whether the host can do its work, part by part, and what is in the way if it cannot.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

/// A part of the host that can be unwell. Each is one loop's: one that works would else say so of another that does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Receiving entries.
    Receive,
    /// The retry schedule.
    Schedule,
    /// Bringing back what is parked.
    Parked,
    /// Claiming what dead hosts left.
    Claim,
    /// Recording outcomes.
    Settle,
    /// Telling the other hosts that this one lives.
    Heartbeat,
    /// Asking the store how it is.
    Store,
    /// Plugins that the chains name are still being compiled.
    Plugins,
    /// The host is still starting, or already stopping.
    Lifecycle,
}

impl Part {
    /// All there are.
    pub const ALL: [Part; 9] = [
        Part::Receive,
        Part::Schedule,
        Part::Parked,
        Part::Claim,
        Part::Settle,
        Part::Heartbeat,
        Part::Store,
        Part::Plugins,
        Part::Lifecycle,
    ];

    /// Its name in `/readyz`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Part::Receive => "receive",
            Part::Schedule => "schedule",
            Part::Parked => "parked",
            Part::Claim => "claim",
            Part::Settle => "settle",
            Part::Heartbeat => "heartbeat",
            Part::Store => "store",
            Part::Plugins => "plugins",
            Part::Lifecycle => "lifecycle",
        }
    }
}

const UNPOISONED: &str = "no holder of this lock can panic";

/// What is in the way now.
#[derive(Debug)]
pub struct Health {
    /// By part and shard of the queue, so that one which works says nothing of another.
    causes: Mutex<BTreeMap<(Part, usize), String>>,
    /// In the way of nothing, yet somebody should know.
    warnings: Mutex<Vec<String>>,
}

impl Health {
    /// Not ready before [`Health::started`].
    pub(crate) fn starting() -> Health {
        let cause = ((Part::Lifecycle, 0), "starting".to_owned());
        Health { causes: Mutex::new(BTreeMap::from([cause])), warnings: Mutex::default() }
    }

    pub(crate) fn started(&self) {
        self.causes.lock().expect(UNPOISONED).remove(&(Part::Lifecycle, 0));
    }

    pub(crate) fn stopping(&self) {
        self.causes.lock().expect(UNPOISONED).insert((Part::Lifecycle, 0), "stopping".to_owned());
    }

    /// A part needs time, which is no failure; `None` when it is there.
    pub(crate) fn awaits(&self, part: Part, what: Option<String>) {
        let mut causes = self.causes.lock().expect(UNPOISONED);
        match what {
            Some(what) => drop(causes.insert((part, 0), what)),
            None => drop(causes.remove(&(part, 0))),
        }
    }

    /// Notes how a part fared. The log says so once when it changes, not each time.
    pub fn note<T, E: fmt::Display>(&self, part: Part, result: &Result<T, E>) {
        self.note_of(part, 0, result);
    }

    /// The same for what a part does with one shard of the queue.
    pub fn note_of<T, E: fmt::Display>(&self, part: Part, shard: usize, result: &Result<T, E>) {
        let mut causes = self.causes.lock().expect(UNPOISONED);
        match result {
            Ok(_) => {
                if causes.remove(&(part, shard)).is_some() {
                    tracing::info!(part = part.name(), "works again");
                }
            }
            Err(error) => {
                let cause = error.to_string();
                if causes.insert((part, shard), cause.clone()).is_none() {
                    tracing::error!(part = part.name(), cause, "does not work; trying again until it does");
                }
            }
        }
    }

    /// What endangers events or their pace now, all of it, though the host can do its work.
    pub(crate) fn warn(&self, warnings: Vec<String>) {
        *self.warnings.lock().expect(UNPOISONED) = warnings;
    }

    /// What somebody should look at, ready or not.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().expect(UNPOISONED).clone()
    }

    /// What is in the way, by part; empty when ready.
    #[must_use]
    pub fn causes(&self) -> Vec<(Part, String)> {
        let causes = self.causes.lock().expect(UNPOISONED);
        let mut all: Vec<_> = causes.iter().map(|((part, _), cause)| (*part, cause.clone())).collect();
        all.dedup();
        all
    }
}
