//! Plugins that do not count, yet or any more: in shadow, with an open breaker, on dead letters.

use std::path::PathBuf;
use std::time::Duration;

use tests::process::run;
use tests::world::wasm;
use tests::{Answer, World, eventually, until};
use weft::subscription::{Mode, OnError};

#[tokio::test]
async fn a_shadow_has_no_effect_and_is_listed_with_what_it_would_have_done() {
    let chain = [("header", Mode::Shadow, OnError::Retry), ("drop", Mode::Shadow, OnError::Retry)];
    let world = World::new().await.chain("sub", &chain);
    let host = world.start().await;
    for number in 0..3 {
        world.publish_as("sub", &format!("n-{number}")).await;
    }
    assert!(world.receiver.wait_for(3).await.iter().all(|request| request.header("x-weft").is_empty()));
    let total = "weft_plugin_shadow_calls_total{plugin=\"drop\",result=\"drop\"}";
    until("they are counted", || host.metric(total) == 3.0).await;
    assert_eq!(host.metric("weft_plugin_calls_total{plugin=\"drop\",result=\"drop\"}"), 0.0);
    let shadow = eventually("header is done", async || {
        host.plugin("header").await.map(|plugin| plugin["shadow"].clone()).filter(|shadow| shadow["changed"] == 3)
    });
    let shadow = shadow.await;
    assert_eq!(shadow["places"]["+ header x-weft"], 3);
    assert_eq!(shadow["usage"]["memory_bytes_max"], 65536);
    assert_eq!(host.plugin("header").await.unwrap()["usage"]["memory_bytes_max"], 0, "its memory is not a live call's");
    let list = run(&["plugin", "list", "--admin", &host.url("")], "").await;
    for words in ["in shadow  3 calls: 3 drop; p50 ", "3 would have changed, 0 not", "3 + header x-weft"] {
        assert!(list.out.contains(words), "{}", list.out);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_keeps_failing_is_not_called_and_deliveries_go_on_without() {
    let mut world = World::new().await.chain("sub", &[("loop", Mode::Live, OnError::Deliver)]);
    world.config.plugins.cpu_max = Duration::from_millis(5);
    world.config.plugins.breaker_failures = 3;
    world.config.plugins.breaker_wait = Duration::from_secs(3600);
    world.config.plugins.breaker_wait_max = Duration::from_secs(3600);
    let host = world.start().await;
    for number in 0..10 {
        world.publish_as("sub", &format!("n-{number}")).await;
        world.receiver.wait_for(number + 1).await;
    }
    let calls = |result: &str| host.metric(&format!("weft_plugin_calls_total{{plugin=\"loop\",result=\"{result}\"}}"));
    assert_eq!((calls("cpu"), calls("open")), (3.0, 7.0));
    until("the metrics tell", || host.metric("weft_plugin_breaker_open{plugin=\"loop\"}") == 1.0).await;
    assert_eq!(host.plugin("loop").await.unwrap()["breaker"]["state"], "open");
    let list = run(&["plugin", "list", "--admin", &host.url("")], "").await;
    assert!(list.out.contains("it keeps failing and is not called"), "{}", list.out);
    host.stop().await;
}

#[tokio::test]
async fn a_dry_run_shows_what_a_new_version_would_do_with_dead_letters() {
    let mut world = World::new().await;
    world.config.delivery.max_retries = 0;
    world.receiver.answers("/", |_| Answer::status(500));
    let host = world.start().await;
    for id in ["a", "b"] {
        world.publish_as("sub", id).await;
    }
    world.redis.publish("not json").await;
    let admin = host.url("");
    eventually("three dead letters", async || (world.redis.dead_letters().await.len() == 3).then_some(())).await;
    let file = |name: &str| -> PathBuf {
        let file = world.file(&format!("{name}.wasm"));
        std::fs::write(&file, wasm(name)).unwrap();
        file
    };
    let dry_run = async |name: &str, words: &[&str]| {
        let file = file(name).display().to_string();
        let all = ["dlq", "replay", "--dry-run", "--plugin", &file, "--admin", &admin];
        run(&[&all, words].concat(), "").await
    };
    let ran = dry_run("header", &["--all"]).await;
    assert_eq!((ran.code, ran.out.matches("    + header x-weft").count()), (Some(0), 2), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("3 letters, nothing replayed: 2 deliver, 1 unreadable"), "{}", ran.err);
    let ran = dry_run("drop", &["--all", "--subscription", "sub", "--json"]).await;
    let shown: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown.iter().all(|shown| shown["result"] == "drop" && shown["why"] == "no thanks"), "{}", ran.out);
    let id = shown[0]["id"].as_str().unwrap();
    let ran = dry_run("trap", &[id]).await;
    assert!(ran.out.contains("failed") && ran.out.contains("unreachable"), "{}", ran.out);
    let ran = dry_run("counter", &["--all", "--subscription", "sub", "--grant", "state", "--json"]).await;
    let counted: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = shown.iter().map(|shown| shown["id"].as_str().unwrap()).collect();
    assert!(ids[0] < ids[1], "the oldest first, as a replay takes them: {ids:?}");
    let counts: Vec<&str> = counted.iter().map(|shown| shown["why"].as_str().unwrap()).collect();
    assert_eq!((counted[0]["id"].as_str(), counts), (Some(ids[0]), vec!["1", "2"]));
    let ran = dry_run("wants-http", &["--all"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("wasi:http"), "{}", ran.err);
    let ran = run(&["dlq", "replay", "--dry-run", "--all", "--admin", &admin], "").await;
    assert!(ran.code == Some(0) && ran.err.contains("3 letters, nothing replayed"), "{}", ran.err);
    let ran = run(&["dlq", "replay", "--plugin", "p.wasm", "--all", "--admin", &admin], "").await;
    assert!(ran.code == Some(64) && ran.err.contains("--dry-run"), "{}", ran.err);
    assert_eq!(world.redis.dead_letters().await.len(), 3, "nothing was replayed");
    host.stop().await;
}

#[tokio::test]
async fn a_dry_run_has_each_subscriptions_settings() {
    let mut world = World::new().await.compiled("redact", r#"{"pointers":["/objectRef"]}"#);
    world = world.subscription("masks", "redact", r#"{"pointers":["/objectRef"],"mask":"-"}"#, None);
    world.config.delivery.max_retries = 0;
    world.receiver.answers("/", |_| Answer::status(500));
    let host = world.start().await;
    world.publish("redact").await;
    world.publish("masks").await;
    eventually("two dead letters", async || (world.redis.dead_letters().await.len() == 2).then_some(())).await;
    let config = world.file("weft.toml");
    let of = |id: &str, mask: &str| {
        format!(
            "[subscriptions.{id}]\nplugins = [{{ name = \"redact\", settings = {{ pointers = [\"/objectRef\"]{mask} }} }}]\n"
        )
    };
    std::fs::write(&config, of("redact", "") + &of("masks", ", mask = \"-\"")).unwrap();
    let (file, admin, config) = (world.file("redact.wasm"), host.url(""), config.display().to_string());
    let file = file.display().to_string();
    let dry_run = ["dlq", "replay", "--all", "--dry-run", "--plugin", &file, "--admin", &admin];
    let ran = run(&dry_run, "").await;
    assert_eq!(ran.out.matches("\"pointers\" is a required property").count(), 2, "{}", ran.out);
    let ran = run(&[&dry_run[..], &["--config", &config]].concat(), "").await;
    let lines: Vec<&str> = ran.out.lines().collect();
    let below = |id: &str| lines[lines.iter().position(|line| line.contains(id)).expect("it is shown") + 1].trim();
    assert_eq!((below(" redact "), below(" masks ")), ("- body \"/objectRef\"", "~ body \"/objectRef\""));
    host.stop().await;
}
