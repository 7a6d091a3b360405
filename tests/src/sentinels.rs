//! A master, its replica, and Sentinels that watch them: all real processes, on ports of their own.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use redis::Client;
use tempfile::TempDir;

use crate::RedisServer;
use crate::redis_server::{Keep, free_port};
use crate::wait::eventually;

/// The name under which the Sentinels know the master.
pub const MASTER: &str = "mymaster";

/// Two servers and who watches them.
pub struct Sentinels {
    /// First the one that begins as master, then its replica if there is one.
    pub servers: Vec<RedisServer>,
    watching: Vec<Watching>,
    _directory: TempDir,
}

struct Watching {
    child: Child,
    port: u16,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sentinels {
    /// One master, one replica and three Sentinels, of whom two must agree; waits until all know all.
    pub async fn start() -> Sentinels {
        let master = RedisServer::start().await;
        let of = master.port().to_string();
        let replica = RedisServer::with(Keep::Nothing, &["--replicaof", "127.0.0.1", &of]).await;
        let port = master.port();
        let set = Sentinels::watching(vec![master, replica], port, 3, "").await;
        for sentinel in 0..3 {
            eventually("the Sentinels know each other and the replica", || async {
                let master = set.state(sentinel).await?;
                let is =
                    |name: &str, value: &str| master.chunks_exact(2).any(|pair| pair[0] == name && pair[1] == value);
                (is("num-slaves", "1") && is("num-other-sentinels", "2") && is("flags", "master")).then_some(())
            })
            .await;
        }
        set
    }

    /// So many Sentinels for servers that run already, whose master is reached at this port; with more lines for their
    /// configuration.
    pub async fn watching(servers: Vec<RedisServer>, master: u16, count: usize, lines: &str) -> Sentinels {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let quorum = count / 2 + 1;
        let watching = (0..count).map(|number| {
            let port = free_port();
            let file = directory.path().join(format!("{number}.conf"));
            let own = directory.path().join(number.to_string());
            std::fs::create_dir(&own).expect("a directory of its own");
            let own = own.display();
            let config = format!(
                "port {port}\nbind 127.0.0.1\ndir {own}\n{lines}\nsentinel monitor {MASTER} 127.0.0.1 {master} {quorum}\n\
                 sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 3000\n"
            );
            std::fs::write(&file, config).expect("its configuration is written");
            let log = File::create(directory.path().join(format!("{number}.log"))).expect("a log file");
            let mut command = Command::new("redis-server");
            command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
            Watching { child: command.spawn().expect("redis-server runs"), port }
        });
        let set = Sentinels { servers, watching: watching.collect(), _directory: directory };
        for sentinel in 0..count {
            eventually("a Sentinel answers", || async { set.state(sentinel).await.map(drop) }).await;
        }
        set
    }

    /// `redis+sentinel://…`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{MASTER}", self.addresses())
    }

    /// `host:port,…` of the Sentinels.
    #[must_use]
    pub fn addresses(&self) -> String {
        self.watching.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect::<Vec<_>>().join(",")
    }

    /// What a Sentinel knows of the master, names and values in turn.
    async fn state(&self, sentinel: usize) -> Option<Vec<String>> {
        let mut question = redis::cmd("SENTINEL");
        self.ask(sentinel, question.arg("MASTER").arg(MASTER)).await
    }

    /// Asks a Sentinel something; `None` if it does not answer or refuses.
    pub async fn ask<T: redis::FromRedisValue>(&self, sentinel: usize, question: &redis::Cmd) -> Option<T> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.watching[sentinel].port)).expect("a good URL");
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        question.query_async(&mut connection).await.ok()
    }

    /// Waits until all Sentinels name this server as the master, and it takes writes.
    pub async fn until_master(&self, server: usize) {
        let port = self.servers[server].port().to_string();
        for sentinel in 0..self.watching.len() {
            eventually("the Sentinels agree on the master", || async {
                let mut question = redis::cmd("SENTINEL");
                question.arg("GET-MASTER-ADDR-BY-NAME").arg(MASTER);
                let named: Vec<String> = self.ask(sentinel, &question).await?;
                (named[1] == port).then_some(())
            })
            .await;
        }
        eventually("it is the master", || async {
            let role: Vec<redis::Value> = self.servers[server].try_run(&["ROLE"]).await?;
            (role[0] == redis::Value::BulkString(b"master".to_vec())).then_some(())
        })
        .await;
    }
}
