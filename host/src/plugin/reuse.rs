//! Instances that serve more than one delivery, for plugins that say they can and operators who let them. One serves
//! deliveries of one tenant only: what it remembers is never another's.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Store;

use super::contract::Plugin;
use super::contract::types::Verdict;
use super::ending::Failure;
use super::guest::{self, Guest};
use super::outgoing::Patience;
use super::sandbox::{Ended, Input, Sandbox};
use super::terms::Terms;
use super::{Call, Config};
use crate::subscription::Tenant;

/// Whose deliveries an instance serves.
#[derive(PartialEq, Eq, Hash)]
enum Served {
    /// The operator says whose the subscription is.
    Tenant(Tenant),
    /// The event says whose it is.
    Named(String),
    /// Neither does: then each subscription is a tenant of its own.
    Subscription(Arc<str>),
}

impl Served {
    fn by(call: &Call) -> Served {
        match (&call.tenant, &call.event.tenant) {
            (Some(tenant), _) => Served::Tenant(tenant.clone()),
            (None, Some(name)) => Served::Named(name.clone()),
            (None, None) => Served::Subscription(Arc::clone(&call.subscription_id)),
        }
    }
}

/// An instance with its store, made when first called.
pub(super) struct Instance {
    store: Store<Sandbox>,
    plugin: Option<Plugin>,
    calls: u32,
    made: Instant,
}

impl Instance {
    pub(super) fn new(store: Store<Sandbox>, now: Instant) -> Instance {
        Instance { store, plugin: None, calls: 0, made: now }
    }

    /// Gives it a delivery.
    pub(super) fn begin(&mut self, input: Input) {
        self.store.data_mut().begin(input);
        self.store.set_epoch_deadline(1);
        self.calls += 1;
    }

    /// Asks it what becomes of the delivery. At once, if it imports nothing that may wait; then it may not be over.
    pub(super) async fn call(&mut self, guest: &Guest, at_once: bool) -> wasmtime::Result<Result<Verdict, Failure>> {
        match guest {
            Guest::Component(filter) if at_once => {
                self.store.data_mut().hurry();
                let plugin = match self.plugin.take() {
                    Some(plugin) => plugin,
                    None => filter.instantiate_at_once(&mut self.store)?,
                };
                guest::handle_at_once(self.plugin.insert(plugin), &mut self.store)
            }
            Guest::Component(filter) => {
                let plugin = match self.plugin.take() {
                    Some(plugin) => plugin,
                    None => filter.instantiate(&mut self.store).await?,
                };
                guest::handle(self.plugin.insert(plugin), &mut self.store).await
            }
            Guest::Program(program) => program.call(&mut self.store).await,
        }
    }

    /// How much longer it may take than others.
    pub(super) fn patience(&self) -> Option<Arc<Patience>> {
        self.store.data().patience()
    }

    /// Takes back what it was given; what it made of it is gone.
    pub(super) fn give_up(&mut self) -> Input {
        self.store.data_mut().give_up()
    }

    /// Takes the delivery back.
    pub(super) fn end(&mut self) -> Ended {
        self.store.data_mut().end()
    }

    /// Why it broke off.
    pub(super) fn failure(&self, error: &wasmtime::Error) -> Failure {
        Failure::of(error, self.store.data())
    }

    /// Bytes of memory that it has.
    pub(super) fn memory(&self) -> u64 {
        self.store.data().limiter.memory
    }

    /// Whether it is as good as a new one. Memory never shrinks, so one that has grown large is not.
    fn is_fit(&self, calls_max: NonZeroU32) -> bool {
        let memory_max = self.store.data().terms.limits.memory_max / 2;
        self.plugin.is_some() && self.calls < calls_max.get() && self.memory() <= memory_max
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.made)
    }
}

/// Whose an instance is: a plugin's, by where its terms lie (whoever waits holds on to them), and a tenant's.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Owner(usize, Served);

impl Owner {
    pub(super) fn of(terms: &Arc<Terms>, call: &Call) -> Owner {
        Owner(Arc::as_ptr(terms) as usize, Served::by(call))
    }
}

/// Those that wait.
pub(super) struct Idle {
    waiting: Mutex<Waiting>,
    count_max: usize,
    bytes_max: u64,
    age_max: Duration,
}

impl Idle {
    /// At most so many wait, with so much memory together, over all plugins; none is used when it is older.
    pub(super) fn new(config: &Config) -> Idle {
        let (count_max, bytes_max) = (config.idle_max as usize, config.idle_bytes_max);
        Idle { waiting: Mutex::default(), count_max, bytes_max, age_max: config.idle_age_max }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it is locked")
    }

    /// One that serves this plugin and this tenant. The one that was used last, since it is most likely still in the cache.
    pub(super) fn take(&self, owner: &Owner, now: Instant) -> Option<Box<Instance>> {
        let taken = self.waiting().take(owner);
        taken.filter(|instance| instance.age(now) < self.age_max)
    }

    /// Keeps one for its owner's next delivery, if it is still fit; those that wait longest go if there is too much.
    pub(super) fn park(&self, instance: Box<Instance>, owner: Owner, calls_max: NonZeroU32, now: Instant) {
        if !instance.is_fit(calls_max) || instance.age(now) >= self.age_max {
            return;
        }
        let mut gone = Vec::new();
        let mut waiting = self.waiting();
        waiting.park(owner, instance, now);
        if waiting.by_owner.len() / 2 > self.count_max {
            waiting.by_owner.retain(|_, queue| !queue.is_empty());
        }
        while waiting.count > self.count_max || waiting.bytes > self.bytes_max {
            gone.push(waiting.take_oldest());
        }
        // Dropping an instance takes a while.
        drop(waiting);
        drop(gone);
    }
}

/// Since when they wait; the one that waits longest in front. Empty while all are at work.
type Queue = VecDeque<(Instant, Box<Instance>)>;

#[derive(Default)]
struct Waiting {
    /// Hashed twice in each call; tenants come from outside.
    by_owner: HashMap<Owner, Queue, ahash::RandomState>,
    count: usize,
    bytes: u64,
}

impl Waiting {
    fn take(&mut self, owner: &Owner) -> Option<Box<Instance>> {
        let queue = self.by_owner.get_mut(owner)?;
        let (_, instance) = queue.pop_back()?;
        self.count -= 1;
        self.bytes -= instance.memory();
        Some(instance)
    }

    fn park(&mut self, owner: Owner, instance: Box<Instance>, now: Instant) {
        self.count += 1;
        self.bytes += instance.memory();
        self.by_owner.entry(owner).or_default().push_back((now, instance));
    }

    /// Looks at all: that there is too much is rare, and then something new was made, which took longer.
    fn take_oldest(&mut self) -> Option<Box<Instance>> {
        let waiting = self.by_owner.values_mut().filter(|queue| !queue.is_empty());
        let (_, instance) = waiting.min_by_key(|queue| queue[0].0)?.pop_front()?;
        self.count -= 1;
        self.bytes -= instance.memory();
        Some(instance)
    }
}
