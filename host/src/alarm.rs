//! The alarm: a task that panics does its work no more, and nobody would notice. It is a bug in Weft, and the host ends then:
//! what it had in hand comes again, and counts as what a dead host left, so that an entry which does this to each host is
//! given up in the end.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Rings when a task that it guards panics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alarm(CancellationToken);

/// A task of the host panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a task panicked, which is a bug in Weft: ended, so that it can be started again; what it had in hand comes again"
)]
pub struct Panicked;

impl Alarm {
    /// To be kept by a task until its end.
    pub(crate) fn arm(&self) -> Armed {
        Armed(self.clone())
    }

    /// The same task, which keeps one.
    pub(crate) fn guard<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        let armed = self.arm();
        async move {
            let _armed = armed;
            task.await
        }
    }

    /// Waits until one panicked.
    pub(crate) async fn rings(&self) {
        self.0.cancelled().await;
    }

    /// Whether one did.
    pub(crate) fn check(&self) -> Result<(), Panicked> {
        if self.0.is_cancelled() { Err(Panicked) } else { Ok(()) }
    }
}

/// Dropped by a panic it rings.
pub(crate) struct Armed(Alarm);

impl Drop for Armed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_for_a_panic_alone() {
        let alarm = Alarm::default();
        assert_eq!(tokio::spawn(alarm.guard(async { 7 })).await.unwrap(), 7);
        let waiting = tokio::spawn(alarm.guard(std::future::pending::<()>()));
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert_eq!(alarm.check(), Ok(()));
        let panics = alarm.guard(async {
            tokio::task::yield_now().await;
            panic!("as told");
        });
        assert!(tokio::spawn(panics).await.unwrap_err().is_panic());
        alarm.rings().await;
        assert_eq!(alarm.check(), Err(Panicked));
    }
}
