//! `weft serve`.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::ConfigArgs;
use crate::daemon::Daemon;

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let daemon = Daemon::start(self.config.load()?).await?;
        if let Some(address) = daemon.admin_address() {
            tracing::info!(admin = %format!("http://{address}"), version = env!("CARGO_PKG_VERSION"), "started");
        }
        survive_file_size_limit()?;
        daemon.run(stop_signal()?).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Where files may not grow beyond a size, writing more is an error like a full disk, and not the end of the process.
fn survive_file_size_limit() -> anyhow::Result<()> {
    // Once it is listened for it ends nothing any more, whether somebody hears it or not.
    let heard = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
    heard.map(drop).context("cannot listen for SIGXFSZ")
}

/// Resolves at the first SIGTERM or SIGINT. A second one ends the process at once.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut either = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        either().await;
        tracing::info!("stopping: letting attempts finish; a second signal ends at once");
        // If nobody waits for it the process is about to end anyway.
        let _ = stop.send(());
        either().await;
        // Who writes the log may not get to it any more.
        eprintln!("weft: ended at once by a second signal; what was in hand comes again");
        std::process::exit(1);
    });
    Ok(async {
        // An error means that the task above is gone, which is a reason to stop as well.
        let _ = stopped.await;
    })
}
