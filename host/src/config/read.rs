//! Which keys there are. One line per key; the defaults stand in the parent module.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::reader::{Reader, Report};
use super::source::{self, Node, Source, Table, Value};
use super::{
    Admin, Config, Defaults, Delivery, Egress, HTTP_TIMEOUT, Mistake, NamedPlugin, Overrides, PluginRef, Plugins, Queue,
};
use crate::admin::{Role, Token, TokenSecret};
use crate::event::BodyForm;
use crate::plugin::{Grant, HttpGrant};
use crate::secret::Scheme;
use crate::subscription::{Mode, OnError, Ordering};

const ON_ERROR: [(&str, OnError); 3] =
    [("retry", OnError::Retry), ("deliver", OnError::Deliver), ("drop", OnError::Drop)];
const ORDERING: [(&str, Ordering); 3] =
    [("none", Ordering::None), ("subscription", Ordering::Subscription), ("object", Ordering::Object)];
const TENANTS: &str = "for example \"acme\"";
const RATES: &str = "rates look like \"100/s\", \"90/min\" or \"1000/h\"";
const BURSTS: RangeInclusive<u64> = 1..=1_000_000;
const BREAKER_FAILURES: RangeInclusive<u64> = 1..=1_000_000_000;
const MEBIBYTE: u64 = 1024 * 1024;

/// Reads it all, and says what is wrong with it.
pub(super) fn config(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> (Config, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let mut table = match file.map(read_file) {
        None => Table::new(),
        Some(Ok(table)) => table,
        Some(Err(mistake)) => {
            mistakes.push(mistake);
            Table::new()
        }
    };
    source::overlay(&mut table, environment);
    let directory = file.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
    let report = Report { mistakes: RefCell::new(mistakes), directory };
    let mut root = Reader::new(&report, String::new(), Source::Nowhere, table);
    let mut config = Config::default();
    config.queue.read(root.section("queue"));
    config.delivery.read(root.section("delivery"));
    config.defaults.read(root.section("defaults"));
    config.plugins.read(root.section("plugins"));
    config.egress.read(root.section("egress"));
    config.admin.read(root.section("admin"));
    let mut metrics = root.section("metrics");
    set(&mut config.metrics.subscription_labels, metrics.count("subscription_labels", 0..=1_000_000));
    metrics.finish();
    config.subscriptions =
        root.sections("subscriptions").into_iter().map(|(id, reader)| (id, Overrides::read(reader))).collect();
    root.finish();
    (config, report.mistakes.into_inner())
}

fn read_file(file: &Path) -> Result<Table, Mistake> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        let what = format!("cannot be read: {error}");
        Mistake { source: name.clone(), path: String::new(), what }
    })?;
    source::parse(&name, &text)
}

fn set<T>(into: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *into = value;
    }
}

impl Queue {
    fn read(&mut self, mut reader: Reader<'_>) {
        reader.text("url", &mut self.url);
        self.tls.ca = reader.parsed("tls_ca", "a path is expected");
        self.tls.cert = reader.parsed("tls_cert", "a path is expected");
        self.tls.key = reader.parsed("tls_key", "a path is expected");
        set(&mut self.waits.connect, reader.duration("connect_timeout"));
        set(&mut self.waits.response, reader.duration("response_timeout"));
        reader.text("events", &mut self.events);
        reader.text("deliveries", &mut self.deliveries);
        reader.text("retry", &mut self.retry);
        reader.text("dead_letters", &mut self.dead_letters);
        reader.text("group", &mut self.group);
        set(&mut self.shards, reader.count("shards", 1..=1024));
        set(&mut self.heartbeat, reader.duration("heartbeat"));
        set(&mut self.dead_after, reader.duration("dead_after"));
        set(&mut self.claim_idle, reader.duration("claim_idle"));
        set(&mut self.max_claims, reader.count("max_claims", 1..=1_000_000));
        set(&mut self.adopt_older_than, reader.duration("adopt_older_than"));
        self.retention = reader.duration("retention");
        set(&mut self.deliveries_retention, reader.duration("deliveries_retention"));
        set(&mut self.look_ahead, reader.count("look_ahead", 0..=1_000_000_000));
        set(&mut self.dead_letters_warn, reader.count("dead_letters_warn", 0..=1_000_000_000_000));
        set(&mut self.stall_after, reader.duration("stall_after"));
        reader.finish();
    }
}

