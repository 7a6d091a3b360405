//! The plugins' directory changes while deliveries go on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::process::run;
use tests::world::wasm;
use tests::{RedisServer, TestHost, WeftProcess, World, eventually, root, until};
use weft::config::NamedPlugin;
use weft::plugin::Grant;

/// Each delivery is a line of Redis; more at once tell no more.
const AHEAD: usize = 200;

/// Whose subscription `sub` uses the plugin `p`.
async fn world() -> World {
    World::new().await.subscription("sub", "p", "{}", None)
}

async fn is_in(host: &TestHost, name: &str, state: &str) -> Option<serde_json::Value> {
    host.plugin(name).await.filter(|plugin| plugin["state"] == state)
}

#[tokio::test]
async fn a_plugin_copied_over_another_under_load_is_used_and_nothing_is_lost() {
    let world = Arc::new(world().await);
    world.put("deliver", "p.wasm");
    let host = world.start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(publish_until(Arc::clone(&world), Arc::clone(&stop)));
    let has = |count: usize| move |world: &World| world.receiver.arrived().len() >= count;
    until("the first are delivered", || has(500)(&world)).await;

    world.put("header", "p.wasm");
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
    // A copy straight over it may be seen when it has begun only, which is refused as well.
    assert!(host.metric("weft_plugin_loads_total{result=\"refused\"}") >= 1.0);
    host.stop().await;
}

/// Publishes as fast as it is delivered; returns how many.
async fn publish_until(world: Arc<World>, stop: Arc<AtomicBool>) -> usize {
    let mut published = 0;
    while !stop.load(Ordering::Relaxed) {
        if published < world.receiver.arrived().len() + AHEAD {
            world.publish_as("sub", &format!("n-{published}")).await;
            published += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    published
}

#[tokio::test]
async fn deliveries_wait_for_a_plugin_that_is_found_and_fail_without_one() {
    let mut world = world().await;
    world.config.delivery.max_retries = 0;
    world.put("header", "p.wasm");
    let host = world.start().await;
    world.publish_as("sub", "first").await;
    assert_eq!(
        world.receiver.wait_for(1).await[0].header("x-weft"),
        "seen",
        "it was compiled before anything was received"
    );

    std::fs::remove_file(world.file("p.wasm")).unwrap();
    eventually("it is gone", async || is_in(&host, "p", "refused").await).await;
    world.publish_as("sub", "second").await;
    let letter = eventually("a dead letter", async || world.redis.dead_letters().await.pop()).await;
    assert_eq!(letter["last_error"], "p: there is no such plugin");
    host.stop().await;
}

#[tokio::test]
async fn a_host_is_ready_when_its_chains_are_and_lists_the_rest() {
    let world = world().await;
    world.put("deliver", "p.wasm");
    world.put("wants-http", "curious.wasm");
    std::fs::write(world.file("garbage.wasm"), b"not wasm").unwrap();
    std::fs::write(world.file("two\n\u{1b}lines.wasm"), b"not wasm").unwrap();
    for number in 0..20 {
        world.put("drop", &format!("more-{number}.wasm"));
    }
    let host = world.start().await;
    let ready = async || reqwest::get(host.url("/readyz")).await.is_ok_and(|answer| answer.status() == 200);
    eventually("ready", async || ready().await.then_some(())).await;
    assert_eq!(host.plugin("p").await.unwrap()["state"], "ready");
    world.publish_as("sub", "one").await;
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
    assert!(lines[line("two\\n\\u{1b}lines") + 1].contains("the name must be"), "{}", list.out);

    let list = run(&["plugin", "list", "--json", "--admin", &host.url("")], "").await;
    let plugins: Vec<serde_json::Value> = list.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let plugin = plugins.iter().find(|plugin| plugin["name"] == "p").unwrap();
    assert_eq!((&plugin["usage"]["calls"], &plugin["usage"]["results"]["deliver"]), (&1.into(), &1.into()));
    assert_eq!(plugin["usage"]["memory_bytes_max"], 65536);
    assert_eq!(plugin["imports"][0], "weft:plugin/types@0.1.0");
    host.stop().await;
}

#[tokio::test]
async fn two_hundred_plugins_delay_readiness_by_no_more_than_compiling_what_is_new() {
    let mut world = world().await;
    let cache = world.dir.path().join("cache");
    world.config.plugins.cache_dir = Some(cache.clone());
    world.put("header", "p.wasm");
    let text = std::fs::read_to_string(root().join("tests/fixtures/drop.wat")).unwrap();
    for number in 0..200 {
        let own = wat::parse_str(text.replace("no thanks", &format!("no, {number:05}"))).unwrap();
        std::fs::write(world.file(&format!("more-{number}.wasm")), own).unwrap();
    }
    let plugins = async |host: &TestHost| {
        let answer = reqwest::get(host.url("/v1/plugins")).await.unwrap();
        answer.json::<Vec<serde_json::Value>>().await.unwrap()
    };
    let ready =
        async |host: &TestHost| reqwest::get(host.url("/readyz")).await.is_ok_and(|answer| answer.status() == 200);
    let host = world.start().await;
    eventually("ready", async || ready(&host).await.then_some(())).await;
    let waiting = plugins(&host).await.iter().filter(|plugin| plugin["state"] == "waiting").count();
    assert!(waiting > 100, "only what chains name is waited for, {waiting} wait");
    world.publish_as("sub", "one").await;
    assert_eq!(world.receiver.wait_for(1).await[0].header("x-weft"), "seen");
    let all_ready = async || {
        let all = plugins(&host).await;
        (all.len() == 201 && all.iter().all(|plugin| plugin["state"] == "ready")).then_some(all)
    };
    let took = |plugins: &[serde_json::Value]| -> u64 {
        plugins.iter().map(|plugin| plugin["compile_ms"].as_u64().unwrap()).sum()
    };
    let cold = took(&eventually("all are", all_ready).await);
    host.stop().await;

    // Now chains name all of them, and all but one are what they were.
    world.put("deliver", "more-7.wasm");
    for number in 0..200 {
        world = world.subscription(&format!("sub-{number}"), &format!("more-{number}"), "{}", None);
    }
    let code = || code_files(&cache);
    let before = code();
    let host = world.start().await;
    eventually("ready", async || ready(&host).await.then_some(())).await;
    let all = plugins(&host).await;
    assert!(all.iter().all(|plugin| plugin["state"] == "ready"));
    assert!(took(&all) <= cold, "{} ms out of the cache, {cold} ms without it", took(&all));
    assert_eq!(code().difference(&before).count(), 1, "only the new one is compiled");
    host.stop().await;
}

/// The files of the cache that hold compiled code.
fn code_files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(code_files(&path));
        } else if path.extension().is_none() {
            found.insert(path);
        }
    }
    found
}

