//! The same plugin in every language: `examples/hello-*`, as `make languages` compiles them, judged by the same fixtures; and
//! the projects that `weft plugin new` writes in each.

use std::path::Path;
use std::time::SystemTime;

use tests::process::{Ran, finish, weft};
use tests::root;
use tokio::process::Command;
use tokio::sync::Mutex;

/// How many there are in `examples/fixtures`.
fn fixtures() -> usize {
    let files = std::fs::read_dir(root().join("examples/fixtures")).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().matches("\"expect\"").count()).sum()
}

/// Runs `weft plugin …`: one at a time and behind all else, since compilers take a machine for themselves for minutes, and
/// other tests wait for conditions with deadlines.
async fn plugin(directory: &Path, arguments: &[&str]) -> Ran {
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    // As the Makefile has it: what no Debian package brings is there.
    let tools = root().join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new("nice");
    command.arg(weft()).arg("plugin").args(arguments).current_dir(directory).env("PATH", path);
    command.env("XDG_CACHE_HOME", root().join("target/test-cache"));
    finish(command, "").await
}

/// The same with time for a call: behind all else it may take longer than a daemon allows.
async fn patient(directory: &Path, arguments: &[&str]) -> Ran {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&config, "[plugins]\ncpu_max = \"10s\"\ntime_max = \"30s\"\n").unwrap();
    plugin(directory, &[arguments, &["--config", config.path().to_str().unwrap()]].concat()).await
}

