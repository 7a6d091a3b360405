//! The plugins' directory changes while deliveries go on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tests::process::run;
use tests::{Event, Receiver, RedisServer, TestHost, eventually, host, root, until};
use weft::Config;
use weft::config::{Overrides, PluginRef};
use weft::subscription::Mode;

/// Each delivery is a line of Redis; more at once tell no more.
const AHEAD: usize = 200;

/// A host whose subscription `sub` uses the plugin `p`.
struct World {
    redis: RedisServer,
    receiver: Receiver,
    dir: TempDir,
    config: Config,
}

impl World {
    async fn new() -> World {
        let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
        let dir = tempfile::tempdir().unwrap();
        let mut config = host::config(&redis.url());
        config.plugins.dir = dir.path().to_owned();
        config.plugins.settle = Duration::from_millis(50);
        config.plugins.gone_after = Duration::from_millis(200);
        let plugins =
            Some(vec![PluginRef { name: "p".to_owned(), settings: "{}".to_owned(), on_error: None, mode: Mode::Live }]);
        config.subscriptions.insert("sub".to_owned(), Overrides { plugins, ..Overrides::default() });
        World { redis, receiver, dir, config }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a guest of `tests/fixtures` there as people do: a copy, straight over what is there.
    fn copy(&self, guest: &str, to: &str) {
        std::fs::write(self.file(to), guest_wasm(guest)).unwrap();
    }

    fn event(&self, id: &str) -> Event {
        Event::to(&self.receiver.url("/")).subscription("sub").id(id)
    }
}

fn guest_wasm(guest: &str) -> Vec<u8> {
    wat::parse_file(root().join("tests/fixtures").join(format!("{guest}.wat"))).unwrap()
}

async fn is_in(host: &TestHost, name: &str, state: &str) -> Option<serde_json::Value> {
    host.plugin(name).await.filter(|plugin| plugin["state"] == state)
}

#[tokio::test]
async fn a_plugin_copied_over_another_under_load_is_used_and_nothing_is_lost() {
    let world = Arc::new(World::new().await);
    world.copy("deliver", "p.wasm");
    let host = world_host(&world).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(publish_until(Arc::clone(&world), Arc::clone(&stop)));
    let has = |count: usize| move |world: &World| world.receiver.arrived().len() >= count;
    until("the first are delivered", || has(500)(&world)).await;

    world.copy("header", "p.wasm");
    let is_new = |world: &World| world.receiver.arrived().iter().any(|request| request.header("x-weft") == "seen");
    until("the new one is used", || is_new(&world)).await;

    std::fs::write(world.file("p.wasm"), b"garbage").unwrap();
    let plugin =
        eventually("garbage is seen", async || host.plugin("p").await.filter(|plugin| plugin["rejected"].is_object()));
    let plugin = plugin.await;
    assert_eq!((plugin["state"].as_str(), plugin["why"].as_str()), (Some("ready"), Some("not a WebAssembly file")));
    let before = world.receiver.arrived().len();
    until("deliveries go on", || has(before + 500)(&world)).await;
    stop.store(true, Ordering::Relaxed);
    let published = load.await.unwrap();

    until("all are delivered", || has(published)(&world)).await;
    let arrived = world.receiver.arrived();
    let ids: BTreeSet<&str> = arrived.iter().map(|request| request.header("x-o2ims-notification-id")).collect();
    assert_eq!((arrived.len(), ids.len()), (published, published), "each once");
    assert!(arrived[before..].iter().all(|request| request.header("x-weft") == "seen"), "the good one serves on");
    assert!(world.redis.dead_letters().await.is_empty());
    assert_eq!(host.metric("weft_plugin_calls_total{plugin=\"p\",result=\"deliver\"}"), published as f64);
    until("the metrics tell", || host.metric("weft_plugins{state=\"stale\"}") == 1.0).await;
    assert_eq!(host.metric("weft_plugin_loads_total{result=\"taken\"}"), 2.0);
    assert_eq!(host.metric("weft_plugin_loads_total{result=\"refused\"}"), 1.0);
    host.stop().await;
}

async fn world_host(world: &World) -> TestHost {
    TestHost::with(world.config.clone()).await
}

/// Publishes as fast as it is delivered; returns how many.
async fn publish_until(world: Arc<World>, stop: Arc<AtomicBool>) -> usize {
    let mut published = 0;
    while !stop.load(Ordering::Relaxed) {
        if published < world.receiver.arrived().len() + AHEAD {
            world.redis.publish(&world.event(&format!("n-{published}")).json()).await;
            published += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    published
}

#[tokio::test]
async fn deliveries_wait_for_a_plugin_that_is_found_and_fail_without_one() {
    let mut world = World::new().await;
    world.config.delivery.max_retries = 0;
    world.copy("header", "p.wasm");
    let host = world_host(&world).await;
    world.redis.publish(&world.event("first").json()).await;
    assert_eq!(
        world.receiver.wait_for(1).await[0].header("x-weft"),
        "seen",
        "it was compiled before anything was received"
    );

    std::fs::remove_file(world.file("p.wasm")).unwrap();
    eventually("it is gone", async || host.plugin("p").await.is_none().then_some(())).await;
    world.redis.publish(&world.event("second").json()).await;
    let letter = eventually("a dead letter", async || world.redis.dead_letters().await.pop()).await;
    assert_eq!(letter["last_error"], "p: there is no such plugin");
    host.stop().await;
}

#[tokio::test]
async fn a_host_is_ready_when_its_chains_are_and_lists_the_rest() {
    let world = World::new().await;
    world.copy("deliver", "p.wasm");
    world.copy("wants-http", "curious.wasm");
    std::fs::write(world.file("garbage.wasm"), b"not wasm").unwrap();
    for number in 0..20 {
        world.copy("drop", &format!("more-{number}.wasm"));
    }
    let host = world_host(&world).await;
    let ready = async || reqwest::get(host.url("/readyz")).await.is_ok_and(|answer| answer.status() == 200);
    eventually("ready", async || ready().await.then_some(())).await;
    assert_eq!(host.plugin("p").await.unwrap()["state"], "ready");
    world.redis.publish(&world.event("one").json()).await;
    world.receiver.wait_for(1).await;

    eventually("curious is refused", async || is_in(&host, "curious", "refused").await).await;
    for number in 0..20 {
        eventually("the rest", async || is_in(&host, &format!("more-{number}"), "ready").await).await;
    }
    let list = run(&["plugin", "list", "--admin", &host.url("")], "").await;
    assert_eq!(list.code, Some(0), "{}", list.err);
    let line = |name: &str| list.out.lines().position(|line| line.starts_with(&format!("{name} "))).expect("listed");
    let lines: Vec<&str> = list.out.lines().collect();
    assert!(lines[line("p")].contains("ready  1 calls: 1 deliver; p50 "), "{}", list.out);
    assert!(lines[line("more-7")].ends_with("ready  no calls yet"), "{}", list.out);
    assert!(lines[line("curious") + 1].contains("wasi:http/outgoing-handler"), "{}", list.out);
    assert!(lines[line("garbage") + 1].contains("not a WebAssembly file"), "{}", list.out);

    let list = run(&["plugin", "list", "--json", "--admin", &host.url("")], "").await;
    let plugins: Vec<serde_json::Value> = list.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let plugin = plugins.iter().find(|plugin| plugin["name"] == "p").unwrap();
    assert_eq!((&plugin["usage"]["calls"], &plugin["usage"]["results"]["deliver"]), (&1.into(), &1.into()));
    assert_eq!(plugin["usage"]["memory_bytes_max"], 65536);
    assert_eq!(plugin["imports"][0], "weft:plugin/types@0.1.0");
    host.stop().await;
}
