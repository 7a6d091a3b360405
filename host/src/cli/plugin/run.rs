//! `weft plugin run`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::error::ErrorKind;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};

use super::{edits, source};
use crate::cli::desk::{Desk, Keep, Line, Question, Terms, Tried};
use crate::plugin::Decision;
use crate::request::Draft;

/// How often `--watch` looks at the files.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Run {
    /// A compiled plugin, wherever it is.
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The event, as a producer writes it; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// The subscription's settings for the plugin, a JSON object; `-` is standard input [default: {}].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// How often the chain ran for this delivery before.
    #[arg(long = "run", value_name = "NUMBER", default_value_t = 0)]
    run_before: u32,
    /// When the chain began; RFC 3339 [default: now].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak)]
    now: Option<SystemTime>,
    /// Run again whenever one of the files changes, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    terms: Terms,
}

/// Of the files that `--watch` looks at; `None` where one is not there.
type Stamps = Vec<Option<(SystemTime, u64)>>;

/// What is asked, read when the command begins if it comes from standard input.
struct Asked {
    event: String,
    settings: String,
}

/// What came of it, for machines.
#[derive(Serialize)]
struct Shown<'a> {
    plugin: &'a str,
    sha256: &'a str,
    /// A verdict, or `failure`.
    verdict: &'static str,
    /// How the call ended, as metrics name it; `not-asked` if the plugin accepts no events of this type.
    result: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u128>,
    /// Those that the plugin changed; `null` if it removed one.
    headers: BTreeMap<String, Option<String>>,
    /// The new body, if the plugin changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    log: &'a [Line],
    /// Limits that it reached and went on.
    limits: Vec<&'static str>,
    running_us: u128,
    wall_us: u128,
    memory_bytes: u64,
}

impl Run {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let from_stdin = [Some(&self.event), self.settings.as_ref()].into_iter().flatten();
        if from_stdin.filter(|file| is_stdin(file)).count() > 1 {
            let message = "--event and --settings cannot both be standard input\n";
            bail!(clap::Error::raw(ErrorKind::ArgumentConflict, message));
        }
        if !self.watch {
            return self.once(&self.read()?).await;
        }
        let asked = self.read()?;
        // Heard from here on, whatever is going on when it comes.
        let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be heard")?;
        tokio::select! {
            never = self.again_and_again(asked) => match never {},
            _ = interrupt.recv() => Ok(()),
        }
    }

    async fn again_and_again(&self, mut asked: Asked) -> Infallible {
        loop {
            let before = self.stamps();
            if let Err(error) = self.once(&asked).await {
                eprintln!("weft: {error:#}");
            }
            eprintln!("-- waiting for a change; Ctrl-C ends");
            self.change(before).await;
            if !self.reads_stdin() {
                asked = self.read().unwrap_or(asked);
            }
        }
    }

    fn reads_stdin(&self) -> bool {
        is_stdin(&self.event) || self.settings.as_deref().is_some_and(is_stdin)
    }

    fn read(&self) -> anyhow::Result<Asked> {
        let event = source::read("--event", &self.event)?;
        Ok(Asked { event, settings: source::settings(self.settings.as_deref())? })
    }

    fn stamps(&self) -> Stamps {
        let files = [Some(&self.file), Some(&self.event), self.settings.as_ref()];
        files.into_iter().flatten().map(|file| stamp(file)).collect()
    }

    /// Waits until a file is another one and has stayed that for a look.
    async fn change(&self, before: Stamps) {
        let mut last = self.stamps();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.stamps();
            if now != before && now == last && now.iter().all(Option::is_some) {
                return;
            }
            last = now;
        }
    }

    async fn once(&self, asked: &Asked) -> anyhow::Result<()> {
        let desk = Desk::load(&self.file, &self.terms, Keep::Code).await?;
        let question = self.question(&desk, asked)?;
        let before = question.draft.clone();
        let tried = desk.watch(question).await;
        let memory = desk.memory_max();
        if self.json {
            println!("{}", serde_json::to_string(&Shown::of(&desk, &before, &tried))?);
        } else {
            print(&before, &tried, memory);
        }
        if let Decision::Failed { error, .. } = &tried.decision {
            bail!("the plugin failed: {error}");
        }
        Ok(())
    }

    fn question(&self, desk: &Desk, asked: &Asked) -> anyhow::Result<Question> {
        let event = Bytes::copy_from_slice(asked.event.trim().as_bytes());
        let question = desk.question(event, "1-0", self.now.unwrap_or_else(SystemTime::now));
        let mut question = question.with_context(|| format!("--event {}", self.event.display()))?;
        question.call.run = self.run_before;
        question.step = desk.step(&asked.settings);
        Ok(question)
    }
}

impl Shown<'_> {
    fn of<'a>(desk: &'a Desk, before: &Draft, tried: &'a Tried) -> Shown<'a> {
        let after = tried.after();
        let headers = after.map(|after| edits::headers(before, after)).unwrap_or_default();
        let body = after.map(Draft::body).filter(|body| *body != before.body());
        let json = body.and_then(|body| serde_json::from_slice(body).ok());
        Shown {
            plugin: &desk.status().name,
            sha256: &desk.status().digest,
            verdict: tried.verdict(),
            result: tried.ending.map_or("not-asked", |ending| ending.name()),
            reason: tried.reason().to_owned(),
            delay_ms: tried.delay().map(|delay| delay.as_millis()),
            headers,
            body_base64: body.filter(|_| json.is_none()).map(|body| STANDARD.encode(body)),
            body: json,
            log: &tried.log,
            limits: tried.reached.iter().map(|limit| limit.name()).collect(),
            running_us: tried.running.as_micros(),
            wall_us: tried.wall.as_micros(),
            memory_bytes: desk.memory_max(),
        }
    }
}

fn print(before: &Draft, tried: &Tried, memory: u64) {
    let reason = Some(tried.reason()).filter(|reason| !reason.is_empty());
    let delay = tried.delay().map(|delay| format!("in {}", humantime::format_duration(delay)));
    let words: Vec<&str> = [Some(tried.verdict()), delay.as_deref()].into_iter().flatten().collect();
    println!("verdict  {}{}", words.join(" "), reason.map(|reason| format!(": {reason}")).unwrap_or_default());
    if tried.ending.is_none() {
        println!("         it was not asked: it accepts no events of this type");
    }
    if let Some(after) = tried.after() {
        block("headers", &edits::header_lines(before, after));
        block("body", &body_lines(before.body(), after.body()));
    }
    block("log", &tried.log.iter().map(|line| format!("{:<5} {}", line.level, line.text)).collect::<Vec<_>>());
    block("limits", &tried.reached.iter().map(|limit| format!("reached: {}", limit.name())).collect::<Vec<_>>());
    println!("time     {:.1?} running, {:.1?} in all; a first call is slower than the next", tried.running, tried.wall);
    println!("memory   {} KiB", memory / 1024);
}

fn body_lines(before: &Bytes, after: &Bytes) -> Vec<String> {
    let lines = edits::differences(&edits::body_lines(before), &edits::body_lines(after));
    if lines.is_empty() && before != after {
        return vec!["the same values, written differently".to_owned()];
    }
    lines
}

fn block(name: &str, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        println!("{:<8} {line}", if at == 0 { name } else { "" });
    }
}

fn is_stdin(file: impl AsRef<Path>) -> bool {
    file.as_ref() == Path::new("-")
}

/// What changes when a file does; standard input never does.
fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    if is_stdin(file) {
        return Some((SystemTime::UNIX_EPOCH, 0));
    }
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
