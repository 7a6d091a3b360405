//! The simulation: whole hosts on one queue in virtual time, with faults at every await of the queue and of the sender.
//! A seed decides on everything that chance decides on. `WEFT_SEED=7` repeats one, `WEFT_SEEDS=100000` runs more.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, sleep};

use super::{Limits, Parts};
use crate::alarm::Panicked;
use crate::attempt::{AttemptResult, NoAnswer, RetryAfter};
use crate::config::{Config, Overrides};
use crate::daemon::turns;
use crate::entry::{DeadLetter, Entry, EntryId, Handle, Settlement};
use crate::event::BodyForm;
use crate::health::Health;
use crate::plugin::{self, Plugins};
use crate::queue::memory::Memory;
use crate::queue::{Ahead, DeadPage, Depth, Due, Error, Filter, Queue, Start, Unparked};
use crate::request::SignedRequest;
use crate::sender::Post;
use crate::subscription::Ordering;
use crate::telemetry::Telemetry;

/// Seeds that `cargo test` runs.
const SEEDS: u64 = 3000;
/// Faults happen for so long; then everything must come to rest.
const FAULTS_FOR: Duration = Duration::from_secs(20);
/// By then at the latest.
const AT_REST: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(2);

/// What all hosts of one run share.
struct World {
    memory: Memory,
    rng: Mutex<fastrand::Rng>,
    began: Instant,
    /// How likely a fault is at an await, in percent; none in some runs.
    faults: u32,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By event: how often it was tried, and how often it was taken.
    tries: HashMap<String, usize>,
    taken: HashMap<String, usize>,
    /// By line: which events were taken for the first time, in that order.
    lines: HashMap<String, Vec<usize>>,
    /// By host and subscription: attempts under way now.
    under_way: HashMap<(usize, String), usize>,
    /// Faults that explain why an event is delivered twice.
    excuses: usize,
}

/// One host's view of the world. When it is killed, nothing that it does has an effect any more.
#[derive(Clone)]
struct View {
    world: Arc<World>,
    host: usize,
    killed: tokio_util::sync::CancellationToken,
}

impl Seen {
    fn take(&mut self, event: String, line: Option<String>) {
        let number = event[2..].parse().unwrap();
        let times = self.taken.entry(event).or_default();
        *times += 1;
        if let Some(line) = line.filter(|_| *times == 1) {
            self.lines.entry(line).or_default().push(number);
        }
    }
}

impl World {
    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.rng.lock().unwrap()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn below(&self, end: u64) -> u64 {
        self.rng().u64(0..end)
    }

    fn strikes(&self) -> bool {
        self.began.elapsed() < FAULTS_FOR && self.rng().u32(0..100) < self.faults
    }
}

