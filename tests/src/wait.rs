//! Waiting for a condition with a deadline, never for a while.

use std::future::Future;
use std::time::{Duration, Instant};

/// Nothing in the suite takes longer, unless a test says so.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Looks every few milliseconds until there is something; panics with `what` when the deadline passes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same for a plain condition.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || std::future::ready(holds().then_some(()))).await;
}
