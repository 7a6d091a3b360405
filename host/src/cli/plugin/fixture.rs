//! Fixtures: an event, and what a plugin is expected to make of it, as JSON files beside the plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::edits;
use super::tree::Tree;
use crate::cli::desk::{Desk, Question, Tried};
use crate::request::Draft;

/// When the chain begins if a fixture does not say, 2026-01-01T00:00:00Z: a test says the same every day.
const NOW: Duration = Duration::from_secs(1_767_225_600);

/// An event, and what is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fixture {
    /// What it shows.
    pub about: Option<String>,
    /// As a producer writes it.
    event: Box<RawValue>,
    settings: Option<Box<RawValue>>,
    /// How often the chain ran for this delivery before. From the first time on it is the delivery of the fixture before.
    #[serde(default)]
    pub run: u32,
    /// When the chain began; RFC 3339.
    now: Option<String>,
    expect: Expected,
}

/// What a plugin is expected to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Expected {
    verdict: Verdict,
    reason: Option<String>,
    delay_ms: Option<u64>,
    /// Exactly those that it changes; `null` if it removes one.
    headers: Option<BTreeMap<String, Option<String>>>,
    /// The body, if it changes it.
    body: Option<Box<RawValue>>,
    /// The same where it is no JSON.
    body_text: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Deliver,
    Drop,
    Postpone,
    DeadLetter,
    Failure,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Deliver => "deliver",
            Verdict::Drop => "drop",
            Verdict::Postpone => "postpone",
            Verdict::DeadLetter => "dead-letter",
            Verdict::Failure => "failure",
        }
    }
}

/// A file with fixtures that run in this order on one state.
pub(super) struct Series {
    /// Its name without its directory.
    pub name: String,
    pub fixtures: Vec<Fixture>,
}

/// The `*.json` files of a directory in the order of their names. At least one fixture is there.
pub(super) fn read_all(directory: &Path) -> anyhow::Result<Vec<Series>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("fixtures in {}", directory.display()))?;
    let files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    let mut files: Vec<PathBuf> =
        files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let all = files.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<Series>>>()?;
    ensure!(all.iter().any(|series| !series.fixtures.is_empty()), "there are no fixtures in {}", directory.display());
    Ok(all)
}

