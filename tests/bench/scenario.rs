//! The figures. Those that are ratios take turns with what they are compared with, and the median of the turns counts:
//! the machine is shared, and what it does to one it shall do to the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tests::{Event, RedisServer};
use weft::queue::Queue;
use weft::queue::embedded::Embedded;

use crate::masters;
use crate::newcomer;
use crate::plugin_call::{self, Cost, PluginCall};
use crate::producer::Producer;
use crate::receiver::Figures;
use crate::scale;
use crate::stack::{Receiver, Weft, bare, config};
use crate::table::{Budget, Figure, print, save};

const TURNS: usize = 5;
/// A turn of draining is short, and one differs from the next by a third.
const DRAIN_TURNS: usize = 25;
/// Deliveries of one turn: some seconds of work.
const DRAINED: usize = 60_000;
/// They go to so many subscriptions.
const SUBSCRIPTIONS: usize = 100;
const LATENCY_RATE: u32 = 1000;
const LATENCY_SECONDS: u32 = 5;
const CACHED_PLUGINS: usize = 20;
const WITH_HELLO: &str = "[defaults]\nplugins = [\"hello-rust\"]";
const REUSED: &str = "tenant = \"acme\"\n[plugins.named.hello-rust]\nreuse = 1000";
const REUSED_APART: &str = "[plugins.named.hello-rust]\nreuse = 1000";
const SWAP_RATE: u32 = 2000;

