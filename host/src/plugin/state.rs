//! The `state` interface: what a plugin keeps from one call to the next, for those that the operator granted it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Reached;
use super::contract::state::{Host, StateError};
use super::sandbox::Sandbox;
use super::terms::Terms;
use crate::state::{Act, Answer, Error, KEY_BYTES_MAX, Request, VALUE_BYTES_MAX};

/// Where the state of plugins is kept.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync {
    /// Does what is asked, in one atomic step.
    async fn perform(&self, request: Request) -> Result<Answer, Error>;
}

/// One plugin's share of it.
pub(super) struct State {
    pub store: Arc<dyn StateStore>,
    /// Bytes of all it keeps.
    pub quota: u64,
    /// A plugin waits no longer for an answer.
    pub wait_max: Duration,
}

impl Terms {
    async fn perform(&self, key: String, act: Act) -> wasmtime::Result<Result<Answer, StateError>> {
        let Some(state) = &self.state else { return Err(wasmtime::Error::msg("state was not granted")) };
        if key.len() > KEY_BYTES_MAX || value_bytes(&act) > VALUE_BYTES_MAX {
            return Ok(Err(StateError::TooLarge));
        }
        let request = Request { plugin: Arc::clone(&self.name), key, act, quota: state.quota };
        let answer = tokio::time::timeout(state.wait_max, state.store.perform(request)).await;
        let late = |_| Error::Unavailable(format!("it did not answer within {:?}", state.wait_max));
        Ok(answer.map_err(late).flatten().map_err(|error| match error {
            Error::Quota => StateError::Quota,
            Error::NotANumber => StateError::NotANumber,
            Error::Unavailable(why) => {
                // Where the store is, is none of the plugin's business.
                tracing::warn!(plugin = &*self.name, why, "no state");
                StateError::Unavailable("the store does not answer".to_owned())
            }
        }))
    }
}

impl Sandbox {
    async fn perform(&mut self, key: String, act: Act) -> wasmtime::Result<Result<Answer, StateError>> {
        // The sandbox itself cannot be looked at by two threads, and so not while somebody waits.
        let answer = Arc::clone(&self.terms).perform(key, act).await?;
        match &answer {
            Err(StateError::Quota | StateError::TooLarge) => self.reached(Reached::State),
            Err(StateError::Unavailable(_)) => self.reached(Reached::StateTime),
            Err(StateError::NotANumber) | Ok(_) => {}
        }
        Ok(answer)
    }
}

fn value_bytes(act: &Act) -> usize {
    match act {
        Act::Set { value, .. } | Act::SetIfAbsent { value, .. } => value.len(),
        Act::Get | Act::Increment { .. } | Act::Delete => 0,
    }
}

fn lifetime(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(Duration::from_millis)
}

impl Host for Sandbox {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, StateError>> {
        let answer = self.perform(key, Act::Get).await?;
        Ok(answer.map(|answer| match answer {
            Answer::Value(value) => value.map(Into::into),
            Answer::Done | Answer::Kept(_) | Answer::Number(_) => None,
        }))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), StateError>> {
        let act = Act::Set { value: value.into(), lifetime: lifetime(ttl_ms) };
        Ok(self.perform(key, act).await?.map(|_| ()))
    }

    async fn set_if_absent(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<bool, StateError>> {
        let act = Act::SetIfAbsent { value: value.into(), lifetime: lifetime(ttl_ms) };
        Ok(self.perform(key, act).await?.map(|answer| answer == Answer::Kept(true)))
    }

    async fn increment(
        &mut self,
        key: String,
        by: i64,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<i64, StateError>> {
        let answer = self.perform(key, Act::Increment { by, lifetime: lifetime(ttl_ms) }).await?;
        Ok(answer.map(|answer| match answer {
            Answer::Number(number) => number,
            Answer::Value(_) | Answer::Done | Answer::Kept(_) => 0,
        }))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), StateError>> {
        Ok(self.perform(key, Act::Delete).await?.map(|_| ()))
    }
}
