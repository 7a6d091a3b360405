//! Watches the directory: what appears or changes is compiled here, on a thread of its own and one at a time, and put on
//! the shelf when it is known to be good. What lies there is taken for what is wanted; how it got there does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Config;
use super::load::{Content, Findings, Loader};
use super::scan::{self, Found, Identity, Stamp};
use super::shelf::Shelf;
use super::status::{Refusal, State, Status};

/// Changes come in swarms, so a look waits for the rest of the swarm.
const GATHER: Duration = Duration::from_millis(20);
/// Nothing tells that another directory stands under the name, or one where there was none: so often that is asked.
const ASK_WHICH: Duration = Duration::from_secs(1);

/// What is remembered of a file between two looks.
struct Seen {
    file: PathBuf,
    stamp: Option<Stamp>,
    /// Since when it has this stamp.
    since: Instant,
    /// Whether what has this stamp was looked into.
    done: bool,
    /// Since when it is gone.
    gone: Option<Instant>,
}

/// The directory, and what is made of it.
pub(super) struct Watcher {
    config: Arc<Config>,
    loader: Loader,
    shelf: Arc<Shelf>,
    seen: BTreeMap<String, Seen>,
    /// What the chains name; it is compiled before all else.
    chained: BTreeSet<String>,
}

/// Ends the watching when dropped, though not the compiling that may be going on.
pub(super) struct Watching {
    stop: CancellationToken,
    wake: SyncSender<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.cancel();
        // A full channel wakes the thread as well.
        let _ = self.wake.try_send(());
    }
}

impl Watcher {
    /// Has not looked at anything yet.
    pub(super) fn new(config: Arc<Config>, loader: Loader, shelf: Arc<Shelf>) -> Watcher {
        Watcher { config, loader, shelf, seen: BTreeMap::new(), chained: BTreeSet::new() }
    }

    /// Finds out what is in the directory, which counts as settled, and looks into nothing.
    pub(super) fn take_stock(&mut self) -> std::io::Result<()> {
        self.look()?;
        let settled = Instant::now().checked_sub(self.config.pace.settle);
        self.seen.values_mut().for_each(|seen| seen.since = settled.unwrap_or(seen.since));
        Ok(())
    }

    /// Looks into everything, settled or not.
    pub(super) fn load_all(&mut self) {
        let names: Vec<String> = self.seen.keys().cloned().collect();
        for name in names {
            self.load(&name);
        }
    }

