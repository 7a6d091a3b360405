//! The examples as their READMEs run them: subscribers that verify, producers, and Weft inside another program.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tests::process::program;
use tests::{Event, Receiver, RedisServer, TestHost, eventually, root, until};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A program that runs, and the lines it has printed.
pub(crate) struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        command.env("WEBHOOK_SECRET", "test-secret").kill_on_drop(true);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut printed = BufReader::new(child.stdout.take().expect("piped")).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn({
            let lines = Arc::clone(&lines);
            async move {
                while let Ok(Some(line)) = printed.next_line().await {
                    lines.lock().unwrap().push(line);
                }
            }
        });
        Running { child, lines }
    }

    /// The rest of the first line with this in front.
    pub(crate) async fn line(&self, start: &str) -> String {
        eventually(start, || async {
            self.lines.lock().unwrap().iter().find_map(|line| line.strip_prefix(start).map(str::to_owned))
        })
        .await
    }

    pub(crate) async fn end(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        self.child.wait().await.unwrap();
    }
}

/// What Weft sends is verified; what somebody else sends is refused.
async fn verifies(command: &mut Command) {
    let redis = RedisServer::start().await;
    let host = TestHost::start(&redis.url()).await;
    let subscriber = Running::start(command);
    let url = subscriber.line("listening on ").await;
    redis.publish(&Event::to(&url).id("notif-ünï").json()).await;
    assert_eq!(subscriber.line("verified ").await, "o2ims.Resource.Created notif-ünï sub-67890");
    redis.publish(&Event::to(&url).id("notif-ünï").json()).await;
    subscriber.line("duplicate ").await;
    let forged = reqwest::Client::new().post(&url).body("{}").header("x-o2ims-signature", "00").send().await.unwrap();
    assert_eq!(forged.status(), 401);
    subscriber.line("refused: ").await;
    let success = "o2ims_webhook_deliveries_total{status=\"success\",subscription_id=\"sub-67890\"}";
    until("both are delivered", || host.metric(success) == 2.0).await;
    subscriber.end().await;
    host.stop().await;
}

fn receivers() -> std::path::PathBuf {
    root().join("examples/receivers")
}

#[tokio::test]
async fn a_python_subscriber_verifies() {
    verifies(Command::new("python3").arg(receivers().join("python/receiver.py")).arg("127.0.0.1:0")).await;
}

#[tokio::test]
async fn a_node_subscriber_verifies() {
    verifies(Command::new("node").arg(receivers().join("node/receiver.mjs")).arg("127.0.0.1:0")).await;
}

#[tokio::test]
async fn a_go_subscriber_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("receiver");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&binary).arg(".").current_dir(receivers().join("go"));
    assert!(build.status().await.expect("go is installed").success());
    verifies(Command::new(&binary).arg("127.0.0.1:0")).await;
}

async fn publishes(program: &str, script: &str) {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let host = TestHost::start(&redis.url()).await;
    let script = root().join("examples/producers").join(script);
    let mut command = Command::new(program);
    command.arg(Path::new(&script)).args([redis.url(), receiver.url("/notify"), "sub-1".to_owned()]);
    let ran = command.output().await.expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let request = receiver.wait_for(1).await.remove(0);
    assert_eq!(request.header("x-o2ims-subscription-id"), "sub-1");
    assert_eq!(request.header("x-o2ims-event-type"), "o2ims.Resource.Created");
    host.stop().await;
}

#[tokio::test]
async fn python_publishes() {
    publishes("python3", "publish.py").await;
}

#[tokio::test]
async fn redis_cli_publishes() {
    publishes("sh", "publish.sh").await;
}

#[tokio::test]
async fn usage_in_rust_runs_the_workers_inside_another_program() {
    let (redis, receiver) = (RedisServer::start().await, Receiver::start().await);
    let embed = Running::start(Command::new(program("embed")).arg(redis.url()));
    embed.line("delivering; metrics on ").await;
    redis.publish(&Event::to(&receiver.url("/")).json()).await;
    let request = receiver.wait_for(1).await.remove(0);
    assert!(!request.header("x-o2ims-signature").is_empty());
    embed.end().await;
}
