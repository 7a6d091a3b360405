//! The tools of whoever writes a plugin, as they are typed: no daemon anywhere.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::process::{Ran, finish, run_in, weft};
use tests::{Answer, Receiver, root, until};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

const EVENT: &str = r#"{"subscriptionId":"sub-1","notificationEventType":"o2ims.Resource.Created","objectRef":"/r/1",
    "callbackUrl":"https://smo.example.com/x?key=1","notificationId":"n-1","n":1.10}"#;

/// A directory with some guests of `tests/fixtures`, compiled.
struct Bench {
    directory: TempDir,
}

impl Bench {
    fn with(guests: &[&str]) -> Bench {
        let bench = Bench { directory: tempfile::tempdir().unwrap() };
        for guest in guests {
            bench.write(&format!("{guest}.wasm"), wasm(guest));
        }
        bench.write("event.json", EVENT);
        bench
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a directory")).unwrap();
        std::fs::write(file, content).unwrap();
    }

    async fn plugin(&self, words: &str) -> Ran {
        let words: Vec<&str> = ["plugin"].into_iter().chain(words.split_whitespace()).collect();
        run_in(self.path(), &words, "").await
    }

    async fn json(&self, words: &str) -> Value {
        let ran = self.plugin(words).await;
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.err))
    }
}

fn wasm(guest: &str) -> Vec<u8> {
    wat::parse_file(root().join("tests/fixtures").join(format!("{guest}.wat"))).unwrap()
}

#[track_caller]
fn says(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}{}", ran.out, ran.err);
    for words in words {
        assert!(ran.out.contains(words) || ran.err.contains(words), "{words:?} in {}{}", ran.out, ran.err);
    }
}

#[tokio::test]
async fn check_says_what_a_file_is_and_asks_for() {
    let bench = Bench::with(&["described", "counter", "program", "wants-http"]);
    let ran = bench.plugin("check described.wasm").await;
    let words = ["described.wasm: good", "component", "1.2.0", "counts its calls", "o2ims.*.Created", "reusable"];
    says(
        &ran,
        0,
        &[&words[..], &["weft:plugin/filter@0.1.0", "weft:plugin/registry@0.1.0", "additionalProperties"]].concat(),
    );

    let found = bench.json("check counter.wasm --json").await;
    assert_eq!(
        (&found["good"], &found["kind"], &found["asks"]),
        (&true.into(), &"component".into(), &json!(["state"]))
    );
    assert_eq!(found["exports"], json!(["weft:plugin/filter@0.1.0"]));
    assert_eq!((found["sha256"].as_str().unwrap().len(), &found["reusable"]), (64, &false.into()));
    says(&bench.plugin("check counter.wasm").await, 0, &["under [plugins.named.\"counter\"]", "grants = [\"state\"]"]);
    assert_eq!(bench.json("check program.wasm --json").await["kind"], "program");

    bench.write("weft.toml", "");
    says(
        &bench.plugin("check counter.wasm --config weft.toml").await,
        1,
        &["imports what it was not granted", "state"],
    );
    bench.write("weft.toml", "[plugins.named.counter]\ngrants = [\"state\"]\n");
    says(&bench.plugin("check counter.wasm --config weft.toml").await, 0, &["good"]);
    bench.write("weft.toml", "[plugins.named.program]\nreuse = 7\n[plugins.named.described]\nreuse = 7\n");
    says(&bench.plugin("check program.wasm --config weft.toml").await, 0, &["good", "reuse = 7 has no effect"]);
    assert!(!bench.plugin("check described.wasm --config weft.toml").await.out.contains("reuse = 7"));
    bench.write("weft.toml", "[plugin]\n");
    says(&bench.plugin("check counter.wasm --config weft.toml").await, 64, &["plugin"]);

    // As wit/README.md has it of a later contract.
    let later = std::fs::read_to_string(root().join("tests/fixtures/deliver.wat")).unwrap().replace("@0.1.0", "@0.2.0");
    bench.write("later.wasm", wat::parse_str(later).unwrap());
    let why = "imports what is not offered: weft:plugin/types@0.2.0";
    says(&bench.plugin("check later.wasm").await, 1, &[why]);

    bench.write("nonsense.wasm", "nonsense");
    let ran = bench.plugin("check described.wasm nonsense.wasm wants-http.wasm absent.wasm").await;
    let whys = [
        "nonsense.wasm: refused",
        "not a WebAssembly file",
        "does not fit the contract",
        "cannot be read",
        "would refuse 3 of 4",
    ];
    says(&ran, 1, &[&["described.wasm: good"], &whys[..]].concat());
    says(&bench.plugin("check").await, 64, &["FILE.wasm"]);
}

