//! Hands out the values of one table by key and kind, and collects what is wrong with them. A key that nobody asked for
//! is a mistake.

use std::cell::RefCell;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::Mistake;
use super::source::{Node, Source, Table, Value, parse_raw};
use crate::plugin::Variable;
use crate::secret::Secret;

/// Longer is meant by nobody, and deadlines can be reckoned with it.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Where mistakes are collected, and what relative paths of secrets are relative to.
pub(super) struct Report {
    pub(super) mistakes: RefCell<Vec<Mistake>>,
    pub(super) directory: PathBuf,
}

/// The values of one table.
pub(super) struct Reader<'a> {
    report: &'a Report,
    path: String,
    source: Source,
    table: Table,
    asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(report: &'a Report, path: String, source: Source, table: Table) -> Reader<'a> {
        Reader { report, path, source, table, asked: Vec::new() }
    }

    /// A table in this one; empty if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Reader<'a> {
        let path = self.path_of(key);
        match self.take(key) {
            Some(node) => self.reader_of(path, node),
            None => Reader::new(self.report, path, Source::Nowhere, Table::new()),
        }
    }

    /// A table in this one, if it is there.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Reader<'a>> {
        let path = self.path_of(key);
        self.take(key).map(|node| self.reader_of(path, node))
    }

    /// The tables in a table whose keys are the operator's names.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<(String, Reader<'a>)> {
        let section = self.section(key);
        let entries = section.table.into_iter();
        entries.map(|(name, node)| (name.clone(), self.reader_of(format!("{}.{name:?}", section.path), node))).collect()
    }

    /// The items of a list, each with its path.
    pub(super) fn list(&mut self, key: &'static str) -> Option<Vec<(String, Node)>> {
        let node = self.take(key)?;
        let path = self.path_of(key);
        let value = match node.value {
            Value::Raw(text) if text.trim_start().starts_with('[') => {
                parse_raw(&text, &node.source).unwrap_or(Value::Raw(text))
            }
            Value::Raw(text) => Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Node { source: node.source.clone(), value: Value::Raw(item.to_owned()) })
                    .collect(),
            ),
            other => other,
        };
        match value {
            Value::List(items) => {
                Some(items.into_iter().enumerate().map(|(at, item)| (format!("{path}[{at}]"), item)).collect())
            }
            other => {
                self.mistake(&node.source, &path, format!("a list is expected, this is {}", other.kind()));
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str, into: &mut String) {
        if let Some((text, source)) = self.string(key) {
            if text.is_empty() {
                self.mistake(&source, &self.path_of(key), "must not be empty".to_owned());
            }
            *into = text;
        }
    }

    /// A value that is written as a text, with a hint at how.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str, hint: &str) -> Option<T> {
        let (text, source) = self.string(key)?;
        text.parse()
            .map_err(|error| self.mistake(&source, &self.path_of(key), format!("{text:?}: {error}; {hint}")))
            .ok()
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let (text, source) = self.string(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.mistake(&source, &self.path_of(key), format!("{text:?} is not one of {}", known.join(", ")));
        }
        found
    }

    /// A list of such words.
    pub(super) fn words<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<Vec<T>> {
        let items = self.list(key)?;
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let found = items.into_iter().filter_map(|(path, item)| {
            let text = match &item.value {
                Value::Text(text) | Value::Raw(text) => text.as_str(),
                other => other.kind(),
            };
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            if found.is_none() {
                self.mistake(&item.source, &path, format!("{text:?} is not one of {}", known.join(", ")));
            }
            found
        });
        Some(found.collect())
    }

    /// Names of environment variables, with the values that they have.
    pub(super) fn variables(&mut self, key: &'static str) -> Vec<Variable> {
        let items = self.list(key).unwrap_or_default();
        let found = items.into_iter().filter_map(|(path, item)| {
            let (Value::Text(name) | Value::Raw(name)) = item.value else {
                self.mistake(&item.source, &path, "the name of an environment variable is expected".to_owned());
                return None;
            };
            let value = std::env::var(&name);
            if value.is_err() {
                self.mistake(&item.source, &path, format!("the environment variable {name} is not set"));
            }
            Some(Variable { value: value.ok()?, name })
        });
        found.collect()
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let (text, source) = self.string_like(key, "durations are texts such as \"10s\", \"500ms\" or \"5m\"")?;
        match humantime::parse_duration(&text) {
            Ok(duration) if duration > DURATION_MAX => {
                self.mistake(&source, &self.path_of(key), "must be at most 100 years".to_owned());
                None
            }
            Ok(duration) if !duration.is_zero() => Some(duration),
            Ok(_) => {
                self.mistake(&source, &self.path_of(key), "must be longer than nothing".to_owned());
                None
            }
            Err(error) => {
                let what = format!("{text:?}: {error}; durations look like \"10s\", \"500ms\" or \"5m\"");
                self.mistake(&source, &self.path_of(key), what);
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn count<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Option<T> {
        let node = self.take(key)?;
        let number = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Raw(text) => text.trim().parse().ok(),
            Value::Text(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::List(_)
            | Value::Table(_) => None,
        };
        let counted = number.filter(|number| bounds.contains(number)).and_then(|number| T::try_from(number).ok());
        if counted.is_none() {
            let what = format!("a whole number from {} to {} is expected", bounds.start(), bounds.end());
            self.mistake(&node.source, &self.path_of(key), what);
        }
        counted
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let node = self.take(key)?;
        let flag = match &node.value {
            Value::Boolean(flag) => Some(*flag),
            Value::Raw(text) => text.trim().parse().ok(),
            Value::Integer(_)
            | Value::Text(_)
            | Value::Float(_)
            | Value::Datetime(_)
            | Value::List(_)
            | Value::Table(_) => None,
        };
        if flag.is_none() {
            self.mistake(&node.source, &self.path_of(key), "true or false is expected".to_owned());
        }
        flag
    }

    /// A number of bytes, such as `"64MiB"` or a plain number, up to a limit.
    pub(super) fn size(&mut self, key: &'static str, max: u64) -> Option<u64> {
        let node = self.take(key)?;
        let bytes = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Raw(text) | Value::Text(text) => parse_size(text),
            Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::List(_) | Value::Table(_) => None,
        };
        let bytes = bytes.filter(|bytes| (1..=max).contains(bytes));
        if bytes.is_none() {
            let what = format!("sizes look like \"64KiB\" or \"1MiB\", up to {max} bytes");
            self.mistake(&node.source, &self.path_of(key), what);
        }
        bytes
    }

    /// A secret: a text, `{ env = "NAME" }` or `{ file = "path" }`.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.secret_text(key).map(|text| Secret::new(text.as_bytes()))
    }

    pub(super) fn secret_text(&mut self, key: &'static str) -> Option<String> {
        let node = self.take(key)?;
        let path = self.path_of(key);
        let found = match &node.value {
            Value::Raw(text) if text.trim_start().starts_with('{') => match parse_raw(text, &node.source) {
                Some(Value::Table(table)) => self.secret_from(&table),
                _ => Ok(text.clone()),
            },
            Value::Raw(text) | Value::Text(text) => Ok(text.clone()),
            Value::Table(table) => self.secret_from(table),
            other => Err(format!(
                "a text, {{ env = \"NAME\" }} or {{ file = \"path\" }} is expected, this is {}",
                other.kind()
            )),
        };
        match found {
            Ok(text) if !text.is_empty() => Some(text),
            Ok(_) => {
                self.mistake(&node.source, &path, "the secret is empty".to_owned());
                None
            }
            Err(what) => {
                self.mistake(&node.source, &path, what);
                None
            }
        }
    }

    fn secret_from(&self, table: &Table) -> Result<String, String> {
        let only = || (table.len() == 1).then(|| table.iter().next()).flatten();
        match only().map(|(key, node)| (key.as_str(), &node.value)) {
            Some(("env", Value::Text(name))) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
            }
            Some(("file", Value::Text(file))) => {
                let file = self.report.directory.join(Path::new(file));
                let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                Ok(text.trim_end_matches(['\n', '\r']).to_owned())
            }
            _ => Err("a secret is a text, { env = \"NAME\" } or { file = \"path\" }".to_owned()),
        }
    }

    /// Any value, as JSON text.
    pub(super) fn json(&mut self, key: &'static str) -> Option<(String, Source, bool)> {
        let node = self.take(key)?;
        Some((node.value.to_json().to_string(), node.source, matches!(node.value, Value::Table(_))))
    }

    /// Notes a mistake at one of this table's keys.
    pub(super) fn mistake_at(&self, source: &Source, key: &str, what: String) {
        self.mistake(source, &self.path_of(key), what);
    }

    /// A reader of a value that must be a table.
    pub(super) fn reader_of(&self, path: String, node: Node) -> Reader<'a> {
        let value = match node.value {
            Value::Raw(text) => parse_raw(&text, &node.source).unwrap_or(Value::Raw(text)),
            other => other,
        };
        match value {
            Value::Table(table) => Reader::new(self.report, path, node.source, table),
            other => {
                self.mistake(&node.source, &path, format!("a table is expected, this is {}", other.kind()));
                Reader::new(self.report, path, node.source, Table::new())
            }
        }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, node) in &self.table {
            let nearest = self.asked.iter().min_by_key(|known| distance(known, key));
            let hint = match nearest.filter(|known| distance(known, key) <= 3) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known here are {}", self.asked.join(", ")),
            };
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            self.mistake(&node.source, &path, format!("unknown key; {hint}"));
        }
    }

    /// Notes that a key must be there.
    pub(super) fn missing(&self, key: &str, what: &str) {
        self.mistake(&self.source, &self.path_of(key), format!("is missing: {what}"));
    }

    fn string(&mut self, key: &'static str) -> Option<(String, Source)> {
        self.string_like(key, "a text is expected")
    }

    fn string_like(&mut self, key: &'static str, expected: &str) -> Option<(String, Source)> {
        let node = self.take(key)?;
        match node.value {
            Value::Raw(text) | Value::Text(text) => Some((text, node.source)),
            other => {
                self.mistake(&node.source, &self.path_of(key), format!("{expected}, this is {}", other.kind()));
                None
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        self.asked.push(key);
        self.table.remove(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn mistake(&self, source: &Source, path: &str, what: String) {
        let mistake = Mistake { source: source.to_string(), path: path.to_owned(), what };
        self.report.mistakes.borrow_mut().push(mistake);
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic() || char == ' ');
    let factor: u64 = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Levenshtein distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
