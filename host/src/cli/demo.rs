//! `weft demo`: the newcomer's first minute. A daemon on the embedded queue, a receiver that verifies signatures, real
//! plugins, and events that show what Weft does with them. Nothing here is staged: each line is printed when it happened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio_util::sync::CancellationToken;

use super::serve::stop_signal;
use crate::config::Config;
use crate::daemon::Daemon;
use receiver::Receiver;
use story::Story;

mod receiver;
mod story;

const SECRET: &str = "demo-secret";
const PLUGINS: [&str; 2] = ["match", "redact"];

#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Exit after the story; fails if any of it did not happen.
    #[arg(long)]
    once: bool,
    /// Where the compiled plugins match.wasm and redact.wasm are; `make plugins` puts them there.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/plugins")]
    plugins: PathBuf,
    /// The address of the admin listener.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        for name in PLUGINS {
            let file = self.plugins.join(name).with_extension("wasm");
            ensure!(
                file.exists(),
                "{} is not there: run `make plugins`, or name the directory with --plugins",
                file.display()
            );
        }
        let data = scratch_directory()?;
        let told = self.tell(&data).await;
        // What the demo wrote is of no use to anybody; a leftover in the temporary directory is no failure.
        let _ = std::fs::remove_dir_all(&data);
        told
    }

    async fn tell(&self, data: &Path) -> anyhow::Result<()> {
        let receiver = Receiver::start(SECRET).await.context("cannot start the demo's receiver")?;
        let daemon = Daemon::start(self.config(data)?).await?;
        let admin = daemon.admin_address().context("the admin listener has no address")?;
        let story = Story::new(daemon.queue(), &daemon.telemetry(), Arc::clone(&receiver));
        let stop = CancellationToken::new();
        let running = tokio::spawn(daemon.run(stop.clone().cancelled_owned()));
        println!("Weft is running: embedded queue, receiver at {}, plugins match and redact.\n", receiver.url(""));
        let told = story.tell().await;
        if told.is_ok() && !self.once {
            what_next(admin, &receiver);
            stop_signal()?.await;
        }
        stop.cancel();
        running.await.context("the daemon ended abnormally")??;
        told
    }

    /// The configuration of the demo, as an operator would write it.
    fn config(&self, data: &Path) -> anyhow::Result<Config> {
        let text = format!(
            r#"
[queue]
url = "embedded:{data}"

[delivery]
retry_backoff = "300ms"
timeout = "2s"
hmac_secret = "{SECRET}"

[plugins]
dir = {plugins:?}
cache_dir = {cache:?}

# No part of the story, but it lies there too and would be refused, with a warning.
[plugins.named.dedupe]
grants = ["state"]

[egress]
allow = ["127.0.0.0/8"]

[admin]
listen = "{listen}"

[subscriptions."private"]
plugins = [{{ name = "redact", settings = {{ pointers = ["/globalResourceId", "/extensions/contact"], mask = "***" }} }}]

[subscriptions."only-created"]
plugins = [{{ name = "match", settings = {{ event_types = ["o2ims.*.Created"] }} }}]
"#,
            data = data.join("queue").display(),
            plugins = self.plugins.display().to_string(),
            cache = std::env::temp_dir().join("weft-plugin-cache").display().to_string(),
            listen = self.listen,
        );
        let file = data.join("weft.toml");
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Config::load(Some(&file), std::iter::empty())?)
    }
}

fn what_next(admin: SocketAddr, receiver: &Receiver) {
    println!("\nStill serving, until Ctrl-C. Try, in another terminal:");
    println!("  curl -s http://{admin}/metrics | grep o2ims_");
    println!("  curl -s http://{admin}/v1/plugins");
    println!("  curl -s http://{admin}/v1/dead-letters");
    println!("  target/debug/weft dlq list --admin http://{admin}");
    println!(
        "  echo '{{\"subscriptionId\":\"sub-1\",\"notificationEventType\":\"o2ims.Resource.Created\",\"notificationId\":\"mine\",\"callbackUrl\":\"{}\"}}' | target/debug/weft publish --admin http://{admin}",
        receiver.url("ok")
    );
}

fn scratch_directory() -> anyhow::Result<PathBuf> {
    for _ in 0..16 {
        let path = std::env::temp_dir().join(format!("weft-demo-{:08x}", fastrand::u32(..)));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
    }
    bail!("cannot find a free name under {}", std::env::temp_dir().display())
}

/// Something that should happen soon.
const SOON: Duration = Duration::from_secs(20);
