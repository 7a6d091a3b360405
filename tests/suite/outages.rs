//! A Redis that goes away in each of the ways there are: the host waits, `/readyz` says what is wrong, and when it is mended
//! the host goes on by itself, with nothing lost and nothing delivered twice.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client};
use tests::redis_server::Keep;
use tests::{Answer, Event, Proxy, Receiver, RedisServer, TestHost, eventually, host, until};
use weft::queue::Queue;
use weft::queue::redis::{Claiming, Keys, Redis};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// All connections are closed, and can be made again.
    Cut,
    Killed,
    Loading,
    ReadOnly,
    NoMemory,
    Stalled,
    Password,
    /// There was none before.
    Protected,
    NoPermission,
}

const PASSWORD: &str = "open-sesame";
const STALL_MS: u64 = 30_000;

impl Cause {
    async fn inflict(self, redis: &mut RedisServer) {
        match self {
            Cause::Cut => cut(redis).await,
            Cause::Killed => redis.kill(),
            Cause::Loading => {
                // Redis looks up from loading now and then only, so there must be much to load.
                let mut pipeline = redis::pipe();
                for number in 0..6000 {
                    pipeline.cmd("SET").arg("ballast").arg(number).ignore();
                }
                pipeline.query_async::<()>(&mut redis.connection().await).await.unwrap();
                redis.relaunch(&["--key-load-delay", "1000"]);
            }
            Cause::ReadOnly => drop(redis.run::<String>(&["REPLICAOF", "127.0.0.1", "1"]).await),
            Cause::NoMemory => drop(redis.run::<String>(&["CONFIG", "SET", "maxmemory", "1"]).await),
            Cause::Stalled => drop(redis.run::<String>(&["CLIENT", "PAUSE", &STALL_MS.to_string(), "ALL"]).await),
            Cause::Password | Cause::Protected => {
                let _: String = redis.run(&["CONFIG", "SET", "requirepass", "changed"]).await;
                redis.password("changed");
                cut(redis).await;
            }
            Cause::NoPermission => drop(redis.run::<String>(&["ACL", "SETUSER", "default", "-@stream"]).await),
        }
    }

    /// Part of what `/readyz` says; nothing if it is over before anybody can look.
    fn says(self) -> &'static str {
        match self {
            Cause::Cut => "",
            Cause::Killed => "it refuses connections: does it run?",
            Cause::Loading => "it is loading its data",
            Cause::ReadOnly => "it is read-only",
            Cause::NoMemory => "it is out of memory",
            Cause::Stalled => "has not answered for",
            Cause::Password | Cause::Protected => "it refuses the user or the password of queue.url",
            Cause::NoPermission => "the user of queue.url may not do what Weft needs",
        }
    }

    async fn mend(self, redis: &mut RedisServer) {
        match self {
            Cause::Cut => {}
            // These end by themselves.
            Cause::Loading | Cause::Stalled => redis.answers().await,
            Cause::Killed => redis.restart().await,
            Cause::ReadOnly => drop(redis.run::<String>(&["REPLICAOF", "NO", "ONE"]).await),
            Cause::NoMemory => drop(redis.run::<String>(&["CONFIG", "SET", "maxmemory", "0"]).await),
            Cause::Password => {
                let _: String = redis.run(&["CONFIG", "SET", "requirepass", PASSWORD]).await;
                redis.password(PASSWORD);
            }
            Cause::Protected => {
                let _: String = redis.run(&["CONFIG", "SET", "requirepass", ""]).await;
                redis.password("");
            }
            Cause::NoPermission => drop(redis.run::<String>(&["ACL", "SETUSER", "default", "+@all"]).await),
        }
    }

    /// Whether it lasts until it is mended.
    fn lasts(self) -> bool {
        match self {
            Cause::Cut | Cause::Loading | Cause::Stalled => false,
            Cause::Killed
            | Cause::ReadOnly
            | Cause::NoMemory
            | Cause::Password
            | Cause::Protected
            | Cause::NoPermission => true,
        }
    }
}

async fn cut(redis: &RedisServer) {
    let _: u64 = redis.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
}