impl Delivery {
    fn read(&mut self, mut reader: Reader<'_>) {
        set(&mut self.worker_count, reader.count("worker_count", 1..=1024));
        set(&mut self.timeout, reader.duration("timeout"));
        set(&mut self.max_retries, reader.count("max_retries", 0..=1000));
        set(&mut self.retry_backoff, reader.duration("retry_backoff"));
        set(&mut self.max_backoff, reader.duration("max_backoff"));
        self.hmac_secret = reader.secret("hmac_secret");
        set(&mut self.in_flight, reader.count("in_flight", 1..=65_536));
        set(&mut self.in_flight_per_subscription, reader.count("in_flight_per_subscription", 1..=65_536));
        set(&mut self.drain_timeout, reader.duration("drain_timeout"));
        set(&mut self.settle_timeout, reader.duration("settle_timeout"));
        set(&mut self.unrecorded_max, reader.count("unrecorded_max", 0..=1_000_000));
        set(&mut self.body_bytes_max, bytes(reader.size("body_bytes_max", 64 * MEBIBYTE)));
        set(
            &mut self.body,
            reader.word("body", &[("seed", BodyForm::WithoutCallback), ("verbatim", BodyForm::Verbatim)]),
        );
        set(&mut self.response_bytes_max, bytes(reader.size("response_bytes_max", 64 * MEBIBYTE)));
        reader.finish();
    }
}

impl Defaults {
    fn read(&mut self, mut reader: Reader<'_>) {
        set(&mut self.plugins, chain(&mut reader));
        set(&mut self.signatures, signatures(&mut reader));
        self.rate = reader.parsed("rate", RATES);
        self.burst = reader.count("burst", BURSTS);
        set(&mut self.breaker_failures, reader.count("breaker_failures", BREAKER_FAILURES));
        set(&mut self.breaker_open, reader.duration("breaker_open"));
        self.disable_after = reader.duration("disable_after");
        set(&mut self.disable_on_gone, reader.flag("disable_on_gone"));
        set(&mut self.ordering, reader.word("ordering", &ORDERING));
        self.tenant = reader.parsed("tenant", TENANTS);
        reader.finish();
    }
}

impl Overrides {
    fn read(mut reader: Reader<'_>) -> Overrides {
        let overrides = Overrides {
            plugins: chain(&mut reader),
            signatures: signatures(&mut reader),
            hmac_secret: reader.secret("hmac_secret"),
            timeout: reader.duration("timeout"),
            max_retries: reader.count("max_retries", 0..=1000),
            retry_backoff: reader.duration("retry_backoff"),
            max_backoff: reader.duration("max_backoff"),
            in_flight: reader.count("in_flight", 1..=65_536),
            rate: reader.parsed("rate", RATES),
            burst: reader.count("burst", BURSTS),
            breaker_failures: reader.count("breaker_failures", BREAKER_FAILURES),
            breaker_open: reader.duration("breaker_open"),
            disable_after: reader.duration("disable_after"),
            disable_on_gone: reader.flag("disable_on_gone"),
            ordering: reader.word("ordering", &ORDERING),
            tenant: reader.parsed("tenant", TENANTS),
        };
        reader.finish();
        overrides
    }
}

