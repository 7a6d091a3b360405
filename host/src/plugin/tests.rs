use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;

use super::trial::{BODY_BYTES_MAX, EVENT, delivery};
use super::*;
use crate::event::{BodyForm, Notification};
use crate::request::HeaderLimits;

mod breaking;
mod conformance;
mod described;
mod granted;
mod hasty;
mod program;
mod shadowing;
mod shimmed;
mod size;
mod watching;

/// A directory with these fixtures as plugins; it goes away with the value.
struct Fixture {
    dir: tempfile::TempDir,
    config: Config,
}

impl Fixture {
    fn of(names: &[&str]) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(format!("{name}.wasm")), wasm(name)).unwrap();
        }
        let mut config = Config::new(dir.path());
        config.calls_max = 4;
        // Where much else runs, 50 ms of running time may take longer than half a second.
        config.limits.time_max = Duration::from_secs(20);
        Fixture { dir, config }
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Fixture {
        change(&mut self.config);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Fixture {
        std::fs::write(self.dir.path().join(name), content).unwrap();
        self
    }

    async fn load(&self) -> Plugins {
        Plugins::load(self.config.clone()).await.unwrap()
    }
}

fn wasm(name: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    wat::parse_file(fixtures.join(format!("{name}.wat"))).unwrap()
}

fn chain(names: &[&str], on_error: OnError) -> Vec<PluginUse> {
    let one = |name: &&str| PluginUse {
        name: (*name).into(),
        settings: "{}".into(),
        settings_revision: 1,
        on_error,
        mode: Mode::Live,
    };
    names.iter().map(one).collect()
}

/// What is logged while it is the writer of the subscriber.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        self.clone()
    }
}

async fn run(plugins: &Plugins, names: &[&str]) -> (Decision, Vec<Ending>) {
    run_with(plugins, &chain(names, OnError::Retry)).await
}

async fn run_with(plugins: &Plugins, chain: &[PluginUse]) -> (Decision, Vec<Ending>) {
    let (call, draft) = delivery();
    let (decision, reports) = plugins.run(chain, call, draft).await;
    (decision, reports.iter().map(|report| report.ending).collect())
}

/// Runs one plugin that fails; returns how and with which words.
async fn failure(fixture: Fixture, name: &str) -> (Ending, String, Lasting) {
    let plugins = fixture.load().await;
    let (decision, endings) = run(&plugins, &[name]).await;
    let Decision::Failed { plugin, error, lasting } = decision else { panic!("{decision:?}") };
    assert_eq!(plugin, name);
    assert!(plugins.slots.are_all_free(fixture.config.calls_max), "after {name}");
    (endings[0], error, lasting)
}

