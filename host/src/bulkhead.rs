//! How many attempts each subscription has under way, so that a slow endpoint cannot take all of a host's slots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Counts attempts under way.
#[derive(Debug, Default)]
pub(crate) struct Bulkhead {
    under_way: Mutex<HashMap<Arc<str>, usize>>,
}

/// An attempt under way; counted until dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    bulkhead: &'a Bulkhead,
    id: Arc<str>,
}

impl Bulkhead {
    /// A place among at most `max` for this subscription; `None` if all are taken.
    #[must_use]
    pub(crate) fn enter(&self, id: &Arc<str>, max: usize) -> Option<Place<'_>> {
        let mut under_way = self.under_way.lock().expect("no holder of this lock can panic");
        let count = under_way.entry(Arc::clone(id)).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { bulkhead: self, id: Arc::clone(id) })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut under_way = self.bulkhead.under_way.lock().expect("no holder of this lock can panic");
        if let Some(count) = under_way.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_gets_its_places_and_no_more() {
        let bulkhead = Bulkhead::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let first = bulkhead.enter(&a, 2);
        let second = bulkhead.enter(&a, 2);
        assert!(first.is_some() && second.is_some());
        assert!(bulkhead.enter(&a, 2).is_none());
        assert!(bulkhead.enter(&b, 2).is_some());
        drop(first);
        assert!(bulkhead.enter(&a, 2).is_some());
        drop(second);
        assert!(bulkhead.under_way.lock().unwrap().is_empty());
    }
}
