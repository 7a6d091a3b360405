//! What of the queue's store, and of the state that plugins keep, somebody should know, though the host can do its work: looked at now and then, told in the log
//! and in `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use super::shards::LeftOut;
use super::spread::Spread;
use crate::config;
use crate::health::Health;
use crate::queue::{self, Queue};
use crate::store::Store;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// Where to look.
pub(super) struct Dangers {
    left_out: LeftOut,
    spread: Spread,
    state: Option<Arc<Store>>,
}

impl Dangers {
    pub(super) fn of(config: &config::Queue, state: Option<Arc<Store>>) -> Result<Dangers, queue::Error> {
        Ok(Dangers { left_out: LeftOut::of(config)?, spread: Spread::of(config)?, state })
    }

    /// For as long as it is polled. A store that does not answer is asked again; what it said before still counts.
    pub(super) async fn watch(self, queue: Arc<dyn Queue>, health: Arc<Health>) {
        let mut told = 0;
        loop {
            if let Ok(dangers) = self.look(&*queue).await {
                // How much waits where nobody looks changes all the time, which is no news.
                if dangers.len() > told {
                    dangers.iter().for_each(|danger| tracing::warn!("{danger}"));
                }
                told = dangers.len();
                health.warn(dangers);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn look(&self, queue: &dyn Queue) -> Result<Vec<String>, queue::Error> {
        let mut dangers = queue.check().await?;
        dangers.extend(self.left_out.dangers().await?);
        dangers.extend(self.spread.danger().await?);
        if let Some(state) = &self.state {
            dangers.extend(state.failure().await.map(|why| format!("plugins cannot keep their state: {why}")));
        }
        Ok(dangers)
    }
}