fn refusal(plugins: &Plugins, name: &str) -> Refusal {
    match plugins.list().into_iter().find(|status| status.name == name).map(|status| status.state) {
        Some(State::Refused(refusal)) => refusal,
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn an_empty_chain_delivers() {
    let plugins = Fixture::of(&[]).load().await;
    let (decision, endings) = run(&plugins, &[]).await;
    assert!(matches!(decision, Decision::Deliver { plugins, .. } if plugins.is_empty()));
    assert_eq!(endings, []);
}

#[tokio::test]
async fn a_missing_directory_is_an_empty_one() {
    let fixture = Fixture::of(&[]).with(|config| config.dir.push("nowhere"));
    assert!(fixture.load().await.list().is_empty());
}

#[tokio::test]
async fn edits_travel_down_the_chain() {
    let plugins = Fixture::of(&["deliver", "header", "transform", "copy-field"]).load().await;
    let (decision, endings) = run(&plugins, &["copy-field", "header", "deliver", "transform"]).await;
    let Decision::Deliver { draft, plugins } = decision else { panic!("{decision:?}") };
    assert_eq!(endings, [Ending::Deliver; 4]);
    assert_eq!(draft.body(), "hello");
    let headers: Vec<_> =
        draft.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(
        headers,
        [("content-type", "text/plain"), ("x-object", "/r/1"), ("x-weft", "seen"), ("x-host", "reserved")]
    );
    assert!(plugins[1].starts_with("header@") && plugins[1].len() == "header@".len() + 12, "{plugins:?}");
}

#[tokio::test]
async fn headers_are_as_many_and_as_large_as_the_operator_lets_them() {
    for (count_max, bytes_max) in [(1, 8192), (64, 5)] {
        let limits = HeaderLimits { count_max, bytes_max };
        let plugins = Fixture::of(&["header"]).with(|config| config.limits.headers = limits).load().await;
        let (call, draft) = delivery();
        let (_, reports) = plugins.run(&chain(&["header"], OnError::Retry), call, draft).await;
        assert_eq!(reports[0].reached, [Reached::Headers], "{limits:?}");
    }
}

#[tokio::test]
async fn the_first_other_verdict_ends_the_chain() {
    let plugins = Fixture::of(&["deliver", "drop", "postpone", "dead-letter"]).load().await;
    let (decision, endings) = run(&plugins, &["deliver", "drop", "deliver"]).await;
    assert!(matches!(decision, Decision::Drop { plugin, reason } if plugin == "drop" && reason == "no thanks"));
    assert_eq!(endings, [Ending::Deliver, Ending::Drop]);

    let (decision, _) = run(&plugins, &["postpone"]).await;
    assert!(matches!(decision, Decision::Postpone { after: POSTPONE_MAX, reason, .. } if reason == "later"));

    let (decision, endings) = run(&plugins, &["dead-letter"]).await;
    assert!(matches!(decision, Decision::DeadLetter { reason, .. } if reason == "bad  [31m fields"));
    assert_eq!(endings, [Ending::DeadLetter]);
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_running_time() {
    let (ending, error, lasting) = failure(Fixture::of(&["loop"]), "loop").await;
    assert_eq!((ending, lasting), (Ending::Cpu, Lasting::Transient));
    assert_eq!(error, "it ran longer than cpu_max, 50ms");
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_time() {
    let fixture = Fixture::of(&["loop"]).with(|config| {
        config.limits.cpu_max = Duration::from_secs(3600);
        let named = Named { time_max: Some(Duration::from_millis(20)), ..Named::default() };
        config.named.insert("loop".to_owned(), named);
    });
    let (ending, error, _) = failure(fixture, "loop").await;
    assert_eq!((ending, error.as_str()), (Ending::Time, "it took longer than time_max, 20ms"));
}

#[tokio::test]
async fn too_much_memory_is_called_by_its_name() {
    let (ending, error, _) = failure(Fixture::of(&["memory"]), "memory").await;
    assert_eq!(ending, Ending::Memory);
    assert!(error.starts_with("it needs more than memory_max, 67108864 bytes: "), "{error}");
}

#[tokio::test]
async fn a_trap_says_what_and_where() {
    let (ending, error, lasting) = failure(Fixture::of(&["trap"]), "trap").await;
    assert_eq!((ending, lasting), (Ending::Trap, Lasting::Transient));
    assert_eq!(error, "wasm trap: wasm `unreachable` instruction executed in crash");
    let (ending, error, _) = failure(Fixture::of(&["recursion"]), "recursion").await;
    assert_eq!(ending, Ending::Stack);
    assert_eq!(
        error,
        "it needs more stack than stack_max: wasm trap: call stack exhausted in deeper < deeper < deeper"
    );
}

#[tokio::test]
async fn what_is_printed_is_logged_up_to_a_limit() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // Another test may be logging for the first time just now, when this subscriber is not asked whether it listens.
    failure(Fixture::of(&["print"]), "print").await;
    tracing::callsite::rebuild_interest_cache();
    lines.0.lock().unwrap().clear();
    let (ending, _, _) = failure(Fixture::of(&["print"]), "print").await;
    assert_eq!(ending, Ending::Cpu);
    let log = lines.text();
    let printed: Vec<_> = log.lines().filter(|line| line.contains("the sky  [31mis falling")).collect();
    assert_eq!(printed.len(), Limits::default().log_lines_max);
    for part in ["INFO weft::plugin", "plugin=\"print\"", "delivery=\"n-1\""] {
        assert!(printed[0].contains(part), "{}", printed[0]);
    }
    assert!(log.contains("more log than is kept"), "{log}");
}

#[tokio::test]
async fn every_allocator_serves() {
    for allocator in [Allocator::ScannedPool, Allocator::Pool, Allocator::OnDemand] {
        let names = ["header", "memory", "loop", "trace", "large-trace"];
        let fixture = Fixture::of(&names).with(|config| config.allocator = Some(allocator));
        let plugins = match Plugins::load(fixture.config.clone()).await {
            Ok(plugins) => plugins,
            // Not every kernel has it.
            Err(Error::Engine(_)) if allocator == Allocator::ScannedPool => continue,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(plugins.allocator(), allocator);
        for (name, ending) in [("header", Ending::Deliver), ("memory", Ending::Memory), ("loop", Ending::Cpu)] {
            assert_eq!(run(&plugins, &[name]).await.1, [ending], "{allocator:?}");
        }
        for name in ["trace", "large-trace"].repeat(3) {
            assert_eq!(run(&plugins, &[name]).await.1, [Ending::Deliver], "{name} met what it left: {allocator:?}");
        }
    }
}

#[tokio::test]
async fn a_plugin_can_say_that_it_failed_for_good() {
    let (ending, error, lasting) = failure(Fixture::of(&["permanent"]), "permanent").await;
    assert_eq!((ending, error.as_str(), lasting), (Ending::Permanent, "not for me", Lasting::Permanent));
}

#[tokio::test]
async fn a_missing_plugin_is_a_failure_like_any_other() {
    let (ending, error, _) = failure(Fixture::of(&[]), "absent").await;
    assert_eq!((ending, error.as_str()), (Ending::Missing, "there is no such plugin"));
    let (ending, error, _) = failure(Fixture::of(&["wants-http"]), "wants-http").await;
    assert_eq!(ending, Ending::Missing);
    assert!(error.starts_with("it was refused: imports what it was not granted"), "{error}");
}

#[tokio::test]
async fn edits_of_a_plugin_that_fails_do_not_count() {
    let plugins = Fixture::of(&["header", "edit-then-trap"]).load().await;
    let (decision, endings) =
        run_with(&plugins, &chain(&["header", "edit-then-trap", "header"], OnError::Deliver)).await;
    let Decision::Deliver { draft, plugins } = decision else { panic!("{decision:?}") };
    assert_eq!(endings, [Ending::Deliver, Ending::Trap, Ending::Deliver]);
    assert_eq!(draft.body(), EVENT);
    assert_eq!(draft.headers().get("content-type").unwrap(), "application/json");
    assert_eq!(draft.headers().get("x-weft").unwrap(), "seen");
    assert_eq!(plugins.len(), 2);
}

#[tokio::test]
async fn on_error_drop_says_why() {
    let plugins = Fixture::of(&["trap"]).load().await;
    let (decision, _) = run_with(&plugins, &chain(&["trap"], OnError::Drop)).await;
    let Decision::Drop { reason, .. } = decision else { panic!("{decision:?}") };
    assert!(reason.starts_with("the plugin failed: wasm trap: "), "{reason}");
}

#[tokio::test]
async fn a_bad_file_stops_no_other() {
    let fixture = Fixture::of(&["deliver", "program", "wants-http", "drop", "trap"])
        .file("text.wasm", b"hello")
        .file("Shouting.wasm", b"hello")
        .file("broken.wasm", &wasm("deliver")[..200])
        .file("empty.wasm", &wat::parse_str("(component)").unwrap())
        .file(
            "wants-more.wasm",
            &wat::parse_str(r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)))"#).unwrap(),
        )
        .file("notes.txt", b"not a plugin")
        .with(|config| {
            let pinned = |sha256: &str| Named { sha256: Some(sha256.to_owned()), ..Named::default() };
            config.named.insert("drop".to_owned(), pinned("00"));
            config.named.insert("gone".to_owned(), Named::default());
            config.named.insert("trap".to_owned(), Named { memory_max: Some(1), ..Named::default() });
        });
    let plugins = fixture.load().await;
    let names: Vec<_> = plugins.list().into_iter().map(|status| status.name).collect();
    let expected = [
        "Shouting",
        "broken",
        "deliver",
        "drop",
        "empty",
        "gone",
        "program",
        "text",
        "trap",
        "wants-http",
        "wants-more",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        refusal(&plugins, "wants-http"),
        Refusal::NotGranted(vec!["wasi:http/outgoing-handler@0.2.0".to_owned(), "weft:plugin/state@0.1.0".to_owned()])
    );
    assert_eq!(refusal(&plugins, "wants-more"), Refusal::NotOffered(vec!["wasi:keyvalue/store@0.2.0".to_owned()]));
    assert_eq!(refusal(&plugins, "text"), Refusal::NotWasm);
    assert_eq!(refusal(&plugins, "Shouting"), Refusal::BadName);
    assert_eq!(refusal(&plugins, "gone"), Refusal::Missing);
    assert_eq!(refusal(&plugins, "empty"), Refusal::NoFilter(Vec::new()));
    assert!(matches!(refusal(&plugins, "broken"), Refusal::Invalid(_)));
    assert!(matches!(refusal(&plugins, "drop"), Refusal::OtherContent { demanded, .. } if demanded == "00"));

    let status = plugins.list().into_iter().find(|status| status.name == "deliver").unwrap();
    assert_eq!((status.state, status.digest.len()), (State::Ready, 64));
    assert_eq!(status.imports, ["weft:plugin/types@0.1.0"]);
    assert!(matches!(run(&plugins, &["deliver"]).await.0, Decision::Deliver { .. }));
    assert!(matches!(refusal(&plugins, "trap"), Refusal::Lifeless(why) if why.contains("memory_max, 1 bytes")));
}

#[tokio::test]
async fn a_pinned_plugin_with_that_content_is_taken() {
    let digest = Fixture::of(&["deliver"]).load().await.list()[0].digest.to_uppercase();
    let fixture = Fixture::of(&["deliver"]).with(|config| {
        config.named.insert("deliver".to_owned(), Named { sha256: Some(digest), ..Named::default() });
    });
    assert_eq!(fixture.load().await.list()[0].state, State::Ready);
}

#[tokio::test]
async fn too_large_a_file_is_refused() {
    let fixture = Fixture::of(&["deliver"]).with(|config| config.file_bytes_max = 100);
    assert_eq!(refusal(&fixture.load().await, "deliver"), Refusal::TooLarge { max: 100 });
}

#[tokio::test]
async fn compiled_code_is_kept_in_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("made/on/demand");
    let fixture = Fixture::of(&["deliver"]).with(|config| config.cache = Cache::In(dir.clone()));
    fixture.load().await;
    assert!(std::fs::read_dir(&dir).unwrap().next().is_some());
    let again = fixture.load().await;
    assert!(matches!(run(&again, &["deliver"]).await.0, Decision::Deliver { .. }));

    // What others may write there would run as native code here.
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        matches!(Plugins::load(fixture.config.clone()).await, Err(Error::Cache { error, .. }) if error.contains("others"))
    );
    let fixture = fixture.with(|config| config.cache = Cache::Try(dir));
    assert!(matches!(run(&fixture.load().await, &["deliver"]).await.0, Decision::Deliver { .. }));
}

