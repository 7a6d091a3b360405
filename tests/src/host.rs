//! A host in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft::queue::Queue;
use weft::telemetry::Telemetry;
use weft::{Config, Daemon, Secret, daemon};

use crate::root;

/// A running host; stops when told, or is left behind at the end of the test's runtime.
pub struct TestHost {
    /// Its admin listener.
    pub admin: SocketAddr,
    /// Its queue.
    pub queue: Arc<dyn Queue>,
    /// Its metrics.
    pub telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), daemon::Error>>,
}

/// A configuration for tests: this queue, loopback reachable, any admin port, the seed's secret, and short waits.
#[must_use]
pub fn config(queue_url: &str) -> Config {
    let mut config = Config::default();
    config.queue.url = queue_url.to_owned();
    config.egress.allow = vec!["127.0.0.0/8".parse().expect("a range")];
    config.admin.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.delivery.hmac_secret = Some(Secret::new(b"test-secret"));
    config.delivery.retry_backoff = Duration::from_millis(50);
    config.delivery.worker_count = 2;
    // What all tests compile, they compile once.
    config.plugins.cache_dir = Some(root().join("target/plugin-cache"));
    config
}

impl TestHost {
    /// Starts one with [`config`].
    pub async fn start(queue_url: &str) -> TestHost {
        TestHost::with(config(queue_url)).await
    }

    /// Starts one.
    pub async fn with(config: Config) -> TestHost {
        let daemon = Daemon::start(config).await.expect("the daemon starts");
        let admin = daemon.admin_address().expect("it listens");
        let (queue, telemetry) = (daemon.queue(), daemon.telemetry());
        let stop = CancellationToken::new();
        let running = tokio::spawn(daemon.run(stop.clone().cancelled_owned()));
        TestHost { admin, queue, telemetry, stop, running }
    }

    /// Drains and stops it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("the host ends normally").expect("no task panics");
    }

    /// A URL of its admin listener.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// A plugin as `/v1/plugins` shows it.
    pub async fn plugin(&self, name: &str) -> Option<serde_json::Value> {
        let answer = reqwest::get(self.url("/v1/plugins")).await.expect("an answer");
        let plugins: Vec<serde_json::Value> = answer.json().await.expect("a list of plugins");
        plugins.into_iter().find(|plugin| plugin["name"] == name)
    }

    /// The value of one line of the metrics; zero if it is not there.
    #[must_use]
    pub fn metric(&self, line: &str) -> f64 {
        metric(&self.telemetry.text(), line)
    }
}

/// The value of one line of metrics in text form; zero if it is not there.
#[must_use]
pub fn metric(text: &str, line: &str) -> f64 {
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}
