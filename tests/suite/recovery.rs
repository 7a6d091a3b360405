//! Hosts and stores that die in the middle: nothing is lost.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tests::redis_server::Keep;
use tests::{Answer, Event, Receiver, RedisServer, TestHost, WeftProcess, eventually, host, until};

/// Short waits, so that what a killed host left is claimed while the test waits.
fn file(queue_url: &str) -> String {
    format!(
        r#"
        [queue]
        url = "{queue_url}"
        claim_idle = "6s"
        [delivery]
        timeout = "1s"
        retry_backoff = "100ms"
        hmac_secret = "test-secret"
        in_flight_per_subscription = 64
        [egress]
        allow = ["127.0.0.0/8"]
        "#
    )
}

/// Kills a host in the middle of its work three times; all that was published arrives. The last host still runs.
async fn kill_and_restart(
    queue_url: &str,
    publish: impl AsyncFn(&WeftProcess, String),
    receiver: &Receiver,
) -> WeftProcess {
    let mut weft = WeftProcess::serve(&file(queue_url)).await;
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(20)));
    let mut published = 0;
    for round in 1..=3 {
        for _ in 0..300 {
            let event = Event::to(&receiver.url("/")).id(format!("n-{published}")).subscription(&format!("s-{round}"));
            publish(&weft, event.json()).await;
            published += 1;
        }
        // In the middle of the batch.
        receiver.wait_for(published - 200).await;
        weft = weft.kill_and_restart().await;
    }
    let arrived = || receiver.ids().into_iter().collect::<HashSet<_>>();
    until("all arrive", || arrived().len() == published).await;
    assert!(arrived().contains("n-0") && arrived().contains("n-899"));
    weft
}

async fn terminate(mut weft: WeftProcess) {
    let code = weft.terminate().await;
    assert_eq!(code, Some(0), "{}", weft.log());
}

#[tokio::test]
async fn kill_nine_in_the_middle_of_a_batch_loses_nothing() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let publish = async |_: &WeftProcess, json: String| {
        redis.publish(&json).await;
    };
    let weft = kill_and_restart(&redis.url(), publish, &receiver).await;
    // What a killed host had delivered and not recorded is pending until it is claimed and delivered once more.
    redis.all_settled().await;
    terminate(weft).await;
    assert!(redis.dead_letters().await.is_empty());
    let mut times = HashMap::new();
    receiver.ids().into_iter().for_each(|id| *times.entry(id).or_insert(0) += 1);
    let twice = times.values().filter(|times| **times > 1).count();
    assert!(twice < 900, "only what was in hand at a kill comes twice, not {twice}");
}

#[tokio::test]
async fn kill_nine_loses_nothing_of_the_embedded_queue() {
    let (directory, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let client = reqwest::Client::new();
    let publish = async |weft: &WeftProcess, json: String| {
        let answer = client.post(format!("{}/v1/events", weft.admin)).body(json).send().await.expect("it listens");
        assert!(answer.status().is_success());
    };
    let url = format!("embedded:{}", directory.path().join("queue").display());
    terminate(kill_and_restart(&url, publish, &receiver).await).await;
}

#[tokio::test]
async fn sigterm_under_load_loses_nothing_and_repeats_nothing() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(50)));
    let mut weft = WeftProcess::serve(&file(&redis.url())).await;
    for number in 0..1000 {
        redis.publish(&Event::to(&receiver.url("/")).id(format!("n-{number}")).json()).await;
    }
    receiver.wait_for(100).await;
    let told = Instant::now();
    assert_eq!(weft.terminate().await, Some(0));
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    assert_eq!(redis.pending("o2ims:events").await, 0, "what was in hand was settled");
    let mut next = WeftProcess::serve(&file(&redis.url())).await;
    receiver.wait_for(1000).await;
    redis.all_settled().await;
    let ids = receiver.ids();
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (1000, 1000), "each once");
    next.terminate().await;
}

#[tokio::test]
async fn the_group_is_made_when_it_is_missing_also_while_running() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    // What was published before the group existed is delivered as well.
    redis.publish(&Event::to(&receiver.url("/")).id("before").json()).await;
    let host = TestHost::start(&redis.url()).await;
    receiver.wait_for(1).await;
    redis.all_settled().await;
    let _: u64 = redis.run(&["XGROUP", "DESTROY", "o2ims:events", "webhook-workers"]).await;
    redis.publish(&Event::to(&receiver.url("/")).id("after").json()).await;
    until("it arrives", || receiver.ids().iter().any(|id| id == "after")).await;
    let _: String = redis.run(&["FLUSHALL"]).await;
    redis.publish(&Event::to(&receiver.url("/")).id("after flush").json()).await;
    until("it arrives", || receiver.ids().iter().any(|id| id == "after flush")).await;
    host.stop().await;
}

