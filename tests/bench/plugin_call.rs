//! What one call of a plugin costs with a body of 1 KiB, for an instance of its own and for one that serves many.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use bytes::Bytes;
use weft::event::{BodyForm, Event, Notification};
use weft::plugin::{Cache, Call, Config, Decision, Named, Plugins};
use weft::request::Draft;
use weft::subscription::{Mode, OnError, PluginUse};

const BODY_BYTES: usize = 1024;
const BODY_BYTES_MAX: usize = 1 << 20;
/// Calls between two looks at the clock. Few, so that their events are still in the cache, as fresh from the network.
const BATCH: usize = 50;
const MEASURED: Duration = Duration::from_millis(700);
/// Deliveries of one instance, where instances are reused.
const REUSE: u32 = 1000;

/// Whether an instance serves more than one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instances {
    Fresh,
    Reused,
}

/// Figures of one plugin.
pub(crate) struct PluginCall {
    /// Of one call, of the fastest batch.
    pub(crate) fresh: Duration,
    /// Calls per second of two threads, as a multiple of one's.
    pub(crate) two_threads: f64,
}

/// Measures one call of a file's plugin.
pub(crate) fn call(file: &Path, instances: Instances) -> Result<Duration> {
    let runtime = runtime()?;
    let plugins = load(&runtime, file, instances)?;
    if instances == Instances::Reused {
        let listed = plugins.list();
        ensure!(listed.iter().all(|plugin| plugin.about.is_reusable), "{} is not reusable", file.display());
    }
    Ok(runtime.block_on(spawn(&runtime, &plugins))??.best)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?)
}

fn load(runtime: &tokio::runtime::Runtime, file: &Path, instances: Instances) -> Result<Arc<Plugins>> {
    let dir = tempfile::tempdir()?;
    std::fs::copy(file, dir.path().join("guest.wasm"))?;
    let reuse = NonZeroU32::new(REUSE).filter(|_| instances == Instances::Reused);
    let named = HashMap::from([("guest".to_owned(), Named { reuse, ..Named::default() })]);
    // Some take ten seconds to compile.
    let cache = Cache::In(tests::root().join("target/plugin-cache"));
    Ok(Arc::new(runtime.block_on(Plugins::load(Config { named, cache, ..Config::new(dir.path()) }))?))
}

/// Measures one file.
pub(crate) fn measure(file: &Path) -> Result<PluginCall> {
    let runtime = runtime()?;
    let plugins = load(&runtime, file, Instances::Fresh)?;
    let one = runtime.block_on(spawn(&runtime, &plugins))??;
    let (left, right) = (spawn(&runtime, &plugins), spawn(&runtime, &plugins));
    let both = runtime.block_on(left)??.per_second + runtime.block_on(right)??.per_second;
    Ok(PluginCall { fresh: one.best, two_threads: both / one.per_second })
}

struct Measured {
    /// Per call, of the fastest batch.
    best: Duration,
    per_second: f64,
}

fn spawn(runtime: &tokio::runtime::Runtime, plugins: &Arc<Plugins>) -> tokio::task::JoinHandle<Result<Measured>> {
    runtime.spawn(call_for_a_while(Arc::clone(plugins)))
}

/// Only the calls are measured: each has an event of its own that nobody has looked into.
async fn call_for_a_while(plugins: Arc<Plugins>) -> Result<Measured> {
    let chain = [PluginUse {
        name: "guest".to_owned(),
        settings: "{}".to_owned(),
        settings_revision: 1,
        on_error: OnError::Retry,
        mode: Mode::Live,
    }];
    let (mut best, mut total, mut calls) = (Duration::MAX, Duration::ZERO, 0_u32);
    while total < MEASURED {
        let inputs = (0..BATCH).map(|_| input()).collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        for (call, draft) in inputs {
            let (decision, _) = plugins.run(&chain, call, draft).await;
            ensure!(matches!(decision, Decision::Deliver { .. }), "{decision:?}");
        }
        let took = began.elapsed();
        best = best.min(took / u32::try_from(BATCH)?);
        total += took;
        calls += u32::try_from(BATCH)?;
    }
    Ok(Measured { best, per_second: f64::from(calls) / total.as_secs_f64() })
}

fn input() -> Result<(Call, Draft)> {
    let event = event()?;
    let draft = Draft::new(Arc::clone(&event), BODY_BYTES_MAX);
    let call = Call {
        event,
        subscription_id: "sub-67890".into(),
        destination: "https://smo.example.com".into(),
        entry: weft::entry::EntryId::default(),
        replays: 0,
        run: 0,
        now: SystemTime::UNIX_EPOCH,
    };
    Ok((call, draft))
}

/// An O2-IMS notification as the gateway writes it, with extensions up to [`BODY_BYTES`].
fn event() -> Result<Arc<Event>> {
    let head = r#"{"subscriptionId":"sub-67890","notificationEventType":"o2ims.Resource.Created","objectRef":"/o2ims-infrastructureInventory/v1/resources/node-1","resourceTypeId":"k8s-node","resourcePoolId":"pool-1","globalResourceId":"node-1","timestamp":"2026-01-08T10:30:00Z","notificationId":"notif-12345","extensions":{"#;
    let mut json = head.to_owned();
    while json.len() < BODY_BYTES - 60 {
        json.push_str(&format!(r#""topology.kubernetes.io/zone-{}":"eu-central-1a","#, json.len()));
    }
    json.push_str(r#""last":[1,2.5,null,true]}}"#);
    let notification = Notification::parse(Bytes::from(json), BodyForm::WithoutCallback, String::new)?;
    Ok(Arc::new(notification.event))
}