impl Plugins {
    fn read(&mut self, mut reader: Reader<'_>) {
        set(&mut self.dir, reader.parsed::<PathBuf>("dir", "a path is expected"));
        set(&mut self.memory_max, reader.size("memory_max", 4096 * MEBIBYTE));
        set(&mut self.cpu_max, reader.duration("cpu_max"));
        set(&mut self.time_max, reader.duration("time_max"));
        set(&mut self.stack_max, reader.size("stack_max", 64 * MEBIBYTE));
        set(&mut self.table_elements_max, reader.count("table_elements_max", 1..=10_000_000));
        set(&mut self.core_instances_max, reader.count("core_instances_max", 1..=10_000));
        set(&mut self.memories_max, reader.count("memories_max", 1..=100));
        set(&mut self.output_max, reader.size("output_max", 1024 * MEBIBYTE));
        set(&mut self.headers_max, reader.count("headers_max", 1..=10_000));
        set(&mut self.header_max, reader.size("header_max", MEBIBYTE));
        set(&mut self.hostcall_max, reader.size("hostcall_max", 1024 * MEBIBYTE));
        set(&mut self.handles_max, reader.count("handles_max", 16..=1_000_000));
        set(&mut self.pointers_max, reader.count("pointers_max", 1..=1_000_000));
        set(&mut self.json_max, reader.size("json_max", 1024 * MEBIBYTE));
        set(&mut self.random_max, reader.size("random_max", MEBIBYTE));
        set(&mut self.reason_max, reader.size("reason_max", MEBIBYTE));
        set(&mut self.accepts_max, reader.count("accepts_max", 1..=10_000));
        set(&mut self.schema_max, reader.size("schema_max", MEBIBYTE));
        set(&mut self.log_lines_max, reader.count("log_lines_max", 0..=100_000));
        set(&mut self.log_max, reader.size("log_max", 64 * MEBIBYTE));
        set(&mut self.calls_max, reader.count("calls_max", 1..=10_000));
        set(&mut self.calls_wait_max, reader.duration("calls_wait_max"));
        set(&mut self.idle_max, reader.count("idle_max", 0..=10_000));
        set(&mut self.idle_memory_max, reader.size("idle_memory_max", 1024 * 1024 * MEBIBYTE));
        set(&mut self.idle_age_max, reader.duration("idle_age_max"));
        set(&mut self.file_bytes_max, reader.size("file_bytes_max", 1024 * MEBIBYTE));
        set(&mut self.state_max, reader.size("state_max", 1024 * MEBIBYTE));
        set(&mut self.state_time_max, reader.duration("state_time_max"));
        set(&mut self.http_requests_max, reader.count("http_requests_max", 0..=1000));
        set(&mut self.http_request_max, reader.size("http_request_max", 1024 * MEBIBYTE));
        set(&mut self.http_answer_max, reader.size("http_answer_max", 1024 * MEBIBYTE));
        self.cache_dir = reader.parsed("cache_dir", "a path is expected");
        set(&mut self.settle, reader.duration("settle"));
        set(&mut self.rescan_every, reader.duration("rescan_every"));
        set(&mut self.gone_after, reader.duration("gone_after"));
        set(&mut self.breaker_failures, reader.count("breaker_failures", 1..=1_000_000));
        set(&mut self.breaker_wait, reader.duration("breaker_wait"));
        set(&mut self.breaker_wait_max, reader.duration("breaker_wait_max"));
        let named = reader.sections("named").into_iter();
        self.named = named.map(|(name, reader)| (name, NamedPlugin::read(reader))).collect();
        reader.finish();
    }
}

impl NamedPlugin {
    fn read(mut reader: Reader<'_>) -> NamedPlugin {
        let named = NamedPlugin {
            memory_max: reader.size("memory_max", 4096 * MEBIBYTE),
            cpu_max: reader.duration("cpu_max"),
            time_max: reader.duration("time_max"),
            state_max: reader.size("state_max", 1024 * MEBIBYTE),
            grants: grants(&mut reader),
            http: reader.optional("http").map(http_grant),
            env: reader.variables("env"),
            reuse: reader.count("reuse", 1..=1_000_000_000).and_then(NonZeroU32::new),
            on_error: reader.word("on_error", &ON_ERROR),
            sha256: reader.parsed("sha256", "64 hex digits are expected"),
        };
        reader.finish();
        named
    }
}

impl Egress {
    fn read(&mut self, mut reader: Reader<'_>) {
        self.tls_ca = reader.parsed("tls_ca", "a path is expected");
        set(&mut self.lookups_max, reader.count("lookups_max", 1..=256));
        for (path, item) in reader.list("allow").unwrap_or_default() {
            match &item.value {
                Value::Text(text) | Value::Raw(text) => match text.parse() {
                    Ok(range) => self.allow.push(range),
                    Err(_) => {
                        let what = format!("{text:?} is no range; ranges look like \"10.0.0.0/8\" or \"fd00::/8\"");
                        reader.mistake(&item.source, &path, what);
                    }
                },
                other => reader.mistake(&item.source, &path, format!("a text is expected, this is {}", other.kind())),
            }
        }
        reader.finish();
    }
}

