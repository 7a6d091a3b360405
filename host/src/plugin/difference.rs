//! How two drafts differ: places, never values, because these go into lists and metrics.

use std::fmt;

use serde_json::Value;

use crate::request::{Draft, Headers};

/// Places that are told; two whole bodies could differ in thousands.
const CHANGES_MAX: usize = 64;
/// Of a pointer; names can be as long as a body.
const POINTER_BYTES_MAX: usize = 256;

/// A place that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Where.
    pub place: Place,
    /// How.
    pub how: How,
}

/// Where drafts can differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A header.
    Header(String),
    /// A place in a JSON body, as a pointer.
    Json(String),
    /// The body, where it is no JSON or only its writing differs.
    Body,
}

/// How a place can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, with different values.
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.how {
            How::Added => '+',
            How::Removed => '-',
            How::Changed => '~',
        };
        match &self.place {
            Place::Header(name) => write!(f, "{sign} header {name}"),
            Place::Json(pointer) => write!(f, "{sign} body {pointer:?}"),
            Place::Body => write!(f, "{sign} body"),
        }
    }
}

/// What has to be done to `before` to make it `after`, up to a limit.
#[must_use]
pub fn changes(before: &Draft, after: &Draft) -> Vec<Change> {
    let mut changes = Vec::new();
    headers(before.headers(), after.headers(), &mut changes);
    bodies(before.body(), after.body(), &mut changes);
    changes.truncate(CHANGES_MAX);
    changes
}

fn headers(before: &Headers, after: &Headers, changes: &mut Vec<Change>) {
    let mut note = |name: &http::HeaderName, how| {
        changes.push(Change { place: Place::Header(name.to_string()), how });
    };
    for (name, value) in before.iter() {
        match after.get(name.as_str()) {
            None => note(name, How::Removed),
            Some(other) if other != value => note(name, How::Changed),
            Some(_) => {}
        }
    }
    let added = after.iter().filter(|(name, _)| before.get(name.as_str()).is_none());
    added.for_each(|(name, _)| note(name, How::Added));
}

fn bodies(before: &[u8], after: &[u8], changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let told = changes.len();
    if let (Ok(before), Ok(after)) = (serde_json::from_slice(before), serde_json::from_slice(after)) {
        Comparison { changes, at: Vec::new() }.values(&before, &after);
    }
    if changes.len() == told {
        changes.push(Change { place: Place::Body, how: How::Changed });
    }
}

/// Two JSON values that are gone through side by side.
struct Comparison<'v, 'c> {
    changes: &'c mut Vec<Change>,
    /// The way to where it is.
    at: Vec<Step<'v>>,
}

enum Step<'v> {
    Name(&'v str),
    Position(usize),
}

impl<'v> Comparison<'v, '_> {
    /// As deep as `serde_json` reads, which has a limit.
    fn values(&mut self, before: &'v Value, after: &'v Value) {
        match (before, after) {
            _ if self.changes.len() >= CHANGES_MAX => {}
            (Value::Object(old), Value::Object(new)) => {
                for (name, value) in old {
                    self.step(Step::Name(name), |at| match new.get(name) {
                        Some(other) => at.values(value, other),
                        None => at.note(How::Removed),
                    });
                }
                for name in new.keys().filter(|name| !old.contains_key(*name)) {
                    self.step(Step::Name(name), |at| at.note(How::Added));
                }
            }
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                for (position, (value, other)) in old.iter().zip(new).enumerate() {
                    self.step(Step::Position(position), |at| at.values(value, other));
                }
            }
            (before, after) if before != after => self.note(How::Changed),
            _ => {}
        }
    }

    fn step(&mut self, step: Step<'v>, look: impl FnOnce(&mut Self)) {
        self.at.push(step);
        look(self);
        self.at.pop();
    }

    fn note(&mut self, how: How) {
        if self.changes.len() < CHANGES_MAX {
            self.changes.push(Change { place: Place::Json(self.pointer()), how });
        }
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.at {
            match step {
                Step::Name(name) => {
                    let name = &name[..name.floor_char_boundary(POINTER_BYTES_MAX)];
                    pointer.extend(["/", &name.replace('~', "~0").replace('/', "~1")]);
                }
                Step::Position(position) => pointer.push_str(&format!("/{position}")),
            }
        }
        if pointer.len() > POINTER_BYTES_MAX {
            pointer.truncate(pointer.floor_char_boundary(POINTER_BYTES_MAX));
            pointer.push('…');
        }
        pointer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &str, after: &str, expected: &[&str]) {
        let mut found = Vec::new();
        bodies(before.as_bytes(), after.as_bytes(), &mut found);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{before} {after}");
    }

    #[test]
    fn bodies_differ_in_places() {
        check(r#"{"a":1}"#, r#"{"a":1}"#, &[]);
        check(
            r#"{"a":1,"b":[1,2],"c":{"d":1}}"#,
            r#"{"b":[1,3],"c":{"d":1,"e/f":2}}"#,
            &[r#"- body "/a""#, r#"~ body "/b/1""#, r#"+ body "/c/e~1f""#],
        );
        check(r#"{"b":[1,2]}"#, r#"{"b":[1]}"#, &[r#"~ body "/b""#]);
        check(r#"{"a":1}"#, "[]", &[r#"~ body """#]);
        check(r#"{"a":1}"#, r#"{ "a": 1 }"#, &["~ body"]);
        check("hello", "world", &["~ body"]);
    }

    #[test]
    fn long_names_and_many_places_are_cut_short() {
        let name = "é".repeat(100_000);
        let numbers =
            |first: usize| (first..first + 50_000).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let body = |first| format!(r#"{{"{name}":[{}]}}"#, numbers(first));
        let mut found = Vec::new();
        bodies(body(0).as_bytes(), body(1).as_bytes(), &mut found);
        assert_eq!(found.len(), CHANGES_MAX);
        let Place::Json(pointer) = &found[0].place else { panic!("{:?}", found[0]) };
        assert!(pointer.starts_with("/éé") && pointer.ends_with("é…") && pointer.len() < 300, "{}", pointer.len());
    }
}
