//! The programs that a figure is measured on: receiver, bare client, daemon.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::bare::Bare;
use crate::programs;
use crate::receiver::Figures;

/// No figure takes longer.
const DEADLINE: Duration = Duration::from_secs(120);
/// Of `/proc/<pid>/stat`: always 100 on Linux, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process so far, all its threads, user and system.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no such format")?;
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("no such format")?;
    Ok((user + system) / TICKS_PER_SECOND)
}

/// A receiver of its own process; ends with this one.
pub(crate) struct Receiver {
    child: Child,
    address: String,
    _stdin: ChildStdin,
}

impl Receiver {
    pub(crate) fn start() -> Result<Receiver> {
        let mut command = Command::new(programs()?.join("bench"));
        let mut child = command.arg("receiver").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut address)?;
        let stdin = child.stdin.take().context("piped")?;
        Ok(Receiver { child, address: address.trim().to_owned(), _stdin: stdin })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What arrived since the last time.
    pub(crate) async fn figures(&self) -> Result<Figures> {
        Ok(reqwest::get(self.url("/figures")).await?.json().await?)
    }

    /// How many arrived since the figures were taken.
    pub(crate) async fn count(&self) -> Result<u64> {
        Ok(reqwest::get(self.url("/count")).await?.text().await?.parse()?)
    }

    /// Waits until so many arrived, and then takes the figures.
    pub(crate) async fn take(&self, count: u64) -> Result<Figures> {
        self.wait_for(count).await?;
        self.figures().await
    }

    /// Waits until so many arrived; how many it were when it looked.
    pub(crate) async fn wait_for(&self, count: u64) -> Result<u64> {
        let began = Instant::now();
        loop {
            let so_far = self.count().await?;
            if so_far >= count {
                return Ok(so_far);
            }
            ensure!(began.elapsed() < DEADLINE, "{so_far} of {count} arrived within {DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the bare client.
pub(crate) fn bare(url: &str, count: u64) -> Result<Bare> {
    let output = Command::new(programs()?.join("bench")).args(["bare", url, &count.to_string()]).output()?;
    ensure!(output.status.success(), "the bare client failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A daemon of its own process; ends with this value.
pub(crate) struct Weft {
    child: Child,
    directory: TempDir,
    /// Its admin listener.
    admin: String,
    /// From its start until `/readyz` said yes.
    pub(crate) ready_after: Duration,
}

impl Weft {
    /// Starts one with `weft.toml` as given, and waits until it is ready.
    pub(crate) async fn start(config: &str) -> Result<Weft> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("weft.toml"), config)?;
        let log = directory.path().join("weft.log");
        let port = tests::redis_server::free_port();
        let admin = format!("http://127.0.0.1:{port}");
        let began = Instant::now();
        let child = Command::new(programs()?.join("weft"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let mut weft = Weft { child, directory, admin, ready_after: Duration::ZERO };
        let client = reqwest::Client::builder().no_proxy().build()?;
        while began.elapsed() < DEADLINE {
            if let Ok(answer) = client.get(format!("{}/readyz", weft.admin)).send().await
                && answer.status().is_success()
            {
                weft.ready_after = began.elapsed();
                return Ok(weft);
            }
            if weft.child.try_wait()?.is_some() {
                bail!("the daemon ended: {}", weft.log());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("the daemon is not ready: {}", weft.log())
    }

    /// Waits until this content is what a plugin's deliveries are given to.
    pub(crate) async fn uses(&self, plugin: &str, content: &[u8]) -> Result<()> {
        let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let began = Instant::now();
        loop {
            let plugins: serde_json::Value = reqwest::get(format!("{}/v1/plugins", self.admin)).await?.json().await?;
            let is_it = |found: &serde_json::Value| found["name"] == plugin && found["sha256"] == digest.as_str();
            if plugins.as_array().is_some_and(|plugins| plugins.iter().any(is_it)) {
                return Ok(());
            }
            ensure!(began.elapsed() < DEADLINE, "{plugin} is not {digest}: {plugins}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.child.id())
    }

    /// Memory that it has now.
    pub(crate) fn resident_kib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("weft.log")).unwrap_or_default()
    }
}

impl Drop for Weft {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `weft.toml` for a queue and a plugin directory; what else differs from the defaults is given.
pub(crate) fn config(queue_url: &str, plugins: Option<&Path>, more: &str) -> String {
    let dir = plugins.map_or_else(|| "plugins".to_owned(), |dir| dir.display().to_string());
    format!(
        "[queue]\nurl = {queue_url:?}\n[egress]\nallow = [\"127.0.0.0/8\"]\n[plugins]\ndir = {dir:?}\n[delivery]\nhmac_secret = \"test-secret\"\n{more}\n"
    )
}
