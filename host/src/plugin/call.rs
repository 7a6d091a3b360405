//! One call of one plugin: in an instance of its own that is gone afterwards, or in one that waits for its next delivery.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::unconstrained;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until};
use wasmtime::Store;

use super::about::About;
use super::contract::types::Verdict;
use super::ending::{Ending, Failure};
use super::engine::Engines;
use super::guest::Guest;
use super::haste::NotOver;
use super::load::Loaded;
use super::outgoing::Patience;
use super::reuse::{Idle, Instance, Owner};
use super::sandbox::{Ended, Input, Sandbox};
use super::status::Refusal;
use super::terms::Terms;
use super::{Asked, Config, Error, Reached, tick};
use crate::request::Draft;

/// What came of a call.
pub(super) struct Called {
    pub answer: Result<Verdict, Failure>,
    /// With the edits if the verdict is `deliver`, as it was otherwise.
    pub draft: Draft,
    /// Limits that it reached and went on.
    pub reached: Vec<Reached>,
    /// How its requests to other servers ended.
    pub asked: Vec<Asked>,
    /// Bytes of memory that it had.
    pub memory: u64,
    /// When it ended.
    pub ended: Instant,
}

impl Called {
    /// There was none.
    pub(super) fn not(failure: Failure, draft: Draft) -> Called {
        let ended = Instant::now();
        Called { answer: Err(failure), draft, reached: Vec::new(), asked: Vec::new(), memory: 0, ended }
    }
}

/// A place for a call.
struct Permit<'s> {
    _asking: Option<SemaphorePermit<'s>>,
    _slot: SemaphorePermit<'s>,
}

async fn take(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    match semaphore.try_acquire() {
        Ok(permit) => permit,
        Err(_) => semaphore.acquire().await.expect("the slots are never closed"),
    }
}

/// Waits for a call no longer than it may take; `None` if it took longer. Each request to another server that it begins
/// gives it more time.
async fn within<T>(
    began: Instant,
    time_max: Duration,
    patience: Option<Arc<Patience>>,
    mut call: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut granted = time_max;
    // Most calls end without having to wait, and a timer costs as much as a question of theirs.
    let mut timer = None;
    poll_fn(|context| {
        if let Poll::Ready(done) = call.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(began + granted)));
        // Also looked at when what the call did has used up the task's turn.
        while pin!(unconstrained(timer.as_mut())).poll(context).is_ready() {
            let so_far = patience.as_ref().map_or(Duration::ZERO, |patience| patience.so_far());
            let longer = time_max.saturating_add(so_far);
            if longer <= granted {
                return Poll::Ready(None);
            }
            granted = longer;
            timer.as_mut().reset(began + granted);
        }
        Poll::Pending
    })
    .await
}

/// With nothing in it yet.
fn store(guest: &Guest, terms: &Arc<Terms>) -> Store<Sandbox> {
    let mut store = Store::new(guest.engine(), Sandbox::new(terms));
    store.limiter(|sandbox| &mut sandbox.limiter);
    store.set_hostcall_fuel(terms.limits.hostcall_bytes_max);
    store.set_max_component_handles(terms.limits.handles_max);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(Sandbox::tick);
    store
}

/// Places for those who run plugins.
struct Places {
    /// As many as each pool has slots: an exhausted pool fails instead of waiting.
    calls: Semaphore,
    calls_max: usize,
    /// Half as many, for plugins that wait for other servers: they must not have all.
    asking: Semaphore,
    /// For first instances, one at a time; the pools have a slot for it beside those for calls.
    first: Semaphore,
}

impl Places {
    fn new(calls_max: u32) -> Places {
        let half = (calls_max / 2).max(1) as usize;
        let calls_max = calls_max.max(1) as usize;
        let (calls, asking, first) = (Semaphore::new(calls_max), Semaphore::new(half), Semaphore::new(1));
        Places { calls, calls_max, asking, first }
    }

    fn is_any_taken(&self) -> bool {
        self.calls.available_permits() < self.calls_max || self.first.available_permits() == 0
    }
}

/// Where calls happen.
pub(super) struct Slots {
    #[cfg_attr(
        not(any(test, feature = "fuzz")),
        expect(dead_code, reason = "tests ask whether their pools are empty")
    )]
    engines: Engines,
    places: Arc<Places>,
    wait_max: Duration,
    /// Instances that wait for their next delivery.
    idle: Idle,
}