async fn ready(host: &TestHost) -> (u16, String) {
    let answer = reqwest::get(host.url("/readyz")).await.expect("it listens");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

/// The cause is told in words, not in what a client library says, and for as long as it lasts.
async fn goes_on_saying(host: &TestHost, cause: Cause) {
    let is_told = |text: &str| text.contains("{\"part\":\"heartbeat\"") && text.contains(cause.says());
    eventually("it is told", || async { is_told(&ready(host).await.1).then_some(()) }).await;
    for _ in 0..20 {
        let (_, text) = ready(host).await;
        assert!(is_told(&text) && !text.contains("ResponseError"), "{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn survives(cause: Cause) {
    let (mut redis, receiver) = (RedisServer::keeping(Keep::All).await, Receiver::start().await);
    if cause != Cause::Protected {
        let _: String = redis.run(&["CONFIG", "SET", "requirepass", PASSWORD]).await;
        redis.password(PASSWORD);
    }
    let mut config = host::config(&redis.url());
    config.queue.heartbeat = Duration::from_millis(300);
    config.queue.dead_after = Duration::from_secs(2);
    config.queue.claim_idle = Duration::from_secs(2);
    let hosts = [TestHost::with(config.clone()).await, TestHost::with(config).await];
    // Of each of these an attempt is under way when Redis goes away, and its result is known before it is back.
    receiver.answers("/taken", |_| Answer::status(204).after(Duration::from_secs(1)));
    receiver.answers("/retried", |asked| {
        if asked < 5 { Answer::status(500).after(Duration::from_secs(1)) } else { Answer::status(204) }
    });
    for number in 0..5 {
        for path in ["/taken", "/retried"] {
            let event = Event::to(&receiver.url(path)).subscription(&path[1..]).id(format!("{path}-{number}"));
            redis.publish(&event.json()).await;
        }
    }
    receiver.wait_for(10).await;
    cause.inflict(&mut redis).await;
    if !cause.says().is_empty() {
        for host in &hosts {
            let said = eventually("readyz says so", || async {
                let (status, text) = ready(host).await;
                (status == 503 && text.contains(cause.says())).then_some(text)
            });
            let said = said.await;
            assert!(!said.contains(PASSWORD), "{said}");
        }
    }
    if cause.lasts() {
        goes_on_saying(&hosts[0], cause).await;
    }
    cause.mend(&mut redis).await;
    redis.publish(&Event::to(&receiver.url("/")).id("later").json()).await;
    until("what came later arrives", || receiver.ids().iter().any(|id| id == "later")).await;
    redis.all_settled().await;
    for host in &hosts {
        eventually("it is ready", || async { (ready(host).await.0 == 200).then_some(()) }).await;
    }
    let arrived = |path| receiver.arrived_at(path).len();
    assert_eq!((arrived("/taken"), arrived("/retried")), (5, 10), "{cause:?}: each attempt once");
    assert!(redis.dead_letters().await.is_empty());
    for host in hosts {
        host.stop().await;
    }
}

macro_rules! survived {
    ($($name:ident: $cause:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { survives(Cause::$cause).await; })*
    };
}

survived! {
    all_connections_are_closed: Cut
    redis_is_killed_and_comes_back: Killed
    redis_takes_long_to_load: Loading
    redis_becomes_read_only: ReadOnly
    redis_runs_out_of_memory: NoMemory
    redis_stalls: Stalled
    the_password_is_changed_and_changed_back: Password
    a_password_is_asked_for_that_was_none: Protected
    a_permission_is_taken_away_and_given_back: NoPermission
}

/// Publishes as a patient producer does: what a Redis that stalls does not take, it waits for.
async fn publish(url: String, receiver: Receiver, name: &'static str, count: usize) {
    let patience = Some(Duration::from_secs(120));
    let patient = AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
    let client = Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    for number in 0..count {
        let event =
            Event::to(&receiver.url("/")).id(format!("{name}-{number}")).subscription(&format!("s-{}", number % 3));
        let mut add = redis::cmd("XADD");
        add.arg("o2ims:events").arg("*").arg("event").arg(event.json());
        add.query_async::<String>(&mut connection).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_before_in_and_after_a_stall_arrives_when_it_is_over() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let config = host::config(&redis.url());
    let hosts = [TestHost::with(config.clone()).await, TestHost::with(config).await];
    let publish = |name, count| publish(redis.url(), receiver.clone(), name, count);
    publish("before", 300).await;
    let _: String = redis.run(&["CLIENT", "PAUSE", &STALL_MS.to_string(), "ALL"]).await;
    // Each of them waits for its first answer as long as the stall lasts.
    let (ahead, beside) = tokio::join!(tokio::spawn(publish("during", 100)), tokio::spawn(publish("beside", 100)));
    ahead.and(beside).unwrap();
    publish("after", 300).await;
    // No entry waits until it can be claimed by its age, a minute.
    until("all arrive", || receiver.arrived().len() >= 800).await;
    eventually("all is settled", || async { (redis.pending("o2ims:events").await == 0).then_some(()) }).await;
    let mut ids = receiver.ids();
    ids.sort();
    ids.dedup();
    assert_eq!((receiver.arrived().len(), ids.len()), (800, 800), "each once");
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test]
async fn what_redis_answers_to_connections_that_are_gone_is_read_again() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to(redis.port()).await;
    // Nothing is claimed because of its age.
    let claiming = Claiming { idle: Duration::from_secs(3600), ..Claiming::default() };
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let queue = Redis::new(&url, Keys::default(), claiming).unwrap();
    queue.beat().await.unwrap();
    let receive = |wait| queue.receive(0, NonZeroUsize::MIN, Duration::from_millis(wait));
    assert!(receive(10).await.unwrap().is_empty());
    // Two reads, one after the other, of which only Redis knows that they still wait.
    for waiting in 1..=2 {
        let is_orphan = Cell::new(false);
        let orphaned = async {
            eventually("it waits", || async {
                let clients: String = redis.run(&["INFO", "clients"]).await;
                clients.contains(&format!("blocked_clients:{waiting}\r")).then_some(())
            })
            .await;
            proxy.orphan();
            is_orphan.set(true);
        };
        // After the first time the connection is found to be gone before the next read is made.
        let reading = async {
            while !is_orphan.get() {
                let read = receive(60_000).await;
                assert!(read.is_err(), "{read:?}");
            }
        };
        tokio::join!(reading, orphaned);
    }
    for number in 0..2 {
        let published = redis.publish(&format!("{{\"n\":{number}}}")).await;
        let entry = eventually("it comes again", || async {
            // Between two connections there may be none.
            receive(10).await.unwrap_or_default().pop()
        });
        assert_eq!(entry.await.handle.id.to_string(), published);
        assert!(receive(10).await.unwrap().is_empty());
    }
}
