//! Redis behind Sentinels, as a Cluster, with TLS and with a user that may do little: all real servers.

use std::collections::HashSet;
use std::time::Duration;

use tests::redis_server::{Keep, free_port};
use tests::sentinels::MASTER;
use tests::{
    Answer, Certificates, Cluster, Event, Receiver, RedisServer, Sentinels, TestHost, eventually, host, until,
};
use weft::Config;
use weft::link::{Address, Link, TlsFiles, Waits};
use weft::queue::redis::Keys;
use weft::state::{Act, Request};
use weft::store::Store;

/// Keys that one node of a Cluster has.
fn keys() -> Keys {
    let key = |rest: &str| format!("{{o2ims}}:{rest}");
    Keys {
        events: key("events"),
        deliveries: key("deliveries"),
        retry: key("retry"),
        dead_letters: key("dlq"),
        ..Keys::default()
    }
}

/// A host's configuration with these keys; what is left pending is claimed while a test waits.
fn config(url: &str, keys: &Keys) -> Config {
    let mut config = host::config(url);
    config.queue.events.clone_from(&keys.events);
    config.queue.deliveries.clone_from(&keys.deliveries);
    config.queue.retry.clone_from(&keys.retry);
    config.queue.dead_letters.clone_from(&keys.dead_letters);
    config.queue.claim_idle = Duration::from_secs(6);
    config.delivery.timeout = Duration::from_secs(1);
    config.delivery.max_retries = 50;
    config.delivery.max_backoff = Duration::from_millis(500);
    config
}

/// What a producer does: writes to whoever has the key now, and tries again.
struct Producer {
    link: Link,
    key: String,
    receiver: Receiver,
    published: Vec<String>,
}

impl Producer {
    fn new(url: &str, key: &str, receiver: &Receiver) -> Producer {
        let link = Link::new(&Address::parse(url).unwrap(), key, Waits::default());
        Producer { link, key: key.to_owned(), receiver: receiver.clone(), published: Vec::new() }
    }

    /// One event, numbered.
    async fn publish(&mut self, path: &str) {
        let id = format!("n-{}", self.published.len());
        let event =
            Event::to(&self.receiver.url(path)).id(&id).subscription(&format!("s-{}", self.published.len() % 7));
        let mut add = redis::cmd("XADD");
        add.arg(&self.key).arg("*").arg("event").arg(event.json());
        eventually("an event is published", || async {
            let added: redis::RedisResult<String> = add.query_async(&mut self.link.clone()).await;
            added.ok()
        })
        .await;
        self.published.push(id);
    }

    async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        // A failover cuts connections.
        eventually("an answer", || async { command.query_async(&mut self.link.clone()).await.ok() }).await
    }

    async fn all_arrive(&self) {
        let all: HashSet<_> = self.published.iter().cloned().collect();
        let arrived = || self.receiver.ids().into_iter().collect::<HashSet<_>>();
        until("all that was published arrives", || all.is_subset(&arrived())).await;
    }

    async fn all_settled(&self, keys: &Keys) {
        eventually("all is settled", || async {
            let pending: Vec<redis::Value> = self.ask(&["XPENDING", &keys.events, &keys.group]).await;
            let scheduled: u64 = self.ask(&["ZCARD", &keys.retry]).await;
            (pending[0] == redis::Value::Int(0) && scheduled == 0).then_some(())
        })
        .await;
        let dead: u64 = self.ask(&["XLEN", &keys.dead_letters]).await;
        assert_eq!(dead, 0);
    }
}

/// What stands in the way, or nothing when the host is ready.
async fn readiness(host: &TestHost) -> Option<String> {
    let answer = reqwest::get(host.url("/readyz")).await.unwrap();
    let is_ready = answer.status() == 200;
    let text = answer.text().await.unwrap();
    (!is_ready).then_some(text)
}

async fn not_ready(host: &TestHost, because: &[&str]) {
    eventually("not ready", || async {
        let why = readiness(host).await?;
        because.iter().any(|part| why.contains(part)).then_some(())
    })
    .await;
}

async fn ready(host: &TestHost) {
    eventually("ready", || async { readiness(host).await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_failover_loses_nothing_that_the_replica_has_and_needs_nobody() {
    let mut set = Sentinels::start().await;
    let receiver = Receiver::start().await;
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(20)));
    // The first of these is tried again over the failover.
    receiver.answers("/fails", |asked| if asked < 2 { Answer::status(500) } else { Answer::status(204) });
    let keys = Keys::default();
    let mut config = config(&set.url(), &keys);
    config.delivery.retry_backoff = Duration::from_millis(400);
    let host = TestHost::with(config).await;
    ready(&host).await;
    let mut producer = Producer::new(&set.url(), &keys.events, &receiver);
    for _ in 0..300 {
        producer.publish("/").await;
    }
    producer.publish("/fails").await;
    receiver.wait_for(50).await;
    let replicas: u64 = producer.ask(&["WAIT", "1", "5000"]).await;
    assert_eq!(replicas, 1);

    set.servers[0].kill();
    not_ready(&host, &[MASTER]).await;
    set.until_master(1).await;
    ready(&host).await;
    for _ in 0..50 {
        producer.publish("/").await;
    }
    producer.all_arrive().await;
    producer.all_settled(&keys).await;

    // The old master comes back, is told to follow, and becomes the master once more: this time both live on.
    set.servers[0].restart().await;
    eventually("the old master follows", || async {
        let info: String = set.servers[0].try_run(&["INFO", "replication"]).await?;
        (info.contains("role:slave") && info.contains("master_link_status:up")).then_some(())
    })
    .await;
    eventually("a failover by hand begins", || async {
        let mut failover = redis::cmd("SENTINEL");
        set.ask::<String>(0, failover.arg("FAILOVER").arg(MASTER)).await
    })
    .await;
    for _ in 0..100 {
        producer.publish("/").await;
    }
    set.until_master(0).await;
    for _ in 0..50 {
        producer.publish("/").await;
    }
    let role: Vec<redis::Value> = producer.ask(&["ROLE"]).await;
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()));
    ready(&host).await;
    let last = producer.published.last().unwrap().clone();
    until("the last one arrives", || receiver.ids().contains(&last)).await;
    host.stop().await;
}

