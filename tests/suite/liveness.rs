//! Hosts that die, stop, are slow or end in good order, beside others that live: what they had in hand is in good hands.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tests::{Answer, Event, Receiver, RedisServer, WeftProcess, eventually, until};

/// Nothing is claimed because of its age, unless a test says so.
fn file(redis: &RedisServer, claim_idle: &str, delivery: &str) -> String {
    format!(
        r#"
        [queue]
        url = "{}"
        heartbeat = "200ms"
        dead_after = "1500ms"
        claim_idle = "{claim_idle}"
        [delivery]
        worker_count = 1
        retry_backoff = "10ms"
        {delivery}
        [defaults]
        breaker_failures = 1000
        [egress]
        allow = ["127.0.0.0/8"]
        "#,
        redis.url()
    )
}

async fn consumers(redis: &RedisServer) -> BTreeSet<String> {
    let consumers: Vec<HashMap<String, redis::Value>> =
        redis.run(&["XINFO", "CONSUMERS", "o2ims:events", "webhook-workers"]).await;
    let name = |consumer: HashMap<String, redis::Value>| redis::from_redis_value(consumer["name"].clone()).unwrap();
    consumers.into_iter().map(name).collect()
}

fn of(pid: u32) -> impl Fn(&String) -> bool {
    move |consumer| consumer.contains(&format!("-{pid}-"))
}

#[tokio::test]
async fn what_a_killed_host_had_in_hand_others_have_within_seconds() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = file(&redis, "1h", "timeout = \"50m\"");
    let killed = WeftProcess::serve(&config).await;
    // The first host gets no answer, neither at a first attempt nor at a retry.
    let held =
        |asked| if asked == 0 { Answer::status(204).after(Duration::from_secs(3600)) } else { Answer::status(204) };
    receiver.answers("/first", held);
    receiver.answers("/retry", move |asked| if asked == 0 { Answer::status(500) } else { held(asked - 1) });
    for path in ["/first", "/retry"] {
        redis.publish(&Event::to(&receiver.url(path)).id(path).subscription(&path[1..]).json()).await;
    }
    receiver.wait_for(3).await;
    let survivor = WeftProcess::serve(&config).await;
    let pid = killed.pid();
    killed.kill().await;
    assert!(consumers(&redis).await.iter().any(of(pid)), "it has something pending");
    receiver.wait_for(5).await;
    redis.all_settled().await;
    eventually("its consumers are gone", || async { (!consumers(&redis).await.iter().any(of(pid))).then_some(()) })
        .await;
    assert!(consumers(&redis).await.iter().any(of(survivor.pid())));
    assert!(redis.dead_letters().await.is_empty());
    let claims: u64 = redis.run(&["EXISTS", "o2ims:retry:claims", "o2ims:retry:held"]).await;
    assert_eq!(claims, 0, "what is settled leaves nothing behind");
}

#[tokio::test]
async fn a_slow_host_that_lives_is_not_robbed() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = file(&redis, "1s", "timeout = \"30s\"");
    let _hosts = [WeftProcess::serve(&config).await, WeftProcess::serve(&config).await];
    let slow = || Answer::status(204).after(Duration::from_secs(4));
    receiver.answers("/first", move |_| slow());
    receiver.answers("/retry", move |asked| if asked == 0 { Answer::status(500) } else { slow() });
    for path in ["/first", "/retry"] {
        redis.publish(&Event::to(&receiver.url(path)).id(path).subscription(&path[1..]).json()).await;
    }
    receiver.wait_for(3).await;
    redis.all_settled().await;
    assert_eq!(receiver.arrived().len(), 3, "{:?}", receiver.ids());
}

#[tokio::test]
async fn a_stopped_host_that_comes_back_changes_nothing() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = file(&redis, "1h", "timeout = \"50m\"\nmax_retries = 1");
    let stopped = WeftProcess::serve(&config).await;
    // The stopped host is told that it failed for good, a first time and at a retry; the other one that all is well.
    let refused = || Answer::status(410).after(Duration::from_secs(2));
    receiver.answers("/first", move |asked| if asked == 0 { refused() } else { Answer::status(204) });
    receiver.answers("/retry", move |asked| match asked {
        0 => Answer::status(500),
        1 => refused(),
        _ => Answer::status(204),
    });
    for path in ["/first", "/retry"] {
        redis.publish(&Event::to(&receiver.url(path)).id(path).subscription(&path[1..]).json()).await;
    }
    receiver.wait_for(3).await;
    stopped.signal("STOP").await;
    let _other = WeftProcess::serve(&config).await;
    receiver.wait_for(5).await;
    redis.all_settled().await;
    stopped.signal("CONT").await;
    until("it learns that both failed", || stopped.log().matches("\"410\"").count() == 2).await;
    until("it learns that it lost them", || stopped.log().contains("taken for dead")).await;
    // It goes on as a host like any other, and what it settles now counts.
    redis.publish(&Event::to(&receiver.url("/later")).id("later").json()).await;
    receiver.wait_for(6).await;
    redis.all_settled().await;
    assert!(redis.dead_letters().await.is_empty(), "{:?}", redis.dead_letters().await);
    assert_eq!(receiver.arrived().len(), 6);
}