/// It was ignored without a word.
#[tokio::test]
async fn reuse_of_a_plugin_that_does_not_allow_it_is_told() {
    let (redis, dir) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let mut config = format!(
        "[queue]\nurl = \"{}\"\n[plugins]\ndir = \"{}\"\nsettle = \"50ms\"\ntime_max = \"20s\"\n",
        redis.url(),
        dir.path().display()
    );
    for name in ["deliver", "described", "drop"] {
        std::fs::write(dir.path().join(format!("{name}.wasm")), wasm(name)).unwrap();
        let reuse = if name == "drop" { "" } else { "reuse = 5" };
        config.push_str(&format!("[plugins.named.{name}]\n{reuse}\n"));
    }
    let weft = WeftProcess::serve(&config).await;
    let list = eventually("all are ready", async || {
        let list = run(&["plugin", "list", "--admin", &weft.admin], "").await.out;
        (list.matches("  ready").count() == 3).then_some(list)
    });
    let (list, told) = (list.await, "reuse = 5 has no effect");
    assert!(list.contains("version 1.2.0: counts its calls\n"), "{list}");
    let lines: Vec<&str> = list.lines().collect();
    let after_it = lines.iter().position(|line| line.starts_with("deliver ")).unwrap() + 1;
    assert!(
        lines[after_it..].iter().take(2).any(|line| line.contains(told)) && list.matches(told).count() == 1,
        "{list}"
    );
    let warnings: Vec<_> = weft.log().lines().filter(|line| line.contains(told)).map(str::to_owned).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("WARN") && warnings[0].contains("deliver"), "{warnings:?}");
}

/// A chain that names what is not there fails its deliveries; nothing told of it before they came.
#[tokio::test]
async fn what_a_chain_names_and_cannot_have_is_told_before_a_delivery_needs_it() {
    let world = world().await.subscription("other", "described", r#"{"mask":5}"#, None);
    world.put("described", "described.wasm");
    let host = world.start().await;
    let warnings = async || -> Vec<String> {
        let ready = reqwest::get(host.url("/readyz")).await.unwrap().text().await.unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let warnings: Vec<String> = serde_json::from_value(ready["warnings"].clone()).unwrap();
        warnings.into_iter().filter(|warning| warning.contains("plugin")).collect()
    };
    let told = async |count: usize, words: &[&str]| {
        let are_told = |told: &Vec<String>| {
            told.len() == count && words.iter().all(|words| told.iter().any(|told| told.contains(words)))
        };
        eventually("the warnings are right", async || Some(warnings().await).filter(are_told)).await
    };
    let (missing, unfit) = ("plugin p, which a chain names: ", "subscriptions.\"other\".plugins[0].settings/mask");
    told(2, &[missing, "there is no such file", unfit]).await;
    assert!(is_in(&host, "p", "refused").await.unwrap()["why"].as_str().unwrap().contains("there is no such file"));
    std::fs::write(world.file("p.wasm"), b"garbage").unwrap();
    told(2, &[missing, "not a WebAssembly file", unfit]).await;
    world.put("deliver", "p.wasm");
    told(1, &[unfit]).await;
    std::fs::remove_file(world.file("p.wasm")).unwrap();
    told(2, &[missing, "there is no such file"]).await;
    host.stop().await;
}

#[tokio::test]
async fn grants_are_listed_with_what_was_asked_for() {
    let mut world = world().await;
    world.put("deliver", "p.wasm");
    world.put("counter", "counter.wasm");
    world.put("counter", "hopeful.wasm");
    let named = NamedPlugin { grants: [Grant::State, Grant::Clock].into(), ..NamedPlugin::default() };
    world.config.plugins.named.insert("counter".to_owned(), named);
    let host = world.start().await;
    let counter = eventually("it is ready", async || is_in(&host, "counter", "ready").await).await;
    assert_eq!(counter["grants"], serde_json::json!(["state", "clock"]));
    assert_eq!(counter["asked_for"], serde_json::json!(["state"]));
    let hopeful = eventually("it is refused", async || is_in(&host, "hopeful", "refused").await).await;
    assert_eq!((&hopeful["grants"], &hopeful["asked_for"]), (&serde_json::json!([]), &serde_json::json!(["state"])));
    let list = run(&["plugin", "list", "--admin", &host.url("")], "").await;
    assert!(list.out.contains("granted: state, clock\n"), "{}", list.out);
    assert_eq!(list.out.matches("asks for: state\n").count(), 2, "{}", list.out);
    assert_eq!(list.out.matches("imports: weft:plugin/state, weft:plugin/types\n").count(), 2, "{}", list.out);
    host.stop().await;
}