type Measured = std::pin::Pin<Box<dyn Future<Output = Result<Vec<Figure>>>>>;
/// The name by which it can be asked for, and how it is measured.
type Scenario = (&'static str, fn() -> Measured);

/// Measures the named figures; all, if none is named.
pub(crate) async fn all(names: &[&str]) -> Result<()> {
    let figures: [Scenario; 14] = [
        ("drain", || Box::pin(drain())),
        ("plugin-call", || Box::pin(async { tokio::task::spawn_blocking(plugin_calls).await? })),
        ("languages", || Box::pin(async { tokio::task::spawn_blocking(languages).await? })),
        ("latency", || Box::pin(latency())),
        ("tarpit", || Box::pin(tarpit())),
        ("single", || Box::pin(single())),
        ("start", || Box::pin(start())),
        ("swap", || Box::pin(swap())),
        ("hosts", || Box::pin(scale::hosts())),
        ("scheduled", || Box::pin(scale::scheduled())),
        ("tarpits", || Box::pin(scale::tarpits())),
        ("newcomer", || Box::pin(newcomer::newcomer())),
        ("masters", || Box::pin(masters::masters())),
        ("recovery", || Box::pin(scale::recovery())),
    ];
    for name in names {
        let known = figures.map(|(known, _)| known);
        ensure!(known.contains(name), "{name} is no figure; known are {}", known.join(", "));
    }
    let mut measured = Vec::new();
    for (name, measure) in figures {
        if names.is_empty() || names.contains(&name) {
            let some = measure().await.with_context(|| name.to_owned())?;
            some.iter().for_each(print);
            measured.extend(some);
        }
    }
    save(&measured)
}

/// What one drain came to.
#[derive(Clone, Copy)]
struct Drain {
    rate: f64,
    cpu: f64,
}

/// What is drained, or what a drain is compared with.
const KINDS: [Kind; 6] = [Kind::Bare, Kind::Plain, Kind::Fresh, Kind::Reused, Kind::Apart, Kind::Embedded];

#[derive(Clone, Copy)]
enum Kind {
    Bare,
    Plain,
    Fresh,
    /// By all subscriptions, which are one tenant's.
    Reused,
    /// By each subscription for itself, as where nothing says whose they are.
    Apart,
    Embedded,
}

/// Drain throughput and CPU: bare client, Redis, Redis with a plugin, embedded; taking turns, each beginning with another.
async fn drain() -> Result<Vec<Figure>> {
    let receiver = Receiver::start()?;
    let cache = tempfile::tempdir()?;
    let with_hello = |more: &str| Some((cache.path(), format!("{WITH_HELLO}\n{more}")));
    let mut drains: [Vec<Drain>; KINDS.len()] = Default::default();
    for turn in 0..DRAIN_TURNS {
        for step in 0..KINDS.len() {
            let kind = KINDS[(turn + step) % KINDS.len()];
            receiver.figures().await?;
            drains[kind as usize].push(match kind {
                Kind::Bare => {
                    let bare = bare(&receiver.url("/"), u64::try_from(DRAINED)?)?;
                    Drain { rate: bare.rate, cpu: bare.cpu }
                }
                Kind::Plain => drain_redis(&receiver, &events(&receiver), None).await?,
                Kind::Fresh => drain_redis(&receiver, &events(&receiver), with_hello("")).await?,
                Kind::Reused => drain_redis(&receiver, &events(&receiver), with_hello(REUSED)).await?,
                Kind::Apart => drain_redis(&receiver, &events(&receiver), with_hello(REUSED_APART)).await?,
                Kind::Embedded => drain_embedded(&receiver).await?,
            });
        }
    }
    let [bares, plain, fresh, reused, apart, embedded] = drains;
    let rate = |drains: &[Drain]| median(drains.iter().map(|drain| drain.rate));
    let cpu = |drains: &[Drain]| median(drains.iter().map(|drain| drain.cpu * 1e6));
    let ratio = |above: &[Drain], below: &[Drain], of: fn(&Drain) -> f64| {
        median(above.iter().zip(below).map(|(above, below)| of(above) / of(below)))
    };
    let per_second = "deliveries/s";
    Ok(vec![
        Figure::plain("bare reqwest loop, 64 connections", rate(&bares), "requests/s"),
        Figure::plain("bare reqwest loop, CPU", cpu(&bares), "µs/request"),
        Figure::plain("drain, Redis, signed, no plugin", rate(&plain), per_second),
        Figure::plain("drain, Redis, CPU of the host", cpu(&plain), "µs/delivery"),
        Figure::bound("drain / bare loop", ratio(&plain, &bares, |d| d.rate), "×", Budget::AtLeast(0.8)),
        Figure::bound("CPU per delivery / bare loop", ratio(&plain, &bares, |d| d.cpu), "×", Budget::AtMost(1.25)),
        Figure::plain("drain with a Rust plugin, fresh instances", rate(&fresh), per_second),
        Figure::plain("fresh instances, CPU of the host", cpu(&fresh), "µs/delivery"),
        Figure::bound("fresh instances / no plugin", ratio(&fresh, &plain, |d| d.rate), "×", Budget::AtLeast(0.8)),
        Figure::plain("drain with a Rust plugin, reused instances", rate(&reused), per_second),
        Figure::plain("reused instances, CPU of the host", cpu(&reused), "µs/delivery"),
        Figure::bound("reused instances / no plugin", ratio(&reused, &plain, |d| d.rate), "×", Budget::AtLeast(0.9)),
        Figure::plain("reused, a tenant per subscription, CPU", cpu(&apart), "µs/delivery"),
        Figure::plain("reused, a tenant per subscription / no plugin", ratio(&apart, &plain, |d| d.rate), "×"),
        Figure::plain("drain, embedded queue, every batch fsynced", rate(&embedded), per_second),
        Figure::bound("embedded / Redis", ratio(&embedded, &plain, |d| d.rate), "×", Budget::AtLeast(0.5)),
    ])
}

fn events(receiver: &Receiver) -> Vec<String> {
    let url = receiver.url("/");
    let event = |number: usize| {
        let subscription = format!("sub-{}", number % SUBSCRIPTIONS);
        Event::to(&url).subscription(&subscription).id(format!("notif-{number}")).json()
    };
    (0..DRAINED).map(event).collect()
}

/// With the README's plugin on every delivery, if there is a place for its compiled code and a configuration for it;
/// without any otherwise.
async fn drain_redis(receiver: &Receiver, events: &[String], plugin: Option<(&Path, String)>) -> Result<Drain> {
    let redis = RedisServer::start().await;
    load(&redis, events).await?;
    let config = match plugin {
        Some((cache, more)) => cached(&config(&redis.url(), Some(&hello()), &more), cache),
        None => config(&redis.url(), None, ""),
    };
    let weft = Weft::start(&config).await?;
    drained(receiver, &weft, events.len()).await
}

async fn drain_embedded(receiver: &Receiver) -> Result<Drain> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("queue");
    let queue = Embedded::open(&path, Duration::from_secs(60), 5)?;
    let events: Vec<Bytes> = events(receiver).into_iter().map(Bytes::from).collect();
    for batch in events.chunks(1000) {
        queue.publish(batch).await?;
    }
    drop(queue);
    let weft = Weft::start(&config(&format!("embedded:{}", path.display()), None, "")).await?;
    drained(receiver, &weft, events.len()).await
}

