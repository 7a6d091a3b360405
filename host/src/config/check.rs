//! What is wrong with values that are each good by themselves.

use super::{Config, Mistake, Overrides};
use crate::link::hash_tag;
use crate::secret::Scheme;
use crate::sender::Authorities;

/// So many heartbeats may be late before a host is taken for dead.
const BEATS_IN_TIME: u32 = 3;

pub(super) fn all(config: &Config) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut wrong = |path: &str, what: String| {
        mistakes.push(Mistake { source: String::new(), path: path.to_owned(), what });
    };
    queue_url(config, &mut wrong);
    keys(config, &mut wrong);
    liveness(config, &mut wrong);
    if let Some(error) = config.egress.tls_ca.as_ref().and_then(|file| Authorities::none().and(file).err()) {
        wrong("egress.tls_ca", error.to_string());
    }
    let none = Overrides::default();
    let subscriptions = config.subscriptions.iter().map(|(id, over)| (format!("subscriptions.{id:?}"), over));
    for (path, over) in [("delivery".to_owned(), &none)].into_iter().chain(subscriptions) {
        times(config, &path, over, &mut wrong);
    }
    if !config.admin.listen.ip().is_loopback() && config.admin.tokens.is_empty() {
        let example = "admin.tokens = [{ name = \"ops\", role = \"write\", secret = { env = \"WEFT_TOKEN\" } }]";
        let what = format!("{} is reachable from outside, which needs a token: {example}", config.admin.listen);
        wrong("admin.listen", what);
    }
    mistakes
}

fn queue_url(config: &Config, wrong: &mut impl FnMut(&str, String)) {
    let url = &config.queue.url;
    if let Some(directory) = url.strip_prefix("embedded:") {
        if directory.is_empty() {
            wrong("queue.url", "a directory is missing: embedded:weft-data".to_owned());
        }
        if config.queue.shards > 1 {
            wrong("queue.shards", "are for Redis; the embedded queue is one: leave it at 1".to_owned());
        }
        return;
    }
    let address = match config.queue.address() {
        Ok(address) => address,
        Err(error) => return wrong("queue.url", format!("{error}; or embedded:DIRECTORY")),
    };
    let tls = &config.queue.tls;
    for (path, file) in [("queue.tls_ca", &tls.ca), ("queue.tls_cert", &tls.cert), ("queue.tls_key", &tls.key)] {
        let Some(file) = file else { continue };
        if !address.is_tls() {
            wrong(path, "queue.url does not use TLS: let it begin with rediss".to_owned());
        } else if let Err(error) = std::fs::File::open(file) {
            wrong(path, format!("{}: {error}", file.display()));
        }
    }
    if tls.cert.is_some() != tls.key.is_some() {
        wrong("queue.tls_cert", "goes with queue.tls_key: give both or none".to_owned());
    }
    if address.is_cluster() || config.queue.shards > 1 {
        one_hash_tag(&config.queue, wrong);
    }
    if config.delivery.worker_count < usize::from(config.queue.shards) {
        let what = format!("each shard needs a worker that reads it: set it to {} or more", config.queue.shards);
        wrong("delivery.worker_count", what);
    }
}

/// All that a script touches must lie in one slot of a Cluster.
fn one_hash_tag(queue: &super::Queue, wrong: &mut impl FnMut(&str, String)) {
    let keys = [
        ("events", &queue.events),
        ("deliveries", &queue.deliveries),
        ("retry", &queue.retry),
        ("dead_letters", &queue.dead_letters),
    ];
    let tags = keys.map(|(_, key)| hash_tag(key));
    if tags[0].is_some() && tags.iter().all(|tag| *tag == tags[0]) {
        return;
    }
    let first = |key: &str| key.split(':').next().unwrap_or_default().to_owned();
    let tag = tags[0].map_or_else(|| first(&queue.events), str::to_owned);
    let mended = keys.map(|(name, key)| {
        let rest = key.replace(['{', '}'], "");
        let rest = rest.strip_prefix(&format!("{tag}:")).unwrap_or(&rest);
        format!("queue.{name} = \"{{{tag}}}:{rest}\"")
    });
    let what = format!(
        "a Cluster, and queue.shards, keep keys together by what stands in braces, and those of one queue must be \
         together: set {}; producers write the first",
        mended.join(", ")
    );
    wrong("queue.events", what);
}

fn keys(config: &Config, wrong: &mut impl FnMut(&str, String)) {
    let queue = &config.queue;
    let data = format!("{}:data", queue.retry);
    let keys = [
        ("queue.events", &queue.events),
        ("queue.deliveries", &queue.deliveries),
        ("queue.retry", &queue.retry),
        ("queue.retry (its :data)", &data),
        ("queue.dead_letters", &queue.dead_letters),
    ];
    for (at, (path, key)) in keys.iter().enumerate() {
        if let Some((other, _)) = keys[..at].iter().find(|(_, earlier)| earlier == key) {
            wrong(path, format!("{key:?} is also {other}; each needs a key of its own"));
        }
    }
}

fn liveness(config: &Config, wrong: &mut impl FnMut(&str, String)) {
    let queue = &config.queue;
    let least = queue.heartbeat * BEATS_IN_TIME;
    for (path, value) in [("queue.dead_after", queue.dead_after), ("queue.claim_idle", queue.claim_idle)] {
        if value < least {
            let show = humantime::format_duration;
            let what = format!(
                "{} with queue.heartbeat {}: living hosts would lose what they have in hand; set it to {} or more",
                show(value),
                show(queue.heartbeat),
                show(least)
            );
            wrong(path, what);
        }
    }
}

fn times(config: &Config, path: &str, over: &Overrides, wrong: &mut impl FnMut(&str, String)) {
    let delivery = &config.delivery;
    if over.max_backoff.unwrap_or(delivery.max_backoff) < over.retry_backoff.unwrap_or(delivery.retry_backoff) {
        wrong(&format!("{path}.max_backoff"), "is shorter than retry_backoff".to_owned());
    }
    let signatures = over.signatures.as_ref().unwrap_or(&config.defaults.signatures);
    if signatures.contains(&Scheme::O2ims) && signatures.contains(&Scheme::O2imsTimestamped) {
        let path = if path == "delivery" { "defaults" } else { path };
        let what = "o2ims and o2ims-timestamped both write X-O2IMS-Signature; keep one of them";
        wrong(&format!("{path}.signatures"), what.to_owned());
    }
}
