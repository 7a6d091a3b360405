//! Chaos: real daemons and a real Redis that are killed, stopped and cut off from one another, by a schedule that a seed
//! decides, in every other one of them with so much waiting that the hosts look ahead. `make chaos` runs it for minutes;
//! `WEFT_CHAOS_SEED=7` repeats one schedule.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::redis_server::Keep;
use tests::{Answer, Event, Proxy, Receiver, RedisServer, WeftProcess, eventually};

/// Faults of one run.
const STEPS: usize = 8;
const HOSTS: usize = 2;
/// Events between two faults.
const BETWEEN: usize = 60;
/// Events that wait before the first fault, where much waits, and after how many the hosts look ahead.
const FLOOD: usize = 1500;
const LOOK_AHEAD: usize = 40;
/// Of those who come then, each for the first time.
const NEWCOMERS: usize = 10;
/// After the last fault all must come to rest: long before anything could be claimed by its age.
const AT_REST: Duration = Duration::from_secs(120);
/// Longer than an attempt: one that a fault interrupted may have begun so long before it.
const ATTEMPT: Duration = Duration::from_secs(6);

/// What waits while the faults are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// What a fault keeps from being delivered.
    Little,
    /// More than anybody reads before the last fault, and newcomers behind it.
    Flood,
}

impl Load {
    /// As the seed has it.
    fn of(seed: u64) -> Load {
        if seed.is_multiple_of(2) { Load::Little } else { Load::Flood }
    }
}

fn file(port: u16) -> String {
    format!(
        r#"
        [queue]
        url = "redis://127.0.0.1:{port}"
        look_ahead = {LOOK_AHEAD}
        heartbeat = "500ms"
        dead_after = "3s"
        claim_idle = "10m"
        [delivery]
        worker_count = 2
        in_flight = 16
        timeout = "4s"
        retry_backoff = "100ms"
        max_backoff = "500ms"
        drain_timeout = "5s"
        [defaults]
        breaker_open = "500ms"
        [egress]
        allow = ["127.0.0.0/8"]
        [subscriptions.flaky]
        max_retries = 100
        [subscriptions.strict]
        max_retries = 100
        ordering = "subscription"
        [subscriptions.slow]
        in_flight = 4
        [subscriptions.dead]
        max_retries = 1
        breaker_open = "100ms"
        "#
    )
}

/// What an endpoint said, in the order of arrival.
type Said = Arc<Mutex<Vec<u16>>>;

struct Run {
    seed: u64,
    rng: fastrand::Rng,
    redis: RedisServer,
    proxy: Proxy,
    hosts: Vec<WeftProcess>,
    receiver: Receiver,
    said: HashMap<&'static str, Said>,
    load: Load,
    /// The ids of all events: where each goes to, and its number.
    published: Vec<String>,
    /// Faults that explain why something is delivered twice.
    excuses: Vec<Instant>,
}

/// Of those who take what they get, sooner or later.
const PATHS: [&str; 6] = ["ok", "flaky", "strict", "slow", "flood", "new"];
/// In turn.
const ALWAYS: [&str; 5] = ["ok", "flaky", "strict", "slow", "dead"];

impl Run {
    async fn start(seed: u64, load: Load) -> Run {
        let redis = RedisServer::keeping(Keep::All).await;
        let proxy = Proxy::to(redis.port()).await;
        let mut hosts = Vec::new();
        for _ in 0..HOSTS {
            hosts.push(WeftProcess::serve(&file(proxy.port())).await);
        }
        let receiver = Receiver::start().await;
        let mut said = HashMap::new();
        for path in PATHS {
            said.insert(path, script(&receiver, path, seed));
        }
        receiver.answers("/dead", |_| Answer::status(500));
        let rng = fastrand::Rng::with_seed(seed);
        Run { seed, rng, redis, proxy, hosts, receiver, said, load, published: Vec::new(), excuses: Vec::new() }
    }

    /// Publishes straight to Redis: for each of these paths an event, the newcomers' of a subscription of its own.
    async fn publish(&mut self, paths: impl Iterator<Item = &str>) {
        let mut pipeline = redis::pipe();
        for path in paths {
            let id = format!("{path}-{:06}", self.published.len());
            let subscription = if path == "new" { &id } else { path };
            let event = Event::to(&self.receiver.url(&format!("/{path}"))).subscription(subscription).id(id.as_str());
            pipeline.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(event.json()).ignore();
            self.published.push(id);
        }
        pipeline.query_async::<()>(&mut self.redis.connection().await).await.expect("Redis takes them");
    }

    /// What comes between two faults.
    async fn publish_some(&mut self) {
        let newcomers = if self.load == Load::Flood { NEWCOMERS } else { 0 };
        let always = ALWAYS.into_iter().cycle().take(BETWEEN);
        self.publish(always.chain(std::iter::repeat_n("new", newcomers))).await;
    }

