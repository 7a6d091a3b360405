//! What a test of plugins needs: a Redis, a receiver, a plugin directory, and subscriptions that use what is in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use weft::Config;
use weft::config::{Overrides, PluginRef};
use weft::subscription::{Mode, OnError};

use crate::{Event, Receiver, RedisServer, TestHost, eventually, host, root};

/// All of it, before a host runs on it.
pub struct World {
    /// Where events come from.
    pub redis: RedisServer,
    /// Where they go.
    pub receiver: Receiver,
    /// The plugin directory.
    pub dir: TempDir,
    /// Of the hosts that are started on it: one retry, and a directory that is soon looked at.
    pub config: Config,
}

impl World {
    /// Without any plugin.
    pub async fn new() -> World {
        let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = host::config(&redis.url());
        config.plugins.dir = dir.path().to_owned();
        config.plugins.settle = Duration::from_millis(50);
        config.plugins.gone_after = Duration::from_millis(200);
        config.delivery.max_retries = 1;
        // Where much else runs, 50 ms of running time may take longer than half a second.
        config.plugins.time_max = Duration::from_secs(20);
        // And a sync of the disk longer than 100 ms.
        config.plugins.state_time_max = Duration::from_secs(10);
        World { redis, receiver, dir, config }
    }

    /// With a guest of `tests/fixtures`, and a subscription of that name which uses it.
    #[must_use]
    pub fn guest(self, name: &str) -> World {
        self.put(name, &format!("{name}.wasm"));
        self.subscription(name, name, "{}", None)
    }

    /// With a plugin that `make plugins hello` compiled, and a subscription of that name which uses it.
    #[must_use]
    pub fn compiled(self, name: &str, settings: &str) -> World {
        let directory = match name {
            "hello-rust" => "target/hello",
            "ask" => "target/fixtures",
            _ => "target/plugins",
        };
        let file = root().join(directory).join(format!("{name}.wasm"));
        assert!(file.exists(), "{} is missing: `make plugins hello` compiles it", file.display());
        std::fs::copy(&file, self.file(&format!("{name}.wasm"))).expect("it is copied");
        self.subscription(name, name, settings, None)
    }

    /// With a subscription that uses one plugin.
    #[must_use]
    pub fn subscription(mut self, id: &str, plugin: &str, settings: &str, on_error: Option<OnError>) -> World {
        let one = PluginRef { name: plugin.to_owned(), settings: settings.to_owned(), on_error, mode: Mode::Live };
        self.config.subscriptions.insert(id.to_owned(), chain(vec![one]));
        self
    }

    /// With guests of `tests/fixtures`, and a subscription that uses them one after the other.
    #[must_use]
    pub fn chain(mut self, id: &str, guests: &[(&str, Mode, OnError)]) -> World {
        let one = |(name, mode, on_error): &(&str, Mode, OnError)| {
            self.put(name, &format!("{name}.wasm"));
            PluginRef { name: (*name).to_owned(), settings: "{}".to_owned(), on_error: Some(*on_error), mode: *mode }
        };
        let plugins = guests.iter().map(one).collect();
        self.config.subscriptions.insert(id.to_owned(), chain(plugins));
        self
    }

    /// A file of the plugin directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a guest of `tests/fixtures` there as people do: a copy, straight over what is there.
    pub fn put(&self, guest: &str, file: &str) {
        std::fs::write(self.file(file), wasm(guest)).expect("it is written");
    }

    /// Starts a host on it.
    pub async fn start(&self) -> TestHost {
        TestHost::with(self.config.clone()).await
    }

    /// The event that [`World::publish`] publishes.
    #[must_use]
    pub fn event(&self, subscription: &str) -> Event {
        Event::to(&self.receiver.url("/")).subscription(subscription).id(format!("to-{subscription}"))
    }

    /// Publishes one event for a subscription.
    pub async fn publish(&self, subscription: &str) {
        self.redis.publish(&self.event(subscription).json()).await;
    }

    /// The same with an id.
    pub async fn publish_as(&self, subscription: &str, id: &str) {
        self.redis.publish(&self.event(subscription).id(id).json()).await;
    }

    /// The one dead letter of a subscription.
    pub async fn dead_letter(&self, subscription: &str) -> HashMap<String, String> {
        eventually("a dead letter", || async {
            self.redis.dead_letters().await.into_iter().find(|letter| letter["subscription_id"] == subscription)
        })
        .await
    }
}

fn chain(plugins: Vec<PluginRef>) -> Overrides {
    Overrides { plugins: Some(plugins), ..Overrides::default() }
}

/// A guest of `tests/fixtures`, compiled.
#[must_use]
pub fn wasm(guest: &str) -> Vec<u8> {
    wat::parse_file(root().join("tests/fixtures").join(format!("{guest}.wat"))).expect("a good fixture")
}
