//! Redis behind Sentinels, as a Cluster, with TLS and with a user that may do little: all real servers.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

pub(crate) use tests::cluster::keys;
use tests::redis_server::{Keep, free_port};
use tests::sentinels::MASTER;
use tests::{
    Answer, Certificates, Cluster, Event, Receiver, RedisServer, Sentinels, TestHost, WeftProcess, eventually, host,
    until,
};
use weft::Config;
use weft::link::{Address, Link, TlsFiles, Waits};
use weft::queue::redis::Keys;
use weft::queue::sharded::shard_of;
use weft::queue::{Filter, Start};
use weft::state::{Act, Request};
use weft::store::Store;
use weft::subscription::Ordering;

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

    // One of its nodes alone is not enough.
    let alone = TestHost::with(config(&cluster.nodes[0].url(), &Keys::default())).await;
    not_ready(&alone, &["redis+cluster"]).await;
    alone.stop().await;

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
async fn a_clusters_replica_takes_over() {
    let timeout = ["--cluster-node-timeout", "1500"];
    let mut cluster = Cluster::with(3, &timeout).await;
    let keys = keys();
    let master = cluster.owner(&keys.events).await;
    let replica = cluster.replica_of(master, &timeout).await;
    let receiver = Receiver::start().await;
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(20)));
    let host = TestHost::with(config(&cluster.url(), &keys)).await;
    let mut producer = Producer::new(&cluster.url(), &keys.events, &receiver);
    for _ in 0..200 {
        producer.publish("/").await;
    }
    receiver.wait_for(50).await;
    let replicas: u64 = producer.ask(&["WAIT", "1", "5000"]).await;
    assert_eq!(replicas, 1);
    cluster.nodes[master].kill();
    not_ready(&host, &["Cluster"]).await;
    for _ in 0..50 {
        producer.publish("/").await;
    }
    ready(&host).await;
    producer.all_arrive().await;
    producer.all_settled(&keys).await;
    let role: Vec<redis::Value> = cluster.nodes[replica].run(&["ROLE"]).await;
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()));
    host.stop().await;
}

