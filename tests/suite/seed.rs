//! The document that Weft was asked for (the README of the O2-IMS gateway's webhook workers): each line of it is a test
//! named after it.

use std::time::Duration;

use tests::{Answer, Event, Receiver, RedisServer, TestHost, eventually, host, until};
use weft::Config;

/// What `X-O2IMS-Signature` must be for the harness's secret, by another road than Weft's own code.
fn signature(body: &[u8]) -> String {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"test-secret").expect("any length is a key");
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn acknowledged(redis: &RedisServer) {
    eventually("all is acknowledged", || async { (redis.pending("o2ims:events").await == 0).then_some(()) }).await;
}

#[tokio::test]
async fn workers_consume_events_from_redis_streams_and_deliver_http_post_notifications_to_subscriber_callback_urls() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    redis.publish(&Event::to(&receiver.url("/notify")).json()).await;
    let arrived = receiver.wait_for(1).await;
    assert_eq!((arrived[0].method.as_str(), arrived[0].path.as_str()), ("POST", "/notify"));
    acknowledged(&redis).await;
    host.stop().await;
}

#[tokio::test]
async fn consumer_groups_multiple_workers_share_event_processing_load() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let hosts = [TestHost::start(&redis.url()).await, TestHost::start(&redis.url()).await];
    for number in 0..200 {
        redis.publish(&Event::to(&receiver.url("/")).id(format!("n-{number}")).json()).await;
    }
    receiver.wait_for(200).await;
    acknowledged(&redis).await;
    let mut ids = receiver.ids();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), receiver.arrived().len()), (200, 200), "each once");
    let consumers: Vec<Vec<redis::Value>> = redis.run(&["XINFO", "CONSUMERS", "o2ims:events", "webhook-workers"]).await;
    assert!(consumers.len() >= 2, "{consumers:?}");
    let success = "o2ims_webhook_deliveries_total{status=\"success\",subscription_id=\"sub-67890\"}";
    assert_eq!(hosts.iter().map(|host| host.metric(success)).sum::<f64>(), 200.0);
    for host in hosts {
        assert!(host.metric(success) > 0.0, "both hosts delivered");
        host.stop().await;
    }
}

#[tokio::test]
async fn request_format() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    let event = Event::to(&receiver.url("/notify"));
    redis.publish(&event.json()).await;
    let request = receiver.wait_for(1).await.remove(0);
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("x-o2ims-event-type"), "o2ims.Resource.Created");
    assert_eq!(request.header("x-o2ims-notification-id"), "notif-12345");
    assert_eq!(request.header("x-o2ims-subscription-id"), "sub-67890");
    assert_eq!(request.text(), event.body());
    host.stop().await;
}

#[tokio::test]
async fn subscribers_verify_signatures_hex_hmac_sha256_of_secret_and_body() {
    assert_eq!(
        signature(br#"{"subscriptionId":"sub-123"}"#),
        "6a89db8cbf066b5cd76ac48bbb2a5c7abc06128c06d8c484ab7c8b611095b8c4"
    );
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    let request = receiver.wait_for(1).await.remove(0);
    assert_eq!(request.header("x-o2ims-signature"), signature(&request.body));
    host.stop().await;
}

#[tokio::test]
async fn hmac_secret_is_optional() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.delivery.hmac_secret = None;
    let host = TestHost::with(config).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    assert!(!receiver.wait_for(1).await[0].headers.contains_key("x-o2ims-signature"));
    host.stop().await;
}

#[tokio::test]
async fn response_2xx_success_event_acknowledged() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    for status in [200, 201, 202, 204, 299] {
        let path = format!("/{status}");
        receiver.answers(&path, move |_| Answer::status(status));
        redis.publish(&Event::to(&receiver.url(&path)).json()).await;
    }
    receiver.wait_for(5).await;
    acknowledged(&redis).await;
    assert_eq!(redis.run::<u64>(&["ZCARD", "o2ims:retry"]).await, 0);
    assert!(redis.dead_letters().await.is_empty());
    assert_eq!(receiver.arrived().len(), 5);
    host.stop().await;
}

