//! Plugins on live deliveries: misbehaving guests in `.wat`, and the first-party ones as an operator configures them.

use std::num::NonZeroU32;
use std::time::Duration;

pub(crate) use tests::World;
use tests::{Answer, eventually, root, until};
use weft::config::NamedPlugin;
use weft::outcome::Outcome;
use weft::plugin::Grant;
use weft::subscription::OnError;

pub(crate) fn deliveries(status: &str, subscription: &str) -> String {
    format!("o2ims_webhook_deliveries_total{{status=\"{status}\",subscription_id=\"{subscription}\"}}")
}

#[tokio::test]
async fn a_plugin_that_drops_ends_the_delivery() {
    let world = World::new().await.guest("drop");
    let host = world.start().await;
    world.publish("drop").await;
    until("it is dropped", || host.metric(&deliveries("dropped", "drop")) == 1.0).await;
    eventually("acknowledged", || async { (world.redis.pending("o2ims:events").await == 0).then_some(()) }).await;
    assert!(world.receiver.arrived().is_empty());
    assert!(world.redis.dead_letters().await.is_empty());
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_transforms_changes_body_and_headers_and_the_signature_covers_it() {
    let world = World::new().await.guest("transform").guest("header");
    let host = world.start().await;
    world.publish("transform").await;
    let request = world.receiver.wait_for(1).await.remove(0);
    assert_ne!(request.text(), world.event("transform").body());
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"test-secret").unwrap();
    mac.update(&request.body);
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(request.header("x-o2ims-signature"), expected);

    world.publish("header").await;
    let request = world.receiver.wait_for(2).await.remove(1);
    assert_eq!(request.header("x-weft"), "seen");
    assert!(request.header("host").starts_with("127.0.0.1"), "a plugin cannot set it");
    host.stop().await;
}

#[tokio::test]
async fn a_wasi_program_decides_by_json() {
    let world = World::new().await.guest("program-echo").guest("command");
    let host = world.start().await;
    world.publish("program-echo").await;
    let request = world.receiver.wait_for(1).await.remove(0);
    let document: serde_json::Value = serde_json::from_str(request.text()).expect("it answers with what it read");
    assert_eq!(document["id"], "to-program-echo");
    assert_eq!(document["body"].to_string(), world.event("program-echo").body(), "as the event is, in its order");
    assert_eq!(request.header("x-echo"), "yes");
    world.publish("command").await;
    until("it is dropped", || host.metric(&deliveries("dropped", "command")) == 1.0).await;
    assert_eq!(host.metric("weft_plugin_calls_total{plugin=\"command\",result=\"drop\"}"), 1.0);
    host.stop().await;
}

#[tokio::test]
async fn state_is_kept_where_the_queue_is() {
    for is_embedded in [false, true] {
        let mut world = World::new().await.guest("counter");
        let named = NamedPlugin { grants: [Grant::State].into(), ..NamedPlugin::default() };
        world.config.plugins.named.insert("counter".to_owned(), named);
        let data = tempfile::tempdir().unwrap();
        if is_embedded {
            world.config.queue.url = format!("embedded:{}", data.path().display());
        }
        for expected in ["1", "2"] {
            let host = world.start().await;
            let mut attempts = host.telemetry.watch();
            host.queue.publish(&[world.event("counter").json().into()]).await.unwrap();
            let attempt = attempts.recv().await.unwrap();
            assert_eq!(attempt.outcome, Outcome::Dropped(format!("counter: {expected}")), "also after a restart");
            host.stop().await;
        }
    }
}

#[tokio::test]
async fn settings_that_do_not_fit_the_plugins_schema_fail_by_name() {
    let world = World::new().await.guest("described");
    let world = world.subscription("wrong", "described", r#"{"mask":5}"#, None);
    let host = world.start().await;
    world.publish("wrong").await;
    let letter = world.dead_letter("wrong").await;
    assert!(letter["last_error"].contains("settings/mask: "), "{letter:?}");
    world.publish("described").await;
    until("it is dropped", || host.metric(&deliveries("dropped", "described")) == 1.0).await;
    host.stop().await;
}

#[tokio::test]
async fn subscriptions_of_one_tenant_share_an_instance() {
    let mut world = World::new().await.guest("described");
    for subscription in ["one", "two", "other"] {
        world = world.subscription(subscription, "described", "{}", None);
    }
    let named = NamedPlugin { reuse: NonZeroU32::new(9), ..NamedPlugin::default() };
    world.config.plugins.named.insert("described".to_owned(), named);
    world.config.defaults.tenant = Some("acme".parse().unwrap());
    world.config.subscriptions.get_mut("other").unwrap().tenant = Some("umbrella".parse().unwrap());
    let host = world.start().await;
    let mut attempts = host.telemetry.watch();
    for (subscription, calls) in [("one", 1), ("two", 2), ("other", 1), ("one", 3)] {
        host.queue.publish(&[world.event(subscription).json().into()]).await.unwrap();
        let attempt = attempts.recv().await.unwrap();
        assert_eq!(attempt.outcome, Outcome::Dropped(format!("described: {calls}")), "{subscription}");
    }
    host.stop().await;
}

#[tokio::test]
async fn loops_memory_hunger_and_traps_fail_only_their_own_delivery() {
    let world = World::new().await.guest("loop").guest("memory").guest("trap").guest("recursion");
    let host = world.start().await;
    for (subscription, word) in
        [("loop", "50ms"), ("memory", "memory"), ("trap", "unreachable"), ("recursion", "stack")]
    {
        world.publish(subscription).await;
        world.publish("nobody").await;
        let letter = world.dead_letter(subscription).await;
        assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("plugin", "2"), "{letter:?}");
        assert!(letter["last_error"].contains(word), "{letter:?}");
    }
    until("the others", || world.receiver.arrived().len() == 4).await;
    assert!(world.receiver.arrived().iter().all(|request| request.header("x-o2ims-subscription-id") == "nobody"));
    host.stop().await;
}