#[tokio::test]
async fn consumers_of_other_programs_stay() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let _: String = redis.run(&["XGROUP", "CREATE", "o2ims:events", "webhook-workers", "0", "MKSTREAM"]).await;
    for consumer in ["worker-0", "ns/pod-1", "weft-gone/0"] {
        let _: u64 = redis.run(&["XGROUP", "CREATECONSUMER", "o2ims:events", "webhook-workers", consumer]).await;
    }
    let weft = WeftProcess::serve(&file(&redis, "1h", "")).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    receiver.wait_for(1).await;
    eventually("the dead one is gone", || async { (!consumers(&redis).await.contains("weft-gone/0")).then_some(()) })
        .await;
    let left = consumers(&redis).await;
    assert!(left.contains("worker-0") && left.contains("ns/pod-1") && left.iter().any(of(weft.pid())), "{left:?}");
}

#[tokio::test]
async fn a_host_that_is_told_to_stop_gives_back_at_once_what_it_has_not_begun() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = file(&redis, "1h", "in_flight = 4\ntimeout = \"60s\"\ndrain_timeout = \"60s\"");
    let slow = |_| Answer::status(204).after(Duration::from_secs(8));
    receiver.answers("/slow", slow);
    // Each of the two streams is read up to the free slots, so the host receives more than it can begin.
    for number in 0..8 {
        let (stream, path) = if number < 4 { ("o2ims:events", "/slow") } else { ("o2ims:deliveries", "/quick") };
        let event = Event::to(&receiver.url(path)).id(format!("n-{number}")).json();
        let _: String = redis.run(&["XADD", stream, "*", "event", &event]).await;
    }
    let mut told = WeftProcess::serve(&config).await;
    let pid = told.pid();
    receiver.wait_for(4).await;
    let _other = WeftProcess::serve(&config).await;
    told.signal("TERM").await;
    receiver.wait_for(8).await;
    assert!(!told.log().contains("attempted"), "the others did not have to wait: {}", told.log());
    assert_eq!(told.ended().await, Some(0), "{}", told.log());
    redis.all_settled().await;
    let ids: BTreeSet<String> = receiver.ids().into_iter().collect();
    assert_eq!((receiver.arrived().len(), ids.len()), (8, 8), "each once");
    assert!(!consumers(&redis).await.iter().any(of(pid)), "it goes without a trace");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = file(&redis, "1h", "timeout = \"50m\"\ndrain_timeout = \"50m\"");
    receiver.answers("/", |asked| Answer::status(204).after(Duration::from_secs(if asked == 0 { 3600 } else { 0 })));
    let mut told = WeftProcess::serve(&config).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    receiver.wait_for(1).await;
    told.signal("TERM").await;
    until("it drains", || told.log().contains("stopping")).await;
    told.signal("TERM").await;
    assert_eq!(told.ended().await, Some(1));
    assert!(told.log().contains("by a second signal"), "{}", told.log());
    let _other = WeftProcess::serve(&config).await;
    receiver.wait_for(2).await;
    redis.all_settled().await;
}

