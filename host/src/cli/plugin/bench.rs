//! `weft plugin bench`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::source;
use crate::cli::desk::{Desk, Keep, Question, Terms};
use crate::plugin::Decision;
use crate::subscription::PluginUse;

/// Events between two looks at the clock, made ready beforehand: few, so that they are still in the processor's cache, as
/// those that just came from the network are.
const BATCH: usize = 32;
/// What is measured: from a hundred nanoseconds to ten minutes, to 0.1 per cent.
const NANOS: (u64, u64) = (100, 600_000_000_000);
const DIGITS: u8 = 3;
/// Of the event that is taken if none is given.
const EVENT_BYTES: usize = 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Bench {
    /// A compiled plugin, wherever it is.
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The event, as a producer writes it; `-` is standard input [default: a notification of 1 KiB].
    #[arg(long, value_name = "FILE")]
    event: Option<PathBuf>,
    /// The subscription's settings for the plugin, a JSON object [default: {}].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Deliveries that a reused instance serves, as `reuse = N` in weft.toml [default: what --config has, or any number].
    #[arg(long, value_name = "N")]
    reuse: Option<NonZeroU32>,
    /// How long to measure, all in all.
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    terms: Terms,
}

/// What calls cost.
#[derive(Debug, Serialize)]
struct Cost {
    /// On one thread.
    mean_ns: u64,
    p50_ns: u64,
    p99_ns: u64,
    per_second: u64,
    /// On two threads together.
    per_second_two_threads: u64,
    memory_bytes: u64,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures<'a> {
    plugin: &'a str,
    sha256: &'a str,
    event_bytes: usize,
    /// With an instance of its own for each call.
    fresh: Cost,
    /// With one instance for many calls, if the plugin says that it can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<Cost>,
    /// For how many; any number if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    reuse: Option<NonZeroU32>,
}

/// What is asked again and again.
#[derive(Clone)]
struct Asked {
    event: Bytes,
    step: PluginUse,
}

impl Bench {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let event = match &self.event {
            Some(file) => source::read("--event", file)?.trim().to_owned().into(),
            None => notification(),
        };
        let settings = source::settings(self.settings.as_deref())?;
        let desk = Arc::new(Desk::load(&self.file, &self.terms, Keep::Code).await?);
        let asked = Asked { event, step: desk.step(&settings) };
        let is_reusable = desk.status().about.is_reusable;
        let phases = if is_reusable { 4 } else { 2 };
        let time = Duration::from_secs(self.seconds) / phases;
        let fresh = cost(&desk, &asked, time).await?;
        let (mut reused, mut reuse) = (None, None);
        if is_reusable {
            let reusing = Arc::new(Desk::load(&self.file, &self.terms, Keep::Instances(self.reuse)).await?);
            reused = Some(cost(&reusing, &asked, time).await?);
            reuse = reusing.reuse().filter(|reuse| *reuse != NonZeroU32::MAX);
        }
        let status = desk.status();
        let (plugin, sha256) = (status.name.as_str(), status.digest.as_str());
        let figures = Figures { plugin, sha256, event_bytes: asked.event.len(), fresh, reused, reuse };
        if self.json {
            println!("{}", serde_json::to_string(&figures)?);
        } else {
            figures.print();
        }
        Ok(())
    }
}

impl Figures<'_> {
    fn print(&self) {
        println!("{}, an event of {} bytes, in microseconds:", self.plugin, self.event_bytes);
        println!("           mean      p50      p99   calls/s  on 2 threads    memory");
        self.fresh.print("fresh");
        match &self.reused {
            Some(reused) => {
                reused.print("reused");
                if let Some(reuse) = self.reuse {
                    println!(
                        "         one instance for {reuse} deliveries: one call in {reuse} is as slow as a fresh one"
                    );
                }
            }
            None => println!("reused   it does not say that an instance may serve more than one delivery"),
        }
    }
}

impl Cost {
    fn print(&self, name: &str) {
        let micros = |nanos| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
        let (mean, p50, p99) = (micros(self.mean_ns), micros(self.p50_ns), micros(self.p99_ns));
        let (one, two, kibibytes) = (self.per_second, self.per_second_two_threads, self.memory_bytes / 1024);
        println!("{name:<6} {mean:>8.1} {p50:>8.1} {p99:>8.1} {one:>9} {two:>13} {kibibytes:>5} KiB");
    }
}