#[tokio::test]
async fn redis_goes_away_and_comes_back() {
    let (mut redis, receiver) = (RedisServer::keeping(Keep::All).await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    redis.publish(&Event::to(&receiver.url("/")).id("1").json()).await;
    receiver.wait_for(1).await;
    receiver.answers("/slow", |_| Answer::status(204).after(Duration::from_millis(800)));
    redis.publish(&Event::to(&receiver.url("/slow")).id("2").json()).await;
    receiver.wait_for(2).await;
    // Gone in the middle of the attempt: its outcome is kept and recorded when Redis is back.
    redis.kill();
    let ready = async || reqwest::get(host.url("/readyz")).await.unwrap();
    eventually("not ready", || async { (ready().await.status() == 503).then_some(()) }).await;
    assert!(ready().await.text().await.unwrap().contains(&redis.port().to_string()), "it names the cause");
    assert_eq!(reqwest::get(host.url("/healthz")).await.unwrap().status(), 200);
    redis.restart().await;
    eventually("ready again", || async { (ready().await.status() == 200).then_some(()) }).await;
    redis.publish(&Event::to(&receiver.url("/")).id("3").json()).await;
    receiver.wait_for(3).await;
    redis.all_settled().await;
    assert_eq!(receiver.ids(), ["1", "2", "3"], "none twice");
    host.stop().await;
}

#[tokio::test]
async fn a_daemon_may_start_before_its_redis() {
    let receiver = Receiver::start().await;
    let mut redis = RedisServer::keeping(Keep::All).await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    redis.kill();
    let host = TestHost::start(&redis.url()).await;
    let answer = reqwest::get(host.url("/readyz")).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().contains("starting"));
    redis.restart().await;
    receiver.wait_for(1).await;
    host.stop().await;
}

#[tokio::test]
async fn what_the_go_workers_left_pending_is_delivered_or_stale() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let old = Event::to(&receiver.url("/")).id("old").subscription("sub-old").json();
    let two_days_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 86_400);
    let id = format!("{}-0", two_days_ago.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis());
    let _: String = redis.run(&["XADD", "o2ims:events", &id, "event", &old]).await;
    redis.publish(&Event::to(&receiver.url("/")).id("young").json()).await;
    let _: String = redis.run(&["XGROUP", "CREATE", "o2ims:events", "webhook-workers", "0"]).await;
    let read = ["XREADGROUP", "GROUP", "webhook-workers", "worker-0", "COUNT", "2", "STREAMS", "o2ims:events", ">"];
    let _: redis::Value = redis.run(&read).await;
    let mut config = host::config(&redis.url());
    config.delivery.timeout = Duration::from_millis(500);
    config.queue.claim_idle = Duration::from_millis(5500);
    let host = TestHost::with(config).await;
    receiver.wait_for(1).await;
    let letter = eventually("a dead letter", || async { redis.dead_letters().await.pop() }).await;
    assert_eq!((letter["reason"].as_str(), letter["original_id"].as_str()), ("stale", id.as_str()));
    assert_eq!(letter["subscription_id"], "sub-old");
    assert_eq!(receiver.ids(), ["young"]);
    redis.all_settled().await;
    host.stop().await;
}

#[tokio::test]
async fn a_second_process_on_the_embedded_queue_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}", directory.path().join("queue").display());
    let host = TestHost::start(&url).await;
    let error = weft::Daemon::start(host::config(&url)).await.err().expect("refused");
    assert!(error.to_string().contains("in use"), "{error}");
    host.stop().await;
    TestHost::start(&url).await.stop().await;
}

#[tokio::test]
async fn two_hosts_run_in_one_process() {
    let receiver = Receiver::start().await;
    let directory = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("embedded:{}", directory.path().join(name).display());
    let hosts = [TestHost::start(&url("a")).await, TestHost::start(&url("b")).await];
    for (host, subscription) in hosts.iter().zip(["a", "b"]) {
        let event = Event::to(&receiver.url("/")).subscription(subscription);
        host.queue.publish(&[event.json().into()]).await.unwrap();
    }
    receiver.wait_for(2).await;
    for (host, own, other) in [(&hosts[0], "a", "b"), (&hosts[1], "b", "a")] {
        let success = |id| format!("o2ims_webhook_deliveries_total{{status=\"success\",subscription_id=\"{id}\"}}");
        until("its own is counted", || host.metric(&success(own)) == 1.0).await;
        assert_eq!(host.metric(&success(other)), 0.0);
    }
    for host in hosts {
        host.stop().await;
    }
}