impl View {
    /// An await at which anything may happen: a delay, a stop that outlasts leases, the end of the host, an error.
    async fn point(&self) -> Result<(), Error> {
        if self.killed.is_cancelled() {
            std::future::pending::<()>().await;
        }
        if !self.world.strikes() {
            return Ok(());
        }
        let excuse = || self.world.seen().excuses += 1;
        match self.world.below(100) {
            0..50 => sleep(Duration::from_millis(self.world.below(300))).await,
            50..80 => {
                excuse();
                return Err(Error::Unavailable {
                    store: "the simulation".to_owned(),
                    why: "so the seed says".to_owned(),
                });
            }
            80..90 => {
                excuse();
                sleep(LEASE + Duration::from_millis(self.world.below(5000))).await;
            }
            _ => {
                excuse();
                self.killed.cancel();
            }
        }
        if self.killed.is_cancelled() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Each call may fail before it did anything, and after it did everything.
macro_rules! at_both_ends {
    ($view:ident, $call:expr) => {{
        $view.point().await?;
        let answer = $call.await;
        $view.point().await?;
        answer
    }};
}

#[async_trait]
impl Queue for View {
    async fn publish(&self, events: &[Bytes]) -> Result<Vec<EntryId>, Error> {
        self.world.memory.publish(events).await
    }

    async fn receive(&self, worker: usize, max: NonZeroUsize, wait: Duration) -> Result<Vec<Entry>, Error> {
        at_both_ends!(self, self.world.memory.receive(worker, max, wait))
    }

    async fn take_due(&self, max: NonZeroUsize) -> Result<Due, Error> {
        at_both_ends!(self, self.world.memory.take_due(max))
    }

    async fn claim(&self, max: NonZeroUsize) -> Result<Vec<Entry>, Error> {
        at_both_ends!(self, self.world.memory.claim(max))
    }

    async fn beat(&self) -> Result<(), Error> {
        at_both_ends!(self, self.world.memory.beat())
    }

    async fn give_back(&self, handles: &[Handle]) -> Result<(), Error> {
        at_both_ends!(self, self.world.memory.give_back(handles))
    }

    async fn leave(&self) -> Result<(), Error> {
        at_both_ends!(self, self.world.memory.leave())
    }

    async fn tidy(&self) -> Result<u64, Error> {
        at_both_ends!(self, self.world.memory.tidy())
    }

    async fn settle(&self, batch: &[Settlement]) -> Result<(), Error> {
        at_both_ends!(self, self.world.memory.settle(batch))
    }

    async fn unpark(&self, wanted: &[(Arc<str>, usize)]) -> Result<Vec<Unparked>, Error> {
        at_both_ends!(self, self.world.memory.unpark(wanted))
    }

    async fn parked(&self, after: Option<&str>, max: NonZeroUsize) -> Result<Vec<Arc<str>>, Error> {
        at_both_ends!(self, self.world.memory.parked(after, max))
    }

    async fn look_ahead(&self, beyond: usize, max: NonZeroUsize) -> Result<Option<Ahead>, Error> {
        at_both_ends!(self, self.world.memory.look_ahead(beyond, max))
    }

    async fn move_ahead(&self, entries: &[(Handle, Bytes)]) -> Result<usize, Error> {
        at_both_ends!(self, self.world.memory.move_ahead(entries))
    }

    async fn dead_letters(&self, filter: &Filter, start: Start, max: NonZeroUsize) -> Result<DeadPage, Error> {
        self.world.memory.dead_letters(filter, start, max).await
    }

    async fn dead_letter(&self, id: EntryId) -> Result<Option<DeadLetter>, Error> {
        self.world.memory.dead_letter(id).await
    }

    async fn replay(&self, ids: &[EntryId]) -> Result<Vec<Option<EntryId>>, Error> {
        self.world.memory.replay(ids).await
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<usize, Error> {
        self.world.memory.purge(ids).await
    }

    async fn depth(&self) -> Result<Depth, Error> {
        at_both_ends!(self, self.world.memory.depth())
    }

    async fn check(&self) -> Result<Vec<String>, Error> {
        self.world.memory.check().await
    }
}

#[async_trait]
impl Post for View {
    async fn post(&self, request: SignedRequest) -> AttemptResult {
        let (_, headers, body) = request.into_parts();
        let header = |name| headers.get(name).unwrap().to_str().unwrap().to_owned();
        let (event, subscription) = (header("x-o2ims-notification-id"), header("x-o2ims-subscription-id"));
        let refused = AttemptResult::Unanswered { why: NoAnswer::Connect, error: "refused".to_owned() };
        if self.point().await.is_err() {
            return refused;
        }
        let place = (self.host, subscription.clone());
        {
            let mut seen = self.world.seen();
            *seen.tries.entry(event.clone()).or_default() += 1;
            let under_way = seen.under_way.entry(place.clone()).or_default();
            *under_way += 1;
            assert!(*under_way <= in_flight(&subscription), "{subscription} has {under_way} attempts under way");
        }
        sleep(Duration::from_millis(self.world.below(100))).await;
        let says = if self.world.strikes() { self.world.below(10) } else { 9 };
        let status = match says {
            0..3 => StatusCode::INTERNAL_SERVER_ERROR,
            3 => StatusCode::TOO_MANY_REQUESTS,
            4 => StatusCode::BAD_GATEWAY,
            _ => StatusCode::NO_CONTENT,
        };
        // The endpoint takes it, and then the answer may be lost.
        if status.is_success() {
            self.world.seen().take(event, line(&subscription, &body));
        }
        let lost = match says {
            5 => true,
            _ => self.point().await.is_err(),
        };
        if says == 5 {
            self.world.seen().excuses += 1;
            sleep(TIMEOUT).await;
        }
        *self.world.seen().under_way.get_mut(&place).unwrap() -= 1;
        if lost {
            return AttemptResult::Unanswered { why: NoAnswer::Timeout, error: "no answer".to_owned() };
        }
        let retry_after = (says == 3).then(|| RetryAfter::Seconds(self.world.below(4)));
        AttemptResult::Answered { status, retry_after }
    }
}

/// Subscriptions differ in what they may have under way.
fn in_flight(subscription: &str) -> usize {
    subscription.len() % 3 + 1
}

/// What must keep an order, and with what.
fn line(subscription: &str, body: &[u8]) -> Option<String> {
    let body = String::from_utf8_lossy(body);
    match subscription {
        "ccc" => Some(body.split("objectRef").nth(1).unwrap()[3..4].to_owned()),
        "dddd" => Some(subscription.to_owned()),
        _ => None,
    }
}

const SUBSCRIPTIONS: [&str; 4] = ["a", "bb", "ccc", "dddd"];

fn config() -> Config {
    let mut config = Config::default();
    config.delivery.timeout = TIMEOUT;
    config.delivery.max_retries = 6;
    config.defaults.breaker_failures = 3;
    config.defaults.breaker_open = Duration::from_secs(1);
    for id in SUBSCRIPTIONS {
        let rate = (id == "bb").then(|| "20/s".parse().unwrap());
        let ordering = match id {
            "ccc" => Some(Ordering::Object),
            "dddd" => Some(Ordering::Subscription),
            _ => None,
        };
        config.subscriptions.insert(
            id.to_owned(),
            Overrides { in_flight: Some(in_flight(id)), rate, ordering, ..Overrides::default() },
        );
    }
    config
}

fn plugins() -> Arc<Plugins> {
    static NONE: OnceLock<Arc<Plugins>> = OnceLock::new();
    let load = || {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Arc::new(runtime.block_on(Plugins::load(plugin::Config::new(directory.path()))).unwrap())
    };
    Arc::clone(NONE.get_or_init(load))
}

fn limits() -> Limits {
    Limits {
        dead_letters_warn: 0,
        worker_count: 2,
        in_flight: 4,
        look_ahead: 1,
        drain_timeout: Duration::from_secs(5),
        settle_timeout: Duration::from_secs(5),
        unrecorded_max: 2,
        stall_after: Duration::from_secs(2),
        claim_every: Duration::from_secs(2),
        beat_every: Duration::from_secs(1),
        body: BodyForm::default(),
        body_bytes_max: 1024,
    }
}

/// Runs a host until it is killed or told to stop, and then the next one in its place.
async fn keep_running(world: Arc<World>, host: usize, stop: tokio_util::sync::CancellationToken) {
    let limits = limits();
    for life in 0_usize.. {
        let killed = tokio_util::sync::CancellationToken::new();
        let view = View { world: Arc::clone(&world), host: host + 100 * life, killed: killed.clone() };
        let parts = Parts {
            queue: Arc::new(view.clone()),
            directory: config().directory(),
            plugins: plugins(),
            sender: Arc::new(view),
            health: Arc::new(Health::starting()),
            telemetry: Arc::new(Telemetry::new(10)),
            gate: limits.gate(),
            limits,
        };
        // Now and then it is told to drain and starts again.
        let until = if world.strikes() { Duration::from_millis(world.below(5000)) } else { AT_REST };
        let told = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = sleep(until) => {}
            }
        };
        tokio::select! {
            biased;
            () = killed.cancelled() => {}
            ended = super::run(parts, told) => ended.expect("no task panics"),
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn simulate(seed: u64, plugins_loaded: Arc<Plugins>) {
    drop(plugins_loaded);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (events, hosts) = (rng.usize(1..40), rng.usize(1..4));
    // One run in four is without any fault, and shows that nothing comes twice then.
    let faults = [0, 5, 15, 40][rng.usize(0..4)];
    let pauses = [20, 10, 1][rng.usize(0..3)];
    let world = Arc::new(World {
        memory: Memory::new(LEASE).with_turns(turns(&config().directory(), &config().delivery).unwrap()),
        rng: Mutex::new(rng),
        began: Instant::now(),
        faults,
        seen: Mutex::default(),
    });
    let stop = tokio_util::sync::CancellationToken::new();
    let running: Vec<_> =
        (0..hosts).map(|host| tokio::spawn(keep_running(Arc::clone(&world), host, stop.clone()))).collect();
    for number in 0..events {
        let subscription = SUBSCRIPTIONS[usize::try_from(world.below(4)).unwrap()];
        let event = format!(
            r#"{{"subscriptionId":"{subscription}","notificationId":"n-{number}","objectRef":"{}","callbackUrl":"http://h/"}}"#,
            number % 2
        );
        world.memory.publish(&[event.into()]).await.unwrap();
        // Many at once now and then, so that some wait behind others.
        if world.below(20) < pauses {
            sleep(Duration::from_millis(world.below(500))).await;
        }
    }
    let depth = loop {
        sleep(Duration::from_millis(500)).await;
        let depth = world.memory.depth().await.unwrap();
        let left = depth.waiting + depth.pending + depth.scheduled + depth.parked + depth.in_line;
        if left == 0 {
            break depth;
        }
        assert!(world.began.elapsed() < AT_REST, "not at rest: {depth:?}");
    };
    stop.cancel();
    for host in running {
        host.await.unwrap();
    }
    check(&world, events, &depth).await;
}

async fn check(world: &World, events: usize, depth: &Depth) {
    let all = NonZeroUsize::new(1000).unwrap();
    let dead = world.memory.dead_letters(&Filter::default(), Start::Newest, all).await.unwrap().letters;
    assert_eq!(u64::try_from(dead.len()).unwrap(), depth.dead);
    let seen = world.seen();
    for number in 0..events {
        let id = format!("n-{number}");
        let taken = seen.taken.get(&id).copied().unwrap_or_default();
        let letters =
            dead.iter().filter(|(_, letter)| String::from_utf8_lossy(&letter.event).contains(&format!("\"{id}\"")));
        let letters = letters.count();
        assert!(taken > 0 || letters == 1, "{id} is lost: taken {taken} times, {letters} dead letters");
        assert!(letters <= 1, "{id} died {letters} times");
        if seen.excuses == 0 {
            assert_eq!(taken + letters, 1, "{id} was taken {taken} times, and nothing explains it");
        }
    }
    for (line, numbers) in &seen.lines {
        assert!(numbers.is_sorted(), "the order of {line} is {numbers:?}");
    }
    if world.faults == 0 {
        assert!(dead.is_empty() && seen.tries.values().all(|tries| *tries == 1), "without faults each is tried once");
    }
}

fn run_seed(seed: u64) {
    fastrand::seed(seed);
    let plugins = plugins();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let running = std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed, plugins)));
    if let Err(panic) = std::panic::catch_unwind(running) {
        eprintln!("WEFT_SEED={seed} repeats this");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn whatever_fails_whenever_each_event_is_delivered_or_a_dead_letter() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("WEFT_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("WEFT_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    std::thread::scope(|scope| {
        let each = seeds.len().div_ceil(4);
        seeds.chunks(each).for_each(|some| {
            scope.spawn(|| some.iter().copied().for_each(run_seed));
        });
    });
}

/// A sender with a bug.
struct Panics;

#[async_trait]
impl Post for Panics {
    async fn post(&self, _: SignedRequest) -> AttemptResult {
        panic!("as the test says")
    }
}

#[test]
fn a_panic_ends_the_host_and_what_it_had_in_hand_comes_again() {
    let (plugins, limits) = (plugins(), limits());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let queue = Arc::new(Memory::new(LEASE));
        let event = Bytes::from_static(br#"{"subscriptionId":"s","callbackUrl":"https://example.com/"}"#);
        queue.publish(&[event]).await.unwrap();
        let parts = Parts {
            queue: Arc::clone(&queue) as Arc<dyn Queue>,
            directory: config().directory(),
            plugins,
            sender: Arc::new(Panics),
            health: Arc::new(Health::starting()),
            telemetry: Arc::new(Telemetry::new(10)),
            gate: limits.gate(),
            limits,
        };
        let running = super::run(parts, std::future::pending());
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), running).await.expect("it ends"), Err(Panicked));
        assert_eq!(queue.depth().await.unwrap().pending, 1);
    });
}
