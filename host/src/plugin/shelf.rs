//! The shelf: which version of each plugin is in use, and what is known about its file. Calls take a version from it
//! without waiting and keep it until they end, whatever is put there meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tracing::{info, warn};

use super::load::Loaded;
use super::status::{Rejected, State, Status};
use super::{Loads, Refusal};

type Placed = BTreeMap<String, Arc<Place>>;

/// A plugin's place.
#[derive(Clone)]
struct Place {
    status: Status,
    /// What is called. A bad file does not take it away.
    version: Option<Arc<Loaded>>,
}

impl Place {
    /// With what the version has done until now.
    fn status(&self) -> Status {
        let status = self.status.clone();
        let Some(version) = &self.version else { return status };
        let breaker = version.breaker.state(Instant::now());
        Status { usage: Some(version.stats.usage()), breaker, shadowed: version.shadow.so_far(), ..status }
    }
}

/// All places. Anybody may take; only the watcher puts.
pub(super) struct Shelf {
    placed: ArcSwap<Placed>,
    changed: watch::Sender<()>,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Shelf {
    pub(super) fn new() -> Shelf {
        let (taken, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Shelf { placed: ArcSwap::default(), changed: watch::Sender::new(()), taken, refused }
    }

    /// What to call.
    pub(super) fn version(&self, name: &str) -> Option<Arc<Loaded>> {
        self.placed.load().get(name)?.version.clone()
    }

    /// Whether anything is known of it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.placed.load().contains_key(name)
    }

    /// Whether a file was found and not looked into yet.
    pub(super) fn is_waiting(&self, name: &str) -> bool {
        self.placed.load().get(name).is_some_and(|place| place.status.state == State::Waiting)
    }

    /// Tells from now on when something was placed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// How many files were taken and refused so far.
    pub(super) fn loads(&self) -> Loads {
        Loads { taken: self.taken.load(Ordering::Relaxed), refused: self.refused.load(Ordering::Relaxed) }
    }

    /// Everything there is, by name, with what each version has done.
    pub(super) fn list(&self) -> Vec<Status> {
        let placed = self.placed.load();
        placed.values().map(|place| place.status()).collect()
    }

    /// Why there is nothing to call.
    pub(super) fn why_missing(&self, name: &str) -> String {
        match self.placed.load().get(name).map(|place| &place.status.state) {
            Some(State::Refused(Refusal::Missing)) | None => "there is no such plugin".to_owned(),
            Some(State::Refused(refusal)) => format!("it was refused: {refusal}"),
            // It may have become ready since it was asked for.
            Some(State::Waiting | State::Ready) => "it is still being compiled".to_owned(),
        }
    }

    /// A file was found that nobody has looked into.
    pub(super) fn found(&self, status: &Status) {
        self.change(|placed| {
            placed.entry(status.name.clone()).or_insert_with(|| Place { status: status.clone(), version: None }.into());
        });
    }

    /// A file's content is a plugin: from now on it is what is called.
    pub(super) fn take(&self, status: Status, version: Arc<Loaded>) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let (plugin, digest, size) = (&status.name, &status.digest, status.size);
        info!(plugin, digest, size, compile = ?status.compile, "plugin ready");
        if let Some(setting) = status.in_vain() {
            warn!(plugin, "{setting}");
        }
        let place = Arc::new(Place { status, version: Some(version) });
        self.change(|placed| drop(placed.insert(place.status.name.clone(), Arc::clone(&place))));
    }

    /// A file's content is none. What was called before still is.
    pub(super) fn refuse(&self, status: Status, why: Refusal) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let (name, digest) = (status.name.clone(), status.digest.clone());
        warn!(plugin = name, digest, size = status.size, refusal = %why, "plugin refused");
        let serving = self.placed.load().get(&name).filter(|place| place.version.is_some()).cloned();
        let place = match serving {
            Some(serving) => {
                warn!(plugin = name, digest = serving.status.digest, "the version before stays in use");
                let mut place = Place::clone(&serving);
                place.status.rejected = Some(Rejected { digest, size: status.size, why, since: SystemTime::now() });
                place
            }
            None => Place { status: Status { state: State::Refused(why), ..status }, version: None },
        };
        let place = Arc::new(place);
        self.change(|placed| drop(placed.insert(name.clone(), Arc::clone(&place))));
    }

    /// The file is again what is called already.
    pub(super) fn confirm(&self, name: &str) {
        self.change(|placed| {
            if let Some(place) = placed.get_mut(name) {
                Arc::make_mut(place).status.rejected = None;
            }
        });
    }

    /// The file is gone.
    pub(super) fn remove(&self, name: &str) {
        info!(plugin = name, "plugin gone: its file is not there any more");
        self.change(|placed| drop(placed.remove(name)));
    }

    fn change(&self, change: impl Fn(&mut Placed)) {
        self.placed.rcu(|placed| {
            let mut placed = Placed::clone(placed);
            change(&mut placed);
            placed
        });
        self.changed.send_replace(());
    }
}