impl Slots {
    pub(super) fn new(engines: Engines, config: &Config) -> Result<Slots, Error> {
        let places = Arc::new(Places::new(config.calls_max));
        tick::start(engines.clone(), &places, Places::is_any_taken)?;
        Ok(Slots { engines, places, wait_max: config.wait_max, idle: Idle::new(config) })
    }

    /// Calls `plugin`. Dropping the future ends the call.
    ///
    /// The clock is read no more often than it must be: a reused call is so short that each reading shows.
    pub(super) async fn call(&self, plugin: &Arc<Loaded>, input: Input, now: Instant) -> Called {
        // Declared before the instance: if the future is dropped, the slot is empty before the permit is free.
        let Ok((permit, began)) = self.permit(plugin, now).await else {
            let error = format!("no slot became free within {:?}", self.wait_max);
            return Called::not(Failure::new(Ending::Busy, error), input.draft);
        };
        let owner = plugin.reuse.map(|_| Owner::of(&plugin.terms, &input.call));
        let idle = owner.as_ref().and_then(|owner| self.idle.take(owner, began));
        let mut instance = idle.unwrap_or_else(|| Instance::new(store(&plugin.guest, &plugin.terms), began).into());
        instance.begin(input);
        let (time_max, patience) = (plugin.terms.limits.time_max, instance.patience());
        let called = within(began, time_max, patience, pin!(self.ask(plugin, &mut instance))).await;
        let ended = Instant::now();
        let is_sound = matches!(called, Some(Ok(_)));
        let answer = match called {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => Err(instance.failure(&error)),
            None => Err(Failure::late(time_max)),
        };
        let memory = instance.memory();
        let Ended { before, edited, reached, asked } = instance.end();
        match (plugin.reuse, owner) {
            (Some(calls_max), Some(owner)) if is_sound => self.idle.park(instance, owner, calls_max, ended),
            _ => drop(instance),
        }
        drop(permit);
        let edited = edited.filter(|_| matches!(answer, Ok(Verdict::Deliver)));
        Called { answer, draft: edited.unwrap_or(before), reached, asked, memory, ended }
    }

    /// Asks an instance that was given a delivery; another one, if that call was to be over at once and is not.
    async fn ask(&self, plugin: &Loaded, instance: &mut Box<Instance>) -> wasmtime::Result<Result<Verdict, Failure>> {
        if !plugin.haste.is_due() {
            return instance.call(&plugin.guest, false).await;
        }
        match instance.call(&plugin.guest, true).await {
            Err(error) if error.is::<NotOver>() => {
                plugin.haste.rest();
                let input = instance.give_up();
                *instance = Instance::new(store(&plugin.guest, &plugin.terms), Instant::now()).into();
                instance.begin(input);
                instance.call(&plugin.guest, false).await
            }
            answered => answered,
        }
    }

    /// Makes a first instance, and asks it what it is.
    pub(super) async fn register(&self, guest: &Guest, terms: &Arc<Terms>) -> Result<About, Refusal> {
        let _place = take(&self.places.first).await;
        let mut store = store(guest, terms);
        store.data_mut().about = Some(About::default());
        let time_max = terms.limits.time_max;
        match tokio::time::timeout(time_max, guest.register(&mut store)).await {
            Ok(Ok(registered)) => registered.map(|()| store.data_mut().about.take().unwrap_or_default()),
            Ok(Err(error)) => Err(Refusal::Lifeless(Failure::of(&error, store.data()).error)),
            Err(_) => Err(Refusal::Lifeless(Failure::late(time_max).error)),
        }
    }

    /// A place, and since when.
    async fn permit(&self, plugin: &Loaded, now: Instant) -> Result<(Permit<'_>, Instant), Elapsed> {
        let asks = plugin.terms.way_out.is_some();
        if !asks && let Ok(slot) = self.places.calls.try_acquire() {
            return Ok((Permit { _asking: None, _slot: slot }, now));
        }
        let waiting = async {
            // First the one that fewer have, so that nobody holds one of the others while it waits.
            let asking = if asks { Some(take(&self.places.asking).await) } else { None };
            (Permit { _asking: asking, _slot: take(&self.places.calls).await }, Instant::now())
        };
        tokio::time::timeout(self.wait_max, waiting).await
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn are_all_free(&self, calls_max: u32) -> bool {
        self.engines.are_empty() && self.places.calls.available_permits() == calls_max as usize
    }
}
