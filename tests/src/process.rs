//! The `weft` program as a process of its own.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::root;
use crate::wait::eventually;

/// For a command to end; some of them compile a plugin.
const TIME_MAX: Duration = Duration::from_secs(600);

/// The compiled `weft`, fresh.
pub fn weft() -> PathBuf {
    program("weft")
}

/// A program of the workspace, fresh. All are built at once, with the features that the tests' own build has.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let debug = BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build.args(["build", "-q", "--workspace", "--all-targets"]).current_dir(root());
        // All targets, as the tests themselves are built: with other dependencies all of it would be compiled twice.
        // What cargo tells this test about its package, build scripts would take for news and build anew, for minutes.
        let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        std::env::vars().filter(|(name, _)| of_package(name)).for_each(|(name, _)| {
            build.env_remove(name);
        });
        assert!(build.status().expect("cargo runs").success(), "the workspace does not build");
        // This test's own program lies in <target>/debug/deps.
        let own = std::env::current_exe().expect("a path");
        own.ancestors().nth(2).expect("target/debug/deps/suite").to_owned()
    });
    debug.join(name)
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs `weft` with these arguments in an empty directory, with this on standard input.
pub async fn run<S: AsRef<OsStr>>(arguments: &[S], input: &str) -> Ran {
    let directory = tempfile::tempdir().expect("a temporary directory");
    run_in(directory.path(), arguments, input).await
}

/// The same in a directory that is there.
pub async fn run_in<S: AsRef<OsStr>>(directory: &std::path::Path, arguments: &[S], input: &str) -> Ran {
    let mut command = Command::new(weft());
    // Compiled plugins are kept there, and not among those of whoever runs the tests.
    command.env("XDG_CACHE_HOME", root().join("target/test-cache"));
    command.args(arguments).current_dir(directory);
    finish(command, input).await
}

/// Runs a command to its end, with this on standard input.
pub async fn finish(mut command: Command, input: &str) -> Ran {
    command.kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("weft runs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        // A command that reads nothing closes it, which is no failure.
        let _ = stdin.write_all(input.as_bytes()).await;
    });
    let output = tokio::time::timeout(TIME_MAX, child.wait_with_output()).await;
    let output = output.expect("it ends in time").expect("it can be waited for");
    writing.await.expect("writing ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A running daemon.
pub struct WeftProcess {
    child: Child,
    directory: TempDir,
    /// Its admin listener, `http://…`
    pub admin: String,
}

impl WeftProcess {
    /// Starts `weft serve` with this configuration in a directory of its own and waits until it is ready.
    pub async fn serve(config: &str) -> WeftProcess {
        let directory = tempfile::tempdir().expect("a temporary directory");
        WeftProcess::serve_in(directory, config).await
    }

    /// The same in a directory that is there.
    pub async fn serve_in(directory: TempDir, config: &str) -> WeftProcess {
        std::fs::write(directory.path().join("weft.toml"), config).expect("the configuration is written");
        let log = directory.path().join("weft.log");
        let mut command = Command::new(weft());
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.stderr(std::fs::File::create(&log).expect("a log file"));
        let mut child = command.spawn().expect("weft runs");
        let admin = eventually("weft serve starts", || {
            let ended = child.try_wait().expect("the child can be asked");
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "weft serve ended: {text}");
            std::future::ready(admin_of(&text))
        })
        .await;
        WeftProcess { child, directory, admin }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Ends it as `kill -9` does.
    pub async fn kill(mut self) -> TempDir {
        // It may have ended by itself.
        let _ = self.child.kill().await;
        self.directory
    }

    /// Kills it and starts another one in the same directory.
    pub async fn kill_and_restart(self) -> WeftProcess {
        let directory = self.kill().await;
        let config = std::fs::read_to_string(directory.path().join("weft.toml")).expect("the configuration is there");
        WeftProcess::serve_in(directory, &config).await
    }

    /// Terminates it and starts another one in the same directory.
    pub async fn terminate_and_restart(mut self) -> WeftProcess {
        assert_eq!(self.terminate().await, Some(0), "{}", self.log());
        self.kill_and_restart().await
    }

    /// Sends it a signal, by its name.
    pub async fn signal(&self, name: &str) {
        let (signal, pid) = (format!("-{name}"), self.pid().to_string());
        let sent = Command::new("kill").args([&signal, &pid]).status().await.expect("kill runs");
        assert!(sent.success(), "no such process");
    }

    /// Sends SIGTERM and waits for its end; its exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits for its end; its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        ended.expect("it ends in time").expect("it can be waited for").code()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("weft.log")).unwrap_or_default()
    }
}

fn admin_of(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("\"started\""))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line["admin"].as_str()?.to_owned())
}
