//! What of the queue's store, of the state that plugins keep, and of the plugins that chains name somebody should know, though the host can do its
//! work: looked at now and then, told in `/readyz` and in the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::shards::LeftOut;
use super::spread::Spread;
use crate::config::{Config, PluginRef};
use crate::health::Health;
use crate::plugin::Plugins;
use crate::queue::{self, Queue};
use crate::store::Store;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// After a change of plugins.
const GATHER: Duration = Duration::from_millis(200);

/// Where to look.
pub(super) struct Dangers {
    left_out: LeftOut,
    spread: Spread,
    state: Option<Arc<Store>>,
    plugins: Arc<Plugins>,
    /// What the chains name.
    chained: BTreeSet<String>,
    /// The same with their settings, and where those stand.
    used: Vec<(String, PluginRef)>,
}

impl Dangers {
    pub(super) fn of(
        config: &Config,
        state: Option<Arc<Store>>,
        plugins: Arc<Plugins>,
        chained: BTreeSet<String>,
    ) -> Result<Dangers, queue::Error> {
        let (left_out, spread) = (LeftOut::of(&config.queue)?, Spread::of(&config.queue)?);
        Ok(Dangers { left_out, spread, state, plugins, chained, used: config.plugins_used() })
    }

    /// For as long as it is polled. A store that does not answer is asked again; what it said before still counts.
    pub(super) async fn watch(self, queue: Arc<dyn Queue>, health: Arc<Health>) {
        let (mut dangers, mut unfit) = (Vec::new(), BTreeSet::new());
        let mut changes = self.plugins.changes();
        loop {
            if let Ok(found) = self.look(&*queue).await {
                // How much waits where nobody looks changes all the time, which is no news.
                if found.len() > dangers.len() {
                    found.iter().for_each(|danger| tracing::warn!("{danger}"));
                }
                dangers = found;
            }
            let is_unfit = super::unfit(&self.used, &self.plugins);
            is_unfit.difference(&unfit).for_each(|mistake| tracing::warn!("{mistake}"));
            unfit = is_unfit;
            // Of these the log told when their files were looked into.
            let in_want = self.plugins.in_want(&self.chained);
            health.warn(dangers.iter().chain(&in_want).chain(&unfit).cloned().collect());
            let changed = async { changes.changed().await.is_ok() };
            // Plugins that come in a swarm are looked at once.
            if tokio::time::timeout(EVERY, changed).await == Ok(true) {
                tokio::time::sleep(GATHER).await;
            }
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
