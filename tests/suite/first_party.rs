//! The plugins that come with Weft, compiled and on live deliveries, as an operator configures them.

use serde_json::Value;
use tests::{Answer, process, root, until};
use weft::config::NamedPlugin;
use weft::plugin::Grant;

use crate::plugins::{World, deliveries};

#[tokio::test]
async fn match_delivers_only_what_matches() {
    let settings = r#"{"event_types":["o2ims.*.Created"],"json":{"/resourcePoolId":{"equals":"pool-1"}}}"#;
    let world = World::new().await.compiled("match", settings);
    let host = world.start().await;
    world.redis.publish(&world.event("match").event_type("o2ims.Resource.Deleted").json()).await;
    world.redis.publish(&world.event("match").json().replace("pool-1", "pool-2")).await;
    until("two are dropped", || host.metric(&deliveries("dropped", "match")) == 2.0).await;
    world.publish("match").await;
    assert_eq!(world.receiver.wait_for(1).await[0].text(), world.event("match").body());
    host.stop().await;
}

#[tokio::test]
async fn redact_masks_and_removes() {
    let world = World::new().await.compiled("redact", r#"{"pointers":["/globalResourceId"],"mask":"***"}"#);
    let world = world.subscription("removes", "redact", r#"{"pointers":["/globalResourceId"]}"#, None);
    let host = world.start().await;
    world.publish("redact").await;
    let body = world.receiver.wait_for(1).await.remove(0);
    assert_eq!(body.text(), world.event("redact").body().replace(r#""node-1","timestamp"#, r#""***","timestamp"#));
    world.publish("removes").await;
    let body = world.receiver.wait_for(2).await.remove(1);
    assert_eq!(body.text(), world.event("removes").body().replace(r#""globalResourceId":"node-1","#, ""));
    host.stop().await;
}

#[tokio::test]
async fn the_readmes_plugin_drops_and_adds_a_header() {
    let world = World::new().await.compiled("hello-rust", "{}");
    let host = world.start().await;
    world.redis.publish(&world.event("hello-rust").json().replace("pool-1", "test")).await;
    until("it is dropped", || host.metric(&deliveries("dropped", "hello-rust")) == 1.0).await;
    world.publish("hello-rust").await;
    assert_eq!(world.receiver.wait_for(1).await[0].header("x-object"), "/o2ims/v1/resources/node-1");
    host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_is_reused_keeps_its_settings_apart() {
    let mut world = World::new().await.compiled("redact", r#"{"pointers":["/globalResourceId"],"mask":"***"}"#);
    world = world.subscription("other", "redact", r#"{"pointers":["/resourcePoolId"],"mask":"-"}"#, None);
    let named = NamedPlugin { reuse: std::num::NonZeroU32::new(1000), ..NamedPlugin::default() };
    world.config.plugins.named.insert("redact".to_owned(), named);
    let host = world.start().await;
    // Of one tenant, so that one instance serves both.
    let event = |id: &str| world.event(id).json().replacen('{', r#"{"tenantId":"t","#, 1);
    for round in 0..3 {
        for (id, masked) in [("redact", "globalResourceId"), ("other", "resourcePoolId")] {
            let before = world.receiver.arrived().len();
            world.redis.publish(&event(id)).await;
            let sent: Value = serde_json::from_str(world.receiver.wait_for(before + 1).await[before].text()).unwrap();
            assert!(["***", "-"].contains(&sent[masked].as_str().unwrap()), "round {round}: {id}: {sent}");
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn dedupe_drops_what_came_before_and_never_a_delivery_itself() {
    let mut world = World::new().await.compiled("dedupe", r#"{"within_seconds":3600}"#);
    let named = NamedPlugin { grants: [Grant::State].into(), ..NamedPlugin::default() };
    world.config.plugins.named.insert("dedupe".to_owned(), named);
    world.config.delivery.max_retries = 0;
    let host = world.start().await;
    world.receiver.answers("/", |asked| Answer::status(if asked == 0 { 500 } else { 204 }));
    world.publish("dedupe").await;
    assert_eq!(world.dead_letter("dedupe").await["reason"], "exhausted");
    world.publish("dedupe").await;
    until("the second is dropped", || host.metric(&deliveries("dropped", "dedupe")) == 1.0).await;
    // The first one again, because a person wants it.
    let client = reqwest::Client::new();
    let page: Value = client.get(host.url("/v1/dead-letters")).send().await.unwrap().json().await.unwrap();
    let letters = page["dead_letters"].as_array().unwrap_or_else(|| panic!("{page}"));
    let id = letters[0]["id"].as_str().unwrap().to_owned();
    let replayed = client.post(host.url(&format!("/v1/dead-letters/{id}/replay"))).send().await.unwrap();
    assert!(replayed.status().is_success(), "{replayed:?}");
    assert_eq!(world.receiver.wait_for(2).await.len(), 2);
    until("it is delivered", || host.metric(&deliveries("success", "dedupe")) == 1.0).await;
    host.stop().await;
}

#[tokio::test]
async fn template_makes_a_chat_message() {
    let settings = r#"{"json":{"text":"{{@event-type}}: {{/objectRef}}"}}"#;
    let world = World::new().await.compiled("template", settings);
    let host = world.start().await;
    world.publish("template").await;
    let request = world.receiver.wait_for(1).await.remove(0);
    assert_eq!(request.text(), r#"{"text":"o2ims.Resource.Created: /o2ims/v1/resources/node-1"}"#);
    assert_eq!(request.header("content-type"), "application/json");
    host.stop().await;
}

#[tokio::test]
async fn o_ran_notification_speaks_as_the_information_model_does() {
    let settings = r#"{"consumer_subscription_id":"smo-sub-123"}"#;
    let world = World::new().await.compiled("o-ran-notification", settings);
    let host = world.start().await;
    world.publish("o-ran-notification").await;
    let request = world.receiver.wait_for(1).await.remove(0);
    assert_eq!(
        request.text(),
        r#"{"notificationId":"to-o-ran-notification","consumerSubscriptionId":"smo-sub-123","notificationEventType":"CREATE","objectRef":"/o2ims/v1/resources/node-1","updateTime":"2026-01-08T10:30:00Z"}"#
    );
    let passing = world.event("o-ran-notification").event_type("o2ims.Alarm.Raised");
    world.redis.publish(&passing.json()).await;
    assert_eq!(world.receiver.wait_for(2).await[1].text(), passing.body());
    let calls = "weft_plugin_calls_total{plugin=\"o-ran-notification\",result=\"deliver\"}";
    assert_eq!(host.metric(calls), 1.0, "it is not asked about what it does not accept");
    host.stop().await;
}

#[tokio::test]
async fn each_does_what_its_fixtures_show() {
    let plugins = std::fs::read_dir(root().join("plugins")).unwrap().map(|entry| entry.unwrap());
    let mut judged = Vec::new();
    for plugin in plugins.filter(|plugin| plugin.path().join("fixtures").exists()) {
        let name = plugin.file_name().to_string_lossy().into_owned();
        let file = root().join("target/plugins").join(format!("{name}.wasm")).display().to_string();
        let fixtures = plugin.path().join("fixtures").display().to_string();
        let ran = process::run(&["plugin", "test", &file, "--fixtures", &fixtures], "").await;
        assert_eq!(ran.code, Some(0), "{name}: {}{}", ran.out, ran.err);
        let checked = process::run(&["plugin", "check", &file, "--grant", "state"], "").await;
        assert!(checked.code == Some(0) && !checked.out.contains("wasi:"), "{name} has std: {}", checked.out);
        judged.push(name);
    }
    judged.sort();
    assert_eq!(judged, ["dedupe", "match", "o-ran-notification", "redact", "template"]);
}