async fn drained(receiver: &Receiver, weft: &Weft, count: usize) -> Result<Drain> {
    let count = u64::try_from(count)?;
    // What starting takes is a figure of its own, and no part of what a delivery costs.
    let started = receiver.wait_for(count / 10).await?;
    let cpu = weft.cpu_seconds()?;
    let figures = receiver.take(count).await?;
    ensure!(figures.count == count, "{} of {count} arrived", figures.count);
    let cpu = (weft.cpu_seconds()? - cpu) / number(count - started);
    Ok(Drain { rate: number(count) / figures.seconds, cpu })
}

/// Puts events into the stream as producers do, many at once.
pub(crate) async fn load(redis: &RedisServer, events: &[String]) -> Result<()> {
    let mut connection = redis.connection().await;
    for batch in events.chunks(1000) {
        let mut pipeline = redis::pipe();
        for event in batch {
            pipeline.cmd("XADD").arg("o2ims:events").arg("*").arg("event").arg(event).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await?;
    }
    Ok(())
}

/// One subscription alone: its places at once are the bound.
async fn single() -> Result<Vec<Figure>> {
    let receiver = Receiver::start()?;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    let url = receiver.url("/");
    let to_one: Vec<String> = (0..DRAINED).map(|number| Event::to(&url).id(format!("n-{number}")).json()).collect();
    for _ in 0..3 {
        one.push(drain_redis(&receiver, &to_one, None).await?.rate);
        many.push(drain_redis(&receiver, &events(&receiver), None).await?.rate);
    }
    let ratio = median(one.iter().zip(&many).map(|(one, many)| one / many));
    Ok(vec![
        Figure::plain("drain, Redis, all of one subscription", median(one.into_iter()), "deliveries/s"),
        Figure::plain("one subscription / a hundred", ratio, "×"),
    ])
}

/// What one call of the README's plugin costs. How fast machines are differs, so each figure is also one of a bare POST.
fn plugin_calls() -> Result<Vec<Figure>> {
    struct Turn {
        post: f64,
        fresh: Cost,
        reused: Cost,
    }
    let receiver = Receiver::start()?;
    let turn = |_| {
        let post = bare(&receiver.url("/"), u64::try_from(DRAINED)?)?.cpu * 1e6;
        let PluginCall { fresh, reused } = plugin_call::measure(&hello().join("hello-rust.wasm"))?;
        Ok(Turn { post, fresh, reused: reused.context("hello-rust is reusable")? })
    };
    let turns = (0..TURNS).map(turn).collect::<Result<Vec<_>>>()?;
    let middle = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
    let fresh = middle(|turn| turn.fresh.micros());
    let fresh_in_posts = middle(|turn| turn.fresh.micros() / turn.post);
    let reused = middle(|turn| turn.reused.micros());
    let reused_in_posts = middle(|turn| turn.reused.micros() / turn.post);
    let two_threads = middle(|turn| turn.fresh.two_threads());
    Ok(vec![
        Figure::bound("plugin call, fresh instance, 1 KiB body", fresh, "µs", Budget::AtMost(9.0)),
        Figure::bound("fresh instance / CPU of a bare POST", fresh_in_posts, "×", Budget::AtMost(0.56)),
        Figure::bound("plugin call, reused instance, 1 KiB body", reused, "µs", Budget::AtMost(2.0)),
        Figure::bound("reused instance / CPU of a bare POST", reused_in_posts, "×", Budget::AtMost(0.125)),
        Figure::bound("two threads / one", two_threads, "×", Budget::AtLeast(1.5)),
    ])
}

/// What one call of the same plugin costs in each language.
fn languages() -> Result<Vec<Figure>> {
    let rows = [
        ("hello-rust", "Rust"),
        ("hello-c", "C as a WASI program"),
        ("hello-go", "Go as a WASI program"),
        ("hello-go-component", "Go as a component"),
        ("hello-ts", "TypeScript"),
        ("hello-js", "JavaScript"),
        ("hello-python", "Python"),
    ];
    let mut figures = Vec::new();
    for (plugin, language) in rows {
        let file = tests::root().join("target/languages").join(format!("{plugin}.wasm"));
        let PluginCall { fresh, reused } = plugin_call::measure(&file)?;
        let costs = [("fresh", Some(fresh)), ("reused", reused)];
        figures.extend(costs.into_iter().filter_map(|(instance, cost)| {
            let row = format!("plugin call, {language}, {instance} instance");
            cost.map(|cost| Figure::plain(row, cost.micros(), "µs"))
        }));
    }
    Ok(figures)
}

/// From XADD to the receiver, at a steady rate.
async fn latency() -> Result<Vec<Figure>> {
    let (receiver, redis) = (Receiver::start()?, RedisServer::start().await);
    let _weft = Weft::start(&config(&redis.url(), None, "")).await?;
    let count = LATENCY_RATE * LATENCY_SECONDS;
    let mut producer = Producer::new(&redis, &receiver, LATENCY_RATE).await;
    producer.publish(count).await?;
    let Figures { latencies_us, .. } = receiver.take(u64::from(count)).await?;
    // The first second opens connections.
    let at = |share: usize| number(latencies_us[latencies_us.len() * share / 100]) / 1000.0;
    Ok(vec![
        Figure::bound("XADD to receiver at 1,000/s, p50", at(50), "ms", Budget::AtMost(1.0)),
        Figure::bound("XADD to receiver at 1,000/s, p99", at(99), "ms", Budget::AtMost(5.0)),
    ])
}

/// The longest way from XADD to the receiver while plugins are copied over one another, and while they are not.
async fn swap() -> Result<Vec<Figure>> {
    let (receiver, redis) = (Receiver::start()?, RedisServer::start().await);
    let wasm = std::fs::read(hello().join("hello-rust.wasm"))?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("hello-rust.wasm");
    std::fs::write(&file, &wasm)?;
    let chain = "[defaults]\nplugins = [\"hello-rust\"]";
    let weft = Weft::start(&config(&redis.url(), Some(dir.path()), chain)).await?;
    let mut producer = Producer::new(&redis, &receiver, SWAP_RATE).await;
    // What opens connections counts for neither.
    producer.publish(SWAP_RATE).await?;
    receiver.take(u64::from(SWAP_RATE)).await?;
    let (mut quiet, mut swapping) = (0, 0);
    for turn in 0..u8::try_from(TURNS)? {
        producer.publish(SWAP_RATE).await?;
        quiet = quiet.max(longest(&receiver, SWAP_RATE).await?);
        std::fs::write(&file, distinct(&wasm, turn))?;
        producer.publish(SWAP_RATE).await?;
        swapping = swapping.max(longest(&receiver, SWAP_RATE).await?);
        weft.uses("hello-rust", &distinct(&wasm, turn)).await?;
    }
    let milliseconds = |micros| number(micros) / 1000.0;
    Ok(vec![
        Figure::plain("longest delivery at 2,000/s", milliseconds(quiet), "ms"),
        Figure::bound(
            "longest delivery at 2,000/s while a plugin is swapped",
            milliseconds(swapping),
            "ms",
            Budget::AtMost(50.0),
        ),
    ])
}

async fn longest(receiver: &Receiver, count: u32) -> Result<u64> {
    let Figures { count: arrived, latencies_us, .. } = receiver.take(u64::from(count)).await?;
    ensure!(arrived == u64::from(count), "{arrived} of {count} arrived");
    latencies_us.last().copied().context("none arrived")
}

/// 99 healthy subscriptions, without and with a hundredth that never answers.
async fn tarpit() -> Result<Vec<Figure>> {
    let receiver = Receiver::start()?;
    let healthy: Vec<String> = events(&receiver).into_iter().filter(|event| !event.contains("\"sub-99\"")).collect();
    let slow =
        |number: usize| Event::to(&receiver.url("/slow")).subscription("sub-99").id(format!("notif-{number}")).json();
    let mixed: Vec<String> = healthy
        .iter()
        .enumerate()
        .flat_map(|(number, event)| std::iter::once(event.clone()).chain((number % 99 == 0).then(|| slow(number))))
        .collect();
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let alone = drain_redis(&receiver, &healthy, None).await?.rate;
        let redis = RedisServer::start().await;
        load(&redis, &mixed).await?;
        let weft = Weft::start(&config(&redis.url(), None, "")).await?;
        let beside = drained(&receiver, &weft, healthy.len()).await?.rate;
        ratios.push(beside / alone);
    }
    let name = "99 subscriptions beside a tarpit / without it";
    Ok(vec![Figure::bound(name, median(ratios.into_iter()), "×", Budget::AtLeast(0.95))])
}

