//! One call of one plugin: in an instance of its own that is gone afterwards, or in one that waits for its next delivery.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use wasmtime::{Engine, Store};

use super::about::About;
use super::contract::types::Verdict;
use super::ending::{Ending, Failure};
use super::guest::Guest;
use super::load::Loaded;
use super::reuse::{Idle, Instance, Tenant};
use super::sandbox::{Ended, Input, Sandbox};
use super::status::Refusal;
use super::terms::Terms;
use super::{Config, Reached};
use crate::request::Draft;

/// What came of a call.
pub(super) struct Called {
    pub answer: Result<Verdict, Failure>,
    /// With the edits if the verdict is `deliver`, as it was otherwise.
    pub draft: Draft,
    /// Limits that it reached and went on.
    pub reached: Vec<Reached>,
}

impl Called {
    /// There was none.
    pub(super) fn not(failure: Failure, draft: Draft) -> Called {
        Called { answer: Err(failure), draft, reached: Vec::new() }
    }
}

/// Where calls happen: the engine and its slots.
pub(super) struct Slots {
    engine: Engine,
    /// As many as the pool has slots: an exhausted pool fails instead of waiting.
    permits: Semaphore,
    wait_max: Duration,
    /// Instances that wait for their next delivery.
    idle: Idle,
}

impl Slots {
    pub(super) fn new(engine: Engine, config: &Config) -> Slots {
        Slots {
            engine,
            permits: Semaphore::new(config.calls_max.max(1) as usize),
            wait_max: config.wait_max,
            idle: Idle::new(config.idle_max as usize, config.idle_bytes_max),
        }
    }

    /// Calls `plugin`. Dropping the future ends the call.
    pub(super) async fn call(&self, plugin: &Arc<Loaded>, input: Input) -> Called {
        // Declared before the instance: if the future is dropped, the slot is empty before the permit is free.
        let Ok(permit) = self.permit().await else {
            let error = format!("no slot became free within {:?}", self.wait_max);
            return Called::not(Failure::new(Ending::Busy, error), input.draft);
        };
        let tenant = plugin.reuse.map(|_| Tenant::of(&input.call));
        let idle = tenant.as_ref().and_then(|tenant| self.idle.take(&plugin.terms, tenant));
        let mut instance = idle.unwrap_or_else(|| Instance::new(self.store(&plugin.terms)).into());
        instance.begin(input);
        let ended = tokio::time::timeout(plugin.terms.limits.time_max, instance.call(&plugin.guest)).await;
        let is_sound = matches!(ended, Ok(Ok(_)));
        let answer = match ended {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(instance.failure(&error)),
            Err(_) => Err(Failure::late(plugin.terms.limits.time_max)),
        };
        plugin.stats.used(instance.memory());
        let Ended { before, edited, reached } = instance.end();
        match (plugin.reuse, tenant) {
            (Some(calls_max), Some(tenant)) if is_sound => self.idle.park(instance, tenant, calls_max),
            _ => drop(instance),
        }
        drop(permit);
        let edited = edited.filter(|_| matches!(answer, Ok(Verdict::Deliver)));
        Called { answer, draft: edited.unwrap_or(before), reached }
    }

    /// Makes a first instance, and asks it what it is. There is a slot for one of these beside those for calls.
    pub(super) async fn register(&self, guest: &Guest, terms: &Arc<Terms>) -> Result<About, Refusal> {
        let mut store = self.store(terms);
        store.data_mut().about = Some(About::default());
        let time_max = terms.limits.time_max;
        match tokio::time::timeout(time_max, guest.register(&mut store)).await {
            Ok(Ok(registered)) => registered.map(|()| store.data_mut().about.take().unwrap_or_default()),
            Ok(Err(error)) => Err(Refusal::Lifeless(Failure::of(&error, store.data()).error)),
            Err(_) => Err(Refusal::Lifeless(Failure::late(time_max).error)),
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Elapsed> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let permit = tokio::time::timeout(self.wait_max, self.permits.acquire()).await?;
        Ok(permit.expect("the slots are never closed"))
    }

    fn store(&self, terms: &Arc<Terms>) -> Store<Sandbox> {
        let mut store = Store::new(&self.engine, Sandbox::new(terms));
        store.limiter(|sandbox| &mut sandbox.limiter);
        store.set_hostcall_fuel(terms.limits.hostcall_bytes_max);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(Sandbox::tick);
        store
    }

    #[cfg(test)]
    pub(super) fn are_all_free(&self, calls_max: u32) -> bool {
        let free = self
            .engine
            .pooling_allocator_metrics()
            .is_none_or(|pool| (pool.component_instances(), pool.memories(), pool.stacks()) == (0, 0, 0));
        free && self.permits.available_permits() == calls_max as usize
    }
}
