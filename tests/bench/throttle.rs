//! Little CPU for some servers: each is stopped, by signals, whenever it has had its share of a core. So servers are what
//! bounds a figure on a machine that has few cores for all the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tests::RedisServer;

/// Of a core, for each server.
const SHARE: f64 = 0.04;
/// A server runs for so long at a time: some requests, and long beside what waking up takes.
const TURN: Duration = Duration::from_micros(1000);
/// What it did not use it may have later, as long as that is no more than this, in seconds.
const SAVED_MAX: f64 = 0.004;

/// As long as it lives, these servers have no more than their share; then they run freely again.
pub(crate) struct Throttle<'a> {
    /// They are there as long as they are sent signals.
    servers: &'a [RedisServer],
    is_over: Arc<AtomicBool>,
    turns: Option<JoinHandle<()>>,
    began: Instant,
    before: Vec<Duration>,
}

impl<'a> Throttle<'a> {
    pub(crate) fn on(servers: &'a [RedisServer]) -> Result<Throttle<'a>> {
        let before = servers.iter().map(|server| ran(server.pid())).collect::<Result<_>>()?;
        let server = |server: &RedisServer| {
            let pid = Pid::from_raw(i32::try_from(server.pid())?).context("a process id")?;
            Ok(Throttled { pid, left: 0.0, ran: ran(server.pid())?, since: Instant::now() })
        };
        let throttled = servers.iter().map(server).collect::<Result<Vec<Throttled>>>()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let turns = Some(std::thread::spawn(move || take_turns(throttled, &until)));
        Ok(Throttle { servers, is_over, turns, began: Instant::now(), before })
    }

    /// CPU that each server has had so far, and how much of its share that is.
    pub(crate) fn used(&self) -> Result<Vec<(Duration, f64)>> {
        let share = self.began.elapsed().mul_f64(SHARE).as_secs_f64();
        let used = |(server, before): (&RedisServer, &Duration)| {
            let used = ran(server.pid())?.saturating_sub(*before);
            Ok((used, used.as_secs_f64() / share))
        };
        self.servers.iter().zip(&self.before).map(used).collect()
    }
}

impl Drop for Throttle<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(turns) = self.turns.take() {
            let _ = turns.join();
        }
    }
}

struct Throttled {
    pid: Pid,
    /// Seconds that it may use now; a turn may have been longer than what was left, and then the next one comes later.
    left: f64,
    /// What it had used when that was found.
    ran: Duration,
    since: Instant,
}

impl Throttled {
    /// One that is gone needs no signal.
    fn send(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// Adds its share of the time that passed, and takes off what it used. The kernel knows that only of one that does not run.
    fn account(&mut self) {
        let now = Instant::now();
        let ran = ran(self.pid.as_raw_nonzero().get().unsigned_abs()).unwrap_or(self.ran);
        let given = self.left + (now - self.since).as_secs_f64() * SHARE;
        self.left = given.min(SAVED_MAX) - ran.saturating_sub(self.ran).as_secs_f64();
        (self.ran, self.since) = (ran, now);
    }
}

fn take_turns(mut servers: Vec<Throttled>, is_over: &AtomicBool) {
    servers.iter().for_each(|server| server.send(Signal::STOP));
    while !is_over.load(Ordering::Relaxed) {
        for server in &mut servers {
            server.account();
            if server.left >= TURN.as_secs_f64() {
                server.send(Signal::CONT);
                std::thread::sleep(TURN);
                server.send(Signal::STOP);
            }
        }
        std::thread::sleep(TURN);
    }
    servers.iter().for_each(|server| server.send(Signal::CONT));
}

/// CPU time of a server's only busy thread so far. Finer than what `cpu_seconds` tells.
fn ran(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanos = text.split_whitespace().next().context("no such format")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