/// From the start of the process to `/readyz`, with compiled plugins in the cache.
async fn start() -> Result<Vec<Figure>> {
    let redis = RedisServer::start().await;
    let (dir, cache) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let wasm = std::fs::read(hello().join("hello-rust.wasm"))?;
    for number in 0..CACHED_PLUGINS {
        std::fs::write(dir.path().join(format!("plugin-{number}.wasm")), distinct(&wasm, u8::try_from(number)?))?;
    }
    let names: Vec<String> = (0..CACHED_PLUGINS).map(|number| format!("plugin-{number}")).collect();
    let chain = format!("[defaults]\nplugins = {names:?}");
    let config = cached(&config(&redis.url(), Some(dir.path()), &chain), cache.path());
    let first = Weft::start(&config).await?.ready_after;
    let mut times = Vec::new();
    for _ in 0..TURNS {
        times.push(Weft::start(&config).await?.ready_after.as_secs_f64() * 1000.0);
    }
    Ok(vec![
        Figure::plain("start to ready, 20 plugins to compile", first.as_secs_f64() * 1000.0, "ms"),
        Figure::bound("start to ready, 20 cached plugins", median(times.into_iter()), "ms", Budget::AtMost(200.0)),
    ])
}

/// A configuration with a place for compiled code. `[plugins]` is the table before `[delivery]`.
fn cached(config: &str, dir: &Path) -> String {
    config.replace("[delivery]", &format!("cache_dir = {:?}\n[delivery]", dir.display().to_string()))
}

/// The same component with a custom section of its own at the end: another content for every cache.
fn distinct(wasm: &[u8], number: u8) -> Vec<u8> {
    [wasm, &[0, 3, 1, b'n', number]].concat()
}

fn hello() -> PathBuf {
    Path::new(&tests::root()).join("target/hello")
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
