//! JSON as lines for people to compare: one value a line, numbers as they were written.

use crate::json::{self, Index, Kind, Place};

/// A JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Text(String),
    /// A number, `true`, `false` or `null`, as it was written.
    Bare(String),
}

impl Tree {
    /// Reads a document; `None` if it is none.
    pub(super) fn read(document: &[u8]) -> Option<Tree> {
        let index = Index::build(document).ok()?;
        Some(value(document, &index, &index.root()))
    }

    /// With the members of all objects in the order of their names: then equal documents have equal lines.
    pub(super) fn sorted(self) -> Tree {
        match self {
            Tree::Object(mut members) => {
                members.sort_by(|(left, _), (right, _)| left.cmp(right));
                Tree::Object(members.into_iter().map(|(name, value)| (name, value.sorted())).collect())
            }
            Tree::Array(items) => Tree::Array(items.into_iter().map(Tree::sorted).collect()),
            Tree::Text(_) | Tree::Bare(_) => self,
        }
    }

    /// Two spaces for each level.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.write("", "", 0, &mut lines);
        lines
    }

    fn write(&self, before: &str, after: &str, depth: usize, lines: &mut Vec<String>) {
        let indent = "  ".repeat(depth);
        let comma = |at: usize, count: usize| if at + 1 < count { "," } else { "" };
        match self {
            Tree::Object(members) if !members.is_empty() => {
                lines.push(format!("{indent}{before}{{"));
                for (at, (name, value)) in members.iter().enumerate() {
                    value.write(&format!("{}: ", quoted(name)), comma(at, members.len()), depth + 1, lines);
                }
                lines.push(format!("{indent}}}{after}"));
            }
            Tree::Array(items) if !items.is_empty() => {
                lines.push(format!("{indent}{before}["));
                for (at, item) in items.iter().enumerate() {
                    item.write("", comma(at, items.len()), depth + 1, lines);
                }
                lines.push(format!("{indent}]{after}"));
            }
            Tree::Object(_) => lines.push(format!("{indent}{before}{{}}{after}")),
            Tree::Array(_) => lines.push(format!("{indent}{before}[]{after}")),
            Tree::Text(text) => lines.push(format!("{indent}{before}{}{after}", quoted(text))),
            Tree::Bare(text) => lines.push(format!("{indent}{before}{text}{after}")),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn value(document: &[u8], index: &Index, place: &Place) -> Tree {
    let inside = || index.inside(place);
    match place.kind {
        Kind::Object => {
            let name = |member: &Place| json::text(&document[member.name.clone()]).into_owned();
            Tree::Object(inside().map(|member| (name(&member), value(document, index, &member))).collect())
        }
        Kind::Array => Tree::Array(inside().map(|element| value(document, index, &element)).collect()),
        Kind::Text => Tree::Text(json::text(&document[place.value.clone()]).into_owned()),
        Kind::Null | Kind::Boolean | Kind::Number => {
            Tree::Bare(String::from_utf8_lossy(&document[place.value.clone()]).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &str, expected: &str) {
        assert_eq!(Tree::read(document.as_bytes()).expect("JSON").lines().join("\n"), expected);
    }

    #[test]
    fn one_value_a_line_and_numbers_as_written() {
        check("{}", "{}");
        check("[ ]", "[]");
        check(" 1e400 ", "1e400");
        check(
            r#"{"b":1.0,"a":[12345678901234567890,-0.0,{"é\n":null}],"c":"x\"y","d":{}}"#,
            "{\n  \"b\": 1.0,\n  \"a\": [\n    12345678901234567890,\n    -0.0,\n    {\n      \"é\\n\": null\n    }\n  ],\n  \"c\": \"x\\\"y\",\n  \"d\": {}\n}",
        );
    }

    #[test]
    fn sorted_documents_with_the_same_values_are_the_same() {
        let sorted = |document: &str| Tree::read(document.as_bytes()).expect("JSON").sorted();
        assert_eq!(sorted(r#"{"b":[{"d":1,"c":2}],"a":true}"#), sorted(r#"{ "a" : true, "b": [{"c":2, "d":1}] }"#));
        assert_ne!(sorted(r#"{"a":1.0}"#), sorted(r#"{"a":1}"#));
        assert_ne!(sorted("[1,2]"), sorted("[2,1]"));
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in ["", "{", "hello", "{} {}"] {
            assert_eq!(Tree::read(text.as_bytes()), None, "{text}");
        }
    }
}
