//! What is sent, what the answer means, and that nobody waits for somebody else's endpoint.

use std::time::{Duration, Instant};

use tests::certificates::Certificates;
use tests::{Answer, Event, Receiver, RedisServer, TestHost, eventually, host, until};
use weft::config::Overrides;
use weft::secret::Scheme;

async fn dead_letter(redis: &RedisServer) -> std::collections::HashMap<String, String> {
    eventually("a dead letter", || async { redis.dead_letters().await.pop() }).await
}

#[tokio::test]
async fn an_event_arrives_within_milliseconds() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    // The first one also opens connections.
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    receiver.wait_for(1).await;
    let mut fastest = Duration::MAX;
    for number in 1..=20 {
        let published = Instant::now();
        redis.publish(&Event::to(&receiver.url("/")).json()).await;
        let arrived = receiver.wait_for(number + 1).await;
        fastest = fastest.min(arrived[number].at - published);
    }
    // The machine may be busy, but not each of twenty times: a host that polls would be.
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    host.stop().await;
}

/// Who signed an endpoint's certificate the system knows, or the operator says.
#[tokio::test]
async fn an_endpoint_with_tls_must_have_a_certificate_of_a_known_authority() {
    let (certificates, redis) = (Certificates::new(), RedisServer::start().await);
    let receiver = Receiver::with_tls(&certificates).await;
    let mut config = host::config(&redis.url());
    config.delivery.max_retries = 0;
    let stranger = TestHost::with(config.clone()).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    let letter = dead_letter(&redis).await;
    assert!(
        letter["last_error"]
            .contains("invalid peer certificate: UnknownIssuer; an authority of your own is named in egress.tls_ca"),
        "{letter:?}"
    );
    stranger.stop().await;

    config.egress.tls_ca = Some(certificates.ca());
    let host = TestHost::with(config).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    assert_eq!(receiver.wait_for(1).await.len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn the_body_is_cut_out_of_the_event_and_not_written_anew() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    let url = receiver.url("/");
    let cases = [
        (
            r#"{ "callbackUrl" : "URL" , "subscriptionId":"s","notificationId":"1","n":1.10,"big":123456789012345678901234567890,"e":1E+2}"#,
            r#"{ "subscriptionId":"s","notificationId":"1","n":1.10,"big":123456789012345678901234567890,"e":1E+2}"#,
        ),
        (
            r#"{"subscriptionId":"s","notificationId":"2","nested":{"callbackUrl":"stays"},"callbackUrl":"URL"}"#,
            r#"{"subscriptionId":"s","notificationId":"2","nested":{"callbackUrl":"stays"}}"#,
        ),
        (
            r#"{"subscriptionId":"s","notificationId":"3","callback\u0055rl":"URL","text":"\"callbackUrl\":\"x\" \u00e9 é 💥"}"#,
            r#"{"subscriptionId":"s","notificationId":"3","text":"\"callbackUrl\":\"x\" \u00e9 é 💥"}"#,
        ),
    ];
    for (event, _) in cases {
        redis.publish(&event.replace("URL", &url)).await;
    }
    let arrived = receiver.wait_for(cases.len()).await;
    for (at, (_, body)) in cases.iter().enumerate() {
        let id = (at + 1).to_string();
        let request = arrived.iter().find(|request| request.header("x-o2ims-notification-id") == id).expect("it came");
        assert_eq!(&request.text(), body);
    }
    host.stop().await;
}

#[tokio::test]
async fn verbatim_sends_the_entry_as_it_is() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.delivery.body = weft::event::BodyForm::Verbatim;
    let host = TestHost::with(config).await;
    let event = Event::to(&receiver.url("/"));
    redis.publish(&event.json()).await;
    assert_eq!(receiver.wait_for(1).await[0].text(), event.json());
    host.stop().await;
}

#[tokio::test]
async fn the_timestamped_signature_covers_time_and_body() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.defaults.signatures = vec![Scheme::O2imsTimestamped];
    let host = TestHost::with(config).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    let request = receiver.wait_for(1).await.remove(0);
    let timestamp: u64 = request.header("x-o2ims-timestamp").parse().expect("seconds");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(timestamp) < 60);
    assert_eq!(request.header("x-o2ims-signature").len(), 64);
    host.stop().await;
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    for status in [301, 302, 303, 307, 308] {
        let target = receiver.url("/elsewhere");
        receiver.answers(&format!("/{status}"), move |_| Answer::status(status).header("location", target.clone()));
        redis.publish(&Event::to(&receiver.url(&format!("/{status}"))).json()).await;
    }
    until("four attempts each", || receiver.arrived().len() == 20).await;
    eventually("five dead letters", || async { (redis.dead_letters().await.len() == 5).then_some(()) }).await;
    assert!(receiver.arrived_at("/elsewhere").is_empty());
    host.stop().await;
}

