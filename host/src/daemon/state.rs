//! Joins the plugins to where their state is kept.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Config, Error};
use crate::plugin::{Grant, StateStore};
use crate::queue;
use crate::state::{self, Answer, Request};
use crate::store::Store;

/// Beside the queue, if any plugin was granted state.
pub(super) fn open(config: &Config) -> Result<Option<Arc<Store>>, Error> {
    if !config.plugins.named.values().any(|named| named.grants.contains(&Grant::State)) {
        return Ok(None);
    }
    let url = &config.queue.url;
    let store = match url.strip_prefix("embedded:") {
        Some(directory) => Store::embedded(Path::new(directory))?,
        None => Store::redis(config.queue.address().map_err(|error| queue::Error::BadUrl(error.to_string()))?),
    };
    Ok(Some(Arc::new(store)))
}

#[async_trait]
impl StateStore for Store {
    async fn perform(&self, request: Request) -> Result<Answer, state::Error> {
        Store::perform(self, request).await
    }
}