#[tokio::test]
async fn response_4xx_5xx_failure_will_retry_with_exponential_backoff() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.delivery.retry_backoff = Duration::from_millis(100);
    let host = TestHost::with(config).await;
    for status in [400, 404, 429, 500, 503] {
        let path = format!("/{status}");
        receiver.answers(&path, move |asked| Answer::status(if asked < 2 { status } else { 204 }));
        redis.publish(&Event::to(&receiver.url(&path)).json()).await;
    }
    receiver.wait_for(15).await;
    acknowledged(&redis).await;
    for status in [400, 404, 429, 500, 503] {
        let requests = receiver.arrived_at(&format!("/{status}"));
        assert_eq!(requests.len(), 3);
        let waits = [requests[1].at - requests[0].at, requests[2].at - requests[1].at];
        assert!(waits[0] >= Duration::from_millis(99) && waits[1] >= Duration::from_millis(199), "{waits:?}");
        assert!(requests.iter().all(|request| request.body == requests[0].body), "a retry sends the same");
    }
    assert!(redis.dead_letters().await.is_empty());
    host.stop().await;
}

#[tokio::test]
async fn configuration_has_the_six_settings_with_their_defaults() {
    let delivery = Config::default().delivery;
    assert_eq!(delivery.worker_count, 10);
    assert_eq!(delivery.timeout, Duration::from_secs(10));
    assert_eq!(delivery.max_retries, 3);
    assert_eq!(delivery.retry_backoff, Duration::from_secs(1));
    assert_eq!(delivery.max_backoff, Duration::from_secs(300));
    assert!(delivery.hmac_secret.is_none());
}

#[tokio::test]
async fn worker_count_number_of_concurrent_workers() {
    let redis = RedisServer::start().await;
    let mut config = host::config(&redis.url());
    config.delivery.worker_count = 7;
    let host = TestHost::with(config).await;
    until("seven workers", || host.metric("o2ims_active_webhook_workers") == 7.0).await;
    host.stop().await;
}

#[tokio::test]
async fn timeout_http_client_timeout() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.delivery.timeout = Duration::from_millis(100);
    config.delivery.max_retries = 0;
    let host = TestHost::with(config).await;
    receiver.answers("/slow", |_| Answer::status(204).after(Duration::from_secs(20)));
    redis.publish(&Event::to(&receiver.url("/slow")).json()).await;
    let letter = eventually("a dead letter", || async { redis.dead_letters().await.pop() }).await;
    assert_eq!((letter["reason"].as_str(), letter["last_status"].as_str()), ("exhausted", ""));
    assert!(letter["last_error"].contains("100ms"), "{letter:?}");
    host.stop().await;
}

#[tokio::test]
async fn retry_strategy_attempts_at_0_1_3_and_7_seconds_then_the_dead_letter_queue() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.delivery.retry_backoff = Config::default().delivery.retry_backoff;
    let host = TestHost::with(config).await;
    receiver.answers("/down", |_| Answer::status(500));
    redis.publish(&Event::to(&receiver.url("/down")).json()).await;
    // Meanwhile others are served at full speed: the retry occupies nobody.
    receiver.wait_for(1).await;
    for number in 0..50 {
        redis.publish(&Event::to(&receiver.url("/up")).subscription("other").id(format!("n-{number}")).json()).await;
    }
    until("the others", || receiver.arrived_at("/up").len() == 50).await;
    assert_eq!(receiver.arrived_at("/down").len(), 1, "the others waited for a retry");

    eventually("a dead letter", || async { redis.dead_letters().await.pop() }).await;
    let requests = receiver.arrived_at("/down");
    assert_eq!(requests.len(), 4);
    for (number, exact) in [(1, 1), (2, 2), (3, 4)] {
        let wait = requests[number].at - requests[number - 1].at;
        assert!(wait >= Duration::from_secs(exact) - Duration::from_millis(5), "retry {number} after {wait:?}");
    }
    host.stop().await;
}

#[tokio::test]
async fn max_backoff_maximum_backoff_duration() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.delivery.max_retries = 8;
    config.delivery.max_backoff = Duration::from_millis(60);
    let host = TestHost::with(config).await;
    receiver.answers("/down", |_| Answer::status(500));
    redis.publish(&Event::to(&receiver.url("/down")).json()).await;
    // Without the cap the last wait alone would be 6.4 s and the sum 12.8 s.
    let requests = receiver.wait_for(9).await;
    assert!(requests[8].at - requests[0].at < Duration::from_secs(6));
    host.stop().await;
}