#[tokio::test]
async fn a_dropped_call_leaves_its_slot_empty() {
    let fixture = Fixture::of(&["loop", "deliver"]).with(|config| {
        config.calls_max = 1;
        config.limits.cpu_max = Duration::from_secs(3600);
        config.limits.time_max = Duration::from_secs(3600);
    });
    let plugins = fixture.load().await;
    let call = run(&plugins, &["loop"]);
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    assert!(plugins.slots.are_all_free(1));
    assert!(matches!(run(&plugins, &["deliver"]).await.0, Decision::Deliver { .. }));
}

#[tokio::test]
async fn who_waits_too_long_for_a_slot_is_told_so() {
    let fixture = Fixture::of(&["loop", "deliver"]).with(|config| {
        config.calls_max = 1;
        config.wait_max = Duration::from_millis(20);
        config.limits.cpu_max = Duration::from_secs(3600);
        config.limits.time_max = Duration::from_secs(3600);
    });
    let plugins = fixture.load().await;
    tokio::select! {
        biased;
        _ = run(&plugins, &["loop"]) => panic!("it spins for an hour"),
        (_, endings) = run(&plugins, &["deliver"]) => assert_eq!(endings, [Ending::Busy]),
    }
    assert!(plugins.slots.are_all_free(1));
}