/// One Sentinel knows the replica only, and takes it for the master, as one does that slept through a failover.
#[tokio::test]
async fn a_sentinel_that_is_behind_the_times_is_not_believed() {
    let master = RedisServer::start().await;
    let of = master.port().to_string();
    let replica = RedisServer::with(Keep::Nothing, &["--replicaof", "127.0.0.1", &of]).await;
    let behind = Sentinels::watching(Vec::new(), replica.port(), 1, "").await;
    let (port, receiver) = (master.port(), Receiver::start().await);
    let knows = Sentinels::watching(vec![master, replica], port, 1, "").await;
    let url = format!("redis+sentinel://{},{}/{MASTER}", behind.addresses(), knows.addresses());
    let host = TestHost::with(host::config(&url)).await;
    ready(&host).await;
    host.queue.publish(&[Event::to(&receiver.url("/")).json().into()]).await.unwrap();
    receiver.wait_for(1).await;
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

/// Publishes, fails, retries, parks and buries over three masters at once; what keeps an order keeps it.
#[tokio::test]
async fn shards_share_the_work_of_a_cluster() {
    let cluster = Cluster::start(3).await;
    let receiver = Receiver::start().await;
    receiver.answers("/fails", |asked| if asked % 2 == 0 { Answer::status(500) } else { Answer::status(204) });
    receiver.answers("/gone", |_| Answer::status(410));
    let mut config = config(&cluster.url(), &keys());
    config.queue.shards = 4;
    config.delivery.worker_count = 4;
    config.defaults.ordering = Ordering::Subscription;
    let host = TestHost::with(config).await;
    let event = |number: usize, path: &str| {
        let event = Event::to(&receiver.url(path)).id(format!("{path}-{number}"));
        event.subscription(&format!("s-{}", number % 20)).json().into()
    };
    let events: Vec<_> = (0..200).map(|number| event(number, "/")).collect();
    let ids = host.queue.publish(&events).await.unwrap();
    assert_eq!(ids.iter().map(|id| id.shard).collect::<HashSet<_>>().len(), 4);
    host.queue.publish(&(0..20).map(|number| event(number, "/fails")).collect::<Vec<_>>()).await.unwrap();
    host.queue.publish(&(0..20).map(|number| event(number, "/gone")).collect::<Vec<_>>()).await.unwrap();
    receiver.wait_for(200 + 20 + 20).await;
    let depth = eventually("all is settled", || async {
        let depth = host.queue.depth().await.ok()?;
        (depth.pending + depth.waiting + depth.scheduled + depth.in_line == 0).then_some(depth)
    })
    .await;
    assert_eq!(depth.dead, 20);
    let arrived = receiver.arrived_at("/");
    for subscription in 0..20 {
        let of_it = arrived.iter().filter(|one| one.header("x-o2ims-subscription-id") == format!("s-{subscription}"));
        let ids: Vec<_> = of_it.map(|one| one.header("x-o2ims-notification-id").to_owned()).collect();
        let in_order: Vec<_> = (0..10).map(|round| format!("/-{}", subscription + 20 * round)).collect();
        assert_eq!(ids, in_order);
    }
    let owners: HashSet<usize> = HashSet::from_iter(owners(&cluster).await);
    assert!(owners.len() >= 2, "the shards are on {owners:?}");
    host.stop().await;
}

async fn owners(cluster: &Cluster) -> Vec<usize> {
    let mut owners = Vec::new();
    for number in 0..4 {
        owners.push(cluster.owner(&keys().of_shard(number).events).await);
    }
    owners
}

/// By their names alone, two of three shards lie on one master. That is told, with what mends it; and then each has its own.
#[tokio::test]
async fn three_shards_lie_on_three_masters() {
    let (cluster, receiver) = (Cluster::start(3).await, Receiver::start().await);
    let mut config = config(&cluster.url(), &keys());
    (config.queue.shards, config.delivery.worker_count) = (3, 3);
    let host = TestHost::with(config.clone()).await;
    let told = eventually("uneven shards are told of", || async {
        warnings(&host.url("/readyz")).await.into_iter().find(|warning| warning.contains("lie unevenly"))
    })
    .await;
    host.stop().await;
    let slot: u16 = cluster.nodes[0].run(&["CLUSTER", "KEYSLOT", "{o2ims:1}:events"]).await;
    let to = format!("127.0.0.1:{}", cluster.nodes[1].port());
    assert!(told.contains(&format!("0 on {to}")), "{told}");
    assert!(told.contains(&format!("move slot {slot}, which has {{o2ims:1}}:events, to {to}")), "{told}");
    let (_, word) = told.split_once("write ").unwrap();
    let (word, _) = word.split_once(' ').unwrap();

    let queue = &mut config.queue;
    for key in [&mut queue.events, &mut queue.deliveries, &mut queue.retry, &mut queue.dead_letters] {
        *key = key.replace("o2ims", word);
    }
    let host = TestHost::with(config.clone()).await;
    let event = |number: usize| {
        let event = Event::to(&receiver.url("/")).id(format!("n-{number}"));
        event.subscription(&format!("s-{}", number % 100)).json().into()
    };
    host.queue.publish(&(0..300).map(event).collect::<Vec<_>>()).await.unwrap();
    receiver.wait_for(300).await;
    let of_queue = Keys { events: config.queue.events.clone(), ..keys() };
    let (mut owners, mut lengths) = (HashSet::new(), Vec::new());
    for shard in 0..3 {
        let key = of_queue.of_shard(shard).events;
        let owner = cluster.owner(&key).await;
        owners.insert(owner);
        lengths.push(cluster.nodes[owner].run::<usize>(&["XLEN", &key]).await);
    }
    assert_eq!(owners.len(), 3);
    assert!(lengths.iter().all(|length| *length > 0), "{lengths:?}");
    assert_eq!(lengths.iter().sum::<usize>(), 300);
    assert_eq!(receiver.ids().into_iter().collect::<HashSet<_>>().len(), 300);
    eventually("all is settled", || async {
        let depth = host.queue.depth().await.ok()?;
        (depth.pending + depth.waiting + depth.scheduled == 0).then_some(())
    })
    .await;
    assert!(!warnings(&host.url("/readyz")).await.iter().any(|warning| warning.contains("unevenly")));
    host.stop().await;
}

/// What `/readyz` says that is in the way of nothing.
async fn warnings(url: &str) -> Vec<String> {
    let answer = reqwest::get(url).await.unwrap();
    let text = answer.text().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    answer["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
}

/// One master away of three, where the others go on without it: so do their shards.
#[tokio::test]
async fn a_shard_that_is_away_holds_up_itself_alone() {
    let mut cluster = Cluster::with(3, &["--cluster-require-full-coverage", "no"]).await;
    let receiver = Receiver::start().await;
    receiver.answers("/fails", |asked| if asked % 2 == 0 { Answer::status(500) } else { Answer::status(204) });
    let mut config = config(&cluster.url(), &keys());
    config.queue.shards = 4;
    config.delivery.worker_count = 4;
    let host = TestHost::with(config).await;
    ready(&host).await;
    let owners = owners(&cluster).await;
    let stays = (0..4).find(|shard| owners[usize::from(*shard)] != owners[0]).expect("they are on two masters");
    let of_shard = |shard: u16, path: &str, id: usize| {
        let name =
            (0..).map(|name| format!("s-{name}")).find(|name| shard_of(name, 4) == shard).expect("one leads there");
        Event::to(&receiver.url(path)).id(format!("{shard}-{id}")).subscription(&name).json().into()
    };
    cluster.nodes[owners[0]].kill();
    not_ready(&host, &[&format!("127.0.0.1:{}", cluster.nodes[owners[0]].port())]).await;
    for id in 0..20 {
        host.queue.publish(&[of_shard(stays, "/fails", id)]).await.unwrap();
    }
    receiver.wait_for(40).await;
    assert!(host.queue.publish(&[of_shard(0, "/", 0)]).await.is_err(), "the one that is away takes nothing");
    cluster.nodes[owners[0]].restart().await;
    ready(&host).await;
    host.queue.publish(&[of_shard(0, "/", 1)]).await.unwrap();
    until("it is back", || receiver.ids().iter().any(|id| id == "0-1")).await;
    host.stop().await;
}

/// One master of three that hangs: what is parked elsewhere is brought back, and counted.
#[tokio::test]
async fn a_shard_that_hangs_holds_up_itself_alone() {
    let cluster = Cluster::with(3, &["--cluster-require-full-coverage", "no"]).await;
    let receiver = Receiver::start().await;
    receiver.answers("/", |_| Answer::status(204).after(Duration::from_millis(100)));
    let mut config = config(&cluster.url(), &keys());
    config.queue.shards = 4;
    config.delivery.worker_count = 4;
    config.delivery.in_flight_per_subscription = 1;
    let host = TestHost::with(config).await;
    ready(&host).await;
    let owners = owners(&cluster).await;
    let stays = (0..4).find(|shard| owners[usize::from(*shard)] != owners[0]).expect("they are on two masters");
    let name = (0..).map(|name| format!("s-{name}")).find(|name| shard_of(name, 4) == stays).unwrap();
    // For longer than this test lasts.
    let _: String = cluster.nodes[owners[0]].run(&["CLIENT", "PAUSE", "600000", "ALL"]).await;
    not_ready(&host, &["shard 0: "]).await;
    let events = (0..40).map(|id| Event::to(&receiver.url("/")).id(id.to_string()).subscription(&name).json().into());
    host.queue.publish(&events.collect::<Vec<_>>()).await.unwrap();
    until("some are parked, which is counted", || host.metric("weft_queue_parked") > 0.0).await;
    receiver.wait_for(40).await;
    until("none is parked any more", || host.metric("weft_queue_parked") == 0.0).await;
}

#[tokio::test]
async fn what_lies_in_shards_that_are_left_out_is_told() {
    let redis = RedisServer::start().await;
    let file = |shards: u16| {
        format!(
            r#"
            [queue]
            url = "{}"
            events = "{{o2ims}}:events"
            deliveries = "{{o2ims}}:deliveries"
            retry = "{{o2ims}}:retry"
            dead_letters = "{{o2ims}}:dlq"
            shards = {shards}
            "#,
            redis.url()
        )
    };
    let mut weft = WeftProcess::serve(&file(3)).await;
    eventually("it makes its keys", || async {
        let there: u64 = redis.run(&["EXISTS", "{o2ims:1}:events", "{o2ims:2}:events"]).await;
        (there == 2).then_some(())
    })
    .await;
    assert_eq!(weft.terminate().await, Some(0));
    assert!(!weft.log().contains("lie under"), "{}", weft.log());
    let left_out =
        [(2, "{o2ims:2}:events", 3), (1, "{o2ims:2}:events", 3), (1, "{o2ims:0}:events", 2), (2, "{o2ims}:events", 1)];
    for (shards, key, mend) in left_out {
        let _: String = redis.run(&["XADD", key, "*", "event", "{}"]).await;
        let weft = WeftProcess::serve(&file(shards)).await;
        let told = format!("deliveries and 0 dead letters lie under {key} and the keys beside it");
        until("it says so", || weft.log().contains(&told)).await;
        let mend = format!("let a host with queue.shards = {mend} run");
        assert!(weft.log().contains(&mend), "{}", weft.log());
        let readyz = format!("{}/readyz", weft.admin);
        eventually("so does /readyz, which is ready", || async {
            let says = |warning: &String| warning.contains(&told) && warning.contains(&mend);
            let is_told = warnings(&readyz).await.iter().any(says);
            (is_told && reqwest::get(&readyz).await.unwrap().status() == 200).then_some(())
        })
        .await;
        let _: u64 = redis.run(&["DEL", key]).await;
        eventually("it says so no more", || async {
            (!warnings(&readyz).await.iter().any(|warning| warning.contains("lie under"))).then_some(())
        })
        .await;
    }
}

/// The words of the README's line that makes the user, with its keys for a Cluster as well.
fn user() -> Vec<String> {
    let readme = std::fs::read_to_string(tests::root().join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("ACL SETUSER weft ")).expect("the README says how");
    line.split_whitespace().map(str::to_owned).chain(["~{o2ims*}:*".to_owned()]).collect()
}

async fn make_user(server: &RedisServer) {
    let words = user();
    let _: String = server.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Everything a host does is done; Redis notes what it forbids.
#[tokio::test]
async fn a_user_that_may_do_little_is_enough() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    make_user(&redis).await;
    receiver.answers("/fails", |asked| if asked == 0 { Answer::status(500) } else { Answer::status(204) });
    receiver.answers("/gone", |_| Answer::status(410));
    let mut config = config(&redis.url().replace("://", "://weft:password@"), &Keys::default());
    config.delivery.in_flight_per_subscription = 1;
    config.defaults.ordering = Ordering::Object;
    let state = Store::redis(config.queue.address().unwrap());
    let host = TestHost::with(config).await;
    let event = |path: &str| Event::to(&receiver.url(path)).subscription(path).json().into();
    host.queue.publish(&[event("/"), event("/"), event("/"), event("/fails"), event("/gone")]).await.unwrap();
    receiver.wait_for(6).await;
    let letter = eventually("a dead letter", || async {
        host.queue.dead_letters(&Filter::default(), Start::Newest, NonZeroUsize::MIN).await.unwrap().letters.pop()
    })
    .await;
    assert!(host.queue.replay(&[letter.0]).await.unwrap()[0].is_some(), "it was there");
    receiver.wait_for(7).await;
    let act = Act::Increment { by: 1, lifetime: Some(Duration::from_secs(1)) };
    state.perform(Request { plugin: "p".into(), key: "k".to_owned(), act, quota: 1 << 20 }).await.unwrap();
    ready(&host).await;
    assert!(!host.queue.check().await.unwrap().is_empty(), "it may see what is set");
    let forbidden: Vec<redis::Value> = redis.run(&["ACL", "LOG"]).await;
    assert!(forbidden.is_empty(), "{forbidden:?}");
    host.stop().await;
}

#[tokio::test]
async fn a_password_that_is_refused_is_named_and_not_shown() {
    let redis = RedisServer::start().await;
    make_user(&redis).await;
    let url = redis.url().replace("://", "://weft:my-secret-word@");
    let weft = WeftProcess::serve(&format!("[queue]\nurl = \"{url}\"\n[plugins]\ndir = \"none\"\n")).await;
    let why = eventually("not ready", || async {
        let answer = reqwest::get(format!("{}/readyz", weft.admin)).await.unwrap().text().await.unwrap();
        answer.contains("receive").then_some(answer)
    })
    .await;
    let known = format!("127.0.0.1:{}", redis.port());
    assert!(why.contains(&known) && why.to_lowercase().contains("password"), "{why}");
    for text in [&why, &weft.log()] {
        assert!(!text.contains("my-secret-word"), "{text}");
    }
    let _: String = redis.run(&["ACL", "SETUSER", "weft", ">my-secret-word"]).await;
    eventually("ready", || async {
        (reqwest::get(format!("{}/readyz", weft.admin)).await.unwrap().status() == 200).then_some(())
    })
    .await;
    weft.kill().await;
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
    // Who signed its certificate nobody knows unless it is said.
    let stranger = TestHost::with(config(&url, &keys)).await;
    not_ready(&stranger, &["certificate"]).await;
    stranger.stop().await;

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
    make_user(&set.servers[0]).await;
    let url = format!("rediss+sentinel://weft:password@127.0.0.1:{sentinel}/{MASTER}");
    delivers(with_tls(config(&url, &keys), &certificates), &set.servers[0], &keys.events).await;

    let port = free_port();
    let mut options = certificates.options(port, "yes");
    options.extend(["--tls-cluster".to_owned(), "yes".to_owned()]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let cluster = Cluster::with(1, &options).await;
    make_user(&cluster.nodes[0]).await;
    let url = format!("rediss+cluster://weft:password@127.0.0.1:{port}");
    delivers(with_tls(config(&url, &keys), &certificates), &cluster.nodes[0], &keys.events).await;
}
