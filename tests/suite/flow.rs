//! Nobody waits for somebody else: rates, breakers, pauses, and backlogs that cost nothing while they wait.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::{Answer, Event, Receiver, RedisServer, TestHost, eventually, host, until};
use weft::config::Overrides;
use weft::queue::{Filter, Start};
use weft::subscription::Ordering;

fn parked(host: &TestHost, block: &str) -> f64 {
    host.metric(&format!("weft_parked_total{{block=\"{block}\"}}"))
}

/// One subscription with ways of its own.
fn config(redis: &RedisServer, id: &str, own: Overrides) -> weft::Config {
    let mut config = host::config(&redis.url());
    config.subscriptions.insert(id.to_owned(), own);
    config
}

async fn publish(redis: &RedisServer, receiver: &Receiver, path: &str, subscription: &str, count: usize) {
    let mut pipeline = redis::pipe();
    for number in 0..count {
        let event = Event::to(&receiver.url(path)).subscription(subscription).id(format!("{subscription}-{number}"));
        pipeline.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(event.json()).ignore();
    }
    pipeline.query_async::<()>(&mut redis.connection().await).await.expect("Redis takes them");
}

#[tokio::test]
async fn a_rate_is_kept_and_costs_no_attempt() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let own = Overrides { rate: "50/s".parse().ok(), burst: Some(5), max_retries: Some(0), ..Overrides::default() };
    let host = TestHost::with(config(&redis, "limited", own)).await;
    publish(&redis, &receiver, "/", "limited", 60).await;
    receiver.wait_for(1).await;
    // Somebody else is not held up by it.
    publish(&redis, &receiver, "/free", "free", 20).await;
    until("the others", || receiver.arrived_at("/free").len() == 20).await;
    until("all of it", || receiver.arrived_at("/").len() == 60).await;
    let arrived = receiver.arrived_at("/");
    let took = arrived[59].at - arrived[0].at;
    // The first may arrive late, so some of them may come closer.
    assert!(took >= Duration::from_millis(20 * 45), "60 at 50/s after a burst of 5 in {took:?}");
    // Each was parked once or so, and none was cycled through while it waited.
    let times = parked(&host, "rate") + parked(&host, "backlog");
    assert!((50.0..180.0).contains(&times), "{times}");
    assert!(redis.dead_letters().await.is_empty());
    host.stop().await;
}

#[tokio::test]
async fn an_open_breaker_probes_one_at_a_time_and_closes_when_the_endpoint_is_back() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let own = Overrides {
        breaker_failures: Some(5),
        breaker_open: Some(Duration::from_millis(400)),
        max_retries: Some(1000),
        in_flight: Some(1),
        ..Overrides::default()
    };
    let host = TestHost::with(config(&redis, "broken", own)).await;
    receiver.answers("/", |asked| Answer::status(if asked < 8 { 500 } else { 204 }));
    publish(&redis, &receiver, "/", "broken", 40).await;
    until("the breaker opens", || receiver.arrived().len() >= 5).await;
    until("and is seen", || parked(&host, "open") >= 1.0).await;
    let arrived = receiver.wait_for(8 + 40).await;
    // Five failures, then probes: none before the breaker had been open for its time.
    for pair in arrived[4..9].windows(2) {
        let wait = pair[1].at - pair[0].at;
        assert!(wait >= Duration::from_millis(395), "{wait:?}");
    }
    until("it closed", || host.metric("weft_breakers_open") == 0.0).await;
    let ids: std::collections::HashSet<_> = receiver.ids().into_iter().collect();
    assert_eq!(ids.len(), 40, "all arrive");
    assert!(redis.dead_letters().await.is_empty());
    host.stop().await;
}