#[tokio::test]
async fn run_shows_verdict_edits_log_time_and_memory() {
    let guests = [
        "header",
        "transform",
        "program-echo",
        "drop",
        "postpone",
        "wants-http",
        "trap",
        "log-flood",
        "counter",
        "described",
    ];
    let bench = Bench::with(&guests);
    let run = async |words: &str| bench.plugin(&format!("run --event event.json {words}")).await;

    says(
        &run("header.wasm").await,
        0,
        &["verdict  deliver", "headers  + x-host: reserved", "+ x-weft: seen", "memory   64 KiB"],
    );
    let ran = run("transform.wasm").await;
    says(&ran, 0, &["- content-type: application/json", "+ content-type: text/plain", "-   \"n\": 1.10", "+ hello"]);
    says(&run("drop.wasm").await, 0, &["verdict  drop: no thanks"]);
    says(&run("postpone.wasm").await, 0, &["verdict  postpone in 1day: later"]);
    says(&run("trap.wasm").await, 1, &["verdict  failure: ", "unreachable", "the plugin failed"]);
    says(&run("log-flood.wasm").await, 0, &["log      info ", "more log than is kept", "limits   reached: log"]);
    says(&run("described.wasm").await, 0, &["verdict  drop: 1"]);

    says(&run("counter.wasm").await, 1, &["not granted", "--grant"]);
    says(&run("counter.wasm --grant state").await, 0, &["verdict  drop: 1"]);
    says(&run("wants-http.wasm").await, 1, &["not granted: wasi:http/", "--http"]);
    says(&run("drop.wasm --http nowhere").await, 64, &["no origin"]);
    says(&run("counter.wasm --grant stat").await, 64, &["there are state, clock, random"]);

    let shown = bench.json("run program-echo.wasm --event event.json --now 2026-01-08T10:30:00Z --run 2 --json").await;
    assert_eq!((&shown["verdict"], &shown["headers"]), (&"deliver".into(), &json!({ "x-echo": "yes" })));
    let document = &shown["body"];
    assert_eq!((&document["now"], &document["run"]), (&1_767_868_200_000_u64.into(), &2.into()));
    assert_eq!((&document["destination"], &document["id"]), (&"https://smo.example.com".into(), &"n-1".into()));
    assert!(
        shown["wall_us"].as_u64() >= shown["running_us"].as_u64() && shown["memory_bytes"].as_u64() > Some(0),
        "{shown}"
    );
}

#[tokio::test]
async fn run_asks_those_servers_that_it_is_told_it_may() {
    let bench = Bench::with(&[]);
    let ask = root().join("target/fixtures/ask.wasm");
    assert!(ask.exists(), "{} is missing: `make plugins` compiles it", ask.display());
    bench.write("ask.wasm", std::fs::read(ask).unwrap());
    let server = Receiver::start().await;
    server.answers("/fact", |_| Answer::status(200).body("rack 7"));
    bench.write("settings.json", json!({ "url": server.url("/fact") }).to_string());
    let run = async |words: &str| {
        bench.plugin(&format!("run ask.wasm --event event.json --settings settings.json {words}")).await
    };
    let origin = server.url("");

    says(&run("").await, 1, &["not granted: wasi:http/", "--http"]);
    says(&run("--http https://api.example.com").await, 0, &["verdict  drop: http: denied"]);
    // The guard is the daemon's: this machine is no place to ask, unless its configuration says so.
    says(&run(&format!("--http {origin}")).await, 0, &["verdict  drop: http: the address must not be reached"]);
    assert_eq!(server.arrived().len(), 0);
    bench.write("weft.toml", "[egress]\nallow = [\"127.0.0.0/8\"]\n");
    let ran = run(&format!("--http {origin} --config weft.toml")).await;
    says(&ran, 0, &["verdict  deliver", "+ x-status: 200", "+ x-answer: rack 7"]);
    let asked = server.arrived().remove(0);
    assert_eq!((asked.path.as_str(), asked.header("x-asked")), ("/fact", "yes"));

    // As a daemon with this configuration would.
    let granted = format!("[plugins.named.ask]\nhttp = {{ allow = [{origin:?}], timeout = \"5s\" }}\n");
    bench.write("weft.toml", format!("[egress]\nallow = [\"127.0.0.0/8\"]\n{granted}"));
    says(&run("--config weft.toml").await, 0, &["+ x-answer: rack 7"]);
    assert_eq!(server.arrived().len(), 2);
}