async fn cost(desk: &Arc<Desk>, asked: &Asked, time: Duration) -> anyhow::Result<Cost> {
    let one = measure(desk, asked, time).await??;
    let (left, right) = (measure(desk, asked, time), measure(desk, asked, time));
    let (left, right) = (left.await??, right.await??);
    let nanos = |quantile| one.nanos.value_at_quantile(quantile);
    Ok(Cost {
        mean_ns: u64::try_from(one.busy.as_nanos())? / one.nanos.len().max(1),
        p50_ns: nanos(0.5),
        p99_ns: nanos(0.99),
        per_second: one.per_second()?,
        per_second_two_threads: left.per_second()? + right.per_second()?,
        memory_bytes: desk.memory_max(),
    })
}

struct Measured {
    nanos: Histogram<u64>,
    /// In calls; what is between them is not counted.
    busy: Duration,
}

impl Measured {
    fn per_second(&self) -> anyhow::Result<u64> {
        let nanos = u128::from(self.nanos.len()) * 1_000_000_000 / self.busy.as_nanos().max(1);
        Ok(u64::try_from(nanos)?)
    }
}

/// On a thread of the runtime.
fn measure(desk: &Arc<Desk>, asked: &Asked, time: Duration) -> tokio::task::JoinHandle<anyhow::Result<Measured>> {
    let (desk, asked) = (Arc::clone(desk), asked.clone());
    tokio::spawn(async move {
        // The first calls find nothing in its place yet.
        call_for(&desk, &asked, time / 10).await?;
        call_for(&desk, &asked, time * 9 / 10).await
    })
}

async fn call_for(desk: &Desk, asked: &Asked, time: Duration) -> anyhow::Result<Measured> {
    let nanos = Histogram::new_with_bounds(NANOS.0, NANOS.1, DIGITS).context("the bounds are constant")?;
    let mut measured = Measured { nanos, busy: Duration::ZERO };
    let ends = Instant::now() + time;
    while Instant::now() < ends {
        // Each call has an event of its own that nobody has looked into.
        let questions = (0..BATCH).map(|_| asked.question(desk)).collect::<anyhow::Result<Vec<_>>>()?;
        for question in questions {
            let began = Instant::now();
            let (decision, ending, _) = desk.ask(question).await;
            let took = began.elapsed();
            measured.busy += took;
            measured.nanos.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(NANOS.1));
            match decision {
                Decision::Failed { error, .. } => bail!("it fails, so there is nothing to measure: {error}"),
                _ if ending.is_none() => bail!("it accepts no events of this type: choose one with --event"),
                Decision::Deliver { .. }
                | Decision::Drop { .. }
                | Decision::Postpone { .. }
                | Decision::DeadLetter { .. } => {}
            }
            // A call may take long where the plugin does.
            if Instant::now() >= ends {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(measured)
}

impl Asked {
    fn question(&self, desk: &Desk) -> anyhow::Result<Question> {
        // A body of its own as well, as from the network.
        let event = Bytes::copy_from_slice(&self.event);
        let question = desk.question(event, "1-0", SystemTime::UNIX_EPOCH).context("--event")?;
        Ok(Question { step: self.step.clone(), ..question })
    }
}

/// As a gateway writes it, with extensions up to [`EVENT_BYTES`].
fn notification() -> Bytes {
    let mut json = concat!(
        r#"{"subscriptionId":"sub-67890","callbackUrl":"https://smo.example.com/notify","#,
        r#""notificationEventType":"o2ims.Resource.Created","objectRef":"/o2ims-infrastructureInventory/v1/resources/node-1","#,
        r#""resourceTypeId":"k8s-node","resourcePoolId":"pool-1","globalResourceId":"node-1","#,
        r#""timestamp":"2026-01-08T10:30:00Z","notificationId":"notif-12345","extensions":{"#
    )
    .to_owned();
    while json.len() < EVENT_BYTES - 60 {
        json.push_str(&format!(r#""topology.kubernetes.io/zone-{}":"eu-central-1a","#, json.len()));
    }
    json.push_str(r#""last":[1,2.5,null,true]}}"#);
    json.into()
}