#[track_caller]
fn worked(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

async fn passes(language: &str) {
    let file = root().join(format!("target/languages/hello-{language}.wasm")).display().to_string();
    assert!(Path::new(&file).exists(), "{file} is missing: `make languages` compiles it");
    let ran = patient(&root(), &["test", &file, "--fixtures", "examples/fixtures", "--json"]).await;
    worked(&ran);
    assert_eq!(ran.out.lines().count(), fixtures(), "{}", ran.out);
}

/// Begins a project in a directory of its own. What is large of its tools it takes from the example.
async fn begin(language: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    worked(&plugin(directory.path(), &["new", "--lang", language, "mine"]).await);
    let modules = root().join(format!("examples/hello-{language}/node_modules"));
    if modules.exists() {
        std::os::unix::fs::symlink(modules, directory.path().join("mine/node_modules")).unwrap();
    }
    directory
}

/// A new project as it was written.
async fn new_and_build(language: &str) -> tempfile::TempDir {
    let directory = begin(language).await;
    build(&directory).await;
    directory
}

async fn build(directory: &tempfile::TempDir) {
    worked(&plugin(directory.path(), &["build", "mine"]).await);
    assert!(directory.path().join("mine/mine.wasm").exists());
}

/// The headers that the plugin sets for a delivery of this id, in 2026.
async fn headers(directory: &tempfile::TempDir, id: &str, grants: &[&str]) -> serde_json::Value {
    std::fs::write(directory.path().join("event.json"), format!(r#"{{"notificationId":"{id}"}}"#)).unwrap();
    let words = ["run", "mine/mine.wasm", "--event", "event.json", "--now", "2026-01-08T10:30:00Z", "--json"];
    let ran = patient(directory.path(), &[&words, grants].concat()).await;
    worked(&ran);
    serde_json::from_str::<serde_json::Value>(&ran.out).expect("JSON")["headers"].take()
}

async fn new_build_and_test(language: &str) {
    let directory = new_and_build(language).await;
    worked(&patient(directory.path(), &["test", "mine"]).await);
}

#[tokio::test]
async fn hello_in_rust_passes_the_fixtures() {
    passes("rust").await;
}

#[tokio::test]
async fn hello_in_typescript_passes_the_fixtures() {
    passes("ts").await;
}

#[tokio::test]
async fn hello_in_javascript_passes_the_fixtures() {
    passes("js").await;
}

#[tokio::test]
async fn hello_in_python_passes_the_fixtures() {
    passes("python").await;
}

#[tokio::test]
async fn hello_in_go_passes_the_fixtures() {
    passes("go").await;
}

#[tokio::test]
async fn hello_in_go_as_a_component_passes_the_fixtures() {
    passes("go-component").await;
}

/// Everything a plugin can ask and say, and the garbage that Go collects meanwhile.
#[tokio::test]
async fn the_sdk_for_go_does_all_of_the_contract() {
    let file = root().join("target/languages/go-sdk.wasm").display().to_string();
    assert!(Path::new(&file).exists(), "{file} is missing: `make languages` compiles it");
    let fixtures = "plugins/sdk-go/testdata/contract/fixtures";
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("weft.toml").display().to_string();
    // As on a machine with nothing else to do: the first of these calls looks at the delivery some thousand times.
    let text = "[plugins]\ncpu_max = \"10s\"\ntime_max = \"30s\"\n[plugins.named.go-sdk]\ngrants = [\"state\"]\n";
    std::fs::write(&config, text).unwrap();
    worked(&plugin(&root(), &["test", &file, "--fixtures", fixtures, "--config", &config]).await);
}

/// What the host has no room to write must not be written over Go's own data.
#[tokio::test]
async fn a_component_in_go_that_gets_no_more_memory_gives_no_verdict() {
    let file = root().join("target/languages/hello-go-component.wasm").display().to_string();
    assert!(Path::new(&file).exists(), "{file} is missing: `make languages` compiles it");
    let directory = tempfile::tempdir().unwrap();
    let (event, config) = (directory.path().join("event.json"), directory.path().join("weft.toml"));
    let asked = async |pool_bytes: usize, memory_max: u64| {
        let pool = "p".repeat(pool_bytes);
        let text = format!(r#"{{"subscriptionId":"s","resourcePoolId":"{pool}","objectRef":"/r/1"}}"#);
        std::fs::write(&event, text).unwrap();
        let limits = "cpu_max = \"10s\"\ntime_max = \"30s\"\njson_max = \"16MiB\"\nhostcall_max = \"16MiB\"";
        let text = format!("[delivery]\nbody_bytes_max = \"16MiB\"\n[plugins]\n{limits}\nmemory_max = {memory_max}\n");
        std::fs::write(&config, text).unwrap();
        let [event, config] = [&event, &config].map(|path| path.display().to_string());
        let ran = plugin(&root(), &["run", &file, "--event", &event, "--config", &config, "--json"]).await;
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err))
    };
    let small = asked(8, 64 << 20).await;
    assert_eq!((&small["result"], &small["headers"]["x-object"]), (&"deliver".into(), &"/r/1".into()), "{small}");
    let large = asked(1 << 20, 64 << 20).await;
    assert_eq!(large["result"], "deliver", "{large}");
    let no_more = small["memory_bytes"].as_u64().expect("a number");
    let refused = asked(1 << 20, no_more).await;
    assert_eq!((&refused["result"], &refused["log"]), (&"memory".into(), &serde_json::json!([])), "{refused}");
}

#[tokio::test]
async fn hello_in_c_passes_the_fixtures() {
    passes("c").await;
}

#[tokio::test]
async fn a_new_project_in_python_passes_its_own_fixtures() {
    new_build_and_test("python").await;
}

#[tokio::test]
async fn a_new_project_in_c_passes_its_own_fixtures() {
    new_build_and_test("c").await;
}

#[tokio::test]
async fn a_new_project_in_go_as_a_component_passes_its_own_fixtures() {
    new_build_and_test("go-component").await;
}

/// Compiling these to native code takes as long as all else here, and is the same as for the examples.
#[tokio::test]
async fn new_projects_in_javascript_and_typescript_build() {
    new_and_build("js").await;
    new_and_build("ts").await;
}

const COUNTS: &str = "
from wit_world import exports
from wit_world.imports import state
from wit_world.imports.types import Verdict_Deliver


class Filter(exports.Filter):
    def handle(self, delivery):
        delivery.set_header('x-count', str(state.increment('seen', 1, None)))
        return Verdict_Deliver()


class About(exports.About):
    def register(self, registration):
        pass
";

#[tokio::test]
async fn a_plugin_in_python_that_imports_state_has_it() {
    let directory = begin("python").await;
    let source = directory.path().join("mine/app.py");
    std::fs::write(&source, COUNTS).unwrap();
    build(&directory).await;
    assert_eq!(headers(&directory, "n-1", &["--grant", "state"]).await["x-count"], "1");
    let ran = patient(directory.path(), &["run", "mine/mine.wasm", "--event", "event.json"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("not granted: weft:plugin/state"), "{}", ran.err);

    // What it says when it does not build is what the compiler says.
    std::fs::write(&source, COUNTS.replace("import exports", "import exprots")).unwrap();
    let ran = plugin(directory.path(), &["build", "mine"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("exprots") && !ran.err.contains("it needs"), "{}", ran.err);
}

const COUNTS_IN_TYPESCRIPT: &str = r#"
import type * as About from "weft:plugin/about@0.1.0";
import type * as Filter from "weft:plugin/filter@0.1.0";
import { get, increment } from "weft:plugin/state@0.1.0";

export const filter: typeof Filter = {
  handle(delivery) {
    const count = increment("seen", 41n, undefined) + increment("seen", 1n, undefined);
    delivery.setHeader("x-count", `${count} ${new TextDecoder().decode(get("seen"))}`);
    return { tag: "deliver" };
  },
};
export const about: typeof About = { register() {} };
"#;

#[tokio::test]
async fn a_plugin_in_typescript_has_state_as_its_readme_says() {
    let directory = begin("ts").await;
    let in_project = |file: &str| directory.path().join("mine").join(file);
    let [readme, package] =
        ["README.md", "package.json"].map(|file| std::fs::read_to_string(in_project(file)).unwrap());
    assert!(
        readme.contains("`--world-name full` instead of `described` in `package.json`, in both places"),
        "{readme}"
    );
    std::fs::write(in_project("package.json"), package.replace("--world-name described", "--world-name full")).unwrap();
    std::fs::write(in_project("plugin.ts"), COUNTS_IN_TYPESCRIPT).unwrap();
    build(&directory).await;
    assert_eq!(headers(&directory, "n-1", &["--grant", "state"]).await["x-count"], "83 42");
    let ran = patient(directory.path(), &["run", "mine/mine.wasm", "--event", "event.json"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("not granted: weft:plugin/state"), "{}", ran.err);
}

const TELLS_TIME_AND_CHANCE: &str = r#"
export const filter = {
  handle(delivery) {
    delivery.setHeader("x-now", String(Date.now()));
    delivery.setHeader("x-random", String(Math.random()));
    delivery.setHeader("x-bytes", String(crypto.getRandomValues(new Uint8Array(8))));
    return { tag: "deliver" };
  },
};
export const about = { register() {} };
"#;

#[tokio::test]
async fn time_and_chance_in_javascript_are_the_deliverys_unless_they_are_granted() {
    let directory = begin("js").await;
    std::fs::write(directory.path().join("mine/plugin.js"), TELLS_TIME_AND_CHANCE).unwrap();
    build(&directory).await;
    let (first, same) = (headers(&directory, "n-1", &[]).await, headers(&directory, "n-1", &[]).await);
    let other = headers(&directory, "n-2", &[]).await;
    let granted = ["--grant", "clock,random"];
    let (real, again) = (headers(&directory, "n-1", &granted).await, headers(&directory, "n-1", &granted).await);
    assert_eq!((&first["x-now"], &first), (&"1767868200000".into(), &same));
    assert_eq!(other["x-now"], first["x-now"]);
    for name in ["x-random", "x-bytes"] {
        assert!(other[name] != first[name] && real[name] != first[name] && real[name] != again[name], "{name}: {real}");
    }
    let real: u64 = real["x-now"].as_str().unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(now.as_millis().abs_diff(real.into()) < 600_000, "{real} is not {now:?}");
}