    /// Has many wait, and sees that the hosts move some ahead of them.
    async fn flood(&mut self) {
        self.publish(std::iter::repeat_n("flood", FLOOD)).await;
        self.publish_some().await;
        eventually("some are moved ahead", async || (self.counted("weft_moved_ahead_total").await > 0.0).then_some(()))
            .await;
    }

    /// By all hosts together.
    async fn counted(&self, line: &str) -> f64 {
        let mut sum = 0.0;
        for host in &self.hosts {
            let text = reqwest::get(format!("{}/metrics", host.admin)).await.unwrap().text().await.unwrap();
            sum += tests::host::metric(&text, line);
        }
        sum
    }

    async fn step(&mut self) {
        let host = self.rng.usize(0..HOSTS);
        let pause = Duration::from_millis(self.rng.u64(50..1500));
        let fault = self.rng.u32(0..6);
        let fault_name =
            ["kill -9", "SIGTERM", "SIGSTOP", "Redis killed", "connections cut", "nothing"][fault as usize];
        println!("seed {}: {fault_name}, host {host}, {pause:?}", self.seed);
        match fault {
            0 => {
                self.excuses.push(Instant::now());
                let killed = self.hosts.remove(host);
                self.hosts.push(killed.kill_and_restart().await);
            }
            1 => {
                let told = self.hosts.remove(host);
                self.hosts.push(told.terminate_and_restart().await);
            }
            2 => {
                self.hosts[host].signal("STOP").await;
                // As long as it is stopped its leases run on, and its attempts time out.
                tokio::time::sleep(pause).await;
                self.hosts[host].signal("CONT").await;
                self.excuses.push(Instant::now());
            }
            3 => {
                self.excuses.push(Instant::now());
                self.redis.kill();
                tokio::time::sleep(pause).await;
                self.redis.restart().await;
                self.excuses.push(Instant::now());
            }
            4 => {
                self.excuses.push(Instant::now());
                self.proxy.cut();
            }
            _ => tokio::time::sleep(pause).await,
        }
    }