#[tokio::test]
async fn retry_after_holds_the_whole_subscription_and_nobody_else() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let own = Overrides { in_flight: Some(1), ..Overrides::default() };
    let host = TestHost::with(config(&redis, "busy", own)).await;
    receiver.answers("/busy", |asked| match asked {
        0 => Answer::status(429).header("retry-after", "2"),
        _ => Answer::status(204),
    });
    publish(&redis, &receiver, "/busy", "busy", 10).await;
    until("it is asked", || receiver.arrived_at("/busy").len() == 1).await;
    publish(&redis, &receiver, "/ok", "other", 10).await;
    until("the others", || receiver.arrived_at("/ok").len() == 10).await;
    until("all", || receiver.arrived_at("/busy").len() == 11).await;
    let arrived = receiver.arrived_at("/busy");
    let wait = arrived[1].at - arrived[0].at;
    assert!(wait >= Duration::from_millis(1995), "{wait:?}");
    host.stop().await;
}

#[tokio::test]
async fn a_subscription_that_fails_for_long_is_disabled_until_a_probe_succeeds() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let own = Overrides {
        disable_after: Some(Duration::from_millis(300)),
        breaker_open: Some(Duration::from_millis(300)),
        max_retries: Some(1000),
        retry_backoff: Some(Duration::from_millis(100)),
        max_backoff: Some(Duration::from_millis(100)),
        ..Overrides::default()
    };
    let host = TestHost::with(config(&redis, "gone", own)).await;
    let healed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let heals = healed.clone();
    let heals = move || heals.load(std::sync::atomic::Ordering::Relaxed);
    receiver.answers("/", move |_| Answer::status(if heals() { 204 } else { 500 }));
    publish(&redis, &receiver, "/", "gone", 3).await;
    let letter = eventually("a dead letter", || async {
        // There must be something to give up.
        publish(&redis, &receiver, "/", "gone", 1).await;
        redis.dead_letters().await.pop()
    })
    .await;
    assert_eq!(letter["reason"], "disabled");
    assert!(letter["last_error"].contains("disable_after"), "{letter:?}");
    until("it is seen", || host.metric("weft_subscriptions_disabled") == 1.0).await;
    healed.store(true, std::sync::atomic::Ordering::Relaxed);
    eventually("enabled again", || async {
        publish(&redis, &receiver, "/", "gone", 1).await;
        (host.metric("weft_subscriptions_disabled") == 0.0).then_some(())
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn a_subscription_on_record_whose_endpoint_is_gone_is_disabled_until_it_is_back() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let own = Overrides { breaker_open: Some(Duration::from_millis(300)), ..Overrides::default() };
    let host = TestHost::with(config(&redis, "on-record", own)).await;
    let is_back = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answer = Arc::clone(&is_back);
    let answer = move || if answer.load(std::sync::atomic::Ordering::Relaxed) { 204 } else { 410 };
    receiver.answers("/", move |_| Answer::status(answer()));
    publish(&redis, &receiver, "/", "on-record", 1).await;
    let reason = async |reason: &str| redis.dead_letters().await.into_iter().find(|letter| letter["reason"] == reason);
    let gone = eventually("a dead letter", async || reason("gone").await).await;
    assert_eq!(gone["last_status"], "410");
    let disabled = eventually("one that is not tried", async || {
        publish(&redis, &receiver, "/", "on-record", 1).await;
        reason("disabled").await
    });
    let disabled = disabled.await;
    assert_eq!((disabled["attempts"].as_str(), disabled["last_status"].as_str()), ("0", ""));
    assert!(disabled["last_error"].contains("its endpoint answered 410 Gone"), "{disabled:?}");
    until("it is seen", || host.metric("weft_subscriptions_disabled") == 1.0).await;
    let breakers: Vec<serde_json::Value> = reqwest::get(host.url("/v1/breakers")).await.unwrap().json().await.unwrap();
    assert_eq!((breakers.len(), &breakers[0]["subscription_id"]), (1, &"on-record".into()));
    assert_eq!(breakers[0]["state"], "disabled");
    assert!(breakers[0]["why"].as_str().unwrap().contains("410"), "{breakers:?}");

    is_back.store(true, std::sync::atomic::Ordering::Relaxed);
    eventually("enabled again", async || {
        publish(&redis, &receiver, "/", "on-record", 1).await;
        (host.metric("weft_subscriptions_disabled") == 0.0).then_some(())
    })
    .await;
    let breakers = reqwest::get(host.url("/v1/breakers")).await.unwrap().text().await.unwrap();
    assert_eq!(breakers, "[]");
    host.stop().await;
}

#[tokio::test]
async fn who_only_stands_in_events_is_not_disabled_by_a_410() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    receiver.answers("/", |_| Answer::status(410));
    publish(&redis, &receiver, "/", "unknown", 5).await;
    eventually("five dead letters", async || (redis.dead_letters().await.len() == 5).then_some(())).await;
    assert!(redis.dead_letters().await.iter().all(|letter| letter["reason"] == "gone"));
    assert_eq!(receiver.arrived().len(), 5, "the next event may bring another URL");
    host.stop().await;
}