impl Admin {
    fn read(&mut self, mut reader: Reader<'_>) {
        set(&mut self.listen, reader.parsed("listen", "addresses look like \"127.0.0.1:8090\""));
        for (path, item) in reader.list("tokens").unwrap_or_default() {
            let mut token = reader.reader_of(path, item);
            let mut name = String::new();
            token.text("name", &mut name);
            let role = token.word("role", &[("read", Role::Read), ("write", Role::Write)]).unwrap_or(Role::Read);
            match token.secret_text("secret") {
                Some(secret) => self.tokens.push(Token { name, role, secret: TokenSecret::new(&secret) }),
                None => {
                    token.missing("secret", "{ name = \"ops\", role = \"write\", secret = { env = \"WEFT_TOKEN\" } }")
                }
            }
            token.finish();
        }
        set(&mut self.connections_max, reader.count("connections_max", 1..=65_536));
        set(&mut self.head_timeout, reader.duration("head_timeout"));
        reader.finish();
    }
}

fn bytes(size: Option<u64>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

/// `{ allow = ["https://api.example.com"], timeout = "2s" }`.
fn http_grant(mut reader: Reader<'_>) -> HttpGrant {
    let mut allow = Vec::new();
    for (path, item) in reader.list("allow").unwrap_or_default() {
        match &item.value {
            Value::Text(text) | Value::Raw(text) => match text.parse() {
                Ok(origin) => allow.push(origin),
                Err(_) => {
                    let example = "they look like \"https://api.example.com\" or \"http://10.0.0.5:8080\"";
                    let what = format!("{text:?} is no origin (scheme, host and port, no path); {example}");
                    reader.mistake(&item.source, &path, what);
                }
            },
            other => reader.mistake(&item.source, &path, format!("a text is expected, this is {}", other.kind())),
        }
    }
    let timeout = reader.duration("timeout").unwrap_or(HTTP_TIMEOUT);
    reader.finish();
    HttpGrant { allow, timeout }
}

fn grants(reader: &mut Reader<'_>) -> BTreeSet<Grant> {
    let known = Grant::ALL.map(|grant| (grant.name(), grant));
    reader.words("grants", &known).unwrap_or_default().into_iter().collect()
}

fn signatures(reader: &mut Reader<'_>) -> Option<Vec<Scheme>> {
    reader.words("signatures", &Scheme::ALL.map(|scheme| (scheme.name(), scheme)))
}

fn chain(reader: &mut Reader<'_>) -> Option<Vec<PluginRef>> {
    let items = reader.list("plugins")?;
    Some(items.into_iter().filter_map(|(path, item)| plugin(reader, path, item)).collect())
}

/// `"name"` or `{ name = "…", settings = { … }, on_error = "…", mode = "…" }`.
fn plugin(reader: &Reader<'_>, path: String, item: Node) -> Option<PluginRef> {
    let unset = "{}".to_owned();
    if let Value::Text(name) | Value::Raw(name) = item.value {
        return Some(PluginRef { name, settings: unset, on_error: None, mode: Mode::Live });
    }
    let mut table = reader.reader_of(path, item);
    let mut name = String::new();
    table.text("name", &mut name);
    let settings = table.json("settings");
    let on_error = table.word("on_error", &ON_ERROR);
    let mode = table.word("mode", &[("live", Mode::Live), ("shadow", Mode::Shadow)]).unwrap_or_default();
    if name.is_empty() {
        table.missing("name", "a plugin is \"name\" or { name = \"redact\", settings = { … } }");
    }
    let settings = match settings {
        Some((json, _, true)) => json,
        Some((_, source, false)) => {
            table.mistake_at(&source, "settings", "a table is expected".to_owned());
            unset
        }
        None => unset,
    };
    table.finish();
    (!name.is_empty()).then_some(PluginRef { name, settings, on_error, mode })
}