#[tokio::test]
async fn gone_is_gone_at_once() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    receiver.answers("/gone", |_| Answer::status(410));
    redis.publish(&Event::to(&receiver.url("/gone")).json()).await;
    let letter = dead_letter(&redis).await;
    assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("gone", "1"));
    assert_eq!(receiver.arrived().len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    receiver.answers("/busy", |asked| match asked {
        0 => Answer::status(429).header("retry-after", "1"),
        _ => Answer::status(204),
    });
    redis.publish(&Event::to(&receiver.url("/busy")).json()).await;
    let requests = receiver.wait_for(2).await;
    let wait = requests[1].at - requests[0].at;
    assert!(wait >= Duration::from_millis(995), "{wait:?}");
    host.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_tried_again_and_given_up() {
    let redis = RedisServer::start().await;
    let host = TestHost::start(&redis.url()).await;
    let port = tests::redis_server::free_port();
    redis.publish(&Event::to(&format!("http://127.0.0.1:{port}/")).json()).await;
    let letter = dead_letter(&redis).await;
    assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("exhausted", "4"));
    assert!(letter["last_error"].contains("refused"), "{letter:?}");
    host.stop().await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_tried_again_and_given_up() {
    let redis = RedisServer::start().await;
    let host = TestHost::start(&redis.url()).await;
    redis.publish(&Event::to("http://no-such-host.invalid/").json()).await;
    let letter = dead_letter(&redis).await;
    assert_eq!((letter["reason"].as_str(), letter["attempts"].as_str()), ("exhausted", "4"));
    assert!(letter["last_error"].contains("no-such-host.invalid"), "{letter:?}");
    host.stop().await;
}

#[tokio::test]
async fn a_subscription_on_record_has_its_own_ways() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    let own = Overrides {
        max_retries: Some(0),
        hmac_secret: Some(weft::Secret::new(b"another secret")),
        ..Overrides::default()
    };
    config.subscriptions.insert("special".to_owned(), own);
    let host = TestHost::with(config).await;
    receiver.answers("/down", |_| Answer::status(500));
    redis.publish(&Event::to(&receiver.url("/down")).subscription("special").json()).await;
    let letter = dead_letter(&redis).await;
    assert_eq!(letter["attempts"], "1");
    redis.publish(&Event::to(&receiver.url("/up")).subscription("special").json()).await;
    redis.publish(&Event::to(&receiver.url("/up")).subscription("plain").json()).await;
    until("both", || receiver.arrived_at("/up").len() == 2).await;
    let [a, b] = receiver.arrived_at("/up").try_into().expect("two");
    assert_ne!(a.header("x-o2ims-signature"), b.header("x-o2ims-signature"));
    host.stop().await;
}

#[tokio::test]
async fn a_tarpit_takes_its_own_places_and_nobody_elses() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    (config.delivery.worker_count, config.delivery.in_flight) = (2, 8);
    config.delivery.in_flight_per_subscription = 3;
    config.delivery.timeout = Duration::from_secs(20);
    config.delivery.drain_timeout = Duration::from_millis(100);
    let host = TestHost::with(config).await;
    receiver.answers("/tarpit", |_| Answer::status(204).after(Duration::from_secs(60)));
    for number in 0..40 {
        let event = Event::to(&receiver.url("/tarpit")).subscription("slow").id(format!("slow-{number}"));
        redis.publish(&event.json()).await;
    }
    until("the tarpit's places are taken", || receiver.arrived_at("/tarpit").len() == 3).await;
    for number in 0..100 {
        redis.publish(&Event::to(&receiver.url("/quick")).id(format!("n-{number}")).json()).await;
    }
    until("all quick ones", || receiver.arrived_at("/quick").len() == 100).await;
    assert_eq!(receiver.arrived_at("/tarpit").len(), 3, "no more than its places");
    let parked = ["places", "backlog"].map(|block| host.metric(&format!("weft_parked_total{{block=\"{block}\"}}")));
    assert_eq!(parked.iter().sum::<f64>(), 37.0, "those that found no place are parked, once: {parked:?}");
    until("they are counted", || host.metric("weft_queue_parked") == 37.0).await;
    // Waiting used up no attempt.
    let retries = "o2ims_webhook_retries_total{attempt=\"1\",subscription_id=\"slow\"}";
    assert_eq!(host.metric(retries), 0.0);
    host.stop().await;
}

#[tokio::test]
async fn the_embedded_queue_delivers_the_same() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let host = TestHost::start(&format!("embedded:{}", directory.path().join("queue").display())).await;
    receiver.answers("/heals", |asked| Answer::status(if asked < 2 { 503 } else { 200 }));
    receiver.answers("/down", |_| Answer::status(500));
    let events = ["/ok", "/heals", "/down"].map(|path| Event::to(&receiver.url(path)).id(path).json().into());
    host.queue.publish(&events).await.unwrap();
    receiver.wait_for(1 + 3 + 4).await;
    let depth = eventually("a dead letter", || async {
        let depth = host.queue.depth().await.ok()?;
        (depth.dead == 1).then_some(depth)
    })
    .await;
    assert_eq!((depth.pending, depth.scheduled), (0, 0));
    host.stop().await;
}

#[tokio::test]
async fn a_drain_ends_in_time_and_gives_back_what_is_unfinished() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    config.delivery.drain_timeout = Duration::from_millis(300);
    config.delivery.timeout = Duration::from_secs(1);
    config.queue.claim_idle = Duration::from_secs(6);
    let host = TestHost::with(config.clone()).await;
    receiver.answers("/stuck", |asked| Answer::status(204).after(Duration::from_secs(if asked == 0 { 60 } else { 0 })));
    redis.publish(&Event::to(&receiver.url("/stuck")).json()).await;
    receiver.wait_for(1).await;
    let told = Instant::now();
    host.stop().await;
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    assert_eq!(redis.pending("o2ims:events").await, 1, "not acknowledged");
    let next = TestHost::with(config).await;
    receiver.wait_for(2).await;
    eventually("settled", || async { (redis.pending("o2ims:events").await == 0).then_some(()) }).await;
    next.stop().await;
}