fn read(file: &Path) -> anyhow::Result<Series> {
    let place = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(place)?;
    let fixtures = if text.trim_start().starts_with('[') {
        serde_json::from_str(&text).with_context(place)?
    } else {
        vec![serde_json::from_str(&text).with_context(place)?]
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (at, fixture) in fixtures.iter().enumerate() {
        Fixture::check(fixture).with_context(|| format!("{}, fixture {at}", file.display()))?;
    }
    Ok(Series { name, fixtures })
}

impl Fixture {
    /// What cannot be, no plugin can do.
    fn check(&self) -> anyhow::Result<()> {
        let Expected { verdict, delay_ms, headers, body, body_text, .. } = &self.expect;
        let edits = headers.is_some() || body.is_some() || body_text.is_some();
        ensure!(!edits || *verdict == Verdict::Deliver, "edits take effect with the verdict deliver only");
        ensure!(delay_ms.is_none() || *verdict == Verdict::Postpone, "delayMs goes with the verdict postpone");
        ensure!(body.is_none() || body_text.is_none(), "it expects both body and bodyText");
        if self.settings.as_ref().is_some_and(|settings| !settings.get().starts_with('{')) {
            bail!("settings are an object");
        }
        self.now().map(drop)
    }

    fn now(&self) -> anyhow::Result<SystemTime> {
        let Some(text) = &self.now else { return Ok(SystemTime::UNIX_EPOCH + NOW) };
        humantime::parse_rfc3339_weak(text)
            .with_context(|| format!("now {text:?} is no time like 2026-01-08T10:30:00Z"))
    }

    /// What the plugin is asked, about this delivery.
    pub(super) fn question(&self, desk: &Desk, id: &str) -> anyhow::Result<Question> {
        let event = Bytes::copy_from_slice(self.event.get().as_bytes());
        let mut question = desk.question(event, id, self.now()?)?;
        question.call.run = self.run;
        if let Some(settings) = &self.settings {
            question.step = desk.step(settings.get());
        }
        Ok(question)
    }

    /// How what happened differs from what is expected; nothing if it does not.
    pub(super) fn judge(&self, before: &Draft, tried: &Tried) -> Vec<String> {
        edits::differences(&self.expect.lines(), &self.expect.lines_of(before, tried))
    }
}

impl Expected {
    /// What is expected, line by line.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("verdict {}", self.verdict.name())];
        lines.extend(self.reason.as_ref().map(|reason| format!("reason {reason:?}")));
        lines.extend(self.delay_ms.map(|delay| format!("delayMs {delay}")));
        if self.verdict != Verdict::Deliver {
            return lines;
        }
        let mut headers: Vec<String> =
            self.headers.iter().flatten().map(|(name, value)| header(&name.to_lowercase(), value.as_deref())).collect();
        headers.sort();
        lines.extend(headers);
        match (&self.body, &self.body_text) {
            (Some(body), _) => lines.extend(json(body.get().as_bytes())),
            (None, Some(text)) => lines.extend(text.split('\n').map(str::to_owned)),
            (None, None) => lines.push("body as it was".to_owned()),
        }
        lines
    }

    /// What happened, in the lines that what is expected would have.
    fn lines_of(&self, before: &Draft, tried: &Tried) -> Vec<String> {
        let mut lines = vec![format!("verdict {}", tried.verdict())];
        // A reason that nobody expects explains a verdict that nobody expects.
        let tells = self.reason.is_some() || tried.verdict() != self.verdict.name();
        lines.extend(
            Some(tried.reason()).filter(|reason| tells && !reason.is_empty()).map(|it| format!("reason {it:?}")),
        );
        lines.extend(tried.delay().filter(|_| self.delay_ms.is_some()).map(|it| format!("delayMs {}", it.as_millis())));
        let Some(after) = tried.after() else { return lines };
        let mut headers: Vec<String> =
            edits::headers(before, after).iter().map(|(name, value)| header(name, value.as_deref())).collect();
        headers.sort();
        lines.extend(headers);
        let is_changed = after.body() != before.body();
        match (&self.body, &self.body_text) {
            (Some(_), _) => lines.extend(json(after.body())),
            (None, Some(_)) => lines.extend(String::from_utf8_lossy(after.body()).split('\n').map(str::to_owned)),
            (None, None) if is_changed => lines.extend(edits::body_lines(after.body())),
            (None, None) => lines.push("body as it was".to_owned()),
        }
        lines
    }
}

fn header(name: &str, value: Option<&str>) -> String {
    value.map_or_else(|| format!("header {name} removed"), |value| format!("header {name}: {value}"))
}

/// Members in the order of their names: JSON values are the same in any.
fn json(body: &[u8]) -> Vec<String> {
    Tree::read(body).map_or_else(|| edits::body_lines(body), |tree| tree.sorted().lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(fixture: &str, why: &str) {
        let file = tempfile::tempdir().unwrap();
        std::fs::write(file.path().join("a.json"), fixture).unwrap();
        let Err(error) = read_all(file.path()) else { panic!("{fixture} is taken") };
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }

    #[test]
    fn what_is_no_fixture_is_refused_with_its_place() {
        wrong(r#"{"event":{},"expect":{"verdict":"deliver"},"setings":{}}"#, "unknown field `setings`");
        wrong(r#"[{"event":{},"expect":{"verdict":"skip"}}]"#, "unknown variant `skip`");
        wrong(r#"{"event":{},"expect":{"verdict":"drop","headers":{}}}"#, "a.json, fixture 0: edits take effect");
        wrong(r#"{"event":{},"expect":{"verdict":"drop","delayMs":5}}"#, "delayMs goes with");
        wrong(r#"{"event":{},"expect":{"verdict":"deliver","body":1,"bodyText":"1"}}"#, "both");
        wrong(r#"{"event":{},"settings":[],"expect":{"verdict":"deliver"}}"#, "settings are an object");
        wrong(r#"{"event":{},"now":"noon","expect":{"verdict":"deliver"}}"#, "is no time like");
        wrong("[]", "there are no fixtures");
        wrong("{", "a.json: EOF");
    }
}