    /// Until nothing waits anywhere.
    async fn rest(&self) {
        let began = Instant::now();
        loop {
            let left = self.left().await;
            if left.values().all(|count| *count == 0) {
                return;
            }
            if began.elapsed() >= AT_REST {
                let scheduled: redis::Value = self.redis.run(&["ZRANGE", "o2ims:retry", "0", "9", "WITHSCORES"]).await;
                let parked: redis::Value = self.redis.run(&["ZRANGE", "o2ims:retry:parked", "0", "9"]).await;
                let held: redis::Value = self.redis.run(&["HGETALL", "o2ims:retry:held"]).await;
                let claims: redis::Value = self.redis.run(&["HGETALL", "o2ims:retry:claims"]).await;
                let hosts: redis::Value =
                    self.redis.run(&["ZRANGE", "o2ims:retry:hosts", "0", "9", "WITHSCORES"]).await;
                let now: redis::Value = self.redis.run(&["TIME"]).await;
                panic!(
                    "seed {}: not at rest: {left:?}, scheduled {scheduled:?}, parked {parked:?}, held {held:?}, claims {claims:?}, hosts {hosts:?}, now {now:?}",
                    self.seed
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// All of one moment: what is brought back while it is counted would else be in none of the places.
    async fn left(&self) -> BTreeMap<&'static str, u64> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for key in ["o2ims:retry", "o2ims:retry:parked", "o2ims:retry:lines", "o2ims:retry:ahead"] {
            pipeline.cmd("ZCARD").arg(key);
        }
        pipeline.cmd("XINFO").arg("GROUPS").arg("o2ims:events");
        let (scheduled, parked, lines, ahead, groups): (u64, u64, u64, u64, Vec<HashMap<String, redis::Value>>) =
            pipeline.query_async(&mut self.redis.connection().await).await.expect("Redis answers");
        let of_group = |field: &str| {
            let value = groups.first().and_then(|group| group.get(field).cloned());
            value.map_or(1, |value| redis::from_redis_value(value).unwrap_or(1))
        };
        let (pending, lag) = (of_group("pending"), of_group("lag"));
        BTreeMap::from([
            ("scheduled", scheduled),
            ("parked", parked),
            ("in line", lines),
            ("ahead", ahead),
            ("pending", pending),
            ("lag", lag),
        ])
    }

    async fn check(&self) {
        let seed = self.seed;
        let mut deaths: HashMap<String, usize> = HashMap::new();
        for letter in self.redis.dead_letters().await {
            let event: serde_json::Value = serde_json::from_str(&letter["event"]).expect("JSON");
            *deaths.entry(event["notificationId"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
        let mut taken: HashMap<String, Vec<Instant>> = HashMap::new();
        let mut strict = Vec::new();
        for path in PATHS {
            let said = self.said[path].lock().unwrap().clone();
            let arrived = self.receiver.arrived_at(&format!("/{path}")).into_iter().zip(said);
            for (arrived, _) in arrived.filter(|(_, status)| *status == 204) {
                let times = taken.entry(arrived.header("x-o2ims-notification-id").to_owned()).or_default();
                if times.is_empty() && path == "strict" {
                    strict.push(arrived.header("x-o2ims-notification-id").to_owned());
                }
                times.push(arrived.at);
            }
        }
        for id in &self.published {
            let (taken, deaths) = (taken.get(id).cloned().unwrap_or_default(), deaths.get(id).copied().unwrap_or(0));
            assert!(!taken.is_empty() || deaths == 1, "seed {seed}: {id} is lost ({deaths} dead letters)");
            if id.starts_with("dead") {
                assert!(deaths == 1, "seed {seed}: {id} has {deaths} dead letters");
            }
            for pair in taken.windows(2) {
                let explained = |fault: &Instant| pair[0] <= *fault + ATTEMPT && *fault <= pair[1];
                assert!(self.excuses.iter().any(explained), "seed {seed}: {id} came twice, and no fault explains it");
            }
        }
        assert!(strict.is_sorted(), "seed {seed}: the order of the strict one is {strict:?}");
    }

    /// With all faults over, what the hosts count is what the receiver saw.
    async fn count(&mut self) {
        let lines = [
            "o2ims_webhook_deliveries_total{status=\"success\",subscription_id=\"ok\"}",
            "o2ims_webhook_dlq_total{subscription_id=\"dead\"}",
            "weft_attempts_total{result=\"204\"}",
        ];
        let taken = || PATHS.iter().map(|path| taken_so_far(&self.said[path])).sum::<usize>();
        let (before_taken, mut before) = (taken(), Vec::new());
        for line in lines {
            before.push(self.counted(line).await);
        }
        self.publish(ALWAYS.into_iter().cycle().take(100)).await;
        self.rest().await;
        let taken = PATHS.iter().map(|path| taken_so_far(&self.said[path])).sum::<usize>() - before_taken;
        let mut after = Vec::new();
        for (line, before) in lines.iter().zip(before) {
            after.push(self.counted(line).await - before);
        }
        let seen = f64::from(u32::try_from(taken).unwrap());
        assert_eq!(after, [20.0, 20.0, seen], "seed {}: what was counted of 100", self.seed);
        let dead = format!("weft_dead_letters {}", self.redis.dead_letters().await.len());
        tests::eventually("the gauge of dead letters", || async {
            let url = format!("{}/metrics", self.hosts[0].admin);
            let text = reqwest::get(url).await.ok()?.text().await.ok()?;
            text.lines().any(|line| line == dead).then_some(())
        })
        .await;
    }
}

fn taken_so_far(said: &Said) -> usize {
    said.lock().unwrap().iter().filter(|status| **status == 204).count()
}

/// An endpoint that answers as its name says, and remembers what it said.
fn script(receiver: &Receiver, path: &'static str, seed: u64) -> Said {
    let (said, mut rng) = (Said::default(), fastrand::Rng::with_seed(seed));
    let saying = Arc::clone(&said);
    receiver.answers(&format!("/{path}"), move |_| {
        let fails = matches!(path, "flaky" | "strict") && rng.u32(0..3) == 0;
        let status = if fails { [500, 503, 429, 502][rng.usize(0..4)] } else { 204 };
        saying.lock().unwrap().push(status);
        let longest = match path {
            "slow" => 300,
            "flood" => 500,
            _ => 20,
        };
        Answer::status(status).after(Duration::from_millis(rng.u64(0..longest)))
    });
    said
}

async fn run(seed: u64, load: Load) {
    println!("chaos: WEFT_CHAOS_SEED={seed} repeats this schedule ({load:?})");
    let mut run = Run::start(seed, load).await;
    if load == Load::Flood {
        run.flood().await;
    }
    for _ in 0..STEPS {
        run.publish_some().await;
        run.step().await;
    }
    run.rest().await;
    run.check().await;
    run.count().await;
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_whenever_all_is_delivered_or_dead_and_in_order() {
    let (first, began) = (number("WEFT_CHAOS_SEED"), Instant::now());
    let lasts = Duration::from_secs(number("WEFT_CHAOS_SECONDS").unwrap_or_default());
    let mut seed = first.unwrap_or_else(|| fastrand::u64(..));
    loop {
        run(seed, Load::of(seed)).await;
        if first.is_some() || began.elapsed() >= lasts {
            return;
        }
        seed = fastrand::u64(..);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_while_some_are_moved_ahead_of_many() {
    run(number("WEFT_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..)), Load::Flood).await;
}