/// Kills the daemon that runs now, once each, before it has an answer; none once the test is over, which has the `pid`.
fn killer(pid: &Arc<AtomicU32>) -> impl FnMut() -> Answer + Send + 'static {
    let (pid, killed) = (Arc::downgrade(pid), Arc::new(AtomicU32::new(0)));
    move || {
        let (pid, killed) = (Weak::clone(&pid), Arc::clone(&killed));
        // In a thread of its own: it may be quicker than those who tell the number, who may wait for an answer meanwhile.
        std::thread::spawn(move || {
            let now = loop {
                match pid.upgrade().map(|pid| pid.load(Ordering::SeqCst)) {
                    None => return,
                    Some(now) if now != killed.load(Ordering::SeqCst) => break now,
                    Some(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            };
            killed.store(now, Ordering::SeqCst);
            std::process::Command::new("kill").args(["-9", &now.to_string()]).status().expect("kill runs");
        });
        Answer::status(204).after(Duration::from_secs(3600))
    }
}

/// An event whose arrival kills the daemon that brings it, after its endpoint gave these answers.
async fn kills_its_host(answers: &'static [u16]) {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = file(&redis, "1h", "timeout = \"50m\"").replace("[delivery]", "max_claims = 2\n[delivery]");
    let host = Arc::new(AtomicU32::new(0));
    let mut kill = killer(&host);
    receiver.answers("/poison", move |asked| match answers.get(asked) {
        Some(status) => Answer::status(*status),
        None => kill(),
    });
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(20)));
    let mut weft = WeftProcess::serve(&config).await;
    host.store(weft.pid(), Ordering::SeqCst);
    let mut events = Vec::new();
    for number in 0..40 {
        events.push(Event::to(&receiver.url("/")).id(format!("n-{number}")).json());
    }
    events.insert(20, Event::to(&receiver.url("/poison")).id("poison").subscription("poison").json());
    let mut pipeline = redis::pipe();
    for event in events {
        pipeline.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(event).ignore();
    }
    pipeline.query_async::<()>(&mut redis.connection().await).await.unwrap();
    let mut killed = Vec::new();
    for _ in 0..3 {
        killed.push(format!("-{}-", weft.pid()));
        // It ends by signal, not by itself.
        assert_eq!(weft.ended().await, None, "{}", weft.log());
        weft = WeftProcess::serve(&config).await;
        host.store(weft.pid(), Ordering::SeqCst);
    }
    let letter = eventually("a dead letter", || async { redis.dead_letters().await.pop() }).await;
    redis.all_settled().await;
    assert_eq!((letter["reason"].as_str(), letter["subscription_id"].as_str()), ("poison", "poison"));
    assert!(letter["event"].contains("\"poison\""), "{letter:?}");
    assert!(killed.iter().all(|host| letter["last_error"].contains(host)), "{killed:?} in {letter:?}");
    assert_eq!(redis.dead_letters().await.len(), 1, "those beside it are innocent");
    let delivered: BTreeSet<String> =
        receiver.arrived_at("/").iter().map(|at| at.header("x-o2ims-notification-id").to_owned()).collect();
    assert_eq!(delivered.len(), 40);
    assert_eq!(receiver.arrived_at("/poison").len(), answers.len() + 3);
    let claims: u64 = redis.run(&["EXISTS", "o2ims:retry:claims", "o2ims:retry:held"]).await;
    assert_eq!(claims, 0, "what is settled leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kills_each_host_that_touches_it_is_poison() {
    kills_its_host(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_kills_each_host_that_touches_it_is_poison() {
    kills_its_host(&[500]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kills_the_embedded_queues_host_is_poison() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let config = format!(
        r#"
        [queue]
        url = "embedded:{}"
        max_claims = 2
        [delivery]
        worker_count = 1
        timeout = "50m"
        [egress]
        allow = ["127.0.0.0/8"]
        "#,
        directory.path().join("queue").display()
    );
    let host = Arc::new(AtomicU32::new(0));
    let mut kill = killer(&host);
    receiver.answers("/poison", move |_| kill());
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(20)));
    let mut weft = WeftProcess::serve(&config).await;
    host.store(weft.pid(), Ordering::SeqCst);
    let mut events: Vec<String> =
        (0..20).map(|number| Event::to(&receiver.url("/")).id(format!("n-{number}")).json()).collect();
    events.insert(10, Event::to(&receiver.url("/poison")).id("poison").subscription("poison").json());
    let events = format!("[{}]", events.join(","));
    let publish = reqwest::Client::new().post(format!("{}/v1/events", weft.admin)).body(events);
    // The daemon may be killed before it answers.
    let _ = publish.send().await;
    for _ in 0..3 {
        assert_eq!(weft.ended().await, None, "{}", weft.log());
        weft = WeftProcess::serve(&config).await;
        host.store(weft.pid(), Ordering::SeqCst);
    }
    let letters = eventually("a dead letter", || async {
        let of_it = format!("{}/v1/dead-letters?subscription=poison", weft.admin);
        let answer = reqwest::get(of_it).await.ok()?.text().await.ok()?;
        answer.contains("poison").then_some(answer)
    })
    .await;
    assert!(letters.contains("\"reason\":\"poison\""), "{letters}");
    let delivered = || {
        receiver
            .arrived_at("/")
            .iter()
            .map(|at| at.header("x-o2ims-notification-id").to_owned())
            .collect::<BTreeSet<_>>()
    };
    until("those beside it arrive", || delivered().len() == 20).await;
    assert_eq!(receiver.arrived_at("/poison").len(), 3);
    assert_eq!(letters.matches("\"reason\"").count(), 1, "{letters}");
}