/// With a backlog of so many, which another host parked before it went away.
async fn beside_a_backlog(backlog: usize) {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    receiver.answers("/dead", |_| Answer::status(500));
    let own = Overrides {
        breaker_failures: Some(1),
        breaker_open: Some(Duration::from_secs(3600)),
        retry_backoff: Some(Duration::from_secs(3600)),
        max_backoff: Some(Duration::from_secs(3600)),
        ..Overrides::default()
    };
    let config = config(&redis, "dead", own);
    let host = TestHost::with(config.clone()).await;
    for _ in 0..backlog / 10_000 {
        publish(&redis, &receiver, "/dead", "dead", 10_000).await;
    }
    eventually("all of it is parked", || async {
        let depth = host.queue.depth().await.ok()?;
        (depth.parked + depth.scheduled == backlog as u64 && depth.pending == 0).then_some(())
    })
    .await;
    let before = [parked(&host, "open"), parked(&host, "backlog"), parked(&host, "places")].iter().sum::<f64>();
    let published = Instant::now();
    publish(&redis, &receiver, "/new", "newcomer", 1).await;
    until("the newcomer's first", || receiver.arrived_at("/new").len() == 1).await;
    assert!(published.elapsed() < Duration::from_secs(20), "it does not wait for the backlog to be cycled through");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = [parked(&host, "open"), parked(&host, "backlog"), parked(&host, "places")].iter().sum::<f64>();
    assert!(after - before < 10.0, "nothing cycles through the backlog: {before} and then {after}");
    host.stop().await;
}

#[tokio::test]
async fn a_backlog_of_a_blocked_subscription_costs_the_others_nothing() {
    beside_a_backlog(50_000).await;
}

#[tokio::test]
async fn a_wave_of_retries_does_not_starve_fresh_events_nor_the_other_way_round() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config = host::config(&redis.url());
    // By then the last of the wave has failed as well.
    config.delivery.retry_backoff = Duration::from_secs(4);
    config.delivery.in_flight = 4;
    let host = TestHost::with(config).await;
    // The wave: fails once, is due all at once, and each takes its time then.
    receiver.answers("/wave", |asked| match asked {
        0..200 => Answer::status(500),
        _ => Answer::status(204).after(Duration::from_millis(100)),
    });
    for subscription in 0..20 {
        publish(&redis, &receiver, "/wave", &format!("wave-{subscription}"), 10).await;
    }
    until("the wave is out", || receiver.arrived_at("/wave").len() >= 200).await;
    until("it comes back", || receiver.arrived_at("/wave").len() >= 210).await;
    publish(&redis, &receiver, "/fresh", "fresh", 20).await;
    until("fresh ones", || receiver.arrived_at("/fresh").len() == 20).await;
    assert!(receiver.arrived_at("/wave").len() < 400, "they did not wait for the wave to pass");
    until("the wave passes", || receiver.arrived_at("/wave").len() == 400).await;
    host.stop().await;
}