#[tokio::test]
async fn run_takes_event_and_settings_from_files_or_standard_input() {
    let bench = Bench::with(&["program-echo", "described"]);
    let piped = async |words: &str, input: &str| {
        let words: Vec<&str> = ["plugin", "run"].into_iter().chain(words.split_whitespace()).collect();
        run_in(bench.path(), &words, input).await
    };
    bench.write("settings.json", r#"{"mask":"***"}"#);
    let ran = piped("program-echo.wasm --event - --settings settings.json", "{\"notificationId\":\"n-2\"}\n").await;
    says(&ran, 0, &["+   \"id\": \"n-2\"", "\"mask\": \"***\""]);
    says(&piped("program-echo.wasm --event event.json --settings -", "{\"a\":1.0}").await, 0, &["\"a\": 1.0"]);
    says(&piped("described.wasm --event event.json --settings -", "{\"mask\":5}").await, 1, &["settings/mask"]);
    let other = r#"{"notificationEventType":"o2ims.Resource.Deleted"}"#;
    says(&piped("described.wasm --event -", other).await, 0, &["it was not asked"]);

    says(&piped("program-echo.wasm --event - --settings -", "{}").await, 64, &["both"]);
    says(&piped("program-echo.wasm --event event.json --settings -", "[]").await, 1, &["not a JSON object"]);
    says(&piped("program-echo.wasm --event -", "nonsense").await, 1, &["--event -", "not JSON"]);
    says(&piped("program-echo.wasm --event absent.json", "").await, 1, &["absent.json"]);
    bench.write("small.toml", "[delivery]\nbody_bytes_max = \"10B\"\n");
    let large = piped("program-echo.wasm --event event.json --config small.toml", "").await;
    says(&large, 1, &["--event event.json", "delivery.body_bytes_max is 10"]);
    says(&piped("program-echo.wasm", "").await, 64, &["--event"]);
}

#[tokio::test]
async fn run_watch_runs_again_after_each_change() {
    let bench = Bench::with(&["drop", "header", "loop"]);
    bench.write("weft.toml", "[plugins]\ncpu_max = \"1h\"\ntime_max = \"1h\"\n");
    std::fs::copy(bench.path().join("drop.wasm"), bench.path().join("mine.wasm")).unwrap();
    let mut command = Command::new(weft());
    command.args(["plugin", "run", "mine.wasm", "--event", "event.json", "--config", "weft.toml", "--watch"]);
    command.current_dir(bench.path());
    command.env("XDG_CACHE_HOME", root().join("target/test-cache")).kill_on_drop(true);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut printed = child.stdout.take().expect("piped");
    let text = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let reading = std::sync::Arc::clone(&text);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = printed.read(&mut buffer).await {
            reading.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    let times = |words: &str| text.lock().unwrap().matches(words).count();
    until("the first run", || times("verdict  drop") == 1 && times("memory ") == 1).await;
    std::fs::copy(bench.path().join("header.wasm"), bench.path().join("mine.wasm")).unwrap();
    until("another plugin", || times("+ x-weft: seen") == 1).await;
    bench.write("mine.wasm", "half of it");
    tokio::time::sleep(Duration::from_millis(500)).await;
    std::fs::copy(bench.path().join("drop.wasm"), bench.path().join("mine.wasm")).unwrap();
    until("the plugin is well again", || times("verdict  drop") == 2).await;
    bench.write("event.json", r#"{"notificationId":"another"}"#);
    until("another event", || times("verdict  drop") == 3).await;

    // Ctrl-C is heard in the middle of a call as well.
    std::fs::copy(bench.path().join("loop.wasm"), bench.path().join("mine.wasm")).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await.expect("Ctrl-C ends it").unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn bench_measures_fresh_and_reused_calls() {
    let bench = Bench::with(&["described", "deliver", "trap"]);
    let figures = bench.json("bench described.wasm --seconds 1 --json").await;
    for kind in ["fresh", "reused"] {
        let cost = &figures[kind];
        let figure = |name: &str| cost[name].as_u64().unwrap_or_default();
        assert!(figure("p50_ns") > 0 && figure("p99_ns") >= figure("p50_ns") && figure("mean_ns") > 0, "{figures}");
        assert!(figure("per_second") > 0 && figure("per_second_two_threads") > 0, "{figures}");
    }
    assert_eq!(figures["reuse"], Value::Null, "any number");
    // As a daemon has it: by the command, or by its configuration.
    let figures = bench.json("bench described.wasm --seconds 1 --reuse 1 --json").await;
    assert_eq!(figures["reuse"], 1);
    bench.write("weft.toml", "[plugins.named.described]\nreuse = 7\n");
    let ran = bench.plugin("bench described.wasm --seconds 1 --config weft.toml").await;
    says(&ran, 0, &["one instance for 7 deliveries"]);
    says(&bench.plugin("bench described.wasm --reuse 0").await, 64, &["--reuse"]);
    says(&bench.plugin("bench deliver.wasm --seconds 1 --event event.json").await, 0, &["fresh", "it does not say"]);
    says(&bench.plugin("bench trap.wasm --seconds 1").await, 1, &["nothing to measure", "unreachable"]);
    bench.write("event.json", r#"{"notificationEventType":"other"}"#);
    says(&bench.plugin("bench described.wasm --event event.json").await, 1, &["accepts no events of this type"]);
    says(&bench.plugin("bench deliver.wasm --seconds 0").await, 64, &["--seconds"]);
}

#[tokio::test]
async fn test_judges_by_fixtures_and_shows_what_differs() {
    let bench = Bench::with(&["header", "counter", "transform", "program-echo", "trap"]);
    let added = r#""headers":{"X-Weft":"seen","x-host":"reserved"}"#;
    bench.write(
        "fixtures/a.json",
        format!(r#"{{"about":"it was here","event":{{}},"expect":{{"verdict":"deliver",{added}}}}}"#),
    );
    says(&bench.plugin("test header.wasm").await, 0, &["ok   a.json[0]: it was here", "1 fixtures passed"]);

    let wrong = format!(
        r#"[{{"event":{{"n":1.0}},"expect":{{"verdict":"deliver",{added},"body":{{"n":1}}}}}},
        {{"event":{{}},"expect":{{"verdict":"drop"}}}}, {{"event":{{}},"expect":{{"verdict":"deliver",{added}}}}}]"#
    );
    bench.write("other/b.json", wrong);
    let ran = bench.plugin("test header.wasm --fixtures other").await;
    let lines = [
        "FAIL b.json[0]",
        "-   \"n\": 1\n",
        "+   \"n\": 1.0\n",
        "- verdict drop",
        "+ verdict deliver",
        "ok   b.json[2]",
    ];
    says(&ran, 1, &[&lines[..], &["2 of 3 fixtures failed"]].concat());
    let ran = bench.plugin("test header.wasm --fixtures other --json").await;
    let judged: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let passed: Vec<bool> = judged.iter().map(|judged| judged["passed"].as_bool().unwrap()).collect();
    assert_eq!((ran.code, passed.as_slice()), (Some(1), &[false, false, true][..]));

    // A file begins with empty state, the fixtures in it share it.
    let count = |number: u32| format!(r#"{{"event":{{}},"expect":{{"verdict":"drop","reason":"{number}"}}}}"#);
    for file in ["state/a.json", "state/b.json"] {
        bench.write(file, format!("[{},{},{}]", count(1), count(2), count(3)));
    }
    says(&bench.plugin("test counter.wasm --fixtures state").await, 0, &["6 fixtures passed"]);

    bench.write(
        "text/a.json",
        r#"{"event":{},"expect":{"verdict":"deliver","headers":{"content-type":"text/plain"},"bodyText":"hello"}}"#,
    );
    says(&bench.plugin("test transform.wasm --fixtures text").await, 0, &[]);
    bench.write("text/a.json", r#"{"event":{},"expect":{"verdict":"failure"}}"#);
    says(&bench.plugin("test trap.wasm --fixtures text").await, 0, &[]);
    says(&bench.plugin("test program-echo.wasm --fixtures text").await, 1, &["- verdict failure", "+ verdict deliver"]);

    // A plugin whose fixtures are to fail is not left alone by its breaker.
    let failures = vec![r#"{"event":{},"expect":{"verdict":"failure","reason":"x"}}"#; 40].join(",");
    bench.write("text/a.json", format!("[{failures}]"));
    let ran = bench.plugin("test trap.wasm --fixtures text").await;
    assert_eq!((ran.out.matches("unreachable").count(), ran.code), (40, Some(1)), "{}", ran.out);

    bench.write("text/a.json", r#"{"event":{},"expect":{"verdict":"deliver"},"setings":{}}"#);
    says(&bench.plugin("test trap.wasm --fixtures text").await, 1, &["a.json", "setings"]);
    says(&bench.plugin("test trap.wasm --fixtures nowhere").await, 1, &["nowhere"]);
    says(&bench.plugin("test").await, 1, &["there is no plugin's project in ."]);
    says(&bench.plugin("test nonexist").await, 1, &["nonexist: No such file"]);
}

#[tokio::test]
async fn test_says_that_a_source_is_newer_than_what_it_judges() {
    let bench = Bench::with(&["drop"]);
    bench.write("mine/go.mod", "module example.com/mine\n");
    bench.write("mine/fixtures/a.json", r#"{"event":{},"expect":{"verdict":"drop"}}"#);
    let touch = |file: &str, hour: u64| {
        let file = std::fs::File::options().append(true).open(bench.path().join("mine").join(file)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600)).unwrap();
    };
    for file in ["main.go", "below/more.go", "build/made.go", "notes.txt"] {
        bench.write(&format!("mine/{file}"), "");
    }
    bench.write("mine/mine.wasm", wasm("drop"));
    for (file, hour) in [("go.mod", 1), ("main.go", 1), ("below/more.go", 1), ("mine.wasm", 2)] {
        touch(file, hour);
    }
    let ran = bench.plugin("test mine").await;
    assert!(ran.code == Some(0) && !ran.err.contains("note"), "what is made, and notes, do not count: {}", ran.err);
    touch("below/more.go", 3);
    let note = "note: mine/mine.wasm is older than mine/below/more.go: weft plugin build mine\n";
    says(&bench.plugin("test mine").await, 0, &[note, "1 fixtures passed"]);
    touch("mine.wasm", 4);
    assert!(!bench.plugin("test mine").await.err.contains("note"));
}

/// `weft plugin …` with a toolchain that is there, and what it compiles kept for the next time.
async fn with_toolchain(directory: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(weft());
    command.arg("plugin").args(words).current_dir(directory);
    command.env("XDG_CACHE_HOME", root().join("target/test-cache"));
    command.env("CARGO_TARGET_DIR", root().join("target/test-plugins"));
    // What scripts/setup.sh made where the machine's own Go and Rust know no WebAssembly.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", root().join("target/tools/bin").display()));
    if let Ok(rustc) = std::fs::read_to_string(root().join("target/wasm-rustc")) {
        command.env("RUSTC", rustc.trim());
    }
    finish(command, "").await
}

/// From nothing to a plugin that passes its own tests, in a directory outside of the repository.
async fn begins(language: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let weft = async |words: &[&str]| with_toolchain(directory.path(), words).await;
    let ran = weft(&["new", "--lang", language, "my-plugin"]).await;
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "my-plugin"), "{}", ran.err);
    says(&weft(&["test", "my-plugin"]).await, 1, &["weft plugin build my-plugin"]);
    let ran = weft(&["build", "my-plugin"]).await;
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "my-plugin/my-plugin.wasm"), "{}", ran.err);
    let ran = weft(&["test", "my-plugin"]).await;
    assert!(ran.code == Some(0) && ran.out.lines().count() > 3, "{}{}", ran.out, ran.err);
    let project = directory.path().join("my-plugin");
    let ran = with_toolchain(&project, &["run", "my-plugin.wasm", "--event", "event.json"]).await;
    says(&ran, 0, &["+ x-object: /o2ims-infrastructureInventory/v1/resources/node-1"]);
    (directory, project)
}

#[tokio::test]
async fn a_rust_plugin_begins_builds_and_passes_its_own_tests() {
    let (directory, project) = begins("rust").await;
    let build = async || with_toolchain(directory.path(), &["build", "my-plugin"]).await;
    let run = async || with_toolchain(&project, &["run", "my-plugin.wasm", "--event", "event.json"]).await;
    let (source, manifest) = (project.join("src/lib.rs"), project.join("Cargo.toml"));
    let text = std::fs::read_to_string(&source).unwrap();
    // Where and why it panicked is said without `std`, and with it, which is had as the source tells.
    let panics = text.replace("Ok(Verdict::deliver())", "panic!(\"no such {}\", \"thing\")");
    let with_std = panics.replace("#![cfg_attr(target_arch = \"wasm32\", no_std)]", "");
    for (source_text, needs_std) in [(&panics, false), (&with_std, true)] {
        std::fs::write(&source, source_text).unwrap();
        if needs_std {
            let text = std::fs::read_to_string(&manifest).unwrap();
            std::fs::write(&manifest, text.replace(", default-features = false", "")).unwrap();
        }
        says(&build().await, 0, &["my-plugin.wasm"]);
        says(&run().await, 1, &["panicked at src/lib.rs:", "no such thing"]);
        let imports = with_toolchain(&project, &["check", "my-plugin.wasm"]).await.out;
        assert_eq!(imports.contains("wasi:"), needs_std, "{imports}");
    }
    // What it says when it does not compile is what the compiler says.
    std::fs::write(&source, text.replace("Verdict::deliver()", "Verdict::delivr()")).unwrap();
    says(&build().await, 1, &["delivr", "the Rust plugin in my-plugin does not build: "]);
}

#[tokio::test]
async fn a_go_plugin_begins_builds_and_passes_its_own_tests() {
    begins("go").await;
}

#[tokio::test]
async fn new_and_build_say_what_is_wrong() {
    let bench = Bench::with(&[]);
    says(&bench.plugin("new --lang cobol x").await, 64, &["rust"]);
    says(&bench.plugin("new --lang rust My_Plugin").await, 64, &["lower-case letters"]);
    says(&bench.plugin("new --lang rust .").await, 64, &["it has no name"]);
    bench.write("taken/something", "");
    says(&bench.plugin("new --lang rust taken").await, 1, &["not empty"]);
    says(&bench.plugin("build taken").await, 1, &["Cargo.toml (Rust)", "go.mod (Go)"]);
    says(&bench.plugin("build nowhere").await, 1, &["nowhere"]);

    // What is to be typed next can be copied.
    for (name, next) in [("x", "x && weft plugin test x;"), ("sp ace/y", "'sp ace/y' && weft plugin test 'sp ace/y';")]
    {
        let ran = run_in(bench.path(), &["plugin", "new", "--lang", "c", name], "").await;
        says(&ran, 0, &[&format!("next: weft plugin build {next} {name}/README.md has the rest")]);
    }

    // Without any tool in reach.
    bench.write("project/go.mod", "module example.com/x/project\n");
    let mut command = Command::new(weft());
    command.args(["plugin", "build", "project"]).current_dir(bench.path()).env("PATH", bench.path());
    says(&finish(command, "").await, 1, &["go is not installed", "https://go.dev/dl"]);

    // Where there is a compiler, its own words are enough.
    bench.write("c/plugin.c", "");
    bench.write("c/Makefile", "");
    for (tool, is_hinted) in [("make", true), ("clang-19", false)] {
        std::os::unix::fs::symlink("/bin/false", bench.path().join(tool)).unwrap();
        let mut command = Command::new(weft());
        command.args(["plugin", "build", "c"]).current_dir(bench.path()).env("PATH", bench.path());
        let ran = finish(command, "").await;
        assert_eq!((ran.code, ran.err.contains("apt-get install clang-19")), (Some(1), is_hinted), "{}", ran.err);
    }
}
