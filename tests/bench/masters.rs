//! How throughput grows with the masters of a Cluster: the same events through one queue, which is one master's, and
//! through `queue.shards = 3`. Here a host has not the cores to keep three masters busy, so each gets little CPU, the same
//! in both: then they are the bound, and what of it they used is told.

use anyhow::{Result, ensure};
use tests::cluster::keys;
use tests::{Cluster, Event};
use weft::queue::redis::Keys;
use weft::queue::sharded::shard_of;

use crate::scenario::{median, number};
use crate::stack::{Receiver, Weft, config};
use crate::table::{Budget, Figure};
use crate::throttle::Throttle;

const MASTERS: u16 = 3;
const TURNS: usize = 3;
/// Deliveries of one turn.
const DRAINED: usize = 60_000;
/// So many that each shard has as many of them as the others.
const SUBSCRIPTIONS: usize = 999;
/// Beyond what a loaded machine makes of their turns: none is to be taken for gone.
const OPTIONS: [&str; 4] = ["--cluster-node-timeout", "60000", "--appendonly", "no"];

/// What one drain came to.
struct Drain {
    rate: f64,
    /// How much of their share of a core the masters that have work used: the least of them.
    used: f64,
    /// Of them all, in seconds for each delivery.
    cpu: f64,
}

/// One queue and three shards take turns.
pub(crate) async fn masters() -> Result<Vec<Figure>> {
    let (cluster, receiver) = (Cluster::with(usize::from(MASTERS), &OPTIONS).await, Receiver::start()?);
    for shard in 0..MASTERS {
        let (key, master) = (keys().of_shard(shard).events, usize::from(shard));
        // By their names alone two of the three would lie together.
        if cluster.owner(&key).await != master {
            cluster.move_slot_of(&key, master).await;
        }
        ensure!(cluster.owner(&key).await == master, "{key} does not lie on master {master}");
    }
    let (mut one, mut three) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        one.push(drain(&cluster, &receiver, 1).await?);
        three.push(drain(&cluster, &receiver, MASTERS).await?);
    }
    let of = |drains: &[Drain], what: fn(&Drain) -> f64| median(drains.iter().map(what));
    let ratio = median(one.iter().zip(&three).map(|(one, three)| three.rate / one.rate));
    Ok(vec![
        Figure::plain("drain, one queue on one slow master of three", of(&one, |drain| drain.rate), "deliveries/s"),
        Figure::plain("  CPU of the master", of(&one, |drain| drain.cpu * 1e6), "µs/delivery"),
        Figure::bound("  of its share of a core, used", of(&one, |drain| drain.used), "×", Budget::AtLeast(0.7)),
        Figure::plain("drain, three shards on three of them", of(&three, |drain| drain.rate), "deliveries/s"),
        Figure::plain("  CPU of the masters", of(&three, |drain| drain.cpu * 1e6), "µs/delivery"),
        Figure::bound(
            "  of their shares, the least that one used",
            of(&three, |drain| drain.used),
            "×",
            Budget::AtLeast(0.7),
        ),
        Figure::bound("three masters / one", ratio, "×", Budget::AtLeast(2.0)),
    ])
}

/// Publishes, and then drains by a daemon of its own, the masters with little CPU.
async fn drain(cluster: &Cluster, receiver: &Receiver, shards: u16) -> Result<Drain> {
    for node in &cluster.nodes {
        let _: String = node.run(&["FLUSHALL"]).await;
    }
    let masters = load(cluster, receiver, shards).await?;
    let throttle = Throttle::on(&cluster.nodes)?;
    let weft = Weft::start(&sharded(&cluster.url(), shards)).await?;
    let count = u64::try_from(DRAINED)?;
    let figures = receiver.take(count).await?;
    let used = throttle.used()?;
    drop(throttle);
    drop(weft);
    ensure!(figures.count == count, "{} of {count} arrived", figures.count);
    for node in &cluster.nodes {
        let info: String = node.run(&["CLUSTER", "INFO"]).await;
        ensure!(info.contains("cluster_state:ok"), "a master was taken for gone: {info}");
    }
    let used: Vec<_> = masters.iter().map(|master| used[*master]).collect();
    Ok(Drain {
        rate: number(count) / figures.seconds,
        used: used.iter().fold(f64::INFINITY, |least, (_, share)| share.min(least)),
        cpu: used.iter().map(|(cpu, _)| cpu.as_secs_f64()).sum::<f64>() / number(count),
    })
}

/// As producers do, each event to the shard that a daemon would choose; which masters have some now.
async fn load(cluster: &Cluster, receiver: &Receiver, shards: u16) -> Result<Vec<usize>> {
    let url = receiver.url("/");
    let mut masters = Vec::new();
    for shard in 0..shards {
        let keys = if shards == 1 { keys() } else { keys().of_shard(shard) };
        let master = cluster.owner(&keys.events).await;
        let mut connection = cluster.nodes[master].connection().await;
        let subscription = |at: &usize| format!("sub-{}", at % SUBSCRIPTIONS);
        let its: Vec<usize> = (0..DRAINED).filter(|at| shard_of(&subscription(at), shards) == shard).collect();
        for some in its.chunks(1000) {
            let mut pipeline = redis::pipe();
            for at in some {
                let event = Event::to(&url).subscription(&subscription(at)).id(format!("n-{at}")).json();
                pipeline.cmd("XADD").arg(&keys.events).arg("*").arg("event").arg(event).ignore();
            }
            pipeline.query_async::<()>(&mut connection).await?;
        }
        masters.push(master);
    }
    Ok(masters)
}

/// As many workers for each shard, and the same number of them without shards.
fn sharded(url: &str, shards: u16) -> String {
    let Keys { events, deliveries, retry, dead_letters, .. } = keys();
    let queue = format!(
        "events = {events:?}\ndeliveries = {deliveries:?}\nretry = {retry:?}\ndead_letters = {dead_letters:?}\nshards = {shards}\n[egress]"
    );
    config(url, None, "worker_count = 12").replace("[egress]", &queue)
}