/// Answers 2xx to two of three, each after a while of its own, and remembers what it said.
fn shuffle(receiver: &Receiver, path: &str, seed: u64) -> Arc<Mutex<Vec<u16>>> {
    let (said, mut rng) = (Arc::new(Mutex::new(Vec::new())), fastrand::Rng::with_seed(seed));
    let saying = Arc::clone(&said);
    receiver.answers(path, move |_| {
        let status = if rng.u32(0..3) == 0 { 500 } else { 204 };
        saying.lock().unwrap().push(status);
        Answer::status(status).after(Duration::from_millis(rng.u64(0..20)))
    });
    said
}

/// The ids that were answered with 2xx, in that order.
fn taken(receiver: &Receiver, path: &str, said: &Mutex<Vec<u16>>) -> Vec<String> {
    let said = said.lock().unwrap().clone();
    let taken = receiver.arrived_at(path).into_iter().zip(said).filter(|(_, status)| *status == 204);
    taken.map(|(arrived, _)| arrived.header("x-o2ims-notification-id").to_owned()).collect()
}

#[tokio::test]
async fn order_is_kept_over_three_hosts_and_retries_and_others_do_not_wait() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let mut config =
        config(&redis, "strict", Overrides { ordering: Some(Ordering::Subscription), ..Overrides::default() });
    let by_object = Overrides { ordering: Some(Ordering::Object), ..Overrides::default() };
    config.subscriptions.insert("by-object".to_owned(), by_object);
    config.delivery.retry_backoff = Duration::from_millis(5);
    config.delivery.max_retries = 1000;
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(TestHost::with(config.clone()).await);
    }
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (strict, by_object) = (shuffle(&receiver, "/strict", seed), shuffle(&receiver, "/objects", seed + 1));
    for number in 0..100 {
        let id = format!("{number:03}");
        redis.publish(&Event::to(&receiver.url("/strict")).subscription("strict").id(&id).json()).await;
        let object = Event { object: format!("/o/{}", number % 5), ..Event::to(&receiver.url("/objects")) };
        redis.publish(&object.subscription("by-object").id(format!("{}-{id}", number % 5)).json()).await;
        redis.publish(&Event::to(&receiver.url("/free")).id(&id).json()).await;
    }
    until("those that keep no order", || receiver.arrived_at("/free").len() == 100).await;
    until("all by object", || taken(&receiver, "/objects", &by_object).len() == 100).await;
    until("all of the strict one", || taken(&receiver, "/strict", &strict).len() == 100).await;
    let in_order: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    assert_eq!(taken(&receiver, "/strict", &strict), in_order);
    let by_object = taken(&receiver, "/objects", &by_object);
    for object in 0..5 {
        let of: Vec<_> = by_object.iter().filter(|id| id.starts_with(&format!("{object}-"))).collect();
        assert!(of.len() == 20 && of.is_sorted(), "{of:?}");
    }
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test]
async fn a_dead_letter_does_not_hold_its_line_and_a_replay_goes_to_the_end_of_it() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let own = Overrides { ordering: Some(Ordering::Subscription), max_retries: Some(1), ..Overrides::default() };
    let host = TestHost::with(config(&redis, "strict", own)).await;
    receiver.answers("/", |asked| Answer::status(if asked < 2 { 500 } else { 204 }).after(Duration::from_millis(50)));
    publish(&redis, &receiver, "/", "strict", 3).await;
    let id = eventually("a dead letter", || async {
        let page = host.queue.dead_letters(&Filter::default(), Start::Newest, NonZeroUsize::MIN).await.unwrap();
        page.letters.first().map(|(id, _)| *id)
    })
    .await;
    publish(&redis, &receiver, "/", "later", 1).await;
    assert!(host.queue.replay(&[id]).await.unwrap()[0].is_some(), "it was there");
    until("all", || receiver.ids().len() == 2 + 2 + 1 + 1).await;
    let strict: Vec<_> = receiver.ids().into_iter().filter(|id| id.starts_with("strict")).collect();
    assert_eq!(strict, ["strict-0", "strict-0", "strict-1", "strict-2", "strict-0"]);
    host.stop().await;
}
