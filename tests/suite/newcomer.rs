//! From nothing to a plugin in the daemon, by the README alone: its commands as they are typed, its configuration, its event.

use std::path::Path;

use tests::process::{WeftProcess, finish, weft};
use tests::root;
use tokio::process::Command;

use crate::docs::blocks;
use crate::examples::Running;

/// The README's chapter for those who do not write Rust, with another language in the place of its own.
fn chapter(language: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, chapter) = readme.split_once("## A first plugin in Python").expect("the chapter");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    chapter
        .replace("--lang python", &format!("--lang {language}"))
        .replace("hello-python", &format!("hello-{language}"))
}

/// Bash, where the README lies: with `weft` in its path, and what `make` installed.
fn shell(directory: &Path, script: &str) -> Command {
    let weft = weft();
    let own = weft.parent().expect("a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [own, root().join("target/tools/bin")].into_iter().chain(std::env::split_paths(&path));
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(directory).env("PATH", std::env::join_paths(path).unwrap());
    command.env("XDG_CACHE_HOME", root().join("target/test-cache"));
    command
}

async fn goes_through(language: &str) {
    let chapter = chapter(language);
    let (typed, config) = (blocks(&chapter, "sh"), blocks(&chapter, "toml"));
    let ([build, run], [config]) = (&typed[..], &config[..]) else { panic!("{typed:?} {config:?}") };
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("examples"), directory.path().join("examples")).unwrap();

    // Weft is built already.
    let (weft, build) = build.split_at(build.find("weft plugin new").expect("a project is begun"));
    assert_eq!(weft, "cargo build --release -p weft\nPATH=$PWD/target/release:$PATH\n");
    // It takes the processor for long, and others have deadlines.
    let ran = finish(shell(directory.path(), &format!("renice -n 10 $$ >/dev/null\n{build}")), "").await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("15 fixtures passed"), "{}", ran.err);

    let [serve, receive, publish] = run.lines().collect::<Vec<_>>()[..] else { panic!("{run}") };
    assert_eq!(serve, "weft serve");
    let receiver = Running::start(&mut shell(directory.path(), &format!("exec {}", receive.replace("8081", "0"))));
    let address = receiver.line("listening on http://").await;
    // The README has WASI programs leave that out.
    let left_out =
        |line: &str| language == "c" && (line.starts_with("[plugins.named.") || line.starts_with("reuse = "));
    let config: String = config.lines().filter(|line| !left_out(line)).map(|line| format!("{line}\n")).collect();
    // As on a machine that has nothing else to do.
    let patient = format!("{config}\n[delivery]\ntimeout = \"30s\"\n")
        .replace("[plugins]\n", "[plugins]\ncpu_max = \"5s\"\ntime_max = \"20s\"\n");
    let path = directory.path().to_owned();
    let daemon = WeftProcess::serve_in(directory, &patient).await;
    let mut publishing = shell(&path, &publish.replace("127.0.0.1:8081", &address));
    publishing.env("WEFT_ADMIN_URL", &daemon.admin);
    let ran = finish(publishing, "").await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(receiver.line("x-object: ").await, "/o2ims-infrastructureInventory/v1/resources/node-1");
    assert!(!daemon.log().contains("has no effect"), "{}", daemon.log());
    receiver.end().await;
    daemon.kill().await;
}

/// In two languages whose toolchains are quick; in all of them `languages::*new_project*` begins, builds and tests one.
#[tokio::test]
async fn the_readme_leads_from_nothing_to_a_plugin_in_the_daemon() {
    for language in ["c", "go-component"] {
        goes_through(language).await;
    }
}