#[tokio::test]
async fn a_hundred_looping_deliveries_do_not_stop_the_others() {
    let world = World::new().await.guest("loop");
    let host = world.start().await;
    for number in 0..100 {
        world.redis.publish(&world.event("loop").id(format!("loop-{number}")).json()).await;
        world.redis.publish(&world.event("other").id(format!("n-{number}")).json()).await;
    }
    until("the others", || world.receiver.arrived().len() == 100).await;
    host.stop().await;
}

#[tokio::test]
async fn on_error_decides_what_a_failure_means() {
    let world = World::new()
        .await
        .guest("edit-then-trap")
        .subscription("delivers", "edit-then-trap", "{}", Some(OnError::Deliver))
        .subscription("drops", "edit-then-trap", "{}", Some(OnError::Drop));
    let host = world.start().await;
    world.publish("delivers").await;
    let request = world.receiver.wait_for(1).await.remove(0);
    assert_eq!(request.text(), world.event("delivers").body(), "as if the plugin were absent, its edits too");
    world.publish("drops").await;
    until("it is dropped", || host.metric(&deliveries("dropped", "drops")) == 1.0).await;
    world.publish("edit-then-trap").await;
    assert_eq!(world.dead_letter("edit-then-trap").await["reason"], "plugin");
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_may_give_up_or_postpone() {
    let world = World::new().await.guest("dead-letter").guest("postpone").guest("permanent");
    let host = world.start().await;
    world.publish("dead-letter").await;
    let letter = world.dead_letter("dead-letter").await;
    assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("plugin", "0"));
    world.publish("permanent").await;
    let letter = world.dead_letter("permanent").await;
    assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("plugin", "1"), "not tried again");
    world.publish("postpone").await;
    until("it is postponed", || host.metric("weft_postponed_total") >= 1.0).await;
    host.stop().await;
}

#[tokio::test]
async fn a_retry_sends_what_the_chain_left_and_does_not_run_it_again() {
    let world = World::new().await.guest("transform");
    let host = world.start().await;
    world.receiver.answers("/", |asked| Answer::status(if asked == 0 { 503 } else { 204 }));
    world.publish("transform").await;
    let requests = world.receiver.wait_for(2).await;
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(host.metric("weft_plugin_calls_total{plugin=\"transform\",result=\"deliver\"}"), 1.0);
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_is_missing_or_refused_fails_its_deliveries_by_name() {
    let world = World::new().await.guest("wants-http").subscription("missing", "no-such", "{}", None);
    std::fs::write(world.dir.path().join("garbage.wasm"), b"not wasm").unwrap();
    let host = world.start().await;
    world.publish("missing").await;
    assert!(world.dead_letter("missing").await["last_error"].contains("no-such"));
    world.publish("wants-http").await;
    assert!(world.dead_letter("wants-http").await["last_error"].contains("wants-http"));
    let why = async |name: &str| {
        let refused = async || host.plugin(name).await.filter(|plugin| plugin["state"] == "refused");
        eventually("it is refused", refused).await["why"].as_str().unwrap().to_owned()
    };
    assert!(why("wants-http").await.contains("wasi:http"));
    assert!(!why("garbage").await.is_empty());
    host.stop().await;
}

#[tokio::test]
async fn twenty_plugins_are_ready_together() {
    let mut world = World::new().await;
    for number in 0..20 {
        let wasm = wat::parse_file(root().join("tests/fixtures/deliver.wat")).unwrap();
        std::fs::write(world.dir.path().join(format!("p{number}.wasm")), wasm).unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    world.config.plugins.cache_dir = Some(cache.path().to_owned());
    world.config.plugins.time_max = Duration::from_secs(1);
    for _ in 0..2 {
        let host = world.start().await;
        until("all are ready", || host.metric("weft_plugins{state=\"ready\"}") == 20.0).await;
        host.stop().await;
    }
    assert!(std::fs::read_dir(cache.path()).unwrap().next().is_some(), "compiled code is kept");
}
