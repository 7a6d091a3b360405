//! One call of one plugin, in an instance of its own that is gone afterwards.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use wasmtime::component::Resource;
use wasmtime::{Engine, Store};

use super::contract::types::Verdict;
use super::ending::{Ending, Failure};
use super::load::{Guest, Loaded};
use super::sandbox::{Input, Sandbox};
use crate::request::Draft;

/// Where calls happen: the engine and its slots.
pub(super) struct Slots {
    engine: Engine,
    /// As many as the pool has slots: an exhausted pool fails instead of waiting.
    permits: Semaphore,
    wait_max: Duration,
}

impl Slots {
    pub(super) fn new(engine: Engine, calls_max: u32, wait_max: Duration) -> Slots {
        Slots { engine, permits: Semaphore::new(calls_max.max(1) as usize), wait_max }
    }

    /// Calls `plugin`. Returns the draft with its edits if the verdict is `deliver`, and as it was otherwise. Dropping the
    /// future ends the call.
    pub(super) async fn call(&self, plugin: &Arc<Loaded>, input: Input) -> (Result<Verdict, Failure>, Draft) {
        // Declared before the store: if the future is dropped, the slot is empty before the permit is free.
        let Ok(permit) = self.permit().await else {
            let error = format!("no slot became free within {:?}", self.wait_max);
            return (Err(Failure::new(Ending::Busy, error)), input.draft);
        };
        let time_max = plugin.limits.time_max;
        let mut store = self.store(plugin, input);
        let answer = tokio::time::timeout(time_max, plugin.guest.call(&mut store)).await;
        let mut sandbox = store.into_data();
        drop(permit);
        plugin.stats.used(sandbox.limiter.memory);
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(Failure::of(&error, &sandbox)),
            Err(_) => Err(Failure::late(time_max)),
        };
        sandbox.flush_log();
        let edited = sandbox.edited.filter(|_| matches!(answer, Ok(Verdict::Deliver)));
        (answer, edited.unwrap_or(sandbox.input.draft))
    }

    /// Makes an instance and drops it. There is a slot for one of these beside those for calls.
    pub(super) async fn instantiate(&self, plugin: &Arc<Loaded>) -> Result<(), Failure> {
        let mut store = self.store(plugin, Input::none());
        let time_max = plugin.limits.time_max;
        match tokio::time::timeout(time_max, plugin.guest.instantiate(&mut store)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::of(&error, store.data())),
            Err(_) => Err(Failure::late(time_max)),
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Elapsed> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let permit = tokio::time::timeout(self.wait_max, self.permits.acquire()).await?;
        Ok(permit.expect("the slots are never closed"))
    }

    fn store(&self, plugin: &Arc<Loaded>, input: Input) -> Store<Sandbox> {
        let sandbox = Sandbox::new(plugin, input);
        let mut store = Store::new(&self.engine, sandbox);
        store.limiter(|sandbox| &mut sandbox.limiter);
        store.set_hostcall_fuel(plugin.limits.hostcall_bytes_max);
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

impl Guest {
    async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<()> {
        match self {
            Guest::Component(pre) => pre.instantiate_async(store).await.map(drop),
            Guest::Program(program) => program.instantiate(store).await,
        }
    }

    async fn call(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Result<Verdict, Failure>> {
        match self {
            Guest::Component(pre) => {
                let instance = pre.instantiate_async(&mut *store).await?;
                // There is one delivery in a store, so its number says nothing.
                let said = instance.weft_plugin_filter().call_handle(store, Resource::new_own(0)).await?;
                Ok(said.map_err(Failure::said))
            }
            Guest::Program(program) => program.call(store).await,
        }
    }
}
