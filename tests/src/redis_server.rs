//! A real `redis-server` of one's own, on a port of its own, gone when dropped.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue};
use tempfile::TempDir;

use crate::wait::eventually;

/// What a server keeps over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Everything, by its append-only file, synced with each write.
    All,
}

/// One server.
pub struct RedisServer {
    child: Child,
    port: u16,
    keep: Keep,
    /// More words for its command line.
    options: Vec<String>,
    directory: TempDir,
    password: Option<String>,
}

impl RedisServer {
    /// Starts one that keeps nothing.
    pub async fn start() -> RedisServer {
        RedisServer::keeping(Keep::Nothing).await
    }

    /// Starts one and waits until it answers.
    pub async fn keeping(keep: Keep) -> RedisServer {
        RedisServer::with(keep, &[]).await
    }

    /// The same with more words on its command line.
    pub async fn with(keep: Keep, options: &[&str]) -> RedisServer {
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        for _ in 0..20 {
            let port = free_port();
            let mut child = launch(port, keep, &options, &directory);
            if answers(&mut child, &format!("redis://127.0.0.1:{port}")).await {
                return RedisServer { child, port, keep, options, directory, password: None };
            }
            // Somebody else took the port in between.
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("no redis-server could be started; its log is in {}", directory.keep().display());
    }

    /// `redis://…`
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// It wants this one from now on; none if it is empty.
    pub fn password(&mut self, password: &str) {
        self.password = Some(password.to_owned()).filter(|password| !password.is_empty());
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port with what it kept.
    pub async fn restart(&mut self) {
        self.relaunch(&[]);
        self.answers().await;
    }

    /// The same with these arguments; does not wait until it answers.
    pub fn relaunch(&mut self, arguments: &[&str]) {
        self.kill();
        let password = self.password.iter().flat_map(|password| ["--requirepass", password]);
        let arguments = arguments.iter().copied().chain(password).map(str::to_owned);
        let arguments: Vec<String> = self.options.iter().cloned().chain(arguments).collect();
        self.child = launch(self.port, self.keep, &arguments, &self.directory);
    }

    /// Waits until it answers.
    pub async fn answers(&mut self) {
        let url = self.url();
        assert!(answers(&mut self.child, &url).await, "redis-server does not come back");
    }

    /// A connection.
    pub async fn connection(&self) -> MultiplexedConnection {
        let client = Client::open(self.url()).expect("a good URL");
        let patience = Some(Duration::from_secs(20));
        let patient = AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("the server answers")
    }

    /// The same as [`run`](RedisServer::run) where the server may just be cutting its connections.
    pub async fn try_run<T: FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        let client = Client::open(self.url()).expect("a good URL");
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        command.query_async(&mut connection).await.ok()
    }

    /// Runs one command, written as for `redis-cli` but with the words given one by one.
    pub async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        command.query_async(&mut self.connection().await).await.expect("Redis takes the command")
    }

    /// `XADD o2ims:events * event <json>`, as producers do.
    pub async fn publish(&self, json: &str) -> String {
        self.run(&["XADD", "o2ims:events", "*", "event", json]).await
    }

    /// All dead letters, oldest first, as fields.
    pub async fn dead_letters(&self) -> Vec<std::collections::HashMap<String, String>> {
        let entries: Vec<(String, Vec<String>)> = self.run(&["XRANGE", "o2ims:dlq", "-", "+"]).await;
        let fields = |flat: Vec<String>| flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        entries.into_iter().map(|(_, flat)| fields(flat)).collect()
    }

    /// How many entries of a stream its group has not acknowledged.
    pub async fn pending(&self, stream: &str) -> u64 {
        let summary: (u64, redis::Value, redis::Value, redis::Value) =
            self.run(&["XPENDING", stream, "webhook-workers"]).await;
        summary.0
    }

    /// How many entries are not settled: pending, scheduled, parked, in a line or moved ahead. All of one moment: what goes
    /// from one place to the next while they are counted would be in none.
    pub async fn unsettled(&self) -> u64 {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("XPENDING").arg("o2ims:events").arg("webhook-workers");
        for key in ["o2ims:retry", "o2ims:retry:parked", "o2ims:retry:lines", "o2ims:retry:ahead"] {
            pipeline.cmd("ZCARD").arg(key);
        }
        type Pending = (u64, redis::Value, redis::Value, redis::Value);
        let (pending, scheduled, parked, lines, ahead): (Pending, u64, u64, u64, u64) =
            pipeline.query_async(&mut self.connection().await).await.expect("Redis answers");
        pending.0 + scheduled + parked + lines + ahead
    }

    /// Waits until there are none.
    pub async fn all_settled(&self) {
        eventually("all is settled", || async { (self.unsettled().await == 0).then_some(()) }).await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// For a server to answer; some tests have it stall for half a minute.
const START_MAX: Duration = Duration::from_secs(60);

/// A port that nobody listens on right now.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn launch(port: u16, keep: Keep, options: &[String], directory: &TempDir) -> Child {
    let log = File::create(directory.path().join("redis.log")).expect("a log file");
    let append_only = if keep == Keep::All { "yes" } else { "no" };
    let started = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", append_only, "--appendfsync", "always"])
        .arg("--dir")
        .arg(directory.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn();
    started.unwrap_or_else(|error| {
        panic!("redis-server cannot be started ({error}): `make test` installs it, or apt-get install redis-server")
    })
}

async fn answers(child: &mut Child, url: &str) -> bool {
    let started = Instant::now();
    let client = Client::open(url).expect("a good URL");
    while started.elapsed() < START_MAX {
        if child.try_wait().expect("the child can be asked").is_some() {
            return false;
        }
        if let Ok(mut connection) = client.get_multiplexed_async_connection().await
            && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
        {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
