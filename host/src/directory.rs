//! The directory: what is on record for each subscription, laid over the defaults.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::subscription::{Ordering, Settings};

/// What is on record. Every subscription has settings; those that nobody wrote down have the defaults.
#[derive(Debug, Clone)]
pub struct Directory {
    /// For subscriptions that are not on record.
    pub defaults: Arc<Settings>,
    /// On record, defaults already filled in.
    pub by_id: HashMap<String, Arc<Settings>>,
}

impl Directory {
    /// The settings of a subscription.
    #[must_use]
    pub fn settings(&self, id: &str) -> Arc<Settings> {
        Arc::clone(self.by_id.get(id).unwrap_or(&self.defaults))
    }

    /// The plugins that any chain names.
    #[must_use]
    pub fn plugins(&self) -> BTreeSet<String> {
        let chains = self.by_id.values().chain([&self.defaults]).flat_map(|settings| &settings.chain);
        chains.map(|plugin| plugin.name.to_string()).collect()
    }

    /// Whether any subscription keeps an order.
    #[must_use]
    pub fn keeps_order(&self) -> bool {
        let mut settings = self.by_id.values().chain([&self.defaults]);
        settings.any(|settings| settings.ordering != Ordering::None)
    }
}