    /// Looks into one file, wherever it lies, and into nothing else.
    pub(super) fn load_only(&mut self, file: &Path) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let found = Found { file: file.to_owned(), stamp: Stamp::of(file) };
        self.seen.insert(name.clone(), Seen::of(&found, Instant::now()));
        self.load(&name);
    }

    /// Watches on a thread of its own; what the chains name is looked into before all else.
    pub(super) fn start(mut self, chained: BTreeSet<String>) -> std::io::Result<Watching> {
        self.chained = chained;
        let (wake, wakes) = sync_channel(1);
        let watching = Watching { stop: CancellationToken::new(), wake: wake.clone() };
        let stop = watching.stop.clone();
        let thread = std::thread::Builder::new().name("weft-plugin-watch".to_owned());
        thread.spawn(move || self.run(&stop, &wake, &wakes))?;
        Ok(watching)
    }

    fn run(mut self, stop: &CancellationToken, wake: &SyncSender<()>, wakes: &Receiver<()>) {
        let mut ears = Ears::default();
        while !stop.is_cancelled() {
            ears.listen(&self.config.dir, wake);
            if let Err(error) = self.look() {
                let dir = self.config.dir.display();
                warn!(%dir, %error, "plugins.dir cannot be read; what is loaded stays in use");
            }
            let rescan_every = self.config.pace.rescan_every;
            match self.due(Instant::now()) {
                Some((name, Duration::ZERO)) => self.load(&name),
                due => {
                    let wait = due.map_or(rescan_every, |(_, wait)| wait.min(rescan_every));
                    ears.wait(&self.config.dir, Instant::now() + wait, wakes);
                }
            }
        }
    }

    /// Compares the directory with what is remembered.
    fn look(&mut self) -> std::io::Result<()> {
        let now = Instant::now();
        let found = scan::scan(&self.config.dir)?;
        for (name, found) in &found {
            let is_new = !self.seen.contains_key(name);
            let seen = self.seen.entry(name.clone()).or_insert_with(|| Seen::of(found, now));
            if seen.stamp != found.stamp {
                *seen = Seen::of(found, now);
            }
            seen.gone = None;
            if is_new {
                self.shelf.found(&waiting(&self.config, name, found.file.clone()));
            }
        }
        let gone_after = self.config.pace.gone_after;
        let gone: Vec<String> = self
            .seen
            .iter_mut()
            .filter(|(name, _)| !found.contains_key(*name))
            .filter_map(|(name, seen)| {
                let since = *seen.gone.get_or_insert(now);
                (now.duration_since(since) >= gone_after).then(|| name.clone())
            })
            .collect();
        for name in gone {
            self.seen.remove(&name);
            self.shelf.remove(&name);
        }
        self.name_the_missing();
        Ok(())
    }

    /// What the configuration names and nobody put there.
    fn name_the_missing(&self) {
        let named = self.config.named.keys().chain(&self.chained);
        for name in named.filter(|name| !self.seen.contains_key(*name) && !self.shelf.has(name)) {
            let file = scan::file_of(&self.config.dir, name);
            warn!(plugin = name, file = %file.display(), "{}", Refusal::Missing);
            self.shelf.found(&Status { state: State::Refused(Refusal::Missing), ..waiting(&self.config, name, file) });
        }
    }

    /// Which file to look into next, and how long to wait before that; `None` if there is nothing to wait for.
    fn due(&self, now: Instant) -> Option<(String, Duration)> {
        let pace = &self.config.pace;
        let waits = self.seen.iter().filter_map(|(name, seen)| {
            let wait = match seen.gone {
                Some(since) => (since + pace.gone_after).saturating_duration_since(now).max(GATHER),
                None if seen.done => return None,
                None => (seen.since + pace.settle).saturating_duration_since(now),
            };
            Some((name, wait))
        });
        let (name, wait) = waits.min_by_key(|(name, wait)| (*wait, !self.chained.contains(*name)))?;
        Some((name.clone(), wait))
    }

    fn load(&mut self, name: &str) {
        let Some(seen) = self.seen.get_mut(name) else { return };
        let mut status = waiting(&self.config, name, seen.file.clone());
        let content = Content::read(&seen.file, self.config.file_bytes_max);
        if Stamp::of(&seen.file) != seen.stamp {
            // Written while it was read: what was read may be half of each.
            return;
        }
        seen.done = true;
        let content = match content {
            Ok(content) => content,
            Err(why) => return self.shelf.refuse(status, why),
        };
        (status.digest, status.size) = (content.digest.clone(), content.size());
        if self.shelf.version(name).is_some_and(|version| version.digest == content.digest) {
            return self.shelf.confirm(name);
        }
        let mut findings = Findings::default();
        let loaded = self.loader.load(name, &content, &mut findings);
        let Findings { kind, exports, imports, asks, about, compile } = findings;
        status = Status { kind, exports, imports, asks, about, compile, ..status };
        match loaded {
            Ok(version) => self.shelf.take(Status { state: State::Ready, ..status }, version),
            Err(why) => self.shelf.refuse(status, why),
        }
    }
}

/// Of a file that nobody has looked into.
fn waiting(config: &Config, name: &str, file: PathBuf) -> Status {
    Status { grants: config.granted_to(name), reuse: config.reuse_of(name), ..Status::waiting(name, file) }
}

impl Seen {
    fn of(found: &Found, now: Instant) -> Seen {
        Seen { file: found.file.clone(), stamp: found.stamp, since: now, done: false, gone: None }
    }
}

/// Hears of changes where the file system tells of them. Where it does not, looking now and then is all there is.
#[derive(Default)]
struct Ears {
    watcher: Option<RecommendedWatcher>,
    /// The directory that is listened to: another one may come to stand under its name.
    heard: Option<Identity>,
}

impl Ears {
    fn listen(&mut self, dir: &Path, wake: &SyncSender<()>) {
        let there = identity(dir);
        if there == self.heard {
            return;
        }
        self.heard = there;
        self.watcher = None;
        if there.is_some() {
            match watcher(dir, wake.clone()) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => info!(dir = %dir.display(), %error, "changes of plugins.dir are seen at rescans only"),
            }
        }
    }

    /// Until something changes, and no longer than until then.
    fn wait(&self, dir: &Path, until: Instant, wakes: &Receiver<()>) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if wakes.recv_timeout(left.min(ASK_WHICH)).is_ok() {
                return std::thread::sleep(GATHER);
            }
            if left <= ASK_WHICH || identity(dir) != self.heard {
                return;
            }
        }
    }
}

fn identity(dir: &Path) -> Option<Identity> {
    Stamp::of(dir).map(|stamp| stamp.identity)
}

fn watcher(dir: &Path, wake: SyncSender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| is_change(event.kind)) {
            // A full channel wakes the thread as well.
            let _ = wake.try_send(());
        }
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Opening and reading are told as well, and looking does both.
fn is_change(kind: EventKind) -> bool {
    !kind.is_access() || kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}