#[tokio::test]
async fn a_cluster_delivers_while_slots_move_and_nodes_go() {
    let mut cluster = Cluster::start(3).await;
    let receiver = Receiver::start().await;
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(5)));
    receiver.answers("/fails", |asked| if asked % 2 == 0 { Answer::status(500) } else { Answer::status(204) });
    let keys = keys();
    let host = TestHost::with(config(&cluster.url(), &keys)).await;
    ready(&host).await;
    let mut producer = Producer::new(&cluster.url(), &keys.events, &receiver);
    let other = (cluster.owner(&keys.events).await + 1) % 3;
    for _ in 0..100 {
        producer.publish("/").await;
        producer.publish("/fails").await;
    }
    cluster.move_slot_of(&keys.events, other).await;
    assert_eq!(cluster.owner(&keys.events).await, other);
    for _ in 0..50 {
        producer.publish("/").await;
    }
    ready(&host).await;
    producer.all_arrive().await;
    producer.all_settled(&keys).await;

    cluster.nodes[other].kill();
    not_ready(&host, &[&format!("127.0.0.1:{}", cluster.nodes[other].port())]).await;
    cluster.nodes[other].restart().await;
    ready(&host).await;
    for _ in 0..50 {
        producer.publish("/fails").await;
    }
    producer.all_arrive().await;
    producer.all_settled(&keys).await;
    host.stop().await;
}

#[tokio::test]
async fn plugin_state_is_spread_over_a_cluster() {
    let cluster = Cluster::start(3).await;
    let store = Store::redis(Address::parse(&cluster.url()).unwrap());
    for plugin in ["a", "b", "c", "d", "e", "f"] {
        let act = Act::Increment { by: 1, lifetime: None };
        let request = Request { plugin: plugin.into(), key: "k".to_owned(), act, quota: 1 << 20 };
        store.perform(request).await.unwrap();
    }
    for node in &cluster.nodes {
        let size: u64 = node.run(&["DBSIZE"]).await;
        assert!(size > 0, "each node has some of it");
    }
}

/// The configuration for TLS with this authority.
fn with_tls(config: Config, certificates: &Certificates) -> Config {
    let mut config = config;
    config.queue.tls =
        TlsFiles { ca: Some(certificates.ca()), cert: Some(certificates.cert()), key: Some(certificates.key()) };
    config
}

async fn delivers(config: Config, redis: &RedisServer, key: &str) {
    let receiver = Receiver::start().await;
    let host = TestHost::with(config).await;
    let event = Event::to(&receiver.url("/")).json();
    let _: String = redis.run(&["XADD", key, "*", "event", &event]).await;
    receiver.wait_for(1).await;
    ready(&host).await;
    host.stop().await;
}

#[tokio::test]
async fn tls_is_used_for_servers_sentinels_and_clusters() {
    let certificates = Certificates::new();
    let port = free_port();
    let options = certificates.options(port, "yes");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let keys = keys();

    let server = RedisServer::with(Keep::Nothing, &options).await;
    let url = format!("rediss://127.0.0.1:{port}");
    delivers(with_tls(config(&url, &keys), &certificates), &server, &keys.events).await;

    // Sentinels reach a master at the port that they name, so this one has TLS on it.
    let sentinel = free_port();
    let lines = [
        format!("tls-cert-file {}", certificates.cert().display()),
        format!("tls-key-file {}", certificates.key().display()),
        format!("tls-ca-cert-file {}", certificates.ca().display()),
        "tls-replication yes".to_owned(),
        format!("tls-port {sentinel}"),
    ];
    let set = Sentinels::watching(vec![server], port, 1, &lines.join("\n")).await;
    let url = format!("rediss+sentinel://127.0.0.1:{sentinel}/{MASTER}");
    delivers(with_tls(config(&url, &keys), &certificates), &set.servers[0], &keys.events).await;

    let port = free_port();
    let mut options = certificates.options(port, "yes");
    options.extend(["--tls-cluster".to_owned(), "yes".to_owned()]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let cluster = Cluster::with(1, &options).await;
    let url = format!("rediss+cluster://127.0.0.1:{port}");
    delivers(with_tls(config(&url, &keys), &certificates), &cluster.nodes[0], &keys.events).await;
}
