//! Plugins in shadow: they run on live deliveries, beside them and without effect, and what they would have done is
//! counted. A delivery neither waits for its shadows nor fails with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::breaker::{Breaker, Breaking};
use super::call::{Called, Slots};
use super::difference::changes;
use super::load::Loaded;
use super::sandbox::Input;
use super::stats::Stats;
use super::{Ending, Usage};

/// Different places that are counted by name; further ones are counted together.
const PLACES_MAX: usize = 64;
const OTHERS: &str = "others";

const UNPOISONED: &str = "no holder of this lock can panic";

/// What a version did in shadow.
pub(super) struct Shadow {
    stats: Stats,
    /// Not that of the calls that count: what fails in shadow costs those nothing.
    breaker: Breaker,
    effects: Mutex<Effects>,
}

#[derive(Default)]
struct Effects {
    unchanged: u64,
    changed: u64,
    places: BTreeMap<String, u64>,
}

/// What a version did in shadow, and would have done in the light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadowed {
    /// Its calls.
    pub usage: Usage,
    /// Deliveries that it would have let go as they were.
    pub unchanged: u64,
    /// Deliveries that it would have changed.
    pub changed: u64,
    /// Where, and how often.
    pub places: BTreeMap<String, u64>,
}

impl Shadow {
    pub(super) fn new(breaking: Breaking) -> Shadow {
        Shadow { stats: Stats::new(), breaker: Breaker::new(breaking), effects: Mutex::default() }
    }

    /// `None` if it never ran in shadow.
    pub(super) fn so_far(&self) -> Option<Shadowed> {
        let usage = self.stats.usage();
        if usage.calls == 0 {
            return None;
        }
        let effects = self.effects.lock().expect(UNPOISONED);
        let Effects { unchanged, changed, places } = &*effects;
        Some(Shadowed { usage, unchanged: *unchanged, changed: *changed, places: places.clone() })
    }

    fn would_change(&self, places: &[String]) {
        let mut effects = self.effects.lock().expect(UNPOISONED);
        if places.is_empty() {
            effects.unchanged += 1;
            return;
        }
        effects.changed += 1;
        for place in places {
            let is_known = effects.places.contains_key(place) || effects.places.len() < PLACES_MAX;
            let place = if is_known { place.as_str() } else { OTHERS };
            *effects.places.entry(place.to_owned()).or_default() += 1;
        }
    }
}

/// How often shadows ended how, by plugin, since the start and over all versions.
pub type Totals = BTreeMap<(String, Ending), u64>;

/// The shadows that run now.
pub(super) struct Shadows {
    slots: Arc<Slots>,
    /// Shadows take no more than a part of the places for calls.
    permits: Arc<Semaphore>,
    running: TaskTracker,
    stop: CancellationToken,
    totals: Arc<Mutex<Totals>>,
}

impl Shadows {
    pub(super) fn new(slots: Arc<Slots>, calls_max: u32) -> Shadows {
        let permits = Arc::new(Semaphore::new((calls_max / 4).max(1) as usize));
        Shadows { slots, permits, running: TaskTracker::new(), stop: CancellationToken::new(), totals: Arc::default() }
    }

    /// Starts one, if there is a place for it.
    pub(super) fn cast(&self, version: Arc<Loaded>, input: Input) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return count(&self.totals, &version.name, Ending::Busy);
        };
        let (slots, totals) = (Arc::clone(&self.slots), Arc::clone(&self.totals));
        let running = async move {
            let ending = run(&slots, &version, input).await;
            count(&totals, &version.name, ending);
            drop(permit);
        };
        self.running.spawn(self.stop.clone().run_until_cancelled_owned(running));
    }

    /// There is none of that name.
    pub(super) fn missing(&self, name: &str) {
        count(&self.totals, name, Ending::Missing);
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.lock().expect(UNPOISONED).clone()
    }

    /// Ends those that run.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }
}

async fn run(slots: &Slots, version: &Arc<Loaded>, input: Input) -> Ending {
    let (began, before) = (Instant::now(), input.draft.clone());
    let Ok(pass) = version.shadow.breaker.enter(began.into_std()) else { return Ending::Open };
    let Called { answer, draft: after, memory, ended, .. } = slots.call(version, input, began).await;
    let ending = Ending::of(&answer);
    pass.ended(ending, ended.into_std());
    version.shadow.stats.ended(ending, ended - began, memory);
    if ending == Ending::Deliver {
        let places: Vec<String> = changes(&before, &after).iter().map(ToString::to_string).collect();
        version.shadow.would_change(&places);
    }
    ending
}

fn count(totals: &Mutex<Totals>, name: &str, ending: Ending) {
    *totals.lock().expect(UNPOISONED).entry((name.to_owned(), ending)).or_default() += 1;
}