#[tokio::test]
async fn failed_events_are_stored_in_o2ims_dlq_with_event_timestamp_original_id_and_subscription_id() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    receiver.answers("/down", |_| Answer::status(500));
    let event = Event::to(&receiver.url("/down"));
    let id = redis.publish(&event.json()).await;
    let letter = eventually("a dead letter", || async { redis.dead_letters().await.pop() }).await;
    assert_eq!(letter["event"], event.json());
    assert_eq!(letter["original_id"], id);
    assert_eq!(letter["subscription_id"], "sub-67890");
    let failed_at = humantime::parse_rfc3339(&letter["failed_at"]).expect("RFC 3339");
    assert!(failed_at.elapsed().unwrap_or_default() < Duration::from_secs(60));
    assert_eq!(letter["failed_at"].len(), "2026-01-08T10:30:00Z".len(), "whole seconds");
    let own = ["reason", "attempts", "last_status", "last_error"].map(|name| letter[name].as_str());
    assert_eq!(own, ["exhausted", "4", "500", "the endpoint answered 500 Internal Server Error"]);
    assert!(letter.contains_key("first_seen"));
    acknowledged(&redis).await;
    host.stop().await;
}

#[tokio::test]
async fn metrics() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    receiver.answers("/down", |_| Answer::status(500));
    redis.publish(&Event::to(&receiver.url("/up")).subscription("good").json()).await;
    redis.publish(&Event::to(&receiver.url("/down")).subscription("bad").json()).await;
    let text = eventually("the metrics of both", || async {
        let text = reqwest::get(host.url("/metrics")).await.unwrap().text().await.unwrap();
        let dead = "o2ims_webhook_dlq_total{subscription_id=\"bad\"}";
        let both = host::metric(&text, dead) == 1.0 && host::metric(&text, "o2ims_event_stream_length") == 2.0;
        both.then_some(text)
    })
    .await;
    for (line, value) in [
        ("o2ims_webhook_deliveries_total{status=\"success\",subscription_id=\"good\"}", 1.0),
        ("o2ims_webhook_deliveries_total{status=\"failed\",subscription_id=\"bad\"}", 1.0),
        ("o2ims_webhook_latency_seconds_count{subscription_id=\"good\"}", 1.0),
        ("o2ims_webhook_latency_seconds_count{subscription_id=\"bad\"}", 0.0),
        ("o2ims_webhook_retries_total{attempt=\"1\",subscription_id=\"bad\"}", 1.0),
        ("o2ims_webhook_retries_total{attempt=\"2\",subscription_id=\"bad\"}", 1.0),
        ("o2ims_webhook_retries_total{attempt=\"3\",subscription_id=\"bad\"}", 1.0),
        ("o2ims_webhook_retries_total{attempt=\"4\",subscription_id=\"bad\"}", 0.0),
        ("o2ims_active_webhook_workers", 2.0),
    ] {
        assert_eq!(host::metric(&text, line), value, "{line}");
    }
    for bound in ["0.1", "0.5", "1", "2", "5", "10", "+Inf"] {
        let line = format!("o2ims_webhook_latency_seconds_bucket{{subscription_id=\"good\",le=\"{bound}\"}}");
        assert_eq!(host::metric(&text, &line), 1.0, "{line}");
    }
    host.stop().await;
}

#[tokio::test]
async fn graceful_shutdown_clean_worker_termination() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    receiver.answers("/slow", |_| Answer::status(204).after(Duration::from_millis(500)));
    for number in 0..20 {
        redis.publish(&Event::to(&receiver.url("/slow")).id(format!("n-{number}")).json()).await;
    }
    receiver.wait_for(20).await;
    // All are in the middle of their attempt: they finish, are recorded, and nothing is tried twice.
    host.stop().await;
    assert_eq!(redis.pending("o2ims:events").await, 0);
    assert_eq!(receiver.arrived().len(), 20);
    assert!(redis.dead_letters().await.is_empty());
}