#[tokio::test]
async fn more_calls_than_slots_take_turns() {
    let fixture = Fixture::of(&["header", "trap", "memory"]).with(|config| config.breaking.failures = u32::MAX);
    let plugins = Arc::new(fixture.load().await);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..64 {
        let plugins = Arc::clone(&plugins);
        let name = ["header", "trap", "memory", "header"][n % 4];
        calls.spawn(async move { (name, run(&plugins, &[name]).await.1[0]) });
    }
    while let Some(call) = calls.join_next().await {
        let (name, ending) = call.unwrap();
        let expected = match name {
            "trap" => Ending::Trap,
            "memory" => Ending::Memory,
            _ => Ending::Deliver,
        };
        assert_eq!(ending, expected, "{name}");
    }
    assert!(plugins.slots.are_all_free(fixture.config.calls_max));
}

#[tokio::test]
async fn a_spinning_plugin_lets_timers_fire() {
    let fixture = Fixture::of(&["loop"]).with(|config| config.limits.cpu_max = Duration::from_secs(3600));
    let fixture = fixture.with(|config| config.limits.time_max = Duration::from_secs(3600));
    let plugins = fixture.load().await;
    // Both share this one thread: without giving way the timer would never fire.
    tokio::select! {
        _ = run(&plugins, &["loop"]) => panic!("it spins for an hour"),
        () = async { for _ in 0..5 { tokio::time::sleep(Duration::from_millis(2)).await } } => {}
    }
}

#[tokio::test]
async fn two_can_exist_in_one_process() {
    let (one, other) = (Fixture::of(&["deliver"]).load().await, Fixture::of(&["drop"]).load().await);
    assert!(matches!(run(&one, &["deliver"]).await.0, Decision::Deliver { .. }));
    drop(one);
    assert!(matches!(run(&other, &["drop"]).await.0, Decision::Drop { .. }));
    assert_eq!(run(&other, &["deliver"]).await.1, [Ending::Missing]);
}
